// SPDX-License-Identifier: GPL-2.0

//! TCP sockets of the application, and the hooks by which they report to a stack port.
//!
//! Lifetime. [`Sock`] is a counted reference. A hooked socket's `sk_user_data` owns one reference
//! of the hook's object `T`; it is given back an RCU grace period after the hook has been taken
//! off, because error reports may run without the socket lock. The hook comes off when the
//! application closes or disconnects the socket (we override these two of its `struct proto`) or
//! when the port goes. While it is on, the socket counts as having an upper layer protocol: no
//! kTLS, no sockmap, no listen(), and it holds the module.

use super::bh::BhGuard;
use super::bindings;
use super::page::BorrowedPage;
use crate::nmcore::Errno;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use kernel::ffi::{c_int, c_long, c_void};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

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

/// What a hooked socket reports. The first four may run in softirq context with the socket's lock
/// held: they must only take note.
pub(crate) trait Upcalls: Send + Sync + 'static {
    /// The hook inside this object.
    fn hook(&self) -> &Hook;
    /// Data or a FIN has arrived.
    fn readable(this: ArcBorrow<'_, Self>);
    /// State or error has changed.
    fn changed(this: ArcBorrow<'_, Self>);
    /// There is room in the send queue again.
    fn writable(this: ArcBorrow<'_, Self>);
    /// The application closes or disconnects the socket; the hook is off. Process context.
    fn closing(this: ArcBorrow<'_, Self>);
}

/// The part of a hooked object that the hook needs; about 80 bytes.
pub(crate) struct Hook(UnsafeCell<HookInner>);

#[repr(C)]
struct HookInner {
    rcu: bindings::callback_head,
    owner: *const c_void,
    saved: Option<Saved>,
}

#[derive(Clone, Copy)]
struct Saved {
    prot: *mut bindings::proto,
    data_ready: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    state_change: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    write_space: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    error_report: Option<unsafe extern "C" fn(*mut bindings::sock)>,
}

// SAFETY: written only while the socket is locked and the hook is not visible to upcalls, or by
// the RCU callback that is the last user.
unsafe impl Send for Hook {}
// SAFETY: as above.
unsafe impl Sync for Hook {}

impl Hook {
    /// A hook that is not on.
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(HookInner {
            rcu: bindings::callback_head::default(),
            owner: core::ptr::null(),
            saved: None,
        }))
    }
}

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

    /// Whether the send queue has room, as poll() would report it.
    pub(crate) fn writeable(&self) -> bool {
        // SAFETY: by the invariant.
        unsafe { bindings::nms_sock_writeable(self.0.as_ptr()) }
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
        unsafe { user::<T>(self.sk.as_ptr()) }
    }
}

