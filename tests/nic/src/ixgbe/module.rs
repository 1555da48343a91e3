// SPDX-License-Identifier: GPL-2.0
//! An SFP+ module in the cage: an I2C slave of which the driver moves the lines bit by bit.

const CLOCK_IN: u32 = 1;
const CLOCK_OUT: u32 = 2;
const DATA_IN: u32 = 4;
const DATA_OUT: u32 = 8;

/// Addresses of the module's two pages, without the read bit.
const PAGES: [u8; 2] = [0xa0, 0xa2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for a start.
    Idle,
    /// Takes a byte: the slave's address first, then the offset, then data.
    Take { count: usize },
    /// Acknowledges one.
    Acknowledge { count: usize },
    /// Gives bytes.
    Give,
    /// Waits whether the master wants another byte.
    Answered,
}

/// The module and the state of its bus.
#[derive(Debug)]
pub(super) struct Module {
    pages: [[u8; 256]; 2],
    lines: u32,
    state: State,
    bits: u8,
    shift: u8,
    page: usize,
    offset: u8,
    reading: bool,
    /// What the slave drives on the data line.
    data: bool,
}

impl Module {
    /// A module for short range optics.
    pub(super) fn new() -> Self {
        let mut page = [0; 256];
        for (at, value) in [
            (0, 3),
            (2, 7),
            (3, 0x10),
            (12, 103),
            (37, 0x00),
            (38, 0x1b),
            (39, 0x21),
        ] {
            page[at] = value;
        }
        let text = b"NETMAP MODEL    ";
        page[20..36].copy_from_slice(text);
        Module {
            pages: [page, [0; 256]],
            lines: CLOCK_OUT | DATA_OUT,
            state: State::Idle,
            bits: 0,
            shift: 0,
            page: 0,
            offset: 0,
            reading: false,
            data: true,
        }
    }

    /// The lines as the register shows them: in is wired-and of both sides.
    pub(super) fn read(&self) -> u32 {
        let mut value = self.lines & (CLOCK_OUT | DATA_OUT);
        if value & CLOCK_OUT != 0 {
            value |= CLOCK_IN;
        }
        if value & DATA_OUT != 0 && self.data {
            value |= DATA_IN;
        }
        value
    }

    /// The driver moves the lines.
    pub(super) fn write(&mut self, value: u32) {
        let (old, new) = (self.lines, value & (CLOCK_OUT | DATA_OUT));
        self.lines = new;
        let rose = new & !old & CLOCK_OUT != 0;
        let fell = old & !new & CLOCK_OUT != 0;
        if old & new & CLOCK_OUT != 0 && (old ^ new) & DATA_OUT != 0 {
            // Data moves while the clock is high: start or stop.
            self.data = true;
            self.bits = 0;
            self.state = if new & DATA_OUT == 0 {
                State::Take { count: 0 }
            } else {
                State::Idle
            };
        } else if rose {
            self.rise(new & DATA_OUT != 0);
        } else if fell {
            self.fall();
        }
    }

    fn rise(&mut self, bit: bool) {
        match self.state {
            State::Take { .. } => {
                self.shift = (self.shift << 1) | u8::from(bit);
                self.bits += 1;
            }
            State::Give => self.bits += 1,
            // The master refuses another byte with a one.
            State::Answered if bit => self.state = State::Idle,
            _ => {}
        }
    }

    fn fall(&mut self) {
        match self.state {
            State::Take { count } if self.bits == 8 => {
                self.bits = 0;
                self.taken(count);
            }
            State::Acknowledge { .. } if self.reading => self.give(),
            State::Acknowledge { count } => {
                self.data = true;
                self.state = State::Take { count };
            }
            State::Give if self.bits == 8 => {
                self.bits = 0;
                self.data = true;
                self.state = State::Answered;
            }
            State::Give => self.data = (self.shift << self.bits) & 0x80 != 0,
            State::Answered => self.give(),
            _ => {}
        }
    }

    fn taken(&mut self, count: usize) {
        match count {
            0 => {
                let Some(page) = PAGES.iter().position(|address| *address == self.shift & !1)
                else {
                    self.state = State::Idle;
                    return;
                };
                self.page = page;
                self.reading = self.shift & 1 != 0;
            }
            1 => self.offset = self.shift,
            _ => {
                self.pages[self.page][usize::from(self.offset)] = self.shift;
                self.offset = self.offset.wrapping_add(1);
            }
        }
        self.data = false;
        self.state = State::Acknowledge { count: count + 1 };
    }

    fn give(&mut self) {
        self.shift = self.pages[self.page][usize::from(self.offset)];
        self.offset = self.offset.wrapping_add(1);
        self.bits = 0;
        self.data = self.shift & 0x80 != 0;
        self.state = State::Give;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(module: &mut Module, clock: bool, data: bool) {
        module.write(if clock { CLOCK_OUT } else { 0 } | if data { DATA_OUT } else { 0 });
    }

    fn start(module: &mut Module) {
        lines(module, false, true);
        lines(module, true, true);
        lines(module, true, false);
        lines(module, false, false);
    }

    fn bit_out(module: &mut Module, bit: bool) {
        lines(module, false, bit);
        lines(module, true, bit);
        lines(module, false, bit);
    }

    fn bit_in(module: &mut Module) -> bool {
        lines(module, false, true);
        lines(module, true, true);
        let bit = module.read() & DATA_IN != 0;
        lines(module, false, true);
        bit
    }

    /// Sends a byte; whether it was acknowledged.
    fn byte_out(module: &mut Module, byte: u8) -> bool {
        for bit in (0..8).rev() {
            bit_out(module, (byte >> bit) & 1 != 0);
        }
        !bit_in(module)
    }

    #[test]
    fn bytes_are_read_one_by_one() {
        let mut module = Module::new();
        for (offset, wanted) in [(0, 3), (3, 0x10), (38, 0x1b)] {
            start(&mut module);
            assert!(byte_out(&mut module, 0xa0));
            assert!(byte_out(&mut module, offset));
            start(&mut module);
            assert!(byte_out(&mut module, 0xa1));
            let byte = (0..8).fold(0, |sum, _| (sum << 1) | u8::from(bit_in(&mut module)));
            assert_eq!(byte, wanted);
            bit_out(&mut module, true);
            lines(&mut module, false, false);
            lines(&mut module, true, false);
            lines(&mut module, true, true);
        }
    }

    #[test]
    fn other_addresses_are_not_acknowledged() {
        let mut module = Module::new();
        start(&mut module);
        assert!(!byte_out(&mut module, 0x50));
    }
}
