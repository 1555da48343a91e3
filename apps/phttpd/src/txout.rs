// SPDX-License-Identifier: GPL-2.0
//! Answers into the tx slots of a stack port.

use std::os::fd::RawFd;

use netmap::{SharedBuf, TxRing};

use crate::site::Out;

/// Tx slots a connection may fill in one go before the others have their turn.
const TURN: u32 = 128;
/// Bytes up to which a piece of what was stored is copied into a slot.
const COPIED: usize = 256;

/// Shared buffers named by slots of one connection in a row. The kernel takes
/// such slots together, and none of them may name a buffer twice.
#[derive(Default)]
pub struct Named {
    fd: RawFd,
    buffers: Vec<u32>,
}

impl Named {
    /// Whether a slot of this connection may name this buffer; it is noted.
    fn first(&mut self, fd: RawFd, index: u32) -> bool {
        if self.fd != fd {
            self.fd = fd;
            self.buffers.clear();
        }
        let first = !self.buffers.contains(&index);
        if first {
            self.buffers.push(index);
        }
        first
    }

    /// All slots were given to the kernel.
    pub fn clear(&mut self) {
        self.buffers.clear();
    }
}

/// Fills tx slots with the answers to one connection.
pub struct TxOut<'a> {
    tx: &'a mut TxRing,
    fd: RawFd,
    named: &'a mut Named,
    /// Bytes in the slot being filled.
    used: usize,
    /// Slots filled.
    filled: u32,
    /// What the ring had no room for.
    over: Vec<u8>,
}

impl TxOut<'_> {
    /// For the connection with this descriptor.
    pub fn new<'a>(tx: &'a mut TxRing, fd: RawFd, named: &'a mut Named) -> TxOut<'a> {
        TxOut {
            tx,
            fd,
            named,
            used: 0,
            filled: 0,
            over: Vec::new(),
        }
    }

    /// Give the slot being filled to the ring.
    fn flush(&mut self) {
        if self.used > 0 {
            if let Some(slot) = self.tx.reserve() {
                // A slot's room, so under 64 KiB.
                slot.send_to(self.fd, self.used as u16);
            }
            self.used = 0;
            self.filled += 1;
        }
    }

    /// Give the last slot to the ring. Returns what it had no room for.
    pub fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.over
    }
}

impl Out for TxOut<'_> {
    #[inline]
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.over.is_empty() {
            let Some(mut slot) = self.tx.reserve() else {
                break;
            };
            let room = slot.room();
            let size = room.len().min(usize::from(u16::MAX));
            let room = room.get_mut(self.used..size).unwrap_or(&mut []);
            let n = room.len().min(bytes.len());
            if n == 0 {
                break;
            }
            room[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.used += n;
            if self.used == size {
                slot.send_to(self.fd, size as u16);
                self.filled += 1;
                self.used = 0;
            }
        }
        self.over.extend_from_slice(bytes);
    }

    fn put_held(&mut self, held: &SharedBuf, at: usize, bytes: &[u8]) {
        // The kernel copies that little anyway.
        let shared = bytes.len() > COPIED && self.over.is_empty();
        if shared && self.named.first(self.fd, held.index()) {
            let range = u16::try_from(at).ok().zip(u16::try_from(bytes.len()).ok());
            self.flush();
            if let Some((slot, (at, len))) = self.tx.reserve().zip(range) {
                if slot.send_shared(held, at, len, self.fd) {
                    self.filled += 1;
                    return;
                }
            }
        }
        self.put(bytes);
    }

    #[inline]
    fn full(&self) -> bool {
        !self.over.is_empty() || self.filled >= TURN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_names_a_buffer_once_in_a_row() {
        let mut named = Named::default();
        let told: Vec<bool> = [(5, 9), (5, 8), (5, 9), (6, 9), (6, 9), (5, 9)]
            .map(|(fd, index)| named.first(fd, index))
            .to_vec();
        assert_eq!(told, [true, true, false, true, false, true]);
        named.clear();
        assert!(named.first(5, 9));
    }
}
