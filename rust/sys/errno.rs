// SPDX-License-Identifier: GPL-2.0

//! Error numbers of the pure logic as errors of the kernel.
//!
//! Also the way to say those that the `kernel` crate of older supported kernels has no names for:
//! `Errno::EOPNOTSUPP.into()`.

use crate::nmcore::Errno;
use kernel::error::Error;

impl From<Errno> for Error {
    fn from(err: Errno) -> Self {
        Error::from_errno(err.0.saturating_neg())
    }
}
