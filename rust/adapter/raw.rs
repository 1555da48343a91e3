// SPDX-License-Identifier: GPL-2.0

//! Ports that show the rings of a NIC (`netmap:eth0`).
//!
//! Slots and descriptors go in step. A receive ring's slots from `hwtail` on have their buffers
//! posted, in order, up to `posted`; so what the NIC fills next is the buffer of the next slot. A
//! transmit ring's slots from `done` to `hwcur` are with the NIC. When the driver restarts the NIC
//! the buffers come back and are posted anew; frames that were to be sent are lost, as on any
//! NIC. The number of descriptors may differ from the number of slots; if the number of queues
//! differs from that of rings, the port stops until it is what it was.
//!
//! Each ring has its own reference of the NIC, so that rings have nothing in common that a sync
//! writes.

#![deny(unsafe_code)]

mod rx;
mod tx;

use super::host::{self, HostLane};
use super::kring::{Kring, KringState};
use super::nic::{Nic, Upper};
use super::{Backend, Port, Shape, Wish};
use crate::drivers::hw::Driver as Chip;
use crate::nmcore::Errno;
use crate::sys::bh::BhGuard;
use crate::sys::netdev::{Event, NetDev, Rtnl};
use crate::sys::netns::Net;
use crate::sys::nicops::Driver;
use crate::sys::skb::Skb;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::{new_mutex, Arc, Mutex, SetOnce};
use rx::RxLane;
use tx::TxLane;

/// The backend for a NIC.
///
/// # Errors
///
/// `ENXIO`: no such device. `EOPNOTSUPP`: its driver is not patched, or the chip cannot.
pub(crate) fn create(name: &CStr, net: &Net, want: &Wish, rtnl: &Rtnl) -> Result<Arc<dyn Backend>> {
    let dev = NetDev::by_name(net, name, rtnl).ok_or(ENXIO)?;
    let chip = Chip::by_name(dev.driver_name(rtnl)).ok_or(Errno::EOPNOTSUPP)?;
    let driver = Driver::of(&dev, rtnl)?;
    let shape = Shape {
        tx_rings: u16::try_from(driver.num_tx)?,
        rx_rings: u16::try_from(driver.num_rx)?,
        host_tx: want.host_tx.max(1),
        host_rx: want.host_rx.max(1),
        tx_slots: driver.tx_slots,
        rx_slots: driver.rx_slots,
        offset_mask: 0,
        slot_ptr: 0,
        private_mem: false,
        spare_bufs: 0,
        min_buf: chip.rx_buf_sizes().iter().copied().min().unwrap_or(0),
    };
    let raw = Raw {
        name: dev.name(),
        shape,
        wire: SetOnce::new(),
    };
    Ok(Arc::new(raw, GFP_KERNEL)?)
}

/// The backend.
struct Raw {
    /// The device's name, NUL-padded.
    name: [u8; 16],
    shape: Shape,
    wire: SetOnce<Arc<Wire>>,
}

/// A reference of the NIC; None before it is attached and when it has gone.
type Link = Pin<KBox<Mutex<Option<Arc<Nic>>>>>;

fn link() -> Result<Link> {
    KBox::pin_init(new_mutex!(None, "netmap_link"), GFP_KERNEL)
}

/// The rings of an open port, between application and NIC.
struct Wire {
    rx: KVec<RxLane>,
    tx: KVec<TxLane>,
    host: KVec<Pin<KBox<HostLane>>>,
    /// For the host rings, and for show.
    nic: Link,
    /// The NIC has as many queues as there are rings.
    fits: AtomicBool,
}

impl Raw {
    fn wire(&self) -> Result<&Wire> {
        Ok(self.wire.as_ref().ok_or(ENXIO)?)
    }
}

impl Backend for Raw {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn named(&self) -> bool {
        self.wire().is_ok_and(|wire| {
            let nic = wire.nic.lock();
            nic.as_ref()
                .is_some_and(|nic| nic.dev().name() == self.name)
        })
    }

