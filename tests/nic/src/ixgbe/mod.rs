// SPDX-License-Identifier: GPL-2.0
//! Intel 82599 and X540, as the ixgbe driver knows them: one port, no virtual functions, no DCB, no IPsec.

mod eeprom;
mod filter;
mod interrupt;
mod module;
mod phy;
mod regs;
mod rx;
mod stats;
#[cfg(test)]
mod tests;
mod tx;

use std::fmt;
use std::time::Instant;

use crate::device::{Bar, Bus, Device, Identity, Intake};
use interrupt::Interrupt;
use module::Module;
use phy::Phy;
use rx::RxQueue;
use stats::Stats;
use tx::TxQueue;

/// Which of the cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 82599 with an SFP+ module.
    Sfp,
    /// X540 with a copper port.
    X540,
}

/// The registers as memory.
struct Regs(Vec<u32>);

impl Regs {
    fn get(&self, offset: u32) -> u32 {
        self.0.get(offset as usize / 4).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: u32, value: u32) {
        if let Some(place) = self.0.get_mut(offset as usize / 4) {
            *place = value;
        }
    }
}

/// A card.
pub struct Ixgbe {
    kind: Kind,
    mac: [u8; 6],
    eeprom: Vec<u16>,
    regs: Regs,
    interrupt: Interrupt,
    stats: Stats,
    module: Module,
    phy: Phy,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    /// The cable is plugged.
    cable: bool,
    told_of_mode: bool,
    told_of_pools: bool,
}

impl Ixgbe {
    /// A card after power-on.
    pub fn new(kind: Kind, mac: [u8; 6]) -> Self {
        let mut made = Ixgbe {
            kind,
            mac,
            eeprom: eeprom::content(kind, mac),
            regs: Regs(Vec::new()),
            interrupt: Interrupt::new(),
            stats: Stats::new(),
            module: Module::new(),
            phy: Phy::new(),
            rx: Vec::new(),
            tx: Vec::new(),
            cable: true,
            told_of_mode: false,
            told_of_pools: false,
        };
        made.defaults();
        made
    }

    /// State after a reset.
    fn defaults(&mut self) {
        self.regs = Regs(vec![0; regs::SPAN as usize / 4]);
        self.interrupt = Interrupt::new();
        self.rx = vec![RxQueue::default(); regs::QUEUES];
        self.tx = vec![TxQueue::default(); regs::QUEUES];
        let [a, b, c, d, e, f] = self.mac;
        // 10 Gb/s over a serial line to the module.
        let autoc = if self.kind == Kind::Sfp { 3 << 13 } else { 0 };
        for (offset, value) in [
            (regs::RAL_ALL, u32::from_le_bytes([a, b, c, d])),
            (
                regs::RAL_ALL + 4,
                (1 << 31) | u32::from(u16::from_le_bytes([e, f])),
            ),
            (regs::ESDP, 1 << 2),
            (regs::EEC, (1 << 8) | (1 << 9) | (4 << 11) | (1 << 26)),
            (regs::FWSM, 1 << 15),
            (regs::SECTXSTAT, 3),
            (regs::SECRXSTAT, 3),
            (regs::RDRXCTL, 1 << 3),
            (
                regs::RXPBSIZE,
                if self.kind == Kind::X540 {
                    0x60000
                } else {
                    0x80000
                },
            ),
            (regs::TXPBSIZE, 0x28000),
            (regs::HLREG0, 1 | 2 | (1 << 10)),
            (regs::MAXFRS, 1518 << 16),
            (regs::AUTOC, autoc),
            (
                regs::AUTOC2,
                if self.kind == Kind::Sfp { 2 << 16 } else { 0 },
            ),
            (regs::ANLP1, 0x0001_0000),
            (regs::FDIRCTRL, 1 << 3),
        ] {
            self.regs.set(offset, value);
        }
        for queue in 0..regs::QUEUES {
            self.regs.set(regs::srrctl(queue), 2);
        }
    }

    /// Whether frames that are sent are received here.
    fn looped(&self) -> bool {
        self.regs.get(regs::HLREG0) & regs::HLREG0_LOOPBACK != 0
    }

    /// Whether the link is up.
    fn carrier(&self) -> bool {
        self.cable
    }

    fn run_all(&mut self, bus: &mut Bus) {
        for queue in 0..self.tx.len() {
            self.tx_run(bus, queue);
        }
    }

