// SPDX-License-Identifier: GPL-2.0

//! The firmware behind the admin queue: what each command does and answers.

use super::command::{word, Answer, Command};
use super::config::{
    API_VERSION, FW_VERSION, MAX_FRAME, QS_HANDLE, QUEUES, SEID_PF, SEID_PORT, SEID_VSI, VECTORS,
    VSI_NUMBER,
};
use super::filters::{Filter, Refused};
use super::link::Link;
use super::nvm::Nvm;
use super::regs::{self, Registers};
use super::vsi::{Vsi, PROPERTIES};

/// The firmware's state.
#[derive(Debug)]
pub struct Firmware {
    /// The station's address, given by the factory and as it was changed.
    factory: [u8; 6],
    address: [u8; 6],
    /// The port.
    pub link: Link,
    /// The main interface.
    pub vsi: Vsi,
    /// The non-volatile memory.
    pub nvm: Nvm,
    /// Longest frame, without CRC.
    pub longest: usize,
    /// Frames that are sent come back.
    pub loopback: bool,
    /// A command nobody knows: for the log.
    pub unknown: Option<u16>,
}

impl Firmware {
    /// After power-on.
    pub fn new(address: [u8; 6]) -> Self {
        Self {
            factory: address,
            address,
            link: Link::new(),
            vsi: Vsi::new(),
            nvm: Nvm::new(),
            longest: MAX_FRAME as usize,
            loopback: false,
            unknown: None,
        }
    }

    /// After a reset of the function, or of the whole device.
    pub fn reset(&mut self, device: bool) {
        self.vsi = Vsi::new();
        self.loopback = false;
        self.link.reset(device);
        if device {
            self.address = self.factory;
            self.longest = MAX_FRAME as usize;
        }
    }

    /// Does a command; parameters and buffer become the answer's.
    pub fn run(&mut self, command: &mut Command, registers: &mut Registers) -> Answer {
        match command.opcode {
            0x0001 => version(command),
            // Resource ownership: granted, for so many milliseconds.
            0x0008 => {
                command.set(4, &3000u32.to_le_bytes());
                Answer::Ok
            }
            0x000a | 0x000b => capabilities(command),
            0x0107 => self.read_address(command),
            0x0108 => self.write_address(command),
            0x0200 => switch(command),
            0x0206 => {
                let value = registers.get(command.dword(4));
                command.set(12, &value.to_le_bytes());
                Answer::Ok
            }
            0x0207 => {
                registers.set(command.dword(4), command.dword(12));
                Answer::Ok
            }
            0x0211 | 0x0212 => self.properties(command),
            0x0250 => self.add_filters(command),
            0x0251 => self.remove_filters(command),
            0x0254 => self.modes(command),
            0x0407 => {
                for class in 0..8 {
                    let handle = if class == 0 { QS_HANDLE } else { 0xffff };
                    command.put(16 + 2 * class, &handle.to_le_bytes());
                }
                Answer::Ok
            }
            // Bandwidth: one traffic class, no limit.
            0x0408 => {
                command.put(0, &[1]);
                command.put(16, &QS_HANDLE.to_le_bytes());
                Answer::Ok
            }
            0x040a => {
                command.put(0, &[1, 0, 0, 0, 100]);
                Answer::Ok
            }
            0x0600 => self.link.abilities(command),
            0x0601 => self.link.configure(command),
            0x0603 => {
                self.longest = usize::from(command.word(0)).min(MAX_FRAME as usize);
                Answer::Ok
            }
            0x0605 => self.link.restart(command),
            0x0607 => self.link.status(command, self.longest),
            0x0613 => self.link.mask(command),
            0x0618 => {
                self.loopback = command.word(0) != 0;
                Answer::Ok
            }
            0x0701 => self.read_nvm(command),
            // The firmware's LLDP agent does not run.
            0x0a00 => Answer::Permission,
            0x0b02..=0x0b05 => rss(command, registers),
            0xff03 => {
                let at = command.dword(4);
                // Ports 1 to 3 are not there.
                let value = match at.checked_sub(regs::PRTGEN_CNF) {
                    Some(4 | 8 | 12) => 1,
                    _ => registers.get(at),
                };
                command.set(8, &[0; 4]);
                command.set(12, &value.to_le_bytes());
                Answer::Ok
            }
            0xff04 => {
                registers.set(command.dword(4), command.dword(12));
                Answer::Ok
            }
            // Driver version, shutdown, function context, release of a resource, PXE mode, switch
            // configuration, control packet filters, DCB, bandwidth limits, LLDP, tunnel ports.
            0x0002 | 0x0003 | 0x0004 | 0x0009 | 0x0110 | 0x0205 | 0x025a | 0x025b | 0x0301
            | 0x0302 | 0x0303 | 0x0400 | 0x0406 | 0x041b | 0x041c | 0x0a01 | 0x0a05 | 0x0a06
            | 0x0a08 | 0x0a09 | 0x0b00 | 0x0b01 => Answer::Ok,
            unknown => {
                self.unknown = Some(unknown);
                Answer::Unknown
            }
        }
    }