    fn open(&self, port: &Arc<Port>, rtnl: &Rtnl) -> Result {
        let name = CStr::from_bytes_until_nul(&self.name).map_err(|_| EINVAL)?;
        let dev = NetDev::by_name(&port.net, name, rtnl).ok_or(ENXIO)?;
        let mut rx = KVec::with_capacity(port.rx.len(), GFP_KERNEL)?;
        for ring in port.rx.iter() {
            rx.push(RxLane::new(ring.clone())?, GFP_KERNEL)?;
        }
        let mut tx = KVec::with_capacity(port.tx.len(), GFP_KERNEL)?;
        for ring in port.tx.iter() {
            tx.push(TxLane::new(ring.clone())?, GFP_KERNEL)?;
        }
        let mut host = KVec::with_capacity(port.host_rx.len(), GFP_KERNEL)?;
        for ring in port.host_rx.iter() {
            host.push(HostLane::new(ring.clone())?, GFP_KERNEL)?;
        }
        let wire = Arc::new(
            Wire {
                rx,
                tx,
                host,
                nic: link()?,
                fits: AtomicBool::new(true),
            },
            GFP_KERNEL,
        )?;
        let nic = Nic::attach(dev, port.pool.clone(), wire.clone(), rtnl)?;
        for link in wire.links() {
            *link.lock() = Some(nic.clone());
        }
        self.wire.populate(wire);
        Ok(())
    }

    fn close(&self, _port: &Port, rtnl: &Rtnl) {
        let Some(nic) = self.wire().ok().and_then(Wire::unlink) else {
            return;
        };
        nic.detach(rtnl);
    }

    fn txsync(&self, _port: &Port, ring: &Kring, st: &mut KringState, head: u32) -> Result {
        let wire = self.wire()?;
        if ring.host {
            let nic = wire.nic.lock();
            return host::txsync(ring, st, head, nic.as_ref().ok_or(ENXIO)?.dev());
        }
        let lane = wire.tx.get(usize::from(ring.id)).ok_or(ENXIO)?;
        let nic = lane.nic.lock();
        let nic = nic.as_ref().ok_or(ENXIO)?;
        let queue = nic.tx(ring.id.into()).ok_or(ENXIO)?;
        // What a NIC without a link has been given it keeps, for ever perhaps.
        let upto = if nic.dev().carrier() {
            head
        } else {
            st.cursor.hwcur()
        };
        let _bh = BhGuard::new();
        let mut queue = queue.lock();
        lane.sync(nic, st, &mut queue, upto)
    }

    fn rxsync(&self, _port: &Port, ring: &Kring, st: &mut KringState, head: u32) -> Result {
        let wire = self.wire()?;
        if ring.host {
            let lane = wire.host_lane(ring).ok_or(ENXIO)?;
            return lane.rxsync(st, head);
        }
        let lane = wire.rx.get(usize::from(ring.id)).ok_or(ENXIO)?;
        let nic = lane.nic.lock();
        let nic = nic.as_ref().ok_or(ENXIO)?;
        let queue = nic.rx(ring.id.into()).ok_or(ENXIO)?;
        let _bh = BhGuard::new();
        let mut queue = queue.lock();
        let result = lane.take_back(st, &mut queue, head);
        lane.sync(st, &mut queue);
        result
    }

    fn arm(&self, _port: &Port, ring: &Kring) -> bool {
        let Ok(wire) = self.wire() else {
            return false;
        };
        if ring.host {
            return wire.host_lane(ring).is_some_and(|lane| lane.pending());
        }
        wire.arm(ring).unwrap_or(false)
    }

    fn show(&self, _port: &Port, to: &mut dyn fmt::Write) -> fmt::Result {
        let nic = self.wire().ok().and_then(|wire| wire.nic.lock().clone());
        match nic {
            Some(nic) => {
                let dev = nic.dev();
                let state = match (dev.running(), dev.carrier()) {
                    (true, true) => "up",
                    (true, false) => "no carrier",
                    (false, _) => "down",
                };
                writeln!(to, "  nic {state} mtu {}", nic.mtu())
            }
            None => writeln!(to, "  nic gone"),
        }
    }
}

impl Wire {
    fn links(&self) -> impl Iterator<Item = &Link> {
        let rx = self.rx.iter().map(|lane| &lane.nic);
        let tx = self.tx.iter().map(|lane| &lane.nic);
        let rings = Iterator::chain(rx, tx);
        Iterator::chain(rings, core::iter::once(&self.nic))
    }

    /// Drops the references of the NIC; the last one is the caller's.
    fn unlink(&self) -> Option<Arc<Nic>> {
        let mut last = None;
        for link in self.links() {
            let nic = link.lock().take();
            last = nic.or(last);
        }
        last
    }

