// SPDX-License-Identifier: GPL-2.0

//! The card driven by hand: what a right driver gets, and what a wrong one is told.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use rustix::net::{socketpair, AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::command::{Answer, BUFFER, DESCRIPTOR, ERROR};
use super::{config, regs, Xl710};
use crate::complaints::Complaints;
use crate::device::{Bus, Device, Intake};
use crate::wire::Wire;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MEMORY: u64 = 0x20_0000;
const SIZE: u64 = 0x40_0000;
/// Contexts: the transmit queues' at 0, the receive queues' behind them.
const CONTEXTS: u64 = MEMORY;
const ATQ: u64 = MEMORY + 0x20_0000;
const ARQ: u64 = MEMORY + 0x20_1000;
const BUFFERS: u64 = MEMORY + 0x20_2000;
const TX_RING: u64 = MEMORY + 0x21_0000;
const RX_RING: u64 = MEMORY + 0x22_0000;
const DATA: u64 = MEMORY + 0x30_0000;
const COUNT: u32 = 32;

struct Rig {
    nic: Xl710,
    bus: Bus,
    peer: OwnedFd,
    sent: u32,
}

impl Rig {
    /// A card with admin queues and segment 0 of the HMC.
    fn new() -> Rig {
        let (wire, peer) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let mut bus = Bus::new(Wire::new(Some(wire)).unwrap(), Complaints::default());
        let memory = memfd_create("guest", MemfdFlags::empty()).unwrap();
        ftruncate(&memory, SIZE).unwrap();
        assert!(bus.memory.insert(MEMORY, SIZE, File::from(memory), 0));
        bus.master = true;
        let nic = Xl710::new(MAC);
        let mut rig = Rig {
            nic,
            bus,
            peer,
            sent: 0,
        };
        for (length, base, ring) in [
            (regs::ATQLEN, regs::ATQBAL, ATQ),
            (regs::ARQLEN, regs::ARQBAL, ARQ),
        ] {
            rig.write(length, COUNT | regs::AQ_ENABLE);
            rig.write(base, ring as u32);
        }
        rig.write(regs::ARQT, COUNT - 1);
        rig.write(regs::PFHMC_SDDATALOW, CONTEXTS as u32 | 3);
        rig.write(regs::PFHMC_SDCMD, 1 << 31);
        rig.write(regs::GLHMC_LANTXCNT, config::QUEUES);
        rig.write(regs::GLHMC_LANRXCNT, config::QUEUES);
        rig.write(regs::GLHMC_LANRXBASE, 128 * config::QUEUES / 512);
        rig
    }

    fn write(&mut self, offset: u32, value: u32) {
        self.nic.write(&mut self.bus, 0, offset, value);
        self.nic.settle(&mut self.bus);
    }

    fn read(&mut self, offset: u32) -> u32 {
        self.nic.read(&mut self.bus, 0, offset)
    }

    fn store(&mut self, at: u64, bytes: &[u8]) {
        assert!(self.bus.memory.write(at, bytes));
    }

    fn load(&self, at: u64) -> u64 {
        self.bus.memory.load64(at).unwrap()
    }

    fn complaints(&self) -> usize {
        self.bus.complaints.count
    }

    /// Sends a command with a buffer; its descriptor and buffer when it is done.
    fn command(
        &mut self,
        opcode: u16,
        words: [u16; 4],
        data: &[u8],
    ) -> ([u8; DESCRIPTOR], Vec<u8>) {
        let mut descriptor = [0; DESCRIPTOR];
        descriptor[0..2].copy_from_slice(&BUFFER.to_le_bytes());
        descriptor[2..4].copy_from_slice(&opcode.to_le_bytes());
        descriptor[4..6].copy_from_slice(&(data.len() as u16).to_le_bytes());
        for (i, word) in words.into_iter().enumerate() {
            descriptor[16 + 2 * i..18 + 2 * i].copy_from_slice(&word.to_le_bytes());
        }
        descriptor[28..32].copy_from_slice(&(BUFFERS as u32).to_le_bytes());
        let at = ATQ + u64::from(self.sent) * DESCRIPTOR as u64;
        self.store(at, &descriptor);
        self.store(BUFFERS, data);
        self.sent += 1;
        self.write(regs::ATQT, self.sent);
        assert_eq!(self.read(regs::ATQH), self.sent);
        let mut back = vec![0; data.len()];
        assert!(self.bus.memory.read(at, &mut descriptor));
        assert!(self.bus.memory.read(BUFFERS, &mut back));
        (descriptor, back)
    }

    /// Starts transmit queue 0, with head write-back behind the ring.
    fn transmitter(&mut self) {
        let mut context = [0u8; 128];
        context[4..12].copy_from_slice(&(TX_RING / 128).to_le_bytes());
        let flags = (1u64 << 32) | (u64::from(COUNT) << 33);
        context[16..24].copy_from_slice(&flags.to_le_bytes());
        let head = TX_RING + 16 * u64::from(COUNT);
        context[24..32].copy_from_slice(&head.to_le_bytes());
        let set = u32::from(config::QS_HANDLE) << (84 - 64);
        context[7 * 16 + 8..7 * 16 + 12].copy_from_slice(&set.to_le_bytes());
        self.store(CONTEXTS, &context);
        self.write(regs::QTX_ENA, regs::QENA_REQ);
    }

