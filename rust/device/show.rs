// SPDX-License-Identifier: GPL-2.0

//! What operators read: `netmap/ports` and `netmap/pools` in debugfs.
//!
//! ```text
//! port pst:0 id 1 pool 2 files 1
//!   tx 0 slots 1024 head 3 cur 3 tail 2 hwcur 3 users 1 running
//!   rx 0 slots 1024 head 0 cur 0 tail 0 hwcur 0 users 1 running
//!   buffers total 4098 reserved 2 free 2047 nic_rx 256 user 1024 lent 3 held 766
//! pool 2 ports 1 memory kernel size 42369024 buffers 4098 of 2048 bytes rings 4 of 20480 ifs 4 of 1024
//!   buffers total 4098 ...
//! ```
//!
//! `total` is always the sum of the others: each buffer has one owner. A port's line counts its
//! whole pool, whose memory is the kernel's, a user's, or a user's on persistent memory; more lines of a port are its backend's.

#![deny(unsafe_code)]

use super::Shared;
use crate::{
    adapter::{kring::Kring, Port},
    mem::Pool, //
};
use kernel::{
    debugfs::{Dir, File},
    fmt,
    prelude::*,
    sync::Arc, //
};

/// The files, removed on drop.
pub(super) struct Files {
    _ports: Pin<KBox<File<Arc<Shared>>>>,
    _pools: Pin<KBox<File<Arc<Shared>>>>,
    _dir: Dir,
}

impl Files {
    /// Creates the files.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self> {
        let dir = Dir::new(c"netmap");
        Ok(Self {
            _ports: KBox::pin_init(
                dir.read_callback_file(c"ports", shared.clone(), &ports),
                GFP_KERNEL,
            )?,
            _pools: KBox::pin_init(dir.read_callback_file(c"pools", shared, &pools), GFP_KERNEL)?,
            _dir: dir,
        })
    }
}

fn ports(shared: &Arc<Shared>, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (port, files) in shared.registry.lock().iter() {
        writeln!(
            to,
            "port {} id {} pool {} files {files}",
            port.name,
            port.id,
            port.pool.id()
        )?;
        for kring in port.rings() {
            ring(port, kring, to)?;
        }
        buffers(&port.pool, to)?;
        port.backend.show(port, to)?;
    }
    Ok(())
}

fn ring(_port: &Port, ring: &Kring, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    let cursor = ring.state.lock().cursor;
    writeln!(
        to,
        "  {}{} {} slots {} head {} cur {} tail {} hwcur {} users {} {}",
        if ring.host { "host-" } else { "" },
        if ring.tx { "tx" } else { "rx" },
        ring.id,
        cursor.num_slots(),
        cursor.rhead(),
        cursor.rcur(),
        cursor.rtail(),
        cursor.hwcur(),
        ring.users(),
        if ring.stopped() { "stopped" } else { "running" },
    )
}

fn buffers(pool: &Pool, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    let n = pool.counts();
    writeln!(
        to,
        "  buffers total {} reserved {} free {} nic_rx {} user {} lent {} held {}",
        n.total(),
        n.reserved,
        n.free,
        n.nic_rx,
        n.user,
        n.lent,
        n.held,
    )
}

fn pools(shared: &Arc<Shared>, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (pool, ports) in shared.pools.lock().iter() {
        let at = pool.geometry();
        writeln!(
            to,
            "pool {} ports {ports} memory {} size {} buffers {} of {} bytes rings {} of {} ifs {} of {}",
            pool.id(),
            pool.kind(),
            at.memsize,
            at.bufs.num,
            at.bufs.size,
            at.rings.num,
            at.rings.size,
            at.ifs.num,
            at.ifs.size,
        )?;
        buffers(pool, to)?;
    }
    Ok(())
}
