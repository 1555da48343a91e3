// SPDX-License-Identifier: GPL-2.0
//! The PHY of the X540: MDIO registers of clause 45.

use std::collections::HashMap;

/// Start a transaction.
const COMMAND: u32 = 1 << 30;

/// The registers that are not 0.
#[derive(Debug)]
pub(super) struct Phy {
    registers: HashMap<(u8, u16), u16>,
    command: u32,
    data: u32,
}

impl Phy {
    /// After power-on, with a link partner that can do 10 Gb/s.
    pub(super) fn new() -> Self {
        let mut registers = HashMap::new();
        for device in [1, 3, 4, 7, 30] {
            // Identity, devices in the package, and that this one is present.
            registers.insert((device, 2), 0x0154);
            registers.insert((device, 3), 0x0200);
            registers.insert((device, 5), 0x009a);
            registers.insert((device, 6), 0xc000);
            registers.insert((device, 8), 0x8000);
        }
        // Speeds: 10 Gb/s, 1 Gb/s, 100 Mb/s; link.
        registers.insert((1, 4), 0x0031);
        registers.insert((1, 1), 0x0006);
        registers.insert((7, 1), 0x002c);
        Phy {
            registers,
            command: 0,
            data: 0,
        }
    }

    /// The command register: commands are done at once.
    pub(super) fn command(&self) -> u32 {
        self.command
    }

    /// The data register.
    pub(super) fn data(&self) -> u32 {
        self.data
    }

    /// Data for the next write.
    pub(super) fn set_data(&mut self, value: u32) {
        self.data = self.data & 0xffff_0000 | value & 0xffff;
    }

    /// Starts a command.
    pub(super) fn set_command(&mut self, value: u32) {
        self.command = value & !COMMAND;
        if value & COMMAND == 0 {
            return;
        }
        let key = (((value >> 16) & 31) as u8, value as u16);
        match (value >> 26) & 3 {
            1 if (value >> 21) & 31 == 0 => {
                let mut written = self.data as u16;
                // Resets and restarted negotiations are over at once.
                if key.1 == 0 {
                    written &= !0x8200;
                }
                self.registers.insert(key, written);
            }
            2 | 3 => {
                // Only the PHY at address 0 answers.
                let value = if (value >> 21) & 31 == 0 {
                    self.registers.get(&key).copied().unwrap_or(0)
                } else {
                    0xffff
                };
                self.data = self.data & 0xffff | (u32::from(value) << 16);
            }
            _ => {}
        }
    }
}
