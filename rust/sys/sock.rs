// SPDX-License-Identifier: GPL-2.0

//! TCP sockets of the application. [`Sock`] is a counted reference; what happens to the socket is
//! reported by a hook on it ([`super::hook`]).

use super::bh::BhGuard;
use super::bindings;
use super::hook::{self, Upcalls};
use super::page::BorrowedPage;
use crate::nmcore::Errno;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Parts of pages in one send; as many as a packet of the stack can hold.
pub(crate) const MAX_PARTS: usize = 16;

/// Parts of pages that make up one send.
pub(crate) struct Parts<'a> {
    parts: [bindings::bio_vec; MAX_PARTS],
    n: usize,
    _pages: PhantomData<BorrowedPage<'a>>,
}

impl<'a> Parts<'a> {
    /// None.
    pub(crate) fn new() -> Self {
        let none = bindings::bio_vec {
            bv_page: core::ptr::null_mut(),
            bv_len: 0,
            bv_offset: 0,
        };
        Self {
            parts: [none; MAX_PARTS],
            n: 0,
            _pages: PhantomData,
        }
    }

    /// Forgets all parts.
    pub(crate) fn clear(&mut self) {
        self.n = 0;
    }

    /// Appends `len` bytes at `offset` of a page. False if there are [`MAX_PARTS`] already.
    #[inline]
    pub(crate) fn push(&mut self, page: BorrowedPage<'a>, offset: u32, len: u32) -> bool {
        let Some(part) = self.parts.get_mut(self.n) else {
            return false;
        };
        *part = bindings::bio_vec {
            bv_page: page.as_ptr(),
            bv_len: len,
            bv_offset: offset,
        };
        self.n += 1;
        true
    }
}

const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;
const RCV_SHUTDOWN: u8 = 1;

/// ECONNABORTED.
const ECONNABORTED_NR: c_int = 103;

/// A counted reference to a TCP socket (IPv4 or IPv6).
///
/// # Invariants
///
/// The pointer is a `struct tcp_sock` of which one reference is held.
pub(crate) struct Sock(NonNull<bindings::sock>);

// SAFETY: sockets are shared between CPUs; all access is under their own locks.
unsafe impl Send for Sock {}
// SAFETY: as above.
unsafe impl Sync for Sock {}

impl Drop for Sock {
    fn drop(&mut self) {
        // SAFETY: by the invariant.
        unsafe { bindings::nms_sock_put(self.0.as_ptr()) };
    }
}

impl Sock {
    /// The socket of descriptor `fd` of the calling process.
    ///
    /// EBADF: not open. ENOTSOCK: not a socket. EPROTONOSUPPORT: not TCP over IPv4 or IPv6.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: process context; checks the descriptor itself.
        let sk = unsafe { bindings::nms_sock_from_fd(fd) };
        let sk = kernel::error::from_err_ptr(sk)?;
        // INVARIANT: the call gave us a reference.
        NonNull::new(sk).map(Self).ok_or(EINVAL)
    }

    /// Whether both are the same socket.
    pub(crate) fn is(&self, other: &Sock) -> bool {
        self.0 == other.0
    }

    /// Takes the socket's lock; may sleep.
    #[inline]
    pub(crate) fn lock(&self) -> LockedSock<'_> {
        // SAFETY: process context, no spin lock held (the lock order of netmap.rs).
        unsafe { bindings::nms_lock_sock(self.0.as_ptr()) };
        LockedSock {
            sock: self,
            bh: false,
        }
    }

    /// Takes the socket's lock as softirq code does: without sleeping, for reading only. None if
    /// a process holds it.
    #[inline]
    pub(crate) fn try_lock<'a>(&'a self, _bh: &'a BhGuard) -> Option<LockedSock<'a>> {
        // SAFETY: BH are off and stay so while the result lives.
        unsafe { bindings::nms_bh_lock_sock(self.0.as_ptr()) }.then_some(LockedSock {
            sock: self,
            bh: true,
        })
    }

    /// Whether anything is in the receive queue, without the lock.
    #[inline]
    pub(crate) fn has_data(&self) -> bool {
        // SAFETY: by the invariant.
        unsafe { bindings::nms_sock_readable(self.0.as_ptr()) }
    }

    #[inline]
    fn state(&self) -> u8 {
        // SAFETY: by the invariant; a byte that is read while others may write it.
        unsafe { core::ptr::read_volatile(&raw const (*self.0.as_ptr()).__sk_common.skc_state) }
    }

    /// Ends the connection with a reset; process context, the socket is not locked.
    pub(crate) fn abort(&self) {
        // SAFETY: by the invariant; the call takes the socket's lock.
        unsafe { bindings::tcp_abort(self.0.as_ptr(), ECONNABORTED_NR) };
    }

    /// Waits for connections.
    pub(crate) fn listening(&self) -> bool {
        self.state() == TCP_LISTEN
    }

    /// Connected, or on the way there.
    pub(crate) fn connected(&self) -> bool {
        matches!(
            self.state(),
            TCP_ESTABLISHED
                | TCP_SYN_SENT
                | TCP_SYN_RECV
                | TCP_CLOSE_WAIT
                | TCP_FIN_WAIT1
                | TCP_FIN_WAIT2
        )
    }

    /// The handshake is over and the connection may carry data.
    pub(crate) fn established(&self) -> bool {
        !matches!(self.state(), TCP_SYN_SENT | TCP_SYN_RECV)
    }
}

