// SPDX-License-Identifier: GPL-2.0
//! The card driven by hand: what a right driver gets, and what a wrong one is told.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use rustix::net::{socketpair, AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::{regs, Ixgbe, Kind};
use crate::complaints::Complaints;
use crate::device::{Bus, Device, Intake};
use crate::faults::Direction;
use crate::net::packet::Packet;
use crate::net::{checksum, rss, vlan};
use crate::wire::Wire;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MEMORY: u64 = 0x10_0000;
const TX_RING: u64 = MEMORY;
const RX_RING: u64 = MEMORY + 0x1000;
const DATA: u64 = MEMORY + 0x1_0000;
const COUNT: u32 = 16;

const PLAIN: u32 = (3 << 20) | (1 << 24) | (1 << 25) | (1 << 27) | (1 << 29);

struct Rig {
    nic: Ixgbe,
    bus: Bus,
    peer: OwnedFd,
    tail: u32,
}

impl Rig {
    fn new() -> Rig {
        let (wire, peer) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::empty(),
            None,
        )
        .unwrap();
        let mut bus = Bus::new(Wire::new(Some(wire)).unwrap(), Complaints::default());
        let memory = memfd_create("guest", MemfdFlags::empty()).unwrap();
        ftruncate(&memory, 0x10_0000).unwrap();
        assert!(bus.memory.insert(MEMORY, 0x10_0000, File::from(memory), 0));
        bus.master = true;
        let mut rig = Rig {
            nic: Ixgbe::new(Kind::Sfp, MAC),
            bus,
            peer,
            tail: 0,
        };
        rig.write(regs::GPIE, regs::GPIE_MSIX);
        rig.write(regs::DMATXCTL, 1);
        rig.write(regs::RXCTRL, 1);
        rig.write(regs::RXCSUM, regs::RXCSUM_PCSD);
        rig.queue(false, 0, TX_RING);
        rig
    }

    fn write(&mut self, offset: u32, value: u32) {
        self.nic.write(&mut self.bus, 0, offset, value);
        self.nic.settle(&mut self.bus);
    }

    fn read(&mut self, offset: u32) -> u32 {
        self.nic.read(&mut self.bus, 0, offset)
    }

    fn queue(&mut self, receive: bool, queue: usize, ring: u64) {
        let base = regs::queue_base(receive, queue);
        self.write(base + regs::BASE_LOW, ring as u32);
        self.write(base + regs::LENGTH, COUNT * 16);
        if receive {
            self.write(regs::srrctl(queue), (1 << 25) | 2);
        }
        let strip = if receive { regs::RXDCTL_VME } else { 0 };
        self.write(base + regs::CONTROL, regs::QUEUE_ENABLE | strip);
    }

    /// A receive queue whose descriptors but one have buffers of 2 KiB.
    fn receiver(&mut self, queue: usize) {
        let ring = RX_RING + 0x1000 * queue as u64;
        self.queue(true, queue, ring);
        for index in 0..u64::from(COUNT) {
            let buffer = DATA + 0x1_0000 * (1 + queue as u64) + index * 2048;
            assert!(self.bus.memory.store64(ring + index * 16, buffer));
        }
        self.write(regs::queue_base(true, queue) + regs::TAIL, COUNT - 1);
    }

    fn descriptor(&mut self, words: [u32; 4]) {
        let at = TX_RING + u64::from(self.tail) * 16;
        for (index, word) in words.into_iter().enumerate() {
            assert!(self.bus.memory.store32(at + 4 * index as u64, word));
        }
        self.tail = (self.tail + 1) % COUNT;
    }

    fn ring(&mut self) {
        self.write(regs::queue_base(false, 0) + regs::TAIL, self.tail);
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 65536];
        while let Ok((length, _)) =
            rustix::net::recv(&self.peer, &mut buffer[..], RecvFlags::DONTWAIT)
        {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }

    fn offer(&mut self, frame: &[u8]) -> Intake {
        let taken = self.nic.receive(&mut self.bus, &mut frame.to_vec());
        self.nic.settle(&mut self.bus);
        taken
    }

    /// Write-back of a receive descriptor.
    fn done(&self, queue: usize, index: u64) -> (u64, u64) {
        let at = RX_RING + 0x1000 * queue as u64 + index * 16;
        (
            self.bus.memory.load64(at).unwrap(),
            self.bus.memory.load64(at + 8).unwrap(),
        )
    }

    fn complaints(&self) -> usize {
        self.bus.complaints.count
    }
}

