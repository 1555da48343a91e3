// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The ioctls of `/dev/netmap`.

use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{ioctl, NoArg, Updater};

use crate::abi::{
    NmreqHeader, NmreqPstFdReg, NmreqRegister, NmreqValeAttach, NmreqValeDetach, NETMAP_API,
    NETMAP_REQ_IFNAMSIZ, NETMAP_REQ_PST_ATTACH, NETMAP_REQ_PST_DETACH, NETMAP_REQ_PST_FD_REG,
    NETMAP_REQ_REGISTER, NIOCCTRL, NIOCRXSYNC, NIOCTXSYNC,
};

/// A request body and the number it belongs to.
///
/// # Safety
/// The type must be plain data of exactly the size that the kernel copies for
/// this number, valid for every bit pattern, without addresses in it.
pub(crate) unsafe trait Body {
    /// `nr_reqtype`.
    const REQUEST: u16;
}

// SAFETY: sizes as in netmap.h, integers only; compared by tests/abi.
unsafe impl Body for NmreqRegister {
    const REQUEST: u16 = NETMAP_REQ_REGISTER;
}
// SAFETY: as above.
unsafe impl Body for NmreqValeAttach {
    const REQUEST: u16 = NETMAP_REQ_PST_ATTACH;
}
// SAFETY: as above.
unsafe impl Body for NmreqValeDetach {
    const REQUEST: u16 = NETMAP_REQ_PST_DETACH;
}
// SAFETY: as above.
unsafe impl Body for NmreqPstFdReg {
    const REQUEST: u16 = NETMAP_REQ_PST_FD_REG;
}

/// `ioctl(NIOCCTRL)` without options. `name` is cut to what a request holds;
/// callers have checked its length.
pub(crate) fn control<B: Body>(fd: BorrowedFd<'_>, name: &str, body: &mut B) -> Result<()> {
    let mut header = NmreqHeader {
        nr_version: NETMAP_API,
        nr_reqtype: B::REQUEST,
        nr_reserved: 0,
        nr_name: [0; NETMAP_REQ_IFNAMSIZ],
        nr_options: 0,
        nr_body: std::ptr::from_mut(body) as u64,
    };
    for (to, from) in header.nr_name[..NETMAP_REQ_IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *to = from;
    }
    // SAFETY: NIOCCTRL reads and writes one nmreq_header, and the body at
    // nr_body, which is as large as the kernel expects (`Body`) and borrowed
    // for the whole call.
    unsafe { ioctl(fd, Updater::<NIOCCTRL, NmreqHeader>::new(&mut header)) }
}

/// `ioctl(NIOCTXSYNC)`.
pub(crate) fn txsync(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request has no argument.
    unsafe { ioctl(fd, NoArg::<NIOCTXSYNC>::new()) }
}

/// `ioctl(NIOCRXSYNC)`.
pub(crate) fn rxsync(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request has no argument.
    unsafe { ioctl(fd, NoArg::<NIOCRXSYNC>::new()) }
}
