// SPDX-License-Identifier: GPL-2.0

//! NIC hardware: what a descriptor ring must do (`hw`) and, per driver, how it does it.
//!
//! `<driver>/ring.rs` knows the layout of the descriptors; `<driver>/<driver>.patch` makes the
//! kernel's driver hand over its rings while the NIC is in netmap mode.

pub(crate) mod e1000;
pub(crate) mod hw;
pub(crate) mod i40e;
pub(crate) mod ixgbe;
