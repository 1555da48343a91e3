// SPDX-License-Identifier: GPL-2.0
//! How large the files of a store are, and room for one that takes the place of another one, found before
//! anything of that is lost: existing files grow to the size that they are to
//! have, new ones are made. If there is no room, all are as they were.

use std::fs::{self, OpenOptions};
use std::io;
use std::num::TryFromIntError;
use std::path::{Path, PathBuf};

use netmap::PoolParams;
use netmap_storage::{LogShape, MapShape};
use rustix::fs::FallocateFlags;

use super::files::BUFFER;
use super::written::lock;
use crate::during;

/// Bytes of a block for copied bodies.
const BLOCK: u32 = 1024;

/// A log of `bytes`; or, with zero copy, for so many packet buffers. A few
/// pieces are copied also then: those that are not in a buffer any more.
pub fn log_shape(buffers: Option<u32>, bytes: u64) -> LogShape {
    match buffers {
        Some(buffers) => LogShape {
            lines: buffers + buffers / 2,
            blocks: buffers / 8,
            block_size: BLOCK,
        },
        None => LogShape::for_bytes(bytes, BLOCK),
    }
}

/// The same for a map.
pub fn map_shape(buffers: Option<u32>, bytes: u64) -> MapShape {
    match buffers {
        Some(buffers) => MapShape {
            objects: buffers,
            lines: buffers + buffers / 2,
            blocks: buffers / 8,
            block_size: BLOCK,
        },
        None => MapShape::for_bytes(bytes, BLOCK),
    }
}

/// Bytes of a log's or map's file; with a pool, for so many of its buffers.
pub fn shape_bytes(
    keys: bool,
    buffers: Option<u32>,
    megabytes: u64,
) -> Result<u64, netmap_storage::Error> {
    let bytes = megabytes * 1_000_000;
    match keys {
        true => map_shape(buffers, bytes).bytes(),
        false => log_shape(buffers, bytes).bytes(),
    }
}

/// Bytes of a pool's file: whole pages.
pub fn pool_bytes(megabytes: u64) -> u64 {
    megabytes * 1_000_000 / 4096 * 4096
}

/// Buffers of a new pool of `len` bytes: what is behind interfaces and rings, in
/// whole pages.
pub fn pool_buffers(params: PoolParams, len: u64) -> Result<u32, TryFromIntError> {
    let page = |n: u32, size: u32| (u64::from(n) * u64::from(size)).next_multiple_of(4096);
    let before = page(params.if_num, params.if_size) + page(params.ring_num, params.ring_size);
    u32::try_from(len.saturating_sub(before) / u64::from(BUFFER))
}

/// Give each file so many bytes at least. What they hold stays.
pub fn reserve(files: &[(PathBuf, u64)]) -> io::Result<()> {
    let mut before = Vec::new();
    for (path, len) in files {
        let old = fs::metadata(path).ok().map(|found| found.len());
        let grown = grow(path, *len);
        before.push((path, old));
        if let Err(error) = grown {
            // Not a file in use: its owner may have made it larger meanwhile.
            if matches!(error, netmap_storage::Error::InUse) {
                before.pop();
            }
            for (path, old) in before {
                restore(path, old).map_err(during(path.display()))?;
            }
            return Err(during(path.display())(io::Error::other(error)));
        }
    }
    Ok(())
}

fn grow(path: &Path, len: u64) -> Result<(), netmap_storage::Error> {
    let file = lock(OpenOptions::new().create(true).truncate(false), path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len).map_err(io::Error::from)?;
    Ok(())
}

fn restore(path: &Path, old: Option<u64>) -> io::Result<()> {
    match old {
        // Frees what was allocated behind it, too.
        Some(len) => OpenOptions::new().write(true).open(path)?.set_len(len),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_room_all_files_are_as_they_were() {
        let folder = std::env::temp_dir().join(format!("phttpd-room-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (old, new, large) = (folder.join("old"), folder.join("new"), folder.join("large"));
        fs::write(&old, "text").unwrap();
        fs::write(&large, "more").unwrap();
        let wanted = |len| {
            [
                (old.clone(), 9000),
                (new.clone(), 9000),
                (large.clone(), len),
            ]
        };
        reserve(&wanted(1 << 60)).unwrap_err();
        assert_eq!(fs::read(&old).unwrap(), b"text");
        assert_eq!(fs::read(&large).unwrap(), b"more");
        assert!(!new.exists());
        // And neither is one that somebody uses.
        let used = lock(&mut OpenOptions::new(), &large).unwrap();
        reserve(&wanted(8)).unwrap_err();
        assert_eq!(fs::read(&large).unwrap(), b"more");
        assert!(!new.exists());
        drop(used);
        reserve(&wanted(8)).unwrap();
        assert_eq!(fs::read(&large).unwrap(), b"more\0\0\0\0");
        assert_eq!(fs::read(&old).unwrap()[..5], *b"text\0");
        assert_eq!(fs::metadata(&new).unwrap().len(), 9000);
        fs::remove_dir_all(&folder).unwrap();
    }
}
