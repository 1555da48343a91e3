// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Power failures while a store is formatted over an older one.

mod model;

use model::{trace, Cache, Event, Fault, Nic, Recorder, Rng};
use netmap_storage::{Body, Error, Heap, Log, LogShape, Map, MapShape, Memory, NoBuffers, Pool};

const LOG: LogShape = LogShape {
    lines: 8,
    blocks: 4,
    block_size: 64,
};
const MAP: MapShape = MapShape {
    objects: 8,
    lines: 8,
    blocks: 4,
    block_size: 64,
};

/// A log and a map with an object each, in files of one size.
fn old() -> [Vec<u8>; 2] {
    let (mut body, len) = (Body::new(), size());
    let mut log = Log::format(Heap::new(len), LOG, Pool::NONE).unwrap();
    log.copy(&mut body, b"old").unwrap();
    log.append(&mut body).unwrap();
    log.commit().unwrap();
    let mut map = Map::format(Heap::new(len), MAP, Pool::NONE).unwrap();
    map.copy(&mut body, b"old").unwrap();
    map.put(b"/key", &mut body).unwrap();
    map.commit().unwrap();
    [
        log.into_memory().bytes().to_vec(),
        map.into_memory().bytes().to_vec(),
    ]
}

fn size() -> usize {
    (LOG.bytes().unwrap()).max(MAP.bytes().unwrap()) as usize
}

/// Objects in the log or map of an image, whichever it is.
fn objects(image: &[u8]) -> Result<u64, Error> {
    let mem = || Heap::from(image.to_vec());
    let found = match Log::open(mem(), Pool::NONE, &NoBuffers) {
        Err(Error::Kind) => Map::open(mem(), Pool::NONE, &NoBuffers)?.1,
        other => other?.1,
    };
    assert_eq!(found.unfinished + found.damaged.len() as u64, 0);
    Ok(found.objects)
}

#[test]
fn an_interrupted_format_leaves_the_old_store_none_or_the_new_one() {
    for image in old() {
        for kind in 0..2 {
            let trace = trace(Fault::None);
            let nic = Nic::new(size(), Vec::new(), 1, &trace);
            let memory = Recorder::new(image.clone(), &nic, &trace);
            match kind {
                0 => drop(Log::format(memory, LOG, Pool::NONE).unwrap()),
                _ => drop(Map::format(memory, MAP, Pool::NONE).unwrap()),
            }
            let (mut cache, mut seen, mut waits) = (Cache::new(image.clone()), [0; 3], 0);
            let events = trace.lock().unwrap().events.clone();
            for (point, event) in events.iter().enumerate() {
                cache.apply(event);
                waits += usize::from(matches!(event, Event::Wait));
                let check = |image: &[u8]| {
                    // The old store may be there until its head is gone, the new
                    // one once all but its first word is durable.
                    let state = match objects(image) {
                        Ok(1) if waits == 0 => 0,
                        Err(Error::NotOurs) if waits < 3 => 1,
                        Ok(0) if waits >= 2 => 2,
                        other => return Err(format!("{other:?} after {waits} waits")),
                    };
                    seen[state] += 1;
                    Ok(())
                };
                cache.crash(500, &mut Rng(point as u64), check).unwrap();
            }
            assert!(seen.iter().all(|&n| n > 0), "{seen:?}");
            assert_eq!(objects(&cache.image).unwrap(), 0);
        }
    }
}