/// A socket found by its packet; see [`super::skb::Skb::demux`].
pub(crate) struct Known<'a> {
    sk: NonNull<bindings::sock>,
    _packet: PhantomData<&'a ()>,
}

impl<'a> Known<'a> {
    /// # Safety
    ///
    /// `sk` is a full TCP socket that lives for `'a`, and RCU is held.
    pub(super) unsafe fn new(sk: NonNull<bindings::sock>) -> Self {
        Self {
            sk,
            _packet: PhantomData,
        }
    }

    /// The object of the hook, if the socket has one of type `T`.
    #[inline]
    pub(crate) fn hooked<T: Upcalls>(&self) -> Option<&'a T> {
        // SAFETY: valid; RCU is held, and the object lives for a grace period after unhooking.
        unsafe { hook::user::<T>(self.sk.as_ptr()) }
    }

    /// What the socket sends goes to that transmit queue, as long as its route stays.
    #[inline]
    pub(crate) fn send_on(&self, queue: u32) {
        // SAFETY: valid.
        unsafe { bindings::nms_sock_send_on(self.sk.as_ptr(), queue) };
    }
}

/// The socket, locked.
pub(crate) struct LockedSock<'a> {
    sock: &'a Sock,
    /// By [`Sock::try_lock`].
    bh: bool,
}

impl Drop for LockedSock<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: locked by `Sock::lock` or `Sock::try_lock`.
        unsafe {
            if self.bh {
                bindings::nms_bh_unlock_sock(self.as_ptr());
            } else {
                bindings::nms_release_sock(self.as_ptr());
            }
        }
    }
}

