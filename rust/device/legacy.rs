// SPDX-License-Identifier: GPL-2.0

//! The requests of programs that were built before NIOCCTRL: the same things, one flat struct.

#![deny(unsafe_code)]

use super::{
    ioctl,
    session::Session,
    user, //
};
use crate::{
    nmcore::{
        abi::*,
        Errno, //
    },
    pmem::Wants,
};
use kernel::prelude::*;

const HW_RING: u16 = 0x4000;
const SW_RING: u16 = 0x2000;
const NO_TX_POLL: u16 = 0x1000;
const DO_RX_POLL: u16 = 0x8000;
const RING_MASK: u16 = 0x0fff;
const MODE_MASK: u32 = 0xf;

/// Reads the argument.
fn read(arg: u64) -> Result<Nmreq> {
    if arg == 0 {
        return Err(EINVAL);
    }
    let mut raw = [0; Nmreq::SIZE];
    user::read(arg, &mut raw)?;
    let req = Nmreq::from_bytes(&raw).ok_or(EINVAL)?;
    if req.nr_version < u32::from(NETMAP_MIN_API) {
        return Err(EINVAL);
    }
    Ok(req)
}

/// The name in the long form, with the suffix of a pipe.
fn long_name(req: &Nmreq) -> [u8; NETMAP_REQ_IFNAMSIZ] {
    let mut name = [0; NETMAP_REQ_IFNAMSIZ];
    let short = req.nr_name.iter().take(15).take_while(|&&b| b != 0);
    let len = short.clone().count();
    for (to, &from) in name.iter_mut().zip(short) {
        *to = from;
    }
    let brace = match req.nr_flags & MODE_MASK {
        NR_REG_PIPE_MASTER => b'{',
        NR_REG_PIPE_SLAVE => b'}',
        _ => return name,
    };
    let id = req.nr_ringid & RING_MASK;
    let digits = [1000u16, 100, 10, 1].map(|d| b'0' + (id / d % 10) as u8);
    let skip = digits.iter().take(3).take_while(|&&d| d == b'0').count();
    let suffix = Iterator::chain([brace].into_iter(), digits.into_iter().skip(skip));
    for (to, from) in name.iter_mut().skip(len).zip(suffix) {
        *to = from;
    }
    name
}

/// The mode, which very old programs say in the bits of the ring number.
fn mode(req: &Nmreq) -> u32 {
    match req.nr_flags & MODE_MASK {
        NR_REG_DEFAULT if req.nr_ringid & HW_RING != 0 => NR_REG_ONE_NIC,
        NR_REG_DEFAULT if req.nr_ringid & SW_RING != 0 => NR_REG_SW,
        NR_REG_DEFAULT => NR_REG_ALL_NIC,
        NR_REG_PIPE_MASTER | NR_REG_PIPE_SLAVE => NR_REG_ALL_NIC,
        mode => mode,
    }
}

/// NIOCREGIF.
///
/// # Errors
///
/// As for REGISTER; `EOPNOTSUPP` for the commands of bridges.
pub(super) fn register(file: &Session, arg: u64) -> Result {
    let mut old = read(arg)?;
    if old.nr_cmd != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut flags = u64::from(old.nr_flags & !MODE_MASK);
    if old.nr_ringid & NO_TX_POLL != 0 {
        flags |= NR_NO_TX_POLL;
    }
    if old.nr_ringid & DO_RX_POLL != 0 {
        flags |= NR_DO_RX_POLL;
    }
    let mut req = NmreqRegister {
        nr_tx_slots: old.nr_tx_slots,
        nr_rx_slots: old.nr_rx_slots,
        nr_tx_rings: old.nr_tx_rings,
        nr_rx_rings: old.nr_rx_rings,
        nr_mem_id: old.nr_arg2,
        nr_ringid: old.nr_ringid & RING_MASK,
        nr_mode: mode(&old),
        nr_extra_bufs: old.nr_arg3,
        nr_flags: flags,
        ..NmreqRegister::ZERO
    };
    let name = long_name(&old);
    let result = file
        .register(&name, &mut req, &mut Wants::default())
        .inspect_err(|error| ioctl::refused("NIOCREGIF", &name, error));
    if result.is_ok() {
        // The fields are as wide as old programs made them; pools end far below 4 GiB.
        old.nr_offset = req.nr_offset as u32;
        old.nr_memsize = u32::try_from(req.nr_memsize).unwrap_or(u32::MAX);
        old.nr_tx_slots = req.nr_tx_slots;
        old.nr_rx_slots = req.nr_rx_slots;
        old.nr_tx_rings = req.nr_tx_rings;
        old.nr_rx_rings = req.nr_rx_rings;
        old.nr_arg2 = req.nr_mem_id;
        old.nr_arg3 = req.nr_extra_bufs;
    }
    user::write(arg, &old.to_bytes())?;
    result
}

/// NIOCGINFO.
///
/// # Errors
///
/// As for PORT_INFO_GET; `EOPNOTSUPP` for the list of bridges.
pub(super) fn info(file: &Session, arg: u64) -> Result {
    let mut old = read(arg)?;
    if old.nr_cmd != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut req = NmreqPortInfoGet {
        nr_mem_id: old.nr_arg2,
        ..NmreqPortInfoGet::ZERO
    };
    let name = long_name(&old);
    let result = ioctl::port_info(file, &name, &mut req)
        .inspect_err(|error| ioctl::refused("NIOCGINFO", &name, error));
    if result.is_ok() {
        old.nr_memsize = u32::try_from(req.nr_memsize).unwrap_or(u32::MAX);
        old.nr_tx_slots = req.nr_tx_slots;
        old.nr_rx_slots = req.nr_rx_slots;
        old.nr_tx_rings = req.nr_tx_rings;
        old.nr_rx_rings = req.nr_rx_rings;
        old.nr_arg2 = req.nr_mem_id;
    }
    user::write(arg, &old.to_bytes())?;
    result
}
