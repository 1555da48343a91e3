// SPDX-License-Identifier: GPL-2.0

//! From the stack to a NIC's transmit queue: headers are copied into the descriptor's own kernel
//! memory, payload in pool pages is sent from there, everything else is copied, and so is what would
//! take more descriptors than the NIC takes for a frame. The packet is freed at once; pages are held
//! by the queue until the NIC has sent them.

#![deny(unsafe_code)]

use crate::adapter::nic::Nic;
use crate::adapter::queue::TxQueue;
use crate::drivers::hw::Offload;
use crate::mem::pool::Pool;
use crate::sys::dma::AREA;
use crate::sys::skb::{PagePart, Piece, Skb, TxInfo};
use kernel::prelude::*;

/// Frames up to this many bytes are copied whole: one descriptor, no page to hold.
const COPY_WHOLE: usize = 256;

/// Most pieces that are looked at together in [`crowded`].
const WINDOW: usize = 64;

/// Sends a packet on queue `q`. Gives it back if there is no room; the queue is stopped then.
pub(super) fn xmit(nic: &Nic, q: u32, skb: Skb) -> Result<(), Skb> {
    let Some(queue) = nic.tx(q) else {
        // No such queue: nothing could ever send it.
        return Ok(());
    };
    let mut skb = skb;
    let mut info = skb.tx_info();
    if info.tagged {
        let Some(pushed) = skb.vlan_pushed() else {
            return Ok(());
        };
        skb = pushed;
        info = skb.tx_info();
    }
    let offload = match offload(&info).filter(|offload| nic.can(offload)) {
        Some(offload) => offload,
        // Segments that nobody can cut do not occur: the interface has no such feature.
        None if info.gso_size != 0 || !skb.checksum_help() => return Ok(()),
        None => {
            info = skb.tx_info();
            Offload::None
        }
    };
    let mut tx = queue.lock();
    let len = skb.len();
    if len <= COPY_WHOLE {
        if !tx.ready(1) {
            return Err(skb);
        }
        let copied = tx.area(len).is_some_and(|area| skb.flatten(area));
        if !copied || !tx.push_whole(len as u32, &offload) {
            tx.cancel();
        }
    } else {
        let mut need = pieces(nic.pool(), &skb);
        let flat = need > nic.max_pieces() && crowded(nic, &skb, &info);
        if flat {
            need = len.div_ceil(AREA) as u32;
        }
        if !tx.ready(need) {
            return Err(skb);
        }
        let pushed = if flat {
            push_copy(&mut tx, &skb, &offload)
        } else {
            push(nic.pool(), &mut tx, &skb, &offload)
        };
        if !pushed {
            tx.cancel();
        }
    }
    if !info.more {
        tx.doorbell();
    }
    Ok(())
}

/// What the NIC has to do for a packet; None for headers that are too long for it.
#[inline]
fn offload(info: &TxInfo) -> Option<Offload> {
    if !info.partial {
        return (info.gso_size == 0).then_some(Offload::None);
    }
    let l3 = u8::try_from(info.l3_offset).ok()?;
    let l4 = u8::try_from(info.csum_start).ok()?;
    let hdr_len = u8::try_from(info.header_len).ok()?;
    Some(if info.gso_size != 0 {
        Offload::Tso {
            v6: info.v6,
            l3,
            l4,
            hdr_len,
            mss: info.gso_size,
            payload: info.len.saturating_sub(info.header_len),
        }
    } else {
        Offload::Checksum {
            v6: info.v6,
            l3,
            l4,
            field: u8::try_from(info.csum_start + info.csum_offset).ok()?,
            hdr_len,
        }
    })
}

/// Whether a frame, which has more pieces than one on the wire may have, cannot be sent from where
/// it lies: it is one frame, or some segment of it would have too many.
///
/// One descriptor of a segment is its headers. If every n pieces in a row hold a segment's payload,
/// a segment touches at most n + 1.
#[cold]
fn crowded(nic: &Nic, skb: &Skb, info: &TxInfo) -> bool {
    let mss = u32::from(info.gso_size);
    let n = (nic.max_pieces() as usize).saturating_sub(2).min(WINDOW);
    if mss == 0 || n == 0 {
        return true;
    }
    let mut lens = [0u32; WINDOW];
    let (mut sum, mut count, mut short) = (0u32, 0usize, false);
    skb.walk(info.header_len as usize, skb.len(), &mut |piece| {
        let len = match piece {
            Piece::Linear(bytes) => bytes.len() as u32,
            Piece::Page(part) => part.len(),
        };
        if let Some(place) = count.checked_rem(n).and_then(|i| lens.get_mut(i)) {
            sum = sum.wrapping_sub(*place).wrapping_add(len);
            *place = len;
        }
        count += 1;
        short |= count >= n && sum < mss;
        len as usize
    });
    short
}

/// Whether a part of a page is sent from where it is.
fn in_place(pool: &Pool, part: &PagePart) -> Option<(u32, u32)> {
    pool.buf_at(part.page(), part.offset())
        .filter(|&(_, start)| {
            start
                .checked_add(part.len())
                .is_some_and(|end| end <= pool.buf_size())
        })
}

/// Pieces that a packet is sent in.
fn pieces(pool: &Pool, skb: &Skb) -> u32 {
    let mut n = 0;
    let areas = |len: usize| len.div_ceil(AREA) as u32;
    skb.walk(0, skb.len(), &mut |piece| match piece {
        Piece::Linear(bytes) => {
            n += areas(bytes.len());
            bytes.len()
        }
        Piece::Page(part) => {
            n += if in_place(pool, &part).is_some() {
                1
            } else {
                areas(part.len() as usize)
            };
            part.len() as usize
        }
    });
    n
}

/// Puts a copy of a packet into descriptors, as few as it takes. False, halfway, if the hardware
/// has stopped.
#[cold]
fn push_copy(tx: &mut TxQueue, skb: &Skb, offload: &Offload) -> bool {
    let total = skb.len();
    let mut at = 0;
    while at < total {
        let n = AREA.min(total - at);
        let copied = tx.area(n).is_some_and(|area| skb.copy_bits(at, area));
        at += n;
        if !copied || !tx.push_area(n as u32, at == total, offload) {
            return false;
        }
    }
    true
}

/// Puts a packet into descriptors. False, halfway, if the hardware has stopped.
fn push(pool: &Pool, tx: &mut TxQueue, skb: &Skb, offload: &Offload) -> bool {
    let total = skb.len();
    let mut at = 0;
    let done = skb.walk(0, total, &mut |piece| match piece {
        Piece::Linear(bytes) => {
            let mut done = 0;
            for chunk in bytes.chunks(AREA) {
                let Some(area) = tx.area(chunk.len()) else {
                    break;
                };
                area.copy_from_slice(chunk);
                at += chunk.len();
                if !tx.push_area(chunk.len() as u32, at == total, offload) {
                    break;
                }
                done += chunk.len();
            }
            done
        }
        Piece::Page(part) => {
            let len = part.len() as usize;
            if let Some((idx, start)) = in_place(pool, &part) {
                at += len;
                let last = at == total;
                if tx.push_page(part.page(), idx, start, part.len(), last, offload) {
                    len
                } else {
                    0
                }
            } else {
                let mut done = 0;
                while done < len {
                    let n = AREA.min(len - done);
                    let Some(area) = tx.area(n) else {
                        break;
                    };
                    part.copy_out(done as u32, area);
                    at += n;
                    if !tx.push_area(n as u32, at == total, offload) {
                        break;
                    }
                    done += n;
                }
                done
            }
        }
    });
    done == total
}
