// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Recovery of a map.

use std::hash::BuildHasher;
use std::ops::RangeInclusive;

use super::entry::{self, Stored};
use super::root::{self, Pair, Root};
use super::{Map, Slot, DURABLE};
use crate::header::{Header, Kind};
use crate::memory::{u64_at, LINE};
use crate::store::Store;
use crate::{word, Buffers, Damage, Error, Found, Memory, Pool, Segment};

/// See [`Map::open`].
pub(super) fn open<M: Memory>(
    mem: M,
    pool: Pool,
    bufs: &dyn Buffers,
) -> Result<(Map<M>, Found), Error> {
    let header = Header::open(mem.bytes(), Kind::Map, pool)?;
    let durable = header.state(mem.bytes(), DURABLE)?;
    if durable > word::MAX - 3 {
        return Err(Error::Damaged("state words"));
    }
    let mut map = Map::new(Store::new(mem, header), 0);
    // The word may be one batch late. So what was going on is the next batch, or
    // the one after that, of which there is an entry then, if any got through.
    let last = durable + 2;
    let late = map.pairs().any(|(root, pair)| match pair {
        Pair::Newer(_, newer, _) if newer.is_of(last) => {
            let entry = map.named(root, newer);
            entry.is_some_and(|entry| entry.head().batch == last)
        }
        _ => false,
    });

    let mut recovery = Recovery {
        unsure: last - u64::from(!late)..=last,
        lines: vec![false; header.lines as usize],
        found: Found::default(),
    };
    for root in 0..header.roots {
        recovery.root(&mut map, root, bufs);
    }
    // All of them: whoever wrote to one may have died before it flushed that,
    // also a recovery that cleared a word.
    let roots = header.roots as usize * root::BYTES;
    map.store.mem.flush(header.roots_at(), roots);
    let mut found = recovery.found;
    let free = |line: &u32| recovery.lines.get(*line as usize - 1) == Some(&false);
    map.free_lines.extend((1..=header.lines).rev().filter(free));
    map.free_roots.reverse();
    found.buffers = map.store.claimed();
    // First what the word is about: else the next recovery would take for
    // damage what this one has not put right.
    map.store.mem.wait()?;
    map.store.set_state(DURABLE, last);
    map.store.mem.wait()?;
    map.batch = last + 1;
    Ok((map, found))
}

impl<M: Memory> Map<M> {
    /// The words of a root.
    fn words(&self, root: u32) -> [u64; 2] {
        let (mem, at) = (self.store.mem.bytes(), self.root_at(root));
        [u64_at(mem, at), u64_at(mem, at + 8)]
    }

    fn pair(&self, root: u32) -> Pair {
        root::read(self.words(root), self.store.header.seed(root + 1))
    }

    fn pairs(&self) -> impl Iterator<Item = (u32, Pair)> + '_ {
        (0..self.store.header.roots).map(|root| (root, self.pair(root)))
    }

    /// Add a root to the index, as described by `slot`.
    fn insert(&mut self, root: u32, slot: Slot) {
        if let Some(place) = self.slots.get_mut(root as usize) {
            *place = slot;
        }
        let (store, hasher, slots) = (&self.store, &self.hasher, &self.slots);
        let hash = |root: &u32| {
            let slot = slots.get(*root as usize);
            let entry = slot.and_then(|s| Stored::new(store.mem.bytes(), &store.header, s.line));
            entry.map_or(0, |entry| hasher.hash_one(entry.key().as_slice()))
        };
        self.index.insert_unique(hash(&root), root, hash);
    }

    fn stored(&self, line: u32) -> Option<Stored<'_>> {
        Stored::new(self.store.mem.bytes(), &self.store.header, line)
    }

    /// The entry that a word of a root names, if it is whole. A line that did not
    /// get through may still have an older entry of the same root, which is of
    /// another batch.
    fn named(&self, root: u32, word: Root) -> Option<Stored<'_>> {
        let entry = self.stored(word.line)?;
        (entry.valid(root, self.seed) && word.is_of(entry.head().batch)).then_some(entry)
    }
}

struct Recovery {
    /// The batches that a failure may have interrupted.
    unsure: RangeInclusive<u64>,
    /// Lines in use.
    lines: Vec<bool>,
    found: Found,
}

