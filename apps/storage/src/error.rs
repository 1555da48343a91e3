// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! What can go wrong.

use std::fmt;
use std::io;

/// Why a call did nothing. No error leaves a file worse than it was.
#[derive(Debug)]
pub enum Error {
    /// No lines, blocks or places for objects are left. The body is untouched;
    /// drop something, commit, and try again.
    Full,
    /// A key must have 1 to [`crate::MAX_KEY`] bytes.
    KeyLength(usize),
    /// A segment that is not in the pool, or not as long as its bytes.
    BadSegment,
    /// Not a file of this library, or one whose formatting was interrupted.
    NotOurs,
    /// Made by another version of this library.
    Version(u32),
    /// A map where a log was expected, or a log where a map was.
    Kind,
    /// Sizes that make no sense, or no file of at most 2^47 bytes.
    Shape,
    /// The file belongs to another pool of packet buffers.
    OtherPool {
        /// The pool the file was made with.
        file: crate::Pool,
        /// The pool it was opened with.
        given: crate::Pool,
    },
    /// The file is shorter than it says.
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// A checksum does not fit its bytes: which.
    Damaged(&'static str),
    /// Another process has the file open.
    InUse,
    /// What the system said.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Full => write!(f, "no space left in the store"),
            Error::KeyLength(len) => {
                write!(
                    f,
                    "a key of {len} bytes; 1 to {} can be kept",
                    crate::MAX_KEY
                )
            }
            Error::BadSegment => write!(f, "a segment outside of its pool"),
            Error::NotOurs => write!(f, "not a store, or its formatting was interrupted"),
            Error::Version(v) => write!(
                f,
                "a store of version {v}, this is version {}",
                crate::header::VERSION
            ),
            Error::Kind => write!(f, "a store of the other kind (log, map)"),
            Error::Shape => write!(f, "impossible sizes"),
            Error::OtherPool { file, given } => {
                write!(f, "the store belongs to {file}, not to {given}")
            }
            Error::Truncated { have, need } => {
                write!(f, "the file has {have} bytes of {need}")
            }
            Error::Damaged(what) => write!(f, "the {what} is damaged"),
            Error::InUse => write!(f, "in use by another process"),
            Error::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Error {
        Error::Io(error.into())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::Io(error) => error,
            Error::Full => io::Error::new(io::ErrorKind::StorageFull, error),
            Error::InUse => io::Error::new(io::ErrorKind::ResourceBusy, error),
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
