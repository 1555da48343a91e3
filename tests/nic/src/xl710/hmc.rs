// SPDX-License-Identifier: GPL-2.0

//! The host memory cache: queue contexts lie in host memory, in a private address space that segment
//! descriptors map.

use super::regs::{self, Registers};
use crate::device::Bus;

/// Bytes that a segment descriptor maps.
const SEGMENT: u64 = 2 << 20;
/// Bytes of a transmit and of a receive context.
const TX_CONTEXT: usize = 128;
const RX_CONTEXT: usize = 32;
/// Bases of context tables count in these.
const BASE_UNIT: u64 = 512;

/// The segment descriptors of the function, of which only direct ones are known.
#[derive(Debug, Default)]
pub struct Segments {
    bases: Vec<Option<u64>>,
}

impl Segments {
    /// A write to PFHMC_SDCMD: `index` of a segment, with the two data registers.
    pub fn set(&mut self, bus: &mut Bus, command: u32, low: u32, high: u32) {
        if command >> 31 == 0 {
            return;
        }
        let index = (command & 0xfff) as usize;
        if self.bases.len() <= index {
            self.bases.resize(index + 1, None);
        }
        let valid = low & 1 == 1;
        if valid && low & 2 == 0 {
            bus.complain(format_args!(
                "segment {index} of the HMC is paged: not modelled"
            ));
        }
        if let Some(base) = self.bases.get_mut(index) {
            *base = valid.then_some((u64::from(high) << 32) | u64::from(low & 0xffff_f000));
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bases.clear();
    }

    fn translate(&self, address: u64) -> Option<u64> {
        let base = (*self.bases.get((address / SEGMENT) as usize)?)?;
        Some(base + address % SEGMENT)
    }

    fn context<const N: usize>(
        &self,
        bus: &mut Bus,
        registers: &Registers,
        base: u32,
        count: u32,
        queue: u32,
    ) -> Option<[u8; N]> {
        if queue >= registers.get(count) {
            bus.complain(format_args!("queue {queue} has no context in the HMC"));
            return None;
        }
        let at = u64::from(registers.get(base)) * BASE_UNIT + u64::from(queue) * N as u64;
        let mut bytes = [0; N];
        match self.translate(at) {
            Some(address) if bus.dma_read(address, &mut bytes) => Some(bytes),
            Some(_) => None,
            None => {
                bus.complain(format_args!("no segment maps the context of queue {queue}"));
                None
            }
        }
    }

    /// The context of a transmit queue, if it makes sense.
    pub fn tx(&self, bus: &mut Bus, registers: &Registers, queue: u32) -> Option<TxContext> {
        let (base, count) = (regs::GLHMC_LANTXBASE, regs::GLHMC_LANTXCNT);
        let bytes = self.context::<TX_CONTEXT>(bus, registers, base, count, queue)?;
        let context = TxContext::decode(&bytes);
        if let Err(why) = context.check() {
            bus.complain(format_args!("context of transmit queue {queue}: {why}"));
            return None;
        }
        Some(context)
    }

    /// The context of a receive queue, if it makes sense.
    pub fn rx(&self, bus: &mut Bus, registers: &Registers, queue: u32) -> Option<RxContext> {
        let (base, count) = (regs::GLHMC_LANRXBASE, regs::GLHMC_LANRXCNT);
        let bytes = self.context::<RX_CONTEXT>(bus, registers, base, count, queue)?;
        let context = RxContext::decode(&bytes);
        if let Err(why) = context.check() {
            bus.complain(format_args!("context of receive queue {queue}: {why}"));
            return None;
        }
        Some(context)
    }
}

/// Bits `low..low + width` of a context, at most 64.
fn bits(bytes: &[u8], low: usize, width: usize) -> u64 {
    (0..width)
        .filter(|bit| {
            let at = low + bit;
            bytes
                .get(at / 8)
                .is_some_and(|byte| (byte >> (at % 8)) & 1 == 1)
        })
        .fold(0, |sum, bit| sum | (1 << bit))
}

/// What a transmit queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxContext {
    /// Bus address of the descriptors.
    pub base: u64,
    /// Number of descriptors.
    pub count: u32,
    /// Where to write the head to; None: the descriptors are marked as done.
    pub head: Option<u64>,
    /// Handle of the scheduler's queue set.
    pub set: u16,
}

