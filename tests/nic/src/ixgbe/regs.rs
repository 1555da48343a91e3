// SPDX-License-Identifier: GPL-2.0
//! Registers of 82599 and X540 that are more than memory. (Offsets in BAR 0; see the datasheets, chapter 8.)

/// Bytes of BAR 0.
pub(super) const SPAN: u32 = 0x80000;
/// Most queues of each direction.
pub(super) const QUEUES: usize = 128;
/// MSI-X vectors.
pub(super) const VECTORS: usize = 64;

/// Device control.
pub(super) const CTRL: u32 = 0x0000;
/// Stop DMA.
pub(super) const CTRL_GIO_DISABLE: u32 = 1 << 2;
/// Link reset and software reset.
pub(super) const CTRL_RESETS: u32 = (1 << 3) | (1 << 26);
/// Device status.
pub(super) const STATUS: u32 = 0x0008;
/// DMA is enabled.
pub(super) const STATUS_GIO: u32 = 1 << 19;
/// Software-defined pins; pin 2 says that a module is in the cage.
pub(super) const ESDP: u32 = 0x0020;
/// I2C lines to the module.
pub(super) const I2CCTL: u32 = 0x0028;

/// Interrupt causes.
pub(super) const EICR: u32 = 0x0800;
/// Cause set.
pub(super) const EICS: u32 = 0x0808;
/// Auto clear.
pub(super) const EIAC: u32 = 0x0810;
/// Moderation of vectors 0 to 23.
pub(super) const EITR: u32 = 0x0820;
/// Moderation of vectors 24 and up.
pub(super) const EITR_HIGH: u32 = 0x12300;
/// Mask set.
pub(super) const EIMS: u32 = 0x0880;
/// Mask clear.
pub(super) const EIMC: u32 = 0x0888;
/// Auto mask.
pub(super) const EIAM: u32 = 0x0890;
/// General purpose interrupt enable.
pub(super) const GPIE: u32 = 0x0898;
/// MSI-X mode.
pub(super) const GPIE_MSIX: u32 = 1 << 4;
/// Reading EICR clears other causes only.
pub(super) const GPIE_OCD: u32 = 1 << 5;
/// Auto mask is in force.
pub(super) const GPIE_EIAME: u32 = 1 << 30;
/// Vectors of the queues.
pub(super) const IVAR: u32 = 0x0900;
/// Vectors of other causes.
pub(super) const IVAR_MISC: u32 = 0x0a00;
/// As EICS to EIAM, 64 bits each.
pub(super) const EICS_EX: u32 = 0x0a90;
pub(super) const EIMS_EX: u32 = 0x0aa0;
pub(super) const EIMC_EX: u32 = 0x0ab0;
pub(super) const EIAM_EX: u32 = 0x0ad0;
/// Link status change, among the other causes.
pub(super) const CAUSE_LINK: u32 = 1 << 20;

/// Queue registers, from the base of a queue.
pub(super) const BASE_LOW: u32 = 0x00;
pub(super) const BASE_HIGH: u32 = 0x04;
pub(super) const LENGTH: u32 = 0x08;
pub(super) const HEAD: u32 = 0x10;
pub(super) const TAIL: u32 = 0x18;
pub(super) const CONTROL: u32 = 0x28;
pub(super) const WRITE_BACK_LOW: u32 = 0x38;
pub(super) const WRITE_BACK_HIGH: u32 = 0x3c;
/// In CONTROL: the queue runs.
pub(super) const QUEUE_ENABLE: u32 = 1 << 25;
/// In CONTROL of rx: VLAN tags are taken out.
pub(super) const RXDCTL_VME: u32 = 1 << 30;
/// In CONTROL of rx, X540: frames longer than bits 13:0 are dropped.
pub(super) const RXDCTL_LONGEST_ENABLE: u32 = 1 << 15;

/// Split and replication control: buffer size, descriptor type, drop.
pub(super) const SRRCTL: u32 = 0x2100;
pub(super) const SRRCTL_DROP: u32 = 1 << 28;
/// Statistics per queue of 16: register map.
pub(super) const RXCTRL: u32 = 0x3000;
/// Receive DMA.
pub(super) const RDRXCTL: u32 = 0x2f00;
/// Receive packet buffer 0.
pub(super) const RXPBSIZE: u32 = 0x3c00;
/// Link layer control.
pub(super) const HLREG0: u32 = 0x4240;
/// The CRC is taken off received frames.
pub(super) const HLREG0_STRIP: u32 = 1 << 1;
/// What is sent comes back, whatever the link does, and nothing goes out or comes in.
pub(super) const HLREG0_LOOPBACK: u32 = 1 << 15;
/// Frames may be as long as MAXFRS says.
pub(super) const HLREG0_JUMBO: u32 = 1 << 2;
/// MDIO command and data.
pub(super) const MSCA: u32 = 0x425c;
pub(super) const MSRWD: u32 = 0x4260;
/// Longest frame with its CRC, in the upper half.
pub(super) const MAXFRS: u32 = 0x4268;
/// Link set-up and state.
pub(super) const AUTOC: u32 = 0x42a0;
pub(super) const LINKS: u32 = 0x42a4;
pub(super) const AUTOC2: u32 = 0x42a8;
pub(super) const ANLP1: u32 = 0x42b0;
/// Up, at 10 Gb/s.
pub(super) const LINKS_UP_10G: u32 = 0x7000_0000;
/// Transmit DMA control.
pub(super) const DMATXCTL: u32 = 0x4a80;

