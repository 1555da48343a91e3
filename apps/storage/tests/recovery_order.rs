// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A process dies while it recovers a store, another one recovers it and goes
//! on, then the power fails: what the first one had put right but not flushed
//! must not be forgotten.

mod model;

use model::{trace, Cache, Fault, Nic, Recorder};
use netmap_storage::{Body, Heap, Log, LogShape, Map, MapShape, Memory, NoBuffers, Pool};

const LOG: LogShape = LogShape {
    lines: 8,
    blocks: 8,
    block_size: 64,
};
const MAP: MapShape = MapShape {
    objects: 4,
    lines: 8,
    blocks: 8,
    block_size: 64,
};
const LINES: usize = 4096;

/// Recover `image`, die after each event of that; let `go_on` recover what is
/// in memory then, and lose the power; give what is left to `check`.
fn interrupted(
    image: &[u8],
    open: impl Fn(Recorder),
    go_on: impl Fn(Recorder),
    check: impl Fn(Heap),
) {
    let recorded = |image: &[u8], use_it: &dyn Fn(Recorder)| {
        let trace = trace(Fault::None);
        let nic = Nic::new(image.len(), Vec::new(), 1, &trace);
        use_it(Recorder::new(image.to_vec(), &nic, &trace));
        let events = trace.lock().unwrap().events.clone();
        events
    };
    let first = recorded(image, &open);
    assert!(first.len() > 3);
    for cut in 0..=first.len() {
        let mut cache = Cache::new(image.to_vec());
        first[..cut].iter().for_each(|event| cache.apply(event));
        let second = recorded(&cache.everything(), &go_on);
        second.iter().for_each(|event| cache.apply(event));
        check(Heap::from(cache.image));
    }
}

#[test]
fn a_line_that_was_invalidated_does_not_come_back() {
    let mut log = Log::format(Heap::new(LOG.bytes().unwrap() as usize), LOG, Pool::NONE).unwrap();
    let mut body = Body::new();
    for text in [b"sure", b"lost", b"left"] {
        log.copy(&mut body, text).unwrap();
        let seq = log.append(&mut body).unwrap();
        if seq == 1 {
            log.commit().unwrap();
        }
    }
    // Of the second batch the first line did not get through, the other one did.
    let mut image = log.into_memory().bytes().to_vec();
    image[LINES + 2 * 64..][..64].fill(0);
    let open = |memory| Log::open(memory, Pool::NONE, &NoBuffers).unwrap();
    interrupted(
        &image,
        |memory| assert_eq!(open(memory).1.unfinished, 1),
        |memory| {
            let (mut log, mut body) = (open(memory).0, Body::new());
            log.copy(&mut body, b"new").unwrap();
            assert_eq!(log.append(&mut body).unwrap(), 2);
            log.commit().unwrap();
        },
        |memory| {
            let (log, found) = Log::open(memory, Pool::NONE, &NoBuffers).unwrap();
            let objects = log.objects().flat_map(|object| {
                let pieces = object.segments().map(|s| log.block(s).to_vec());
                pieces.collect::<Vec<_>>()
            });
            assert!(objects.eq([b"sure".to_vec(), b"new".to_vec()]), "{found}");
        },
    );
}

#[test]
fn a_root_that_was_cleared_does_not_come_back() {
    let mut map = Map::format(Heap::new(MAP.bytes().unwrap() as usize), MAP, Pool::NONE).unwrap();
    let mut body = Body::new();
    for (n, text) in [b"old", b"new"].into_iter().enumerate() {
        map.copy(&mut body, text).unwrap();
        map.put(b"/key", &mut body).unwrap();
        if n == 0 {
            map.commit().unwrap();
        }
    }
    // The root of the second one got through, its entry did not.
    let mut image = map.into_memory().bytes().to_vec();
    image[LINES + 64..][..64].fill(0);
    let open = |memory| Map::open(memory, Pool::NONE, &NoBuffers).unwrap();
    interrupted(
        &image,
        |memory| assert_eq!(open(memory).1.unfinished, 1),
        |memory| drop(open(memory)),
        |memory| {
            let (map, found) = Map::open(memory, Pool::NONE, &NoBuffers).unwrap();
            let value = map.get(b"/key").map(|entry| {
                let pieces = entry.segments().map(|s| map.block(s).to_vec());
                pieces.collect::<Vec<_>>().concat()
            });
            assert_eq!(value.as_deref(), Some(&b"old"[..]), "{found}");
            assert!(found.damaged.is_empty());
        },
    );
}
