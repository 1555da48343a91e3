// SPDX-License-Identifier: GPL-2.0

//! Ports by name. The first file that asks for a name makes its port, the last one closes it.

#![deny(unsafe_code)]

use super::{
    bind::Bound,
    Shared, //
};
use crate::{
    adapter::{self, Backend, Name, Port, Shape, Wish},
    nmcore::{
        abi::{
            NmreqPortInfoGet, NmreqRegister, NETMAP_REQ_IFNAMSIZ, NR_REG_ALL_NIC, NR_REG_ONE_NIC,
        },
        name::{self, Member, PortName},
        Errno, //
    },
    pmem::{Memory, Wants},
    stack,
    sys::{
        netns::{Net, Rtnl},
        params, //
    },
};
use kernel::{
    prelude::*,
    str::CStr,
    sync::Arc, //
};

struct Entry {
    port: Arc<Port>,
    /// Files that have it open.
    files: u32,
}

/// The open ports.
#[derive(Default)]
pub(super) struct Registry {
    entries: KVec<Entry>,
}

impl Registry {
    /// The ports, and how many files have each open.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Port>, u32)> {
        self.entries.iter().map(|e| (&e.port, e.files))
    }

    fn find(&mut self, name: &Name, net: &Net) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|e| e.port.name == *name && e.port.net == *net && e.port.backend.named())
    }

    /// A number that no open port has.
    fn free_id(&self) -> Result<u16> {
        (1..=u16::MAX)
            .find(|&id| self.entries.iter().all(|e| e.port.id != id))
            .ok_or(ENOMEM)
    }

    /// The stack port that `bridge` stands for: `pst` for `pst:0`. One that `prefer` names wins.
    pub(super) fn stack_port(
        &self,
        bridge: &[u8],
        net: &Net,
        prefer: Option<&Arc<Port>>,
    ) -> Option<Arc<Port>> {
        let of_bridge = |port: &&Arc<Port>| {
            let name = port.name.as_bytes();
            name.strip_prefix(bridge)
                .is_some_and(|rest| rest.first() == Some(&b':'))
        };
        if let Some(port) = prefer.filter(of_bridge) {
            return Some(port.clone());
        }
        self.entries
            .iter()
            .map(|e| &e.port)
            .find(|port| of_bridge(port) && port.net == *net)
            .cloned()
    }

    /// The port of that name.
    pub(super) fn port(&mut self, name: &Name, net: &Net) -> Option<Arc<Port>> {
        Some(self.find(name, net)?.port.clone())
    }
}

