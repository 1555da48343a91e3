// SPDX-License-Identifier: GPL-2.0
//! The first formatting of a store. An empty file beside the others says that
//! it has begun; that it is gone is the last, atomic step. So whoever finds it
//! knows that no server has answered yet with these files, and starts again.
//!
//! It is only ever made where there is none of the files, so whatever happens
//! to it, it cannot make anybody format files that something is in.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::files::fail;
use crate::during;

/// A formatting that is going on.
pub struct First {
    mark: PathBuf,
    /// Keeps it locked.
    _file: File,
}

impl First {
    /// Begin if none of `files` is there; or begin again, without `files`, what
    /// was interrupted. `None`: there are files to be opened.
    pub fn begin(mark: &Path, files: &[PathBuf]) -> io::Result<Option<First>> {
        let there = |path: &PathBuf| path.symlink_metadata().is_ok();
        let interrupted = match fs::symlink_metadata(mark) {
            Ok(found) if found.is_file() && found.len() == 0 => true,
            Ok(_) => return Err(fail(format_args!("{}: not ours", mark.display()))),
            Err(_) if files.iter().any(there) => return Ok(None),
            Err(_) => false,
        };
        let what = |error| during(mark.display())(error);
        let in_use = || {
            fail(format_args!(
                "{}: in use by another process",
                mark.display()
            ))
        };
        let mut how = OpenOptions::new();
        let how = how.read(true).write(true);
        let file = match interrupted {
            true => how.open(mark),
            false => how.create_new(true).open(mark),
        };
        let file = file.map_err(what)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
            || !mark.exists()
        {
            return Err(in_use());
        }
        if interrupted {
            eprintln!(
                "phttpd: {}: the first formatting was interrupted, it starts again",
                mark.display()
            );
            for path in files.iter().filter(|path| there(path)) {
                fs::remove_file(path).map_err(during(path.display()))?;
            }
        } else if files.iter().any(there) {
            // Another process was faster.
            fs::remove_file(mark).map_err(what)?;
            return Err(in_use());
        }
        file.sync_all().map_err(what)?;
        settle(mark).map_err(what)?;
        Ok(Some(First {
            mark: mark.to_path_buf(),
            _file: file,
        }))
    }

    /// All files are complete, durably. When this returns that is true for ever.
    pub fn done(self) -> io::Result<()> {
        let what = |error| during(self.mark.display())(error);
        // First the names of the files, then that this one is gone.
        settle(&self.mark).map_err(what)?;
        fs::remove_file(&self.mark).map_err(what)?;
        settle(&self.mark).map_err(what)
    }
}

/// Make names in the folder of this file durable.
pub fn settle(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
