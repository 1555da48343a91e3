// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The ioctls of `/dev/netmap`.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{ioctl, NoArg, Updater};

use super::map::Map;
use crate::abi::{
    NmreqHeader, NmreqOptExtmem, NmreqOptPstBufs, NmreqOption, NmreqPoolsInfo, NmreqPstFdReg,
    NmreqRegister, NmreqValeAttach, NmreqValeDetach, NETMAP_API, NETMAP_REQ_IFNAMSIZ,
    NETMAP_REQ_OPT_EXTMEM, NETMAP_REQ_OPT_PST_BUFS, NETMAP_REQ_PST_ATTACH, NETMAP_REQ_PST_DETACH,
    NETMAP_REQ_PST_FD_REG, NETMAP_REQ_REGISTER, NIOCCTRL, NIOCRXSYNC, NIOCTXSYNC,
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
    // SAFETY: there are no options.
    unsafe { control_with(fd, name, body, 0) }
}

/// The same with the list of options at address `options`.
///
/// # Safety
/// The list is as the kernel expects it, and the program's alone.
unsafe fn control_with<B: Body>(
    fd: BorrowedFd<'_>,
    name: &str,
    body: &mut B,
    options: u64,
) -> Result<()> {
    let mut header = NmreqHeader {
        nr_version: NETMAP_API,
        nr_reqtype: B::REQUEST,
        nr_reserved: 0,
        nr_name: [0; NETMAP_REQ_IFNAMSIZ],
        nr_options: options,
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
    // for the whole call. Options are as the caller promises.
    unsafe { ioctl(fd, Updater::<NIOCCTRL, NmreqHeader>::new(&mut header)) }
}

/// What a registration in memory of the program's own asks for.
pub(crate) struct Wanted<'a> {
    /// The memory.
    pub(crate) map: &'a Map,
    /// The pools.
    pub(crate) info: NmreqPoolsInfo,
    /// Buffers by number.
    pub(crate) claims: &'a [u32],
    /// `PST_BUFS_*`.
    pub(crate) flags: u32,
}

/// What it got.
pub(crate) struct Answer {
    /// The pools.
    pub(crate) info: NmreqPoolsInfo,
    /// Numbers of the extra buffers.
    pub(crate) fresh: Vec<u32>,
    /// `PST_BUFS_*`.
    pub(crate) flags: u32,
}

/// REGISTER with pools in memory of the program's own. The error comes with
/// the position of the claim that it is about, if it is about one.
pub(crate) fn register(
    fd: BorrowedFd<'_>,
    name: &str,
    body: &mut NmreqRegister,
    wanted: &Wanted<'_>,
) -> std::result::Result<Answer, (Errno, Option<usize>)> {
    let claimed = wanted.claims.len();
    let mut list = wanted.claims.to_vec();
    list.resize(claimed.saturating_add(body.nr_extra_bufs as usize), 0);
    let number = |n: usize| u32::try_from(n).map_err(|_| (Errno::INVAL, None));
    let base = wanted.map.address(0, wanted.map.len());
    let mut bufs = NmreqOptPstBufs {
        nro_opt: NmreqOption {
            nro_reqtype: NETMAP_REQ_OPT_PST_BUFS,
            ..NmreqOption::default()
        },
        nro_bufs: list.as_mut_ptr() as u64,
        nro_claim: number(claimed)?,
        nro_room: number(list.len())?,
        nro_count: 0,
        nro_flags: wanted.flags,
    };
    let mut extmem = NmreqOptExtmem {
        nro_opt: NmreqOption {
            nro_next: &raw mut bufs as u64,
            nro_reqtype: NETMAP_REQ_OPT_EXTMEM,
            ..NmreqOption::default()
        },
        nro_usrptr: base.unwrap_or(std::ptr::null()) as u64,
        nro_info: wanted.info,
    };
    // SAFETY: both options are as netmap.h and netmap_paste.h say, and alive;
    // the array has nro_room entries. The memory is mapped as long as `wanted`
    // is borrowed, and the kernel keeps what it uses of it longer.
    let result = unsafe { control_with(fd, name, body, &raw mut extmem as u64) };
    if let Err(error) = result {
        let about_claims = bufs.nro_opt.nro_status != 0 && claimed != 0;
        let position = about_claims.then_some(bufs.nro_count as usize);
        return Err((error, position));
    }
    let count = (bufs.nro_count as usize).min(list.len());
    Ok(Answer {
        info: extmem.nro_info,
        fresh: list.get(claimed..count).unwrap_or(&[]).to_vec(),
        flags: bufs.nro_flags,
    })
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
