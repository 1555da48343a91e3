// SPDX-License-Identifier: GPL-2.0

//! What a hardware ring must do, independent of the NIC.
//!
//! A ring here is only the descriptor memory and the doorbell. Which descriptors are the
//! hardware's, and which buffers they refer to, is kept by `adapter::queue`, which calls one ring
//! under one lock.

use super::{e1000, i40e, ixgbe};
use crate::sys::nicops::{DescRing, Descriptor};
use core::marker::PhantomData;

/// TCP's number among IP protocols.
const PROTOCOL_TCP: u32 = 6;

/// A finished receive descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes in the buffer, without CRC.
    pub(crate) len: u16,
    /// The last descriptor of its frame.
    pub(crate) eop: bool,
    /// The hardware verified the TCP or UDP checksum.
    pub(crate) csum_ok: bool,
    /// The frame is damaged.
    pub(crate) bad: bool,
}

/// What the hardware completes in a frame that it sends. Offsets count from the frame's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Nothing.
    None,
    /// The sum of everything from byte `l4` on goes to `field`, which holds the pseudo header's.
    Checksum {
        v6: bool,
        /// First byte of the IP header.
        l3: u8,
        /// First byte of the header that the sum is in, most often TCP's or UDP's.
        l4: u8,
        /// The sum's two bytes.
        field: u8,
        /// First byte behind that header, if it is TCP's or UDP's.
        hdr_len: u8,
    },
    /// The frame is cut into segments of `mss` payload bytes, each with a copy of the headers.
    Tso {
        v6: bool,
        /// First byte of the IP header.
        l3: u8,
        /// First byte of the TCP header.
        l4: u8,
        /// Bytes of all headers.
        hdr_len: u8,
        mss: u16,
        /// Bytes behind the headers.
        payload: u32,
    },
}

impl Offload {
    /// Makes the headers at the start of a frame what the hardware expects of them, which sums and
    /// counts each segment from there: no lengths, no IP checksum, and as TCP checksum the sum of
    /// the pseudo header without its length.
    pub(crate) fn fix_headers(&self, frame: &mut [u8]) {
        let Offload::Tso { v6, l3, l4, .. } = *self else {
            return;
        };
        let (l3, l4) = (usize::from(l3), usize::from(l4));
        // Where the length is, and the addresses.
        let (length, addresses) = if v6 {
            (l3 + 4, l3 + 8..l3 + 40)
        } else {
            (l3 + 2, l3 + 12..l3 + 20)
        };
        let Some(words) = frame.get(addresses) else {
            return;
        };
        let mut sum = PROTOCOL_TCP;
        for word in words.chunks_exact(2) {
            if let [high, low] = *word {
                sum += u32::from(u16::from_be_bytes([high, low]));
            }
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let mut put = |at: usize, value: u16| {
            if let Some(field) = frame.get_mut(at..at + 2) {
                field.copy_from_slice(&value.to_be_bytes());
            }
        };
        put(length, 0);
        if !v6 {
            put(l3 + 10, 0);
        }
        put(l4 + 16, sum as u16);
    }
}

/// What the hardware writes back into the second word of a receive descriptor.
pub(crate) trait RxFormat {
    /// Bit: done. Not set in a word of 0.
    const DONE: u64;
    /// Bits that a good frame has not.
    const BAD: u64;
    /// Bits of which the last descriptor of a frame has one.
    const LAST: u64;
    /// Bytes in the buffer, without CRC.
    fn len(second: u64) -> u16;
    /// Whether the hardware verified the TCP or UDP checksum; `first` reads the first word.
    fn csum_ok(second: u64, first: impl Fn() -> u64) -> bool;
}

/// A ring of receive descriptors of a chip: all that are known take an empty buffer by its address
/// in the first word and zeros in the second. Numbers of descriptors are below
/// [`count`](Self::count).
///
/// # Invariants
///
/// The memory stays valid as long as the ring lives: the queue drops it in the driver's stop()
/// call, before the driver frees or reuses the memory.
pub(crate) struct RxRing<F> {
    memory: DescRing,
    format: PhantomData<F>,
}

impl<F: RxFormat> RxRing<F> {
    fn new(memory: DescRing) -> Self {
        Self {
            memory,
            format: PhantomData,
        }
    }

    /// Number of descriptors.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.memory.count()
    }

    /// Gives descriptor `i` an empty buffer at bus address `dma`, as `put(dma, 0)` does.
    #[inline]
    pub(crate) fn post(&mut self, i: u32, dma: u64) {
        self.memory.put(i, dma, 0);
    }

