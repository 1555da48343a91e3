// SPDX-License-Identifier: GPL-2.0

//! Advanced descriptors of the 82599 and its successors ("Intel 82599 10 GbE Controller
//! Datasheet", sections 7.1.6 and 7.2.3).
//!
//! The driver leaves TXDCTL.WTHRESH at 0 in netmap mode: otherwise the hardware takes no notice of
//! the RS bit and writes back every descriptor.

use crate::drivers::hw::{self, Offload};
use crate::sys::nicops::DescRing;

// Receive, first word as written back: packet type and RSS hash.
/// There is a tunnel header (X550 and later): what was summed is the inner packet.
const RXD_TUNNEL: u64 = 0x800;

// Receive, second word as written back: status and errors, length from bit 32 on, VLAN tag.
const RXD_DD: u64 = 1;
const RXD_EOP: u64 = 1 << 1;
/// The TCP or UDP checksum was calculated.
const RXD_L4CS: u64 = 1 << 5;
/// CRC, length, packet, oversize and undersize errors.
const RXD_FRAME_ERRORS: u64 = 0x3b00_0000;
/// TCP or UDP checksum error; IP checksum error.
const RXD_SUM_ERRORS: u64 = 0xc000_0000;
const RXD_LEN_SHIFT: u32 = 32;

// Transmit data, second word: length, type, command; options and payload length from bit 32 on.
const TXD_DATA: u64 = 0x0030_0000;
const TXD_EOP: u64 = 1 << 24;
const TXD_IFCS: u64 = 1 << 25;
const TXD_RS: u64 = 1 << 27;
const TXD_DEXT: u64 = 1 << 29;
const TXD_TSE: u64 = 1 << 31;
/// As written back: done.
const TXD_DD: u64 = 1 << 32;
/// Which of the queue's two contexts the frame refers to.
const TXD_CONTEXT_1: u64 = 1 << 36;
/// Insert the IP, the TCP or UDP checksum.
const TXD_IXSM: u64 = 1 << 40;
const TXD_TXSM: u64 = 1 << 41;
const TXD_PAYLEN_SHIFT: u32 = 46;

// Transmit context, second word; the first one has the lengths of IP and Ethernet header.
const CTX_TYPE: u64 = 0x0020_0000;
const CTX_IPV4: u64 = 1 << 10;
const CTX_TCP: u64 = 1 << 11;
const CTX_INDEX_1: u64 = 1 << 36;
const CTX_L4LEN_SHIFT: u32 = 40;
const CTX_MSS_SHIFT: u32 = 48;
const CTX_MACLEN_SHIFT: u32 = 9;

/// A descriptor takes at most this many bytes.
const TX_MAX: u32 = 1 << 14;

/// Where the checksum is in a TCP and in a UDP header.
const TCP_FIELD: u8 = 16;
const UDP_FIELD: u8 = 6;

/// Whether the hardware can do what is asked of it: the checksums of TCP and UDP, and TSO.
pub(crate) fn can(offload: &Offload) -> bool {
    match *offload {
        Offload::None | Offload::Tso { .. } => true,
        Offload::Checksum { l3, l4, field, .. } => {
            // Of the length of the Ethernet header 7 bits are kept, of that of IP 9.
            l3 < 128 && l4 > l3 && matches!(field.wrapping_sub(l4), TCP_FIELD | UDP_FIELD)
        }
    }
}

/// The receive descriptors.
pub(crate) struct RxFormat;

impl hw::RxFormat for RxFormat {
    const DONE: u64 = RXD_DD;
    const BAD: u64 = RXD_FRAME_ERRORS;
    const LAST: u64 = RXD_EOP;

    #[inline(always)]
    fn len(second: u64) -> u16 {
        (second >> RXD_LEN_SHIFT) as u16
    }

    #[inline]
    fn csum_ok(second: u64, first: impl Fn() -> u64) -> bool {
        let summed = second & (RXD_L4CS | RXD_SUM_ERRORS) == RXD_L4CS;
        summed && first() & RXD_TUNNEL == 0
    }
}

/// A context descriptor, by its two words.
type Context = (u64, u64);

