// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Stores in files: what is refused, and what survives a new process's view.

use std::fs;
use std::path::PathBuf;

use netmap_storage::{
    Body, Damage, Error, Heap, Log, LogShape, Map, MapShape, Mapped, Memory, Method, NoBuffers,
    Pool, Segment, Slab, Sync,
};

/// A file that goes with the test.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Temp {
        let name = format!("netmap-storage-{}-{name}", std::process::id());
        Temp(std::env::temp_dir().join(name))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const SHAPE: LogShape = LogShape {
    lines: 64,
    blocks: 16,
    block_size: 256,
};

fn filled(memory: Mapped) -> Result<Log<Mapped>, Error> {
    let mut log = Log::format(memory, SHAPE, Pool::NONE)?;
    let mut body = Body::new();
    for i in 0..5u8 {
        log.copy(&mut body, &[i; 300])?;
        log.append(&mut body)?;
    }
    log.commit()?;
    Ok(log)
}

#[test]
fn a_log_in_a_file_is_there_for_the_next_process() {
    for sync in [
        Sync::Auto,
        Sync::Cpu,
        Sync::Msync,
        Sync::Fdatasync,
        Sync::None,
    ] {
        let temp = Temp::new(&format!("log-{sync:?}"));
        let mut memory = Mapped::create(&temp.0, SHAPE.bytes().unwrap(), sync).unwrap();
        memory.set_delay(1000);
        match sync {
            Sync::None => assert_eq!(memory.method(), Method::None),
            Sync::Fdatasync => assert_eq!(memory.method(), Method::Fdatasync),
            Sync::Msync => assert_eq!(memory.method(), Method::Msync),
            _ => {}
        }
        let log = filled(memory).unwrap();
        // One user at a time.
        assert!(matches!(Mapped::open(&temp.0, sync), Err(Error::InUse)));
        drop(log);
        let memory = Mapped::open(&temp.0, sync).unwrap();
        let (log, found) = Log::open(memory, Pool::NONE, &NoBuffers).unwrap();
        assert_eq!(
            (found.objects, found.bytes, found.damaged.len()),
            (5, 1500, 0)
        );
        for (i, object) in (0u8..).zip(log.objects()) {
            let bytes: Vec<u8> = object
                .segments()
                .flat_map(|s| log.block(s).to_vec())
                .collect();
            assert_eq!(bytes, [i; 300]);
        }
    }
}

#[test]
fn what_cannot_be_opened_is_left_as_it_is() {
    let temp = Temp::new("refused");
    let len = SHAPE.bytes().unwrap();
    drop(filled(Mapped::create(&temp.0, len, Sync::Auto).unwrap()).unwrap());
    let good = fs::read(&temp.0).unwrap();
    let open = |bytes: &[u8], pool| {
        fs::write(&temp.0, bytes).unwrap();
        let memory = Mapped::open(&temp.0, Sync::Auto)?;
        let error = match Log::open(memory, pool, &NoBuffers) {
            Ok((_, found)) => panic!("{found}"),
            Err(error) => error,
        };
        assert_eq!(fs::read(&temp.0).unwrap(), bytes);
        Result::<Error, Error>::Ok(error)
    };

    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    assert!(matches!(
        open(&cut, Pool::NONE),
        Ok(Error::Truncated { .. })
    ));
    assert!(matches!(
        open(&[], Pool::NONE),
        Err(Error::Truncated { .. })
    ));
    assert!(matches!(
        open(&vec![0; 9000], Pool::NONE),
        Ok(Error::NotOurs)
    ));
    let mut flipped = good.clone();
    flipped[35] ^= 1;
    assert!(matches!(open(&flipped, Pool::NONE), Ok(Error::Damaged(_))));
    flipped[35] ^= 1;
    flipped[66] ^= 1;
    assert!(matches!(open(&flipped, Pool::NONE), Ok(Error::Damaged(_))));
    let mut older = good.clone();
    older[8] -= 1;
    let crc = crc32c::crc32c(&older[8..64]);
    older[4..8].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(open(&older, Pool::NONE), Ok(Error::Version(1))));
    let other = Pool {
        buffers: 9,
        buf_size: 2048,
        id: 1,
    };
    assert!(matches!(open(&good, other), Ok(Error::OtherPool { .. })));

    fs::write(&temp.0, &good).unwrap();
    let memory = Mapped::open(&temp.0, Sync::Auto).unwrap();
    let map = Map::open(memory, Pool::NONE, &NoBuffers);
    assert!(matches!(map, Err(Error::Kind)));
    assert_eq!(fs::read(&temp.0).unwrap(), good);
}

