// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Recovery of memory that lost bits, and of any memory at all.

use std::collections::BTreeMap;

use netmap_storage::{Body, Damage, Error, Found, Heap, Log, LogShape, Map, MapShape, Memory};

use crate::forge::Forge;
use crate::model::{trace, Event, Fault, Nic, Recorder, Shared};
use crate::world::{Books, World, BUFFER, BUFFERS, POOL};

const LOG: LogShape = LogShape {
    lines: 12,
    blocks: 8,
    block_size: 128,
};
const MAP: MapShape = MapShape {
    objects: 6,
    lines: 14,
    blocks: 8,
    block_size: 128,
};
const LINES: usize = 4096;

/// Objects by key, or by the number of their record.
type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// A kind of store, as this test uses it.
trait Kind: Books {
    /// Bytes of lines, and of roots behind them.
    const SIZES: (usize, usize);
    fn format() -> Vec<u8>;
    /// Store an object under one of a few keys. False: it is full.
    fn add(&mut self, body: &mut Body, key: usize) -> Option<Vec<u8>>;
    fn drop_body(&mut self, body: &mut Body);
    fn sync(&mut self);
    fn contents(&self, nic: &Nic) -> Contents;
    fn clear(&mut self);
    /// Everything that is neither there nor changed since was reported.
    fn told(missing: &[&Vec<u8>], there: &Contents, found: &Found) -> bool;
}

impl Kind for Log<Recorder> {
    const SIZES: (usize, usize) = (12 * 64, 0);

    fn format() -> Vec<u8> {
        let memory = Heap::new(LOG.bytes().unwrap() as usize);
        let log = Log::format(memory, LOG, POOL).unwrap();
        log.into_memory().bytes().to_vec()
    }

    fn add(&mut self, body: &mut Body, _key: usize) -> Option<Vec<u8>> {
        Some(self.append(body).ok()?.to_be_bytes().to_vec())
    }

    fn drop_body(&mut self, body: &mut Body) {
        self.discard(body);
    }

    fn sync(&mut self) {
        self.commit().unwrap();
    }

    fn contents(&self, nic: &Nic) -> Contents {
        let objects = self.objects();
        objects
            .map(|object| {
                let key = object.seq().to_be_bytes().to_vec();
                (key, self.value(object.segments(), nic))
            })
            .collect()
    }

    fn clear(&mut self) {
        self.truncate(u64::MAX);
    }

    fn told(missing: &[&Vec<u8>], there: &Contents, found: &Found) -> bool {
        let damaged: Vec<Vec<u8>> = found
            .damaged
            .iter()
            .map(|damage| match damage {
                Damage::Line(seq) => seq.to_be_bytes().to_vec(),
                other => panic!("{other:?} in a log"),
            })
            .collect();
        // Damage goes on to the next object that is whole.
        missing.iter().all(|key| {
            let from = damaged.iter().filter(|from| from <= key).max();
            from.is_some_and(|from| there.range(from.clone()..=key.to_vec()).next().is_none())
        })
    }
}

impl Kind for Map<Recorder> {
    const SIZES: (usize, usize) = (14 * 64, 6 * 16);

    fn format() -> Vec<u8> {
        let memory = Heap::new(MAP.bytes().unwrap() as usize);
        let map = Map::format(memory, MAP, POOL).unwrap();
        map.into_memory().bytes().to_vec()
    }

    fn add(&mut self, body: &mut Body, key: usize) -> Option<Vec<u8>> {
        let key = format!("/{}{key}", "k".repeat([3, 22, 23, 60][key % 4])).into_bytes();
        self.put(&key, body).ok()?;
        Some(key)
    }

    fn drop_body(&mut self, body: &mut Body) {
        self.discard(body);
    }

    fn sync(&mut self) {
        self.commit().unwrap();
    }

    fn contents(&self, nic: &Nic) -> Contents {
        let entries = self.iter();
        entries
            .map(|entry| (entry.key(), self.value(entry.segments(), nic)))
            .collect()
    }

    fn clear(&mut self) {
        for key in self.iter().map(|entry| entry.key()).collect::<Vec<_>>() {
            self.delete(&key);
        }
    }

    fn told(missing: &[&Vec<u8>], _there: &Contents, found: &Found) -> bool {
        let (mut named, mut nameless) = (Vec::new(), 0);
        for damage in &found.damaged {
            match damage {
                Damage::Object { key: Some(key), .. } => named.push(key),
                Damage::Object { key: None, .. } => nameless += 1,
                other => panic!("{other:?} in a map"),
            }
        }
        let unnamed = missing.iter().filter(|key| !named.contains(key));
        unnamed.count() <= nameless
    }
}