/// The hook object of a socket; null data or other owners give None.
///
/// # Safety
///
/// `sk` is valid; the caller holds RCU or the socket's lock for `'a`.
#[inline]
unsafe fn user<'a, T: Upcalls>(sk: *mut bindings::sock) -> Option<&'a T> {
    let ours: unsafe extern "C" fn(*mut bindings::sock) = data_ready::<T>;
    // SAFETY: as the caller promises. The callback tells whose the user data is: both are set
    // together, and while ours is in place nobody else sets user data.
    unsafe {
        let ready = core::ptr::read_volatile(&raw const (*sk).sk_data_ready);
        if ready.map(|f| f as usize) != Some(ours as usize) {
            return None;
        }
        let data = bindings::nms_sock_user_data(sk) as usize & !7;
        (data as *const T).as_ref()
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

    /// The peer has closed its side, and everything before has been read.
    #[inline]
    pub(crate) fn at_end(&self) -> bool {
        // SAFETY: by the invariant of Sock.
        let down = unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).sk_shutdown) };
        down & RCV_SHUTDOWN != 0 && !self.sock.has_data()
    }

    /// The connection is dead: reset, timed out or aborted.
    #[inline]
    pub(crate) fn failed(&self) -> bool {
        // SAFETY: as above.
        let err = unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).sk_err) };
        err != 0 || self.sock.state() == TCP_CLOSE
    }

    /// Puts the hook on. The object is kept until the hook is off.
    ///
    /// EBUSY: already hooked. EOPNOTSUPP: the socket has another owner (kTLS, sockmap, RPC, ...).
    /// ENOTCONN: neither connected nor connecting.
    pub(crate) fn hook<T: Upcalls>(&mut self, object: Arc<T>) -> Result {
        let sk = self.as_ptr();
        if !self.sock.connected() {
            return Err(Errno::ENOTCONN.into());
        }
        // SAFETY: the socket is valid and locked, so are its fields; the callbacks are replaced
        // under the callback lock, as every user of them does.
        unsafe {
            if user::<T>(sk).is_some() {
                return Err(EBUSY);
            }
            if !bindings::nms_sock_ulp(sk).is_null() || !bindings::nms_sock_plain_tcp(sk) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            let prot = proto_for::<T>((*sk).__sk_common.skc_prot)?;
            if !bindings::try_module_get(this_module()) {
                return Err(ENODEV);
            }
            bindings::nms_callbacks_lock(sk);
            if !bindings::nms_sock_user_data(sk).is_null() {
                bindings::nms_callbacks_unlock(sk);
                bindings::module_put(this_module());
                return Err(Errno::EOPNOTSUPP.into());
            }
            let inner = &mut *object.hook().0.get();
            inner.owner = Arc::as_ptr(&object).cast();
            inner.saved = Some(Saved {
                prot: (*sk).__sk_common.skc_prot,
                data_ready: (*sk).sk_data_ready,
                state_change: (*sk).sk_state_change,
                write_space: (*sk).sk_write_space,
                error_report: (*sk).sk_error_report,
            });
            bindings::nms_sock_set_user_data(sk, Arc::into_raw(object).cast_mut().cast());
            set(&raw mut (*sk).sk_state_change, Some(state_change::<T>));
            set(&raw mut (*sk).sk_write_space, Some(write_space::<T>));
            set(&raw mut (*sk).sk_error_report, Some(error_report::<T>));
            set(&raw mut (*sk).sk_data_ready, Some(data_ready::<T>));
            set(&raw mut (*sk).__sk_common.skc_prot, prot);
            bindings::nms_sock_set_ulp(sk, &raw const ULP.0);
            bindings::nms_callbacks_unlock(sk);
            bindings::nms_sock_shorten(sk);
        }
        Ok(())
    }

    /// Takes the hook off, if it is on: the socket is an ordinary one again. Returns the object.
    pub(crate) fn unhook<T: Upcalls>(&mut self) -> Option<Arc<T>> {
        // SAFETY: valid and locked.
        unsafe { unhook(self.as_ptr()) }
    }
}

/// Writes a pointer that others read without the lock.
///
/// # Safety
///
/// `p` is valid for writes.
unsafe fn set<V>(p: *mut V, v: V) {
    // SAFETY: as the caller promises.
    unsafe { core::ptr::write_volatile(p, v) };
}

/// # Safety
///
/// `sk` is valid and locked by the caller.
unsafe fn unhook<T: Upcalls>(sk: *mut bindings::sock) -> Option<Arc<T>> {
    // SAFETY: as the caller promises; see `hook`.
    unsafe {
        let object = core::ptr::from_ref(user::<T>(sk)?);
        bindings::nms_callbacks_lock(sk);
        let inner = &mut *(*object).hook().0.get();
        if let Some(saved) = inner.saved {
            set(&raw mut (*sk).sk_data_ready, saved.data_ready);
            set(&raw mut (*sk).sk_state_change, saved.state_change);
            set(&raw mut (*sk).sk_write_space, saved.write_space);
            set(&raw mut (*sk).sk_error_report, saved.error_report);
            set(&raw mut (*sk).__sk_common.skc_prot, saved.prot);
        }
        bindings::nms_sock_set_user_data(sk, core::ptr::null_mut());
        bindings::nms_sock_set_ulp(sk, core::ptr::null());
        bindings::nms_sock_lengthen(sk);
        bindings::nms_callbacks_unlock(sk);
        // One reference for the caller; the one of sk_user_data goes after a grace period, with
        // the module's, as upcalls without the lock may still use both.
        let arc = Arc::from(ArcBorrow::from_raw(object));
        bindings::nms_call_rcu(&raw mut inner.rcu, Some(release::<T>));
        bindings::module_put(this_module());
        Some(arc)
    }
}

