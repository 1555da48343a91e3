// SPDX-License-Identifier: GPL-2.0

//! Interface and ring objects of a pool, given back on drop.

#![deny(unsafe_code)]

use super::pool::Pool;
use crate::{
    nmcore::abi::{self, NetmapIf, NetmapRing},
    sys::shared::RingMem, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Which objects of one kind are taken.
pub(super) struct Objects {
    taken: KVec<bool>,
    /// Given out when there is no other: these come first.
    spared: usize,
}

impl Objects {
    pub(super) fn new(count: u32, spared: usize) -> Result<Self> {
        Ok(Self {
            taken: KVec::from_elem(false, usize::try_from(count)?, GFP_KERNEL)?,
            spared,
        })
    }

    /// The first free one.
    pub(super) fn take(&mut self) -> Option<u32> {
        let free = |(n, taken): (usize, &bool)| (!taken).then_some(n);
        let mut all = self.taken.iter().enumerate();
        let n = all.clone().skip(self.spared).find_map(free);
        let n = n.or_else(|| all.find_map(free))?;
        *self.taken.get_mut(n)? = true;
        u32::try_from(n).ok()
    }

    /// Those that come last are not given out at all from now on, if they are free.
    pub(super) fn keep(&mut self) {
        for taken in self.taken.iter_mut().take(self.spared) {
            *taken = true;
        }
    }

    pub(super) fn put(&mut self, n: u32) {
        if let Some(taken) = self.taken.get_mut(n as usize) {
            *taken = false;
        }
    }
}

/// A ring object.
pub(crate) struct RingObject {
    pool: Arc<Pool>,
    n: u32,
}

impl RingObject {
    /// Takes one of `pool`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if all are taken.
    pub(crate) fn new(pool: &Arc<Pool>) -> Result<Self> {
        Ok(Self {
            n: pool.take_ring().ok_or(ENOMEM)?,
            pool: pool.clone(),
        })
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.n
    }

    /// Its memory, initialised with `header` (whose `buf_ofs`, `num_slots` and `nr_buf_size` are
    /// set here) and no slots.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `slots` do not fit in it.
    pub(crate) fn mem(&self, slots: u32, mut header: NetmapRing) -> Result<RingMem> {
        let mem = self.pool.ring_mem(self.n, slots)?;
        header.buf_ofs = self.pool.geometry().buf_ofs(self.n).ok_or(EINVAL)?;
        header.num_slots = slots;
        header.nr_buf_size = self.pool.buf_size();
        mem.init(&header);
        Ok(mem)
    }
}

impl Drop for RingObject {
    fn drop(&mut self) {
        self.pool.put_ring(self.n);
    }
}

/// An interface object.
pub(crate) struct IfObject {
    pool: Arc<Pool>,
    n: u32,
    at: u64,
}

impl IfObject {
    /// Takes one of `pool`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if all are taken, or `rings` ring offsets do not fit in one.
    pub(crate) fn new(pool: &Arc<Pool>, rings: u32) -> Result<Self> {
        let ifs = &pool.geometry().ifs;
        if crate::nmcore::layout::if_size(rings) > ifs.size {
            return Err(ENOMEM);
        }
        let n = pool.take_if().ok_or(ENOMEM)?;
        let object = Self {
            pool: pool.clone(),
            n,
            at: ifs.offset(n).unwrap_or(0),
        };
        pool.ctl().clear(object.base(), ifs.size as usize);
        Ok(object)
    }

    /// Where it begins in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    fn base(&self) -> usize {
        self.at as usize
    }

    /// Writes the fixed part.
    pub(crate) fn write(&self, head: &NetmapIf) {
        self.pool.ctl().write(self.base(), &head.to_bytes());
    }

    /// Lets entry `index` of the ring offsets show ring object `ring`.
    pub(crate) fn set_ring(&self, index: u32, ring: u32) {
        let Some(ofs) = self.pool.geometry().ring_ofs(self.n, ring) else {
            return;
        };
        let entry = (index as usize).saturating_mul(8);
        let at = self
            .base()
            .saturating_add(NetmapIf::SIZE)
            .saturating_add(entry);
        self.pool.ctl().write(at, &ofs.to_ne_bytes());
    }

    /// Begin of the list of extra buffers, as the application has it now.
    pub(crate) fn bufs_head(&self) -> u32 {
        self.pool
            .ctl()
            .read_u32(self.base().saturating_add(abi::IF_BUFS_HEAD))
    }
}

impl Drop for IfObject {
    fn drop(&mut self) {
        self.pool.put_if(self.n);
    }
}
