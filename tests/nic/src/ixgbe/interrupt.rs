// SPDX-License-Identifier: GPL-2.0
//! Interrupt causes, masks and moderation, in MSI-X mode.

use std::time::{Duration, Instant};

use super::regs::{CAUSE_LINK, VECTORS};
use crate::device::Bus;

/// Vector numbers of a queue's causes come with this bit if they are valid.
const VALID: u8 = 0x80;

/// State of the interrupt block. Bit n of 64 is vector n.
#[derive(Debug)]
pub(super) struct Interrupt {
    /// Queue causes, as vectors, that nobody has seen yet.
    pending: u64,
    /// Which of them have been signalled already.
    signalled: u64,
    /// Other causes, bits 16 to 31 of EICR.
    other: u32,
    other_signalled: bool,
    pub(super) mask: u64,
    pub(super) other_mask: u32,
    /// EIAC.
    pub(super) auto_clear: u32,
    /// EIAM and EIAM_EX.
    pub(super) auto_mask: u64,
    /// EIAM of other causes.
    pub(super) other_auto_mask: u32,
    /// GPIE.EIAME.
    pub(super) auto_mask_on: bool,
    /// GPIE.MSIX_MODE.
    pub(super) msix: bool,
    /// Vector of other causes.
    other_vector: Option<usize>,
    /// EITR.
    moderation: [u32; VECTORS],
    /// When a vector may be used again.
    next: [Option<Instant>; VECTORS],
    /// IVAR: a byte per cause, four for each pair of queues: rx and tx of the first, of the second.
    assignment: [u8; 256],
    /// When the first of the causes held back may be signalled.
    pub(super) deadline: Option<Instant>,
}

impl Interrupt {
    pub(super) fn new() -> Self {
        Interrupt {
            pending: 0,
            signalled: 0,
            other: 0,
            other_signalled: false,
            mask: 0,
            other_mask: 0,
            auto_clear: 0,
            auto_mask: 0,
            other_auto_mask: 0,
            auto_mask_on: false,
            msix: false,
            other_vector: None,
            moderation: [0; VECTORS],
            next: [None; VECTORS],
            assignment: [0; 256],
            deadline: None,
        }
    }

