// SPDX-License-Identifier: GPL-2.0

//! Ports that show the rings of a NIC (`netmap:eth0`).

#![deny(unsafe_code)]

use super::{Backend, Wish};
use crate::sys::netdev::{NetDev, Rtnl};
use crate::sys::netns::Net;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The backend for a NIC.
///
/// # Errors
///
/// `ENXIO` if there is no such device.
pub(crate) fn create(name: &CStr, net: &Net, _want: &Wish, rtnl: &Rtnl) -> Result<Arc<dyn Backend>> {
    NetDev::by_name(net, name, rtnl).ok_or(ENXIO)?;
    Err(EOPNOTSUPP)
}
