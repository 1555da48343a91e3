// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Rings in a memory file instead of a port, with the test as the kernel.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{ftruncate, memfd_create, MemfdFlags};

use super::{ExtraList, Map, MemoryTag, RingMem, RxRing, TxRing};
use crate::abi::*;
use crate::stack::Ptr;

const LEN: usize = 64 * 1024;
const RING: usize = 1024;
const BUFS: usize = 8192;
const BUF_SIZE: u32 = 2048;
const SLOTS: u32 = 4;
const BUFFERS: u32 = ((LEN - BUFS) / BUF_SIZE as usize) as u32;

struct Memory {
    _fd: OwnedFd,
    map: Arc<Map>,
}

impl Memory {
    /// A ring of four slots with the buffers 2 to 5, head 0 and tail as given.
    fn new(tail: u32) -> Memory {
        let fd = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, LEN as u64).unwrap();
        let map = Arc::new(Map::new(fd.as_fd(), LEN).unwrap());
        let m = Memory { _fd: fd, map };
        m.map
            .write(RING + offset_of!(NetmapRing, buf_ofs), (BUFS - RING) as i64)
            .unwrap();
        m.field(offset_of!(NetmapRing, num_slots), SLOTS);
        m.field(offset_of!(NetmapRing, nr_buf_size), BUF_SIZE);
        m.field(offset_of!(NetmapRing, tail), tail);
        m.map
            .write(RING + offset_of!(NetmapRing, offset_mask), 0xffu64)
            .unwrap();
        for i in 0..SLOTS {
            m.set(
                i,
                NetmapSlot {
                    buf_idx: i + 2,
                    ..NetmapSlot::default()
                },
            );
        }
        m
    }

    fn field(&self, offset: usize, value: u32) {
        self.map.write(RING + offset, value).unwrap();
    }

    fn mem(&self) -> RingMem {
        RingMem::new(&self.map, RING).unwrap()
    }

    fn set(&self, i: u32, slot: NetmapSlot) {
        self.mem().set_slot(i, slot);
    }

    fn slot(&self, i: u32) -> NetmapSlot {
        self.mem().slot(i)
    }
}

#[test]
fn geometry_that_leaves_the_mapping_is_refused() {
    for (offset, value) in [
        (offset_of!(NetmapRing, num_slots), 0),
        (offset_of!(NetmapRing, num_slots), 5000),
        (offset_of!(NetmapRing, num_slots), u32::MAX),
        (offset_of!(NetmapRing, nr_buf_size), 0),
        (offset_of!(NetmapRing, buf_ofs), LEN as u32),
        (offset_of!(NetmapRing, buf_ofs) + 4, u32::MAX),
    ] {
        let m = Memory::new(0);
        m.field(offset, value);
        assert!(RingMem::new(&m.map, RING).is_err(), "{offset} {value}");
    }
    let m = Memory::new(0);
    assert!(RingMem::new(&m.map, LEN - 100).is_err());
    assert!(RingMem::new(&m.map, RING + 4).is_err());
    assert!(m.map.read::<u64>(usize::MAX).is_err());
}

#[test]
fn received_slots_come_in_order_and_once() {
    let m = Memory::new(3);
    let tag = MemoryTag::new();
    for i in 0..SLOTS {
        let ptr = Ptr(1).with(10 + i as i32, 2).0;
        m.set(
            i,
            NetmapSlot {
                buf_idx: i + 2,
                len: 5,
                flags: 0,
                ptr,
            },
        );
        m.map
            .write(
                BUFS + (i as usize + 2) * 2048,
                u64::from_ne_bytes([b'a' + i as u8; 8]),
            )
            .unwrap();
    }
    let mut rx = RxRing::new(m.mem(), tag);
    assert_eq!(rx.waiting(), 3);
    let first: Vec<_> = rx.received().take(2).collect();
    assert_eq!((first[0].fd(), first[0].payload()), (10, &b"aaa"[..]));
    assert_eq!((first[1].fd(), first[1].packet()), (11, &b"bbbbb"[..]));
    assert_eq!(rx.received().map(|s| s.fd()).collect::<Vec<_>>(), [12]);
    assert_eq!(rx.received().count(), 0);
    // The kernel hears of it at the next sync only, and gives the next slot.
    assert_eq!(m.mem().head(), Some(0));
    rx.publish();
    assert_eq!(m.mem().head(), Some(3));
    m.field(offset_of!(NetmapRing, tail), 1);
    rx.refresh();
    assert_eq!(rx.received().map(|s| s.fd()).collect::<Vec<_>>(), [13, 10]);
}

