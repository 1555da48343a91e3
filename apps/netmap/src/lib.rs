// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Safe access to ports of `/dev/netmap`.
//!
//! A [`Port`] is a set of receive and transmit rings in memory shared with the
//! kernel. One call, [`Port::poll`], gives back what was consumed, sends what
//! was put into tx slots, and fetches what came. The borrow checker does the
//! rest: slots borrow their port, syncs need all of it, so nothing is used
//! after it went back to the kernel.
//!
//! A NIC's raw packets, counted:
//!
//! ```no_run
//! use netmap::{Port, Wait};
//!
//! let mut port = Port::open("netmap:eth0")?;
//! let mut bytes = 0;
//! loop {
//!     port.poll(Wait::Rx, None)?;
//!     let (rx, _) = port.rings();
//!     for slot in rx.iter_mut().flat_map(|ring| ring.received()) {
//!         bytes += slot.packet().len();
//!     }
//!     println!("{bytes}");
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A slot in use forbids the sync that would take it away:
//!
//! ```compile_fail,E0499
//! # fn f(mut port: netmap::Port) -> std::io::Result<()> {
//! let slot = port.rx(0).received().next().unwrap();
//! port.rxsync()?; // error: `port` is still borrowed by `slot`
//! println!("{}", slot.packet().len());
//! # Ok(()) }
//! ```
//!
//! The memory of a port may be the program's own ([`Memory`]), for example a
//! file on persistent memory: then what is in its buffers outlives the program,
//! and [`Builder::claim`] gets them back by number.
//!
//! A stack port carries the payload of TCP sockets instead of packets; see
//! examples/echo.rs for a whole server.
#![deny(unsafe_code)]

pub mod abi;
mod builder;
mod fence;
mod format;
mod name;
mod port;
mod scribble;
mod stack;

pub use builder::{Builder, Formatting};
pub use fence::{
    steer, ExtraBuf, Memory, MemoryRead, Received, RxRing, RxSlot, SharedBuf, TxRing, TxSlot,
    Unsent, UnsentSlot,
};
pub use format::{Format, PoolParams};
pub use name::{Extmem, NameError, PortName};
pub use port::{Port, Ready, Wait, Watch, MAX_OTHERS};
pub use rustix::event::PollFlags;
pub use scribble::Scribbler;
pub use stack::Ptr;