    fn read_address(&self, command: &mut Command) -> Answer {
        // Addresses of the function and of the port are valid.
        command.set(0, &0x0050u16.to_le_bytes());
        command.put(0, &self.address);
        command.put(6, &self.address);
        command.put(12, &self.factory);
        command.put(18, &self.address);
        Answer::Ok
    }

    fn write_address(&mut self, command: &mut Command) -> Answer {
        let [a, b] = command.word(2).to_be_bytes();
        let [c, d, e, f] = command.dword(4).to_be_bytes();
        // The last kind changes the wake-up configuration only.
        if command.word(0) & 0xc000 != 0xc000 {
            self.address = [a, b, c, d, e, f];
        }
        Answer::Ok
    }

    fn properties(&mut self, command: &mut Command) -> Answer {
        if command.word(0) != SEID_VSI {
            return Answer::Missing;
        }
        if command.opcode == 0x0211 {
            let Some(new) = command.data.first_chunk::<PROPERTIES>() else {
                return Answer::Invalid;
            };
            self.vsi.update(&new.clone());
        }
        let now = *self.vsi.properties();
        command.put(0, &now);
        command.set(0, &SEID_VSI.to_le_bytes());
        command.set(2, &VSI_NUMBER.to_le_bytes());
        command.set(4, &1u16.to_le_bytes());
        command.set(6, &383u16.to_le_bytes());
        Answer::Ok
    }

    fn add_filters(&mut self, command: &mut Command) -> Answer {
        let mut answer = if command.word(2) == 0x8000 | SEID_VSI {
            Answer::Ok
        } else {
            return Answer::Missing;
        };
        for element in command.data.chunks_exact_mut(16) {
            let ignore_vlan = word(element, 8) & 0x0004 != 0;
            let Some(filter) = filter(element, ignore_vlan) else {
                continue;
            };
            // Match method: perfect match, or none.
            let (method, result) = match self.vsi.filters.add(filter) {
                Ok(()) => (1, Answer::Ok),
                Err(Refused::Exists) => (1, Answer::Exists),
                Err(_) => (0xff, Answer::Full),
            };
            if result != Answer::Ok {
                answer = result;
            }
            if let Some(byte) = element.get_mut(12) {
                *byte = method;
            }
        }
        self.count_filters(command);
        answer
    }

    fn remove_filters(&mut self, command: &mut Command) -> Answer {
        if command.word(2) != 0x8000 | SEID_VSI {
            return Answer::Missing;
        }
        let mut answer = Answer::Ok;
        for element in command.data.chunks_exact_mut(16) {
            let ignore_vlan = element.get(8).is_some_and(|flags| flags & 0x08 != 0);
            let Some(filter) = filter(element, ignore_vlan) else {
                continue;
            };
            let missing = self.vsi.filters.remove(filter).is_err();
            if missing {
                answer = Answer::Missing;
            }
            if let Some(byte) = element.get_mut(12) {
                *byte = if missing { 0xff } else { 0 };
            }
        }
        self.count_filters(command);
        answer
    }

    fn count_filters(&self, command: &mut Command) {
        let (used, free) = self.vsi.filters.room();
        command.set(0, &(used as u16).to_le_bytes());
        command.set(2, &(free as u16).to_le_bytes());
        command.set(4, &[0; 4]);
    }

    fn modes(&mut self, command: &mut Command) -> Answer {
        if command.word(4) != SEID_VSI {
            return Answer::Missing;
        }
        let tag = command.word(6);
        let vlan = (tag & 0x8000 != 0).then_some(tag & 0xfff);
        let (modes, valid) = (command.word(0), command.word(2));
        self.vsi.filters.set_modes(vlan, modes, valid & 0x0f);
        Answer::Ok
    }