/// What a store's user knows.
#[derive(Default)]
struct Known {
    sure: Contents,
    /// Of the batch that was going on.
    maybe: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A life without failures, and the memory after it.
fn live<K: Kind>(world: &mut World<'_>, memory: Recorder) -> (Vec<u8>, Known) {
    let (mut books, _) = K::open(memory, &world.nic).unwrap();
    let (mut body, mut known) = (Body::new(), Known::default());
    for _ in 0..world.below(12) {
        let bytes = world.receive(&mut books, &mut body);
        let key = world.below(7);
        match books.add(&mut body, key) {
            Some(key) => known.maybe.push((key, bytes)),
            None => books.drop_body(&mut body),
        }
        if world.below(3) > 0 {
            books.sync();
            known.sure.extend(known.maybe.drain(..));
        }
        world.reuse(&mut books);
    }
    (books.memory().bytes().to_vec(), known)
}

/// Open an image. Returns what was written meanwhile, too.
fn open<K: Kind>(file: &[u8], pool: &[u8]) -> (Shared, Nic, Result<(K, Found), Error>) {
    let trace = trace(Fault::None);
    let nic = Nic::new(file.len(), pool.to_vec(), BUFFER, &trace);
    let opened = K::open(Recorder::new(file.to_vec(), &nic, &trace), &nic);
    (trace, nic, opened)
}

/// Panics if recovery wrote anything but what it says: state words, the first
/// word of unfinished lines, words of unfinished roots.
fn confined(trace: &Shared, opened: bool, (lines, roots): (usize, usize)) {
    for event in &trace.lock().unwrap().events {
        let Event::Write(at, bytes) = event else {
            continue;
        };
        let erased = bytes[..] == [0; 8] && *at >= LINES && *at < LINES + lines + roots;
        let of_log = erased && roots == 0 && at % 64 == 0;
        let of_map = erased && roots > 0 && *at >= LINES + lines && at % 8 == 0;
        let state = (64..80).contains(at) && bytes.len() == 8;
        assert!(opened && (state || of_log || of_map), "a store to {at}");
    }
}

/// Use what was opened: nothing that is there may be overwritten.
fn go_on<K: Kind>(mut books: K, mut nic: Nic, found: &Found, file: usize) {
    let before = books.contents(&nic);
    let mut free: Vec<u32> = (0..BUFFERS)
        .filter(|buf| !found.buffers.contains(buf))
        .collect();
    for &buf in &free {
        nic.receive(buf, 0, &[0xee; BUFFER]);
    }
    let (mut body, mut added) = (Body::new(), Contents::new());
    for n in 0u8..20 {
        let held = if n % 2 == 0 { free.pop() } else { None };
        let done = match held {
            Some(buf) => {
                nic.receive(buf, 7, &[n; 30]);
                let segment = netmap_storage::Segment::packet(buf, 7, 30);
                books.hold(&mut body, segment, nic.slice(buf, 7, 30))
            }
            None => books.copy(&mut body, &[n; 30]),
        };
        // Keys that were not used before, where there are keys.
        match done
            .ok()
            .and_then(|()| books.add(&mut body, 100 + usize::from(n)))
        {
            Some(key) => drop(added.insert(key, vec![n; 30])),
            None => books.drop_body(&mut body),
        }
    }
    books.sync();
    let pool = nic.bytes.clone();
    let image = books.memory().bytes().to_vec();
    assert_eq!(image.len(), file);
    let (_, nic, opened) = open::<K>(&image, &pool);
    let (mut books, again) = opened.unwrap();
    assert_eq!(again.damaged, found.damaged);
    assert_eq!(again.unfinished, 0);
    let mut wanted = before;
    wanted.extend(added);
    assert_eq!(books.contents(&nic), wanted);
    books.clear();
    books.sync();
    assert!(books.contents(&nic).is_empty());
}

/// Flipped bits, lost lines and buffers, a cut file: at most one to a line, as
/// more can get past 8 bits of checksum.
fn wear<K: Kind>(world: &mut World<'_>, file: &mut Vec<u8>, pool: &mut [u8]) {
    let mut worn = Vec::new();
    for _ in 0..world.below(4) {
        let bit = world.below((file.len() + pool.len()) * 8);
        let at = bit / 8;
        if worn.contains(&(at / 64)) {
            continue;
        }
        worn.push(at / 64);
        let whole = world.below(4) == 0;
        let line = LINES..LINES + K::SIZES.0;
        match at.checked_sub(file.len()) {
            Some(at) if whole => pool[at / BUFFER * BUFFER..][..BUFFER].fill(0xee),
            Some(at) => pool[at] ^= 1 << (bit % 8),
            None if whole && line.contains(&at) => file[at / 64 * 64..][..64].fill(0),
            None => file[at] ^= 1 << (bit % 8),
        }
    }
    if world.below(16) == 15 {
        let end = world.below(file.len());
        // The model's memory has whole lines.
        file.truncate(end / 64 * 64);
    }
}

fn worn<K: Kind>(world: &mut World<'_>, memory: Recorder) {
    let (good, known) = live::<K>(world, memory);
    let (mut file, mut pool) = (good.clone(), world.nic.bytes.clone());
    wear::<K>(world, &mut file, &mut pool);
    let (trace, nic, opened) = open::<K>(&file, &pool);
    confined(&trace, opened.is_ok(), K::SIZES);
    let (books, found) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let head = good.get(..80) != file.get(..80);
            assert!(head || file.len() < good.len(), "{error}");
            return;
        }
    };
    let there = books.contents(&nic);
    for (key, value) in &there {
        let maybe = known.maybe.iter().any(|(k, v)| (k, v) == (key, value));
        assert!(
            maybe || known.sure.get(key) == Some(value),
            "{key:?} is {value:?}"
        );
    }
    let missing: Vec<&Vec<u8>> = known
        .sure
        .keys()
        .filter(|key| !there.contains_key(*key))
        .collect();
    assert!(
        K::told(&missing, &there, &found),
        "{missing:?} are missing: {found:?}"
    );
    if (&good, &world.nic.bytes) == (&file, &pool) {
        assert!(found.damaged.is_empty(), "{found:?}");
    }
    go_on(books, nic, &found, file.len());
}

