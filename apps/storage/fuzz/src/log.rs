// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A log beside a queue, with failures at any point.

use std::collections::VecDeque;

use netmap_storage::{Body, Found, Heap, Log, LogShape, Memory, Seq};

use crate::model::{Nic, Recorder};
use crate::world::{packets, Books, World, BUFFERS, POOL};

const SHAPE: LogShape = LogShape {
    lines: 12,
    blocks: 8,
    block_size: 128,
};

type Objects = VecDeque<(Seq, Vec<u8>)>;

/// What the log's user knows.
#[derive(Clone, Default)]
struct Known {
    /// Dropped in this batch.
    dropped: Objects,
    /// Not dropped.
    objects: Objects,
    /// So many of them were acknowledged.
    sure: usize,
}

impl Known {
    /// Panics unless a failure may leave these objects.
    fn allows(&self, found: &Objects) {
        let without = |dropped: &Objects| {
            let all: Vec<_> = dropped.iter().chain(&self.objects).collect();
            let least = dropped.len() + self.sure;
            (least..=all.len()).contains(&found.len())
                && found.iter().eq(all[..found.len()].iter().copied())
        };
        let known = (&self.dropped, &self.objects, self.sure);
        let fine = without(&self.dropped) || without(&Objects::new());
        assert!(fine, "{found:?} after {known:?}");
    }

    /// Everything is durable.
    fn commit(&mut self) {
        self.dropped.clear();
        self.sure = self.objects.len();
    }
}

fn objects(log: &Log<Recorder>, nic: &Nic) -> Objects {
    let objects = log.objects();
    objects
        .map(|object| (object.seq(), log.value(object.segments(), nic)))
        .collect()
}

/// What recovery says is what there is, and nothing is damaged. Returns that.
fn checked(log: &Log<Recorder>, found: &Found, nic: &Nic) -> Objects {
    assert!(found.damaged.is_empty(), "{found}");
    let objects = objects(log, nic);
    assert_eq!(found.objects, objects.len() as u64);
    let bytes: usize = objects.iter().map(|object| object.1.len()).sum();
    assert_eq!(found.bytes, bytes as u64);
    let held: Vec<_> = log
        .objects()
        .flat_map(|o| o.segments().collect::<Vec<_>>())
        .collect();
    assert_eq!(found.buffers, packets(held.into_iter()));
    objects
}

/// Any life of a log.
pub fn log(data: &[u8]) {
    let memory = Heap::new(SHAPE.bytes().unwrap() as usize);
    let log = Log::format(memory, SHAPE, POOL).unwrap();
    let (mut world, memory) = World::new(data, log.into_memory().bytes());
    let (mut log, _) = <Log<Recorder> as Books>::open(memory, &world.nic).unwrap();
    let mut body = Body::new();
    let mut known = Known::default();
    // The same before the last step, if that made anything durable.
    let mut before = None;
    while !world.input.is_empty() {
        let step = world.below(16);
        if step >= 13 {
            let (memory, over) = match step {
                13 if log.commit().is_ok() => {
                    known.commit();
                    world.settle();
                    (log.memory(), true)
                }
                _ => world.fail(step > 14),
            };
            if !over {
                known = before.take().unwrap_or(known);
            }
            let (opened, found) = Log::open(memory, POOL, &world.nic).unwrap();
            log = opened;
            let objects = checked(&log, &found, &world.nic);
            known.allows(&objects);
            world.claim(&found.buffers);
            before = Some(known);
            known = Known {
                objects,
                ..Known::default()
            };
            known.commit();
            continue;
        }
        world.settle();
        before = None;
        match step {
            0..=6 => {
                let bytes = world.receive(&mut log, &mut body);
                let wanted = world.below(8) < 7;
                match wanted.then(|| log.append(&mut body)) {
                    Some(Ok(seq)) => known.objects.push_back((seq, bytes)),
                    _ => log.discard(&mut body),
                }
            }
            7..=8 => {
                let dropped = log.drop_oldest();
                assert_eq!(dropped.is_some(), known.sure > 0);
                if known.sure > 0 {
                    known.sure -= 1;
                    known.dropped.extend(known.objects.pop_front());
                }
                assert_eq!(
                    dropped,
                    dropped.and(known.dropped.back().map(|object| object.0))
                );
            }
            9 => {
                // For the next batch.
                let lines = world.below(SHAPE.lines as usize + 1) as u64;
                log.make_room(lines);
                while known.sure > 0 && log.get(known.objects[0].0).is_none() {
                    known.sure -= 1;
                    known.dropped.extend(known.objects.pop_front());
                }
            }
            _ => {
                let old = known.clone();
                log.commit().unwrap();
                known.commit();
                before = Some(old);
            }
        }
        world.reuse(&mut log);
        assert_eq!(objects(&log, &world.nic), known.objects);
    }
    // Nothing leaks.
    log.commit().unwrap();
    log.truncate(Seq::MAX);
    log.commit().unwrap();
    world.reuse(&mut log);
    assert_eq!(world.free(), BUFFERS as usize);
    assert_eq!(log.free_blocks(), SHAPE.blocks as usize);
    assert_eq!(log.free_lines(), u64::from(SHAPE.lines));
}
