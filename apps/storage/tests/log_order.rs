// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Power failures at every point of a log's life, in the model of a cache.

mod model;

use model::{trace, Cache, Event, Fault, Nic, Recorder, Rng};
use netmap_storage::{Body, Error, Log, LogShape, Pool, Segment, Seq};

const POOL: Pool = Pool {
    buffers: 12,
    buf_size: 256,
    id: 5,
};
const SHAPE: LogShape = LogShape {
    lines: 12,
    blocks: 8,
    block_size: 128,
};

/// Where the word is that only tells damage from interruption.
const HINT: usize = 72;

/// What the model's user knows of an object.
struct Object {
    seq: Seq,
    bytes: Vec<u8>,
    /// Events so far when it was about to be appended, and so on.
    begun: usize,
    acknowledged: Option<usize>,
    dropped: Option<usize>,
    gone: Option<usize>,
}

/// A log's life, written down.
struct Life {
    events: Vec<Event>,
    objects: Vec<Object>,
    start: Vec<u8>,
    /// Flushes and waits that recovery does not need: those of objects that
    /// were given up, of lines flushed twice, of the hint, and of opening a log that is durable.
    spare: Vec<Fault>,
    flushes: usize,
    waits: usize,
}

fn file_len() -> usize {
    SHAPE.bytes().unwrap() as usize
}

/// `steps` random steps.
fn live(seed: u64, steps: usize, fault: Fault) -> Life {
    let (mut rng, pool) = (Rng(seed), vec![0; 12 * 256]);
    let quiet = trace(Fault::None);
    let nic = Nic::new(file_len(), pool.clone(), 256, &quiet);
    let log = Log::format(
        Recorder::new(vec![0; file_len()], &nic, &quiet),
        SHAPE,
        POOL,
    )
    .unwrap();
    let start = log.into_memory();
    let start = netmap_storage::Memory::bytes(&start).to_vec();

    let trace = trace(fault);
    let mut nic = Nic::new(file_len(), pool.clone(), 256, &trace);
    let memory = Recorder::new(start.clone(), &nic, &trace);
    let (mut log, _) = Log::open(memory, POOL, &nic).unwrap();
    let (mut free, mut body): (Vec<u32>, Body) = ((0..12).collect(), Body::new());
    let mut objects: Vec<Object> = Vec::new();
    let now = || trace.lock().unwrap().events.len();
    let flushes = || trace.lock().unwrap().flushes.len();
    let mut spare: Vec<Fault> = (0..trace.lock().unwrap().waits).map(Fault::Wait).collect();
    spare.extend((0..flushes()).map(Fault::Flush));
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
                        log.hold(&mut body, segment, nic.slice(buf, offset, piece.len()))
                    } else {
                        log.copy(&mut body, &piece)
                    };
                    match done {
                        Ok(()) => bytes.extend_from_slice(&piece),
                        Err(Error::Full) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                let begun = now();
                let seq = if rng.below(10) > 0 {
                    log.append(&mut body).ok()
                } else {
                    None
                };
                if let Some(seq) = seq {
                    objects.push(Object {
                        seq,
                        bytes,
                        begun,
                        acknowledged: None,
                        dropped: None,
                        gone: None,
                    });
                } else {
                    log.discard(&mut body);
                    spare.extend((first..flushes()).map(Fault::Flush));
                }
            }
            6..=7 => {
                let before = now();
                if let Some(seq) = log.drop_oldest() {
                    let object = objects.iter_mut().find(|o| o.seq == seq).unwrap();
                    object.dropped = Some(before);
                }
            }
            _ => commit(&mut log, &mut objects, &now),
        }
        // What is free is written to again at once.
        for buf in log.freed() {
            let junk = rng.bytes(256);
            nic.receive(buf, 0, &junk);
            free.push(buf);
        }
    }
    commit(&mut log, &mut objects, &now);
    let trace = trace.lock().unwrap();
    spare.extend(trace.spare(HINT));
    Life {
        events: trace.events.clone(),
        objects,
        start: [start, pool].concat(),
        spare,
        flushes: trace.flushes.len(),
        waits: trace.waits,
    }
}

fn commit(log: &mut Log<Recorder>, objects: &mut [Object], now: &impl Fn() -> usize) {
    log.commit().unwrap();
    for object in objects {
        object.acknowledged.get_or_insert(now());
        if object.dropped.is_some() {
            object.gone.get_or_insert(now());
        }
    }
}

