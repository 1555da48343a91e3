// SPDX-License-Identifier: GPL-2.0

//! Host rings: the application between the host's stack and the NIC.
//!
//! What the stack sends waits here, a bounded number of packets, until the application's receive
//! sync copies it into slots; what the application puts into a host transmit ring is copied into
//! packets that the stack receives as if the NIC had.

#![deny(unsafe_code)]

use super::kring::{Kring, KringState};
use crate::nmcore::abi::Slot;
use crate::sys::bh::BhGuard;
use crate::sys::netdev::NetDev;
use crate::sys::skb::{Skb, SkbBatch};
use kernel::prelude::*;
use kernel::sync::{new_spinlock, Arc, SpinLock};

/// Packets that wait at most.
const LIMIT: usize = 1024;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Packets in order of arrival; never more than `LIMIT`.
struct Fifo {
    packets: KVec<Option<Skb>>,
    first: usize,
    len: usize,
}

impl Fifo {
    fn push(&mut self, skb: Skb) -> Result<(), Skb> {
        if self.len >= LIMIT {
            return Err(skb);
        }
        let at = (self.first + self.len) % LIMIT;
        match self.packets.get_mut(at) {
            Some(place) => *place = Some(skb),
            None => return Err(skb),
        }
        self.len += 1;
        Ok(())
    }

    fn pop(&mut self) -> Option<Skb> {
        if self.len == 0 {
            return None;
        }
        let skb = self.packets.get_mut(self.first)?.take();
        self.first = (self.first + 1) % LIMIT;
        self.len -= 1;
        skb
    }
}

/// A receive ring from the host and the packets that wait for it.
#[pin_data]
pub(super) struct HostLane {
    ring: Arc<Kring>,
    #[pin]
    fifo: SpinLock<Fifo>,
}

impl HostLane {
    /// An empty lane for `ring`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(ring: Arc<Kring>) -> Result<Pin<KBox<Self>>> {
        let mut packets = KVec::with_capacity(LIMIT, GFP_KERNEL)?;
        for _ in 0..LIMIT {
            packets.push(None, GFP_KERNEL)?;
        }
        let fifo = Fifo {
            packets,
            first: 0,
            len: 0,
        };
        KBox::pin_init(
            pin_init!(Self { ring, fifo <- new_spinlock!(fifo, "netmap_host") }),
            GFP_KERNEL,
        )
    }

    /// The stack sends a packet. Dropped if too many wait. Bottom halves are off.
    pub(super) fn xmit(&self, skb: Skb) {
        let refused = self.fifo.lock().push(skb);
        match refused {
            Ok(()) => self.ring.notify(),
            Err(skb) => drop(skb),
        }
    }

    /// Whether packets wait.
    pub(super) fn pending(&self) -> bool {
        let _bh = BhGuard::new();
        let pending = self.fifo.lock().len > 0;
        pending
    }

    /// The ring.
    pub(super) fn ring(&self) -> &Arc<Kring> {
        &self.ring
    }

    /// Receive sync: slots up to `head` are free again, packets go to slots from `hwtail` on. A
    /// packet that does not fit in a buffer is dropped.
    ///
    /// # Errors
    ///
    /// `EFAULT` for a buffer that is not the application's.
    pub(super) fn rxsync(&self, st: &mut KringState, head: u32) -> Result {
        let result = take_back(&self.ring, st, head);
        while st.cursor.room() > 0 {
            let skb = {
                let _bh = BhGuard::new();
                let skb = self.fifo.lock().pop();
                skb
            };
            let Some(skb) = skb else {
                break;
            };
            let i = st.cursor.hwtail();
            let Some(idx) = st.held(i).or_else(|| st.cache.get_held()) else {
                break;
            };
            // The interface has no offloads in this mode, so all of a packet is in one piece.
            let data = skb.head();
            let whole = data.len() == skb.len();
            let Ok(len) = u16::try_from(data.len()) else {
                continue;
            };
            if whole && st.cache.pool().copy_in(idx, 0, data) {
                let slot = Slot { len, ..Slot::ZERO };
                if st.give_slot(&self.ring.mem, i, idx, slot) {
                    let _ = st.cursor.give(1);
                }
            } else if st.held(i) != Some(idx) {
                st.cache.put(idx);
            }
        }
        result
    }
}

/// Takes back the slots of a receive ring up to `head`.
///
/// # Errors
///
/// `EFAULT` for a buffer that is not the application's; the slots before it are taken.
pub(super) fn take_back(ring: &Kring, st: &mut KringState, head: u32) -> Result {
    while st.cursor.hwcur() != head {
        let i = st.cursor.hwcur();
        let count = st.cursor.distance(i, head);
        let mut span = st.span(&ring.mem, i, count);
        let mut taken = 0;
        while span.take() {
            taken += 1;
        }
        // A slot that is refused here may be a rare case all the same.
        if taken == 0 {
            if st.take_slot(&ring.mem, i).is_none() {
                return Err(EFAULT);
            }
            taken = 1;
        }
        if !st.cursor.take(taken) {
            return Err(EFAULT);
        }
    }
    Ok(())
}

/// Transmit sync of a ring to the host: the slots up to `head` become packets that the stack
/// receives from `dev`. Slots that hold no frame are skipped.
///
/// # Errors
///
/// `EFAULT` for a buffer that is not the application's; nothing behind it is sent.
pub(super) fn txsync(ring: &Kring, st: &mut KringState, head: u32, dev: &NetDev) -> Result {
    let bh = BhGuard::new();
    let mut batch = SkbBatch::new();
    let mut result = Ok(());
    while st.cursor.hwcur() != head {
        let i = st.cursor.hwcur();
        let slot = ring.mem.slot(i);
        let pool = st.cache.pool();
        if !pool.owned(slot.buf_idx, st.owner) {
            st.refuse_slot(&ring.mem, i);
            result = Err(EFAULT);
            break;
        }
        let len = usize::from(slot.len);
        if len >= ETHERNET && len <= pool.buf_size() as usize {
            if let Some(mut skb) = Skb::for_rx(len, &bh) {
                let area = skb.area();
                if area
                    .get_mut(..len)
                    .is_some_and(|a| pool.copy_out(slot.buf_idx, 0, a))
                {
                    batch.push(skb.headers(len).finish(dev, 0, false), false);
                }
            }
        }
        if !st.cursor.take(1) {
            break;
        }
        let _ = st.cursor.give(1);
    }
    batch.receive(&bh, &kernel::sync::rcu::read_lock());
    result
}