/// Gives back the reference that `sk_user_data` held.
///
/// # Safety
///
/// RCU callback of a [`HookInner`] that [`unhook`] took off a socket.
unsafe extern "C" fn release<T: Upcalls>(head: *mut bindings::callback_head) {
    // SAFETY: `head` is the `rcu` field, the first one, of a HookInner whose owner was set by `hook`.
    unsafe {
        let inner = head.cast::<HookInner>();
        drop(Arc::from_raw((*inner).owner.cast::<T>()));
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
        // With the last packet, too: nothing can follow it while the socket is locked.
        if taken < len || bindings::nms_skb_is_last(skb) {
            (*desc).count = 0;
        }
        taken as c_int
    }
}

/// # Safety
///
/// A callback of a socket.
unsafe extern "C" fn data_ready<T: Upcalls>(sk: *mut bindings::sock) {
    let _rcu = kernel::sync::rcu::read_lock();
    // SAFETY: RCU is held, the socket is valid in its own callback.
    if let Some(object) = unsafe { user::<T>(sk) } {
        // SAFETY: objects of hooks are in an Arc that lives for the grace period.
        T::readable(unsafe { ArcBorrow::from_raw(object) });
    }
}

/// Defines an upcall that also runs the socket's own callback, so that poll() and blocking calls
/// on the socket itself go on working.
macro_rules! upcall {
    ($name:ident, $saved:ident, $method:ident) => {
        /// # Safety
        ///
        /// A callback of a socket.
        unsafe extern "C" fn $name<T: Upcalls>(sk: *mut bindings::sock) {
            let _rcu = kernel::sync::rcu::read_lock();
            // SAFETY: as in `data_ready`; `saved` is set before the object is reachable and never
            // changes until it is released.
            unsafe {
                if let Some(object) = user::<T>(sk) {
                    if let Some(f) = (*object.hook().0.get()).saved.and_then(|s| s.$saved) {
                        f(sk);
                    }
                    T::$method(ArcBorrow::from_raw(object));
                }
            }
        }
    };
}
upcall!(state_change, state_change, changed);
upcall!(write_space, write_space, writable);
upcall!(error_report, error_report, changed);

/// Calls of `close` that are under way; see [`Hooks`].
static CLOSING: AtomicU32 = AtomicU32::new(0);

/// The application closes the socket.
///
/// # Safety
///
/// An operation of the proto of a socket.
unsafe extern "C" fn close<T: Upcalls>(sk: *mut bindings::sock, timeout: c_long) {
    CLOSING.fetch_add(1, Ordering::AcqRel);
    // SAFETY: the socket is valid and unlocked. After unhooking, its proto is the original one.
    unsafe {
        bindings::nms_lock_sock(sk);
        let object = unhook::<T>(sk);
        let prot = (*sk).__sk_common.skc_prot;
        bindings::nms_release_sock(sk);
        if let Some(object) = object {
            T::closing(object.as_arc_borrow());
        }
        if let Some(close) = (*prot).close {
            close(sk, timeout);
        }
    }
    CLOSING.fetch_sub(1, Ordering::AcqRel);
}

/// connect() with AF_UNSPEC, or shutdown() while connecting.
///
/// # Safety
///
/// An operation of the proto of a socket, which is locked.
unsafe extern "C" fn disconnect<T: Upcalls>(sk: *mut bindings::sock, flags: c_int) -> c_int {
    // SAFETY: valid and locked; as in `close`.
    unsafe {
        let object = unhook::<T>(sk);
        let prot = (*sk).__sk_common.skc_prot;
        if let Some(object) = object {
            T::closing(object.as_arc_borrow());
        }
        match (*prot).disconnect {
            Some(f) => f(sk, flags),
            None => 0,
        }
    }
}

