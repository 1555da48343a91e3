// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Power failures at every point of a map's life, in the model of a cache.

mod model;

use std::collections::BTreeMap;

use model::{trace, Cache, Event, Fault, Nic, Recorder, Rng};
use netmap_storage::{Body, Error, Map, MapShape, Memory, Place, Pool, Segment};

const POOL: Pool = Pool {
    buffers: 12,
    buf_size: 256,
    id: 5,
};
const SHAPE: MapShape = MapShape {
    objects: 6,
    lines: 14,
    blocks: 8,
    block_size: 128,
};
/// Where the word is that only tells damage from interruption.
const HINT: usize = 64;

/// One change of a key, with events so far before it and when it was durable.
struct Change {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    begun: usize,
    acknowledged: Option<usize>,
    /// The flushes made for it.
    flushes: std::ops::Range<usize>,
}

/// A map's life, written down.
struct Life {
    events: Vec<Event>,
    changes: Vec<Change>,
    start: Vec<u8>,
    /// Flushes and waits that recovery does not need: those of objects that
    /// were given up or replaced in their batch, of lines flushed twice, of the hint, and of opening a map that is durable.
    spare: Vec<Fault>,
    flushes: usize,
    waits: usize,
}

fn file_len() -> usize {
    SHAPE.bytes().unwrap() as usize
}

/// Short and long keys, so that entries have one line or several.
fn key(rng: &mut Rng) -> Vec<u8> {
    let n = rng.below(7);
    format!("/{}{n}", "k".repeat([3, 22, 23, 60][n % 4])).into_bytes()
}

