// SPDX-License-Identifier: GPL-2.0

//! From ready sockets to receive slots: what TCP has put in order is handed to the application in
//! the buffers the NIC wrote, and what is in other memory is copied. Data that finds no free slot
//! stays in its socket, so that the peer's window closes.

#![deny(unsafe_code)]

use super::ring::Ring;
use super::socket::{Socket, DEAD, ERR_TOLD, FIN_TOLD, HELD, WANT_WRITE};
use crate::adapter::kring::{Kring, KringState};
use crate::adapter::Port;
use crate::nmcore::abi::{Slot, NS_BUF_CHANGED, NS_PST_ERR, NS_PST_FIN, NS_PST_WRITABLE};
use crate::nmcore::slot::{event_slot, rx_slot};
use crate::sys::bh::BhGuard;
use crate::sys::skb::Piece;
use crate::sys::sock::LockedSock;
use kernel::prelude::*;

/// Where copied data begins in a buffer: behind room for the headers of a frame, as in a buffer
/// that a NIC wrote.
const COPY_START: u32 = 66;

/// Lent buffers looked at for their return in a sync, beyond two for each slot filled.
const RECLAIM: u32 = 2;

/// Sockets after which softirqs may run.
const BH_TURNS: u32 = 64;

/// Takes the slots that the application has released, up to `head`.
///
/// EFAULT: a slot names a buffer that is not the application's.
pub(super) fn release(kring: &Kring, st: &mut KringState, head: u32) -> Result {
    let i = st.cursor.hwcur();
    if i == head {
        return Ok(());
    }
    let _bh = BhGuard::new();
    let mut i = i;
    while i != head {
        if st.take_slot(&kring.mem, i).is_none() {
            return Err(EFAULT);
        }
        i = st.cursor.next(i);
        if !st.cursor.take(1) {
            return Err(EINVAL);
        }
    }
    Ok(())
}

/// Fills slots from the sockets of the ready list, each socket's data in one run.
pub(super) fn drain(ring: &Ring, port: &Port, kring: &Kring, st: &mut KringState) {
    let mut fill = Fill {
        port,
        kring,
        st,
        full: false,
        filled: 0,
    };
    let mut bh = BhGuard::new();
    let mut turns = 0u32;
    loop {
        let mut list = ring.take_ready();
        if list.is_empty() {
            break;
        }
        while !fill.full {
            // Once popped the socket may be linked again: what arrives from now on is not missed.
            let Some(socket) = list.pop() else {
                break;
            };
            let locked = match socket.sock.try_lock(&bh) {
                Some(mut sock) => {
                    fill.socket(&socket, &mut sock);
                    true
                }
                None => false,
            };
            if !locked {
                // A system call is at it: wait for its end. Unlocking may sleep, too.
                drop(bh);
                let mut sock = socket.sock.lock();
                {
                    let _bh = BhGuard::new();
                    fill.socket(&socket, &mut sock);
                }
                drop(sock);
                bh = BhGuard::new();
            }
            turns += 1;
            if turns % BH_TURNS == 0 {
                drop(bh);
                bh = BhGuard::new();
            }
            if fill.full {
                // It may have more, and is looked at again, after the others.
                ring.make_ready(socket.as_arc_borrow());
            }
        }
        if fill.full {
            ring.put_back(list);
            break;
        }
    }
    let filled = fill.filled;
    st.cache.reclaim(2 * filled + RECLAIM);
}

/// Fills slots from `hwtail` on.
struct Fill<'a> {
    port: &'a Port,
    kring: &'a Kring,
    st: &'a mut KringState,
    /// No slot or no buffer is left.
    full: bool,
    filled: u32,
}

