// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! What a store lives in: memory behind a cache, a NIC that writes to every
//! buffer that is free, and failures.

use arbitrary::Unstructured;
use netmap_storage::{Body, Error, Found, Log, Map, Place, Pool, Segment};

use crate::model::{trace, Cache, Fault, Nic, Recorder, Rng, Shared};

pub(crate) const BUFFERS: u32 = 12;
pub(crate) const BUFFER: usize = 256;
pub(crate) const POOL: Pool = Pool {
    buffers: BUFFERS,
    buf_size: BUFFER as u32,
    id: 5,
};

/// What a log and a map have in common.
pub(crate) trait Books: Sized {
    fn open(memory: Recorder, nic: &Nic) -> Result<(Self, Found), Error>;
    fn memory(self) -> Recorder;
    fn hold(&mut self, body: &mut Body, segment: Segment, bytes: &[u8]) -> Result<(), Error>;
    fn copy(&mut self, body: &mut Body, bytes: &[u8]) -> Result<(), Error>;
    fn freed(&mut self) -> Vec<u32>;
    fn bytes_of<'a>(&'a self, segment: Segment, nic: &'a Nic) -> Option<&'a [u8]>;

    /// An object's bytes; it must have been checked that they are there.
    fn value(&self, segments: impl Iterator<Item = Segment>, nic: &Nic) -> Vec<u8> {
        let bytes = |segment| self.bytes_of(segment, nic).expect("bytes of a segment");
        segments.flat_map(bytes).copied().collect()
    }
}

macro_rules! books {
    ($kind:ident) => {
        impl Books for $kind<Recorder> {
            fn open(memory: Recorder, nic: &Nic) -> Result<(Self, Found), Error> {
                $kind::open(memory, POOL, nic)
            }
            fn memory(self) -> Recorder {
                self.into_memory()
            }
            fn hold(
                &mut self,
                body: &mut Body,
                segment: Segment,
                bytes: &[u8],
            ) -> Result<(), Error> {
                $kind::hold(self, body, segment, bytes)
            }
            fn copy(&mut self, body: &mut Body, bytes: &[u8]) -> Result<(), Error> {
                $kind::copy(self, body, bytes)
            }
            fn freed(&mut self) -> Vec<u32> {
                $kind::freed(self).collect()
            }
            fn bytes_of<'a>(&'a self, segment: Segment, nic: &'a Nic) -> Option<&'a [u8]> {
                self.payload(segment, nic)
            }
        }
    };
}
books!(Log);
books!(Map);

/// Packet buffers among these segments, sorted, each once.
pub(crate) fn packets(segments: impl Iterator<Item = Segment>) -> Vec<u32> {
    let number = |segment: Segment| match segment.place() {
        Place::Packet(buf) => Some(buf),
        Place::Block(_) => None,
    };
    let mut bufs: Vec<u32> = segments.filter_map(number).collect();
    bufs.sort_unstable();
    bufs.dedup();
    bufs
}

pub(crate) struct World<'a> {
    pub(crate) input: Unstructured<'a>,
    pub(crate) nic: Nic,
    rng: Rng,
    trace: Shared,
    cache: Cache,
    file: usize,
    free: Vec<u32>,
}

impl<'a> World<'a> {
    /// A world in which `file` is durable, with the memory that has it.
    pub(crate) fn new(data: &'a [u8], file: &[u8]) -> (World<'a>, Recorder) {
        let (trace, pool) = (trace(Fault::None), vec![0; BUFFERS as usize * BUFFER]);
        let cache = Cache::new([file, &pool].concat());
        let nic = Nic::new(file.len(), pool, BUFFER, &trace);
        let memory = Recorder::new(file.to_vec(), &nic, &trace);
        let world = World {
            input: Unstructured::new(data),
            rng: Rng(data.len() as u64),
            nic,
            trace,
            cache,
            file: file.len(),
            free: (0..BUFFERS).collect(),
        };
        (world, memory)
    }

    /// A number below `end`, out of the input.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.input.int_in_range(0..=end - 1).unwrap_or(0)
    }

    /// Receive an object. Its bytes: what there was room for.
    pub(crate) fn receive(&mut self, books: &mut impl Books, body: &mut Body) -> Vec<u8> {
        let mut whole = Vec::new();
        for _ in 0..self.below(8) {
            let (kind, len) = (self.below(4), 1 + self.below(100));
            let bytes = self.rng.bytes(len);
            let buf = if kind > 0 { self.free.pop() } else { None };
            let done = match buf {
                Some(buf) => {
                    let at = self.below(BUFFER - len);
                    self.nic.receive(buf, at, &bytes);
                    let segment = Segment::packet(buf, at as u16, len as u16);
                    books.hold(body, segment, self.nic.slice(buf, at, len))
                }
                None => books.copy(body, &bytes),
            };
            match done {
                Ok(()) => whole.extend_from_slice(&bytes),
                Err(Error::Full) => {}
                Err(other) => panic!("{other}"),
            }
        }
        whole
    }

    /// The NIC gets what became free, and writes to it at once.
    pub(crate) fn reuse(&mut self, books: &mut impl Books) {
        for buf in books.freed() {
            assert!(!self.free.contains(&buf), "{buf} is free twice");
            let junk = self.rng.bytes(BUFFER);
            self.nic.receive(buf, 0, &junk);
            self.free.push(buf);
        }
    }

    /// Everything but what objects are in is the NIC's.
    pub(crate) fn claim(&mut self, held: &[u32]) {
        self.free = (0..BUFFERS).filter(|buf| !held.contains(buf)).collect();
    }

    /// Buffers that the NIC has.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// A step is over: no failure is to come in the midst of it any more.
    pub(crate) fn settle(&mut self) {
        let events = std::mem::take(&mut self.trace.lock().unwrap().events);
        events.iter().for_each(|event| self.cache.apply(event));
    }

    /// The machine dies somewhere in the last step, or (`power` is false) only
    /// the process does. The memory that the next one finds; and whether all of
    /// the step was over.
    pub(crate) fn fail(&mut self, power: bool) -> (Recorder, bool) {
        let events = std::mem::take(&mut self.trace.lock().unwrap().events);
        let cut = events.len() - self.below(events.len() + 1);
        let before = events.get(..cut).unwrap_or(&events);
        before.iter().for_each(|event| self.cache.apply(event));
        let image = if power {
            let (how, seed) = (self.below(8), self.below(1 << 16));
            let mut rng = Rng(seed as u64);
            let input = &mut self.input;
            let image = self.cache.leave(|end| match how {
                0 => 0,
                1 => end - 1,
                2 | 3 => input.int_in_range(0..=end - 1).unwrap_or(0),
                _ => rng.below(end),
            });
            self.cache = Cache::new(image.clone());
            image
        } else {
            self.cache.everything()
        };
        let (file, pool) = image.split_at(self.file);
        self.trace = trace(Fault::None);
        self.nic = Nic::new(file.len(), pool.to_vec(), BUFFER, &self.trace);
        let memory = Recorder::new(file.to_vec(), &self.nic, &self.trace);
        (memory, cut == events.len())
    }
}