#[test]
fn lengths_cursors_and_buffers_that_do_not_fit_give_nothing() {
    let m = Memory::new(3);
    let slot = |buf_idx, len, ptr| NetmapSlot {
        buf_idx,
        len,
        flags: 0,
        ptr,
    };
    m.set(0, slot(2, 2048, 1));
    m.set(1, slot(BUFFERS, 10, 0));
    m.set(2, slot(3, 10, Ptr(0).with(3, 11).0));
    let mut rx = RxRing::new(m.mem(), MemoryTag::new());
    let mut slots: Vec<_> = rx.received().collect();
    for slot in &mut slots {
        assert!(slot.payload().is_empty());
    }
    assert!(slots[0].packet().is_empty() && slots[1].packet_mut().is_empty());
    assert_eq!(slots[2].packet().len(), 10);
    drop(slots);
    m.field(offset_of!(NetmapRing, tail), 99);
    rx.refresh();
    assert_eq!(rx.waiting(), 0);
}

#[test]
fn a_tx_slot_is_taken_only_by_sending() {
    let m = Memory::new(2);
    let mut tx = TxRing::new(m.mem(), MemoryTag::new());
    m.set(
        0,
        NetmapSlot {
            buf_idx: 2,
            len: 9,
            flags: NS_PST_UNSENT,
            ptr: 0x30,
        },
    );
    let mut slot = tx.reserve().unwrap();
    assert_eq!(slot.room().len(), 2048 - 48);
    slot.room()[..3].copy_from_slice(b"one");
    assert_eq!(tx.space(), 2);
    tx.reserve().unwrap().send_to(7, 3);
    assert_eq!(
        m.slot(0),
        NetmapSlot {
            buf_idx: 2,
            len: 3,
            flags: 0,
            ptr: 0x730
        }
    );
    tx.reserve().unwrap().send(60, true);
    assert_eq!(m.slot(1).flags, NS_MOREFRAG);
    assert!(tx.reserve().is_none());
    tx.publish();
    assert_eq!(m.mem().head(), Some(2));
}

#[test]
fn slots_are_filled_and_looked_at_in_order_until_told_to_stop() {
    let m = Memory::new(3);
    for i in 0..SLOTS {
        let slot = NetmapSlot {
            buf_idx: if i == 1 { BUFFERS } else { i + 2 },
            len: 7,
            flags: NS_BUF_CHANGED | NS_MOREFRAG,
            ptr: 0x510 * u64::from(i),
        };
        m.set(i, slot);
    }
    let (mut rx, mut tx) = (
        RxRing::new(m.mem(), MemoryTag::new()),
        TxRing::new(m.mem(), MemoryTag::new()),
    );
    let mut seen = Vec::new();
    // A buffer that is not there, and the last slot of the ring, are at hand, too.
    assert_eq!(
        rx.look(2, |packet, flags| seen.push((packet.len(), flags))),
        2
    );
    assert_eq!(
        seen,
        [
            (7, NS_BUF_CHANGED | NS_MOREFRAG),
            (0, NS_BUF_CHANGED | NS_MOREFRAG)
        ]
    );
    assert_eq!(
        (rx.waiting(), rx.look(9, |_, _| ()), rx.look(9, |_, _| ())),
        (1, 1, 0)
    );

    let mut rooms = Vec::new();
    let filled = tx.fill(|room| {
        rooms.push(room.len());
        if let Some(first) = room.first_mut() {
            *first = 3;
        }
        (rooms.len() < 3).then_some(60)
    });
    assert_eq!((filled, tx.space()), (2, 1));
    assert_eq!(rooms, [2048, 0, 2048 - 0x20]);
    assert_eq!((m.slot(0).len, m.slot(0).flags), (60, NS_BUF_CHANGED));
    assert_eq!((m.slot(2).len, m.slot(2).ptr), (7, 0xa20));
    // Over the end of the ring.
    tx.publish();
    m.field(offset_of!(NetmapRing, tail), 1);
    tx.refresh();
    assert_eq!((tx.fill(|_| Some(61)), tx.space()), (3, 0));
    assert_eq!((m.slot(3).len, m.slot(0).len, m.slot(1).len), (61, 61, 60));
}

