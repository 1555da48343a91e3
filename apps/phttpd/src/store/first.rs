// SPDX-License-Identifier: GPL-2.0
//! The first formatting of a store. An empty file beside the others says that
//! it has begun; that it is gone is the last, atomic step. So whoever finds it
//! knows that no server has answered yet with these files, and starts again;
//! unless somebody has put a store there meanwhile, which stays.
//!
//! It is only ever made where there is none of the files, and a start that ends
//! with an error takes it away again, with the files that it has made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use netmap_storage::{Mapped, Memory, Sync};
use rustix::fs::FlockOperation;

use super::files::fail;
use crate::during;

/// A formatting that is going on.
pub struct First {
    mark: PathBuf,
    /// Keeps it locked.
    file: File,
    /// Files that this start has made.
    made: Vec<PathBuf>,
    /// If it fails, all is to be as before: nothing there.
    undo: bool,
}

impl First {
    /// Begin if none of `files`, which `user` named, is there; or begin again,
    /// without `files`, what was interrupted. `None`: there are files to be
    /// opened.
    pub fn begin(user: &Path, mark: &Path, files: &[PathBuf]) -> io::Result<Option<First>> {
        let interrupted = found(mark)?;
        if !interrupted && files.iter().any(|path| there(path)) {
            return Ok(None);
        }
        let mut how = OpenOptions::new();
        let how = how.read(true).write(true).create_new(!interrupted);
        let file = how.open(mark).map_err(during(user.display()))?;
        let first = First::locked(mark, file)?;
        if interrupted {
            eprintln!(
                "phttpd: {}: the first formatting was interrupted, it starts again",
                mark.display()
            );
            let old: Vec<&PathBuf> = files.iter().filter(|path| there(path)).collect();
            for path in &old {
                unused(path, mark)?;
            }
            for path in old {
                fs::remove_file(path).map_err(during(path.display()))?;
            }
        } else if files.iter().any(|path| there(path)) {
            // Another process was faster.
            fs::remove_file(mark).map_err(during(mark.display()))?;
            return Err(in_use(mark));
        }
        first.begun(true)
    }

    /// Where all files are made afresh, whatever they hold: the mark of an
    /// earlier formatting is to go once they are complete.
    pub fn again(mark: &Path) -> io::Result<Option<First>> {
        if !found(mark)? {
            return Ok(None);
        }
        let mut how = OpenOptions::new();
        let file = how.read(true).write(true).open(mark);
        First::locked(mark, file.map_err(during(mark.display()))?)?.begun(false)
    }

    fn locked(mark: &Path, file: File) -> io::Result<First> {
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
            || !mark.exists()
        {
            return Err(in_use(mark));
        }
        Ok(First {
            mark: mark.to_path_buf(),
            file,
            made: Vec::new(),
            undo: false,
        })
    }

    fn begun(mut self, undo: bool) -> io::Result<Option<First>> {
        self.undo = undo;
        let what = |error| during(self.mark.display())(error);
        self.file.sync_all().map_err(what)?;
        settle(&self.mark).map_err(what)?;
        Ok(Some(self))
    }

    /// This file is about to be made.
    pub fn make(&mut self, path: &Path) -> io::Result<()> {
        if self.undo {
            if there(path) {
                return Err(fail(format_args!("{}: made by others", path.display())));
            }
            self.made.push(path.to_path_buf());
        }
        Ok(())
    }

    /// All files are complete, durably. When this returns that is true for ever.
    pub fn done(mut self) -> io::Result<()> {
        // Whatever happens now, they may be a store.
        self.undo = false;
        let what = |error| during(self.mark.display())(error);
        // First the names of the files, then that this one is gone.
        settle(&self.mark).map_err(what)?;
        fs::remove_file(&self.mark).map_err(what)?;
        settle(&self.mark).map_err(what)
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if !self.undo {
            return;
        }
        // The mark last: while it is there, the others are known to be nothing.
        for path in self.made.iter().chain([&self.mark]) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    eprintln!("phttpd: {}: {error}", path.display());
                    return;
                }
                _ => {}
            }
        }
    }
}

/// Remove what an older store of another shape has left of these files: a new
/// one would be taken for a part of it.
pub fn clear(files: &[PathBuf]) -> io::Result<()> {
    let mut held = Vec::new();
    for path in files.iter().filter(|path| there(path)) {
        let file = File::open(path).map_err(during(path.display()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(in_use(path));
        }
        held.push((path, file));
    }
    for (path, _) in &held {
        fs::remove_file(path).map_err(during(path.display()))?;
    }
    held.first().map_or(Ok(()), |(path, _)| {
        settle(path).map_err(during(path.display()))
    })
}

fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether the mark is there.
fn found(mark: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(mark) {
        Ok(found) if found.is_file() && found.len() == 0 => Ok(true),
        Ok(_) => Err(fail(format_args!("{}: not ours", mark.display()))),
        Err(_) => Ok(false),
    }
}

fn in_use(mark: &Path) -> io::Error {
    fail(format_args!(
        "{}: in use by another process",
        mark.display()
    ))
}

/// See that nobody has stored anything in a file that lies beside the mark: no
/// server has, but a backup may have been put there.
fn unused(path: &Path, mark: &Path) -> io::Result<()> {
    let len = fs::metadata(path).map_err(during(path.display()))?.len();
    if len == 0 {
        return Ok(());
    }
    let file = Mapped::open(path, Sync::None)
        .map_err(|error| fail(format_args!("{}: {error}", path.display())))?;
    if netmap_storage::used(file.bytes()) {
        return Err(fail(format_args!(
            "{}: holds a store, though {} says that none was finished here: \
             remove that file to open the store, or the store to begin a new one",
            path.display(),
            mark.display()
        )));
    }
    Ok(())
}

/// Where a file lies.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Make names in the folder of this file durable.
pub fn settle(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}
