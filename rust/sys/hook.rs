// SPDX-License-Identifier: GPL-2.0

//! Hooks by which sockets of the application report to a stack port.
//!
//! Lifetime. A hooked socket's `sk_user_data` owns one reference of the hook's object `T`; it is
//! given back an RCU grace period after the hook has been taken off, because error reports may run
//! without the socket lock. The hook comes off when the application closes or disconnects the
//! socket (we override these two of its `struct proto`) or when the port goes. While it is on, the
//! socket counts as having an upper layer protocol: no kTLS, no sockmap, no listen(), and it holds
//! the module.

use super::bindings;
use crate::nmcore::Errno;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use kernel::ffi::{c_int, c_long, c_void};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

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

/// The hook object of a socket; null data or other owners give None.
///
/// # Safety
///
/// `sk` is valid; the caller holds RCU or the socket's lock for `'a`.
#[inline]
pub(super) unsafe fn user<'a, T: Upcalls>(sk: *mut bindings::sock) -> Option<&'a T> {
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

/// Puts the hook of `object` on a socket; errors as of [`super::sock::LockedSock::hook`].
///
/// # Safety
///
/// `sk` is valid and locked by the caller.
pub(super) unsafe fn put_on<T: Upcalls>(sk: *mut bindings::sock, object: Arc<T>) -> Result {
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

/// Writes a pointer that others read without the lock.
///
/// # Safety
///
/// `p` is valid for writes.
unsafe fn set<V>(p: *mut V, v: V) {
    // SAFETY: as the caller promises.
    unsafe { core::ptr::write_volatile(p, v) };
}

/// Takes the hook off, if there is one, and returns its object.
///
/// # Safety
///
/// `sk` is valid and locked by the caller.
pub(super) unsafe fn take_off<T: Upcalls>(sk: *mut bindings::sock) -> Option<Arc<T>> {
    // SAFETY: as the caller promises; see `put_on`.
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
/// RCU callback of a [`HookInner`] that [`take_off`] took off a socket.
unsafe extern "C" fn release<T: Upcalls>(head: *mut bindings::callback_head) {
    // SAFETY: `head` is the `rcu` field, the first one, of a HookInner whose owner was set by `put_on`.
    unsafe {
        let inner = head.cast::<HookInner>();
        drop(Arc::from_raw((*inner).owner.cast::<T>()));
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
        let object = take_off::<T>(sk);
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
        let object = take_off::<T>(sk);
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
    ops.name = *b"netmap\0\0\0\0\0\0\0\0\0\0";
    ops
});

fn this_module() -> *mut bindings::module {
    // SAFETY: no preconditions.
    unsafe { bindings::nms_this_module() }
}

/// A copy of `tcp_prot` or `tcpv6_prot` with our `close` and `disconnect`.
struct Proto {
    copy: UnsafeCell<MaybeUninit<bindings::proto>>,
    /// The copy, when it is complete.
    ready: AtomicPtr<bindings::proto>,
}
// SAFETY: written once under PROTO_LOCK before the pointer is published.
unsafe impl Sync for Proto {}

static PROTOS: [Proto; 2] = [const {
    Proto {
        copy: UnsafeCell::new(MaybeUninit::zeroed()),
        ready: AtomicPtr::new(core::ptr::null_mut()),
    }
}; 2];

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
    for proto in &PROTOS {
        let ours = proto.ready.load(Ordering::Acquire);
        // SAFETY: a published proto is complete.
        if !ours.is_null() && unsafe { same(ours, orig) } {
            return Ok(ours);
        }
    }
    let _guard = PROTO_LOCK.lock();
    for proto in &PROTOS {
        let ours = proto.ready.load(Ordering::Acquire);
        if ours.is_null() {
            let copy = proto.copy.get().cast::<bindings::proto>();
            // SAFETY: the copy is unpublished and the lock is held, so we are its only user.
            unsafe {
                core::ptr::copy_nonoverlapping(orig, copy, 1);
                (*copy).close = Some(close::<T>);
                (*copy).disconnect = Some(disconnect::<T>);
            }
            proto.ready.store(copy, Ordering::Release);
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