#[test]
fn no_space_is_an_error_and_the_old_file_stays() {
    let temp = Temp::new("space");
    drop(filled(Mapped::create(&temp.0, SHAPE.bytes().unwrap(), Sync::Auto).unwrap()).unwrap());
    let good = fs::read(&temp.0).unwrap();
    let error = Mapped::create(&temp.0, 1 << 60, Sync::Auto).err().unwrap();
    assert!(matches!(error, Error::Io(_)), "{error}");
    assert_eq!(fs::read(&temp.0).unwrap()[..good.len()], good);
}

#[test]
fn a_full_log_loses_nothing_and_runs_for_ever() {
    let pool = Pool {
        buffers: 8,
        buf_size: 128,
        id: 3,
    };
    let shape = LogShape {
        lines: 7,
        blocks: 0,
        block_size: 0,
    };
    let mut log = Log::format(Heap::new(shape.bytes().unwrap() as usize), shape, pool).unwrap();
    let (mut free, bytes) = ((0..8u32).collect::<Vec<_>>(), [7; 128]);
    let mut body = Body::new();
    let (mut full, mut last) = (0, 0);
    for _ in 0..1000 {
        let buf = free.pop().unwrap();
        log.hold(&mut body, Segment::packet(buf, 0, 128), &bytes)
            .unwrap();
        let before = body.segments().to_vec();
        let seq = match log.append(&mut body) {
            Ok(seq) => seq,
            Err(Error::Full) => {
                full += 1;
                assert_eq!(body.segments(), before);
                log.commit().unwrap();
                assert_eq!(log.objects().count(), 7);
                log.drop_oldest().unwrap();
                // Not before it is durable.
                assert!(matches!(log.append(&mut body), Err(Error::Full)));
                assert_eq!(log.freed().count(), 0);
                log.commit().unwrap();
                free.extend(log.freed());
                log.append(&mut body).unwrap()
            }
            Err(other) => panic!("{other}"),
        };
        assert!(seq > last);
        last = seq;
    }
    assert_eq!((full, last), (993, 1000));
    log.commit().unwrap();
    log.truncate(999);
    log.commit().unwrap();
    assert_eq!(
        log.objects().map(|o| o.seq()).collect::<Vec<_>>(),
        [999, 1000]
    );
    free.extend(log.freed());
    assert_eq!(free.len(), 6);
}

