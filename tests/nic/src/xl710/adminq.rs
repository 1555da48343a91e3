// SPDX-License-Identifier: GPL-2.0

//! The admin queues: commands that the driver sends (ATQ), and events that the firmware sends (ARQ).

use super::command::{Answer, Command, BUFFER, DESCRIPTOR};
use super::firmware::Firmware;
use super::regs::{self, Registers};
use crate::device::Bus;

/// Bytes of the largest buffer.
const LARGEST: usize = 4096;

/// A queue's registers: base, length, head and tail.
struct Ring {
    base: u64,
    count: u32,
    head: u32,
    tail: u32,
}

fn ring(
    registers: &Registers,
    low: u32,
    high: u32,
    length: u32,
    head: u32,
    tail: u32,
) -> Option<Ring> {
    let count = registers.get(length);
    let base = (u64::from(registers.get(high)) << 32) | u64::from(registers.get(low));
    let made = Ring {
        base,
        count: count & 0x3ff,
        head: registers.get(head) & 0x3ff,
        tail: registers.get(tail) & 0x3ff,
    };
    (count & regs::AQ_ENABLE != 0 && base != 0 && made.count != 0).then_some(made)
}

impl Ring {
    fn next(&self, index: u32) -> u32 {
        (index + 1) % self.count
    }

    fn address(&self, index: u32) -> u64 {
        self.base + u64::from(index) * DESCRIPTOR as u64
    }
}

/// Does the commands that are waiting.
pub fn commands(bus: &mut Bus, registers: &mut Registers, firmware: &mut Firmware) {
    let Some(mut ring) = ring(
        registers,
        regs::ATQBAL,
        regs::ATQBAH,
        regs::ATQLEN,
        regs::ATQH,
        regs::ATQT,
    ) else {
        return;
    };
    if ring.tail >= ring.count {
        bus.complain(format_args!(
            "tail {} of the command queue is beyond its end",
            ring.tail
        ));
        return;
    }
    while ring.head != ring.tail {
        if !one(bus, registers, firmware, ring.address(ring.head)) {
            return;
        }
        ring.head = ring.next(ring.head);
        registers.set(regs::ATQH, ring.head);
    }
}

fn one(bus: &mut Bus, registers: &mut Registers, firmware: &mut Firmware, at: u64) -> bool {
    let mut bytes = [0; DESCRIPTOR];
    if !bus.dma_read(at, &mut bytes) {
        return false;
    }
    let mut command = Command::decode(&bytes);
    let buffer = (command.flags & BUFFER != 0).then(|| command.address());
    if let Some(address) = buffer {
        let length = usize::from(command.length);
        if length > LARGEST {
            bus.complain(format_args!(
                "command {:#06x}: buffer of {length} bytes",
                command.opcode
            ));
            return false;
        }
        command.data = vec![0; length];
        if !bus.dma_read(address, &mut command.data) {
            return false;
        }
    }
    let answer = firmware.run(&mut command, registers);
    if let Some(address) = buffer {
        // The descriptor keeps the buffer's address.
        if !bus.dma_write(address, &command.data) {
            return false;
        }
    }
    if let Some(unknown) = firmware.unknown.take() {
        eprintln!("xl710: command {unknown:#06x} is not known");
    }
    bus.dma_write(at, &command.encode(answer))
}

/// Sends an event. False: the driver gave no descriptor for it.
#[must_use]
pub fn event(bus: &mut Bus, registers: &mut Registers, event: &Command) -> bool {
    let Some(ring) = ring(
        registers,
        regs::ARQBAL,
        regs::ARQBAH,
        regs::ARQLEN,
        regs::ARQH,
        regs::ARQT,
    ) else {
        return false;
    };
    if ring.head == ring.tail {
        return false;
    }
    if !bus.dma_write(ring.address(ring.head), &event.encode(Answer::Ok)) {
        return false;
    }
    registers.set(regs::ARQH, ring.next(ring.head));
    true
}

/// Stops both queues.
pub fn reset(registers: &mut Registers) {
    for at in (regs::ATQBAL..=regs::ARQT).step_by(0x80) {
        registers.set(at, 0);
    }
}
