// SPDX-License-Identifier: GPL-2.0

//! Descriptors of the e1000: legacy ones for receive and for plain frames, extended ones for
//! frames with offloads ("PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's
//! Manual", sections 3.2 and 3.3).

use crate::drivers::hw::{self, Offload};
use crate::sys::nicops::DescRing;

// Second word of a receive descriptor, as the hardware writes it back.
const RXD_DD: u64 = 1 << 32;
const RXD_EOP: u64 = 1 << 33;
/// "Ignore the checksum bits".
const RXD_IXSM: u64 = 1 << 34;
const RXD_TCPCS: u64 = 1 << 37;
/// CRC, symbol, sequence, carrier extension and data errors.
const RXD_FRAME_ERRORS: u64 = 0x97 << 40;
const RXD_TCPE: u64 = 0x20 << 40;

// Second word of a transmit descriptor. Bits 24 to 31 are the command.
const TXD_EOP: u64 = 1 << 24;
const TXD_IFCS: u64 = 1 << 25;
const TXD_TSE: u64 = 1 << 26;
const TXD_RS: u64 = 1 << 27;
const TXD_DEXT: u64 = 1 << 29;
/// Descriptor type "data" of an extended descriptor; "context" is 0.
const TXD_DATA: u64 = 1 << 20;
const TXD_DD: u64 = 1 << 32;
/// Insert the IP or the TCP checksum.
const TXD_IXSM: u64 = 1 << 40;
const TXD_TXSM: u64 = 1 << 41;
// In a context descriptor the command has other bits.
const CTX_TCP: u64 = 1 << 24;
const CTX_IP: u64 = 1 << 25;

/// A transmit descriptor takes at most this many bytes.
const TX_MAX: u32 = 4096;
/// Erratum 10 on PCI-X: the first descriptor of a frame must be shorter than 2016 bytes.
const TX_FIRST_MAX: u32 = 2015;
/// Errata of TSO: descriptors that end a frame may be written back too early; a last one of four
/// bytes gives the data before it time to be read.
const TX_SENTINEL: u32 = 4;

/// The receive descriptors.
pub(crate) struct RxFormat;

impl hw::RxFormat for RxFormat {
    const DONE: u64 = RXD_DD;
    const BAD: u64 = RXD_FRAME_ERRORS;
    const LAST: u64 = RXD_EOP;

    #[inline(always)]
    fn len(second: u64) -> u16 {
        second as u16
    }

    #[inline]
    fn csum_ok(second: u64, _first: impl Fn() -> u64) -> bool {
        second & (RXD_IXSM | RXD_TCPCS | RXD_TCPE) == RXD_TCPCS
    }
}

/// The transmit ring.
pub(crate) struct TxRing {
    memory: DescRing,
    /// The checksum context that the hardware keeps; it has a second one for TSO.
    context: Option<(u8, u8)>,
    /// A frame was sent with TSO: the sentinel is needed once more after it.
    after_tso: bool,
}

impl TxRing {
    pub(crate) fn new(memory: DescRing) -> Self {
        Self {
            memory,
            context: None,
            after_tso: false,
        }
    }
}

impl hw::TxRing for TxRing {
    const REPORT: u64 = TXD_RS;

    #[inline]
    fn memory(&self) -> &DescRing {
        &self.memory
    }

    #[inline]
    fn prepare(&mut self, i: u32, offload: &Offload) -> bool {
        match *offload {
            Offload::None => false,
            Offload::Checksum { l4, field, .. } => {
                if self.context == Some((l4, field)) {
                    return false;
                }
                self.context = Some((l4, field));
                // TUCSS, TUCSO; TUCSE 0: to the end of the frame.
                let upper = u64::from(l4) | u64::from(field) << 8;
                self.memory.put(i, upper << 32, TXD_DEXT | CTX_TCP);
                true
            }
            Offload::Tso {
                v6,
                l3,
                l4,
                hdr_len,
                mss,
                payload,
            } => {
                // IP checksum at byte 10 of the header, TCP's at byte 16.
                let ip_field = u64::from(l3) + 10;
                let ip_end = if v6 {
                    0
                } else {
                    u64::from(l4).saturating_sub(1)
                };
                let tcp_field = u64::from(l4) + 16;
                let ip = if v6 { 0 } else { CTX_IP };
                self.memory.put(
                    i,
                    u64::from(l3)
                        | (ip_field & 0xff) << 8
                        | ip_end << 16
                        | u64::from(l4) << 32
                        | (tcp_field & 0xff) << 40,
                    TXD_DEXT
                        | TXD_TSE
                        | CTX_TCP
                        | ip
                        | u64::from(payload & 0xf_ffff)
                        | u64::from(hdr_len) << 40
                        | u64::from(mss) << 48,
                );
                true
            }
        }
    }

    #[inline]
    fn simple(&self, offload: &Offload) -> u32 {
        if self.after_tso || matches!(offload, Offload::Tso { .. }) {
            0
        } else {
            TX_FIRST_MAX
        }
    }

    fn limits(&self, offload: &Offload) -> (u32, u32) {
        match *offload {
            // The hardware reserves room for four segments per descriptor.
            Offload::Tso { mss, .. } => {
                let max = TX_MAX.min(u32::from(mss) * 4).max(64);
                (max.min(TX_FIRST_MAX), max)
            }
            _ => (TX_FIRST_MAX, TX_MAX),
        }
    }

    fn tail_split(&mut self, offload: &Offload) -> u32 {
        if matches!(offload, Offload::Tso { .. }) {
            self.after_tso = true;
            return TX_SENTINEL;
        }
        if core::mem::take(&mut self.after_tso) {
            return TX_SENTINEL;
        }
        0
    }

    #[inline(always)]
    fn whole(len: u32) -> u64 {
        TXD_IFCS | TXD_EOP | u64::from(len)
    }

    #[inline]
    fn push(&mut self, i: u32, dma: u64, len: u32, last: bool, offload: &Offload) {
        let command = match *offload {
            Offload::None => TXD_IFCS,
            Offload::Checksum { .. } => TXD_IFCS | TXD_DEXT | TXD_DATA | TXD_TXSM,
            Offload::Tso { v6, .. } => {
                let ip = if v6 { 0 } else { TXD_IXSM };
                TXD_IFCS | TXD_DEXT | TXD_DATA | TXD_TSE | TXD_TXSM | ip
            }
        };
        let eop = if last { TXD_EOP } else { 0 };
        self.memory
            .put(i, dma, command | eop | u64::from(len & 0xffff));
    }

    #[inline]
    fn cancel(&mut self) {
        self.context = None;
    }

    #[inline]
    fn complete(&self, i: u32) -> bool {
        let done = self.memory.read(i, 1) & TXD_DD != 0;
        if done {
            self.memory.read_barrier();
        }
        done
    }
}
