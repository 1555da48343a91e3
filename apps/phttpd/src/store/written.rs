// SPDX-License-Identifier: GPL-2.0
//! A file that is not mapped: kept in memory, written with pwrite() and made
//! durable with fdatasync(). And the choice between that and a mapped one.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use netmap_storage::{Error, Mapped, Memory, Sync as How, LINE};
use rustix::fs::FlockOperation;

use super::files::{fail, unusable};
use crate::options::Storage;

/// What a log or a map lies on.
pub enum Medium {
    /// A mapped file.
    Mapped(Mapped),
    /// One that is written.
    Written(Written),
}

/// A file and what it is to hold.
pub struct Written {
    file: File,
    bytes: Vec<u8>,
    /// Changed since the last wait.
    changed: Vec<Range<usize>>,
    /// Make it durable at all.
    sync: bool,
    delay: Duration,
}

impl Written {
    /// A new file of zeros, in the place of what was there.
    pub fn create(path: &Path, len: u64, sync: bool, delay: Duration) -> Result<Written, Error> {
        let file = lock(OpenOptions::new().create(true).truncate(false), path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)
            .map_err(io::Error::from)?;
        file.set_len(len)?;
        fill(&file, len)?;
        let size = usize::try_from(len).map_err(|_| Error::Shape)?;
        let bytes = vec![0; size];
        Ok(Written::new(file, bytes, sync, delay))
    }

    /// A file that there is.
    pub fn open(path: &Path, sync: bool, delay: Duration) -> Result<Written, Error> {
        let file = lock(&mut OpenOptions::new(), path)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Written::new(file, bytes, sync, delay))
    }

    fn new(file: File, bytes: Vec<u8>, sync: bool, delay: Duration) -> Written {
        Written {
            file,
            bytes,
            changed: Vec::new(),
            sync,
            delay,
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        self.changed.sort_unstable_by_key(|range| range.start);
        let mut ranges = self.changed.iter().cloned();
        let mut next = ranges.next();
        while let Some(mut range) = next {
            next = ranges.next();
            while let Some(after) = next.take_if(|after| after.start <= range.end) {
                range.end = range.end.max(after.end);
                next = ranges.next();
            }
            let start = range.start as u64;
            let bytes = self.bytes.get(range).unwrap_or(&[]);
            self.file.write_all_at(bytes, start)?;
        }
        if self.sync {
            self.file.sync_data()?;
            let end = Instant::now() + self.delay;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        // Not before: what failed is to be written again.
        self.changed.clear();
        Ok(())
    }
}

pub fn lock(options: &mut OpenOptions, path: &Path) -> Result<File, Error> {
    let file = options.read(true).write(true).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

impl Memory for Medium {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Medium::Mapped(it) => it.bytes(),
            Medium::Written(it) => &it.bytes,
        }
    }

    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        match self {
            Medium::Mapped(it) => it.write(at, bytes),
            Medium::Written(it) => it.bytes[at..at + bytes.len()].copy_from_slice(bytes),
        }
    }

    #[inline]
    fn store(&mut self, at: usize, word: u64) {
        match self {
            Medium::Mapped(it) => it.store(at, word),
            Medium::Written(it) => it.bytes[at..at + 8].copy_from_slice(&word.to_le_bytes()),
        }
    }

    #[inline]
    fn flush(&mut self, at: usize, len: usize) {
        match self {
            Medium::Mapped(it) => it.flush(at, len),
            // As much as a processor would: whole lines.
            Medium::Written(it) => it
                .changed
                .push(at / LINE * LINE..(at + len).next_multiple_of(LINE).min(it.bytes.len())),
        }
    }

    #[inline]
    fn flush_foreign(&mut self, bytes: &[u8]) {
        match self {
            Medium::Mapped(it) => it.flush_foreign(bytes),
            // Zero copy needs a mapped file.
            Medium::Written(_) => {}
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match self {
            Medium::Mapped(it) => it.wait(),
            Medium::Written(it) => it.wait(),
        }
    }
}

