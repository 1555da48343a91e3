// SPDX-License-Identifier: GPL-2.0
//! Control requests: which there are, and the checks that need nothing but their bytes.

use super::abi::*;
use super::Errno;

/// A type of control request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestType {
    /// `nr_reqtype`.
    pub number: u16,
    /// Name for messages, without the prefix.
    pub name: &'static str,
    /// Bytes of the body; with 0 there is none.
    pub body_size: u32,
    /// Whether this project answers it; the others get `EOPNOTSUPP`.
    pub supported: bool,
}

const fn entry(number: u16, name: &'static str, body: usize, supported: bool) -> RequestType {
    RequestType {
        number,
        name,
        body_size: body as u32,
        supported,
    }
}

/// All request types.
#[rustfmt::skip]
pub const REQUESTS: [RequestType; 18] = [
    entry(NETMAP_REQ_REGISTER, "REGISTER", NmreqRegister::SIZE, true),
    entry(NETMAP_REQ_PORT_INFO_GET, "PORT_INFO_GET", NmreqPortInfoGet::SIZE, true),
    entry(NETMAP_REQ_VALE_ATTACH, "VALE_ATTACH", NmreqValeAttach::SIZE, false),
    entry(NETMAP_REQ_VALE_DETACH, "VALE_DETACH", NmreqValeDetach::SIZE, false),
    entry(NETMAP_REQ_VALE_LIST, "VALE_LIST", NmreqValeList::SIZE, false),
    entry(NETMAP_REQ_PORT_HDR_SET, "PORT_HDR_SET", NmreqPortHdr::SIZE, false),
    entry(NETMAP_REQ_PORT_HDR_GET, "PORT_HDR_GET", NmreqPortHdr::SIZE, false),
    entry(NETMAP_REQ_VALE_NEWIF, "VALE_NEWIF", NmreqValeNewif::SIZE, false),
    entry(NETMAP_REQ_VALE_DELIF, "VALE_DELIF", 0, false),
    entry(NETMAP_REQ_VALE_POLLING_ENABLE, "VALE_POLLING_ENABLE", NmreqValePolling::SIZE, false),
    entry(NETMAP_REQ_VALE_POLLING_DISABLE, "VALE_POLLING_DISABLE", NmreqValePolling::SIZE, false),
    entry(NETMAP_REQ_POOLS_INFO_GET, "POOLS_INFO_GET", NmreqPoolsInfo::SIZE, false),
    entry(NETMAP_REQ_SYNC_KLOOP_START, "SYNC_KLOOP_START", NmreqSyncKloopStart::SIZE, false),
    entry(NETMAP_REQ_SYNC_KLOOP_STOP, "SYNC_KLOOP_STOP", 0, false),
    entry(NETMAP_REQ_CSB_ENABLE, "CSB_ENABLE", 0, false),
    entry(NETMAP_REQ_PST_ATTACH, "PST_ATTACH", NmreqValeAttach::SIZE, true),
    entry(NETMAP_REQ_PST_DETACH, "PST_DETACH", NmreqValeDetach::SIZE, true),
    entry(NETMAP_REQ_PST_FD_REG, "PST_FD_REG", NmreqPstFdReg::SIZE, true),
];

/// Largest body of all request types, bytes.
pub const MAX_BODY: usize = 64;

const _: () = {
    let mut rest: &[RequestType] = &REQUESTS;
    while let [first, tail @ ..] = rest {
        assert!(first.body_size as usize <= MAX_BODY);
        rest = tail;
    }
};

/// Checks the header of a control request and tells its type.
///
/// # Errors
///
/// `EINVAL` if the version is not 14 or 15, a reserved field is not 0, the type is unknown, or
/// there is a body without need or none where one is needed.
pub fn check_header(header: &NmreqHeader) -> Result<&'static RequestType, Errno> {
    let version_ok = (NETMAP_MIN_API..=NETMAP_MAX_API).contains(&header.nr_version);
    if !version_ok || header.nr_reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let request = REQUESTS
        .iter()
        .find(|r| r.number == header.nr_reqtype)
        .ok_or(Errno::EINVAL)?;
    if (request.body_size != 0) != (header.nr_body != 0) {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

/// Consecutive rings of one kind: `first..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingRange {
    /// The first one.
    pub first: u16,
    /// The one after the last.
    pub end: u16,
}

impl RingRange {
    /// Rings `0..count`.
    pub const fn all(count: u16) -> RingRange {
        RingRange {
            first: 0,
            end: count,
        }
    }

    /// Ring `ring`, or ring 0 if there are only `count` and it is not among them; none of none.
    const fn one(ring: u16, count: u16) -> RingRange {
        if count == 0 {
            return RingRange::all(0);
        }
        let first = if ring < count { ring } else { 0 };
        RingRange {
            first,
            end: first.saturating_add(1),
        }
    }

    /// Number of rings.
    pub const fn len(&self) -> u16 {
        self.end.saturating_sub(self.first)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether ring `ring` is among them.
    pub const fn contains(&self, ring: u16) -> bool {
        self.first <= ring && ring < self.end
    }

    /// The numbers of the rings.
    pub fn iter(&self) -> core::ops::Range<u16> {
        self.first..self.end
    }
}

/// Numbers of rings of a port. Ports without host rings have 0 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// NIC transmit rings.
    pub tx: u16,
    /// NIC receive rings.
    pub rx: u16,
    /// Host transmit rings.
    pub host_tx: u16,
    /// Host receive rings.
    pub host_rx: u16,
}