#[test]
fn payload_goes_out_in_the_buffer_it_came_in() {
    let (a, b) = (Memory::new(1), Memory::new(1));
    let tag = MemoryTag::new();
    let ptr = Ptr(0x20).with(9, 66).0;
    a.set(
        0,
        NetmapSlot {
            buf_idx: 4,
            len: 100,
            flags: NS_BUF_CHANGED,
            ptr,
        },
    );
    let mut rx = RxRing::new(a.mem(), tag);
    let mut tx = TxRing::new(b.mem(), tag);
    let slot = rx.received().next().unwrap();
    assert!(tx.reserve().unwrap().send_received(slot, 9));
    assert_eq!(
        b.slot(0),
        NetmapSlot {
            buf_idx: 4,
            len: 100,
            flags: NS_BUF_CHANGED,
            ptr
        }
    );
    assert_eq!((a.slot(0).buf_idx, a.slot(0).flags), (2, NS_BUF_CHANGED));
}

#[test]
fn a_shared_buffer_is_never_lent_to_write() {
    let m = Memory::new(1);
    let tag = MemoryTag::new();
    let mut tx = TxRing::new(m.mem(), tag);
    m.map
        .write(512 + offset_of!(NetmapIf, ni_bufs_head), 9u32)
        .unwrap();
    let mem = m.mem();
    let mut list = ExtraList::take(&m.map, 512, 8, &mem, tag).unwrap();
    let shared = list.pop().unwrap().share();
    assert_eq!(list.len(), 0);

    assert!(!tx.reserve().unwrap().send_shared(&shared, 1024, 1, 5));
    assert!(!tx.reserve().unwrap().send_shared(&shared, 1000, 1049, 5));
    assert!(tx.reserve().unwrap().send_shared(&shared, 100, 50, 5));
    let flags = NS_BUF_CHANGED | NS_PST_KEEP;
    assert_eq!(
        m.slot(0),
        NetmapSlot {
            buf_idx: 9,
            len: 150,
            flags,
            ptr: (100 << 40) | (5 << 8)
        }
    );

    // Sent; once round the ring its own buffer is back.
    for _ in 0..3 {
        let tail = (m.mem().tail().unwrap() + 1) % SLOTS;
        m.field(offset_of!(NetmapRing, tail), tail);
        tx.publish();
        tx.refresh();
        tx.reserve().unwrap().send_to(5, 1);
    }
    m.field(offset_of!(NetmapRing, tail), 1);
    tx.publish();
    tx.refresh();
    tx.reserve().unwrap().send_to(5, 1);
    assert_eq!(m.slot(0).buf_idx, 2);
    assert_eq!(m.slot(0).flags, NS_BUF_CHANGED);
}

