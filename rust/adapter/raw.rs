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

use super::host::{self, HostLane};
use super::kring::{Kring, KringState};
use super::nic::{Nic, Upper};
use super::queue::{RxQueue, TxQueue};
use super::{Backend, Port, Shape, Wish};
use crate::drivers::hw::Driver as Chip;
use crate::nmcore::abi::{Slot, NS_BUF_CHANGED, NS_MOREFRAG, NS_REPORT};
use crate::nmcore::Errno;
use crate::sys::bh::BhGuard;
use crate::sys::netdev::{Event, NetDev, Rtnl};
use crate::sys::netns::Net;
use crate::sys::nicops::Driver;
use crate::sys::skb::Skb;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::{new_mutex, Arc, Mutex, SetOnce};

/// Slots of one frame at most.
const MAX_FRAGS: usize = 64;
/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;

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

/// A receive ring.
struct RxLane {
    ring: Arc<Kring>,
    nic: Link,
    /// First of the kernel's slots whose buffer the NIC does not have. Changes under the ring's
    /// lock.
    posted: AtomicU32,
}

/// A transmit ring.
struct TxLane {
    ring: Arc<Kring>,
    nic: Link,
    /// Oldest slot that the NIC may still be sending, `hwcur` if none. Changes under the ring's
    /// lock.
    done: AtomicU32,
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