/// The rings that a registration binds to its file, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingSelection {
    /// NIC transmit rings.
    pub tx: RingRange,
    /// NIC receive rings.
    pub rx: RingRange,
    /// Host transmit rings.
    pub host_tx: RingRange,
    /// Host receive rings.
    pub host_rx: RingRange,
    /// Nobody else may bind them ([`NR_EXCLUSIVE`]).
    pub exclusive: bool,
    /// poll() sends only if asked for `POLLOUT` ([`NR_NO_TX_POLL`]).
    pub no_tx_poll: bool,
    /// Extra buffers wanted.
    pub extra_bufs: u32,
}

/// The rings that `req` binds on a port with the rings `have`.
///
/// In the one-ring modes, a side that has too few rings takes part with its ring 0.
///
/// # Errors
///
/// `EINVAL` if the mode is none of this interface, asks for host rings where there are none, or
/// names a ring that neither side has.
pub fn select_rings(req: &NmreqRegister, have: &RingCounts) -> Result<RingSelection, Errno> {
    let host = match req.nr_mode {
        NR_REG_SW | NR_REG_NIC_SW | NR_REG_ONE_SW => true,
        NR_REG_ALL_NIC | NR_REG_ONE_NIC | NR_REG_NULL => false,
        _ => return Err(Errno::EINVAL),
    };
    if host && have.host_tx == 0 && have.host_rx == 0 {
        return Err(Errno::EINVAL);
    }
    let id = req.nr_ringid;
    let mut sel = RingSelection {
        exclusive: req.nr_flags & NR_EXCLUSIVE != 0,
        no_tx_poll: req.nr_flags & NR_NO_TX_POLL != 0,
        extra_bufs: req.nr_extra_bufs,
        ..RingSelection::default()
    };
    match req.nr_mode {
        NR_REG_ONE_NIC => {
            if id >= have.tx && id >= have.rx {
                return Err(Errno::EINVAL);
            }
            sel.tx = RingRange::one(id, have.tx);
            sel.rx = RingRange::one(id, have.rx);
        }
        NR_REG_ONE_SW => {
            if id >= have.host_tx && id >= have.host_rx {
                return Err(Errno::EINVAL);
            }
            sel.host_tx = RingRange::one(id, have.host_tx);
            sel.host_rx = RingRange::one(id, have.host_rx);
        }
        NR_REG_NULL => {}
        _ => {
            if req.nr_mode != NR_REG_SW {
                sel.tx = RingRange::all(have.tx);
                sel.rx = RingRange::all(have.rx);
            }
            if host {
                sel.host_tx = RingRange::all(have.host_tx);
                sel.host_rx = RingRange::all(have.host_rx);
            }
        }
    }
    if req.nr_flags & NR_RX_RINGS_ONLY != 0 {
        sel.tx = RingRange::default();
        sel.host_tx = RingRange::default();
    }
    if req.nr_flags & NR_TX_RINGS_ONLY != 0 {
        sel.rx = RingRange::default();
        sel.host_rx = RingRange::default();
    }
    Ok(sel)
}

/// Rings and slots of a port whose shape the first registration chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortShape {
    /// Transmit rings.
    pub tx_rings: u16,
    /// Receive rings.
    pub rx_rings: u16,
    /// Slots of a transmit ring.
    pub tx_slots: u32,
    /// Slots of a receive ring.
    pub rx_slots: u32,
}

/// Most rings of a stack port in one direction.
pub const STACK_MAX_RINGS: u16 = 64;
/// Slots of a ring of a stack port when none are asked for.
pub const STACK_SLOTS: u32 = 1024;
/// Most slots of a ring of a stack port.
pub const STACK_MAX_SLOTS: u32 = 2048;

impl PortShape {
    /// The shape of a new stack port: what `req` asks for, brought within the limits; 0 gives the
    /// default of 1 ring and [`STACK_SLOTS`] slots.
    pub fn stack(req: &NmreqRegister) -> PortShape {
        // A ring of one slot could never hold anything.
        let slots = |n| match n {
            0 => STACK_SLOTS,
            n => n.clamp(2, STACK_MAX_SLOTS),
        };
        PortShape {
            tx_rings: req.nr_tx_rings.clamp(1, STACK_MAX_RINGS),
            rx_rings: req.nr_rx_rings.clamp(1, STACK_MAX_RINGS),
            tx_slots: slots(req.nr_tx_slots),
            rx_slots: slots(req.nr_rx_slots),
        }
    }
}

/// Checks how a NIC is to be attached to a bridge or a stack port. Tells whether its host rings are
/// attached too.
///
/// # Errors
///
/// `EINVAL` if a ring is named, or the mode is neither all NIC rings nor NIC and host rings.
pub const fn check_attach(reg: &NmreqRegister) -> Result<bool, Errno> {
    if reg.nr_ringid != 0 {
        return Err(Errno::EINVAL);
    }
    match reg.nr_mode {
        NR_REG_ALL_NIC => Ok(false),
        NR_REG_NIC_SW => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
