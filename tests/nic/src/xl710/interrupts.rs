// SPDX-License-Identifier: GPL-2.0

//! Interrupt vectors: causes, throttling (ITR), and the event vector with its cause register.

use std::time::{Duration, Instant};

use super::config::VECTORS;
use super::regs::{self, Registers, ICR0_INTEVENT};

/// Bits of a DYN_CTL register.
const INTENA: u32 = 1;
const SWINT_TRIG: u32 = 1 << 2;
const ITR_INDEX_SHIFT: u32 = 3;
const INTERVAL_SHIFT: u32 = 5;
const INTERVAL_MASK: u32 = 0xfff;
const SW_ITR_INDEX_SHIFT: u32 = 25;
/// INTENA is left as it is.
const INTENA_MASK: u32 = 1 << 31;
/// ITR index that says "no throttling".
pub const NO_ITR: u32 = 3;
/// Units of an ITR interval.
const ITR_UNIT: Duration = Duration::from_micros(2);

/// The state of all vectors.
#[derive(Debug, Default)]
pub struct Vectors {
    /// Vectors with a cause that was not told yet.
    pending: u32,
    /// Of those, by which ITR each waits; the shortest counts.
    itr: [u32; VECTORS as usize],
    /// When each vector was told last.
    last: [Option<Instant>; VECTORS as usize],
    next: Option<Instant>,
}

/// The DYN_CTL register of a vector.
fn control(vector: u32) -> u32 {
    match vector {
        0 => regs::PFINT_DYN_CTL0,
        n => regs::PFINT_DYN_CTLN + 4 * (n - 1),
    }
}

/// How long a vector is silent after it was told, by one of its three intervals.
fn interval(registers: &Registers, vector: u32, itr: u32) -> Duration {
    let at = match (vector, itr) {
        (_, NO_ITR..) => return Duration::ZERO,
        (0, itr) => regs::PFINT_ITR0 + 128 * itr,
        (n, itr) => regs::PFINT_ITRN + regs::ITRN_STRIDE * itr + 4 * (n - 1),
    };
    ITR_UNIT * (registers.get(at) & INTERVAL_MASK)
}

impl Vectors {
    /// A queue's cause, from its QINT_xQCTL register.
    pub fn queue(&mut self, registers: &Registers, control: u32) {
        let value = registers.get(control);
        if value & regs::CAUSE_ENA != 0 {
            self.raise(registers, value & 0xff, (value >> 11) & 3);
        }
    }

    fn raise(&mut self, registers: &Registers, vector: u32, itr: u32) {
        if vector >= VECTORS {
            return;
        }
        let Some(waiting) = self.itr.get_mut(vector as usize) else {
            return;
        };
        let sooner = interval(registers, vector, itr) < interval(registers, vector, *waiting);
        if (self.pending >> vector) & 1 == 0 || sooner {
            *waiting = itr;
        }
        self.pending |= 1 << vector;
    }

    /// A cause of the event vector: bits of ICR0.
    pub fn event(&mut self, registers: &mut Registers, cause: u32) {
        let causes = registers.get(regs::PFINT_ICR0) | cause;
        registers.set(regs::PFINT_ICR0, causes);
        self.check_events(registers);
    }

    /// After a change of ICR0_ENA or ICR0.
    pub fn check_events(&mut self, registers: &mut Registers) {
        let causes = registers.get(regs::PFINT_ICR0);
        if causes & registers.get(regs::PFINT_ICR0_ENA) != 0 {
            registers.set(regs::PFINT_ICR0, causes | ICR0_INTEVENT);
            self.raise(registers, 0, NO_ITR);
        }
    }

    /// A write to the DYN_CTL register of a vector.
    pub fn write_control(&mut self, registers: &mut Registers, vector: u32, value: u32) {
        let at = control(vector);
        let enabled = if value & INTENA_MASK != 0 {
            registers.get(at) & INTENA
        } else {
            value & INTENA
        };
        let itr = (value >> ITR_INDEX_SHIFT) & 3;
        if itr != NO_ITR {
            let interval = (value >> INTERVAL_SHIFT) & INTERVAL_MASK;
            let to = match vector {
                0 => regs::PFINT_ITR0 + 128 * itr,
                n => regs::PFINT_ITRN + regs::ITRN_STRIDE * itr + 4 * (n - 1),
            };
            // The register of vector 0 has no such field.
            if vector != 0 {
                registers.set(to, interval);
            }
        }
        registers.set(at, enabled);
        if value & SWINT_TRIG != 0 {
            if vector == 0 {
                let causes = registers.get(regs::PFINT_ICR0);
                registers.set(regs::PFINT_ICR0, causes | (1 << 31) | ICR0_INTEVENT);
            }
            self.raise(registers, vector, (value >> SW_ITR_INDEX_SHIFT) & 3);
        }
        if vector == 0 {
            self.check_events(registers);
        }
    }