/// The transmit ring.
pub(crate) struct TxRing {
    memory: DescRing,
    /// What the hardware keeps as context 0, for checksums, and as context 1, for TSO.
    sum: Option<Context>,
    tso: Option<Context>,
    /// First descriptor of the unfinished frame, and its bytes so far.
    first: u32,
    bytes: u32,
}

impl TxRing {
    pub(crate) fn new(memory: DescRing) -> Self {
        Self {
            memory,
            sum: None,
            tso: None,
            first: 0,
            bytes: 0,
        }
    }
}

/// The context that an offload needs.
#[inline]
fn context(offload: &Offload) -> Option<Context> {
    let (l3, l4, rest) = match *offload {
        Offload::None => return None,
        Offload::Checksum { l3, l4, field, .. } => {
            let tcp = field.wrapping_sub(l4) == TCP_FIELD;
            (l3, l4, if tcp { CTX_TCP } else { 0 })
        }
        Offload::Tso {
            v6,
            l3,
            l4,
            hdr_len,
            mss,
            ..
        } => {
            let l4_len = u64::from(hdr_len.saturating_sub(l4));
            let ip = if v6 { 0 } else { CTX_IPV4 };
            let sizes = l4_len << CTX_L4LEN_SHIFT | u64::from(mss) << CTX_MSS_SHIFT;
            (l3, l4, CTX_TCP | CTX_INDEX_1 | ip | sizes)
        }
    };
    let lengths = u64::from(l4.saturating_sub(l3)) | u64::from(l3) << CTX_MACLEN_SHIFT;
    Some((lengths, CTX_TYPE | TXD_DEXT | rest))
}

impl hw::TxRing for TxRing {
    const REPORT: u64 = TXD_RS;

    #[inline]
    fn memory(&self) -> &DescRing {
        &self.memory
    }

    #[inline]
    fn prepare(&mut self, i: u32, offload: &Offload) -> bool {
        let wanted = context(offload);
        let Some((low, high)) = wanted else {
            return false;
        };
        let kept = if matches!(offload, Offload::Tso { .. }) {
            &mut self.tso
        } else {
            &mut self.sum
        };
        if *kept == wanted {
            return false;
        }
        *kept = wanted;
        self.memory.put(i, low, high);
        true
    }

    #[inline]
    fn simple(&self, _offload: &Offload) -> u32 {
        TX_MAX
    }

    fn limits(&self, _offload: &Offload) -> (u32, u32) {
        (TX_MAX, TX_MAX)
    }

    #[inline(always)]
    fn whole(len: u32) -> u64 {
        let len = u64::from(len);
        TXD_DATA | TXD_DEXT | TXD_IFCS | TXD_EOP | len | len << TXD_PAYLEN_SHIFT
    }

    #[inline]
    fn push(&mut self, i: u32, dma: u64, len: u32, last: bool, offload: &Offload) {
        let (options, payload) = match *offload {
            Offload::None => (0, None),
            Offload::Checksum { .. } => (TXD_TXSM, None),
            Offload::Tso { v6, payload, .. } => {
                let ip = if v6 { 0 } else { TXD_IXSM };
                (TXD_TSE | TXD_TXSM | TXD_CONTEXT_1 | ip, Some(payload))
            }
        };
        // TSE belongs to every descriptor of a frame, what is to be inserted and the length of all
        // of it to the first one.
        let mut word = TXD_DATA | TXD_DEXT | TXD_IFCS | (options & TXD_TSE) | u64::from(len);
        let first = self.bytes == 0;
        self.bytes += len;
        if last {
            word |= TXD_EOP;
        }
        if first {
            word |= options;
            if last || payload.is_some() {
                let length = payload.unwrap_or(self.bytes);
                word |= u64::from(length) << TXD_PAYLEN_SHIFT;
            }
            self.first = i;
        } else if last && payload.is_none() {
            let head = self.memory.read(self.first, 1);
            let length = u64::from(self.bytes) << TXD_PAYLEN_SHIFT;
            self.memory.write(self.first, 1, head | length);
        }
        if last {
            self.bytes = 0;
        }
        self.memory.put(i, dma, word);
    }

    #[inline]
    fn cancel(&mut self) {
        self.sum = None;
        self.tso = None;
        self.bytes = 0;
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