    /// What arrived in descriptor `i`, if the hardware is done with it.
    #[inline]
    pub(crate) fn reap(&self, i: u32) -> Option<Received> {
        // One load, so that all of it belongs together.
        let second = self.memory.read(i, 1);
        if second & F::DONE == 0 {
            return None;
        }
        self.memory.read_barrier();
        Some(Received {
            len: F::len(second),
            eop: second & F::LAST != 0,
            csum_ok: F::csum_ok(second, || self.memory.read(i, 0)),
            bad: second & F::BAD != 0,
        })
    }

    /// Up to `max` descriptors from `from` on, but none over the end of the ring.
    #[inline]
    pub(crate) fn run(&self, from: u32, max: u32) -> &[Descriptor] {
        self.memory.run(from, max)
    }

    /// Tells the hardware that the descriptors before `next` are its own.
    #[inline]
    pub(crate) fn doorbell(&mut self, next: u32) {
        self.memory.doorbell(next);
    }
}

/// A ring of transmit descriptors. Numbers of descriptors are below [`count`](Self::count).
pub(crate) trait TxRing {
    /// Bit of a data descriptor's second word: a report is asked for.
    const REPORT: u64;
    /// The descriptors.
    fn memory(&self) -> &DescRing;
    /// Number of descriptors.
    #[inline]
    fn count(&self) -> u32 {
        self.memory().count()
    }
    /// Writes the descriptor that announces `offload` to `i`, if one is needed before the frame's
    /// data. False: nothing was written.
    fn prepare(&mut self, i: u32, offload: &Offload) -> bool;
    /// Up to that many bytes a piece takes just one descriptor; beyond, the next two tell more.
    fn simple(&self, offload: &Offload) -> u32;
    /// Most bytes that a descriptor may hold: (of a frame's first one, of the others).
    fn limits(&self, offload: &Offload) -> (u32, u32);
    /// Bytes that the last descriptor of a frame must be split by, or 0: errata.
    #[inline]
    fn tail_split(&mut self, _offload: &Offload) -> u32 {
        0
    }
    /// Second word of the descriptor of a whole frame, of up to [`simple`](Self::simple) bytes and
    /// without offload, whose address is the first.
    fn whole(len: u32) -> u64;
    /// Writes a data descriptor: `len` bytes at bus address `dma`.
    fn push(&mut self, i: u32, dma: u64, len: u32, last: bool, offload: &Offload);
    /// The frame begun, and with it what [`prepare`](Self::prepare) wrote, is not sent after all.
    fn cancel(&mut self) {}
    /// Asks for a report when descriptor `i`, the last of a frame, is done. Before the doorbell.
    #[inline]
    fn report(&mut self, i: u32) {
        let word = self.memory().read(i, 1);
        self.memory().write(i, 1, word | Self::REPORT);
    }
    /// Whether the hardware is done with descriptor `i`, for which a report was asked, and with
    /// all before it.
    fn complete(&self, i: u32) -> bool;
    /// Tells the hardware that the descriptors before `next` are its own.
    #[inline]
    fn doorbell(&mut self, next: u32) {
        self.memory().doorbell(next);
    }
}

/// Drivers that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    E1000,
    I40e,
    Ixgbe,
}

impl Driver {
    /// By the name that the driver registers with its bus.
    pub(crate) fn by_name(name: &[u8]) -> Option<Self> {
        match name {
            b"e1000" => Some(Self::E1000),
            b"i40e" => Some(Self::I40e),
            b"ixgbe" => Some(Self::Ixgbe),
            _ => None,
        }
    }

    /// Receive buffer lengths that the hardware can be programmed for, in bytes.
    pub(crate) fn rx_buf_sizes(self) -> &'static [u32] {
        match self {
            Self::E1000 => e1000::RX_BUF_SIZES,
            Self::I40e => i40e::RX_BUF_SIZES,
            Self::Ixgbe => ixgbe::RX_BUF_SIZES,
        }
    }

    /// Whether the hardware can complete frames like that; else the stack does.
    #[inline]
    pub(crate) fn can(self, offload: &Offload) -> bool {
        match self {
            Self::E1000 => true,
            Self::I40e => i40e::can(offload),
            Self::Ixgbe => ixgbe::can(offload),
        }
    }

    /// Bytes that a frame on the wire may have, without CRC.
    pub(crate) fn max_frame(self) -> u32 {
        match self {
            Self::E1000 => e1000::MAX_FRAME,
            Self::I40e => i40e::MAX_FRAME,
            Self::Ixgbe => ixgbe::MAX_FRAME,
        }
    }

    /// Data descriptors that one frame on the wire may have.
    #[inline]
    pub(crate) fn max_pieces(self) -> u32 {
        match self {
            Self::E1000 => u32::MAX,
            Self::I40e => i40e::MAX_PIECES,
            Self::Ixgbe => ixgbe::MAX_PIECES,
        }
    }

    /// A receive ring of this driver in `memory`.
    pub(crate) fn rx_ring(self, memory: DescRing) -> HwRx {
        match self {
            Self::E1000 => HwRx::E1000(RxRing::new(memory)),
            Self::I40e => HwRx::I40e(RxRing::new(memory)),
            Self::Ixgbe => HwRx::Ixgbe(RxRing::new(memory)),
        }
    }

    /// A transmit ring of this driver in `memory`.
    pub(crate) fn tx_ring(self, memory: DescRing) -> HwTx {
        match self {
            Self::E1000 => HwTx::E1000(e1000::TxRing::new(memory)),
            Self::I40e => HwTx::I40e(i40e::TxRing::new(memory)),
            Self::Ixgbe => HwTx::Ixgbe(ixgbe::TxRing::new(memory)),
        }
    }
}