/// A log that was opened on an image, with the trace of that.
struct Opened {
    log: Log<Recorder>,
    nic: Nic,
    events: Vec<Event>,
    seqs: Vec<Seq>,
    held: Vec<u32>,
}

/// Open an image and check it against what is known after `point` events.
fn check(image: &[u8], life: &Life, point: usize) -> Result<Opened, String> {
    let trace = trace(Fault::None);
    let (file, pool) = image.split_at(file_len());
    let nic = Nic::new(file.len(), pool.to_vec(), 256, &trace);
    let memory = Recorder::new(file.to_vec(), &nic, &trace);
    let (log, found) = Log::open(memory, POOL, &nic).map_err(|e| e.to_string())?;
    if !found.damaged.is_empty() {
        return Err(format!("damage: {found}"));
    }
    let mut seqs = Vec::new();
    let mut held = Vec::new();
    for object in log.objects() {
        let mut bytes = Vec::new();
        for segment in object.segments() {
            bytes.extend_from_slice(log.payload(segment, &nic).unwrap());
            if let netmap_storage::Place::Packet(buf) = segment.place() {
                held.push(buf);
            }
        }
        let known = life.objects.iter().find(|o| o.seq == object.seq());
        let known = known.ok_or(format!("object {} was never appended", object.seq()))?;
        if known.begun >= point || known.gone.is_some_and(|gone| gone <= point) {
            return Err(format!("object {} is there", known.seq));
        }
        if bytes != known.bytes {
            return Err(format!("object {} has other bytes", known.seq));
        }
        seqs.push(known.seq);
    }
    held.sort_unstable();
    held.dedup();
    if held != found.buffers || found.objects != seqs.len() as u64 {
        return Err(format!("{found}, but {held:?} are held by {seqs:?}"));
    }
    let mut ended = false;
    for object in &life.objects {
        let there = seqs.contains(&object.seq);
        let must = object.acknowledged.is_some_and(|at| at <= point)
            && object.dropped.is_none_or(|at| at > point);
        if must && !there {
            return Err(format!("object {} is lost", object.seq));
        }
        if there && ended {
            return Err(format!("object {} without its predecessor", object.seq));
        }
        ended |= !there && object.dropped.is_none() && object.begun < point;
    }
    let events = trace.lock().unwrap().events.clone();
    Ok(Opened {
        log,
        nic,
        events,
        seqs,
        held,
    })
}

/// Use what was recovered: everything that is not held is overwritten, a new
/// object is appended, and then all is there and in order.
fn go_on(opened: Opened, life: &Life, rng: &mut Rng) -> Result<(), String> {
    let Opened {
        mut log,
        mut nic,
        seqs,
        held,
        ..
    } = opened;
    let mut new = Vec::new();
    for buf in (0..12).filter(|buf| !held.contains(buf)) {
        let junk = rng.bytes(256);
        nic.receive(buf, 0, &junk);
    }
    let mut body = Body::new();
    for bytes in [rng.bytes(9), rng.bytes(200)] {
        match log.copy(&mut body, &bytes) {
            Ok(()) => {}
            Err(Error::Full) => continue,
            Err(other) => return Err(other.to_string()),
        }
        if let Ok(seq) = log.append(&mut body) {
            new.push((seq, bytes));
        }
        log.discard(&mut body);
    }
    log.commit().unwrap();
    let (log, found) = Log::open(log.into_memory(), POOL, &nic).map_err(|e| e.to_string())?;
    if !found.damaged.is_empty() || found.unfinished > 0 {
        return Err(format!("after going on: {found}"));
    }
    let old = seqs.iter().map(|seq| {
        let object = life.objects.iter().find(|o| o.seq == *seq).unwrap();
        (*seq, object.bytes.clone())
    });
    let wanted: Vec<_> = old.chain(new).collect();
    let there: Vec<_> = log
        .objects()
        .map(|object| {
            let bytes = object
                .segments()
                .flat_map(|s| log.payload(s, &nic).unwrap().to_vec());
            (object.seq(), bytes.collect())
        })
        .collect();
    if wanted != there {
        return Err("after going on, something is missing".into());
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
                        go_on(opened, life, &mut Rng(point as u64))
                    })?;
                }
            }
            // Nothing deep is needed to see a fault.
            if deep == 0 {
                return Ok(());
            }
            go_on(opened, life, &mut draw)
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
        if again.seqs != opened.seqs {
            return Err(format!("{:?} after {:?}", again.seqs, opened.seqs));
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
