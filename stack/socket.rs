// SPDX-License-Identifier: GPL-2.0

//! A registered socket: its upcalls only link it into the ready list of its ring.
//!
//! Lifetime. One reference each is held by the socket's hook (`sk_user_data`), the table of the
//! ring, and the ready list while it is linked. The application's close() takes the hook off and
//! the entry out of the table; what is left goes when the ready list is next drained.

#![deny(unsafe_code)]

use super::ring::Ring;
use crate::sys::hook::{Hook, Upcalls};
use crate::sys::ready::{Link, Linked};
use crate::sys::sock::Sock;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// The application was told that the peer has closed its side.
pub(super) const FIN_TOLD: u32 = 1;
/// The application was told that the connection is dead.
pub(super) const ERR_TOLD: u32 = 2;
/// Slots were handed back unsent; the application waits to be told of room. While it is set, the
/// socket is in the ready list or TCP has been asked, under the socket's lock, to tell of room.
pub(super) const WANT_WRITE: u32 = 4;
/// The application wants no more of its data for now.
pub(super) const HELD: u32 = 16;
/// Closed, or the port is gone: not to be touched any more.
pub(super) const DEAD: u32 = 8;

/// One socket of a stack port.
pub(crate) struct Socket {
    link: Link<Socket>,
    flags: AtomicU32,
    /// Descriptor number in the application.
    pub(super) fd: i32,
    pub(super) sock: Sock,
    pub(super) ring: Arc<Ring>,
    hook: Hook,
}

impl Linked for Socket {
    #[inline]
    fn link(&self) -> &Link<Self> {
        &self.link
    }
}

impl Socket {
    /// A socket that is not hooked yet.
    pub(super) fn new(fd: i32, sock: Sock, ring: Arc<Ring>) -> Result<Arc<Self>> {
        let flags = AtomicU32::new(0);
        let (link, hook) = (Link::new(), Hook::new());
        Ok(Arc::new(
            Self {
                link,
                flags,
                fd,
                sock,
                ring,
                hook,
            },
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

    /// A line for a socket that waits for something or is in the ready list.
    pub(super) fn show(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        let flags = self.flags.load(Ordering::Relaxed);
        let data = self.sock.has_data();
        if flags == 0 && !data && !self.link.linked() {
            return Ok(());
        }
        w.write_fmt(fmt!("    socket {}", self.fd))?;
        for (flag, name) in [
            (FIN_TOLD, "fin"),
            (ERR_TOLD, "error"),
            (WANT_WRITE, "wants-room"),
            (HELD, "held"),
            (DEAD, "dead"),
        ] {
            if flags & flag != 0 {
                w.write_fmt(fmt!(" {name}"))?;
            }
        }
        if data {
            w.write_fmt(fmt!(" data"))?;
        }
        if self.link.linked() {
            w.write_fmt(fmt!(" ready"))?;
        }
        w.write_fmt(fmt!("\n"))
    }

    /// Takes the hook off and marks the socket dead: the port goes, or the descriptor was reused.
    pub(super) fn release(&self) {
        self.set(DEAD);
        drop(self.sock.lock().unhook::<Socket>());
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
