// SPDX-License-Identifier: GPL-2.0

//! Resets: of the function (PFR), and of the device (CORER, GLOBR), which the driver is told of first.

use std::time::{Duration, Instant};

use super::{adminq, regs, stats, Xl710};

/// How long a reset of the device takes.
const DURATION: Duration = Duration::from_millis(100);

/// A reset of the device that has been announced.
#[derive(Debug)]
pub struct Pending {
    /// When it is done.
    pub at: Instant,
    /// 1 core, 2 global.
    kind: u32,
}

impl Xl710 {
    /// Stops all queues and forgets what drivers set up.
    pub(super) fn reset_function(&mut self) {
        self.resets += 1;
        for ring in &mut self.tx {
            ring.enable(None);
        }
        for ring in &mut self.rx {
            ring.enable(None);
        }
        let registers = &mut self.registers;
        use super::config::{QUEUES, VECTORS};
        for base in [regs::QTX_ENA, regs::QTX_TAIL, regs::QRX_ENA, regs::QRX_TAIL] {
            registers.clear(base, QUEUES, 4);
        }
        for base in [regs::QINT_RQCTL, regs::QINT_TQCTL] {
            registers.clear(base, QUEUES, 4);
        }
        for base in [regs::PFINT_DYN_CTLN, regs::PFINT_LNKLSTN] {
            registers.clear(base, VECTORS - 1, 4);
        }
        for itr in 0..3 {
            registers.clear(regs::PFINT_ITRN + itr * regs::ITRN_STRIDE, VECTORS - 1, 4);
            registers.set(regs::PFINT_ITR0 + 128 * itr, 0);
        }
        registers.set(regs::PFINT_DYN_CTL0, 0);
        registers.set(regs::PFINT_ICR0, 0);
        registers.set(regs::PFINT_ICR0_ENA, 0);
        registers.set(regs::PFGEN_CTRL, 0);
        adminq::reset(registers);
        self.sent = 0;
        self.vectors.clear();
        self.segments.clear();
        self.firmware.reset(false);
    }

    /// The state after power-on, but for the link's cable.
    pub(super) fn reset_device(&mut self) {
        self.reset_function();
        self.reset = None;
        self.firmware.reset(true);
        let registers = &mut self.registers;
        stats::clear(registers);
        registers.clear(regs::PFQF_HENA, 2, regs::HASH_STRIDE);
        registers.clear(regs::PFQF_HKEY, 13, regs::HASH_STRIDE);
        registers.clear(regs::PFQF_HLUT, 128, regs::HASH_STRIDE);
        registers.set(regs::PFQF_CTL_0, 0);
        registers.set(regs::GLGEN_RTRIG, 0);
        registers.set(regs::GLGEN_RSTAT, 0);
        registers.defaults();
    }

    /// A write to GLGEN_RTRIG.
    pub(super) fn trigger_reset(&mut self, value: u32) {
        let kind = match value & 3 {
            0 => return,
            1 => 1,
            _ => 2,
        };
        self.reset = Some(Pending {
            at: Instant::now() + DURATION,
            kind,
        });
        self.registers.set(regs::GLGEN_RSTAT, (kind << 2) | 1);
        self.vectors.event(&mut self.registers, regs::ICR0_GRST);
    }

    /// GLGEN_RSTAT; does a reset whose time has come.
    pub(super) fn reset_state(&mut self) -> u32 {
        if let Some(kind) = self
            .reset
            .as_ref()
            .filter(|reset| reset.at <= Instant::now())
            .map(|reset| reset.kind)
        {
            // The driver may look at the cause later than that.
            let cause = self.registers.get(regs::PFINT_ICR0);
            self.reset_device();
            self.registers.set(regs::PFINT_ICR0, cause);
            self.registers.set(regs::GLGEN_RSTAT, kind << 2);
        }
        self.registers.get(regs::GLGEN_RSTAT)
    }
}
