// SPDX-License-Identifier: GPL-2.0

//! From transmit slots to TCP: consecutive slots of one socket become one send of page parts. The
//! slot gets a free buffer back at once, the sent one stays lent until TCP and the NIC are done.
//!
//! When the pool runs low the bytes are copied instead, so that slow peers cannot use it up. What
//! a socket does not take is handed back, marked unsent: it never blocks the slots of others.

#![deny(unsafe_code)]

use super::ring::Ring;
use super::socket::{Socket, DEAD, HELD, WANT_WRITE};
use crate::adapter::kring::{warn_slot, Kring, KringState};
use crate::adapter::Port;
use crate::mem::Pool;
use crate::nmcore::abi::{
    Slot, NR_PST_UNSENT, NS_BUF_CHANGED, NS_PST_HOLD, NS_PST_KEEP, NS_PST_RESUME, NS_PST_UNSENT,
};
use crate::nmcore::slot::{tx_payload, SlotPtr};
use crate::sys::bh::BhGuard;
use crate::sys::sock::{Parts, MAX_PARTS};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes that a socket takes beyond its send buffer: the bounded queue of a slow peer.
const ROOM: u32 = 256 * 1024;

/// Runs up to this many bytes are copied: dearer to lend than to copy.
const COPY_BREAK: usize = 256;

/// Consecutive slots of one socket.
struct Run<'a> {
    fd: i32,
    first: u32,
    n: usize,
    bytes: usize,
    /// All flags of its slots.
    flags: u16,
    slots: [Slot; MAX_PARTS],
    lens: [u32; MAX_PARTS],
    parts: Parts<'a>,
    /// Its bytes are sent from where they lie, not copied; then each slot whose buffer is lent has
    /// another one here. 0 elsewhere.
    splice: bool,
    spare: [u32; MAX_PARTS],
}

