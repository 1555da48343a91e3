// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A map beside one of the standard library, with failures at any point.

use std::collections::BTreeMap;

use netmap_storage::{Body, Found, Heap, Map, MapShape, Memory};

use crate::model::{Nic, Recorder};
use crate::world::{packets, Books, World, BUFFERS, POOL};

const SHAPE: MapShape = MapShape {
    objects: 6,
    lines: 14,
    blocks: 8,
    block_size: 128,
};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the map's user knows to be durable, and what may be.
#[derive(Clone, Default)]
struct Known {
    sure: Contents,
    maybe: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Known {
    /// Panics unless a failure may leave these contents.
    fn allows(&self, contents: &Contents) {
        let changed = self.maybe.iter().map(|(key, _)| key);
        for key in contents.keys().chain(self.sure.keys()).chain(changed) {
            let is = contents.get(key);
            let maybe = self.maybe.iter().filter(|change| change.0 == *key);
            let fine = is == self.sure.get(key) || maybe.map(|c| c.1.as_ref()).any(|v| v == is);
            assert!(fine, "{key:?} is {is:?}");
        }
    }
}

fn contents(map: &Map<Recorder>, nic: &Nic) -> Contents {
    let entries = map.iter();
    entries
        .map(|entry| (entry.key(), map.value(entry.segments(), nic)))
        .collect()
}

/// Short and long keys, so that entries have one line or several.
fn key(n: usize) -> Vec<u8> {
    format!("/{}{n}", "k".repeat([3, 22, 23, 60][n % 4])).into_bytes()
}

/// What recovery says is what there is, and nothing is damaged. Returns that.
fn checked(map: &Map<Recorder>, found: &Found, nic: &Nic) -> Contents {
    assert!(found.damaged.is_empty(), "{found}");
    let contents = contents(map, nic);
    assert_eq!(found.objects, contents.len() as u64);
    let bytes: usize = contents.values().map(Vec::len).sum();
    assert_eq!(found.bytes, bytes as u64);
    let segments = map.iter().flat_map(|entry| entry.segments());
    assert_eq!(found.buffers, packets(segments));
    contents
}

/// Any life of a map.
pub fn map(data: &[u8]) {
    let memory = Heap::new(SHAPE.bytes().unwrap() as usize);
    let map = Map::format(memory, SHAPE, POOL).unwrap();
    let (mut world, memory) = World::new(data, map.into_memory().bytes());
    let (mut map, _) = <Map<Recorder> as Books>::open(memory, &world.nic).unwrap();
    let (mut body, mut view) = (Body::new(), Contents::new());
    let mut known = Known::default();
    // The same before the last step, if that changed it.
    let mut before = None;
    while !world.input.is_empty() {
        let step = world.below(16);
        if step >= 13 {
            let (memory, over) = match step {
                13 if map.commit().is_ok() => {
                    known.maybe.clear();
                    known.sure = view;
                    world.settle();
                    (map.memory(), true)
                }
                _ => world.fail(step > 14),
            };
            if !over {
                known = before.take().unwrap_or(known);
            }
            let (opened, found) = Map::open(memory, POOL, &world.nic).unwrap();
            map = opened;
            view = checked(&map, &found, &world.nic);
            known.allows(&view);
            world.claim(&found.buffers);
            let sure = view.clone();
            before = Some(std::mem::replace(
                &mut known,
                Known {
                    sure,
                    ..Known::default()
                },
            ));
            continue;
        }
        world.settle();
        before = None;
        let key = key(world.below(7));
        match step {
            0..=6 => {
                let value = world.receive(&mut map, &mut body);
                if world.below(8) < 7 && map.put(&key, &mut body).is_ok() {
                    known.maybe.push((key.clone(), Some(value.clone())));
                    view.insert(key, value);
                } else {
                    map.discard(&mut body);
                }
            }
            7..=9 => {
                assert_eq!(map.delete(&key), view.remove(&key).is_some());
                known.maybe.push((key, None));
            }
            _ => {
                map.commit().unwrap();
                let sure = view.clone();
                before = Some(std::mem::replace(
                    &mut known,
                    Known {
                        sure,
                        ..Known::default()
                    },
                ));
            }
        }
        world.reuse(&mut map);
        assert_eq!(contents(&map, &world.nic), view);
        assert_eq!(map.len(), view.len());
    }
    // Nothing leaks.
    for key in view.keys() {
        assert!(map.delete(key));
    }
    map.commit().unwrap();
    world.reuse(&mut map);
    assert_eq!(world.free(), BUFFERS as usize);
    assert_eq!(map.free_blocks(), SHAPE.blocks as usize);
    assert_eq!(map.free_lines(), SHAPE.lines as usize);
}
