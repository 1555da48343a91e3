// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A map from keys to objects whose bytes stay in packet buffers, or are copied.
//!
//! What has to survive is a root per object and an entry that it names, both
//! changed so that one wait makes a whole batch durable (root). Where a key is
//! found is kept in ordinary memory: recovery has to read every entry anyway,
//! to know which packet buffers to hold, and makes the index on its way. So a
//! change costs a line for the entry, one for the root, and no tree.

mod entry;
mod recover;
mod root;

use std::hash::{BuildHasher, RandomState};

use hashbrown::hash_table::Entry as Place;
use hashbrown::HashTable;

pub use entry::MAX_KEY;
use entry::{Head, Stored};
use root::Root;

use crate::header::{Header, Kind};
use crate::memory::{u64_at, LINE};
use crate::store::Store;
use crate::{word, Body, Buffers, Error, Found, Memory, Pool, Segment};

/// State word: all batches up to this one had been waited for, perhaps also the
/// next one.
const DURABLE: usize = 0;

/// Sizes of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Objects at most.
    pub objects: u32,
    /// Lines of 64 bytes for keys and segments. An object needs one for 32
    /// bytes (the key, rounded up to 8, and 8 for each segment) and one more
    /// for each 56 beyond that; so does its successor, before it is replaced.
    pub lines: u32,
    /// Blocks for payload that is copied.
    pub blocks: u32,
    /// Bytes of a block: a multiple of 64 below 65536.
    pub block_size: u32,
}

impl MapShape {
    /// A file of about `size` bytes, with two lines and one block of
    /// `block_size` bytes per object; without blocks if that is 0.
    pub fn for_bytes(size: u64, block_size: u32) -> MapShape {
        let each = 2 * LINE as u64 + root::BYTES as u64 + u64::from(block_size);
        let room = size.saturating_sub(3 * 4096);
        let count = u32::try_from(room / each)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 2);
        MapShape {
            objects: count,
            lines: count * 2,
            blocks: if block_size == 0 { 0 } else { count },
            block_size,
        }
    }

    /// Bytes of the file. `Shape`: no map can have these sizes.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.header(Pool::NONE)?.total())
    }

    fn header(&self, pool: Pool) -> Result<Header, Error> {
        let blocks = (self.blocks, self.block_size);
        Header::new(Kind::Map, (self.lines, self.objects), blocks, pool)
    }
}

/// What is known of a root without looking at it.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// First line of the current entry; 0 for none.
    line: u32,
    /// Which word names it.
    place: u8,
    /// That word was stored in this batch.
    fresh: bool,
    /// The value is damaged; its key is known.
    damaged: bool,
}

/// A map from keys to objects.
///
/// ```
/// use netmap_storage::{Body, Heap, Map, MapShape, NoBuffers, Pool};
///
/// let shape = MapShape { objects: 10, lines: 20, blocks: 20, block_size: 2048 };
/// let mut map = Map::format(Heap::new(shape.bytes()? as usize), shape, Pool::NONE)?;
/// let mut body = Body::new();
/// for (key, value) in [("/a", "old"), ("/b", "gone"), ("/a", "new")] {
///     map.copy(&mut body, value.as_bytes())?;
///     map.put(key.as_bytes(), &mut body)?;
/// }
/// map.delete(b"/b");
/// map.commit()?;
///
/// // Later, in another process:
/// let (map, found) = Map::open(map.into_memory(), Pool::NONE, &NoBuffers)?;
/// assert_eq!((found.objects, map.len()), (1, 1));
/// let value: Vec<u8> = map.get(b"/a").unwrap().segments()
///     .flat_map(|segment| map.block(segment).to_vec()).collect();
/// assert_eq!(value, b"new");
/// # Ok::<(), netmap_storage::Error>(())
/// ```
pub struct Map<M> {
    store: Store<M>,
    seed: u32,
    hasher: RandomState,
    /// Roots by the hash of their key.
    index: HashTable<u32>,
    slots: Vec<Slot>,
    /// How many of those in the index are damaged.
    damaged: usize,
    free_roots: Vec<u32>,
    free_lines: Vec<u32>,
    /// Number of this batch.
    batch: u64,
    /// Roots stored to in this batch.
    changed: Vec<u32>,
    /// First lines of entries that are no longer current.
    replaced: Vec<u32>,
    /// Roots of keys that were deleted in this batch, and the entries they had.
    deleted: Vec<(u32, u32)>,
    /// Scratch, kept for its memory.
    encoded: Vec<u8>,
    chain: Vec<u32>,
    segments: Vec<Segment>,
}

impl<M: Memory> Map<M> {
    /// Make an empty map of `mem`, whatever was in it. Errors: `Shape`,
    /// `Truncated` (the memory is too small), `Io`.
    pub fn format(mut mem: M, shape: MapShape, pool: Pool) -> Result<Map<M>, Error> {
        let header = shape.header(pool)?;
        header.format(&mut mem, [0, 0], |mem| {
            let (at, len) = (header.roots_at(), shape.objects as usize * root::BYTES);
            let zeros = [0; 4096];
            for start in (0..len).step_by(zeros.len()) {
                let n = zeros.len().min(len - start);
                mem.write(at + start, &zeros[..n]);
                mem.flush(at + start, n);
            }
        })?;
        let mut map = Map::new(Store::new(mem, header), 1);
        map.free_roots.extend((0..header.roots).rev());
        map.free_lines.extend((1..=header.lines).rev());
        Ok(map)
    }

