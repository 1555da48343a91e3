// SPDX-License-Identifier: GPL-2.0

//! An open file of `/dev/netmap`. It is registered at most once; after that what it has bound
//! does not change until the file goes, so that poll() and the syncs need no lock to see it.

#![deny(unsafe_code)]

use super::{
    bind::Bound,
    ioctl,
    poll,
    registry::{self, Kind},
    Shared, //
};
use crate::{
    nmcore::abi::{NmreqRegister, NETMAP_REQ_IFNAMSIZ},
    pmem::Wants,
    sys::{cdev, netns::Rtnl, params, pin, poll::PollTable},
};
use kernel::{
    prelude::*,
    sync::{Arc, SetOnce}, //
};

/// An open file.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    bound: SetOnce<Bound>,
}

impl Session {
    /// What the file has bound.
    #[inline]
    pub(super) fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    /// Binds rings of the port called `nr_name`, and tells in `req` and `wants` what became of it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the file has bound some already; see `registry::open` and `Bound::new`.
    pub(super) fn register(
        &self,
        nr_name: &[u8; NETMAP_REQ_IFNAMSIZ],
        req: &mut NmreqRegister,
        wants: &mut Wants,
    ) -> Result {
        let kind = Kind::of(nr_name, req)?;
        // Serialises registrations, of this file too.
        let rtnl = Rtnl::lock();
        if self.bound().is_some() {
            return Err(EBUSY);
        }
        let bound = registry::open(&self.shared, &kind, req, wants, &rtnl, |port, wants| {
            Bound::new(port, req, wants.bufs.as_mut().map(|bufs| &mut bufs.fresh))
        })?;
        let port = &bound.port;
        req.nr_offset = bound.offset();
        req.nr_memsize = port.pool.memsize();
        req.nr_mem_id = port.pool.id();
        req.nr_tx_slots = port.shape.tx_slots;
        req.nr_rx_slots = port.shape.rx_slots;
        req.nr_tx_rings = port.shape.tx_rings;
        req.nr_rx_rings = port.shape.rx_rings;
        req.nr_host_tx_rings = port.shape.host_tx;
        req.nr_host_rx_rings = port.shape.host_rx;
        req.nr_extra_bufs = bound.extra;
        if params::verbose() {
            pr_info!("{}: registered, memory {}\n", port.name, port.pool.id());
        }
        self.bound.populate(bound);
        Ok(())
    }
}

impl cdev::Device for Shared {
    type File = Session;

    fn open(shared: &Arc<Self>) -> Result<Session> {
        Ok(Session {
            shared: shared.clone(),
            bound: SetOnce::new(),
        })
    }

    fn release(file: Session) {
        let Some(bound) = file.bound() else {
            return;
        };
        let user = bound.port.pool.is_user();
        let rtnl = Rtnl::lock();
        registry::leave(&file.shared, bound, &rtnl);
        drop(rtnl);
        drop(file);
        if user {
            // Who has closed the port may unmount the file's file system.
            pin::settle();
        }
    }

    fn ioctl(file: &Session, cmd: u32, arg: usize) -> Result<isize> {
        ioctl::ioctl(file, cmd, arg as u64)
    }

    #[inline]
    fn poll(file: &Session, table: &PollTable<'_>) -> u32 {
        poll::poll(file, table)
    }

    fn pages(file: &Session) -> Result<usize> {
        let bound = file.bound().ok_or(EINVAL)?;
        Ok(usize::try_from(bound.port.pool.geometry().pages())?)
    }

    fn pfn(file: &Session, page: usize) -> Option<usize> {
        file.bound()?.port.pool.file_pfn(page)
    }
}
