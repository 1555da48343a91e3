// SPDX-License-Identifier: GPL-2.0

//! Descriptors of the Intel Ethernet 700 series ("Intel Ethernet Controller X710/XXV710/XL710
//! Datasheet", sections 8.3.2 and 8.4.2). Sent frames are reported by the number of the next
//! descriptor that the hardware has to look at, which it writes behind the ring.

use crate::drivers::hw::{self, Offload};
use crate::sys::nicops::DescRing;

// Receive, second word as written back: status, errors from bit 19 on, type, length.
const RXD_DD: u64 = 1;
const RXD_EOF: u64 = 1 << 1;
/// The checksums of known headers were looked at.
const RXD_L3L4P: u64 = 1 << 3;
/// IPv6 extension headers that change addresses: nothing was summed.
const RXD_IPV6EXADD: u64 = 1 << 15;
/// Damaged, or longer than allowed.
const RXD_FRAME_ERRORS: u64 = (1 | (1 << 6)) << 19;
/// Errors of the IP, the transport's and an outer IP checksum; the parser gave up.
const RXD_SUM_ERRORS: u64 = ((1 << 3) | (1 << 4) | (1 << 5) | (1 << 7)) << 19;
const RXD_PTYPE_SHIFT: u32 = 30;
const RXD_LEN_SHIFT: u32 = 38;
const RXD_LEN_MASK: u64 = 0x3fff;
/// Not a frame but news of the flow director.
const RXD_STATUS: u64 = 1 << 63;

/// Packet types: UDP and TCP over IPv4, UDP and TCP over IPv6.
const PTYPES_SUMMED: [u64; 4] = [24, 26, 90, 92];

// Transmit data, second word: type 0, command, lengths of headers, length.
const TXD_EOP: u64 = 1 << 4;
const TXD_RS: u64 = 2 << 4;
/// Append the CRC.
const TXD_ICRC: u64 = 4 << 4;
const TXD_IPV6: u64 = 0x20 << 4;
const TXD_IPV4: u64 = 0x40 << 4;
/// IPv4, and insert the header's checksum.
const TXD_IPV4_SUM: u64 = 0x60 << 4;
const TXD_TCP: u64 = 0x100 << 4;
const TXD_UDP: u64 = 0x300 << 4;
/// Lengths: of the Ethernet header in units of 2 bytes, of the others in units of 4.
const TXD_MACLEN_SHIFT: u32 = 16;
const TXD_IPLEN_SHIFT: u32 = 23;
const TXD_L4LEN_SHIFT: u32 = 30;
const TXD_LEN_SHIFT: u32 = 34;

// Transmit context, second word. It counts for the frame that follows it.
const CTX_TYPE: u64 = 1;
const CTX_TSO: u64 = 1 << 4;
const CTX_PAYLOAD_SHIFT: u32 = 30;
const CTX_MSS_SHIFT: u32 = 50;

/// A descriptor takes at most this many bytes: less than 16 KiB, in whole pages.
const TX_MAX: u32 = 12 << 10;

/// Where the checksum is in a TCP and in a UDP header.
const TCP_FIELD: u8 = 16;
const UDP_FIELD: u8 = 6;

/// Whether the hardware can do what is asked of it: the checksums of TCP and UDP, and TSO.
pub(crate) fn can(offload: &Offload) -> bool {
    let (l3, l4, hdr_len) = match *offload {
        Offload::None => return true,
        Offload::Checksum {
            l3,
            l4,
            field,
            hdr_len,
            ..
        } => {
            if !matches!(field.wrapping_sub(l4), TCP_FIELD | UDP_FIELD) {
                return false;
            }
            (l3, l4, hdr_len)
        }
        Offload::Tso {
            l3, l4, hdr_len, ..
        } => (l3, l4, hdr_len),
    };
    // The fields count in units, and the last one has 4 bits.
    let l4_len = hdr_len.wrapping_sub(l4);
    l3 % 2 == 0 && l4 > l3 && (l4 - l3) % 4 == 0 && l4_len % 4 == 0 && (8..=60).contains(&l4_len)
}

/// The receive descriptors.
pub(crate) struct RxFormat;