    fn open(&self, port: &Arc<Port>, rtnl: &Rtnl) -> Result {
        let name = CStr::from_bytes_until_nul(&self.name).map_err(|_| EINVAL)?;
        let dev = NetDev::by_name(&port.net, name, rtnl).ok_or(ENXIO)?;
        let mut rx = KVec::with_capacity(port.rx.len(), GFP_KERNEL)?;
        for ring in port.rx.iter() {
            let posted = AtomicU32::new(ring.state.lock().cursor.hwtail());
            rx.push(
                RxLane {
                    ring: ring.clone(),
                    nic: link()?,
                    posted,
                },
                GFP_KERNEL,
            )?;
        }
        let mut tx = KVec::with_capacity(port.tx.len(), GFP_KERNEL)?;
        for ring in port.tx.iter() {
            let done = AtomicU32::new(ring.state.lock().cursor.hwcur());
            tx.push(
                TxLane {
                    ring: ring.clone(),
                    nic: link()?,
                    done,
                },
                GFP_KERNEL,
            )?;
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
        let result = host::take_back(ring, st, head);
        let _bh = BhGuard::new();
        let mut queue = queue.lock();
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

impl RxLane {
    /// Fills slots with what has arrived, then posts what the application has given back.
    fn sync(&self, st: &mut KringState, rx: &mut RxQueue) {
        while st.cursor.room() > 0 {
            let Some(done) = rx.peek() else {
                break;
            };
            if done.bad {
                rx.recycle();
                continue;
            }
            rx.take();
            let i = st.cursor.hwtail();
            let flags = if done.eop { 0 } else { NS_MOREFRAG };
            let slot = Slot {
                len: done.len,
                flags,
                ..Slot::ZERO
            };
            if !st.give_slot(&self.ring.mem, i, done.buf, slot) || !st.cursor.give(1) {
                break;
            }
        }
        self.post(st, rx);
        rx.doorbell();
    }

    /// Posts the buffers of the kernel's slots, but for one: a ring is never all the NIC's.
    fn post(&self, st: &mut KringState, rx: &mut RxQueue) {
        let mut at = self.posted.load(Relaxed);
        while st.cursor.next(at) != st.cursor.hwcur() && rx.room() > 0 {
            let own = st.release(at).filter(|&idx| st.cache.post(idx));
            let Some(idx) = own.or_else(|| rx.cache.get_nic()) else {
                break;
            };
            if !rx.post_nic(idx) {
                break;
            }
            at = st.cursor.next(at);
        }
        self.posted.store(at, Relaxed);
    }
}

impl TxLane {
    /// Gives back the slots that have been sent, then sends those up to `head`.
    fn sync(&self, nic: &Nic, st: &mut KringState, tx: &mut TxQueue, head: u32) -> Result {
        self.reap(st, tx);
        let mut result = Ok(());
        while st.cursor.hwcur() != head {
            match self.send(nic, st, tx, head) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        tx.doorbell();
        self.reap(st, tx);
        result
    }

    /// Sends the frame at `hwcur`. False: it is not complete, or there is no room.
    ///
    /// # Errors
    ///
    /// `EFAULT` for a buffer that is not the application's, `EINVAL` for lengths that are none;
    /// such a frame is skipped.
    fn send(&self, nic: &Nic, st: &mut KringState, tx: &mut TxQueue, head: u32) -> Result<bool> {
        if !tx.active() {
            return Ok(false);
        }
        let (mem, at) = (&self.ring.mem, st.cursor.hwcur());
        let slot = mem.slot(at);
        if slot.flags & NS_MOREFRAG != 0 {
            return self.send_chain(nic, st, tx, head);
        }
        let len = u32::from(slot.len);
        if len > st.cache.pool().buf_size() || !(ETHERNET..=nic.max_frame()).contains(&len) {
            let _ = st.cursor.take(1);
            return if len == 0 { Ok(true) } else { Err(EINVAL) };
        }
        if !tx.has_room(1) {
            return Ok(false);
        }
        if !st.take_buf(mem, at, slot.buf_idx) {
            return Err(EFAULT);
        }
        if !tx.push_slot(slot.buf_idx, 0, len, true) {
            tx.cancel();
            self.give_back(st, at);
            return Ok(false);
        }
        Ok(st.cursor.take(1))
    }

    /// The same for a frame of several slots.
    fn send_chain(
        &self,
        nic: &Nic,
        st: &mut KringState,
        tx: &mut TxQueue,
        head: u32,
    ) -> Result<bool> {
        let (mem, first) = (&self.ring.mem, st.cursor.hwcur());
        let mut slots = [Slot::ZERO; MAX_FRAGS];
        let (mut count, mut at, mut bytes, mut last) = (0, first, 0u32, false);
        let max = st.cache.pool().buf_size();
        let mut good = true;
        for place in slots.iter_mut() {
            if at == head {
                break;
            }
            *place = mem.slot(at);
            count += 1;
            at = st.cursor.next(at);
            bytes += u32::from(place.len);
            good &= u32::from(place.len) <= max && (place.len > 0 || count == 1);
            last = place.flags & NS_MOREFRAG == 0;
            if last {
                break;
            }
        }
        let slots = slots.get(..count).unwrap_or(&[]);
        if !last && count < MAX_FRAGS {
            return Ok(false);
        }
        let pieces = nic.max_pieces().min(tx.most_pieces());
        good &= (ETHERNET..=nic.max_frame()).contains(&bytes) && count as u32 <= pieces;
        if !last || !good {
            let _ = st.cursor.take(count as u32);
            return if bytes == 0 { Ok(true) } else { Err(EINVAL) };
        }
        if !tx.has_room(count as u32) {
            return Ok(false);
        }
        let mut at = first;
        for (n, slot) in slots.iter().enumerate() {
            let taken = st.take_buf(mem, at, slot.buf_idx);
            let last = n + 1 == count;
            if !taken || !tx.push_slot(slot.buf_idx, 0, slot.len.into(), last) {
                tx.cancel();
                let end = if taken { st.cursor.next(at) } else { at };
                self.untake(st, first, end);
                return if taken { Ok(false) } else { Err(EFAULT) };
            }
            at = st.cursor.next(at);
        }
        Ok(st.cursor.take(count as u32))
    }

    /// Makes the buffers of slots the application's again.
    fn untake(&self, st: &mut KringState, mut at: u32, end: u32) {
        while at != end {
            self.give_back(st, at);
            at = st.cursor.next(at);
        }
    }

    fn give_back(&self, st: &mut KringState, i: u32) {
        let Some(idx) = st.held(i) else {
            return;
        };
        let slot = self.ring.mem.slot(i);
        let flags = slot.flags & !(NS_REPORT | NS_BUF_CHANGED);
        if flags == slot.flags && slot.buf_idx == idx {
            // The slot can stay as it is.
            st.return_buf(i, idx);
        } else {
            st.give_slot(&self.ring.mem, i, idx, Slot { flags, ..slot });
        }
    }

    /// Gives back the slots that have been sent, in order. Slots that were skipped have no buffer
    /// in the ring's keeping.
    fn reap(&self, st: &mut KringState, tx: &mut TxQueue) {
        tx.reap();
        let mut sent = tx.take_slots();
        let mut at = self.done.load(Relaxed);
        let mut count = 0;
        while at != st.cursor.hwcur() {
            if st.held(at).is_some() {
                if sent == 0 {
                    break;
                }
                sent -= 1;
                self.give_back(st, at);
            }
            at = st.cursor.next(at);
            count += 1;
        }
        self.done.store(at, Relaxed);
        let _ = st.cursor.give(count);
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
            let st = lane.ring.state.lock();
            // The NIC has given back all buffers.
            lane.posted.store(st.cursor.hwtail(), Relaxed);
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
