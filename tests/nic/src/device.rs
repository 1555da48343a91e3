// SPDX-License-Identifier: GPL-2.0
//! What a model of a NIC is, and what it may do to the world.

use std::fmt;
use std::time::Instant;

use crate::complaints::Complaints;
use crate::faults::Faults;
use crate::interrupts::Interrupts;
use crate::memory::Memory;
use crate::wire::Wire;

/// A base address register of a device.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// 0 to 5. A 64-bit BAR takes the next number, too.
    pub index: u8,
    /// Bytes, a power of two of at least 4096.
    pub size: u64,
    /// Whether it may lie above 4 GiB.
    pub wide: bool,
    /// Whether reads have no side effects.
    pub prefetchable: bool,
}

/// What a device says of itself in its PCI configuration space.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PCI vendor and device.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// Subsystem vendor and device.
    pub subsystem: (u16, u16),
    /// Revision.
    pub revision: u8,
    /// Memory regions.
    pub bars: Vec<Bar>,
    /// MSI-X vectors, 1 to 2048.
    pub vectors: u16,
    /// BAR that holds the MSI-X table at 0 and the pending bits at `pending`.
    pub msix_bar: u8,
    /// Offset of the pending bits in that BAR.
    pub pending: u32,
}

/// Whether a device took a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Delivered, or dropped for a reason of the device's own (filters, link down).
    Taken,
    /// There is no room now. The frame is offered again after the next register write; until then no other
    /// frame comes, so the wire's queue is the packet buffer.
    Full,
}

/// A NIC. All calls come one at a time.
pub trait Device: Send {
    /// What the device is; asked once.
    fn identity(&self) -> Identity;

    /// Queues of each direction that the card has, in use or not.
    fn queues(&self) -> usize;

    /// Reads a register. `offset` is a multiple of 4 within the BAR. Of an access of 8 bytes each half is
    /// a read of its own; a smaller one reads the register that holds it.
    fn read(&mut self, bus: &mut Bus, bar: u8, offset: u32) -> u32;

    /// Writes a register, as above. Writes of less than 4 bytes are complained about and do not come here.
    fn write(&mut self, bus: &mut Bus, bar: u8, offset: u32, value: u32);

    /// A frame from the wire, from the destination address on, without the CRC, 60 bytes at least. It may
    /// be changed if [`Intake::Taken`] is the answer.
    fn receive(&mut self, bus: &mut Bus, frame: &mut Vec<u8>) -> Intake;

    /// Comes after a register write and after a batch of up to 32 frames: the place to tell the driver of
    /// them all with one interrupt.
    fn settle(&mut self, bus: &mut Bus);

    /// When [`Device::tick`] wants to be called next.
    fn deadline(&self) -> Option<Instant>;

    /// Called when the deadline has passed. May be called at any other time, too.
    fn tick(&mut self, bus: &mut Bus, now: Instant);

    /// The cable is plugged or pulled.
    fn link(&mut self, bus: &mut Bus, up: bool);

    /// PCI function-level or bus reset: back to the state of power-on.
    fn reset(&mut self, bus: &mut Bus);

    /// A stalled queue goes on (see [`Faults::stalled`]): do what was left undone.
    fn resume(&mut self, bus: &mut Bus);

    /// Figures for the control command `show`, one `name value` a line.
    fn show(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}

/// Everything outside a device that it may touch.
pub struct Bus {
    /// The guest's memory.
    pub memory: Memory,
    /// The MSI-X vectors.
    pub interrupts: Interrupts,
    /// Faults that are being injected.
    pub faults: Faults,
    /// Whether the driver lets the device reach memory (bus master).
    pub master: bool,
    /// Frames that the device was asked to cut into segments.
    pub segmented: u64,
    pub(crate) wire: Wire,
    pub(crate) complaints: Complaints,
}

impl Bus {
    /// A bus around a wire.
    pub fn new(wire: Wire, complaints: Complaints) -> Self {
        Bus {
            memory: Memory::default(),
            interrupts: Interrupts::default(),
            faults: Faults::default(),
            master: false,
            segmented: 0,
            wire,
            complaints,
        }
    }

    /// Reports something that a correct driver does not do (a malformed descriptor, DMA to where there is
    /// no memory, a reserved bit). A test with such a line in the model's log fails.
    pub fn complain(&mut self, what: fmt::Arguments<'_>) {
        self.complaints.report(what);
    }

    /// Puts a frame on the wire, from the destination address on, without the CRC. Short ones are padded
    /// to 60 bytes.
    pub fn transmit(&mut self, frame: &[u8]) {
        self.faults.transmit(frame, &mut self.wire);
    }

    /// DMA from the guest's memory. False: complained about, the buffer is unspecified.
    #[must_use]
    pub fn dma_read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        let done = self.memory.read(address, buffer);
        if !done {
            self.complain(format_args!(
                "DMA read of {} bytes at {address:#x}, where there is no memory",
                buffer.len()
            ));
        }
        done
    }

    /// DMA to the guest's memory. False: complained about.
    #[must_use]
    pub fn dma_write(&mut self, address: u64, data: &[u8]) -> bool {
        let done = self.memory.write(address, data);
        if !done {
            self.complain(format_args!(
                "DMA write of {} bytes at {address:#x}, where there is no memory",
                data.len()
            ));
        }
        done
    }
}