#[test]
fn damage_is_found_reported_and_dropped_with_its_buffers() {
    let pool = Pool {
        buffers: 8,
        buf_size: 128,
        id: 3,
    };
    let shape = LogShape {
        lines: 8,
        blocks: 0,
        block_size: 0,
    };
    let slab = vec![7; 8 * 128];
    let mut log = Log::format(Heap::new(shape.bytes().unwrap() as usize), shape, pool).unwrap();
    let mut body = Body::new();
    for buf in 1..5 {
        log.hold(&mut body, Segment::packet(buf, 5, 100), &slab[..100])
            .unwrap();
        log.append(&mut body).unwrap();
        log.commit().unwrap();
    }
    let bytes = log.into_memory().bytes().to_vec();

    // Payload of the second object.
    let mut bad = slab.clone();
    bad[2 * 128 + 50] ^= 4;
    let bufs = Slab::new(&bad, 0, 128);
    let (mut log, found) = Log::open(Heap::from(bytes.clone()), pool, &bufs).unwrap();
    assert_eq!(found.damaged, [Damage::Line(2)]);
    assert_eq!((found.objects, &found.buffers[..]), (3, &[1, 2, 3, 4][..]));
    assert!(log.get(2).is_none() && log.get(3).is_some());
    assert_eq!(
        log.objects().map(|o| o.seq()).collect::<Vec<_>>(),
        [1, 3, 4]
    );
    log.truncate(3);
    log.commit().unwrap();
    assert_eq!(log.freed().collect::<Vec<_>>(), [1, 2]);

    // The line of the second object: what it held is not known.
    let mut lines = bytes.clone();
    lines[4096 + 2 * 64 + 30] ^= 1;
    let bufs = Slab::new(&slab, 0, 128);
    let (mut log, found) = Log::open(Heap::from(lines), pool, &bufs).unwrap();
    assert_eq!(found.damaged, [Damage::Line(2)]);
    assert_eq!((found.objects, &found.buffers[..]), (3, &[1, 3, 4][..]));
    assert_eq!(
        log.objects().map(|o| o.seq()).collect::<Vec<_>>(),
        [1, 3, 4]
    );
    log.truncate(4);
    log.commit().unwrap();
    assert_eq!(log.freed().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_damaged_value_can_be_replaced_or_deleted() {
    let pool = Pool {
        buffers: 8,
        buf_size: 128,
        id: 3,
    };
    let shape = MapShape {
        objects: 4,
        lines: 8,
        blocks: 4,
        block_size: 128,
    };
    let slab = vec![7; 8 * 128];
    let mut map = Map::format(Heap::new(shape.bytes().unwrap() as usize), shape, pool).unwrap();
    let mut body = Body::new();
    for (buf, key) in [(1, b"/1"), (2, b"/2"), (3, b"/3")] {
        map.hold(&mut body, Segment::packet(buf, 5, 100), &slab[..100])
            .unwrap();
        map.put(key, &mut body).unwrap();
        map.commit().unwrap();
    }
    let mut bad = slab.clone();
    bad[128 + 50] ^= 4;
    bad[2 * 128 + 50] ^= 4;
    let bufs = Slab::new(&bad, 0, 128);
    let (mut map, found) = Map::open(map.into_memory(), pool, &bufs).unwrap();
    let key = |key: &[u8]| Some(key.to_vec());
    let damaged = [
        Damage::Object {
            root: 0,
            key: key(b"/1"),
        },
        Damage::Object {
            root: 1,
            key: key(b"/2"),
        },
    ];
    assert_eq!(found.damaged, damaged);
    assert_eq!(found.buffers, [1, 2, 3]);
    assert_eq!(map.len(), 1);
    assert!(map.get(b"/1").is_none() && map.get(b"/3").is_some());
    map.copy(&mut body, b"new").unwrap();
    map.put(b"/1", &mut body).unwrap();
    assert!(map.delete(b"/2"));
    map.commit().unwrap();
    assert_eq!(map.freed().collect::<Vec<_>>().len(), 2);
    let (map, found) = Map::open(map.into_memory(), pool, &bufs).unwrap();
    assert_eq!((found.objects, found.damaged.len(), map.len()), (2, 0, 2));
    assert_eq!(map.get(b"/1").unwrap().len(), 3);
}

#[test]
fn a_buffer_is_free_when_nothing_in_it_is_kept() {
    let pool = Pool {
        buffers: 8,
        buf_size: 128,
        id: 3,
    };
    let shape = LogShape {
        lines: 8,
        blocks: 0,
        block_size: 0,
    };
    let mut log = Log::format(Heap::new(shape.bytes().unwrap() as usize), shape, pool).unwrap();
    let mut body = Body::new();
    let part = |at| Segment::packet(5, at, 10);
    // Two objects in one buffer, and one that is given up twice in between.
    for at in [0, 10] {
        log.hold(&mut body, part(at), &[1; 10]).unwrap();
        log.append(&mut body).unwrap();
        for _ in 0..2 {
            log.hold(&mut body, part(50), &[1; 10]).unwrap();
            log.discard(&mut body);
        }
    }
    assert!(log.get(1).is_some() && log.get_durable(1).is_none());
    log.commit().unwrap();
    assert_eq!(log.freed().count(), 0);
    for (seq, freed) in [(1, &[][..]), (2, &[5])] {
        assert_eq!(log.drop_oldest(), Some(seq));
        // Whoever must not see what a failure may take back still sees it.
        assert!(log.get(seq).is_none());
        assert_eq!(log.get_durable(seq).map(|object| object.len()), Some(10));
        log.commit().unwrap();
        assert!(log.get_durable(seq).is_none());
        assert_eq!(log.freed().collect::<Vec<_>>(), freed);
    }
    // Given up first: it must not be handed out while the next one is kept.
    for kept in [true, false, false] {
        log.hold(&mut body, part(0), &[2; 10]).unwrap();
        log.discard(&mut body);
        if kept {
            log.hold(&mut body, part(20), &[2; 10]).unwrap();
            log.append(&mut body).unwrap();
            assert_eq!(log.freed().count(), 0);
            log.commit().unwrap();
            log.drop_oldest();
            log.commit().unwrap();
        }
        assert_eq!(log.freed().collect::<Vec<_>>(), [5]);
    }
    let outside = Segment::packet(7, 120, 10);
    assert!(matches!(
        log.hold(&mut body, outside, &[0; 10]),
        Err(Error::BadSegment)
    ));
    assert!(matches!(
        log.hold(&mut body, part(0), &[0; 9]),
        Err(Error::BadSegment)
    ));
    assert!(body.is_empty());
}

/// Bytes of a file that this process has in its page tables.
fn resident(path: &std::path::Path) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = maps.split_once(path.to_str().unwrap()).unwrap().1;
    let rest = mapping.split_once("Rss:").unwrap().1;
    rest.split_whitespace()
        .next()
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[test]
fn pages_in_memory_can_be_mapped_before_they_are_used() {
    let temp = Temp(format!("/dev/shm/netmap-storage-{}", std::process::id()).into());
    let len = 300 * 4096;
    let mapped = Mapped::create(&temp.0, len, Sync::Auto).unwrap();
    assert_eq!(resident(&temp.0), 0);
    mapped.populate();
    assert_eq!(resident(&temp.0), len as usize);
    // A file system that writes pages back would have to write all of them.
    let disk = Temp::new("populate");
    let mapped = Mapped::create(&disk.0, len, Sync::Msync).unwrap();
    mapped.populate();
    assert_eq!(resident(&disk.0), 0);
}
