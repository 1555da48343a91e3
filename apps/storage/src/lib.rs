// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Storage over packet buffers.
//!
//! What a client sends becomes durable where the NIC put it. A [`Log`] appends
//! objects, a [`Map`] keeps them by key; both record which pieces of which
//! packet buffers an object consists of, and a checksum. Only the cache lines
//! that changed are flushed: those of the payload as it arrives, one or two
//! more per object, and one wait for everything that arrived together.
//!
//! One round of a server, between one `poll()` and the next:
//!
//! ```
//! use netmap_storage::{Body, Heap, Log, LogShape, Pool, Segment};
//!
//! let pool = Pool { buffers: 100, buf_size: 2048, id: 0 };
//! let shape = LogShape { lines: 64, blocks: 0, block_size: 0 };
//! let mut log = Log::format(Heap::new(shape.bytes()? as usize), shape, pool)?;
//! let mut body = Body::new(); // one per connection
//!
//! // For each piece of a body: buffer 7 is kept, the slot gets another one.
//! let bytes = [1u8; 1024];
//! log.hold(&mut body, Segment::packet(7, 248, 1024), &bytes)?;
//! // At its end; the answer goes into a tx slot.
//! let seq = log.append(&mut body)?;
//! // After the last request of the round. Only then may answers leave.
//! log.commit()?;
//!
//! // Some time later: make room, and use the buffer again.
//! log.drop_oldest();
//! log.commit()?;
//! assert_eq!(log.freed().collect::<Vec<_>>(), [7]);
//! # let _ = seq;
//! # Ok::<(), netmap_storage::Error>(())
//! ```
//!
//! What is durable when, and why, is in docs/storage.md.
#![deny(unsafe_code)]

mod error;
mod fence;
mod found;
mod header;
mod log;
mod map;
mod memory;
mod pool;
mod segment;
mod store;
mod used;
mod word;

pub use error::Error;
pub use fence::{Mapped, Method, Sync};
pub use found::{Damage, Found};
pub use log::{Log, LogShape, Object, Seq};
pub use map::{Entry, Map, MapShape, MAX_KEY};
pub use memory::{Heap, Memory, LINE};
pub use pool::{Buffers, NoBuffers, Pool, Slab};
pub use segment::{Body, Place, Segment};
pub use used::used;