impl Recovery {
    fn root<M: Memory>(&mut self, map: &mut Map<M>, root: u32, bufs: &dyn Buffers) {
        let (place, newer, older) = match map.pair(root) {
            Pair::Empty => return map.free_roots.push(root),
            Pair::Damaged => return self.unreadable(root),
            Pair::Newer(place, newer, older) => (place, newer, older),
        };
        let unsure = self.unsure(map, root, newer);
        if newer.line == 0 {
            self.gone(map, root, place);
        } else if self.intact(map, root, newer, bufs) {
            self.keep(map, root, (place, newer), unsure, bufs);
        } else if unsure {
            self.found.unfinished += 1;
            match older.filter(|older| older.line != 0) {
                None => self.gone(map, root, place ^ 1),
                Some(older) if self.intact(map, root, older, bufs) => {
                    self.keep(map, root, (place ^ 1, older), false, bufs);
                }
                Some(older) => self.damaged(map, root, place ^ 1, older),
            }
            // What was never finished must not come up again.
            let at = map.root_at(root) + 8 * place;
            map.store.mem.store(at, 0);
        } else {
            self.damaged(map, root, place, newer);
        }
    }

    /// A failure may have interrupted the writing of this word and its entry. Words
    /// have the low bits of their batch only; an entry has all of them.
    fn unsure<M: Memory>(&self, map: &Map<M>, root: u32, word: Root) -> bool {
        if !self.unsure.clone().any(|batch| word.is_of(batch)) {
            return false;
        }
        let entry = map.named(root, word);
        entry.is_none_or(|entry| self.unsure.contains(&entry.head().batch))
    }

    /// The root has no object. The word in `place` says so, and stays.
    fn gone<M: Memory>(&mut self, map: &mut Map<M>, root: u32, place: usize) {
        if let Some(slot) = map.slots.get_mut(root as usize) {
            slot.place = place as u8;
        }
        map.free_roots.push(root);
    }

    /// Both the entry and the bytes of its value are what was stored.
    fn intact<M: Memory>(&self, map: &Map<M>, root: u32, word: Root, bufs: &dyn Buffers) -> bool {
        let Some(entry) = map.named(root, word) else {
            return false;
        };
        let lines = &self.lines;
        let unused = |line: u32| lines.get(line as usize - 1) == Some(&false);
        entry.chain().all(unused) && map.store.intact(entry.segments(), entry.head().crc, bufs)
    }

    fn keep<M: Memory>(
        &mut self,
        map: &mut Map<M>,
        root: u32,
        (place, word): (usize, Root),
        unsure: bool,
        bufs: &dyn Buffers,
    ) {
        let Some(entry) = map.stored(word.line) else {
            return;
        };
        self.found.objects += 1;
        self.found.bytes += entry.segments().map(|s| u64::from(s.len)).sum::<u64>();
        let (chain, segments) = self.claim(map, word.line);
        if unsure {
            for line in chain {
                map.store.mem.flush(entry::at(line), LINE);
            }
            for &segment in &segments {
                map.store.flush_again(segment, bufs);
            }
        }
        let slot = Slot {
            line: word.line,
            place: place as u8,
            ..Slot::default()
        };
        map.insert(root, slot);
    }

    /// Mark the lines, buffers and blocks of an entry as taken.
    fn claim<M: Memory>(&mut self, map: &mut Map<M>, line: u32) -> (Vec<u32>, Vec<Segment>) {
        let Some(entry) = map.stored(line) else {
            return Default::default();
        };
        let chain: Vec<u32> = entry.chain().collect();
        let segments: Vec<Segment> = entry.segments().collect();
        for line in &chain {
            if let Some(used) = self.lines.get_mut(*line as usize - 1) {
                *used = true;
            }
        }
        for &segment in &segments {
            map.store.claim(segment);
        }
        (chain, segments)
    }

    /// An acknowledged object is damaged: if its entry can be read, its key can
    /// be put again or deleted.
    fn damaged<M: Memory>(&mut self, map: &mut Map<M>, root: u32, place: usize, word: Root) {
        let Some(entry) = map.named(root, word) else {
            return self.unreadable(root);
        };
        let key = Some(entry.key());
        self.claim(map, word.line);
        map.damaged += 1;
        let slot = Slot {
            line: word.line,
            place: place as u8,
            fresh: false,
            damaged: true,
        };
        map.insert(root, slot);
        self.found.damaged.push(Damage::Object { root, key });
    }

    /// Nothing can be said about an acknowledged object. Its root is left alone.
    fn unreadable(&mut self, root: u32) {
        self.found.damaged.push(Damage::Object { root, key: None });
    }
}