    /// Recover a map: see what is in it and check it, byte by byte. Nothing
    /// is written unless the map can be opened. Errors: any but `Full`,
    /// `KeyLength`, `BadSegment`, `Shape`.
    pub fn open(mem: M, pool: Pool, bufs: &dyn Buffers) -> Result<(Map<M>, Found), Error> {
        recover::open(mem, pool, bufs)
    }

    fn new(store: Store<M>, batch: u64) -> Map<M> {
        Map {
            seed: store.header.seed(0),
            hasher: RandomState::new(),
            index: HashTable::new(),
            slots: vec![Slot::default(); store.header.roots as usize],
            damaged: 0,
            free_roots: Vec::new(),
            free_lines: Vec::new(),
            batch,
            changed: Vec::new(),
            replaced: Vec::new(),
            deleted: Vec::new(),
            encoded: Vec::new(),
            chain: Vec::new(),
            segments: Vec::new(),
            store,
        }
    }

    /// As [`crate::Log::hold`].
    #[inline]
    pub fn hold(&mut self, body: &mut Body, segment: Segment, bytes: &[u8]) -> Result<(), Error> {
        self.store.hold(body, segment, bytes)
    }

    /// As [`crate::Log::copy`].
    #[inline]
    pub fn copy(&mut self, body: &mut Body, bytes: &[u8]) -> Result<(), Error> {
        self.store.copy(body, bytes)
    }

    /// As [`crate::Log::discard`].
    pub fn discard(&mut self, body: &mut Body) {
        self.store.discard(body);
    }

