// SPDX-License-Identifier: GPL-2.0

//! Buffers in memory of the user: a file on persistent memory (DAX), tmpfs, anonymous memory.
//!
//! A port's pools are built in the pages that option EXTMEM of REGISTER names, instead of kernel
//! pages; everything behind [`Pool`] stays as it is, as buffers are only known by page and offset.
//! Where things lie is a function of the parameters alone, so a buffer's index and its bytes mean
//! the same in the next life of the file. A header at its begin (`nmcore::format`) tells a program
//! that comes with other parameters before it destroys anything; nothing of it is believed.
//!
//! A program that wants to find its buffers again names them in option PST_BUFS: they are its own
//! before any ring gets a buffer, and no byte of a buffer is touched by giving it out.

#![deny(unsafe_code)]

use crate::{
    mem::Pool,
    nmcore::{
        abi::{NmreqPoolsInfo, PST_BUFS_EXISTING, PST_BUFS_FORMAT},
        format::{Found, Header, Refusal, Wish},
        layout::{Geometry, PoolParams},
        Errno, //
    },
    sys::{
        log::complain,
        pin::{self, Pinned, Refused, Why},
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Memory of the calling process, for the pools of a port.
pub(crate) struct Memory {
    /// Its pages.
    pub(crate) pinned: Arc<Pinned>,
    /// What will lie in it.
    pub(crate) geometry: Geometry,
}

impl Memory {
    /// The memory at `start` with the pools that `info` asks for; what is 0 there is taken from
    /// `defaults`. No lock is held.
    ///
    /// # Errors
    ///
    /// `EINVAL`: parameters out of their limits, an address that is no page's begin, buffers that
    /// would cross pages, a private mapping of a DAX file. `ENOMEM`: the pools do not fit in
    /// `nr_memsize`. `EFAULT`: nothing (writable) is mapped there. `EOPNOTSUPP`: memory that cannot
    /// be had for long, or huge pages. The reason is logged.
    pub(crate) fn new(start: u64, info: &NmreqPoolsInfo, defaults: &PoolParams) -> Result<Self> {
        let params = PoolParams::from_pools_info(info).or(defaults);
        let geometry = Geometry::extmem(&params, info.nr_memsize).inspect_err(|_| {
            complain(fmt!(
                "EXTMEM: the pools asked for do not fit in {} bytes",
                info.nr_memsize
            ));
        })?;
        if !geometry.bufs_keep_to_pages() {
            complain(fmt!(
                "EXTMEM: buffers of {} bytes would cross pages: take a size that divides 4096",
                geometry.bufs.size
            ));
            return Err(EINVAL);
        }
        let start = usize::try_from(start)?;
        let bytes = usize::try_from(geometry.memsize)?;
        // Pins of a port that has just been closed would count as uses of the pages.
        pin::settle();
        let pinned = Pinned::new(start, bytes).map_err(explain)?;
        Ok(Self {
            pinned: Arc::new(pinned, GFP_KERNEL)?,
            geometry,
        })
    }
}

/// Buffers that a program wants by number, and those that it is to be told the numbers of.
pub(crate) struct Bufs {
    /// Buffers that it had before.
    pub(crate) claims: KVVec<u32>,
    /// Extra buffers that it gets, at most as many as there is room for.
    pub(crate) fresh: KVVec<u32>,
    /// What is to happen to memory that has a header, or none.
    wish: Wish,
    /// The memory was formatted.
    pub(crate) formatted: bool,
    /// The entry of `claims` that cannot be had.
    pub(crate) bad: Option<usize>,
}

impl Bufs {
    /// What `flags` (`PST_BUFS_*`) say of the memory, with these claims and room for as many
    /// numbers as `fresh` has.
    ///
    /// # Errors
    ///
    /// `EINVAL` for flags that are unknown or exclude each other.
    pub(crate) fn new(claims: KVVec<u32>, fresh: KVVec<u32>, flags: u32) -> Result<Self> {
        let wish = match flags {
            0 => Wish::Keep,
            PST_BUFS_FORMAT => Wish::Anew,
            PST_BUFS_EXISTING => Wish::Existing,
            _ => return Err(EINVAL),
        };
        Ok(Self {
            claims,
            fresh,
            wish,
            formatted: false,
            bad: None,
        })
    }

    /// Makes the claimed buffers those of port `owner`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that is none or there twice, `EBUSY` for a buffer that is somebody's.
    pub(crate) fn claim(&mut self, pool: &Pool, owner: u16) -> Result {
        if self.claims.is_empty() {
            return Ok(());
        }
        pool.claim(&self.claims, owner).map_err(|failed| {
            self.bad = Some(failed.entry);
            failed.error
        })
    }

    /// Undoes that.
    pub(crate) fn unclaim(&self, pool: &Pool, owner: u16) {
        pool.unclaim(&self.claims, owner);
    }
}

/// What a registration asks for beside its body.
#[derive(Default)]
pub(crate) struct Wants {
    /// The memory of the port's pools.
    pub(crate) memory: Option<Memory>,
    /// Buffers by number.
    pub(crate) bufs: Option<Bufs>,
}

impl Wants {
    /// Makes a pool of its own ready for port `owner`: its header is checked, or written, and claimed
    /// buffers are the port's.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the memory has been formatted otherwise, see [`Bufs::claim`] for others.
    pub(crate) fn prepare(&mut self, pool: &Pool, owner: u16) -> Result {
        let wish = self.bufs.as_ref().map_or(Wish::Keep, |bufs| bufs.wish);
        let claims = self.bufs.as_ref().is_some_and(|b| !b.claims.is_empty());
        let known = check(pool, wish, claims)?;
        if let Some(bufs) = &mut self.bufs {
            bufs.formatted = !known;
            bufs.claim(pool, owner)?;
            if pool.has_header() {
                // The program knows of it; others may overwrite it with an interface.
                pool.keep_header();
            }
        }
        if pool.is_user() {
            pool.lend_busy();
        }
        Ok(())
    }

    /// The same for a pool that is in use already, whose memory stays as it is.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is to be formatted, `EINVAL` if it has no header that is needed, and those of
    /// [`Bufs::claim`].
    pub(crate) fn join(&mut self, pool: &Pool, owner: u16) -> Result {
        let Some(bufs) = &mut self.bufs else {
            return Ok(());
        };
        if bufs.wish == Wish::Anew {
            complain(fmt!("memory that a port uses cannot be formatted"));
            return Err(EBUSY);
        }
        if bufs.wish == Wish::Existing || !bufs.claims.is_empty() {
            check(pool, Wish::Existing, true)?;
        }
        bufs.claim(pool, owner)
    }
}

/// Looks at the header of `pool`, and writes one if that is wished. Returns whether the memory had
/// one of the pool's geometry. `needed`: it must have.
fn check(pool: &Pool, wish: Wish, needed: bool) -> Result<bool> {
    if !pool.has_header() {
        if needed || wish == Wish::Existing {
            complain(fmt!(
                "nothing is known of this memory: it must be the program's own, with 2 interfaces or more"
            ));
            return Err(EINVAL);
        }
        return Ok(false);
    }
    let geometry = pool.geometry();
    match Found::of(&pool.header()).check(geometry, wish) {
        Ok(Some(_)) => Ok(true),
        Ok(None) if needed => {
            complain(fmt!(
                "EXTMEM: buffers are claimed of memory that is not formatted"
            ));
            Err(EINVAL)
        }
        Ok(None) => {
            let header = Header::new(geometry, pin::random());
            pool.set_header(&header.to_bytes());
            Ok(false)
        }
        Err(refusal) => {
            refused(geometry, &refusal);
            Err(EINVAL)
        }
    }
}

/// Logs why memory is not used.
fn refused(geometry: &Geometry, refusal: &Refusal) {
    match refusal {
        Refusal::Missing => complain(fmt!("EXTMEM: the memory is not formatted")),
        Refusal::Version(version) => complain(fmt!(
            "EXTMEM: the memory has format {version}, which is not known here: format it anew to use it"
        )),
        Refusal::Other(header) => {
            let PoolParams { ifs, rings, bufs } = header.params;
            complain(fmt!(
                "EXTMEM: the memory was formatted as {} bytes with {} interfaces of {}, {} rings of {}, {} buffers of {}, \
                 not {} bytes with {} of {}, {} of {}, {} of {}: give the same parameters, or format it anew",
                header.memsize,
                ifs.num,
                ifs.size,
                rings.num,
                rings.size,
                bufs.num,
                bufs.size,
                geometry.memsize,
                geometry.ifs.num,
                geometry.ifs.size,
                geometry.rings.num,
                geometry.rings.size,
                geometry.bufs.num,
                geometry.bufs.size,
            ));
        }
    }
}

/// Logs why memory cannot be pinned, and what to do; tells the error.
fn explain(refused: Refused) -> Error {
    let (error, text): (Error, &str) = match refused.why {
        Why::Unmapped => (EFAULT, "nothing is mapped"),
        Why::ReadOnly => (EFAULT, "the mapping is read-only"),
        Why::Device => (
            Errno::EOPNOTSUPP.into(),
            "this is no memory of the process's own",
        ),
        Why::Private => (
            EINVAL,
            "this is a private mapping of a DAX file: map it shared",
        ),
        Why::Mixed => (
            EINVAL,
            "these are several kinds of memory, or too many mappings",
        ),
        Why::Huge => (
            Errno::EOPNOTSUPP.into(),
            "the pages are huge, and buffers need pages of 4 KiB: no hugetlbfs; \
             map the file with MADV_NOHUGEPAGE before the first access (a DAX file that has huge pages already \
             loses them when its file system is mounted anew), create device DAX with an alignment of 4096",
        ),
        Why::File => (
            Errno::EOPNOTSUPP.into(),
            "this file system has to see each write: use tmpfs, or a file system mounted with -o dax",
        ),
        Why::Failed(error) => (error, "the pages cannot be had (is the file long enough?)"),
    };
    complain(fmt!("EXTMEM: at byte {}: {text}", refused.at));
    error
}
