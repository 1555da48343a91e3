// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! What recovery found.

use std::fmt;

/// What was in a log or a map when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Objects, whole and checked.
    pub objects: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// Packet buffers that they, and damaged objects, refer to: those to hold
    /// before a NIC gets any. Sorted, each once.
    pub buffers: Vec<u32>,
    /// Objects that had not become durable when the last user stopped. They
    /// were not acknowledged, and are gone.
    pub unfinished: u64,
    /// Objects that had been acknowledged and are damaged. They stay as they
    /// are, and their buffers are held, until they are dropped.
    pub damaged: Vec<Damage>,
}

/// A damaged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Of a log, from this line on.
    Line(crate::Seq),
    /// Of a map; whose value it was, as far as that can be read.
    Object {
        /// Which of the map's roots.
        root: u32,
        /// The key.
        key: Option<Vec<u8>>,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { objects, bytes, .. } = self;
        write!(f, "{objects} objects, {bytes} bytes")?;
        if !self.buffers.is_empty() {
            write!(f, ", in {} packet buffers", self.buffers.len())?;
        }
        if self.unfinished > 0 {
            write!(f, "; {} were unfinished", self.unfinished)?;
        }
        if !self.damaged.is_empty() {
            write!(f, "; {} ARE DAMAGED", self.damaged.len())?;
        }
        Ok(())
    }
}
