// SPDX-License-Identifier: GPL-2.0

//! The XL710 (Intel Ethernet 700 series) with one SFP+ port, for the driver i40e. Written from the facts of the
//! datasheet and from what the driver does.
//!
//! Registers come in through [`Device::read`] and [`Device::write`] (here) and are plain memory ([`regs`]) unless
//! they start something: a command ([`adminq`], [`firmware`]), a queue ([`hmc`], [`tx`], [`rx`]), an interrupt
//! ([`interrupts`]) or a reset ([`reset`]).

mod adminq;
mod command;
mod config;
mod filters;
mod firmware;
mod hmc;
mod interrupts;
mod link;
mod nvm;
mod offload;
mod parse;
mod regs;
mod reset;
mod rx;
mod stats;
#[cfg(test)]
mod tests;
mod tx;
mod vsi;

use std::fmt;
use std::time::Instant;

use config::{QUEUES, VECTORS};
use firmware::Firmware;
use hmc::Segments;
use interrupts::Vectors;
use regs::{index, Registers};
use reset::Pending;
use rx::{Fate, RxQueue};
use stats::Way;
use tx::TxQueue;
use vsi::Tags;

use crate::device::{Bar, Bus, Device, Identity, Intake};
use crate::net::vlan;

/// Bytes of BAR 3, which holds the MSI-X table.
const MSIX_BAR_SIZE: u64 = 0x8000;

/// A network card.
pub struct Xl710 {
    registers: Registers,
    firmware: Firmware,
    segments: Segments,
    vectors: Vectors,
    tx: Vec<TxQueue>,
    rx: Vec<RxQueue>,
    /// Transmit queues whose head may have to be told before an interrupt.
    sent: u32,
    reset: Option<Pending>,
    /// Resets until now.
    resets: u32,
    /// Frames that come back to the sender.
    looped: Vec<Vec<u8>>,
}

impl Xl710 {
    /// A card with a station address.
    pub fn new(address: [u8; 6]) -> Self {
        Self {
            registers: Registers::new(),
            firmware: Firmware::new(address),
            segments: Segments::default(),
            vectors: Vectors::default(),
            tx: (0..QUEUES).map(|_| TxQueue::default()).collect(),
            rx: (0..QUEUES).map(|_| RxQueue::default()).collect(),
            sent: 0,
            reset: None,
            resets: 0,
            looped: Vec::new(),
        }
    }

    /// Writes that change only bits of a queue's state.
    fn enable_tx(&mut self, bus: &mut Bus, queue: u32, value: u32) {
        let request = value & regs::QENA_REQ != 0;
        let at = regs::QTX_ENA + 4 * queue;
        let running = self.registers.get(at) & regs::QENA_STAT != 0;
        if request != running {
            let context = request
                .then(|| self.segments.tx(bus, &self.registers, queue))
                .flatten();
            if let Some(ring) = self.tx.get_mut(queue as usize) {
                ring.enable(context);
            }
            self.registers.set(regs::QTX_TAIL + 4 * queue, 0);
        }
        let state = if request {
            regs::QENA_REQ | regs::QENA_STAT
        } else {
            0
        };
        self.registers.set(at, state);
    }

    fn enable_rx(&mut self, bus: &mut Bus, queue: u32, value: u32) {
        let request = value & regs::QENA_REQ != 0;
        let at = regs::QRX_ENA + 4 * queue;
        let running = self.registers.get(at) & regs::QENA_STAT != 0;
        if request != running {
            let context = request
                .then(|| self.segments.rx(bus, &self.registers, queue))
                .flatten();
            if let Some(ring) = self.rx.get_mut(queue as usize) {
                ring.enable(context);
            }
        }
        let state = if request {
            regs::QENA_REQ | regs::QENA_STAT
        } else {
            0
        };
        self.registers.set(at, state);
    }

    fn transmit(&mut self, bus: &mut Bus, queue: u32) {
        let Self {
            tx,
            registers,
            firmware,
            looped,
            ..
        } = self;
        let Some(ring) = tx.get_mut(queue as usize) else {
            return;
        };
        let (up, loopback) = (firmware.link.up(), firmware.loopback);
        let done = ring.run(bus, queue, |bus, frame| {
            let kind = frame.first_chunk().map_or(filters::UNICAST, filters::kind);
            stats::interface(registers, Way::Transmit, kind, frame.len());
            if loopback {
                looped.push(frame.to_vec());
            } else if up {
                stats::port(registers, Way::Transmit, kind, frame.len());
                bus.transmit(frame);
            } else {
                stats::link_down(registers);
            }
        });
        match done {
            Ok(false) => {}
            Ok(true) => {
                self.sent |= 1 << queue;
                let control = regs::QINT_TQCTL + 4 * queue;
                self.vectors.queue(&self.registers, control);
            }
            Err(()) => self.malicious(queue),
        }
        for mut frame in std::mem::take(&mut self.looped) {
            self.take(bus, &mut frame);
        }
    }

