// SPDX-License-Identifier: GPL-2.0
//! MSI-X vectors: each is an eventfd that QEMU hands over. QEMU keeps the MSI-X table and masks.

use std::fs::File;
use std::io::Write;

/// The vectors of a device.
#[derive(Debug, Default)]
pub struct Interrupts {
    vectors: Vec<Option<File>>,
    /// Interrupts sent until now.
    pub sent: u64,
}

impl Interrupts {
    /// Connects vectors from `start` on, or disconnects `count` of them if there are no files.
    pub fn connect(&mut self, start: usize, count: usize, files: Vec<File>) {
        let end = start.saturating_add(count.max(files.len())).min(2048);
        if self.vectors.len() < end {
            self.vectors.resize_with(end, || None);
        }
        let mut files = files.into_iter();
        for vector in self.vectors.iter_mut().take(end).skip(start) {
            *vector = files.next();
        }
    }

    /// Disconnects all.
    pub fn clear(&mut self) {
        self.vectors.clear();
    }

    /// Sends an interrupt; one without a listener is lost, as it is in hardware.
    pub fn send(&mut self, vector: usize) {
        if let Some(Some(file)) = self.vectors.get_mut(vector) {
            self.sent += 1;
            // Only a full counter refuses, and then the listener has not even begun to listen.
            let _ = file.write_all(&1u64.to_ne_bytes());
        }
    }
}
