// SPDX-License-Identifier: GPL-2.0
//! The files of a store: opened and recovered, or made anew, in two steps.
//! Before the port is opened the old ones are read, which tells what buffers
//! it has to leave alone; new ones are made after that, as they carry the
//! number of the pool that the port makes.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use netmap::{ExtraBuf, Format, Memory, PoolParams, Port};
use netmap_storage::{Buffers, Log, LogShape, Map, NoBuffers, Pool, Slab};
use rustix::fs::{FallocateFlags, FlockOperation};

use super::first::{clear, folder, settle, First};
use super::room::{log_shape, map_shape, pool_buffers, pool_bytes, reserve, shape_bytes};
use super::written::{create_medium, fill, open_medium};
use super::{Books, Held, Part, Recycle, Shelf, Shelves};
use crate::during;
use crate::options::Storage;

/// Bytes of a packet buffer.
pub const BUFFER: u32 = 2048;
/// MB where nothing is said.
const DEFAULT_MB: u64 = 64;
/// Threads that options can ask for.
const MOST_THREADS: usize = 64;
/// Slots of a ring.
const SLOTS: u32 = 1024;

/// Opened files.
pub struct Files<'a> {
    options: &'a Storage,
    threads: usize,
    paths: Vec<PathBuf>,
    /// Of files that there were.
    books: Vec<Books>,
    /// Buffers that each of them refers to.
    found: Vec<Vec<u32>>,
    pool: Option<PoolFile>,
    /// All of them are to be made.
    fresh: bool,
    /// And there never were any.
    first: Option<First>,
}

/// The file whose pages are the packet buffers.
pub struct PoolFile {
    /// Keeps it locked.
    _file: File,
    /// Its mapping.
    pub memory: Memory,
    /// What it is to hold.
    pub params: PoolParams,
    /// Buffers in all.
    buffers: u32,
    /// What it does hold, if it is to be kept.
    pub format: Option<Format>,
}

/// An error that is a message.
pub fn fail(text: impl Display) -> io::Error {
    io::Error::other(text.to_string())
}