/// A TCP segment to the card (or from it) with right checksums.
fn tcp(to: [u8; 6], port: u16, payload: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend_from_slice(&[
        2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&[0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    frame.extend((0..payload).map(|n| n as u8));
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    assert!(checksum::fill_ipv4(&mut frame, 14, 20));
    let (seed, end) = (
        checksum::pseudo(&frame[14..], 6, usize::from(length) - 20),
        frame.len(),
    );
    assert!(checksum::fill_transport(
        &mut frame, 34, 50, end, seed, false
    ));
    frame
}

/// A context for a frame as above: header lengths, IPv4, TCP.
fn context(tag: u16, mss: u16) -> [u32; 4] {
    [
        (u32::from(tag) << 16) | (14 << 9) | 20,
        0,
        (2 << 20) | (1 << 29) | (1 << 10) | (1 << 11),
        (u32::from(mss) << 16) | (20 << 8),
    ]
}

#[test]
fn a_frame_in_two_pieces_goes_out_and_is_reported_once() {
    let mut rig = Rig::new();
    let frame = tcp([9; 6], 1, 100);
    assert!(rig.bus.memory.write(DATA, &frame));
    let payload = (frame.len() as u32) << 14;
    rig.descriptor([
        DATA as u32,
        0,
        PLAIN & !((1 << 24) | (1 << 27)) | 60,
        payload,
    ]);
    rig.descriptor([
        DATA as u32 + 60,
        0,
        PLAIN | (frame.len() as u32 - 60),
        payload,
    ]);
    rig.ring();
    assert_eq!(rig.sent(), [frame]);
    assert_eq!(rig.bus.memory.load32(TX_RING + 12), Some(payload));
    assert_eq!(rig.bus.memory.load64(TX_RING + 16), Some(0));
    assert_eq!(rig.bus.memory.load64(TX_RING + 24), Some(1 << 32));
    assert_eq!(rig.read(regs::queue_base(false, 0) + regs::HEAD), 2);
    assert_eq!(rig.read(0x4080), 1);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn frames_of_a_card_that_loops_come_back() {
    let mut rig = Rig::new();
    rig.receiver(0);
    let normal = rig.read(regs::HLREG0);
    rig.write(regs::FCTRL, regs::FCTRL_BROADCAST);
    rig.write(regs::HLREG0, normal | regs::HLREG0_LOOPBACK);
    // It needs no link.
    rig.nic.link(&mut rig.bus, false);
    let frame = tcp([0xff; 6], 1, 100);
    assert!(rig.bus.memory.write(DATA, &frame));
    let length = frame.len() as u32;
    rig.descriptor([DATA as u32, 0, PLAIN | length, length << 14]);
    rig.ring();
    assert!(rig.sent().is_empty());
    let (_, second) = rig.done(0, 0);
    assert_eq!((second & 3, second >> 32), (3, u64::from(length)));
    let mut got = vec![0; frame.len()];
    assert!(rig.bus.memory.read(DATA + 0x1_0000, &mut got));
    assert_eq!(got, frame);
    // The wire is cut off, and is there again afterwards.
    rig.nic.link(&mut rig.bus, true);
    assert_eq!(rig.offer(&frame), Intake::Taken);
    assert_eq!(rig.done(0, 1).1 & 3, 0);
    rig.write(regs::HLREG0, normal);
    assert_eq!(rig.offer(&frame), Intake::Taken);
    assert_eq!(rig.done(0, 1).1 & 3, 3);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn bits_that_are_not_there_read_as_zero() {
    let mut rig = Rig::new();
    for (offset, bits) in [
        (regs::queue_base(true, 3) + regs::BASE_LOW, 0xffff_ff80),
        (regs::queue_base(true, 3) + regs::LENGTH, 0x000f_ff80),
        (regs::queue_base(false, 3) + regs::BASE_LOW, 0xffff_ff80),
        (regs::queue_base(false, 3) + regs::LENGTH, 0x000f_ff80),
        (regs::RAL + 12, 0x8000_ffff),
        (regs::RAL_ALL + 12, 0x8000_ffff),
        (regs::RAL + 8, u32::MAX),
        (regs::MTA, u32::MAX),
    ] {
        rig.write(offset, u32::MAX);
        assert_eq!(rig.read(offset), bits, "{offset:#x}");
    }
    // But a ring of that length is a mistake.
    assert_eq!(rig.complaints(), 0);
    rig.write(
        regs::queue_base(true, 3) + regs::CONTROL,
        regs::QUEUE_ENABLE,
    );
    assert_eq!(rig.complaints(), 1);
}

#[test]
fn checksums_are_filled_in_from_the_pseudo_header() {
    let mut rig = Rig::new();
    let right = tcp([9; 6], 1, 333);
    let mut frame = right.clone();
    frame[24..26].fill(0);
    let seed = checksum::fold(checksum::pseudo(&frame[14..], 6, frame.len() - 34).unwrap());
    frame[50..52].copy_from_slice(&seed.to_be_bytes());
    assert!(rig.bus.memory.write(DATA, &frame));
    rig.descriptor(context(0, 0));
    rig.descriptor([
        DATA as u32,
        0,
        PLAIN | frame.len() as u32,
        ((frame.len() as u32) << 14) | (1 << 8) | (1 << 9),
    ]);
    rig.ring();
    assert_eq!(rig.sent(), [right]);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn a_long_segment_is_cut_up_and_tagged() {
    let mut rig = Rig::new();
    let frame = tcp([9; 6], 1, 3500);
    assert!(rig.bus.memory.write(DATA, &frame));
    rig.descriptor(context(7, 1000));
    rig.descriptor([
        DATA as u32,
        0,
        PLAIN | (1 << 30) | (1 << 31) | frame.len() as u32,
        (3500 << 14) | (1 << 8) | (1 << 9),
    ]);
    rig.ring();
    let sent = rig.sent();
    assert_eq!(sent.len(), 4);
    let mut payload = Vec::new();
    for mut piece in sent {
        assert_eq!(vlan::strip(&mut piece), Some(7));
        let packet = Packet::parse(&piece);
        assert_eq!(packet.transport_sum(&piece), Some(true));
        payload.extend_from_slice(&piece[54..packet.end]);
    }
    assert_eq!(payload, frame[54..]);
    assert_eq!(rig.complaints(), 0);
}

#[test]
fn malformed_descriptors_are_complained_about_and_send_nothing() {
    let data = DATA as u32;
    let size = 100 << 14;
    let cases: &[(&str, &[[u32; 4]])] = &[
        ("legacy", &[[data, 0, (1 << 24) | (1 << 25) | 100, 0]]),
        (
            "unknown kind",
            &[[data, 0, PLAIN & !(15 << 20) | (5 << 20) | 100, size]],
        ),
        ("no CRC", &[[data, 0, PLAIN & !(1 << 25) | 100, size]]),
        ("wrong PAYLEN", &[[data, 0, PLAIN | 100, 99 << 14]]),
        ("no length", &[[data, 0, PLAIN, 0]]),
        ("too short", &[[data, 0, PLAIN | 16, 16 << 14]]),
        ("too long", &[[data, 0, PLAIN | 1519, 1519 << 14]]),
        ("no context", &[[data, 0, PLAIN | 100, size | (1 << 9)]]),
        ("context index", &[[0, 0, (2 << 20) | (1 << 29), 5 << 4]]),
        (
            "header lengths",
            &[
                [(60 << 9) | 200, 0, (2 << 20) | (1 << 29) | (1 << 11), 0],
                [data, 0, PLAIN | 100, size | (1 << 9)],
            ],
        ),
        (
            "MSS of 0",
            &[
                context(0, 0),
                [data, 0, PLAIN | (1 << 31) | 154, size | (3 << 8)],
            ],
        ),
        (
            "PAYLEN of TSO",
            &[
                context(0, 1000),
                [data, 0, PLAIN | (1 << 31) | 154, (154 << 14) | (3 << 8)],
            ],
        ),
        (
            "TSO without sum",
            &[context(0, 1000), [data, 0, PLAIN | (1 << 31) | 154, size]],
        ),
        (
            "segments too long",
            &[
                context(0, 1461),
                [data, 0, PLAIN | (1 << 31) | 154, size | (3 << 8)],
            ],
        ),
        (
            "context in a frame",
            &[[data, 0, PLAIN & !(9 << 24) | 50, size], context(0, 0)],
        ),
        (
            "report within a frame",
            &[[data, 0, PLAIN & !(1 << 24) | 50, size]],
        ),
        ("IPsec", &[[data, 0, PLAIN | 100, size | (1 << 10)]]),
        ("no memory", &[[0x10, 0, PLAIN & !(9 << 24) | 50, size]]),
    ];
    for (name, descriptors) in cases {
        let mut rig = Rig::new();
        assert!(rig.bus.memory.write(DATA, &tcp([9; 6], 1, 1500)));
        for descriptor in *descriptors {
            rig.descriptor(*descriptor);
        }
        rig.ring();
        assert!(rig.complaints() > 0, "{name}: no complaint");
        assert!(rig.sent().is_empty(), "{name}: it was sent");
    }
}

#[test]
fn wrong_use_of_queue_registers_is_complained_about() {
    let tx = regs::queue_base(false, 0);
    let rx = regs::queue_base(true, 0);
    let cases: &[(&str, u32, u32)] = &[
        ("tail beyond the ring", tx + regs::TAIL, COUNT),
        ("tail of a disabled queue", tx + 0x40 + regs::TAIL, 1),
        ("buffers before the queue runs", rx + 0x40 + regs::TAIL, 1),
        ("base of a running queue", tx + regs::BASE_LOW, 0),
        ("head of a running queue", rx + regs::HEAD, 0),
        ("tail beyond the receive ring", rx + regs::TAIL, COUNT),
        ("tail before what was given", rx + regs::TAIL, 3),
        (
            "enabled without a ring",
            tx + 0x40 + regs::CONTROL,
            regs::QUEUE_ENABLE,
        ),
        ("pools", regs::VT_CTL, 1),
    ];
    for (name, register, value) in cases {
        let mut rig = Rig::new();
        rig.receiver(0);
        assert_eq!(rig.complaints(), 0);
        rig.write(*register, *value);
        assert_eq!(rig.complaints(), 1, "{name}");
    }
}

#[test]
fn polling_that_ends_after_its_queue_is_no_fault() {
    let mut rig = Rig::new();
    rig.receiver(0);
    let base = regs::queue_base(true, 0);
    rig.write(base + regs::CONTROL, 0);
    rig.write(base + regs::TAIL, 5);
    assert_eq!(rig.complaints(), 0);
    rig.write(regs::CTRL, regs::CTRL_RESETS);
    rig.write(base + regs::TAIL, 5);
    assert_eq!(rig.complaints(), 1);
}

#[test]
fn without_a_link_frames_wait() {
    let mut rig = Rig::new();
    assert!(rig.bus.memory.write(DATA, &tcp([9; 6], 1, 46)));
    rig.nic.link(&mut rig.bus, false);
    assert_eq!(rig.read(regs::LINKS), 0);
    assert_eq!(rig.read(regs::EICR), regs::CAUSE_LINK);
    rig.descriptor([DATA as u32, 0, PLAIN | 100, 100 << 14]);
    rig.ring();
    assert!(rig.sent().is_empty());
    assert_eq!(rig.offer(&tcp(MAC, 1, 100)), Intake::Taken);
    rig.nic.link(&mut rig.bus, true);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn a_stalled_queue_sends_nothing_until_it_goes_on() {
    let mut rig = Rig::new();
    assert!(rig.bus.memory.write(DATA, &tcp([9; 6], 1, 46)));
    rig.bus.faults.stall(Direction::Transmit, 0);
    rig.descriptor([DATA as u32, 0, PLAIN | 100, 100 << 14]);
    rig.ring();
    assert!(rig.sent().is_empty());
    rig.bus.faults.clear();
    rig.nic.resume(&mut rig.bus);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn received_frames_are_described() {
    let mut rig = Rig::new();
    rig.receiver(0);
    let frame = tcp(MAC, 1, 200);
    assert_eq!(rig.offer(&frame), Intake::Taken);
    let (first, second) = rig.done(0, 0);
    assert_eq!(first, 0x110);
    assert_eq!(second, ((frame.len() as u64) << 32) | 0x63);
    let mut got = vec![0; frame.len()];
    assert!(rig.bus.memory.read(DATA + 0x1_0000, &mut got));
    assert_eq!(got, frame);

    let mut damaged = frame.clone();
    damaged[100] ^= 1;
    assert_eq!(rig.offer(&damaged), Intake::Taken);
    assert_eq!(rig.done(0, 1).1 & 0xffff_ffff, 0x4000_0063);

    let mut tagged = frame.clone();
    vlan::insert(&mut tagged, 0x2005);
    assert_eq!(rig.offer(&tagged), Intake::Taken);
    assert_eq!(
        rig.done(0, 2).1,
        (0x2005 << 48) | ((frame.len() as u64) << 32) | 0x6b
    );
}

#[test]
fn long_frames_take_several_descriptors() {
    let mut rig = Rig::new();
    rig.receiver(0);
    let frame = tcp(MAC, 1, 5000);
    assert_eq!(rig.offer(&frame), Intake::Taken);
    assert_eq!(rig.done(0, 0).1, 0, "longer than frames may be: dropped");
    rig.write(regs::HLREG0, regs::HLREG0_JUMBO | regs::HLREG0_STRIP);
    rig.write(regs::MAXFRS, 9018 << 16);
    assert_eq!(rig.offer(&frame), Intake::Taken);
    assert_eq!(rig.done(0, 0).1, (2048 << 32) | 1);
    assert_eq!(rig.done(0, 1).1, (2048 << 32) | 1);
    assert_eq!(rig.done(0, 2).1, ((frame.len() as u64 - 4096) << 32) | 0x63);
}

#[test]
fn the_hash_chooses_the_queue() {
    let mut rig = Rig::new();
    rig.receiver(0);
    rig.receiver(1);
    let key: Vec<u8> = (1..=40).collect();
    for (index, word) in key.chunks(4).enumerate() {
        rig.write(
            regs::RSSRK + 4 * index as u32,
            u32::from_le_bytes(word.try_into().unwrap()),
        );
    }
    for index in 0..32 {
        rig.write(regs::RETA + 4 * index, 0x0100_0100);
    }
    rig.write(regs::MRQC, 1 | (1 << 16));
    let mut next = [0, 0];
    for port in 1..11 {
        let frame = tcp(MAC, port, 10);
        let hash = rss::toeplitz(&key, &frame[26..38]);
        let queue = (hash & 1) as usize;
        assert_eq!(rig.offer(&frame), Intake::Taken);
        let (first, second) = rig.done(queue, next[queue]);
        assert_eq!(first, (u64::from(hash) << 32) | 0x111);
        assert_eq!(second & 1, 1);
        next[queue] += 1;
    }
    assert!(next[0] > 0 && next[1] > 0);
}

#[test]
fn a_full_ring_holds_the_port_or_drops() {
    let mut rig = Rig::new();
    rig.receiver(0);
    let frame = tcp(MAC, 1, 10);
    for _ in 0..COUNT - 1 {
        assert_eq!(rig.offer(&frame), Intake::Taken);
    }
    assert_eq!(rig.offer(&frame), Intake::Full);
    rig.write(regs::srrctl(0), (1 << 25) | 2 | regs::SRRCTL_DROP);
    assert_eq!(rig.offer(&frame), Intake::Taken);
    assert_eq!(rig.read(0x1430), 1);
    assert_eq!(rig.read(regs::queue_base(true, 0) + regs::HEAD), COUNT - 1);
}

#[test]
fn a_descriptor_without_buffer_is_complained_about() {
    let mut rig = Rig::new();
    rig.receiver(0);
    assert!(rig.bus.memory.store64(RX_RING, 0));
    assert_eq!(rig.offer(&tcp(MAC, 1, 10)), Intake::Taken);
    assert_eq!(rig.complaints(), 1);
}

#[test]
fn filters_of_addresses_and_tags() {
    let mut rig = Rig::new();
    let group = [1, 0, 0x5e, 1, 2, 3];
    let accepts = |rig: &Rig, frame: &[u8]| rig.nic.accepts(frame, &Packet::parse(frame));
    let plain = |to: [u8; 6]| tcp(to, 1, 10);
    assert!(accepts(&rig, &plain(MAC)));
    assert!(!accepts(&rig, &plain([2; 6])));
    assert!(!accepts(&rig, &plain(group)));
    assert!(!accepts(&rig, &plain([0xff; 6])));
    rig.write(regs::FCTRL, regs::FCTRL_BROADCAST);
    assert!(accepts(&rig, &plain([0xff; 6])));
    rig.write(regs::FCTRL, regs::FCTRL_MULTICAST);
    assert!(accepts(&rig, &plain(group)));
    rig.write(regs::FCTRL, regs::FCTRL_UNICAST);
    assert!(accepts(&rig, &plain([2; 6])));
    assert!(!accepts(&rig, &plain(group)));
    // Bits 47:36 of the address choose the bit of the table.
    rig.write(regs::MCSTCTRL, regs::MCSTCTRL_ENABLE);
    let bit = u32::from(u16::from_le_bytes([2, 3])) >> 4;
    rig.write(regs::MTA + (bit >> 5) * 4, 1 << (bit & 31));
    assert!(accepts(&rig, &plain(group)));
    let mut tagged = plain(MAC);
    vlan::insert(&mut tagged, 37);
    assert!(accepts(&rig, &tagged));
    rig.write(regs::VLNCTRL, regs::VLNCTRL_FILTER);
    assert!(!accepts(&rig, &tagged));
    rig.write(regs::VFTA + 4, 1 << 5);
    assert!(accepts(&rig, &tagged));
}

#[test]
fn a_reset_forgets_everything_but_the_address() {
    let mut rig = Rig::new();
    rig.write(regs::RAL, 0);
    rig.write(regs::CTRL, 1 << 26);
    assert_eq!(rig.read(regs::CTRL), 0);
    assert_eq!(rig.read(regs::RAL), u32::from_le_bytes([2, 0, 0, 0]));
    assert_eq!(rig.read(regs::queue_base(false, 0) + regs::CONTROL), 0);
    assert_eq!(rig.read(regs::DMATXCTL), 0);
}