impl LockedSock<'_> {
    #[inline]
    fn as_ptr(&self) -> *mut bindings::sock {
        self.sock.0.as_ptr()
    }

    /// Reads what is in order, giving it to `f` piece by piece until it takes less than it is offered,
    /// and moves the window. Returns the bytes taken.
    #[inline]
    pub(crate) fn read<F: FnMut(super::skb::Piece<'_>) -> usize>(&mut self, f: &mut F) -> usize {
        let mut offset = 0;
        // SAFETY: the socket is locked.
        let only = unsafe { bindings::nms_sock_only(self.as_ptr(), &mut offset) };
        if only.is_null() {
            return self.read_queue(f);
        }
        // SAFETY: the socket is locked, so the packet stays in its queue; nothing follows it there.
        unsafe {
            let len = (*only).len - offset;
            let taken = super::skb::walk(only, offset as usize, len as usize, f);
            if taken != 0 {
                bindings::tcp_read_done(self.as_ptr(), taken);
            }
            taken
        }
    }

    /// The same for any number of packets.
    fn read_queue<F: FnMut(super::skb::Piece<'_>) -> usize>(&mut self, f: &mut F) -> usize {
        let mut desc = bindings::read_descriptor_t {
            written: 0,
            count: 1,
            arg: bindings::read_descriptor_t__bindgen_ty_1 {
                data: core::ptr::from_mut(f).cast(),
            },
            error: 0,
        };
        // SAFETY: the socket is locked; `actor::<F>` gets the pointer to `f`, which outlives the call.
        let n = unsafe { bindings::tcp_read_sock(self.as_ptr(), &mut desc, Some(actor::<F>)) };
        usize::try_from(n).unwrap_or(0)
    }

    /// Sends the bytes of page parts, by reference if `splice`, without waiting. At most `room`
    /// bytes wait beyond the send buffer. Returns the bytes taken.
    ///
    /// EAGAIN: the queue is full (a `writable` upcall follows). EPIPE and others: not connected.
    #[inline]
    pub(crate) fn send(
        &mut self,
        parts: &mut Parts<'_>,
        bytes: usize,
        splice: bool,
        room: u32,
    ) -> Result<usize> {
        // SAFETY: the socket is locked; the parts refer to pages that the caller keeps.
        let n = unsafe {
            bindings::nms_sock_send(
                self.as_ptr(),
                parts.parts.as_mut_ptr(),
                parts.n as u32,
                bytes,
                splice,
                room.min(i32::MAX as u32) as i32,
            )
        };
        kernel::error::to_result(n.min(0))?;
        Ok(n as usize)
    }

    /// Whether the send queue has room, as poll() would report it. If not, a `writable` upcall
    /// follows when it has.
    pub(crate) fn room(&mut self) -> bool {
        // SAFETY: by the invariant of Sock; locked.
        unsafe { bindings::nms_sock_room(self.as_ptr()) }
    }

    /// The peer has closed its side, and everything before has been read.
    #[inline]
    pub(crate) fn at_end(&self) -> bool {
        // SAFETY: by the invariant of Sock.
        let down = unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).sk_shutdown) };
        down & RCV_SHUTDOWN != 0 && !self.sock.has_data()
    }

    /// The connection is dead: reset, timed out or aborted. One that both sides have closed, ours
    /// first, is closed as well, but has ended properly.
    #[inline]
    pub(crate) fn failed(&self) -> bool {
        // SAFETY: as above.
        let err = unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).sk_err) };
        if err != 0 {
            return true;
        }
        // SAFETY: as above.
        self.sock.state() == TCP_CLOSE && !unsafe { bindings::nms_sock_done(self.as_ptr()) }
    }

    /// Puts the hook on. The object is kept until the hook is off.
    ///
    /// EBUSY: already hooked. EOPNOTSUPP: the socket has another owner (kTLS, sockmap, RPC, ...).
    /// ENOTCONN: neither connected nor connecting.
    pub(crate) fn hook<T: Upcalls>(&mut self, object: Arc<T>) -> Result {
        if !self.sock.connected() {
            return Err(Errno::ENOTCONN.into());
        }
        // SAFETY: valid and locked.
        unsafe { hook::put_on(self.as_ptr(), object) }
    }

    /// Takes the hook off, if it is on: the socket is an ordinary one again. Returns the object.
    pub(crate) fn unhook<T: Upcalls>(&mut self) -> Option<Arc<T>> {
        // SAFETY: valid and locked.
        unsafe { hook::take_off(self.as_ptr()) }
    }
}

/// # Safety
///
/// Called by tcp_read_sock() for [`LockedSock::read`].
unsafe extern "C" fn actor<F: FnMut(super::skb::Piece<'_>) -> usize>(
    desc: *mut bindings::read_descriptor_t,
    skb: *mut bindings::sk_buff,
    offset: u32,
    len: usize,
) -> c_int {
    // SAFETY: called by tcp_read_sock with the descriptor of `read`, whose data is the closure.
    unsafe {
        if (*desc).count == 0 {
            return 0;
        }
        let f = &mut *(*desc).arg.data.cast::<F>();
        let taken = super::skb::walk(skb, offset as usize, len, f);
        if taken < len {
            (*desc).count = 0;
        }
        taken as c_int
    }
}