    /// Make an object the value of a key. Others see it at once, and it is
    /// durable after the next [`Map::commit`]; until then a failure brings the
    /// old value back. The body is empty then and can be used again. Errors:
    /// `Full`, `KeyLength`; the body is as it was.
    pub fn put(&mut self, key: &[u8], body: &mut Body) -> Result<(), Error> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::KeyLength(key.len()));
        }
        let count = entry::lines(key.len(), body.segments.len());
        if count > self.free_lines.len() || self.batch >= word::MAX {
            return Err(Error::Full);
        }
        let root = self.root_of(key).ok_or(Error::Full)?;
        let kept = self.free_lines.len() - count;
        self.chain.clear();
        self.chain.extend(self.free_lines.drain(kept..).rev());
        let head = Head {
            batch: self.batch,
            root,
            key: key.len() as u16,
            crc: body.crc,
            segments: body.segments.len() as u32,
        };
        let (out, chain) = (&mut self.encoded, &self.chain);
        entry::encode(out, head, key, &body.segments, chain, self.seed);
        for (&line, bytes) in self.chain.iter().zip(self.encoded.chunks(LINE)) {
            self.store.mem.write(entry::at(line), bytes);
            self.store.mem.flush(entry::at(line), LINE);
        }
        let first = self.chain.first().copied().unwrap_or(0);
        self.switch(root, first);
        body.clear();
        Ok(())
    }

    /// The root of a key, a free one if it is new. `None` if all are taken.
    fn root_of(&mut self, key: &[u8]) -> Option<u32> {
        let Map {
            store,
            hasher,
            index,
            slots,
            deleted,
            ..
        } = self;
        let (mem, header) = (store.mem.bytes(), &store.header);
        let stored = |root: &u32| {
            let slot = slots.get(*root as usize)?;
            Stored::new(mem, header, slot.line)
        };
        let found = index.entry(
            hasher.hash_one(key),
            |root| stored(root).is_some_and(|entry| entry.has_key(key)),
            |root| stored(root).map_or(0, |entry| hasher.hash_one(entry.key().as_slice())),
        );
        match found {
            Place::Occupied(place) => Some(*place.get()),
            Place::Vacant(place) => {
                // A key that was deleted in this batch goes on in its root: else
                // a failure might bring its old value back beside the new one.
                let again = deleted.iter().find(|(root, line)| {
                    let free = slots.get(*root as usize).is_some_and(|slot| slot.line == 0);
                    free && Stored::new(mem, header, *line).is_some_and(|e| e.has_key(key))
                });
                let root = match again {
                    Some((root, _)) => *root,
                    None => self.free_roots.pop()?,
                };
                place.insert(root);
                Some(root)
            }
        }
    }

    /// Make the entry at `line` the current one of a root; 0 for none.
    fn switch(&mut self, root: u32, line: u32) {
        let at = self.root_at(root);
        let Some(slot) = self.slots.get_mut(root as usize) else {
            return;
        };
        let mem = &mut self.store.mem;
        let seed = self.store.header.seed(root + 1);
        let words = [u64_at(mem.bytes(), at), u64_at(mem.bytes(), at + 8)];
        // The durable word is the current one, or, if that was stored in this
        // batch, the other one: the one that must stay.
        let stays = usize::from(if slot.fresh {
            slot.place ^ 1
        } else {
            slot.place
        });
        let stays = if words == [0, 0] { 1 } else { stays };
        let older = match root::read([words[stays], 0], seed) {
            root::Pair::Newer(_, root, _) => Some(root),
            _ => None,
        };
        let place = stays ^ 1;
        let word = Root::after(older, line, self.batch).seal(seed);
        mem.store(at + 8 * place, word);
        mem.flush(at + 8 * place, 8);
        if slot.line != 0 {
            self.replaced.push(slot.line);
        }
        if !slot.fresh {
            self.changed.push(root);
        }
        self.damaged -= usize::from(slot.damaged);
        *slot = Slot {
            line,
            place: place as u8,
            fresh: true,
            damaged: false,
        };
    }

    /// Remove a key and its value, even a damaged one: at once for others,
    /// durably after the next [`Map::commit`]. False if it is not there.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let Some(root) = self.find(key) else {
            return false;
        };
        let hash = self.hasher.hash_one(key);
        if let Ok(place) = self.index.find_entry(hash, |other| *other == root) {
            place.remove();
        }
        if let Some(slot) = self.slots.get(root as usize) {
            self.deleted.push((root, slot.line));
        }
        self.switch(root, 0);
        true
    }

    /// Wait until everything put and deleted is durable: one wait for all of
    /// it, none if there is nothing. After an error nothing new may be
    /// acknowledged; it can be tried again.
    pub fn commit(&mut self) -> std::io::Result<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        self.store.mem.wait()?;
        // Not waited for: the next batch does, and recovery allows for that.
        self.store.set_state(DURABLE, self.batch);
        self.batch += 1;
        for root in self.changed.drain(..) {
            if let Some(slot) = self.slots.get_mut(root as usize) {
                slot.fresh = false;
                if slot.line == 0 {
                    self.free_roots.push(root);
                }
            }
        }
        self.deleted.clear();
        while let Some(line) = self.replaced.pop() {
            self.free(line);
        }
        Ok(())
    }

    /// Nothing names the entry at `line` any more, durably.
    fn free(&mut self, line: u32) {
        let (mem, header) = (self.store.mem.bytes(), &self.store.header);
        let Some(entry) = Stored::new(mem, header, line) else {
            return;
        };
        self.segments.extend(entry.segments());
        self.free_lines.extend(entry.chain());
        for segment in self.segments.drain(..) {
            self.store.release(segment);
        }
    }

    /// Packet buffers that nothing in the map refers to any more, durably.
    pub fn freed(&mut self) -> std::vec::Drain<'_, u32> {
        self.store.freed()
    }

    /// The value of a key; `None` if there is none, or a damaged one.
    pub fn get(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.sound(self.find(key)?)
    }

    fn sound(&self, root: u32) -> Option<Entry<'_>> {
        let damaged = self.slots.get(root as usize)?.damaged;
        self.entry(root).filter(|_| !damaged)
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let is = |root: &u32| self.entry(*root).is_some_and(|e| e.stored.has_key(key));
        self.index.find(hash, is).copied()
    }

    fn entry(&self, root: u32) -> Option<Entry<'_>> {
        let slot = self.slots.get(root as usize)?;
        let (mem, header) = (self.store.mem.bytes(), &self.store.header);
        let stored = Stored::new(mem, header, slot.line)?;
        Some(Entry { stored })
    }

    /// All keys with a sound value, and it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.index.iter().filter_map(|root| self.sound(*root))
    }

    /// Keys with a sound value.
    pub fn len(&self) -> usize {
        self.index.len() - self.damaged
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines that can be put.
    pub fn free_lines(&self) -> usize {
        self.free_lines.len()
    }

    /// Blocks that can be copied to.
    pub fn free_blocks(&self) -> usize {
        self.store.free_blocks()
    }

    /// Bytes of a copied segment; none if it is in a packet buffer.
    pub fn block(&self, segment: Segment) -> &[u8] {
        self.store.block(segment)
    }

    /// What a segment's bytes are, wherever they lie.
    pub fn payload<'a>(&'a self, segment: Segment, bufs: &'a dyn Buffers) -> Option<&'a [u8]> {
        self.store.payload(segment, bufs)
    }

    /// The memory, after a last commit that may have failed.
    pub fn into_memory(self) -> M {
        self.store.mem
    }

    fn root_at(&self, root: u32) -> usize {
        self.store.header.roots_at() + root as usize * root::BYTES
    }
}

/// A key and its value.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    stored: Stored<'a>,
}

impl<'a> Entry<'a> {
    /// The key.
    pub fn key(&self) -> Vec<u8> {
        self.stored.key()
    }

    /// The value's bytes lie there, in this order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + 'a {
        self.stored.segments()
    }

    /// How many bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.segments().map(|segment| u64::from(segment.len)).sum()
    }
}
