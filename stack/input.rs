// SPDX-License-Identifier: GPL-2.0

//! From a NIC's receive queue to the stack. The headers of each frame are copied, once, into a
//! packet's own memory and only looked at there. If they lead to a socket of the port, the payload
//! stays in its buffer, as a fragment of the packet; everything else is copied whole, so that no
//! other socket's data is trusted to memory that an application can write.

#![deny(unsafe_code)]

use super::socket::Socket;
use crate::adapter::nic::Nic;
use crate::adapter::queue::{RxDone, RxQueue};
use crate::nmcore::demux;
use crate::sys::bh::BhGuard;
use crate::sys::skb::{Skb, SkbBatch, HEADER_ROOM};
use kernel::sync::rcu;

/// Frames taken from a queue in one sync.
pub(super) const BUDGET: u32 = 256;

/// Bytes of an Ethernet header.
const ETHER: usize = 14;

/// Processes up to `budget` frames of queue `q`; returns how many there were. `owner` is the port
/// whose sockets get their data in place.
pub(super) fn reap(nic: &Nic, q: u32, budget: u32, owner: u16) -> u32 {
    let bh = BhGuard::new();
    let Some(queue) = nic.rx(q) else {
        return 0;
    };
    let mut batch = SkbBatch::new();
    let rcu = rcu::read_lock();
    let mut n = 0;
    {
        let mut rx = queue.lock();
        while n < budget {
            let Some(done) = rx.peek() else {
                break;
            };
            n += 1;
            // Frames of more than one buffer do not occur: the NIC is refused or stopped when its
            // MTU exceeds a buffer.
            let skb = if done.bad || !done.eop {
                rx.recycle();
                None
            } else {
                packet(nic, &mut rx, &done, owner, &bh, &rcu)
            };
            if let Some((skb, registered)) = skb {
                batch.push(skb, registered);
            }
        }
        if rx.room() != 0 {
            // The pool was short when these descriptors wanted buffers.
            rx.fill();
        }
        if n != 0 {
            rx.doorbell();
        }
    }
    batch.receive(&bh, &rcu);
    n
}

/// Makes a packet of a frame, and posts a buffer in its place. True: it is for a socket of the
/// port. None: dropped, for want of memory.
#[inline]
fn packet(
    nic: &Nic,
    rx: &mut RxQueue,
    done: &RxDone,
    owner: u16,
    bh: &BhGuard,
    rcu: &rcu::Guard,
) -> Option<(Skb, bool)> {
    let len = usize::from(done.len);
    let n = len.min(HEADER_ROOM);
    let skb = Skb::for_rx(HEADER_ROOM, bh).and_then(|mut skb| {
        let area = skb.area().get_mut(..n)?;
        if !nic.pool().copy_out(done.buf, 0, area) {
            return None;
        }
        let tcp = demux::tcp_frame(area, len).filter(|tcp| tcp.l3_off == ETHER);
        Some((skb, tcp))
    });
    let Some((skb, tcp)) = skb else {
        rx.recycle();
        return None;
    };
    let Some(tcp) = tcp else {
        if len <= HEADER_ROOM {
            rx.recycle();
            return Some((skb.headers(n).finish(nic.dev(), done.csum_ok), false));
        }
        return copy(nic, rx, done, bh);
    };
    // All that follows the headers stays where it is, unless it is little and here already.
    let whole = len <= HEADER_ROOM;
    let head = if whole { n } else { tcp.payload_off };
    let mut skb = skb.headers(head).finish(nic.dev(), done.csum_ok);
    let ours = skb
        .demux(tcp.l4_off - ETHER, tcp.v6, rcu)
        .and_then(|sk| sk.hooked::<Socket>())
        .is_some_and(|socket| socket.ring.owner == owner);
    if whole {
        rx.recycle();
        return Some((skb, ours));
    }
    if ours && !rx.cache.low() {
        let page = nic.pool().buf_page(done.buf);
        if let (Some((page, offset)), Some(new)) = (page, rx.cache.get_nic()) {
            let start = offset + tcp.payload_off as u32;
            skb.add_page(page, start, tcp.payload_len as u32, nic.pool().buf_size());
            rx.replace(new);
            rx.cache.lend(done.buf);
            return Some((skb, true));
        }
    }
    drop(skb);
    copy(nic, rx, done, bh)
}

/// A packet with a copy of the whole frame.
fn copy(nic: &Nic, rx: &mut RxQueue, done: &RxDone, bh: &BhGuard) -> Option<(Skb, bool)> {
    let len = usize::from(done.len);
    let skb = Skb::for_rx(len, bh).and_then(|mut skb| {
        let area = skb.area().get_mut(..len)?;
        nic.pool().copy_out(done.buf, 0, area).then_some(skb)
    });
    rx.recycle();
    Some((skb?.headers(len).finish(nic.dev(), done.csum_ok), false))
}