/// Sends the slots up to `head`.
///
/// EFAULT: a slot names a buffer that is not the application's. EINVAL: data outside its buffer.
pub(super) fn sync(
    rings: &[Arc<Ring>],
    port: &Port,
    kring: &Kring,
    st: &mut KringState,
    head: u32,
) -> Result {
    if st.cursor.hwcur() == head {
        return Ok(());
    }
    let mut tx = Tx {
        rings,
        port,
        kring,
        st,
        socket: None,
    };
    let mut run = Run {
        fd: -1,
        first: 0,
        n: 0,
        bytes: 0,
        flags: 0,
        slots: [Slot::default(); MAX_PARTS],
        lens: [0; MAX_PARTS],
        parts: Parts::new(),
        splice: false,
        spare: [0; MAX_PARTS],
    };
    let mut i = tx.st.cursor.hwcur();
    let mut result = Ok(());
    while i != head && result.is_ok() {
        run.n = 0;
        while i != head {
            match tx.add(&mut run, i) {
                Ok(true) => i = tx.st.cursor.next(i),
                // Another socket, or the run is long enough.
                Ok(false) => break,
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        if run.n != 0 {
            tx.send(&mut run);
        }
    }
    result
}

struct Tx<'a> {
    rings: &'a [Arc<Ring>],
    port: &'a Port,
    kring: &'a Kring,
    st: &'a mut KringState,
    /// The socket used last.
    socket: Option<Arc<Socket>>,
}

impl<'a> Tx<'a> {
    /// Adds slot `i` to the run; false if it does not belong there, and nothing has changed.
    fn add(&mut self, run: &mut Run<'a>, i: u32) -> Result<bool> {
        if run.n == MAX_PARTS {
            return Ok(false);
        }
        // Peeked at to decide; what counts is the copy that take_slot makes.
        if run.n != 0 && SlotPtr::unpack(self.kring.mem.slot(i).ptr).fd != run.fd {
            return Ok(false);
        }
        let slot = self.st.take_slot(&self.kring.mem, i).ok_or(EFAULT)?;
        let payload = tx_payload(slot.len, slot.ptr, self.port.pool.buf_size())
            .ok()
            .filter(|p| run.n == 0 || p.fd == run.fd);
        let port: &'a Port = self.port;
        let page = port.pool.buf_page(slot.buf_idx);
        let (Some(payload), Some((page, offset))) = (payload, page) else {
            // Back to the application as it is; the ring stops here.
            warn_slot(i, fmt!("data outside its buffer, or no socket"));
            self.st.give_slot(&self.kring.mem, i, slot.buf_idx, slot);
            return Err(EINVAL);
        };
        if run.n == 0 {
            run.fd = payload.fd;
            run.first = i;
            run.bytes = 0;
            run.flags = 0;
            run.parts.clear();
        }
        if let (Some(s), Some(l)) = (run.slots.get_mut(run.n), run.lens.get_mut(run.n)) {
            *s = slot;
            *l = payload.len;
        }
        if payload.len != 0 {
            run.parts.push(page, offset + payload.start, payload.len);
        }
        run.bytes += payload.len as usize;
        run.flags |= slot.flags;
        run.n += 1;
        Ok(true)
    }

    /// The socket of descriptor `fd`: of this ring, or else of another one of the port.
    fn find(&mut self, fd: i32) -> Option<&Arc<Socket>> {
        if self.socket.as_ref().is_none_or(|s| s.fd != fd) {
            let own = self.rings.get(usize::from(self.kring.id));
            self.socket = own
                .and_then(|r| r.socket(fd))
                .or_else(|| self.rings.iter().find_map(|r| r.socket(fd)));
        }
        self.socket.as_ref()
    }

    /// Sends a run and gives its slots back to the application.
    fn send(&mut self, run: &mut Run<'a>) {
        run.splice = run.bytes > COPY_BREAK && self.reserve(run);
        let (bytes, splice) = (run.bytes, run.splice);
        if run.flags & (NS_PST_HOLD | NS_PST_RESUME) != 0 {
            self.hold(run);
        }
        // The bytes taken. A closed or dead socket takes everything: there is nobody to send to, and
        // the application hears of it by itself.
        let taken = match self.find(run.fd) {
            Some(_) if bytes == 0 => 0,
            // It was full before in this sync, or the application has not seen yet that it was.
            Some(socket) if socket.has(WANT_WRITE) => 0,
            Some(socket) => push(socket, &mut run.parts, bytes, splice),
            None => bytes,
        };
        if taken < bytes {
            // The rest of its slots comes back until it has room.
            self.kring.mem.or_flags(NR_PST_UNSENT);
        }
        if splice || taken < bytes {
            self.give_back(run, taken);
        } else {
            self.give_same(run);
        }
        // n is at most MAX_PARTS. What was taken is sent, so both ends of the kernel's part move.
        let n = run.n as u32;
        let _ = self.st.cursor.take(n) && self.st.cursor.give(n);
    }

    /// Holds the socket's data back, or lets it come again, as the slots of the run say.
    #[cold]
    fn hold(&mut self, run: &Run<'_>) {
        let Some(socket) = self.find(run.fd) else {
            return;
        };
        for slot in run.slots.iter().take(run.n) {
            if slot.flags & NS_PST_HOLD != 0 {
                socket.set(HELD);
            }
            if slot.flags & NS_PST_RESUME != 0 {
                socket.clear(HELD);
                socket.ring.make_ready(socket.as_arc_borrow());
            }
        }
    }

    /// Finds a free buffer for every slot whose buffer will be lent. False: bytes are copied.
    fn reserve(&mut self, run: &mut Run<'_>) -> bool {
        let _bh = BhGuard::new();
        if self.st.cache.low() {
            return false;
        }
        let mut short = false;
        for (slot, spare) in run.slots.iter().zip(run.spare.iter_mut()).take(run.n) {
            if slot.flags & NS_PST_KEEP == 0 {
                match self.st.cache.get_held() {
                    Some(idx) => *spare = idx,
                    None => {
                        short = true;
                        break;
                    }
                }
            }
        }
        if short {
            self.put_spare(run);
        }
        !short
    }

    /// Frees the buffers that were found in vain.
    fn put_spare(&mut self, run: &mut Run<'_>) {
        let _bh = BhGuard::new();
        for idx in run.spare.iter_mut().filter(|idx| **idx != 0) {
            self.st.cache.put(core::mem::take(idx));
        }
    }

    /// Returns the slots of a run whose bytes the socket has copied, all of them: with their buffers.
    fn give_same(&mut self, run: &Run<'_>) {
        let mut i = run.first;
        for slot in run.slots.iter().take(run.n) {
            self.st
                .give_slot(&self.kring.mem, i, slot.buf_idx, emptied(slot));
            i = self.st.cursor.next(i);
        }
    }

    /// Returns the slots of a run, of whose bytes the socket took `taken`.
    fn give_back(&mut self, run: &mut Run<'_>, mut taken: usize) {
        let mut i = run.first;
        let all = taken >= run.bytes;
        for ((slot, &len), spare) in run
            .slots
            .iter()
            .zip(run.lens.iter())
            .zip(run.spare.iter_mut())
            .take(run.n)
        {
            let len = len as usize;
            if all || taken >= len && taken != 0 {
                taken = taken.saturating_sub(len);
                let mut slot_back = emptied(slot);
                let mut idx = slot.buf_idx;
                if *spare != 0 {
                    self.st.lend_slot(i);
                    slot_back.flags = NS_BUF_CHANGED;
                    idx = core::mem::take(spare);
                }
                self.st.give_slot(&self.kring.mem, i, idx, slot_back);
            } else {
                self.give_unsent(i, *slot, taken, run.splice, spare);
                taken = 0;
            }
            i = self.st.cursor.next(i);
        }
        self.put_spare(run);
    }

    /// Returns slot `i` with what was not sent of it: all, or what follows the first `taken` bytes.
    fn give_unsent(&mut self, i: u32, slot: Slot, taken: usize, splice: bool, spare: &mut u32) {
        let flags = (slot.flags & NS_PST_KEEP) | NS_PST_UNSENT;
        let idx = slot.buf_idx;
        let whole = Slot { flags, ..slot };
        if taken == 0 {
            self.st.give_slot(&self.kring.mem, i, idx, whole);
            return;
        }
        // TCP was short of memory in the middle of a slot. The rest moves to the start: of this buffer
        // if it was copied, else of another one, as TCP refers to this one or its owner keeps it.
        let at = SlotPtr::unpack(slot.ptr);
        let start = u32::from(at.offset) + u32::from(at.doff);
        let rest = u32::from(slot.len).saturating_sub(u32::from(at.doff) + taken as u32);
        let other = if !splice && slot.flags & NS_PST_KEEP == 0 {
            Some(idx)
        } else if *spare != 0 {
            Some(*spare)
        } else {
            let _bh = BhGuard::new();
            self.st.cache.get_held()
        };
        let moved = other.filter(|&new| {
            move_bytes(
                &self.port.pool,
                (idx, start + taken as u32),
                (new, start),
                rest,
            )
        });
        let Some(new) = moved else {
            // Nowhere to keep the rest: the connection cannot go on. This may sleep.
            if let Some(socket) = self.socket.as_ref() {
                socket.sock.abort();
            }
            self.st.give_slot(
                &self.kring.mem,
                i,
                idx,
                Slot {
                    len: 0,
                    flags: 0,
                    ..slot
                },
            );
            return;
        };
        *spare = 0;
        let _bh = BhGuard::new();
        if slot.flags & NS_PST_KEEP == 0 && splice {
            self.st.lend_slot(i);
        }
        let len = (u32::from(at.doff) + rest) as u16;
        let changed = if new == idx { 0 } else { NS_BUF_CHANGED };
        let moved = Slot {
            len,
            flags: flags | changed,
            ..slot
        };
        self.st.give_slot(&self.kring.mem, i, new, moved);
    }
}

/// A slot that was sent.
fn emptied(slot: &Slot) -> Slot {
    Slot {
        buf_idx: 0,
        len: 0,
        flags: 0,
        ptr: slot.ptr,
    }
}

/// Gives bytes to a socket; returns how many it took. If not all, it wants to be told of room.
fn push(socket: &Arc<Socket>, parts: &mut Parts<'_>, bytes: usize, splice: bool) -> usize {
    let mut sock = socket.sock.lock();
    // Once closed it must not be touched: its struct socket is gone.
    if socket.has(DEAD) {
        return bytes;
    }
    let taken = match sock.send(parts, bytes, splice, ROOM) {
        Ok(n) => n,
        Err(e) if e == EAGAIN => 0,
        Err(_) => return bytes,
    };
    if taken < bytes {
        // Under the lock: what the peer acknowledges from here on calls `writable` with the flag set.
        socket.set(WANT_WRITE);
        if socket.sock.established() && sock.room() {
            socket.ring.make_ready(socket.as_arc_borrow());
        }
    }
    taken
}

/// Copies `len` bytes from one buffer (index, offset) to another. False if they do not fit.
fn move_bytes(pool: &Pool, from: (u32, u32), to: (u32, u32), len: u32) -> bool {
    let mut chunk = [0u8; 256];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(chunk.len() as u32);
        let Some(bytes) = chunk.get_mut(..n as usize) else {
            return false;
        };
        if !pool.copy_out(from.0, from.1 + done, bytes) || !pool.copy_in(to.0, to.1 + done, bytes) {
            return false;
        }
        done += n;
    }
    true
}
