// SPDX-License-Identifier: GPL-2.0

//! From the stack to a NIC's transmit queue: headers are copied into the descriptor's own kernel
//! memory, payload in pool pages is sent from there, everything else is copied. The packet is freed
//! at once; pages are held by the queue until the NIC has sent them.

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

/// Sends a packet on queue `q`. Gives it back if there is no room; the queue is stopped then.
pub(super) fn xmit(nic: &Nic, q: u32, skb: Skb) -> Result<(), Skb> {
    let Some(queue) = nic.tx(q) else {
        // No such queue: nothing could ever send it.
        return Ok(());
    };
    let Some(skb) = skb.vlan_pushed() else {
        return Ok(());
    };
    let info = skb.tx_info();
    let offload = offload(&info);
    let mut tx = queue.lock();
    let len = skb.len();
    if len <= COPY_WHOLE {
        if !tx.ready(1) {
            return Err(skb);
        }
        let copied = tx.area(len).is_some_and(|area| gather(&skb, &info, area));
        if !copied || !tx.push_area(len as u32, true, &offload) {
            tx.cancel();
        }
    } else {
        let need = pieces(nic.pool(), &skb);
        if !tx.ready(need) {
            return Err(skb);
        }
        if !push(nic.pool(), &mut tx, &skb, &offload) {
            tx.cancel();
        }
    }
    if !info.more {
        tx.doorbell();
    }
    Ok(())
}

/// What the NIC has to do for a packet.
fn offload(info: &TxInfo) -> Offload {
    if info.gso_size != 0 {
        Offload::Tso {
            v6: info.gso_v6,
            l3: info.l3_offset as u8,
            l4: info.csum_start as u8,
            hdr_len: info.header_len as u8,
            mss: info.gso_size,
            payload: info.len.saturating_sub(info.header_len),
        }
    } else if info.partial {
        Offload::Checksum {
            start: info.csum_start as u8,
            field: (info.csum_start + info.csum_offset) as u8,
        }
    } else {
        Offload::None
    }
}

/// Copies a whole small packet. False if it is not readable.
#[inline]
fn gather(skb: &Skb, info: &TxInfo, area: &mut [u8]) -> bool {
    let head = skb.head();
    let Some((first, rest)) = area.split_at_mut_checked(head.len()) else {
        return false;
    };
    first.copy_from_slice(head);
    if let Some(part) = skb.only_part(info) {
        return part.copy_out(0, rest) == rest.len();
    }
    rest.is_empty() || skb.copy_bits(head.len(), rest)
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
