// SPDX-License-Identifier: GPL-2.0

//! A command or an event on an admin queue: a descriptor of 32 bytes and perhaps a buffer.

/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 32;

/// Bits of a descriptor's flags.
pub const DONE: u16 = 1 << 0;
pub const COMPLETE: u16 = 1 << 1;
pub const ERROR: u16 = 1 << 2;
pub const BUFFER: u16 = 1 << 12;

/// What the firmware answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Answer {
    /// Done.
    Ok = 0,
    /// May not be done.
    Permission = 1,
    /// There is no such thing.
    Missing = 2,
    /// No such command.
    Unknown = 3,
    /// The buffer is too small.
    Memory = 9,
    /// There is one already.
    Exists = 13,
    /// Wrong parameters.
    Invalid = 14,
    /// No room for another.
    Full = 16,
}

/// A command with its parameters and, if it has one, its buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Flags.
    pub flags: u16,
    /// What is to be done.
    pub opcode: u16,
    /// Bytes of the buffer.
    pub length: u16,
    /// The last 16 bytes of the descriptor. With a buffer, the last 8 of them are its address.
    pub parameters: [u8; 16],
    /// The buffer's bytes: sent ones, or room for the answer.
    pub data: Vec<u8>,
    /// Cookies, which come back as they were.
    pub cookies: [u8; 8],
}

impl Command {
    /// From a descriptor.
    pub fn decode(bytes: &[u8; DESCRIPTOR]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut made = Self {
            flags: word(0),
            opcode: word(2),
            length: word(4),
            ..Self::default()
        };
        made.cookies.copy_from_slice(&bytes[8..16]);
        made.parameters.copy_from_slice(&bytes[16..32]);
        made
    }

    /// As a descriptor that the firmware is done with.
    pub fn encode(&self, answer: Answer) -> [u8; DESCRIPTOR] {
        let mut bytes = [0; DESCRIPTOR];
        let error = if answer == Answer::Ok { 0 } else { ERROR };
        let flags = self.flags | DONE | COMPLETE | error;
        bytes[0..2].copy_from_slice(&flags.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.opcode.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.length.to_le_bytes());
        bytes[6..8].copy_from_slice(&(answer as u16).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.cookies);
        bytes[16..32].copy_from_slice(&self.parameters);
        bytes
    }

    /// Bus address of the buffer.
    pub fn address(&self) -> u64 {
        (u64::from(self.dword(8)) << 32) | u64::from(self.dword(12))
    }

    /// A 16-bit parameter.
    pub fn word(&self, at: usize) -> u16 {
        word(&self.parameters, at)
    }

    /// A 32-bit parameter.
    pub fn dword(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | (u32::from(self.word(at + 2)) << 16)
    }

    /// Sets parameters from byte `at` on.
    pub fn set(&mut self, at: usize, value: &[u8]) {
        put(&mut self.parameters, at, value);
    }

    /// Sets bytes of the buffer; those beyond its end are lost.
    pub fn put(&mut self, at: usize, value: &[u8]) {
        put(&mut self.data, at, value);
    }
}

/// A little-endian word; 0 beyond the end.
pub fn word(bytes: &[u8], at: usize) -> u16 {
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    byte(at) | (byte(at + 1) << 8)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}
