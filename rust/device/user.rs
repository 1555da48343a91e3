// SPDX-License-Identifier: GPL-2.0

//! Memory of the calling process, copied in and out as bytes.

#![deny(unsafe_code)]

use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice}, //
};

fn address(addr: u64) -> Result<UserPtr> {
    Ok(UserPtr::from_addr(
        usize::try_from(addr).map_err(|_| EFAULT)?,
    ))
}

/// Fills `to` from address `addr`.
///
/// # Errors
///
/// `EFAULT`.
pub(super) fn read(addr: u64, to: &mut [u8]) -> Result {
    UserSlice::new(address(addr)?, to.len())
        .reader()
        .read_slice(to)
}

/// Writes `from` to address `addr`.
///
/// # Errors
///
/// `EFAULT`.
pub(super) fn write(addr: u64, from: &[u8]) -> Result {
    UserSlice::new(address(addr)?, from.len())
        .writer()
        .write_slice(from)
}