    /// A register IVAR(`index`) is written.
    pub(super) fn assign(&mut self, index: usize, value: u32) {
        if let Some(place) = self.assignment.get_mut(index * 4..index * 4 + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// IVAR_MISC is written: its second byte is for other causes.
    pub(super) fn assign_other(&mut self, value: u32) {
        let byte = (value >> 8) as u8;
        self.other_vector = (byte & VALID != 0).then_some(usize::from(byte & 0x3f));
    }

    /// EITR(`vector`) is written.
    pub(super) fn set_moderation(&mut self, vector: usize, value: u32) {
        if let Some(place) = self.moderation.get_mut(vector) {
            *place = value & 0xff8;
        }
        // Without the bit that keeps it, the running count is lost.
        if value & (1 << 31) == 0 {
            if let Some(next) = self.next.get_mut(vector) {
                *next = None;
            }
        }
    }

    /// EITR(`vector`).
    pub(super) fn moderation(&self, vector: usize) -> u32 {
        self.moderation.get(vector).copied().unwrap_or(0)
    }

    /// A queue has something to say.
    pub(super) fn raise_queue(&mut self, transmit: bool, queue: usize) {
        let at = (queue >> 1) * 4 + (queue & 1) * 2 + usize::from(transmit);
        if let Some(byte) = self.assignment.get(at) {
            if byte & VALID != 0 {
                self.pending |= 1 << (byte & 0x3f);
            }
        }
    }

    /// The link has changed.
    pub(super) fn raise_link(&mut self) {
        self.set_other(CAUSE_LINK);
    }

    /// Software sets causes (EICS).
    pub(super) fn set_vectors(&mut self, vectors: u64) {
        self.pending |= vectors;
    }

    /// Software sets other causes (EICS), or the device does.
    pub(super) fn set_other(&mut self, causes: u32) {
        self.other |= causes & 0xffff_0000;
    }

    /// EICR without its side effect.
    pub(super) fn causes(&self) -> u32 {
        self.other | self.pending as u32 & 0xffff
    }

    /// EICR is read or written: these are seen.
    pub(super) fn clear(&mut self, causes: u32) {
        let vectors = u64::from(causes & 0xffff);
        self.pending &= !vectors;
        self.signalled &= !vectors;
        self.other &= !(causes & 0xffff_0000);
        self.other_signalled = self.other_signalled && self.other & self.other_mask != 0;
    }

    /// EIMS: causes that are pending already are signalled again.
    pub(super) fn unmask(&mut self, vectors: u64, other: u32) {
        self.mask |= vectors;
        self.signalled &= !vectors;
        if other & 0xffff_0000 != 0 {
            self.other_mask |= other & 0xffff_0000;
            self.other_signalled = false;
        }
    }

    /// EIMC.
    pub(super) fn mask(&mut self, vectors: u64, other: u32) {
        self.mask &= !vectors;
        self.other_mask &= !other;
    }

    /// Sends what may be sent now, and sets the deadline for the rest.
    pub(super) fn settle(&mut self, bus: &mut Bus) {
        self.deadline = None;
        let mut wanted = self.pending & self.mask & !self.signalled;
        let mut other_wanted = None;
        if self.other & self.other_mask != 0 && !self.other_signalled {
            other_wanted = self.other_vector;
            wanted |= other_wanted.map_or(0, |vector| 1 << vector);
        }
        if wanted == 0 {
            return;
        }
        if !self.msix {
            bus.complain(format_args!(
                "interrupts are enabled without MSI-X mode, which is all that is modelled"
            ));
            self.mask = 0;
            self.other_mask = 0;
            return;
        }
        let now = Instant::now();
        while wanted != 0 {
            let vector = wanted.trailing_zeros() as usize;
            wanted &= wanted - 1;
            if let Some(at) = self
                .next
                .get(vector)
                .copied()
                .flatten()
                .filter(|at| *at > now)
            {
                self.deadline = Some(self.deadline.map_or(at, |sooner| sooner.min(at)));
                continue;
            }
            bus.interrupts.send(vector);
            self.sent(vector, other_wanted == Some(vector), now);
        }
    }

    fn sent(&mut self, vector: usize, other: bool, now: Instant) {
        let bit = 1u64 << vector;
        // In units of a quarter of a microsecond.
        let interval = self.moderation(vector);
        if let Some(next) = self.next.get_mut(vector) {
            *next = (interval != 0).then(|| now + Duration::from_nanos(u64::from(interval) * 250));
        }
        if other {
            self.other_signalled = true;
            self.other &= !(self.auto_clear & 0xffff_0000);
            if self.auto_mask_on {
                self.other_mask &= !self.other_auto_mask;
            }
        }
        if self.pending & self.mask & bit == 0 {
            return;
        }
        // Vectors above 15 have no bit in EICR: they are always cleared.
        if vector >= 16 || self.auto_clear & bit as u32 != 0 {
            self.pending &= !bit;
            self.signalled &= !bit;
        } else {
            self.signalled |= bit;
        }
        if self.auto_mask_on {
            self.mask &= !(bit & self.auto_mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::complaints::Complaints;
    use crate::wire::Wire;

    fn bus() -> Bus {
        Bus::new(Wire::new(None).unwrap(), Complaints::default())
    }

    fn sample() -> Interrupt {
        let mut made = Interrupt::new();
        made.msix = true;
        // Queue 0 rx on vector 0, tx on vector 1.
        made.assign(0, 0x8180);
        made.assign_other(0x8200);
        made.auto_clear = 0xffff;
        made
    }

    fn candidates(interrupt: &Interrupt) -> u64 {
        interrupt.pending & interrupt.mask & !interrupt.signalled
    }

    #[test]
    fn a_masked_cause_waits() {
        let (mut interrupt, mut bus) = (sample(), bus());
        interrupt.raise_queue(false, 0);
        interrupt.settle(&mut bus);
        assert_eq!(interrupt.causes(), 1);
        interrupt.unmask(1, 0);
        interrupt.settle(&mut bus);
        assert_eq!(interrupt.causes(), 0);
    }

    #[test]
    fn an_unassigned_queue_is_silent() {
        let mut interrupt = sample();
        interrupt.raise_queue(true, 1);
        assert_eq!(interrupt.causes(), 0);
        interrupt.raise_queue(true, 0);
        assert_eq!(interrupt.causes(), 2);
    }

    #[test]
    fn auto_mask_holds_the_next_one_back() {
        let (mut interrupt, mut bus) = (sample(), bus());
        interrupt.auto_mask = u64::MAX;
        interrupt.auto_mask_on = true;
        interrupt.unmask(1, 0);
        interrupt.raise_queue(false, 0);
        interrupt.settle(&mut bus);
        assert_eq!(interrupt.mask, 0);
        interrupt.raise_queue(false, 0);
        assert_eq!(candidates(&interrupt), 0);
        interrupt.unmask(1, 0);
        assert_eq!(candidates(&interrupt), 1);
    }

    #[test]
    fn moderation_sets_a_deadline() {
        let (mut interrupt, mut bus) = (sample(), bus());
        interrupt.set_moderation(0, (1 << 31) | 0xff8);
        interrupt.unmask(1, 0);
        interrupt.raise_queue(false, 0);
        interrupt.settle(&mut bus);
        assert!(interrupt.deadline.is_none());
        interrupt.raise_queue(false, 0);
        interrupt.settle(&mut bus);
        assert!(interrupt.deadline.is_some());
        assert_eq!(interrupt.causes(), 1);
        interrupt.set_moderation(0, 0);
        interrupt.settle(&mut bus);
        assert_eq!(interrupt.causes(), 0);
    }

    #[test]
    fn the_link_has_the_other_vector_and_is_cleared_by_hand() {
        let (mut interrupt, mut bus) = (sample(), bus());
        interrupt.unmask(0, CAUSE_LINK);
        interrupt.raise_link();
        interrupt.settle(&mut bus);
        assert_eq!(interrupt.causes(), CAUSE_LINK);
        assert!(interrupt.other_signalled);
        interrupt.clear(CAUSE_LINK);
        assert_eq!(interrupt.causes(), 0);
        assert!(!interrupt.other_signalled);
    }
}