    fn read_register(&mut self, offset: u32) -> u32 {
        if let Some(value) = self.stats.read(offset) {
            return value;
        }
        if let Some((receive, queue, register)) = regs::queue(offset) {
            let head = if receive {
                self.rx
                    .get(queue)
                    .filter(|ring| ring.enabled)
                    .map(|ring| ring.head)
            } else {
                self.tx
                    .get(queue)
                    .filter(|ring| ring.enabled)
                    .map(|ring| ring.head)
            };
            if let (regs::HEAD, Some(head)) = (register, head) {
                return head;
            }
        }
        match offset {
            regs::STATUS => {
                if self.regs.get(regs::CTRL) & regs::CTRL_GIO_DISABLE == 0 {
                    regs::STATUS_GIO
                } else {
                    0
                }
            }
            regs::I2CCTL if self.kind == Kind::Sfp => self.module.read(),
            regs::MSCA if self.kind == Kind::X540 => self.phy.command(),
            regs::MSRWD if self.kind == Kind::X540 => self.phy.data(),
            regs::LINKS => {
                if self.carrier() {
                    regs::LINKS_UP_10G
                } else {
                    0
                }
            }
            regs::EICR => {
                let causes = self.interrupt.causes();
                let seen = if self.regs.get(regs::GPIE) & regs::GPIE_OCD != 0 {
                    causes & !0xffff
                } else {
                    causes
                };
                self.interrupt.clear(seen);
                causes
            }
            regs::EICS => self.interrupt.causes(),
            regs::EIMS | regs::EIMC => {
                self.interrupt.other_mask | self.interrupt.mask as u32 & 0xffff
            }
            _ if offset == regs::EIMS_EX => self.interrupt.mask as u32,
            _ if offset == regs::EIMS_EX + 4 => (self.interrupt.mask >> 32) as u32,
            regs::RAL..=0x547f => {
                self.regs.get(offset - regs::RAL + regs::RAL_ALL) & regs::readable(offset)
            }
            _ => self.regs.get(offset) & regs::readable(offset),
        }
    }

    fn write_register(&mut self, bus: &mut Bus, offset: u32, value: u32) {
        if let Some((receive, queue, register)) = regs::queue(offset) {
            match (receive, register) {
                (true, regs::CONTROL) => return self.rx_control(bus, queue, value),
                (true, regs::TAIL) => return self.rx_tail(bus, queue, value),
                (true, 0x14) => self.rx_split(queue, value),
                (false, regs::CONTROL) => return self.tx_control(bus, queue, value),
                (false, regs::TAIL) => return self.tx_tail(bus, queue, value),
                (_, regs::BASE_LOW | regs::BASE_HIGH | regs::LENGTH | regs::HEAD) => {
                    self.check_stopped(bus, receive, queue, register);
                }
                _ => {}
            }
            return self.regs.set(offset, value);
        }
        match offset {
            regs::CTRL => {
                if value & regs::CTRL_RESETS != 0 {
                    self.defaults();
                    self.interrupt.raise_link();
                }
                self.regs.set(offset, value & !regs::CTRL_RESETS);
            }
            regs::I2CCTL => self.module.write(value),
            regs::MSCA => self.phy.set_command(value),
            regs::MSRWD => self.phy.set_data(value),
            regs::EERD => {
                let word = self
                    .eeprom
                    .get((value >> 2) as usize & 0x3fff)
                    .copied()
                    .unwrap_or(0xffff);
                self.regs
                    .set(offset, (u32::from(word) << 16) | value & 0xfffc | 2);
            }
            regs::STATUS
            | regs::LINKS
            | regs::SECTXSTAT
            | regs::SECRXSTAT
            | regs::ANLP1
            | regs::EEC => {}
            0x2100..=0x213f => {
                self.regs.set(offset, value);
                self.rx_split((offset - regs::SRRCTL) as usize / 4, value);
            }
            regs::RDRXCTL => self.regs.set(offset, value | (1 << 3)),
            regs::FDIRCTRL => self.regs.set(offset, value | (1 << 3)),
            // Commands to the flow director are done at once.
            regs::FDIRCMD => self.regs.set(offset, value & !3),
            regs::RAL..=0x547f => self.regs.set(offset - regs::RAL + regs::RAL_ALL, value),
            regs::DMATXCTL => {
                self.regs.set(offset, value);
                self.run_all(bus);
            }
            regs::VT_CTL => {
                self.regs.set(offset, value);
                if value & 1 != 0 && !self.told_of_pools {
                    bus.complain(format_args!("VT_CTL {value:#x}: pools are not modelled"));
                    self.told_of_pools = true;
                }
            }
            _ => self.write_interrupt(offset, value),
        }
    }