impl Fill<'_> {
    /// Everything that a socket has to say.
    fn socket(&mut self, socket: &Socket, sock: &mut LockedSock<'_>) {
        let fd = socket.fd;
        if socket.has(DEAD) {
            return;
        }
        if socket.has(WANT_WRITE) && socket.sock.established() && sock.room() {
            socket.clear(WANT_WRITE);
            if !self.event(fd, NS_PST_WRITABLE) {
                socket.set(WANT_WRITE);
            }
        }
        // Who waits for room to answer gets no more to answer: so the window of a peer that sends
        // and does not read closes, as it would if the application stopped reading a socket.
        if !socket.has(WANT_WRITE | HELD) && socket.sock.has_data() {
            sock.read(&mut |piece| self.piece(fd, piece));
        }
        // These come after the data, and only if all data found room.
        if !self.full && sock.failed() {
            if socket.set(ERR_TOLD) && !self.event(fd, NS_PST_ERR) {
                socket.clear(ERR_TOLD);
            }
        } else if !self.full && sock.at_end() && socket.set(FIN_TOLD) && !self.event(fd, NS_PST_FIN)
        {
            socket.clear(FIN_TOLD);
        }
    }

    /// The slot to fill next.
    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.st.cursor.room() == 0 {
            self.full = true;
            return None;
        }
        Some(self.st.cursor.hwtail())
    }

    /// Hands slot `i` with buffer `idx` to the application.
    #[inline]
    fn give(&mut self, i: u32, idx: u32, len: u16, ptr: u64, flags: u16) -> bool {
        let slot = Slot {
            buf_idx: idx,
            len,
            flags,
            ptr,
        };
        if !self.st.give_slot(&self.kring.mem, i, idx, slot) {
            return false;
        }
        self.filled += 1;
        self.st.cursor.give(1)
    }

    /// The buffer that waits in slot `i`, if nobody else refers to it, or a free one.
    fn own_buffer(&mut self, i: u32) -> Option<u32> {
        let own = self.st.held(i).filter(|&own| self.port.pool.idle(own));
        let idx = own.or_else(|| self.st.cache.get_held());
        if idx.is_none() {
            self.full = true;
        }
        idx
    }

    /// A slot without payload.
    fn event(&mut self, fd: i32, flags: u16) -> bool {
        let Some(i) = self.next() else {
            return false;
        };
        let idx = self.st.held(i).or_else(|| self.own_buffer(i));
        let slot = event_slot(fd);
        idx.is_some_and(|idx| self.give(i, idx, slot.len, slot.ptr, NS_BUF_CHANGED | flags))
    }

    /// One piece of a socket's data; returns the bytes that found room.
    #[inline]
    fn piece(&mut self, fd: i32, piece: Piece<'_>) -> usize {
        if let Piece::Page(part) = &piece {
            if let Some((idx, start)) = self.port.pool.buf_at(part.page(), part.offset()) {
                let inside = start
                    .checked_add(part.len())
                    .is_some_and(|e| e <= self.port.pool.buf_size());
                if let Some(slot) = rx_slot(fd, start, part.len()).filter(|_| inside) {
                    let Some(i) = self.next() else {
                        return 0;
                    };
                    // Refused if the buffer is the application's already: it sent this itself, over
                    // the loopback, and keeps it. Then it gets a copy.
                    if self.give(i, idx, slot.len, slot.ptr, NS_BUF_CHANGED) {
                        return part.len() as usize;
                    }
                }
            }
        }
        self.copy(fd, &piece)
    }

    /// Copies a piece into as many slots as it takes.
    fn copy(&mut self, fd: i32, piece: &Piece<'_>) -> usize {
        let total = match piece {
            Piece::Linear(bytes) => bytes.len(),
            Piece::Page(part) => part.len() as usize,
        };
        let each = self.port.pool.buf_size().saturating_sub(COPY_START) as usize;
        let mut done = 0;
        while done < total {
            let n = each.min(total - done);
            let Some(i) = self.next() else {
                break;
            };
            let Some(idx) = self.own_buffer(i) else {
                break;
            };
            let copied = match piece {
                Piece::Linear(bytes) => bytes
                    .get(done..done + n)
                    .is_some_and(|b| self.port.pool.copy_in(idx, COPY_START, b)),
                Piece::Page(part) => {
                    part.copy_to(done as u32, n as u32, &self.port.pool, idx, COPY_START)
                }
            };
            let slot = rx_slot(fd, COPY_START, n as u32).filter(|_| copied);
            let given =
                slot.is_some_and(|slot| self.give(i, idx, slot.len, slot.ptr, NS_BUF_CHANGED));
            if !given {
                if self.st.held(i) != Some(idx) {
                    self.st.cache.put(idx);
                }
                self.full = true;
                break;
            }
            done += n;
        }
        done
    }
}