/// Receive checksum control.
pub(super) const RXCSUM: u32 = 0x5000;
/// The RSS hash, not a fragment's checksum, is in the descriptor.
pub(super) const RXCSUM_PCSD: u32 = 1 << 13;
/// Filter control.
pub(super) const FCTRL: u32 = 0x5080;
pub(super) const FCTRL_MULTICAST: u32 = 1 << 8;
pub(super) const FCTRL_UNICAST: u32 = 1 << 9;
pub(super) const FCTRL_BROADCAST: u32 = 1 << 10;
/// VLAN control: filter enable.
pub(super) const VLNCTRL: u32 = 0x5088;
pub(super) const VLNCTRL_FILTER: u32 = 1 << 30;
/// Multicast filter.
pub(super) const MCSTCTRL: u32 = 0x5090;
pub(super) const MCSTCTRL_ENABLE: u32 = 1 << 2;
pub(super) const VT_CTL: u32 = 0x51b0;
pub(super) const MTA: u32 = 0x5200;
/// Receive addresses 0 to 15, also at the start of RAL_ALL.
pub(super) const RAL: u32 = 0x5400;
pub(super) const RAL_ALL: u32 = 0xa200;
pub(super) const RECEIVE_ADDRESSES: u32 = 128;
pub(super) const VFTA: u32 = 0xa000;
/// Multiple receive queues.
pub(super) const MRQC: u32 = 0x5818;
pub(super) const RETA: u32 = 0x5c00;
pub(super) const RSSRK: u32 = 0x5c80;

/// Security blocks' state.
pub(super) const SECTXSTAT: u32 = 0x8804;
pub(super) const SECRXSTAT: u32 = 0x8d04;
/// Transmit packet buffer 0.
pub(super) const TXPBSIZE: u32 = 0xcc00;
/// Flow director.
pub(super) const FDIRCTRL: u32 = 0xee00;
pub(super) const FDIRCMD: u32 = 0xee2c;
/// EEPROM.
pub(super) const EEC: u32 = 0x10010;
pub(super) const EERD: u32 = 0x10014;
pub(super) const FWSM: u32 = 0x10148;

/// What a queue register offset means: (rx, queue, register within the queue).
pub(super) fn queue(offset: u32) -> Option<(bool, usize, u32)> {
    let (receive, first, base) = match offset {
        0x1000..=0x1fff => (true, 0, 0x1000),
        0xd000..=0xdfff => (true, 64, 0xd000),
        0x6000..=0x7fff => (false, 0, 0x6000),
        _ => return None,
    };
    Some((
        receive,
        first + ((offset - base) / 0x40) as usize,
        offset & 0x3f,
    ))
}

/// Bits of a register that can be read back. The others are kept all the same, to object to them when they come into force.
pub(super) fn readable(offset: u32) -> u32 {
    match (queue(offset), offset) {
        (Some((_, _, BASE_LOW)), _) => !0x7f,
        (Some((_, _, LENGTH)), _) => 0xf_ff80,
        (Some((_, _, TAIL)), _) => 0xffff,
        // The upper half of a receive address.
        (_, RAL..=0x547f | RAL_ALL..=0xa5ff) if offset & 4 != 0 => 0x8000_ffff,
        _ => !0,
    }
}

/// Offset of queue registers.
pub(super) fn queue_base(receive: bool, queue: usize) -> u32 {
    let number = queue as u32;
    match (receive, queue) {
        (false, _) => 0x6000 + number * 0x40,
        (true, 0..=63) => 0x1000 + number * 0x40,
        (true, _) => 0xd000 + (number - 64) * 0x40,
    }
}

/// Offset of a queue's SRRCTL.
pub(super) fn srrctl(queue: usize) -> u32 {
    match queue {
        0..=15 => SRRCTL + queue as u32 * 4,
        _ => queue_base(true, queue) + 0x14,
    }
}
