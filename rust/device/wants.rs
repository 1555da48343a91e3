// SPDX-License-Identifier: GPL-2.0

//! Options of a registration, from and to the memory of the process: EXTMEM and PST_BUFS.

#![deny(unsafe_code)]

use super::user;
use crate::{
    mem::Pool,
    nmcore::{
        abi::{
            NmreqOptExtmem, NmreqOptPstBufs, NETMAP_REQ_OPT_EXTMEM, NETMAP_REQ_OPT_PST_BUFS,
            PST_BUFS_FORMATTED,
        },
        options::OptionSet,
        Errno, //
    },
    pmem::{Bufs, Memory, Wants},
    sys::params,
};
use kernel::prelude::*;

/// More entries than buffers can exist are not read.
const MOST: usize = 1_000_000;

/// The options of one registration.
pub(super) struct Request {
    extmem: Option<(u64, NmreqOptExtmem)>,
    bufs: Option<(u64, NmreqOptPstBufs)>,
    pub(super) wants: Wants,
}

impl Request {
    /// Reads them, and pins the memory they name. `extra`: extra buffers asked for.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL`, `ENOMEM`, and those of [`Memory::new`]; the option's status says so too.
    pub(super) fn read(options: &mut OptionSet, extra: u32) -> Result<Self> {
        let mut request = Self {
            extmem: None,
            bufs: None,
            wants: Wants::default(),
        };
        let result = request.read_bufs(options, extra);
        note(options, NETMAP_REQ_OPT_PST_BUFS, &result);
        result?;
        let result = request.read_extmem(options);
        note(options, NETMAP_REQ_OPT_EXTMEM, &result);
        result?;
        Ok(request)
    }

    fn read_bufs(&mut self, options: &OptionSet, extra: u32) -> Result {
        let Some(option) = options.get(NETMAP_REQ_OPT_PST_BUFS) else {
            return Ok(());
        };
        let mut raw = [0; NmreqOptPstBufs::SIZE];
        user::read(option.user, &mut raw)?;
        let body = NmreqOptPstBufs::from_bytes(&raw).ok_or(EINVAL)?;
        let count = usize::try_from(body.nro_claim)?;
        let room = usize::try_from(body.nro_room)?.checked_sub(count);
        let fresh = room.ok_or(EINVAL)?.min(usize::try_from(extra)?);
        if count > MOST || fresh < usize::try_from(extra)? || fresh > MOST {
            return Err(EINVAL);
        }
        let mut claims = KVVec::with_capacity(count, GFP_KERNEL)?;
        let mut chunk = [0; 512];
        let mut at = body.nro_bufs;
        while claims.len() < count {
            let bytes = (count - claims.len()).min(chunk.len() / 4) * 4;
            let part = chunk.get_mut(..bytes).ok_or(EINVAL)?;
            user::read(at, part)?;
            for word in part.chunks_exact(4) {
                let word = word
                    .first_chunk()
                    .map_or(0, |word| u32::from_ne_bytes(*word));
                claims.push(word, GFP_KERNEL)?;
            }
            at = at.wrapping_add(bytes as u64);
        }
        let fresh = KVVec::with_capacity(fresh, GFP_KERNEL)?;
        self.wants.bufs = Some(Bufs::new(claims, fresh, body.nro_flags)?);
        self.bufs = Some((option.user, body));
        Ok(())
    }

    fn read_extmem(&mut self, options: &OptionSet) -> Result {
        let Some(option) = options.get(NETMAP_REQ_OPT_EXTMEM) else {
            return Ok(());
        };
        let mut raw = [0; NmreqOptExtmem::SIZE];
        user::read(option.user, &mut raw)?;
        let body = NmreqOptExtmem::from_bytes(&raw).ok_or(EINVAL)?;
        let defaults = params::private_pool();
        self.wants.memory = Some(Memory::new(body.nro_usrptr, &body.nro_info, &defaults)?);
        self.extmem = Some((option.user, body));
        Ok(())
    }

    /// Tells the process what became of them. `pool` is that of the port, if it was registered.
    pub(super) fn write(&self, options: &mut OptionSet, pool: Result<&Pool, Error>) -> Result {
        if let (Some((at, mut body)), Ok(pool)) = (self.extmem, pool) {
            body.nro_info = pool.geometry().pools_info(pool.id());
            let from = core::mem::offset_of!(NmreqOptExtmem, nro_info);
            let bytes = body.to_bytes();
            let info = bytes.get(from..).unwrap_or(&[]);
            user::write(at.wrapping_add(from as u64), info)?;
        }
        let (Some((at, mut body)), Some(bufs)) = (self.bufs, &self.wants.bufs) else {
            return Ok(());
        };
        body.nro_count = match (bufs.bad, pool) {
            (Some(bad), Err(error)) => {
                note(options, NETMAP_REQ_OPT_PST_BUFS, &Err(error));
                u32::try_from(bad)?
            }
            (_, Err(_)) => 0,
            (_, Ok(_)) => body
                .nro_claim
                .saturating_add(u32::try_from(bufs.fresh.len())?),
        };
        if pool.is_ok() {
            body.nro_flags |= if bufs.formatted {
                PST_BUFS_FORMATTED
            } else {
                0
            };
            let mut to = body.nro_bufs.wrapping_add(u64::from(body.nro_claim) * 4);
            for &idx in bufs.fresh.iter() {
                user::write(to, &idx.to_ne_bytes())?;
                to = to.wrapping_add(4);
            }
        }
        let from = core::mem::offset_of!(NmreqOptPstBufs, nro_count);
        let bytes = body.to_bytes();
        user::write(
            at.wrapping_add(from as u64),
            bytes.get(from..).unwrap_or(&[]),
        )
    }
}

/// Notes in the option what became of it.
fn note(options: &mut OptionSet, reqtype: u32, result: &Result) {
    let status = match result {
        Ok(()) => Ok(()),
        Err(error) => Err(Errno(-error.to_errno())),
    };
    options.set_status(reqtype, status);
}
