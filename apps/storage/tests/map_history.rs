// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Power failures in maps with a long history: what earlier batches left behind
//! is not taken for what the last one wrote.

use netmap_storage::{Body, Damage, Found, Heap, Map, MapShape, Memory, Pool, Segment, Slab};

const POOL: Pool = Pool {
    buffers: 8,
    buf_size: 128,
    id: 3,
};
const SHAPE: MapShape = MapShape {
    objects: 4,
    lines: 8,
    blocks: 0,
    block_size: 0,
};
/// Lines start there, roots follow them.
const LINES: usize = 4096;
const ROOTS: usize = LINES + 8 * 64;

/// Buffers that each have bytes of their own.
fn slab() -> Vec<u8> {
    (0..8 * 128).map(|at| (at / 128) as u8).collect()
}

fn new() -> Map<Heap> {
    Map::format(Heap::new(SHAPE.bytes().unwrap() as usize), SHAPE, POOL).unwrap()
}

/// Make the contents of buffer `buf` the value of a key.
fn put(map: &mut Map<Heap>, key: &[u8], buf: u32) {
    let mut body = Body::new();
    map.hold(&mut body, Segment::packet(buf, 0, 128), &[buf as u8; 128])
        .unwrap();
    map.put(key, &mut body).unwrap();
}

fn image(map: Map<Heap>) -> Vec<u8> {
    map.into_memory().bytes().to_vec()
}

/// The map as the next process has it.
fn open(image: &[u8]) -> (Map<Heap>, Found) {
    let slab = slab();
    Map::open(Heap::from(image.to_vec()), POOL, &Slab::new(&slab, 0, 128)).unwrap()
}

/// The buffer that has the value of a key, in an image that a failure left, and
/// how many objects are damaged.
fn value(image: &[u8], key: &[u8]) -> (Option<u32>, usize) {
    let (map, found) = open(image);
    let value = map.get(key).map(|entry| {
        let segments: Vec<Segment> = entry.segments().collect();
        assert_eq!(segments.len(), 1);
        segments[0].buf
    });
    (value, found.damaged.len())
}

#[test]
fn a_root_that_got_through_without_its_line_brings_no_older_value_back() {
    for deleted in [false, true] {
        let mut map = new();
        for buf in [1, 2] {
            put(&mut map, b"/key", buf);
            map.commit().unwrap();
        }
        if deleted {
            map.delete(b"/key");
            map.commit().unwrap();
        }
        // It will use the line of the first value, whose bytes nobody has
        // overwritten yet.
        let before = image(open(&image(map)).0);
        let (mut map, _) = open(&before);
        put(&mut map, b"/key", 3);
        let mut after = image(map);
        assert_ne!(after[LINES..LINES + 64], before[LINES..LINES + 64]);
        after[LINES..ROOTS].copy_from_slice(&before[LINES..ROOTS]);
        let wanted = if deleted { None } else { Some(2) };
        assert_eq!(value(&after, b"/key"), (wanted, 0), "deleted: {deleted}");
    }
}

#[test]
fn what_a_failure_interrupted_is_known_after_a_million_batches() {
    let mut map = new();
    for (key, buf) in [(&b"/old"[..], 1), (b"/key", 2)] {
        put(&mut map, key, buf);
        map.commit().unwrap();
    }
    // Roots have the low 20 bits of the number of their batch. The one after the
    // one that is interrupted has those of /old.
    let interrupted: u64 = 1 << 20;
    for _ in 2..interrupted - 1 {
        put(&mut map, b"/other", 4);
        map.commit().unwrap();
    }
    put(&mut map, b"/key", 3);
    let whole = image(map);
    assert_eq!(value(&whole, b"/key"), (Some(3), 0));
    let mut torn = whole;
    let mut lines = torn[LINES..ROOTS].chunks_exact_mut(64);
    let line = lines.find(|line| line[8..16] == interrupted.to_le_bytes());
    line.unwrap()[20] ^= 1;
    assert_eq!(value(&torn, b"/key"), (Some(2), 0));
    assert_eq!(value(&torn, b"/old"), (Some(1), 0));
}

#[test]
fn a_key_with_two_damaged_values_is_told_by_name_each_time() {
    let mut map = new();
    put(&mut map, b"/key", 1);
    map.commit().unwrap();
    put(&mut map, b"/key", 2);
    let mut slab = slab();
    slab[128] ^= 1;
    slab[2 * 128] ^= 1;
    let slab = Slab::new(&slab, 0, 128);
    let mut memory = map.into_memory();
    for unfinished in [1, 0] {
        let (map, found) = Map::open(memory, POOL, &slab).unwrap();
        let (root, key) = (0, Some(b"/key".to_vec()));
        assert_eq!(found.damaged, [Damage::Object { root, key }]);
        assert_eq!((found.objects, found.unfinished), (0, unfinished));
        assert_eq!(found.buffers, [1]);
        memory = map.into_memory();
    }
    let (mut map, _) = Map::open(memory, POOL, &slab).unwrap();
    put(&mut map, b"/key", 3);
    map.commit().unwrap();
    assert_eq!(value(&image(map), b"/key"), (Some(3), 0));
}