    /// Asks for an interrupt for a ring of the NIC; whether something has come meanwhile.
    fn arm(&self, ring: &Kring) -> Option<bool> {
        let queue = u32::from(ring.id);
        if ring.tx {
            let nic = self.tx.get(usize::from(ring.id))?.nic.lock();
            let nic = nic.as_ref()?;
            let tx = nic.tx(queue)?;
            let _bh = BhGuard::new();
            tx.lock().want_irq();
            nic.irq_enable(queue, true);
            let mut tx = tx.lock();
            tx.reap();
            return Some(tx.slots() > 0);
        }
        let nic = self.rx.get(usize::from(ring.id))?.nic.lock();
        let nic = nic.as_ref()?;
        nic.irq_enable(queue, false);
        let _bh = BhGuard::new();
        let pending = nic.rx(queue)?.lock().pending();
        Some(pending)
    }

    fn host_lane(&self, ring: &Kring) -> Option<&HostLane> {
        let lanes = self.host.iter();
        lanes
            .map(|lane| &**lane)
            .find(|lane| core::ptr::eq(&**lane.ring(), ring))
    }

    fn rings(&self) -> impl Iterator<Item = &Arc<Kring>> {
        let rx = self.rx.iter().map(|lane| &lane.ring);
        let tx = self.tx.iter().map(|lane| &lane.ring);
        let host = self.host.iter().map(|lane| lane.ring());
        Iterator::chain(Iterator::chain(rx, tx), host)
    }
}

impl Upper for Wire {
    fn plain(&self) -> bool {
        true
    }

    fn resized(&self, nic: &Nic) {
        let fits = nic.num_rx() as usize == self.rx.len() && nic.num_tx() as usize == self.tx.len();
        if self.fits.swap(fits, Relaxed) == fits {
            return;
        }
        for ring in self.rings() {
            if fits {
                ring.resume();
            } else {
                ring.stop();
            }
        }
    }

    fn configured(&self, nic: &Nic, queue: u32) {
        let (Some(lane), Some(rx)) = (self.rx.get(queue as usize), nic.rx(queue)) else {
            return;
        };
        let mut st = lane.ring.state.lock();
        let _bh = BhGuard::new();
        let mut rx = rx.lock();
        lane.post(&mut st, &mut rx);
        rx.doorbell();
    }

    fn cleaned(&self, _nic: &Nic) {
        for lane in self.rx.iter() {
            lane.reset();
        }
        // Who waits for room finds it: nothing is being sent any more.
        for lane in self.tx.iter() {
            lane.ring.notify();
        }
    }

    fn irq(&self, nic: &Nic, queue: u32, _budget: i32, rearm: &mut bool) -> i32 {
        let mut waits = false;
        if let (Some(lane), Some(rx)) = (self.rx.get(queue as usize), nic.rx(queue)) {
            if rx.lock().pending() {
                lane.ring.notify();
            } else {
                waits |= lane.ring.has_waiters();
            }
        }
        if let (Some(lane), Some(tx)) = (self.tx.get(queue as usize), nic.tx(queue)) {
            let (sent, wanted) = {
                let tx = tx.lock();
                (tx.slots() > 0, tx.wants_irq())
            };
            if sent {
                lane.ring.notify();
            } else {
                waits |= wanted && lane.ring.has_waiters();
            }
        }
        // Who was woken asks again when it has found nothing more.
        *rearm = waits;
        0
    }

    fn xmit(&self, _nic: &Nic, queue: u32, skb: Skb) -> Result<(), Skb> {
        let n = self.host.len();
        if let Some(lane) = (queue as usize)
            .checked_rem(n)
            .and_then(|n| self.host.get(n))
        {
            lane.xmit(skb);
        }
        Ok(())
    }

    fn gone(&self, _nic: &Nic, _rtnl: &Rtnl) {
        self.unlink();
        for ring in self.rings() {
            ring.stop();
        }
    }

    fn changed(&self, _nic: &Nic, event: Event) {
        for ring in self.rings() {
            match event {
                Event::GoingDown => ring.stop(),
                Event::Up if self.fits.load(Relaxed) => ring.resume(),
                // With a link frames may go.
                Event::Change if ring.tx => ring.notify(),
                _ => {}
            }
        }
    }
}
