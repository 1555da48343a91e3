// SPDX-License-Identifier: GPL-2.0

//! Pools by number: 1 is shared by all NICs, the others belong to one port or are shared by name.

#![deny(unsafe_code)]

use crate::{
    adapter::Shape,
    mem::Pool,
    nmcore::{
        abi::NmreqRegister,
        layout::{Geometry, PortNeed}, //
    },
    pmem::Memory,
    sys::params,
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Number of the pool that all NICs share.
pub(super) const GLOBAL: u16 = 1;

struct Entry {
    pool: Arc<Pool>,
    users: u32,
}

/// The pools in use.
#[derive(Default)]
pub(super) struct Pools {
    entries: KVec<Entry>,
}

impl Pools {
    /// The pool for a new port, counted as used: number `req.nr_mem_id`, or the one that ports of
    /// this kind use.
    ///
    /// # Errors
    ///
    /// `EINVAL` if no pool has that number, or its buffers are too small; `ENOMEM`.
    pub(super) fn get(&mut self, shape: &Shape, req: &NmreqRegister) -> Result<Arc<Pool>> {
        let id = match req.nr_mem_id {
            0 if shape.private_mem => None,
            0 => Some(GLOBAL),
            id => Some(id),
        };
        if let Some(entry) = self.entries.iter_mut().find(|e| Some(e.pool.id()) == id) {
            check(&entry.pool, shape)?;
            entry.users = entry.users.saturating_add(1);
            return Ok(entry.pool.clone());
        }
        let pool = match id {
            Some(GLOBAL) => {
                let geometry = Geometry::kernel(&params::global_pool())?;
                Pool::new(geometry, GLOBAL)?
            }
            Some(_) => return Err(EINVAL),
            None => Pool::new(private(shape, req)?, self.free_id()?)?,
        };
        self.add(pool, shape)
    }

    /// A new pool in the memory of a process, counted as used.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `req` names another pool, or the buffers are too small for the port or its
    /// memory has a page twice; `EBUSY` if a page of it belongs to another pool; `ENOMEM`.
    pub(super) fn user(
        &mut self,
        shape: &Shape,
        req: &NmreqRegister,
        memory: &Memory,
    ) -> Result<Arc<Pool>> {
        if req.nr_mem_id != 0 {
            return Err(EINVAL);
        }
        if self.entries.iter().any(|e| e.pool.shares(&memory.pinned)) {
            return Err(EBUSY);
        }
        let pool = Pool::user(memory.geometry, self.free_id()?, memory.pinned.clone())?;
        self.add(pool, shape)
    }

    fn add(&mut self, pool: Arc<Pool>, shape: &Shape) -> Result<Arc<Pool>> {
        check(&pool, shape)?;
        let entry = Entry {
            pool: pool.clone(),
            users: 1,
        };
        self.entries.push(entry, GFP_KERNEL)?;
        self.tell();
        Ok(pool)
    }

    /// Whether only one port uses the pool: that which has just got it.
    pub(super) fn is_fresh(&self, id: u16) -> bool {
        self.iter()
            .any(|(pool, users)| pool.id() == id && users == 1)
    }

    /// A port has let go of the pool. The last one frees it.
    pub(super) fn put(&mut self, id: u16) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.pool.id() == id) {
            entry.users = entry.users.saturating_sub(1);
        }
        self.entries.retain(|e| e.users != 0);
        self.tell();
    }

    /// Bytes of pool `id`, 0 meaning the global one: what it has, or would have if it were made
    /// now.
    ///
    /// # Errors
    ///
    /// `EINVAL` if no pool has that number.
    pub(super) fn memsize(&self, id: u16) -> Result<(u16, u64)> {
        let id = if id == 0 { GLOBAL } else { id };
        if let Some(entry) = self.entries.iter().find(|e| e.pool.id() == id) {
            return Ok((id, entry.pool.memsize()));
        }
        if id != GLOBAL {
            return Err(EINVAL);
        }
        let geometry = Geometry::kernel(&params::global_pool())?;
        Ok((id, geometry.memsize))
    }

    /// Number and size of the pool that [`get`](Self::get) would give.
    ///
    /// # Errors
    ///
    /// As for `get`, without memory.
    pub(super) fn plan(&self, shape: &Shape, req: &NmreqRegister) -> Result<(u16, u64)> {
        if req.nr_mem_id == 0 && shape.private_mem {
            return Ok((self.free_id()?, private(shape, req)?.memsize));
        }
        self.memsize(req.nr_mem_id)
    }

    /// The pools, and how many ports use each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Pool>, u32)> {
        self.entries.iter().map(|e| (&e.pool, e.users))
    }

    fn free_id(&self) -> Result<u16> {
        (GLOBAL + 1..=u16::MAX)
            .find(|&id| self.entries.iter().all(|e| e.pool.id() != id))
            .ok_or(ENOMEM)
    }

    /// Shows operators what the global pool has.
    fn tell(&self) {
        let global = self.entries.iter().find(|e| e.pool.id() == GLOBAL);
        params::show_global_pool(global.map(|e| e.pool.geometry()));
    }
}

fn check(pool: &Pool, shape: &Shape) -> Result {
    if pool.buf_size() < shape.min_buf {
        return Err(EINVAL);
    }
    Ok(())
}

/// The memory of a port of its own: at least what the parameters say, and enough for what it asks.
fn private(shape: &Shape, req: &NmreqRegister) -> Result<Geometry> {
    let rings = shape.counts();
    let pairs = u32::from(rings.tx.max(rings.rx)).max(1);
    // Each ring may be opened by a file of its own, which asks for as many extra buffers.
    let extra = req.nr_extra_bufs.saturating_mul(pairs);
    let need = PortNeed {
        ifs: pairs.saturating_add(1),
        tx_rings: u32::from(rings.tx).saturating_add(rings.host_tx.into()),
        rx_rings: u32::from(rings.rx).saturating_add(rings.host_rx.into()),
        tx_slots: shape.tx_slots,
        rx_slots: shape.rx_slots,
        spare_bufs: shape.spare_bufs.saturating_add(extra),
    };
    Ok(Geometry::kernel(&params::private_pool().for_port(&need))?)
}