/// A receive ring of any driver: calls are resolved by a match, not through a table; of a batch,
/// once for all of it.
pub(crate) enum HwRx {
    E1000(RxRing<e1000::RxFormat>),
    I40e(RxRing<i40e::RxFormat>),
    Ixgbe(RxRing<ixgbe::RxFormat>),
}

/// A transmit ring of any driver.
pub(crate) enum HwTx {
    E1000(e1000::TxRing),
    I40e(i40e::TxRing),
    Ixgbe(ixgbe::TxRing),
}

/// Does `$call` with the ring of whatever driver it is, as code of its own for each.
macro_rules! with_ring {
    ($kind:ident, $any:expr, $ring:ident => $call:expr) => {
        match $any {
            $crate::drivers::hw::$kind::E1000($ring) => $call,
            $crate::drivers::hw::$kind::I40e($ring) => $call,
            $crate::drivers::hw::$kind::Ixgbe($ring) => $call,
        }
    };
}
pub(crate) use with_ring;

impl HwRx {
    /// See [`RxRing::count`].
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        with_ring!(HwRx, self, r => r.count())
    }
    /// See [`RxRing::post`].
    #[inline]
    pub(crate) fn post(&mut self, i: u32, dma: u64) {
        with_ring!(HwRx, self, r => r.post(i, dma));
    }
    /// See [`RxRing::reap`].
    #[inline]
    pub(crate) fn reap(&self, i: u32) -> Option<Received> {
        with_ring!(HwRx, self, r => r.reap(i))
    }
    /// See [`RxRing::run`].
    #[inline]
    pub(crate) fn run(&self, from: u32, max: u32) -> &[Descriptor] {
        with_ring!(HwRx, self, r => r.run(from, max))
    }
    /// See [`RxRing::doorbell`].
    #[inline]
    pub(crate) fn doorbell(&mut self, next: u32) {
        with_ring!(HwRx, self, r => r.doorbell(next));
    }
}

/// The methods of [`TxRing`], of whatever driver.
impl HwTx {
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        with_ring!(HwTx, self, r => r.count())
    }
    #[inline]
    pub(crate) fn prepare(&mut self, i: u32, offload: &Offload) -> bool {
        with_ring!(HwTx, self, r => r.prepare(i, offload))
    }
    #[inline]
    pub(crate) fn simple(&self, offload: &Offload) -> u32 {
        with_ring!(HwTx, self, r => r.simple(offload))
    }
    #[inline]
    pub(crate) fn limits(&self, offload: &Offload) -> (u32, u32) {
        with_ring!(HwTx, self, r => r.limits(offload))
    }
    #[inline]
    pub(crate) fn tail_split(&mut self, offload: &Offload) -> u32 {
        with_ring!(HwTx, self, r => r.tail_split(offload))
    }
    #[inline]
    pub(crate) fn push(&mut self, i: u32, dma: u64, len: u32, last: bool, offload: &Offload) {
        with_ring!(HwTx, self, r => r.push(i, dma, len, last, offload));
    }
    #[inline]
    pub(crate) fn cancel(&mut self) {
        with_ring!(HwTx, self, r => r.cancel());
    }
    #[inline]
    pub(crate) fn report(&mut self, i: u32) {
        with_ring!(HwTx, self, r => r.report(i));
    }
    #[inline]
    pub(crate) fn complete(&self, i: u32) -> bool {
        with_ring!(HwTx, self, r => r.complete(i))
    }
    #[inline]
    pub(crate) fn doorbell(&mut self, next: u32) {
        with_ring!(HwTx, self, r => r.doorbell(next));
    }
}