/// Anything is written to the file, with right checksums.
fn forged<K: Kind>(world: &mut World<'_>, memory: Recorder) {
    let (mut file, _) = live::<K>(world, memory);
    for _ in 0..8 {
        if world.input.is_empty() || Forge(&mut file).change(&mut world.input).is_err() {
            break;
        }
    }
    let (trace, nic, opened) = open::<K>(&file, &world.nic.bytes);
    if let Ok((books, found)) = opened {
        safe(books, nic, &found);
    } else {
        confined(&trace, false, K::SIZES);
    }
}

/// All that can be said of what may contradict itself: it can be read and used.
fn safe<K: Kind>(mut books: K, nic: Nic, found: &Found) {
    let contents = books.contents(&nic);
    assert!(contents.len() as u64 <= found.objects);
    assert!(found.buffers.iter().all(|buf| *buf < BUFFERS));
    let mut body = Body::new();
    for n in 0..4 {
        let _ = books.copy(&mut body, &[n; 50]);
        if books.add(&mut body, usize::from(n)).is_none() {
            books.drop_body(&mut body);
        }
        books.sync();
    }
    books.clear();
    books.sync();
    books.freed();
    let (_, nic, opened) = open::<K>(books.memory().bytes(), &nic.bytes);
    if let Ok((books, _)) = opened {
        books.contents(&nic);
    }
}

/// Any bytes at all.
fn noise<K: Kind>(data: &[u8]) {
    let mut file = data.to_vec();
    file.resize(data.len().next_multiple_of(64), 0);
    let (trace, nic, opened) = open::<K>(&file, &[0; BUFFERS as usize * BUFFER]);
    confined(&trace, opened.is_ok(), (file.len(), 0));
    if let Ok((books, found)) = opened {
        safe(books, nic, &found);
    }
}

/// Recovery of a store that was damaged, or forged, or never was one.
pub fn damage(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => {
            noise::<Log<Recorder>>(rest);
            noise::<Map<Recorder>>(rest);
        }
        Some((n, rest)) if n % 2 == 0 => {
            let (mut world, memory) = World::new(rest, &<Log<Recorder> as Kind>::format());
            match n % 4 {
                0 => worn::<Log<Recorder>>(&mut world, memory),
                _ => forged::<Log<Recorder>>(&mut world, memory),
            }
        }
        Some((n, rest)) => {
            let (mut world, memory) = World::new(rest, &<Map<Recorder> as Kind>::format());
            match n % 4 {
                1 => worn::<Map<Recorder>>(&mut world, memory),
                _ => forged::<Map<Recorder>>(&mut world, memory),
            }
        }
        None => {}
    }
}
