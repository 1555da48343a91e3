// SPDX-License-Identifier: GPL-2.0

//! A stack port as the device sees it.

#![deny(unsafe_code)]

use super::attach::Nics;
use super::ring::Ring;
use super::{input, receive, transmit};
use crate::adapter::kring::{Kring, KringState};
use crate::adapter::{Backend, Port, Shape, Wish};
use crate::nmcore::abi::NmreqRegister;
use crate::nmcore::request::{STACK_MAX_RINGS, STACK_MAX_SLOTS, STACK_SLOTS};
use crate::nmcore::slot::MAX_OFFSET;
use crate::sys::bh::BhGuard;
use crate::sys::netns::{Net, Rtnl};
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::{Arc, SetOnce};

/// Buffers of each ring beside those in slots: for the descriptors of the queues that it serves
/// ([`super::attach`] says how many), for caches, and for what TCP holds.
pub(super) const SPARE_BUFS: u32 = 2048;
/// Smallest buffers that hold a full Ethernet frame.
const MIN_BUF: u32 = 1536;

/// A port `pst:N`.
pub(crate) struct StackPort {
    shape: Shape,
    rings: SetOnce<KVec<Arc<Ring>>>,
    nics: Arc<Nics>,
}

/// Makes the port that a REGISTER asks for; what it asks for is brought within the limits.
pub(crate) fn create(_name: &str, _net: &Net, want: &Wish) -> Result<Arc<dyn Backend>> {
    let slots = |n| match n {
        0 => STACK_SLOTS,
        // A ring of one slot could never hold anything.
        n => n.clamp(2, STACK_MAX_SLOTS),
    };
    // Sockets send and receive on the ring of one number.
    let rings = want.tx_rings.max(want.rx_rings).clamp(1, STACK_MAX_RINGS);
    let port = Arc::new(
        StackPort {
            shape: Shape {
                tx_rings: rings,
                rx_rings: rings,
                host_tx: 0,
                host_rx: 0,
                tx_slots: slots(want.tx_slots),
                rx_slots: slots(want.rx_slots),
                offset_mask: u64::from(MAX_OFFSET),
                slot_ptr: 0,
                private_mem: true,
                spare_bufs: SPARE_BUFS.saturating_mul(rings.into()),
                min_buf: MIN_BUF,
            },
            rings: SetOnce::new(),
            nics: Nics::new()?,
        },
        GFP_KERNEL,
    )?;
    Ok(port)
}

impl StackPort {
    fn rings(&self) -> &[Arc<Ring>] {
        self.rings.as_ref().map_or(&[], |r| r.as_slice())
    }

    fn ring(&self, id: u16) -> Result<&Arc<Ring>> {
        self.rings().get(usize::from(id)).ok_or(ENXIO)
    }

    /// The rings of a poll or sync. Transmit and receive rings of one number are one ring here; a
    /// file that binds both kinds binds the same numbers of both.
    fn polled<'a>(
        &'a self,
        tx: &'a [Arc<Kring>],
        rx: &'a [Arc<Kring>],
    ) -> impl Iterator<Item = &'a Arc<Ring>> {
        let krings = if rx.is_empty() { tx } else { rx };
        krings.iter().filter_map(|kring| self.ring(kring.id).ok())
    }
}

impl Backend for StackPort {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn open(&self, port: &Arc<Port>, _rtnl: &Rtnl) -> Result {
        let mut rings = KVec::with_capacity(port.rx.len(), GFP_KERNEL)?;
        for kring in port.rx.iter() {
            rings.push(Ring::new(port.id, kring.clone())?, GFP_KERNEL)?;
        }
        self.nics.set_rings(&rings)?;
        self.nics.share_out(&port.pool);
        self.rings.populate(rings);
        Ok(())
    }

    fn close(&self, _port: &Port, rtnl: &Rtnl) {
        self.nics.detach_all(rtnl);
        for ring in self.rings() {
            ring.shut_down();
            ring.release_all();
        }
    }

    fn begin(&self, _port: &Port, tx: &[Arc<Kring>], rx: &[Arc<Kring>]) {
        let _bh = BhGuard::new();
        for ring in self.polled(tx, rx) {
            ring.poll_begins();
            for queue in ring.queues.lock().iter() {
                if let Some(tx) = queue.nic.tx(queue.index) {
                    tx.lock().batch_begin();
                }
            }
        }
    }

    fn end(&self, _port: &Port, tx: &[Arc<Kring>], rx: &[Arc<Kring>]) {
        let _bh = BhGuard::new();
        for ring in self.polled(tx, rx) {
            for queue in ring.queues.lock().iter() {
                if let Some(tx) = queue.nic.tx(queue.index) {
                    let mut tx = tx.lock();
                    tx.batch_end();
                    tx.reap();
                }
            }
            ring.poll_ends();
        }
    }

    fn txsync(&self, port: &Port, kring: &Kring, st: &mut KringState, head: u32) -> Result {
        transmit::sync(self.rings(), port, kring, st, head)
    }

    fn rxsync(&self, port: &Port, kring: &Kring, st: &mut KringState, head: u32) -> Result {
        let ring = self.ring(kring.id)?;
        ring.touch();
        receive::release(kring, st, head)?;
        {
            let _bh = BhGuard::new();
            for queue in ring.queues.lock().iter() {
                let spare = Some(&mut st.cache);
                // Whatever another CPU is at, it makes the sockets ready.
                let _ = input::reap(&queue.nic, queue.index, input::BUDGET, ring, spare);
            }
        }
        receive::drain(ring, port, kring, st);
        Ok(())
    }

    fn arm(&self, port: &Port, kring: &Kring) -> bool {
        let Some(ring) = self.ring(kring.id).ok().filter(|_| !kring.tx) else {
            return false;
        };
        if ring.idle() {
            return true;
        }
        // The caller goes to sleep: time to see which lent buffers have come back.
        ring.recover();
        for kring in [
            port.rx.get(usize::from(kring.id)),
            port.tx.get(usize::from(kring.id)),
        ] {
            if let Some(mut st) = kring.and_then(|kring| kring.state.try_lock()) {
                st.cache.recover();
            }
        }
        false
    }

    fn fd_register(&self, _port: &Port, ring: u16, fd: i32) -> Result {
        super::attach::register(self.rings(), self.ring(ring)?, fd)
    }

    fn attach(
        &self,
        port: &Arc<Port>,
        nic: &CStr,
        reg: &NmreqRegister,
        rtnl: &Rtnl,
    ) -> Result<u32> {
        Nics::attach(&self.nics, port, nic, reg, rtnl)
    }

    fn detach(&self, _port: &Arc<Port>, nic: &CStr, rtnl: &Rtnl) -> Result<u32> {
        self.nics.detach(nic, rtnl)
    }

    fn show(&self, _port: &Port, w: &mut dyn fmt::Write) -> fmt::Result {
        self.nics.show(w)?;
        for (i, ring) in self.rings().iter().enumerate() {
            w.write_fmt(fmt!("  ring {i} sockets {}\n", ring.count()))?;
            ring.show(w)?;
        }
        Ok(())
    }
}
