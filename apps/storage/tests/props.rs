// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A log against a queue, a map against a map, and recovery of anything.

use std::collections::{HashMap, VecDeque};

use netmap_storage::{
    Body, Buffers, Error, Heap, Log, LogShape, Map, MapShape, Memory, Pool, Segment, Slab,
};
use proptest::prelude::*;

const BUFS: u32 = 16;
const SIZE: usize = 128;
const POOL: Pool = Pool {
    buffers: BUFS,
    buf_size: SIZE as u32,
    id: 1,
};
const LOG: LogShape = LogShape {
    lines: 20,
    blocks: 10,
    block_size: 64,
};
const MAP: MapShape = MapShape {
    objects: 8,
    lines: 24,
    blocks: 10,
    block_size: 64,
};

#[derive(Clone, Debug)]
enum Step {
    /// Pieces of an object: bytes, and whether to hold or to copy them.
    Store(u8, Vec<(Vec<u8>, bool)>),
    Remove(u8),
    Commit,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let piece = (prop::collection::vec(any::<u8>(), 0..100), any::<bool>());
    let pieces = prop::collection::vec(piece, 0..4);
    let step = prop_oneof![
        6 => (0..10u8, pieces).prop_map(|(key, pieces)| Step::Store(key, pieces)),
        3 => (0..10u8).prop_map(Step::Remove),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..60)
}

/// The pool, and which of its buffers are nobody's.
struct Packets {
    bytes: Vec<u8>,
    free: Vec<u32>,
}