impl hw::RxFormat for RxFormat {
    const DONE: u64 = RXD_DD;
    const BAD: u64 = RXD_FRAME_ERRORS | RXD_STATUS;
    const LAST: u64 = RXD_EOF | RXD_STATUS;

    #[inline(always)]
    fn len(second: u64) -> u16 {
        ((second >> RXD_LEN_SHIFT) & RXD_LEN_MASK) as u16
    }

    #[inline]
    fn csum_ok(second: u64, _first: impl Fn() -> u64) -> bool {
        let summed = second & (RXD_L3L4P | RXD_SUM_ERRORS | RXD_IPV6EXADD) == RXD_L3L4P;
        let ptype = (second >> RXD_PTYPE_SHIFT) & 0xff;
        summed && PTYPES_SUMMED.contains(&ptype)
    }
}

/// The transmit ring.
pub(crate) struct TxRing {
    memory: DescRing,
    /// Descriptor after the last one that a report was asked for.
    next: u32,
}

impl TxRing {
    pub(crate) fn new(memory: DescRing) -> Self {
        Self { memory, next: 0 }
    }
}

/// Command and lengths of headers, which all descriptors of a frame have.
#[inline]
fn command(offload: &Offload) -> u64 {
    let (l3, l4, hdr_len, kind) = match *offload {
        Offload::None => return TXD_ICRC,
        Offload::Checksum {
            v6,
            l3,
            l4,
            field,
            hdr_len,
        } => {
            let ip = if v6 { TXD_IPV6 } else { TXD_IPV4 };
            let tcp = field.wrapping_sub(l4) == TCP_FIELD;
            (l3, l4, hdr_len, ip | if tcp { TXD_TCP } else { TXD_UDP })
        }
        Offload::Tso {
            v6,
            l3,
            l4,
            hdr_len,
            ..
        } => {
            let ip = if v6 { TXD_IPV6 } else { TXD_IPV4_SUM };
            (l3, l4, hdr_len, ip | TXD_TCP)
        }
    };
    TXD_ICRC
        | kind
        | (u64::from(l3 / 2) << TXD_MACLEN_SHIFT)
        | (u64::from(l4.saturating_sub(l3) / 4) << TXD_IPLEN_SHIFT)
        | (u64::from(hdr_len.saturating_sub(l4) / 4) << TXD_L4LEN_SHIFT)
}

impl hw::TxRing for TxRing {
    const REPORT: u64 = TXD_RS;

    #[inline]
    fn memory(&self) -> &DescRing {
        &self.memory
    }

    #[inline]
    fn prepare(&mut self, i: u32, offload: &Offload) -> bool {
        let Offload::Tso { mss, payload, .. } = *offload else {
            return false;
        };
        let sizes = (u64::from(payload & 0x3_ffff) << CTX_PAYLOAD_SHIFT)
            | (u64::from(mss & 0x3fff) << CTX_MSS_SHIFT);
        self.memory.put(i, 0, CTX_TYPE | CTX_TSO | sizes);
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
        TXD_ICRC | TXD_EOP | u64::from(len) << TXD_LEN_SHIFT
    }

    #[inline]
    fn push(&mut self, i: u32, dma: u64, len: u32, last: bool, offload: &Offload) {
        let eop = if last { TXD_EOP } else { 0 };
        let word = command(offload) | eop | (u64::from(len & 0x3fff) << TXD_LEN_SHIFT);
        self.memory.put(i, dma, word);
    }

    #[inline]
    fn report(&mut self, i: u32) {
        let word = self.memory.read(i, 1);
        self.memory.write(i, 1, word | TXD_RS);
        let next = i + 1;
        self.next = if next == self.count() { 0 } else { next };
    }

    #[inline]
    fn complete(&self, i: u32) -> bool {
        let (count, head) = (self.count(), self.memory.head());
        if head >= count {
            return false;
        }
        // Those from the head up to the last one written are not done; a ring is never full, so
        // none of the others is waited for.
        let distance = |to: u32| {
            if to >= head {
                to - head
            } else {
                to + count - head
            }
        };
        let done = distance(i) >= distance(self.next);
        if done {
            self.memory.read_barrier();
        }
        done
    }
}