#[test]
fn unsent_slots_are_found_once_even_at_tail() {
    let m = Memory::new(3);
    let mut tx = TxRing::new(m.mem(), MemoryTag::new());
    let sync = |tx: &mut TxRing, refused: &[u32]| {
        tx.publish();
        for &i in refused {
            m.set(
                i,
                NetmapSlot {
                    flags: NS_PST_UNSENT,
                    ..m.slot(i)
                },
            );
        }
        let flags = if refused.is_empty() { 0 } else { NR_PST_UNSENT };
        m.field(offset_of!(NetmapRing, flags), flags | NR_TIMESTAMP);
        // The kernel took all and keeps the last one, as always.
        let head = m.mem().head().unwrap();
        m.field(offset_of!(NetmapRing, tail), (head + SLOTS - 1) % SLOTS);
        tx.refresh();
        assert_eq!(m.mem().flags(), NR_TIMESTAMP);
        tx.unsent()
            .map(|s| (s.fd(), s.payload().to_vec()))
            .collect::<Vec<_>>()
    };
    let send = |tx: &mut TxRing, fd: u8| {
        let mut slot = tx.reserve().unwrap();
        slot.room()[0] = fd;
        slot.send_to(fd.into(), 1);
    };
    assert_eq!(sync(&mut tx, &[]), []);
    for fd in [4, 5, 6] {
        send(&mut tx, fd);
    }
    assert_eq!(sync(&mut tx, &[1, 2]), [(5, vec![5]), (6, vec![6])]);
    assert_eq!(tx.unsent().count(), 0);
    // A slot refused long ago is not found again.
    send(&mut tx, 7);
    assert_eq!(sync(&mut tx, &[3]), [(7, vec![7])]);
    assert_eq!(sync(&mut tx, &[]), []);
    send(&mut tx, 8);
    assert_eq!(sync(&mut tx, &[]), []);
}

#[test]
fn extra_buffers_are_listed_swapped_and_given_back() {
    let m = Memory::new(2);
    let tag = MemoryTag::new();
    let nifp = 512;
    let head = nifp + offset_of!(NetmapIf, ni_bufs_head);
    let first_word = |i: usize| BUFS + i * BUF_SIZE as usize;
    m.map.write(head, 8u32).unwrap();
    m.map.write(first_word(8), 7u32).unwrap();
    m.map.write(first_word(7), 6u32).unwrap();
    m.map.write(first_word(6), BUFFERS).unwrap();
    let mem = m.mem();
    let mut list = ExtraList::take(&m.map, nifp, 10, &mem, tag).unwrap();
    assert_eq!((list.len(), m.map.read::<u32>(head).unwrap()), (3, 0));

    let mut rx = RxRing::new(m.mem(), tag);
    let mut mine = list.pop().unwrap();
    rx.extra_mut(&mut mine)[..2].copy_from_slice(b"hi");
    assert_eq!(mine.index(), 6);
    let mut slot = rx.received().next().unwrap();
    assert!(slot.swap(&mut mine));
    assert_eq!(
        (slot.buf_index(), mine.index(), m.slot(0).buf_idx),
        (6, 2, 6)
    );

    let mut strange = list.pop().unwrap();
    let other = MemoryTag::new();
    let mut foreign = RxRing::new(m.mem(), other);
    assert!(!foreign.received().next().unwrap().swap(&mut strange));
    assert!(foreign.extra(&strange).is_empty());

    list.push(strange);
    list.push(mine);
    list.give_back(&mem, tag);
    let mut found = Vec::new();
    let mut index: u32 = m.map.read(head).unwrap();
    while index != 0 {
        found.push(index);
        index = m.map.read(first_word(index as usize)).unwrap();
    }
    assert_eq!(found, [2, 7, 8]);
    assert_eq!(size_of::<NetmapIf>(), 56);
}

#[test]
fn holding_a_socket_takes_an_empty_slot() {
    let m = Memory::new(3);
    let mut tx = TxRing::new(m.mem(), MemoryTag::new());
    tx.reserve().unwrap().hold(7);
    tx.reserve().unwrap().resume(8);
    tx.reserve().unwrap().send_to(9, 5);
    let news: Vec<_> = (0..3).map(|i| m.slot(i)).collect();
    let fds: Vec<_> = news.iter().map(|s| Ptr(s.ptr).fd()).collect();
    assert_eq!(fds, [7, 8, 9]);
    assert_eq!(news[0].flags, NS_PST_HOLD);
    assert_eq!(news[1].flags, NS_PST_RESUME);
    assert_eq!(news[2].flags, 0);
    assert_eq!([news[0].len, news[1].len, news[2].len], [0, 0, 5]);
    assert!(tx.reserve().is_none());
    // A slot is used again without its old flags.
    m.field(offset_of!(NetmapRing, head), 0);
    tx.refresh();
    tx.reserve().unwrap().send_to(7, 1);
    assert_eq!(m.slot(0).flags, 0);
}