    /// Starts receive queue 0, all buffers of 2 KiB; `header` goes to the descriptors' second words.
    fn receiver(&mut self, header: u64) {
        let fields = (u128::from(RX_RING / 128) << 32)
            | (u128::from(COUNT) << 89)
            | (16 << 102)
            | (1 << 117);
        let mut context = [0u8; 32];
        context[..16].copy_from_slice(&fields.to_le_bytes());
        let longest = 1534u64 << (174 - 168);
        context[21..29].copy_from_slice(&longest.to_le_bytes());
        self.store(CONTEXTS + 128 * u64::from(config::QUEUES), &context);
        for i in 0..u64::from(COUNT) {
            assert!(self.bus.memory.store64(RX_RING + 16 * i, DATA + 2048 * i));
            assert!(self.bus.memory.store64(RX_RING + 16 * i + 8, header));
        }
        self.write(regs::QRX_ENA, regs::QENA_REQ);
        self.write(regs::QRX_TAIL, COUNT - 1);
        // Broadcast, as the driver asks for it.
        let modes = [4, 4, config::SEID_VSI, 0];
        let (done, _) = self.command(0x0254, modes, &[]);
        assert_eq!(done[6], Answer::Ok as u8);
    }

    fn descriptor(&mut self, index: u64, length: u64, command: u64) {
        let word = (command << 4) | (length << 34);
        assert!(self.bus.memory.store64(TX_RING + 16 * index, DATA));
        assert!(self.bus.memory.store64(TX_RING + 16 * index + 8, word));
    }

    fn wire(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 2048];
        let (length, _) = rustix::net::recv(&self.peer, &mut frame[..], RecvFlags::empty()).ok()?;
        frame.truncate(length);
        Some(frame)
    }
}

#[test]
fn commands_are_answered() {
    let mut rig = Rig::new();
    let (_, data) = rig.command(0x0107, [0; 4], &[0; 24]);
    assert_eq!(data[..6], MAC);
    let (done, _) = rig.command(0x7777, [0; 4], &[]);
    assert_eq!(done[6], Answer::Unknown as u8);
    assert_eq!(done[0] & ERROR as u8, ERROR as u8);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn frames_are_sent_and_the_head_is_told() {
    let mut rig = Rig::new();
    rig.transmitter();
    rig.store(DATA, &[0x5a; 100]);
    // Two pieces: EOP, RS and CRC on the last one.
    rig.descriptor(0, 40, 4);
    rig.descriptor(1, 60, 7);
    rig.write(regs::QTX_TAIL, 2);
    assert_eq!(rig.wire(), Some(vec![0x5a; 100]));
    assert_eq!(rig.load(TX_RING + 16 * u64::from(COUNT)), 2);
    // Without RS nothing is told before an interrupt.
    rig.descriptor(2, 60, 5);
    rig.write(regs::QTX_TAIL, 3);
    assert_eq!(rig.load(TX_RING + 16 * u64::from(COUNT)), 2);
    rig.write(regs::QINT_TQCTL, regs::CAUSE_ENA | 1);
    rig.descriptor(3, 60, 5);
    rig.write(regs::PFINT_DYN_CTLN, 1 | (3 << 3));
    rig.write(regs::QTX_TAIL, 4);
    assert_eq!(rig.load(TX_RING + 16 * u64::from(COUNT)), 4);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn malformed_packets_stop_their_queue_and_are_told() {
    let mut rig = Rig::new();
    rig.transmitter();
    rig.descriptor(0, 0, 7);
    rig.write(regs::QTX_TAIL, 1);
    assert_eq!(rig.complaints(), 1);
    assert_eq!(rig.wire(), None);
    assert_ne!(rig.read(regs::GL_MDET_TX) >> 31, 0);
    assert_ne!(rig.read(regs::PFINT_ICR0) & regs::ICR0_MAL_DETECT, 0);
}

#[test]
fn frames_arrive_with_their_length() {
    let mut rig = Rig::new();
    rig.receiver(0);
    let mut frame = vec![0xff; 80];
    assert_eq!(rig.nic.receive(&mut rig.bus, &mut frame), Intake::Taken);
    let done = rig.load(RX_RING + 8);
    // DD, EOF, broadcast; plain Ethernet; 80 bytes.
    assert_eq!(done & 0x7ffff, 3 | (2 << 9));
    assert_eq!((done >> 30) & 0xff, 1);
    assert_eq!((done >> 38) & 0x3fff, 80);
    assert_eq!(rig.load(DATA), u64::MAX);
    // Not for us.
    let mut other = vec![2; 80];
    assert_eq!(rig.nic.receive(&mut rig.bus, &mut other), Intake::Taken);
    assert_eq!(rig.load(RX_RING + 16 + 8), 0);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn header_addresses_are_complained_about() {
    let mut rig = Rig::new();
    rig.receiver(1);
    rig.nic.receive(&mut rig.bus, &mut vec![0xff; 80]);
    assert_eq!(rig.complaints(), 1);
}

#[test]
fn link_changes_are_events() {
    let mut rig = Rig::new();
    let (_, _) = rig.command(0x0607, [3, 0, 0, 0], &[]);
    rig.nic.link(&mut rig.bus, false);
    assert_eq!(rig.read(regs::ARQH), 1);
    assert_eq!((rig.load(ARQ) >> 16) & 0xffff, 0x0607);
    assert_ne!(rig.read(regs::PFINT_ICR0) & regs::ICR0_ADMINQ, 0);
}

#[test]
fn resets_stop_everything() {
    let mut rig = Rig::new();
    rig.transmitter();
    rig.receiver(0);
    rig.write(regs::PFGEN_CTRL, 1);
    assert_eq!(rig.read(regs::PFGEN_CTRL), 0);
    for at in [regs::QTX_ENA, regs::QRX_ENA, regs::ATQLEN, regs::ARQLEN] {
        assert_eq!(rig.read(at), 0);
    }
    rig.nic.receive(&mut rig.bus, &mut vec![0xff; 80]);
    assert_eq!(rig.load(RX_RING + 8), 0);
}