/// Write the zeros that a new file consists of. Blocks that are only reserved
/// are slow on DAX: the first store to each page would wait for the journal.
pub fn fill(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let n = (len - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    file.sync_all()
}

fn how(options: &Storage) -> How {
    match (options.no_flush, options.sync) {
        (true, _) => How::None,
        (false, true) => How::Fdatasync,
        (false, false) => How::Auto,
    }
}

fn finish_medium(options: &Storage, mut mapped: Mapped) -> (Medium, String) {
    // Requests are not to wait for page faults.
    mapped.populate();
    mapped.set_delay(options.latency_ns);
    let how = format!("mapped, {}", mapped.method());
    (Medium::Mapped(mapped), how)
}

fn written(options: &Storage) -> (bool, Duration, String) {
    let how = if options.no_flush {
        "written"
    } else {
        "written, fdatasync"
    };
    (
        !options.no_flush,
        Duration::from_nanos(options.latency_ns),
        how.into(),
    )
}

/// Open the file of a log or a map; how it is made durable, too.
pub fn open_medium(options: &Storage, path: &Path) -> io::Result<(Medium, String)> {
    if options.map {
        let mapped = Mapped::open(path, how(options)).map_err(unusable(path))?;
        return Ok(finish_medium(options, mapped));
    }
    let (sync, delay, how) = written(options);
    let written = Written::open(path, sync, delay).map_err(unusable(path))?;
    Ok((Medium::Written(written), how))
}

/// Make one of `len` bytes, all zeros.
pub fn create_medium(options: &Storage, path: &Path, len: u64) -> io::Result<(Medium, String)> {
    let fail = |error: netmap_storage::Error| fail(format_args!("{}: {error}", path.display()));
    if options.map {
        let mapped = Mapped::create(path, len, how(options)).map_err(fail)?;
        let file = OpenOptions::new().write(true).open(path)?;
        fill(&file, len)?;
        return Ok(finish_medium(options, mapped));
    }
    let (sync, delay, how) = written(options);
    let written = Written::create(path, len, sync, delay).map_err(fail)?;
    Ok((Medium::Written(written), how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_not_forgotten() {
        let path = std::env::temp_dir().join(format!("unwritten-{}", std::process::id()));
        drop(Written::create(&path, 4096, true, Duration::ZERO).unwrap());
        // One that cannot be written to.
        let file = File::open(&path).unwrap();
        let mut medium = Medium::Written(Written::new(file, vec![0; 4096], true, Duration::ZERO));
        medium.wait().unwrap();
        medium.store(0, 1);
        medium.flush(0, 8);
        for _ in 0..2 {
            assert!(medium.wait().is_err());
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_was_flushed_is_in_the_file_and_the_file_is_locked() {
        let path = std::env::temp_dir().join(format!("written-{}", std::process::id()));
        let made = Written::create(&path, 10_000, true, Duration::ZERO).unwrap();
        let mut medium = Medium::Written(made);
        for (at, text) in [(5000, "later"), (0, "first"), (5, "second"), (4, "T")] {
            medium.write(at, text.as_bytes());
            medium.flush(at, text.len());
        }
        medium.store(8, u64::from_le_bytes(*b"8 bytes."));
        medium.flush(8, 8);
        assert!(matches!(
            Written::open(&path, true, Duration::ZERO),
            Err(Error::InUse)
        ));
        medium.wait().unwrap();
        drop(medium);
        let again = Written::open(&path, true, Duration::ZERO).unwrap();
        assert_eq!(again.bytes.len(), 10_000);
        assert_eq!(&again.bytes[..16], b"firsTsec8 bytes.");
        assert_eq!(&again.bytes[5000..5005], b"later");
        std::fs::remove_file(&path).unwrap();
    }
}
