// SPDX-License-Identifier: GPL-2.0
//! The other end of the NIC: a descriptor of which each read and write is one frame (a tap, or a packet socket pair).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use rustix::io::Errno;

/// Longest frame: 64 KiB, what a tap takes.
pub const LONGEST: usize = 65536;

/// Shortest frame on the wire, in bytes without the CRC.
pub const SHORTEST: usize = 60;

/// A wire, with counts of frames that crossed it.
#[derive(Debug)]
pub struct Wire {
    file: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// Frames sent.
    pub sent: u64,
    /// Frames that the other end refused.
    pub refused: u64,
    /// Frames received.
    pub received: u64,
    /// The other end is gone.
    pub closed: bool,
}

impl Wire {
    /// A wire over `file`, which becomes non-blocking; without one, frames go nowhere.
    pub fn new(file: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(file) = &file {
            fcntl_setfl(file, fcntl_getfl(file)? | OFlags::NONBLOCK)?;
        }
        Ok(Wire {
            file,
            buffer: vec![0; LONGEST],
            sent: 0,
            refused: 0,
            received: 0,
            closed: false,
        })
    }

    /// What to poll for.
    pub fn descriptor(&self) -> io::Result<Option<OwnedFd>> {
        self.file
            .as_ref()
            .map(|file| file.as_fd().try_clone_to_owned())
            .transpose()
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Sends one frame, padded to the shortest length.
    pub fn send(&mut self, frame: &[u8]) {
        let Some(file) = self.file() else { return };
        let mut padded = [0; SHORTEST];
        let frame = match padded.get_mut(..frame.len()) {
            Some(start) if frame.len() < SHORTEST => {
                start.copy_from_slice(frame);
                &padded
            }
            _ => frame,
        };
        match rustix::io::write(file, frame) {
            Ok(_) => self.sent += 1,
            Err(_) => self.refused += 1,
        }
    }

    /// Receives one frame into `frame`. False: there is none now.
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        let Some(file) = self.file.as_ref() else {
            return false;
        };
        loop {
            match rustix::io::read(file, &mut self.buffer[..]) {
                Ok(length) if length > 0 => {
                    frame.clear();
                    frame.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
                    if frame.len() < SHORTEST {
                        frame.resize(SHORTEST, 0);
                    }
                    self.received += 1;
                    return true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Ok(_) | Err(_) => {
                    self.closed = true;
                    return false;
                }
            }
        }
    }
}