/// What to do about a file that cannot be used.
pub fn unusable(path: &Path) -> impl FnOnce(netmap_storage::Error) -> io::Error + '_ {
    move |error| {
        fail(format_args!(
            "{}: {error} (--format starts afresh)",
            path.display()
        ))
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

impl<'a> Files<'a> {
    /// Find the files, recover what is in them. `None`: nothing is to be stored.
    pub fn open(options: &'a Storage, threads: u16) -> io::Result<Option<Files<'a>>> {
        let Some(path) = &options.path else {
            return Ok(None);
        };
        if std::fs::metadata(path).is_ok_and(|found| !found.is_dir() && !found.is_file()) {
            return Err(fail(format_args!(
                "{}: neither a folder nor a file (device DAX needs a file system: ndctl create-namespace -m fsdax)",
                path.display()
            )));
        }
        let folder = folder(path);
        std::fs::metadata(folder).map_err(during(format_args!(
            "{}: its folder {}",
            path.display(),
            folder.display()
        )))?;
        let threads = usize::from(threads);
        // Threads have a log each, and share a map.
        let count = if options.keys { 1 } else { threads };
        let paths: Vec<PathBuf> = (0..count).map(|n| name(path, options.keys, n)).collect();
        let mark = beside(path, "formatting");
        let first = match options.format {
            true => First::again(&mark)?,
            false => First::begin(path, &mark, &all_names(path))?,
        };
        let mut files = Files {
            fresh: options.format || first.is_some(),
            first,
            options,
            threads,
            paths,
            books: Vec::new(),
            found: Vec::new(),
            pool: None,
        };
        let pool = beside(path, "pool");
        if !files.fresh {
            files.check_names(path, &pool)?;
        }
        if options.format {
            reserve(&files.sizes(&pool)?)?;
            let kept =
                |name: &PathBuf| files.paths.contains(name) || options.zero_copy && *name == pool;
            let mut others = all_names(path);
            others.retain(|name| !kept(name));
            clear(&others)?;
        }
        if options.zero_copy {
            files.pool = Some(files.open_pool(&pool)?);
        }
        if !files.fresh {
            files.recover()?;
        }
        Ok(Some(files))
    }

    /// See that all files are there, and no others of their kind.
    fn check_names(&self, path: &Path, pool: &Path) -> io::Result<()> {
        let options = self.options;
        let there = self.paths.iter().filter(|path| exists(path)).count();
        if there == 0 {
            // Files there are, but others. To format beside them could not be
            // told from a damaged store, were it interrupted.
            return Err(fail(format_args!(
                "{}: holds another store, so there can be no new one: take another folder, or --format",
                path.display(),
            )));
        }
        let beyond = name(path, options.keys, self.threads);
        if there != self.paths.len()
            || options.zero_copy && !exists(pool)
            || !options.keys && exists(&beyond)
        {
            return Err(fail(format_args!(
                "{}: not the files of {} thread(s){} (another -p or -x, or --format)",
                path.display(),
                self.threads,
                if options.zero_copy {
                    " with zero copy"
                } else {
                    ""
                },
            )));
        }
        Ok(())
    }

    /// The pool and the buffers in it that must be left alone.
    pub fn pool(&self) -> Option<(&PoolFile, Vec<u32>)> {
        let claims = self.found.iter().flatten().copied().collect();
        self.pool.as_ref().map(|pool| (pool, claims))
    }

    /// A file is about to be made.
    fn making(&mut self, path: &Path) -> io::Result<()> {
        self.first.as_mut().map_or(Ok(()), |first| first.make(path))
    }

    fn open_pool(&mut self, path: &Path) -> io::Result<PoolFile> {
        let what = |error| during(path.display())(error);
        let old = !self.fresh;
        if !old {
            // Before anything is made of that size.
            self.new_buffers(path, pool_bytes(self.megabytes()))?;
            self.making(path)?;
        }
        let mut how = OpenOptions::new();
        let file = how
            .read(true)
            .write(true)
            .create(!old)
            .open(path)
            .map_err(what)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(fail(format_args!(
                "{}: in use by another process",
                path.display()
            )));
        }
        let wanted = self.options.megabytes.map(pool_bytes);
        let mut len = file.metadata().map_err(what)?.len();
        if !old {
            len = pool_bytes(self.megabytes());
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len)
                .map_err(|error| what(error.into()))?;
            file.set_len(len).map_err(what)?;
            fill(&file, len).map_err(what)?;
        } else if wanted.is_some_and(|wanted| wanted != len) {
            return Err(fail(format_args!(
                "{}: has {len} bytes, which is not what -L says (leave it out, or --format)",
                path.display()
            )));
        }
        let bytes = usize::try_from(len).map_err(fail)?;
        let memory = Memory::file(&file, bytes).map_err(what)?;
        let format = memory.format().filter(|_| old);
        let fresh = self.pool_params();
        let params = match format {
            Some(format) if format.params.ring_num < fresh.ring_num => {
                return Err(fail(format_args!(
                    "{}: made for fewer threads than {} (another -p, or --format)",
                    path.display(),
                    self.threads
                )));
            }
            Some(format) => format.params,
            None if old => {
                return Err(fail(format_args!(
                    "{}: not a pool of packet buffers, or a damaged one (--format starts afresh)",
                    path.display()
                )));
            }
            None => fresh,
        };
        let buffers = match format {
            Some(format) => self.enough(path, format.params.buf_num)?,
            None => self.new_buffers(path, len)?,
        };
        Ok(PoolFile {
            _file: file,
            memory,
            params,
            buffers,
            format,
        })
    }

    /// What a new pool is to hold.
    fn pool_params(&self) -> PoolParams {
        PoolParams::for_stack(self.threads as u16, SLOTS, BUFFER)
    }

    /// Buffers of a new pool of `len` bytes, if they are enough.
    fn new_buffers(&self, path: &Path, len: u64) -> io::Result<u32> {
        self.enough(path, pool_buffers(self.pool_params(), len).map_err(fail)?)
    }

    /// `buffers`, if they are enough to serve with.
    fn enough(&self, path: &Path, buffers: u32) -> io::Result<u32> {
        let enough = |buffers| buffers > self.kernels_share(buffers);
        if enough(buffers) {
            return Ok(buffers);
        }
        let new = |mb| pool_buffers(self.pool_params(), pool_bytes(mb));
        let least = (1..).find(|&mb| new(mb).map_or(true, enough)).unwrap_or(0);
        Err(fail(format_args!(
            "{}: too small for {} thread(s), a new one needs -L {least} at least",
            path.display(),
            self.threads
        )))
    }

    /// The files of a new store, and their bytes.
    fn sizes(&self, pool: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut sizes = Vec::new();
        let mut share = None;
        if self.options.zero_copy {
            let len = pool_bytes(self.megabytes());
            share = Some(self.share_of(self.new_buffers(pool, len)?));
            sizes.push((pool.to_path_buf(), len));
        }
        for path in &self.paths {
            let len = shape_bytes(self.options.keys, share, self.megabytes());
            sizes.push((path.clone(), len.map_err(unusable(path))?));
        }
        Ok(sizes)
    }

    /// MB of a new file.
    fn megabytes(&self) -> u64 {
        self.options.megabytes.unwrap_or(DEFAULT_MB)
    }

    /// Buffers that the rings, the NIC's queues and what is under way need: with
    /// fewer the kernel copies.
    fn kernels_share(&self, buffers: u32) -> u32 {
        2 + self.threads as u32 * (2 * SLOTS + 1024 + 512) + buffers / 16
    }

    /// Extra buffers to ask for.
    pub fn extra_bufs(&self) -> u32 {
        let claimed: usize = self.found.iter().map(Vec::len).sum();
        self.pool.as_ref().map_or(0, |pool| {
            let share = self.kernels_share(pool.buffers);
            pool.buffers
                .saturating_sub(share)
                .saturating_sub(claimed as u32)
        })
    }

    /// Open what there is.
    fn recover(&mut self) -> io::Result<()> {
        let options = self.options;
        let none = NoBuffers;
        let held = match &self.pool {
            None => None,
            Some(pool) => Some((
                pool,
                pool.memory
                    .read()
                    .ok_or_else(|| fail("the pool is in use"))?,
            )),
        };
        let slab = held.as_ref().and_then(|(pool, bytes)| {
            let format = pool.format?;
            Some(Slab::new(
                bytes,
                format.bufs_offset() as usize,
                format.params.buf_size,
            ))
        });
        let buffers: &dyn Buffers = match &slab {
            Some(slab) => slab,
            None => &none,
        };
        let pool = self.identity(None);
        for path in &self.paths {
            let (medium, how) = open_medium(options, path)?;
            let size = netmap_storage::Memory::bytes(&medium).len() as u64;
            if let Some(mb) = options.megabytes.filter(|_| self.pool.is_none()) {
                if size != shape_bytes(options.keys, None, mb).map_err(unusable(path))? {
                    return Err(fail(format_args!(
                        "{}: has {size} bytes, which is not what -L says (leave it out, or --format)",
                        path.display()
                    )));
                }
            }
            let (books, found) =
                match options.keys {
                    true => Map::open(medium, pool, buffers)
                        .map(|(map, found)| (Books::Map(map), found)),
                    false => Log::open(medium, pool, buffers)
                        .map(|(log, found)| (Books::Log(log), found)),
                }
                .map_err(unusable(path))?;
            eprintln!("phttpd: {}: {found}; {how}", path.display());
            self.books.push(books);
            self.found.push(found.buffers);
        }
        Ok(())
    }

    /// What the files say of the pool that they belong to.
    fn identity(&self, port: Option<&Port>) -> Pool {
        let format = self
            .pool
            .as_ref()
            .and_then(|pool| pool.format.or_else(|| port?.format()));
        format.map_or(Pool::NONE, |format| Pool {
            buffers: format.params.buf_num,
            buf_size: format.params.buf_size,
            id: format.id,
        })
    }

    /// With the ports open: make what there was not, and give each thread its
    /// part of it and of the buffers.
    pub fn finish(mut self, ports: &mut [Port]) -> io::Result<(Shelves, Vec<Part>)> {
        let share = self.share();
        if self.books.is_empty() {
            let pool = self.identity(ports.first());
            for path in &self.paths.clone() {
                self.making(path)?;
                let (books, how) = self.make(path, pool)?;
                eprintln!("phttpd: {}: new; {how}", path.display());
                self.books.push(books);
                self.found.push(Vec::new());
            }
        }
        match self.first.take() {
            Some(first) => first.done()?,
            // Whoever removed the mark may have died before that was durable.
            None => settle(&self.paths[0])?,
        }
        let mut claimed = Vec::new();
        let mut spare: Vec<Vec<ExtraBuf>> = (0..self.threads).map(|_| Vec::new()).collect();
        if let (Some(_), Some(port)) = (&self.pool, ports.first_mut()) {
            claimed = port.take_claimed();
            let mut next = 0;
            while let Some(buffer) = port.take_extra() {
                spare[next % self.threads].push(buffer);
                next += 1;
            }
        }
        let mut claimed = claimed.into_iter();
        let mut shelves = Vec::new();
        for (books, found) in self.books.into_iter().zip(&self.found) {
            let mut shelf = Shelf::new(books);
            claimed
                .by_ref()
                .take(found.len())
                .for_each(|buffer| shelf.kept.add(buffer));
            shelves.push(shelf);
        }
        let memory = self.pool.as_ref().map(|pool| &pool.memory);
        let size = std::fs::metadata(&self.paths[0])?.len();
        let LogShape { lines, blocks, .. } = log_shape(share, size);
        let parts = spare.into_iter().enumerate().map(|(n, spare)| Part {
            own: if self.options.keys { 0 } else { n },
            recycle: self.options.recycle.then(|| Recycle {
                lines: u64::from((lines / 8).min(2 * SLOTS)),
                blocks: (blocks / 8).min(2 * SLOTS) as usize,
                buffers: (spare.len() / 4).min(SLOTS as usize),
            }),
            held: memory.map(|memory| Held::new(memory.clone(), spare)),
            each: self.options.each,
        });
        let parts = parts.collect();
        let shared = self.options.keys && self.threads > 1;
        Ok((Shelves::new(shelves, shared), parts))
    }

    /// Packet buffers for each file, with zero copy.
    fn share(&self) -> Option<u32> {
        self.pool.as_ref().map(|pool| self.share_of(pool.buffers))
    }

    fn share_of(&self, buffers: u32) -> u32 {
        buffers / self.paths.len() as u32
    }

    /// A new log or map.
    fn make(&self, path: &Path, pool: Pool) -> io::Result<(Books, String)> {
        let options = self.options;
        let bytes = self.megabytes() * 1_000_000;
        if options.keys {
            let shape = map_shape(self.share(), bytes);
            let size = shape.bytes().map_err(unusable(path))?;
            let (medium, how) = create_medium(options, path, size)?;
            let map = Map::format(medium, shape, pool).map_err(unusable(path))?;
            return Ok((Books::Map(map), how));
        }
        let shape = log_shape(self.share(), bytes);
        let size = shape.bytes().map_err(unusable(path))?;
        let (medium, how) = create_medium(options, path, size)?;
        let log = Log::format(medium, shape, pool).map_err(unusable(path))?;
        Ok((Books::Log(log), how))
    }
}

/// The file of thread `n`: in a directory `log.N` or `map`, or what was named.
fn name(path: &Path, keys: bool, n: usize) -> PathBuf {
    match (path.is_dir(), keys, n) {
        (true, true, _) => path.join("map"),
        (true, false, n) => path.join(format!("log.{n}")),
        (false, _, 0) => path.to_path_buf(),
        (false, _, n) => suffixed(path, &format!(".{n}")),
    }
}

/// A file that belongs to all threads: in the directory, or named after the file.
fn beside(path: &Path, what: &str) -> PathBuf {
    match path.is_dir() {
        true => path.join(what),
        false => suffixed(path, &format!(".{what}")),
    }
}

/// All files that can be there, with any options.
fn all_names(path: &Path) -> Vec<PathBuf> {
    let logs = (0..MOST_THREADS).map(|n| name(path, false, n));
    let others = [name(path, true, 0), beside(path, "pool")];
    logs.chain(others).collect()
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