impl Packets {
    fn new() -> Packets {
        Packets {
            bytes: vec![0; BUFS as usize * SIZE],
            free: (0..BUFS).collect(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Option<Segment> {
        let buf = self.free.pop()?;
        let at = buf as usize * SIZE + 3;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Some(Segment::packet(buf, 3, bytes.len() as u16))
    }

    fn free(&mut self, bufs: impl Iterator<Item = u32>) {
        for buf in bufs {
            assert!(!self.free.contains(&buf), "{buf} is free twice");
            self.free.push(buf);
            self.bytes[buf as usize * SIZE..][..SIZE].fill(0xee);
        }
    }

    /// After a restart, everything that is not claimed is free.
    fn claim(&mut self, held: &[u32]) {
        let free: Vec<u32> = (0..BUFS).filter(|buf| !held.contains(buf)).collect();
        let mut before = self.free.clone();
        before.sort_unstable();
        assert_eq!(before, free);
        self.free = free;
    }
}

impl Buffers for Packets {
    fn bytes(&self, buf: u32) -> Option<&[u8]> {
        Slab::new(&self.bytes, 0, SIZE as u32)
            .bytes(buf)
            .map(|bytes| &self.bytes[buf as usize * SIZE..][..bytes.len()])
    }
}

/// Put the pieces of an object together in a log or a map. `None` if it is full.
macro_rules! gather {
    ($store:expr, $packets:expr, $body:expr, $pieces:expr) => {{
        let mut whole = Some(Vec::new());
        for (bytes, hold) in $pieces {
            let segment = if *hold && !bytes.is_empty() {
                $packets.receive(bytes)
            } else {
                None
            };
            let done = match segment {
                Some(segment) => $store.hold(&mut $body, segment, bytes),
                None => $store.copy(&mut $body, bytes),
            };
            match done {
                Ok(()) => {
                    if let Some(whole) = &mut whole {
                        whole.extend_from_slice(bytes);
                    }
                }
                Err(Error::Full) => whole = None,
                Err(other) => panic!("{other}"),
            }
        }
        whole
    }};
}

fn read<M: Memory>(log: &Log<M>, packets: &Packets) -> Vec<Vec<u8>> {
    let bytes = |segment| log.payload(segment, packets).unwrap().to_vec();
    let objects = log.objects();
    objects
        .map(|object| object.segments().flat_map(bytes).collect())
        .collect()
}

fn read_map<M: Memory>(map: &Map<M>, packets: &Packets) -> HashMap<Vec<u8>, Vec<u8>> {
    let bytes = |segment| map.payload(segment, packets).unwrap().to_vec();
    let entries = map.iter();
    entries
        .map(|entry| (entry.key(), entry.segments().flat_map(bytes).collect()))
        .collect()
}

fn key(n: u8) -> Vec<u8> {
    let long = "/long".repeat(usize::from(n % 3) * 20);
    format!("{long}/{n}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_queue(steps in steps()) {
        let memory = Heap::new(LOG.bytes().unwrap() as usize);
        let mut log = Log::format(memory, LOG, POOL).unwrap();
        let (mut packets, mut body) = (Packets::new(), Body::new());
        let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
        let mut durable = 0;
        for step in &steps {
            match step {
                Step::Store(_, pieces) => {
                    let whole = gather!(log, packets, body, pieces);
                    match whole.filter(|_| log.append(&mut body).is_ok()) {
                        Some(whole) => queue.push_back(whole),
                        None => log.discard(&mut body),
                    }
                }
                Step::Remove(_) => {
                    prop_assert_eq!(log.drop_oldest().is_some(), durable > 0);
                    if durable > 0 {
                        queue.pop_front();
                        durable -= 1;
                    }
                }
                Step::Commit => {
                    log.commit().unwrap();
                    durable = queue.len();
                }
                Step::Reopen => {
                    log.commit().unwrap();
                    durable = queue.len();
                    packets.free(log.freed());
                    let (opened, found) = Log::open(log.into_memory(), POOL, &packets).unwrap();
                    prop_assert_eq!(found.objects, durable as u64);
                    prop_assert_eq!(found.unfinished + found.damaged.len() as u64, 0);
                    packets.claim(&found.buffers);
                    log = opened;
                }
            }
            packets.free(log.freed());
            prop_assert_eq!(&read(&log, &packets), queue.make_contiguous());
        }
        // Nothing leaks.
        log.commit().unwrap();
        log.truncate(u64::MAX);
        log.commit().unwrap();
        packets.free(log.freed());
        prop_assert_eq!(packets.free.len(), BUFS as usize);
        prop_assert_eq!(log.free_blocks(), LOG.blocks as usize);
        prop_assert_eq!(log.free_lines(), u64::from(LOG.lines));
    }

    #[test]
    fn a_map_is_a_map(steps in steps()) {
        let memory = Heap::new(MAP.bytes().unwrap() as usize);
        let mut map = Map::format(memory, MAP, POOL).unwrap();
        let (mut packets, mut body) = (Packets::new(), Body::new());
        let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for step in &steps {
            match step {
                Step::Store(n, pieces) => {
                    let whole = gather!(map, packets, body, pieces);
                    match whole.filter(|_| map.put(&key(*n), &mut body).is_ok()) {
                        Some(whole) => drop(model.insert(key(*n), whole)),
                        None => map.discard(&mut body),
                    }
                }
                Step::Remove(n) => {
                    prop_assert_eq!(map.delete(&key(*n)), model.remove(&key(*n)).is_some());
                }
                Step::Commit => map.commit().unwrap(),
                Step::Reopen => {
                    map.commit().unwrap();
                    packets.free(map.freed());
                    let (opened, found) = Map::open(map.into_memory(), POOL, &packets).unwrap();
                    prop_assert_eq!(found.objects, model.len() as u64);
                    prop_assert_eq!(found.unfinished + found.damaged.len() as u64, 0);
                    packets.claim(&found.buffers);
                    map = opened;
                }
            }
            packets.free(map.freed());
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(&read_map(&map, &packets), &model);
            for n in 0..10 {
                prop_assert_eq!(map.get(&key(n)).is_some(), model.contains_key(&key(n)));
            }
        }
        // Nothing leaks.
        for key in model.keys() {
            prop_assert!(map.delete(key));
        }
        map.commit().unwrap();
        packets.free(map.freed());
        prop_assert_eq!(packets.free.len(), BUFS as usize);
        prop_assert_eq!(map.free_blocks(), MAP.blocks as usize);
        prop_assert_eq!(map.free_lines(), MAP.lines as usize);
    }

    /// Valid files with some bytes changed, moved or cut: recovery ends, with
    /// objects that are what was stored, and the store can be used.
    #[test]
    fn recovery_takes_anything(
        seed in any::<u64>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        moves in prop::collection::vec((0..200usize, 0..200usize), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let (mut packets, mut body) = (Packets::new(), Body::new());
        let mut log = Log::format(Heap::new(LOG.bytes().unwrap() as usize), LOG, POOL).unwrap();
        let mut map = Map::format(Heap::new(MAP.bytes().unwrap() as usize), MAP, POOL).unwrap();
        let object = |i: u64| (seed.wrapping_mul(i + 1)).to_le_bytes().repeat(i as usize);
        for i in 0..7 {
            log.copy(&mut body, &object(i)).unwrap();
            log.append(&mut body).unwrap();
            map.copy(&mut body, &object(i)).unwrap();
            map.put(&key(i as u8), &mut body).unwrap();
            if i % 3 == 0 {
                log.commit().unwrap();
                map.commit().unwrap();
            }
        }
        let damage = |memory: Heap| {
            let mut bytes = memory.bytes().to_vec();
            // The head is checked elsewhere; a wrong one would hide the rest.
            let start = if whole { 0 } else { 128 };
            for (index, byte) in &changes {
                let at = start + index.index(bytes.len() - start);
                bytes[at] = *byte;
            }
            for (from, to) in &moves {
                let lines = (bytes.len() - 4096) / 64;
                let (from, to) = (4096 + from % lines * 64, 4096 + to % lines * 64);
                bytes.copy_within(from..from + 64, to);
            }
            if whole {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            Heap::from(bytes)
        };
        if let Ok((mut log, found)) = Log::open(damage(log.into_memory()), POOL, &packets) {
            let good: Vec<Vec<u8>> = (0..7).map(object).collect();
            prop_assert!(found.objects <= 7);
            let there = log.objects().filter(|o| {
                let bytes: Vec<u8> = o.segments().flat_map(|s| log.block(s).to_vec()).collect();
                good.contains(&bytes)
            });
            prop_assert!(there.count() as u64 >= found.objects);
            while log.drop_oldest().is_some() {}
            log.commit().unwrap();
            packets.free(log.freed());
            log.copy(&mut body, b"new").unwrap();
            log.append(&mut body).unwrap();
            log.commit().unwrap();
            prop_assert_eq!(read(&log, &packets), vec![b"new".to_vec()]);
        }
        if let Ok((mut map, found)) = Map::open(damage(map.into_memory()), POOL, &packets) {
            prop_assert_eq!(map.len() as u64, found.objects);
            for (key, value) in read_map(&map, &packets) {
                prop_assert!((0..7).any(|i| self::key(i as u8) == key && object(i) == value));
            }
            for i in 0..7 {
                map.delete(&key(i));
            }
            prop_assert!(map.is_empty());
            map.commit().unwrap();
            let (map, _) = Map::open(map.into_memory(), POOL, &packets).unwrap();
            prop_assert!(map.is_empty());
        }
    }

    /// Bytes that nobody ever stored, with a valid head.
    #[test]
    fn recovery_takes_noise(noise in prop::collection::vec(any::<u8>(), 64..4096), at in 4096..9000usize) {
        let packets = Packets::new();
        let log = Log::format(Heap::new(LOG.bytes().unwrap() as usize), LOG, POOL).unwrap();
        let map = Map::format(Heap::new(MAP.bytes().unwrap() as usize), MAP, POOL).unwrap();
        let noisy = |memory: Heap| {
            let mut bytes = memory.bytes().to_vec();
            let end = bytes.len().min(at + noise.len());
            let start = at.min(end);
            bytes[start..end].copy_from_slice(&noise[..end - start]);
            Heap::from(bytes)
        };
        let (log, found) = Log::open(noisy(log.into_memory()), POOL, &packets).unwrap();
        prop_assert_eq!((found.objects, log.objects().count()), (0, 0));
        let (map, found) = Map::open(noisy(map.into_memory()), POOL, &packets).unwrap();
        prop_assert_eq!((found.objects, map.len()), (0, 0));
    }
}