    fn read_nvm(&self, command: &mut Command) -> Answer {
        let (module, length) = (command.parameters[1], usize::from(command.word(2)));
        if module != 0 || length > command.data.len() {
            return Answer::Invalid;
        }
        let offset = command.dword(4);
        for at in 0..length {
            let byte = offset + at as u32;
            let [low, high] = self.nvm.word(byte / 2).to_le_bytes();
            let value = if byte % 2 == 0 { low } else { high };
            command.put(at, &[value]);
        }
        Answer::Ok
    }
}

/// The filter that an element of a command describes.
fn filter(element: &[u8], ignore_vlan: bool) -> Option<Filter> {
    Some(Filter {
        address: *element.first_chunk::<6>()?,
        vlan: (!ignore_vlan).then_some(word(element, 6) & 0xfff),
    })
}

fn version(command: &mut Command) -> Answer {
    let (major, minor, build) = FW_VERSION;
    command.set(0, &1u32.to_le_bytes());
    command.set(4, &build.to_le_bytes());
    for (at, value) in [
        (8, major),
        (10, minor),
        (12, API_VERSION.0),
        (14, API_VERSION.1),
    ] {
        command.set(at, &value.to_le_bytes());
    }
    Answer::Ok
}

/// What the function has: (capability, number, logical, physical identity).
const CAPABILITIES: [(u16, u32, u32, u32); 6] = [
    // Functions that are there, station interfaces.
    (0x05, 1, 0, 0),
    (0x17, 64, 0, 0),
    // RSS: 512 entries of 6 bits.
    (0x40, 512, 6, 0),
    (0x41, QUEUES, 0, 0),
    (0x42, QUEUES, 0, 0),
    (0x43, VECTORS, 0, 0),
];

fn capabilities(command: &mut Command) -> Answer {
    const ELEMENT: usize = 32;
    let needed = CAPABILITIES.len() * ELEMENT;
    let fits = command.data.len() >= needed;
    command.length = needed as u16;
    if !fits {
        return Answer::Memory;
    }
    command.set(4, &(CAPABILITIES.len() as u32).to_le_bytes());
    for (i, (id, number, logical, physical)) in CAPABILITIES.into_iter().enumerate() {
        let at = i * ELEMENT;
        command.put(at, &id.to_le_bytes());
        command.put(at + 2, &[1, 0]);
        command.put(at + 4, &number.to_le_bytes());
        command.put(at + 8, &logical.to_le_bytes());
        command.put(at + 12, &physical.to_le_bytes());
        command.put(at + 16, &[0; 16]);
    }
    Answer::Ok
}

/// The switch: nothing but the main interface, between port and function.
fn switch(command: &mut Command) -> Answer {
    const INTERFACE: u8 = 19;
    command.put(0, &[0; 32]);
    command.put(0, &1u16.to_le_bytes());
    command.put(2, &1u16.to_le_bytes());
    command.put(16, &[INTERFACE, 1]);
    command.put(18, &SEID_VSI.to_le_bytes());
    command.put(20, &SEID_PORT.to_le_bytes());
    command.put(22, &SEID_PF.to_le_bytes());
    // Connection of the normal kind.
    command.put(27, &[1]);
    command.put(30, &VSI_NUMBER.to_le_bytes());
    command.set(0, &0u16.to_le_bytes());
    Answer::Ok
}

/// Key and lookup table of the function, which are registers here.
fn rss(command: &mut Command, registers: &mut Registers) -> Answer {
    let base = if command.opcode & 1 == 0 {
        regs::PFQF_HKEY
    } else {
        regs::PFQF_HLUT
    };
    let set = command.opcode < 0x0b04;
    for (i, bytes) in command.data.chunks_exact_mut(4).enumerate() {
        let at = base + regs::HASH_STRIDE * i as u32;
        if set {
            let value = bytes
                .iter()
                .rev()
                .fold(0, |sum, b| (sum << 8) | u32::from(*b));
            registers.set(at, value);
        } else {
            bytes.copy_from_slice(&registers.get(at).to_le_bytes());
        }
    }
    Answer::Ok
}