impl TxContext {
    fn decode(bytes: &[u8]) -> Self {
        let head = bits(bytes, 128 + 64, 64);
        Self {
            base: bits(bytes, 32, 57) * 128,
            count: bits(bytes, 128 + 33, 13) as u32,
            head: (bits(bytes, 128 + 32, 1) == 1).then_some(head),
            set: bits(bytes, 7 * 128 + 84, 10) as u16,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_ring(self.base, self.count)?;
        if self.head.is_some_and(|at| at % 4 != 0) {
            return Err("head write-back address is not aligned");
        }
        if self.set != super::config::QS_HANDLE {
            return Err("wrong handle of the queue set");
        }
        Ok(())
    }
}

/// What a receive queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxContext {
    /// Bus address of the descriptors.
    pub base: u64,
    /// Number of descriptors.
    pub count: u32,
    /// Bytes of a buffer.
    pub buffer: usize,
    /// Bytes of the longest frame.
    pub longest: usize,
    /// Descriptors of 32 bytes, not 16.
    pub wide: bool,
    /// The CRC is taken off.
    pub strip_crc: bool,
    /// Headers go to buffers of their own.
    pub split: bool,
}

impl RxContext {
    fn decode(bytes: &[u8]) -> Self {
        Self {
            base: bits(bytes, 32, 57) * 128,
            count: bits(bytes, 89, 13) as u32,
            buffer: bits(bytes, 102, 7) as usize * 128,
            longest: bits(bytes, 174, 14) as usize,
            wide: bits(bytes, 116, 1) == 1,
            strip_crc: bits(bytes, 117, 1) == 1,
            split: bits(bytes, 114, 2) != 0 || bits(bytes, 120, 4) != 0 || bits(bytes, 124, 2) != 0,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        check_ring(self.base, self.count)?;
        if self.buffer < 1024 || self.buffer > 9728 {
            return Err("buffers of a length that is not allowed");
        }
        if self.longest < 64 || self.longest > 9728 || self.longest > 5 * self.buffer {
            return Err("longest frame does not fit five buffers");
        }
        if self.split {
            return Err("header split is not modelled");
        }
        if !self.strip_crc {
            return Err("the CRC is kept: not modelled");
        }
        Ok(())
    }
}

fn check_ring(base: u64, count: u32) -> Result<(), &'static str> {
    if base == 0 {
        return Err("no descriptors");
    }
    if !(32..=8160).contains(&count) || count % 32 != 0 {
        return Err("number of descriptors is not allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_datasheet_has_them() {
        let mut bytes = [0u8; RX_CONTEXT];
        // Base 0x1_2345_6780: in units of 128 bytes at bit 32.
        let base = 0x1_2345_6780u64 / 128;
        bytes[4..12].copy_from_slice(&base.to_le_bytes());
        // 512 descriptors at bit 89, buffers of 2048 at bit 102, CRC strip at 117, 1522 bytes at 174.
        let rest = (512u128 << 89) | (16u128 << 102) | (1 << 117);
        for (to, from) in bytes.iter_mut().zip(rest.to_le_bytes()) {
            *to |= from;
        }
        let longest = 1522u64 << (174 - 168);
        bytes[21..29].copy_from_slice(&longest.to_le_bytes());
        let context = RxContext::decode(&bytes);
        assert_eq!(context.base, 0x1_2345_6780);
        assert_eq!(
            (context.count, context.buffer, context.longest),
            (512, 2048, 1522)
        );
        assert!(context.strip_crc && !context.split && !context.wide);
        assert_eq!(context.check(), Ok(()));
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        let good = RxContext {
            base: 0x1000,
            count: 64,
            buffer: 2048,
            longest: 9702,
            wide: false,
            strip_crc: true,
            split: false,
        };
        assert_eq!(good.check(), Ok(()));
        assert!(RxContext { count: 31, ..good }.check().is_err());
        assert!(RxContext {
            count: 8192,
            ..good
        }
        .check()
        .is_err());
        assert!(RxContext {
            buffer: 512,
            ..good
        }
        .check()
        .is_err());
        assert!(RxContext {
            buffer: 1024,
            ..good
        }
        .check()
        .is_err());
        assert!(RxContext { base: 0, ..good }.check().is_err());
    }
}
