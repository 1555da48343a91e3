// SPDX-License-Identifier: GPL-2.0

//! `/dev/netmap`: files, requests, cursors.
//!
//! | file | what |
//! |---|---|
//! | `session` | an open file, and what it has bound |
//! | `ioctl`, `legacy` | requests, from and to the memory of the process |
//! | `wants` | options of a registration |
//! | `registry` | ports by name: made by the first file, closed with the last |
//! | `pools` | memory by number |
//! | `bind` | the rings and buffers that one file takes |
//! | `sync`, `poll` | one sync of a ring; poll() |
//! | `show` | what operators read in debugfs |

#![deny(unsafe_code)]

mod bind;
mod ioctl;
mod legacy;
mod poll;
mod pools;
mod registry;
mod session;
mod show;
mod sync;
mod user;
mod wants;

use crate::sys::cdev::Registration;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex}, //
};

/// What all files share.
#[pin_data]
struct Shared {
    #[pin]
    registry: Mutex<registry::Registry>,
    #[pin]
    pools: Mutex<pools::Pools>,
}

/// The device while the module is loaded. Dropping it removes the files in debugfs, then the
/// device.
pub(crate) struct Device {
    _show: show::Files,
    _registration: Pin<KBox<Registration<Shared>>>,
}

/// Makes `/dev/netmap` appear.
///
/// # Errors
///
/// `ENOMEM`, and those of misc_register().
pub(crate) fn init(module: &'static ThisModule) -> Result<Device> {
    let shared = Arc::pin_init(
        pin_init!(Shared {
            registry <- new_mutex!(registry::Registry::default()),
            pools <- new_mutex!(pools::Pools::default()),
        }),
        GFP_KERNEL,
    )?;
    let registration = Registration::new(c"netmap", module, shared.clone())?;
    Ok(Device {
        _show: show::Files::new(shared)?,
        _registration: registration,
    })
}
