// SPDX-License-Identifier: GPL-2.0
//! Models of NICs: each is a PCI device in a process of its own, which QEMU's `vfio-user-pci` connects to.
//!
//! A model implements [`device::Device`]. Two threads run it, one at a time: the server's ([`server`])
//! brings register accesses, the wire's ([`runner`]) brings frames, time and control commands. What a
//! device can do to the world outside is its [`device::Bus`]: guest memory, interrupts, the wire, and a
//! log of complaints about the driver.

#![forbid(unsafe_code)]

pub mod complaints;
pub mod config;
pub mod control;
pub mod device;
pub mod faults;
pub mod interrupts;
pub mod ixgbe;
pub mod memory;
pub mod net;
pub mod runner;
pub mod server;
pub mod wire;
pub mod xl710;
