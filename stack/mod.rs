// SPDX-License-Identifier: GPL-2.0

//! The stack port: one poll() runs NIC receive, the kernel's TCP and transmit for all connections
//! of a port.
//!
//! The path of a request, and its files:
//!
//! 1. [`input`]: frames of a NIC queue become packets, their payload stays where the NIC put it;
//! 2. TCP puts them in order and calls [`socket`], which links the socket into the ready list of
//!    its [`ring`];
//! 3. [`receive`]: the ready sockets' data fills the slots of the receive ring;
//! 4. the application works;
//! 5. [`transmit`]: its transmit slots go to TCP, by reference;
//! 6. [`output`]: TCP's packets go into the descriptors of a NIC queue.
//!
//! [`port`] ties them together for the device, [`attach`] brings NICs and sockets in.

#![deny(unsafe_code)]

mod attach;
mod input;
mod output;
mod port;
mod receive;
mod ring;
mod socket;
mod transmit;

pub(crate) use port::create;