    /// A malformed packet: its queue has stopped, and the driver is told.
    fn malicious(&mut self, queue: u32) {
        stats::tx_error(&mut self.registers);
        self.registers
            .set(regs::GL_MDET_TX, (1 << 31) | (1 << 25) | queue);
        self.registers.set(regs::PF_MDET_TX, 1);
        self.vectors
            .event(&mut self.registers, regs::ICR0_MAL_DETECT);
    }

    /// A frame for the main interface.
    fn take(&mut self, bus: &mut Bus, frame: &mut Vec<u8>) {
        let kind = frame.first_chunk().map_or(filters::UNICAST, filters::kind);
        stats::port(&mut self.registers, Way::Receive, kind, frame.len());
        if frame.len() > self.firmware.longest + 4 {
            stats::oversize(&mut self.registers);
            return;
        }
        if !self.firmware.vsi.filters.accept(frame) {
            return;
        }
        let mut verdict = parse::look(&self.registers, frame);
        match self.firmware.vsi.tags() {
            Tags::Keep => {}
            Tags::Strip => verdict.tag = vlan::strip(frame),
            Tags::Hide => {
                vlan::strip(frame);
            }
        }
        let queue = self.firmware.vsi.steer(verdict.spread);
        let Some((queue, ring)) =
            queue.and_then(|queue| Some((queue, self.rx.get_mut(usize::from(queue))?)))
        else {
            stats::discarded(&mut self.registers);
            return;
        };
        let (queue, length) = (u32::from(queue), frame.len());
        match ring.take(bus, queue, frame, verdict) {
            Fate::Delivered => {
                stats::interface(&mut self.registers, Way::Receive, kind, length);
                self.vectors
                    .queue(&self.registers, regs::QINT_RQCTL + 4 * queue);
            }
            Fate::Waits => {
                stats::interface(&mut self.registers, Way::Receive, kind, length);
            }
            Fate::Dropped => stats::discarded(&mut self.registers),
            Fate::TooLong => stats::oversize(&mut self.registers),
        }
    }

    fn drain(&mut self, bus: &mut Bus, queue: u32) {
        if let Some(ring) = self.rx.get_mut(queue as usize) {
            if ring.drain(bus, queue) {
                self.vectors
                    .queue(&self.registers, regs::QINT_RQCTL + 4 * queue);
            }
        }
    }

    /// Link changes become events, if the driver wants them and has room.
    fn events(&mut self, bus: &mut Bus) {
        let longest = self.firmware.longest;
        let Some(event) = self.firmware.link.event(longest) else {
            return;
        };
        if adminq::event(bus, &mut self.registers, &event) {
            self.vectors.event(&mut self.registers, regs::ICR0_ADMINQ);
        } else {
            bus.complain(format_args!(
                "no descriptor for an event in the admin receive queue"
            ));
        }
    }

    /// Writes to registers that lie in arrays. False: it is none of them.
    fn write_array(&mut self, bus: &mut Bus, offset: u32, value: u32) -> bool {
        if let Some(queue) = index(offset, regs::QTX_TAIL, QUEUES) {
            self.registers.set(offset, value);
            if let Some(ring) = self.tx.get_mut(queue as usize) {
                ring.doorbell(bus, queue, value);
            }
            self.transmit(bus, queue);
        } else if let Some(queue) = index(offset, regs::QRX_TAIL, QUEUES) {
            self.registers.set(offset, value);
            if let Some(ring) = self.rx.get_mut(queue as usize) {
                ring.doorbell(bus, queue, value);
            }
            self.drain(bus, queue);
        } else if let Some(vector) = index(offset, regs::PFINT_DYN_CTLN, VECTORS - 1) {
            self.vectors
                .write_control(&mut self.registers, vector + 1, value);
        } else if let Some(queue) = index(offset, regs::QTX_ENA, QUEUES) {
            self.enable_tx(bus, queue, value);
        } else if let Some(queue) = index(offset, regs::QRX_ENA, QUEUES) {
            self.enable_rx(bus, queue, value);
        } else {
            return false;
        }
        true
    }
}

