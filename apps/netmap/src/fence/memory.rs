// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A mapping of the program's own, for a port to build its pools in.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{major, minor};
use rustix::io::{Errno, Result};

use super::buffer::{ExtraBuf, MemoryTag};
use super::map::Map;
use crate::format::Format;

/// Memory of this program that the pools of a port are built in: a file on
/// persistent memory, whose buffers outlive the port, or on tmpfs, or memory
/// without a file.
///
/// Clones are the same memory. Ports opened with it at the same time (the
/// rings of several threads) share their buffers: an [`ExtraBuf`] of one may be
/// used in the rings of the others.
///
/// By the rules of netmap nobody else may write to it; other processes that map
/// the file are trusted not to. Who makes the file shorter meanwhile kills the
/// program (SIGBUS).
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    map: Arc<Map>,
    sync: bool,
    state: Mutex<State>,
}

/// # Invariants
/// Not both `ports` and `readers` are above 0. `tag` is one that no ExtraBuf
/// had before the first of `ports` was opened.
struct State {
    ports: u32,
    readers: u32,
    tag: MemoryTag,
    bufs: Place,
}

/// Where buffers lie.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    /// The first one, in bytes from the begin of the memory.
    pub(crate) offset: u64,
    /// Bytes of each.
    pub(crate) size: u32,
    /// How many.
    pub(crate) count: u32,
}

impl Place {
    pub(crate) fn of(&self, index: u32) -> Option<u64> {
        let within = u64::from(index).checked_mul(self.size.into())?;
        (index < self.count).then(|| self.offset.checked_add(within))?
    }
}

impl Memory {
    /// Map the first `len` bytes of `file`, shared. Where the file can do that,
    /// so that what is written needs nothing but a flush of the CPU's caches
    /// to be persistent (MAP_SYNC, see [`Memory::is_sync`]).
    ///
    /// The pages are small ones, as ports need them. A program that maps the
    /// file by other means should see to that, too (MADV_NOHUGEPAGE).
    ///
    /// EINVAL: `len` is 0, no multiple of 4096, or more than the file has. A
    /// device DAX that has larger pages is refused (ErrorKind::Unsupported).
    pub fn file(file: &File, len: usize) -> std::io::Result<Memory> {
        if Memory::room(file)? < len as u64 {
            return Err(Errno::INVAL.into());
        }
        let (map, sync) = Map::file(file.as_fd(), len)?;
        Ok(Memory::of(map, sync))
    }

    /// How many bytes of `file` can be mapped: its length, or what a device DAX
    /// has. Errors as of [`Memory::file`].
    pub fn room(file: &File) -> std::io::Result<u64> {
        let found = file.metadata()?;
        if !found.file_type().is_char_device() {
            return Ok(found.len());
        }
        let (major, minor) = (major(found.rdev()), minor(found.rdev()));
        let tell = |what: &str| -> std::io::Result<u64> {
            let text = std::fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/{what}"))?;
            text.trim().parse().map_err(std::io::Error::other)
        };
        let align = tell("align")?;
        if align != 4096 {
            let text = format!(
                "device DAX with pages of {align} bytes, and 4096 are needed: \
                 ndctl create-namespace -f -e NAMESPACE -m devdax -a 4096"
            );
            return Err(std::io::Error::new(ErrorKind::Unsupported, text));
        }
        tell("size")
    }

    /// Memory without a file, zeros.
    ///
    /// EINVAL: `len` is 0 or no multiple of 4096.
    pub fn anonymous(len: usize) -> std::io::Result<Memory> {
        Ok(Memory::of(Map::anonymous(len)?, false))
    }

    fn of(map: Map, sync: bool) -> Memory {
        Memory(Arc::new(Shared {
            map: Arc::new(map),
            sync,
            state: Mutex::new(State {
                ports: 0,
                readers: 0,
                tag: MemoryTag::new(),
                bufs: Place::default(),
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let lock = self.0.state.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.map.len()
    }

    /// Whether a flush of the CPU's caches makes what was written persistent.
    pub fn is_sync(&self) -> bool {
        self.0.sync
    }

    /// What lies in it, if a port has been there before.
    pub fn format(&self) -> Option<Format> {
        let mut bytes = [0u8; Format::SIZE];
        for (word, at) in bytes.chunks_exact_mut(8).zip((0..).step_by(8)) {
            let value: u64 = self.0.map.read(at).ok()?;
            word.copy_from_slice(&value.to_ne_bytes());
        }
        Format::parse(&bytes)
    }

    /// All of it, to read, as long as no port uses it; opening one fails
    /// (EBUSY) before the last of these is gone. `None`: a port does.
    pub fn read(&self) -> Option<MemoryRead<'_>> {
        let mut state = self.state();
        if state.ports != 0 {
            return None;
        }
        state.readers += 1;
        Some(MemoryRead(self))
    }

    /// The bytes of a buffer; empty if it is none of a port with this memory.
    pub fn bytes<'a>(&'a self, buf: &'a ExtraBuf) -> &'a [u8] {
        let (tag, bufs) = {
            let state = self.state();
            (state.tag, state.bufs)
        };
        if !buf.belongs_to(tag) {
            return &[];
        }
        let at = bufs.of(buf.index()).and_then(|at| usize::try_from(at).ok());
        // SAFETY: this is the only holder of the buffer, and it is borrowed.
        let bytes = at.and_then(|at| unsafe { self.0.map.bytes(at, bufs.size as usize) });
        bytes.unwrap_or(&[])
    }

    /// Where `len` bytes at `offset` are in memory: for flushing them. What is
    /// there may change at any time.
    pub fn address(&self, offset: usize, len: usize) -> Option<*const u8> {
        self.0.map.address(offset, len)
    }

    /// For a port to be opened. EBUSY: somebody reads.
    pub(crate) fn lease(&self) -> Result<Lease> {
        let mut state = self.state();
        if state.readers != 0 {
            return Err(Errno::BUSY);
        }
        if state.ports == 0 {
            // INVARIANT: what former ports gave out is of no use from now on.
            state.tag = MemoryTag::new();
        }
        state.ports += 1;
        Ok(Lease {
            memory: self.clone(),
            tag: state.tag,
        })
    }
}

/// The whole of a [`Memory`] that no port uses.
pub struct MemoryRead<'a>(&'a Memory);

impl Deref for MemoryRead<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let map = &self.0 .0.map;
        // SAFETY: no port uses the memory (invariant of State), so nothing of
        // this program writes to it, nor does the kernel.
        unsafe { map.bytes(0, map.len()) }.unwrap_or(&[])
    }
}

impl Drop for MemoryRead<'_> {
    fn drop(&mut self) {
        self.0.state().readers -= 1;
    }
}

/// A port's use of a [`Memory`].
pub(crate) struct Lease {
    memory: Memory,
    /// What buffers of the port are marked with.
    pub(crate) tag: MemoryTag,
}

impl Lease {
    /// The mapping.
    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.memory.0.map
    }

    /// Tells where the kernel has put the buffers.
    pub(crate) fn set_bufs(&self, bufs: Place) {
        self.memory.state().bufs = bufs;
    }

    /// The header of the memory.
    pub(crate) fn format(&self) -> Option<Format> {
        self.memory.format()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.memory.state().ports -= 1;
    }
}