/// `steps` random steps.
fn live(seed: u64, steps: usize, fault: Fault) -> Life {
    let (mut rng, pool) = (Rng(seed), vec![0; 12 * 256]);
    let quiet = trace(Fault::None);
    let nic = Nic::new(file_len(), pool.clone(), 256, &quiet);
    let map = Map::format(
        Recorder::new(vec![0; file_len()], &nic, &quiet),
        SHAPE,
        POOL,
    )
    .unwrap();
    let start = map.into_memory().bytes().to_vec();

    let trace = trace(fault);
    let mut nic = Nic::new(file_len(), pool.clone(), 256, &trace);
    let memory = Recorder::new(start.clone(), &nic, &trace);
    let (mut map, _) = Map::open(memory, POOL, &nic).unwrap();
    let (mut free, mut body): (Vec<u32>, Body) = ((0..12).collect(), Body::new());
    let mut changes: Vec<Change> = Vec::new();
    let now = || trace.lock().unwrap().events.len();
    let flushes = || trace.lock().unwrap().flushes.len();
    let mut spare: Vec<Fault> = (0..trace.lock().unwrap().waits).map(Fault::Wait).collect();
    spare.extend((0..flushes()).map(Fault::Flush));
    let commit = |map: &mut Map<Recorder>, changes: &mut Vec<Change>| {
        map.commit().unwrap();
        for change in changes {
            change.acknowledged.get_or_insert(now());
        }
    };
    for _ in 0..steps {
        match rng.below(12) {
            0..=5 => {
                let (mut bytes, first) = (Vec::new(), flushes());
                for _ in 0..[0, 1, 1, 1, 2, 3, 7][rng.below(7)] {
                    let len = 1 + rng.below(100);
                    let piece = rng.bytes(len);
                    let buf = if rng.below(3) > 0 { free.pop() } else { None };
                    let done = if let Some(buf) = buf {
                        let offset = rng.below(256 - piece.len());
                        nic.receive(buf, offset, &piece);
                        let segment = Segment::packet(buf, offset as u16, piece.len() as u16);
                        map.hold(&mut body, segment, nic.slice(buf, offset, piece.len()))
                    } else {
                        map.copy(&mut body, &piece)
                    };
                    match done {
                        Ok(()) => bytes.extend_from_slice(&piece),
                        Err(Error::Full) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                let (begun, key) = (now(), key(&mut rng));
                if rng.below(10) > 0 && map.put(&key, &mut body).is_ok() {
                    changes.push(Change {
                        key,
                        value: Some(bytes),
                        begun,
                        acknowledged: None,
                        flushes: first..flushes(),
                    });
                } else {
                    map.discard(&mut body);
                    spare.extend((first..flushes()).map(Fault::Flush));
                }
            }
            6..=7 => {
                let (begun, first, key) = (now(), flushes(), key(&mut rng));
                if map.delete(&key) {
                    changes.push(Change {
                        key,
                        value: None,
                        begun,
                        acknowledged: None,
                        flushes: first..flushes(),
                    });
                }
            }
            _ => commit(&mut map, &mut changes),
        }
        for buf in map.freed() {
            let junk = rng.bytes(256);
            nic.receive(buf, 0, &junk);
            free.push(buf);
        }
    }
    commit(&mut map, &mut changes);
    let trace = trace.lock().unwrap();
    spare.extend(trace.spare(HINT));
    // Changes that others replaced before they were acknowledged.
    for (i, change) in changes.iter().enumerate() {
        let later = changes[i + 1..].iter().find(|c| c.key == change.key);
        if later.is_some_and(|later| later.acknowledged == change.acknowledged) {
            spare.extend(change.flushes.clone().map(Fault::Flush));
        }
    }
    Life {
        events: trace.events.clone(),
        changes,
        start: [start, pool].concat(),
        spare,
        flushes: trace.flushes.len(),
        waits: trace.waits,
    }
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(map: &Map<Recorder>, nic: &Nic) -> Contents {
    let value = |entry: netmap_storage::Entry<'_>| {
        let pieces = entry.segments().map(|s| map.payload(s, nic).unwrap());
        pieces.flatten().copied().collect()
    };
    map.iter()
        .map(|entry| (entry.key(), value(entry)))
        .collect()
}

/// A map that was opened on an image, with the trace of that.
struct Opened {
    map: Map<Recorder>,
    nic: Nic,
    events: Vec<Event>,
    contents: Contents,
    held: Vec<u32>,
}

/// Open an image and check it against what is known after `point` events.
fn check(image: &[u8], life: &Life, point: usize) -> Result<Opened, String> {
    let trace = trace(Fault::None);
    let (file, pool) = image.split_at(file_len());
    let nic = Nic::new(file.len(), pool.to_vec(), 256, &trace);
    let memory = Recorder::new(file.to_vec(), &nic, &trace);
    let (map, found) = Map::open(memory, POOL, &nic).map_err(|e| e.to_string())?;
    if !found.damaged.is_empty() {
        return Err(format!("damage: {found}"));
    }
    let contents = contents(&map, &nic);
    let segments = map.iter().flat_map(|entry| entry.segments());
    let mut held: Vec<u32> = segments
        .filter_map(|segment| match segment.place() {
            Place::Packet(buf) => Some(buf),
            Place::Block(_) => None,
        })
        .collect();
    held.sort_unstable();
    held.dedup();
    if held != found.buffers || found.objects != contents.len() as u64 {
        return Err(format!("{found}, but {held:?} are held"));
    }
    let begun = |change: &&Change| change.begun < point;
    for key in contents.keys() {
        if !life.changes.iter().filter(begun).any(|c| c.key == *key) {
            return Err(format!("{key:?} was never put"));
        }
    }
    let keys: Vec<&Vec<u8>> = life.changes.iter().map(|change| &change.key).collect();
    for key in keys {
        // The last acknowledged value, or any that was being made.
        let mut may = vec![None];
        for change in life.changes.iter().filter(begun).filter(|c| c.key == *key) {
            if change.acknowledged.is_some_and(|at| at <= point) {
                may.clear();
            }
            may.push(change.value.as_ref());
        }
        let is = contents.get(key);
        if !may.contains(&is) {
            return Err(format!("{key:?} is {is:?}, none of {may:?}"));
        }
    }
    let events = trace.lock().unwrap().events.clone();
    Ok(Opened {
        map,
        nic,
        events,
        contents,
        held,
    })
}

/// Use what was recovered: everything that is not held is overwritten, keys are
/// replaced, deleted and added, and then all is as it should be.
fn go_on(opened: Opened, rng: &mut Rng) -> Result<(), String> {
    let Opened {
        mut map,
        mut nic,
        contents: mut wanted,
        held,
        ..
    } = opened;
    for buf in (0..12).filter(|buf| !held.contains(buf)) {
        let junk = rng.bytes(256);
        nic.receive(buf, 0, &junk);
    }
    let mut body = Body::new();
    for _ in 0..4 {
        let (key, value) = (key(rng), rng.bytes(20));
        if rng.below(3) == 0 {
            if map.delete(&key) != wanted.remove(&key).is_some() {
                return Err("delete disagrees".into());
            }
        } else if map.copy(&mut body, &value).is_ok() {
            if map.put(&key, &mut body).is_ok() {
                wanted.insert(key, value);
            }
            map.discard(&mut body);
        }
        if rng.below(2) == 0 {
            map.commit().unwrap();
        }
    }
    map.commit().unwrap();
    if contents(&map, &nic) != wanted {
        return Err("after going on, something is missing".into());
    }
    let (map, found) = Map::open(map.into_memory(), POOL, &nic).map_err(|e| e.to_string())?;
    if !found.damaged.is_empty() || found.unfinished > 0 || contents(&map, &nic) != wanted {
        return Err(format!("after going on and opening: {found}"));
    }
    Ok(())
}

/// Every point of a life. Returns the number of images.
fn explore(life: &Life, budget: usize, deep: usize, rng: &mut Rng) -> Result<usize, String> {
    let mut cache = Cache::new(life.start.clone());
    let mut images = 0;
    for point in 0..=life.events.len() {
        if let Some(event) = point.checked_sub(1).map(|i| &life.events[i]) {
            cache.apply(event);
        }
        let mut draw = rng.clone();
        rng.next();
        images += cache.crash(budget, rng, |image| {
            let opened = check(image, life, point).map_err(|e| format!("at {point}: {e}"))?;
            if deep > 0 && draw.below(deep) == 0 {
                // Recovery fails half way as well.
                let mut again = Cache::new(image.to_vec());
                for event in &opened.events {
                    again.apply(event);
                    images += again.crash(6, &mut draw, |image| {
                        let opened = check(image, life, point)?;
                        go_on(opened, &mut Rng(point as u64))
                    })?;
                }
            }
            // Nothing deep is needed to see a fault.
            if deep == 0 {
                return Ok(());
            }
            go_on(opened, &mut draw)
        })?;
        if deep > 0 && rng.below(3) == 0 {
            images += killed(&cache, life, point, rng)?;
        }
    }
    Ok(images)
}

/// The process dies, memory does not; its successor recovers, says what there
/// is; then the power fails.
fn killed(cache: &Cache, life: &Life, point: usize, rng: &mut Rng) -> Result<usize, String> {
    let opened = check(&cache.everything(), life, point)?;
    let mut cache = cache.clone();
    opened.events.iter().for_each(|event| cache.apply(event));
    cache.crash(20, rng, |image| {
        let again = check(image, life, point)?;
        if again.contents != opened.contents {
            return Err("what was reported is lost".into());
        }
        Ok(())
    })
}

#[test]
fn what_was_acknowledged_survives_every_failure() {
    let mut images = 0;
    for seed in 0..4 {
        let life = live(seed, 60, Fault::None);
        images += explore(&life, 48, 16, &mut Rng(seed)).unwrap_or_else(|e| panic!("{seed}: {e}"));
    }
    assert!(images > 50_000, "{images} images");
}

#[test]
fn short_lives_survive_every_failure_there_is() {
    for seed in 20..23 {
        let life = live(seed, 12, Fault::None);
        explore(&life, 512, 16, &mut Rng(seed)).unwrap_or_else(|e| panic!("{seed}: {e}"));
    }
}

#[test]
fn every_flush_and_every_wait_is_needed() {
    for seed in [1, 2] {
        let good = live(seed, 30, Fault::None);
        let faults = (0..good.flushes).map(Fault::Flush);
        let faults = faults.chain((0..good.waits).map(Fault::Wait));
        let needed: Vec<Fault> = faults.filter(|f| !good.spare.contains(f)).collect();
        let unseen: Vec<&Fault> = needed
            .iter()
            .filter(|fault| explore(&live(seed, 30, **fault), 48, 0, &mut Rng(7)).is_ok())
            .collect();
        assert!(unseen.is_empty(), "nobody misses {unseen:?}");
        assert!(needed.len() > 25, "{} needed", needed.len());
    }
}