    /// Takes the vectors that are to be told now; each is masked until its driver enables it again.
    pub fn take(&mut self, registers: &mut Registers, now: Instant) -> u32 {
        self.next = None;
        let mut told = 0;
        let mut rest = self.pending;
        while rest != 0 {
            let vector = rest.trailing_zeros();
            rest &= rest - 1;
            if registers.get(control(vector)) & INTENA == 0 {
                continue;
            }
            let index = vector as usize;
            let (Some(itr), Some(last)) = (self.itr.get(index), self.last.get_mut(index)) else {
                continue;
            };
            let due = last.map(|last| last + interval(registers, vector, *itr));
            if let Some(due) = due.filter(|due| *due > now) {
                self.next = self.next.into_iter().chain([due]).min();
                continue;
            }
            *last = Some(now);
            self.pending &= !(1 << vector);
            registers.set(control(vector), 0);
            told |= 1 << vector;
        }
        told
    }

    /// Whether [`take`](Self::take) has something to do.
    pub fn waiting(&self) -> bool {
        self.pending != 0
    }

    /// When a throttled vector is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Forgets all causes.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TQCTL: u32 = regs::QINT_TQCTL;
    const RQCTL: u32 = regs::QINT_RQCTL;

    fn set_up() -> (Vectors, Registers) {
        let mut registers = Registers::new();
        // Queue 0 at vector 1: received frames by ITR 0, sent ones by ITR 1.
        registers.set(RQCTL, regs::CAUSE_ENA | 1);
        registers.set(TQCTL, regs::CAUSE_ENA | (1 << 11) | 1);
        registers.set(regs::PFINT_ITRN, 25);
        registers.set(regs::PFINT_ITRN + regs::ITRN_STRIDE, 50);
        (Vectors::default(), registers)
    }

    #[test]
    fn told_once_until_enabled_again() {
        let (mut vectors, mut registers) = set_up();
        let now = Instant::now();
        vectors.queue(&registers, RQCTL);
        assert_eq!(vectors.take(&mut registers, now), 0);
        vectors.write_control(&mut registers, 1, INTENA | (NO_ITR << 3));
        assert_eq!(vectors.take(&mut registers, now), 2);
        vectors.queue(&registers, RQCTL);
        assert_eq!(
            vectors.take(&mut registers, now + Duration::from_secs(1)),
            0
        );
    }

    #[test]
    fn the_shortest_interval_counts() {
        let (mut vectors, mut registers) = set_up();
        let now = Instant::now();
        let enable = INTENA | (NO_ITR << 3);
        vectors.write_control(&mut registers, 1, enable);
        vectors.queue(&registers, RQCTL);
        assert_eq!(vectors.take(&mut registers, now), 2);
        vectors.write_control(&mut registers, 1, enable);
        vectors.queue(&registers, TQCTL);
        assert_eq!(vectors.take(&mut registers, now), 0);
        assert_eq!(vectors.deadline(), Some(now + Duration::from_micros(100)));
        vectors.queue(&registers, RQCTL);
        assert_eq!(vectors.take(&mut registers, now), 0);
        assert_eq!(vectors.deadline(), Some(now + Duration::from_micros(50)));
        let later = now + Duration::from_micros(50);
        assert_eq!(vectors.take(&mut registers, later), 2);
        assert_eq!(vectors.deadline(), None);
    }

    #[test]
    fn events_wait_for_their_mask() {
        let (mut vectors, mut registers) = set_up();
        let now = Instant::now();
        vectors.write_control(&mut registers, 0, INTENA | (NO_ITR << 3));
        vectors.event(&mut registers, regs::ICR0_ADMINQ);
        assert_eq!(vectors.take(&mut registers, now), 0);
        registers.set(regs::PFINT_ICR0_ENA, regs::ICR0_ADMINQ);
        vectors.check_events(&mut registers);
        assert_eq!(vectors.take(&mut registers, now), 1);
        assert_eq!(
            registers.get(regs::PFINT_ICR0),
            regs::ICR0_ADMINQ | ICR0_INTEVENT
        );
    }

    #[test]
    fn software_interrupts_need_no_cause() {
        let (mut vectors, mut registers) = set_up();
        vectors.write_control(&mut registers, 3, INTENA | SWINT_TRIG | (NO_ITR << 3));
        assert_eq!(vectors.take(&mut registers, Instant::now()), 8);
    }
}