    /// Registers of the interrupt block, or plain memory.
    fn write_interrupt(&mut self, offset: u32, value: u32) {
        let low = u64::from(value & 0xffff);
        let wide = |offset: u32, base: u32| u64::from(value) << (8 * (offset - base));
        match offset {
            regs::EICR => self.interrupt.clear(value),
            regs::EICS => {
                self.interrupt.set_vectors(low);
                self.interrupt.set_other(value);
            }
            regs::EIMS => self.interrupt.unmask(low, value),
            regs::EIMC => self.interrupt.mask(low, value),
            regs::EIAC => {
                self.interrupt.auto_clear = value;
                self.regs.set(offset, value);
            }
            regs::EIAM => {
                self.interrupt.auto_mask = self.interrupt.auto_mask & !0xffff | low;
                self.interrupt.other_auto_mask = value & 0xffff_0000;
                self.regs.set(offset, value);
            }
            regs::GPIE => {
                self.interrupt.msix = value & regs::GPIE_MSIX != 0;
                self.interrupt.auto_mask_on = value & regs::GPIE_EIAME != 0;
                self.regs.set(offset, value);
            }
            regs::EICS_EX..=0xa97 => self.interrupt.set_vectors(wide(offset, regs::EICS_EX)),
            regs::EIMS_EX..=0xaa7 => self.interrupt.unmask(wide(offset, regs::EIMS_EX), 0),
            regs::EIMC_EX..=0xab7 => self.interrupt.mask(wide(offset, regs::EIMC_EX), 0),
            regs::EIAM_EX..=0xad7 => {
                let shift = 8 * (offset - regs::EIAM_EX);
                let kept = self.interrupt.auto_mask & !(0xffff_ffff << shift);
                self.interrupt.auto_mask = kept | (u64::from(value) << shift);
                self.regs.set(offset, value);
            }
            regs::EITR..=0x87f => {
                self.interrupt
                    .set_moderation((offset - regs::EITR) as usize / 4, value);
                self.regs.set(offset, value);
            }
            regs::EITR_HIGH..=0x1239f => {
                self.interrupt
                    .set_moderation(24 + (offset - regs::EITR_HIGH) as usize / 4, value);
                self.regs.set(offset, value);
            }
            regs::IVAR..=0x9ff => {
                self.interrupt
                    .assign((offset - regs::IVAR) as usize / 4, value);
                self.regs.set(offset, value);
            }
            regs::IVAR_MISC => {
                self.interrupt.assign_other(value);
                self.regs.set(offset, value);
            }
            _ => self.regs.set(offset, value),
        }
    }

    fn check_stopped(&mut self, bus: &mut Bus, receive: bool, queue: usize, register: u32) {
        let running = if receive {
            self.rx.get(queue).is_some_and(|ring| ring.enabled)
        } else {
            self.tx.get(queue).is_some_and(|ring| ring.enabled)
        };
        if running {
            let side = if receive { "rx" } else { "tx" };
            bus.complain(format_args!(
                "{side} {queue}: register {register:#x} of a running queue is written"
            ));
        }
    }
}

impl Device for Ixgbe {
    fn identity(&self) -> Identity {
        let device = match self.kind {
            Kind::Sfp => 0x10fb,
            Kind::X540 => 0x1528,
        };
        Identity {
            vendor: 0x8086,
            device,
            subsystem: (0x8086, 0x0003),
            revision: 1,
            bars: vec![
                Bar {
                    index: 0,
                    size: u64::from(regs::SPAN),
                    wide: true,
                    prefetchable: true,
                },
                Bar {
                    index: 4,
                    size: 0x4000,
                    wide: true,
                    prefetchable: true,
                },
            ],
            vectors: regs::VECTORS as u16,
            msix_bar: 4,
            pending: 0x2000,
        }
    }

    fn queues(&self) -> usize {
        regs::QUEUES
    }

    fn read(&mut self, _: &mut Bus, bar: u8, offset: u32) -> u32 {
        if bar == 0 {
            self.read_register(offset)
        } else {
            0
        }
    }

    fn write(&mut self, bus: &mut Bus, bar: u8, offset: u32, value: u32) {
        if bar == 0 {
            self.write_register(bus, offset, value);
        }
    }

    fn receive(&mut self, bus: &mut Bus, frame: &mut Vec<u8>) -> Intake {
        if !self.carrier() || self.looped() {
            return Intake::Taken;
        }
        self.take(bus, frame)
    }

    fn settle(&mut self, bus: &mut Bus) {
        self.interrupt.settle(bus);
    }

    fn deadline(&self) -> Option<Instant> {
        self.interrupt.deadline
    }

    fn tick(&mut self, bus: &mut Bus, _: Instant) {
        self.interrupt.settle(bus);
    }

    fn link(&mut self, bus: &mut Bus, up: bool) {
        if self.cable != up {
            self.cable = up;
            self.interrupt.raise_link();
            self.run_all(bus);
        }
    }

    fn reset(&mut self, _: &mut Bus) {
        self.defaults();
    }

    fn resume(&mut self, bus: &mut Bus) {
        self.run_all(bus);
    }

    fn show(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "link {}", u8::from(self.carrier()))?;
        writeln!(
            out,
            "rx_queues {}",
            self.rx.iter().filter(|ring| ring.enabled).count()
        )?;
        writeln!(
            out,
            "tx_queues {}",
            self.tx.iter().filter(|ring| ring.enabled).count()
        )
    }
}