impl Device for Xl710 {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x8086,
            device: 0x1572,
            subsystem: (0x8086, 0x0001),
            revision: 2,
            bars: vec![
                Bar {
                    index: 0,
                    size: regs::BAR_SIZE as u64,
                    wide: true,
                    prefetchable: true,
                },
                Bar {
                    index: 3,
                    size: MSIX_BAR_SIZE,
                    wide: true,
                    prefetchable: true,
                },
            ],
            vectors: VECTORS as u16,
            msix_bar: 3,
            pending: 0x1000,
        }
    }

    fn queues(&self) -> usize {
        QUEUES as usize
    }

    fn read(&mut self, _bus: &mut Bus, bar: u8, offset: u32) -> u32 {
        if bar != 0 {
            return 0;
        }
        let value = self.registers.get(offset);
        match offset {
            // Read to clear.
            regs::PFINT_ICR0 => self.registers.set(offset, 0),
            regs::GLGEN_RSTAT => return self.reset_state(),
            _ => {}
        }
        value
    }

    fn write(&mut self, bus: &mut Bus, bar: u8, offset: u32, value: u32) {
        if bar != 0 || self.write_array(bus, offset, value) {
            return;
        }
        match offset {
            regs::ATQT => {
                self.registers.set(offset, value);
                adminq::commands(bus, &mut self.registers, &mut self.firmware);
                self.events(bus);
            }
            regs::PFINT_DYN_CTL0 => self.vectors.write_control(&mut self.registers, 0, value),
            regs::PFINT_ICR0_ENA => {
                self.registers.set(offset, value);
                self.vectors.check_events(&mut self.registers);
            }
            regs::GLNVM_SRCTL => {
                // The word is there at once.
                let word = self.firmware.nvm.word((value >> 14) & 0xffff);
                self.registers
                    .set(regs::GLNVM_SRDATA, u32::from(word) << 16);
                self.registers.set(offset, value | (1 << 31));
            }
            regs::PFHMC_SDCMD => {
                let low = self.registers.get(regs::PFHMC_SDDATALOW);
                let high = self.registers.get(regs::PFHMC_SDDATAHIGH);
                self.segments.set(bus, value, low, high);
            }
            regs::PFGEN_CTRL if value & 1 != 0 => self.reset_function(),
            regs::GLGEN_RTRIG => self.trigger_reset(value),
            // Cleared by writing, but there are no filters that count.
            regs::GLQF_PCNT..=regs::GLQF_PCNT_END => {}
            // Write to clear.
            regs::GL_MDET_TX | regs::GL_MDET_RX | regs::PF_MDET_TX | regs::PF_MDET_RX => {
                self.registers.set(offset, 0);
            }
            // What says what there is cannot be changed.
            regs::GLPCI_CNF2
            | regs::PFLAN_QALLOC
            | regs::GLNVM_ULD
            | regs::GLNVM_GENS
            | regs::GLGEN_RSTAT => {}
            _ => self.registers.set(offset, value),
        }
    }

    fn receive(&mut self, bus: &mut Bus, frame: &mut Vec<u8>) -> Intake {
        if self.firmware.link.up() && !self.firmware.loopback {
            self.take(bus, frame);
        }
        Intake::Taken
    }

    fn settle(&mut self, bus: &mut Bus) {
        if !self.vectors.waiting() {
            return;
        }
        let mut told = self.vectors.take(&mut self.registers, Instant::now());
        while told != 0 {
            let vector = told.trailing_zeros();
            told &= told - 1;
            self.flush(bus, vector);
            bus.interrupts.send(vector as usize);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let reset = self.reset.as_ref().map(|reset| reset.at);
        self.vectors.deadline().into_iter().chain(reset).min()
    }

    fn tick(&mut self, bus: &mut Bus, _now: Instant) {
        self.reset_state();
        self.settle(bus);
    }

    fn link(&mut self, bus: &mut Bus, up: bool) {
        self.firmware.link.plug(up);
        self.events(bus);
        self.settle(bus);
    }

    fn reset(&mut self, _bus: &mut Bus) {
        self.reset_device();
    }

    fn resume(&mut self, bus: &mut Bus) {
        for queue in 0..QUEUES {
            self.transmit(bus, queue);
            self.drain(bus, queue);
        }
        self.settle(bus);
    }

    fn show(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "link {}", u32::from(self.firmware.link.up()))?;
        writeln!(out, "resets {}", self.resets)?;
        for (i, ring) in self.tx.iter().enumerate() {
            if let Some(waiting) = ring.show() {
                writeln!(out, "tx{i}_waiting {waiting}")?;
            }
        }
        for (i, ring) in self.rx.iter().enumerate() {
            if let Some((free, waiting)) = ring.show() {
                writeln!(out, "rx{i}_free {free}")?;
                writeln!(out, "rx{i}_waiting {waiting}")?;
            }
        }
        Ok(())
    }
}

impl Xl710 {
    /// Before an interrupt: its transmit queues tell how far they are.
    fn flush(&mut self, bus: &mut Bus, vector: u32) {
        let mut rest = self.sent;
        while rest != 0 {
            let queue = rest.trailing_zeros();
            rest &= rest - 1;
            if self.registers.get(regs::QINT_TQCTL + 4 * queue) & 0xff != vector {
                continue;
            }
            if let Some(ring) = self.tx.get_mut(queue as usize) {
                ring.flush(bus);
            }
            self.sent &= !(1 << queue);
        }
    }
}
