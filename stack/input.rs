// SPDX-License-Identifier: GPL-2.0

//! From a NIC's receive queue to the stack. The headers of each frame are copied, once, into a
//! packet's own memory and only looked at there. If they lead to a socket of the port, the payload
//! stays in its buffer, as a fragment of the packet; everything else is copied whole, so that no
//! other socket's data is trusted to memory that an application can write.

#![deny(unsafe_code)]

use super::ring::Ring;
use super::socket::Socket;
use crate::adapter::nic::Nic;
use crate::adapter::queue::{LongFrame, RxDone, RxQueue};
use crate::mem::BufCache;
use crate::nmcore::demux;
use crate::sys::bh::BhGuard;
use crate::sys::skb::{RxHead, Skb, SkbBatch, HEADER_ROOM};
use crate::sys::sock::Known;
use kernel::sync::rcu;

/// Frames taken from a queue in one sync.
pub(super) const BUDGET: u32 = 256;

/// Bytes of an Ethernet header.
const ETHER: usize = 14;

/// Where frames come from, and for whom they are.
struct Source<'a> {
    nic: &'a Nic,
    queue: u32,
    ring: &'a Ring,
    /// Whether what its sockets send goes out on the transmit queue of the same number.
    paired: bool,
    bh: BhGuard,
    rcu: rcu::Guard,
}

/// Processes up to `budget` frames of queue `q`, which `ring` serves; returns how many there were.
/// Sockets of the ring's port get their data in place. `spare`: the ring's own free buffers.
///
/// None: another CPU is handing frames of this queue to the stack, which gets them in their order.
pub(super) fn reap(
    nic: &Nic,
    q: u32,
    budget: u32,
    ring: &Ring,
    spare: Option<&mut BufCache>,
) -> Option<u32> {
    let bh = BhGuard::new();
    let Some(queue) = nic.rx(q) else {
        return Some(0);
    };
    let source = Source {
        nic,
        queue: q,
        ring,
        paired: nic.num_tx() > 1 && q < nic.num_tx(),
        bh,
        rcu: rcu::read_lock(),
    };
    let mut batch = SkbBatch::new();
    let mut n = 0;
    {
        let mut rx = queue.lock();
        if rx.delivering {
            return None;
        }
        if let Some(spare) = spare {
            rx.cache.feed_from(spare);
        }
        while n < budget {
            let Some(done) = rx.peek() else {
                break;
            };
            let skb = if !done.eop && !done.inside {
                let Some(frame) = rx.long_frame() else {
                    break;
                };
                source.gathered(&mut rx, &frame)
            } else if done.bad || done.inside {
                rx.recycle();
                None
            } else {
                source.packet(&mut rx, &done)
            };
            n += 1;
            if let Some((skb, registered)) = skb {
                batch.push(skb, registered);
            }
        }
        let wants = rx.wants();
        if wants {
            // The pool was short when these descriptors wanted buffers.
            rx.fill();
        }
        if wants || n != 0 {
            rx.doorbell();
        }
        rx.delivering = n != 0;
    }
    if n != 0 {
        batch.receive(&source.bh, &source.rcu);
        queue.lock().delivering = false;
    }
    Some(n)
}

impl Source<'_> {
    /// Makes a packet of a frame, and posts a buffer in its place. True: it is for a socket of the
    /// port. None: dropped, for want of memory.
    #[inline]
    fn packet(&self, rx: &mut RxQueue, done: &RxDone) -> Option<(Skb, bool)> {
        let pool = self.nic.pool();
        let len = usize::from(done.len);
        let n = len.min(HEADER_ROOM);
        let skb = Skb::for_rx(HEADER_ROOM, &self.bh).and_then(|mut skb| {
            let area = skb.area().get_mut(..n)?;
            if !pool.copy_out(done.buf, 0, area) {
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
                return Some((self.finish(skb.headers(n), done), false));
            }
            return self.copy(rx, done);
        };
        // All that follows the headers stays where it is, unless it is little and here already.
        let whole = len <= HEADER_ROOM;
        let head = if whole { n } else { tcp.payload_off };
        let mut skb = self.finish(skb.headers(head), done);
        let ours = skb
            .demux(tcp.l4_off - ETHER, tcp.v6, &self.rcu)
            .is_some_and(|sock| self.is_ours(&sock));
        if whole {
            rx.recycle();
            return Some((skb, ours));
        }
        if ours && !rx.cache.low() {
            let page = pool.buf_page(done.buf);
            if let (Some((page, offset)), Some(new)) = (page, rx.cache.get_nic()) {
                let start = offset + tcp.payload_off as u32;
                skb.add_page(page, start, tcp.payload_len as u32, pool.buf_size());
                rx.replace(new);
                rx.cache.lend(done.buf);
                return Some((skb, true));
            }
        }
        drop(skb);
        if ours {
            rx.copied += 1;
        }
        self.copy(rx, done)
    }

    /// Whether a socket is one of the port's. One of the ring's own then answers on this queue, so
    /// that no two rings use one.
    #[inline]
    fn is_ours(&self, sock: &Known<'_>) -> bool {
        let Some(socket) = sock.hooked::<Socket>() else {
            return false;
        };
        if self.paired && core::ptr::eq(&*socket.ring, self.ring) {
            sock.send_on(self.queue);
        }
        socket.ring.owner == self.ring.owner
    }

    /// A packet with a copy of the whole frame.
    fn copy(&self, rx: &mut RxQueue, done: &RxDone) -> Option<(Skb, bool)> {
        let len = usize::from(done.len);
        let skb = Skb::for_rx(len, &self.bh).and_then(|mut skb| {
            let area = skb.area().get_mut(..len)?;
            self.nic.pool().copy_out(done.buf, 0, area).then_some(skb)
        });
        rx.recycle();
        Some((self.finish(skb?.headers(len), done), false))
    }

    /// A packet with a copy of a frame that lies in several buffers. Only an MTU above the buffers'
    /// size brings these.
    #[cold]
    fn gathered(&self, rx: &mut RxQueue, frame: &LongFrame) -> Option<(Skb, bool)> {
        let len = frame.len as usize;
        let mut skb = if frame.bad || len < ETHER {
            None
        } else {
            Skb::for_rx(len, &self.bh)
        };
        let mut at = 0;
        for _ in 0..frame.bufs {
            // Should the device change its mind about lengths, nothing is made of the parts.
            let part = rx.peek()?;
            let end = at + usize::from(part.len);
            let area = skb.as_mut().and_then(|skb| skb.area().get_mut(at..end));
            if !area.is_some_and(|area| self.nic.pool().copy_out(part.buf, 0, area)) {
                skb = None;
            }
            at = end;
            rx.recycle();
        }
        if at != len {
            return None;
        }
        let head = skb?.headers(len);
        Some((
            head.finish(self.nic.dev(), self.queue, frame.csum_ok),
            false,
        ))
    }

    #[inline]
    fn finish(&self, head: RxHead, done: &RxDone) -> Skb {
        head.finish(self.nic.dev(), self.queue, done.csum_ok)
    }
}
