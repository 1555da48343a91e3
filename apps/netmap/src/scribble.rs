// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A port whose memory is written to against all rules. For testing kernels.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::fence::{self, Map};

/// What is left of a [`crate::Port`] given up with [`crate::Port::scribble`]:
/// its descriptor and its memory, without rings that anybody relies on.
pub struct Scribbler {
    pub(crate) name: String,
    pub(crate) fd: OwnedFd,
    pub(crate) map: Arc<Map>,
    pub(crate) interface: usize,
    pub(crate) rings: Vec<Range<usize>>,
}

impl Scribbler {
    /// Bytes of memory.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Where in the memory the interface header is.
    pub fn interface(&self) -> usize {
        self.interface
    }

    /// Where in the memory the rings are, headers and slots.
    pub fn rings(&self) -> &[Range<usize>] {
        &self.rings
    }

    /// Write a word at a multiple of 8. EFAULT: it is not one, or outside.
    pub fn write(&self, offset: usize, value: u64) -> io::Result<()> {
        Ok(self.map.write(offset, value)?)
    }

    /// Read a word at a multiple of 8. EFAULT: it is not one, or outside.
    pub fn read(&self, offset: usize) -> io::Result<u64> {
        Ok(self.map.read(offset)?)
    }

    /// NIOCTXSYNC.
    pub fn txsync(&self) -> io::Result<()> {
        Ok(fence::txsync(self.fd.as_fd())?)
    }

    /// NIOCRXSYNC.
    pub fn rxsync(&self) -> io::Result<()> {
        Ok(fence::rxsync(self.fd.as_fd())?)
    }

    /// As [`crate::Port::register_socket`].
    pub fn register_socket(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        crate::port::register_socket(self.fd.as_fd(), &self.name, socket)
    }

    /// poll() for everything.
    pub fn poll(&self, timeout: Duration) -> io::Result<PollFlags> {
        let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN | PollFlags::OUT)];
        rustix::event::poll(&mut fds, Some(&timeout))?;
        Ok(fds[0].revents())
    }
}