/// What makes a port: a name that was looked at.
pub(super) enum Kind<'a> {
    /// A stack port.
    Stack(Member<'a>),
    /// A network interface.
    Nic(&'a [u8]),
}

impl<'a> Kind<'a> {
    /// Finds out what `nr_name` stands for in a registration like `req`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for kinds that this module does not have; those of `name::classify`.
    pub(super) fn of(nr_name: &'a [u8; NETMAP_REQ_IFNAMSIZ], req: &NmreqRegister) -> Result<Self> {
        let (mode, flags, mem_id) = (req.nr_mode, req.nr_flags, req.nr_mem_id);
        match name::classify(nr_name, mode, flags)? {
            PortName::Stack(member) => Ok(Self::Stack(member)),
            PortName::Netdev(name) => Ok(Self::Nic(name)),
            PortName::Empty => Err(ENXIO),
            // Its memory has to be named.
            PortName::Null(_) if mem_id == 0 => Err(EINVAL),
            PortName::Pipe { .. } if !matches!(mode, NR_REG_ALL_NIC | NR_REG_ONE_NIC) => {
                Err(EINVAL)
            }
            _ => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    /// The name that the port is known by.
    pub(super) fn name(&self) -> Result<Name> {
        let bytes = match self {
            Self::Stack(member) => member.full,
            Self::Nic(name) => name,
        };
        Name::new(bytes).ok_or(EINVAL)
    }

    /// What would stand behind it.
    pub(super) fn backend(
        &self,
        net: &Net,
        req: &NmreqRegister,
        rtnl: &Rtnl,
    ) -> Result<Arc<dyn Backend>> {
        match self {
            Self::Stack(member) => {
                let name = core::str::from_utf8(member.full).map_err(|_| EINVAL)?;
                stack::create(name, net, &Wish::of(req))
            }
            // Generic rings would be for any NIC; there are only those of patched drivers.
            Self::Nic(_) if params::admode() == 2 => Err(Errno::EOPNOTSUPP.into()),
            Self::Nic(name) => {
                let name = name::if_name(name)?;
                let name = CStr::from_bytes_until_nul(&name).map_err(|_| EINVAL)?;
                adapter::raw::create(name, net, &Wish::of(req), rtnl)
            }
        }
    }
}

/// Opens the port of `kind` for one more file, and lets `with` bind rings of it. rtnl is held.
///
/// # Errors
///
/// Those of the backend and of `with`; `EINVAL` if the port has another pool than asked for; those
/// of the memory and the buffers that are wanted.
pub(super) fn open<T>(
    shared: &Shared,
    kind: &Kind<'_>,
    req: &NmreqRegister,
    wants: &mut Wants,
    rtnl: &Rtnl,
    with: impl FnOnce(&Arc<Port>, &mut Wants) -> Result<T>,
) -> Result<T> {
    let net = Net::current()?;
    let name = kind.name()?;
    let mut registry = shared.registry.lock();
    let registry = &mut *registry;
    if let Some(entry) = registry.find(&name, &net) {
        if req.nr_mem_id != 0 && req.nr_mem_id != entry.port.pool.id() {
            return Err(EINVAL);
        }
        let out = join(&entry.port, wants, with)?;
        entry.files = entry.files.saturating_add(1);
        return Ok(out);
    }
    let id = registry.free_id()?;
    // Room first, so that nothing can fail after the backend has been opened.
    registry.entries.reserve(1, GFP_KERNEL)?;
    let backend = kind.backend(&net, req, rtnl)?;
    let pool = match &wants.memory {
        Some(memory) => shared.pools.lock().user(&backend.shape(), req, memory)?,
        None => shared.pools.lock().get(&backend.shape(), req)?,
    };
    let fresh = shared.pools.lock().is_fresh(pool.id());
    let opened = (|| {
        if fresh {
            wants.prepare(&pool, id)?;
        } else {
            wants.join(&pool, id)?;
        }
        let port = Port::new(id, name, net, pool.clone(), backend)?;
        port.backend.open(&port, rtnl)?;
        match with(&port, wants) {
            Ok(out) => Ok((port, out)),
            Err(err) => {
                close(&port, rtnl);
                Err(err)
            }
        }
    })();
    match opened {
        Ok((port, out)) => {
            let _ = registry
                .entries
                .push_within_capacity(Entry { port, files: 1 });
            Ok(out)
        }
        Err(err) => {
            // Others may keep the pool, and with it what was claimed.
            pool.reclaim_owner(id);
            shared.pools.lock().put(pool.id());
            Err(err)
        }
    }
}

/// One more file of a port that is open.
fn join<T>(
    port: &Arc<Port>,
    wants: &mut Wants,
    with: impl FnOnce(&Arc<Port>, &mut Wants) -> Result<T>,
) -> Result<T> {
    let pool = &port.pool;
    let other =
        |memory: &Memory| !pool.shares(&memory.pinned) || *pool.geometry() != memory.geometry;
    if wants.memory.as_ref().is_some_and(other) {
        return Err(EBUSY);
    }
    wants.join(pool, port.id)?;
    with(port, wants).inspect_err(|_| {
        if let Some(bufs) = &wants.bufs {
            bufs.unclaim(pool, port.id);
        }
    })
}

/// The shape, the pool's number and its size of the port of `kind`, open or not.
///
/// # Errors
///
/// `EINVAL` if it is open with another pool than asked for; those of the backend.
pub(super) fn look(
    shared: &Shared,
    kind: &Kind<'_>,
    req: &NmreqPortInfoGet,
) -> Result<(Shape, u16, u64)> {
    let net = Net::current()?;
    let name = kind.name()?;
    let rtnl = Rtnl::lock();
    if let Some(port) = shared.registry.lock().port(&name, &net) {
        let id = port.pool.id();
        if req.nr_mem_id != 0 && req.nr_mem_id != id {
            return Err(EINVAL);
        }
        return Ok((port.shape, id, port.pool.memsize()));
    }
    let want = NmreqRegister {
        nr_mem_id: req.nr_mem_id,
        nr_tx_slots: req.nr_tx_slots,
        nr_rx_slots: req.nr_rx_slots,
        nr_tx_rings: req.nr_tx_rings,
        nr_rx_rings: req.nr_rx_rings,
        ..NmreqRegister::ZERO
    };
    let shape = kind.backend(&net, &want, &rtnl)?.shape();
    let (id, memsize) = shared.pools.lock().plan(&shape, &want)?;
    Ok((shape, id, memsize))
}

/// A file lets go of what it has bound, and of its port.
pub(super) fn leave(shared: &Shared, bound: &Bound, rtnl: &Rtnl) {
    let port = &bound.port;
    let mut registry = shared.registry.lock();
    bound.release();
    let mut last = false;
    for entry in registry.entries.iter_mut() {
        if Arc::ptr_eq(&entry.port, port) {
            entry.files = entry.files.saturating_sub(1);
            last = entry.files == 0;
        }
    }
    if last {
        close(port, rtnl);
        registry.entries.retain(|e| e.files != 0);
        shared.pools.lock().put(port.pool.id());
    }
}

/// Ends a port that no file has open. Its memory goes with the last reference.
fn close(port: &Arc<Port>, rtnl: &Rtnl) {
    for ring in port.rings() {
        ring.stop();
    }
    port.backend.close(port, rtnl);
    port.pool.reclaim_owner(port.id);
}
