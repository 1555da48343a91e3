// SPDX-License-Identifier: GPL-2.0

//! A registered socket: its upcalls only link it into the ready list of its ring.
//!
//! Lifetime. One reference each is held by the socket's hook (`sk_user_data`), the table of the
//! ring, and the ready list while it is linked. The application's close() takes the hook off and
//! the entry out of the table; what is left goes when the ready list is next drained.

#![deny(unsafe_code)]

use super::ring::Ring;
use crate::sys::sock::{Hook, Sock, Upcalls};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::list::{
    impl_list_arc_safe, impl_list_item, AtomicTracker, ListArc, ListLinks, TryNewListArc,
};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// The application was told that the peer has closed its side.
pub(super) const FIN_TOLD: u32 = 1;
/// The application was told that the connection is dead.
pub(super) const ERR_TOLD: u32 = 2;
/// Slots were handed back unsent; the application waits to be told of room.
pub(super) const WANT_WRITE: u32 = 4;
/// Closed, or the port is gone: not to be touched any more.
pub(super) const DEAD: u32 = 8;

/// One socket of a stack port.
#[pin_data]
pub(crate) struct Socket {
    #[pin]
    links: ListLinks,
    #[pin]
    tracker: AtomicTracker,
    flags: AtomicU32,
    /// Descriptor number in the application.
    pub(super) fd: i32,
    pub(super) sock: Sock,
    pub(super) ring: Arc<Ring>,
    hook: Hook,
}

/// The kernel's macros that make a list item of a type.
mod list_item {
    #![allow(unsafe_code)]
    use super::*;

    impl_list_arc_safe! {
        impl ListArcSafe<0> for Socket { tracked_by tracker: AtomicTracker; }
    }
    impl_list_item! {
        impl ListItem<0> for Socket { using ListLinks { self.links }; }
    }
}

impl Socket {
    /// A socket that is not hooked yet.
    pub(super) fn new(fd: i32, sock: Sock, ring: Arc<Ring>) -> Result<Arc<Self>> {
        Ok(Arc::pin_init(
            pin_init!(Self {
                links <- ListLinks::new(),
                tracker <- AtomicTracker::new(),
                flags: AtomicU32::new(0),
                fd,
                sock,
                ring,
                hook: Hook::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// Whether any of the flags is set.
    #[inline]
    pub(super) fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Acquire) & flags != 0
    }

    /// Sets flags; true if any of them was not set before.
    pub(super) fn set(&self, flags: u32) -> bool {
        self.flags.fetch_or(flags, Ordering::AcqRel) & flags != flags
    }

    /// Clears flags.
    pub(super) fn clear(&self, flags: u32) {
        self.flags.fetch_and(!flags, Ordering::AcqRel);
    }

    /// Takes the hook off and marks the socket dead: the port goes, or the descriptor was reused.
    pub(super) fn release(&self) {
        self.set(DEAD);
        drop(self.sock.lock().unhook::<Socket>());
    }

    /// Claims the right to link the socket into a ready list; None if it is linked already.
    #[inline]
    pub(super) fn claim(this: Arc<Self>) -> Option<ListArc<Self>> {
        ListArc::try_from_arc(this).ok()
    }
}

impl Upcalls for Socket {
    fn hook(&self) -> &Hook {
        &self.hook
    }

    #[inline]
    fn readable(this: ArcBorrow<'_, Self>) {
        this.ring.make_ready(this);
    }

    fn changed(this: ArcBorrow<'_, Self>) {
        this.ring.make_ready(this);
    }

    fn writable(this: ArcBorrow<'_, Self>) {
        if this.has(WANT_WRITE) {
            this.ring.make_ready(this);
        }
    }

    fn closing(this: ArcBorrow<'_, Self>) {
        this.set(DEAD);
        this.ring.forget(&this);
    }
}
