// SPDX-License-Identifier: GPL-2.0

//! What one file has of a port: rings, an interface object, extra buffers.

#![deny(unsafe_code)]

use crate::{
    adapter::{kring::Kring, Port},
    mem::{object::IfObject, BufCache},
    nmcore::{
        abi::{NetmapIf, NmreqRegister, NETMAP_API, NI_PRIV_MEM},
        layout::IfLayout,
        request::{self, RingRange}, //
    },
    sys::log::complain,
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Rings bound to a file.
///
/// # Invariants
///
/// Each ring in `tx` and `rx` counts this file as a user.
pub(super) struct Bound {
    pub(super) port: Arc<Port>,
    /// Transmit rings, those to the host last.
    pub(super) tx: KVec<Arc<Kring>>,
    /// Receive rings, those from the host last.
    pub(super) rx: KVec<Arc<Kring>>,
    /// poll() sends even if nobody asks for POLLOUT.
    pub(super) tx_poll: bool,
    /// Whether the file is alone on its rings.
    exclusive: bool,
    nifp: IfObject,
    /// Extra buffers given.
    pub(super) extra: u32,
}

impl Bound {
    /// Binds what `req` asks for; `fresh` takes the numbers of extra buffers, which are not linked
    /// then. The registry's lock is held.
    ///
    /// # Errors
    ///
    /// `EINVAL` for rings that are not there, `EBUSY` if somebody wants one alone, `ENOMEM`.
    pub(super) fn new(
        port: &Arc<Port>,
        req: &NmreqRegister,
        fresh: Option<&mut KVVec<u32>>,
    ) -> Result<Self> {
        let counts = port.shape.counts();
        let sel = request::select_rings(req, &counts).inspect_err(|_| {
            complain(fmt!(
                "no ring {} in mode {}: the port has {} tx and {} rx rings, and {} and {} to the host",
                req.nr_ringid,
                req.nr_mode,
                counts.tx,
                counts.rx,
                counts.host_tx,
                counts.host_rx
            ));
        })?;
        let mut tx = KVec::new();
        let mut rx = KVec::new();
        collect(&mut tx, &port.tx, sel.tx)?;
        collect(&mut tx, &port.host_tx, sel.host_tx)?;
        collect(&mut rx, &port.rx, sel.rx)?;
        collect(&mut rx, &port.host_rx, sel.host_rx)?;
        if !Iterator::chain(tx.iter(), rx.iter()).all(|r| r.bindable(sel.exclusive)) {
            return Err(EBUSY);
        }
        let layout = layout(port);
        let nifp = IfObject::new(&port.pool, layout.total())?;
        let (extra, head) = match fresh {
            Some(list) => (name_extra(port, sel.extra_bufs, list)?, 0),
            None => take_extra(port, sel.extra_bufs)?,
        };
        nifp.write(&NetmapIf {
            ni_name: port.name.cut(),
            ni_version: NETMAP_API.into(),
            ni_flags: if port.shape.private_mem || port.pool.is_user() {
                NI_PRIV_MEM
            } else {
                0
            },
            ni_tx_rings: layout.tx,
            ni_rx_rings: layout.rx,
            ni_bufs_head: head,
            ni_host_tx_rings: layout.host_tx,
            ni_host_rx_rings: layout.host_rx,
            ..NetmapIf::ZERO
        });
        for ring in tx.iter() {
            nifp.set_ring(layout.tx_index(ring.id.into()), ring.object());
        }
        for ring in rx.iter() {
            nifp.set_ring(layout.rx_index(ring.id.into()), ring.object());
        }
        // INVARIANT: from here on nothing fails.
        let bound = Self {
            port: port.clone(),
            tx,
            rx,
            tx_poll: !sel.no_tx_poll,
            exclusive: sel.exclusive,
            nifp,
            extra,
        };
        for ring in bound.rings() {
            ring.bind(sel.exclusive);
        }
        Ok(bound)
    }

    /// All of them: transmit rings, then receive rings.
    pub(super) fn rings(&self) -> impl Iterator<Item = &Arc<Kring>> {
        Iterator::chain(self.tx.iter(), self.rx.iter())
    }

    /// Where the file's interface object lies in the mapping.
    pub(super) fn offset(&self) -> u64 {
        self.nifp.offset()
    }

    /// The ring that sockets given to this file go to.
    pub(super) fn socket_ring(&self) -> u16 {
        self.rx
            .first()
            .or(self.tx.first())
            .map_or(0, |ring| ring.id)
    }

    /// Gives the rings and the extra buffers back. The registry's lock is held.
    pub(super) fn release(&self) {
        for ring in self.rings() {
            ring.unbind(self.exclusive);
        }
        put_extra(&self.port, self.nifp.bufs_head());
    }
}

/// Order of the ring offsets of a port.
fn layout(port: &Port) -> IfLayout {
    let rings = port.shape.counts();
    IfLayout::new(rings.tx, rings.rx, rings.host_tx, rings.host_rx)
}

fn collect(to: &mut KVec<Arc<Kring>>, from: &[Arc<Kring>], range: RingRange) -> Result {
    for n in range.iter() {
        let ring = from.get(usize::from(n)).ok_or(EINVAL)?;
        to.push(ring.clone(), GFP_KERNEL)?;
    }
    Ok(())
}

/// Takes up to `count` buffers and links them: the first 4 bytes of each hold the next one's
/// index, 0 at the end. Returns how many, and the first.
fn take_extra(port: &Port, count: u32) -> Result<(u32, u32)> {
    if count == 0 {
        return Ok((0, 0));
    }
    let mut cache = BufCache::new(port.pool.clone())?;
    let mut head = 0u32;
    let mut given = 0;
    while given < count {
        let Some(idx) = cache.get_user(port.id) else {
            break;
        };
        port.pool.copy_in(idx, 0, &head.to_ne_bytes());
        head = idx;
        given = given.saturating_add(1);
    }
    Ok((given, head))
}

/// Takes up to `count` buffers without touching them, as many as `list` has room for; tells how
/// many.
fn name_extra(port: &Port, count: u32, list: &mut KVVec<u32>) -> Result<u32> {
    let mut cache = BufCache::new(port.pool.clone())?;
    let mut given = 0u32;
    while given < count && list.len() < list.capacity() {
        let Some(idx) = cache.get_user(port.id) else {
            break;
        };
        let _ = list.push_within_capacity(idx);
        given = given.saturating_add(1);
    }
    Ok(given)
}

/// Takes back the list that begins at `head`. It is the application's: it ends at the first index
/// that is not a buffer of its own, and cannot loop, since a buffer taken is not its own any more.
fn put_extra(port: &Port, head: u32) {
    let Ok(mut cache) = BufCache::new(port.pool.clone()) else {
        // The buffers stay the port's until it is closed.
        return;
    };
    let mut idx = head;
    while idx != 0 && cache.take(idx, port.id) {
        let mut next = [0; 4];
        port.pool.copy_out(idx, 0, &mut next);
        cache.put(idx);
        idx = u32::from_ne_bytes(next);
    }
}