/// That sockets can be hooked; lives as long as the module. Dropped when no socket is hooked any
/// more, it waits until no code of this file runs that a rmmod could pull away.
pub(crate) struct Hooks(());

impl Hooks {
    /// To be called once, by module init.
    pub(crate) fn init() -> Self {
        // SAFETY: called once, before anything can lock it.
        unsafe { PROTO_LOCK.init() };
        Self(())
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        // SAFETY: process context. A task preempted between loading our `close` and entering it
        // holds no count: synchronize_rcu_tasks() waits until it has switched voluntarily.
        unsafe {
            bindings::synchronize_rcu_tasks();
            while CLOSING.load(Ordering::Acquire) != 0 {
                bindings::synchronize_rcu();
            }
            bindings::synchronize_rcu_tasks();
            bindings::rcu_barrier();
        }
    }
}

struct Ulp(bindings::tcp_ulp_ops);
// SAFETY: never changed.
unsafe impl Sync for Ulp {}

/// Marks hooked sockets as taken. Not registered: it cannot be asked for by setsockopt().
static ULP: Ulp = Ulp({
    // SAFETY: all-zero is a value of this C struct of pointers and bytes.
    let mut ops: bindings::tcp_ulp_ops = unsafe { MaybeUninit::zeroed().assume_init() };
    let name = b"netmap";
    let mut i = 0;
    while i < name.len() {
        ops.name[i] = name[i];
        i += 1;
    }
    ops
});

fn this_module() -> *mut bindings::module {
    // SAFETY: no preconditions.
    unsafe { bindings::nms_this_module() }
}

/// Copies of `tcp_prot` and `tcpv6_prot` with our `close` and `disconnect`.
struct Protos(
    [UnsafeCell<MaybeUninit<bindings::proto>>; 2],
    [AtomicPtr<bindings::proto>; 2],
);
// SAFETY: written once under PROTO_LOCK before the pointer is published.
unsafe impl Sync for Protos {}

static PROTOS: Protos = Protos(
    [const { UnsafeCell::new(MaybeUninit::zeroed()) }; 2],
    [const { AtomicPtr::new(core::ptr::null_mut()) }; 2],
);

kernel::sync::global_lock! {
    // SAFETY: initialised in module init before any socket can be hooked.
    unsafe(uninit) static PROTO_LOCK: Mutex<()> = ();
}

/// Our version of a socket's `struct proto`. There is one type `T` in the module.
///
/// # Safety
///
/// `orig` is the proto of a plain TCP socket.
unsafe fn proto_for<T: Upcalls>(orig: *mut bindings::proto) -> Result<*mut bindings::proto> {
    for i in 0..2 {
        let ours = PROTOS.1[i].load(Ordering::Acquire);
        // SAFETY: published protos are initialised; `h` and the name identify the original.
        if !ours.is_null() && unsafe { same(ours, orig) } {
            return Ok(ours);
        }
    }
    let _guard = PROTO_LOCK.lock();
    for i in 0..2 {
        let ours = PROTOS.1[i].load(Ordering::Acquire);
        if ours.is_null() {
            let copy = PROTOS.0[i].get().cast::<bindings::proto>();
            // SAFETY: the slot is unpublished and the lock is held, so we are its only user.
            unsafe {
                core::ptr::copy_nonoverlapping(orig, copy, 1);
                (*copy).close = Some(close::<T>);
                (*copy).disconnect = Some(disconnect::<T>);
            }
            PROTOS.1[i].store(copy, Ordering::Release);
            return Ok(copy);
        }
        // SAFETY: as above.
        if unsafe { same(ours, orig) } {
            return Ok(ours);
        }
    }
    Err(Errno::EOPNOTSUPP.into())
}

/// Whether `copy` was made from `orig`.
///
/// # Safety
///
/// Both are valid.
unsafe fn same(copy: *const bindings::proto, orig: *const bindings::proto) -> bool {
    // SAFETY: as the caller promises. TCP over IPv4 and IPv6 differ in their connect function.
    unsafe { (*copy).connect.map(|f| f as usize) == (*orig).connect.map(|f| f as usize) }
}
