// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A model of memory behind a cache, to find what a power failure can leave.
//!
//! A [`Recorder`] is a store's memory that writes down every store, flush and
//! wait. [`Cache`] replays such a trace and knows, at any point of it, which
//! images the persistent memory may hold: each cache line has, on its own, all
//! stores that were flushed and waited for, and of the later ones a prefix. A
//! word is stored whole. The words of a longer write may arrive in any order,
//! so of the write after the prefix any subset of the words is there.
#![allow(dead_code)] // Each test binary uses its part.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use netmap_storage::{Buffers, Memory, LINE};

/// Small, seeded, good enough (splitmix64).
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What happened. Offsets: the file, then the pool.
#[derive(Clone)]
pub enum Event {
    Write(usize, Vec<u8>),
    Flush(usize),
    Wait,
}

/// A flush or wait that is left out: which one, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Flush(usize),
    Wait(usize),
}

/// Everything that happened, to file and pool.
pub struct Trace {
    pub events: Vec<Event>,
    pub fault: Fault,
    /// Start and length of each flush, and the waits before it.
    pub flushes: Vec<(usize, usize, usize)>,
    pub waits: usize,
}

pub type Shared = Arc<Mutex<Trace>>;

pub fn trace(fault: Fault) -> Shared {
    Arc::new(Mutex::new(Trace {
        events: Vec::new(),
        fault,
        flushes: Vec::new(),
        waits: 0,
    }))
}

impl Trace {
    /// Flushes of a word that is a hint only, and those whose lines are all
    /// flushed once more before the next wait.
    pub fn spare(&self, hint: usize) -> Vec<Fault> {
        let lines = |(at, len, _): (usize, usize, usize)| at / LINE..=(at + len - 1) / LINE;
        let again = |i: usize| {
            let this = self.flushes[i];
            let later = self.flushes[i + 1..].iter().filter(|f| f.2 == this.2);
            let later: Vec<usize> = later.flat_map(|f| lines(*f)).collect();
            lines(this).all(|line| later.contains(&line))
        };
        let spare = (0..self.flushes.len()).filter(|&i| self.flushes[i].0 == hint || again(i));
        spare.map(Fault::Flush).collect()
    }

    fn flush(&mut self, at: usize, len: usize) {
        if len == 0 {
            return;
        }
        let fault = self.fault == Fault::Flush(self.flushes.len());
        self.flushes.push((at, len, self.waits));
        if !fault {
            for line in at / LINE..=(at + len - 1) / LINE {
                self.events.push(Event::Flush(line));
            }
        }
    }
}

/// The pool: a NIC writes to it, and never flushes.
pub struct Nic {
    pub bytes: Vec<u8>,
    pub buf_size: usize,
    file: usize,
    trace: Shared,
}

impl Nic {
    pub fn new(file: usize, bytes: Vec<u8>, buf_size: usize, trace: &Shared) -> Nic {
        Nic {
            bytes,
            buf_size,
            file,
            trace: trace.clone(),
        }
    }

    pub fn receive(&mut self, buf: u32, offset: usize, bytes: &[u8]) {
        let at = buf as usize * self.buf_size + offset;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let mut trace = self.trace.lock().unwrap();
        trace
            .events
            .push(Event::Write(self.file + at, bytes.to_vec()));
    }

    pub fn slice(&self, buf: u32, offset: usize, len: usize) -> &[u8] {
        let at = buf as usize * self.buf_size + offset;
        &self.bytes[at..at + len]
    }
}

impl Buffers for Nic {
    fn bytes(&self, buf: u32) -> Option<&[u8]> {
        let at = buf as usize * self.buf_size;
        self.bytes.get(at..at + self.buf_size)
    }
}

/// A store's memory, written down.
pub struct Recorder {
    data: Vec<u8>,
    pool: usize,
    pool_len: usize,
    trace: Shared,
}

impl Recorder {
    /// `nic` must not move its bytes while this is used.
    pub fn new(data: Vec<u8>, nic: &Nic, trace: &Shared) -> Recorder {
        assert!(data.len() % LINE == 0 && data.len() == nic.file);
        Recorder {
            data,
            pool: nic.bytes.as_ptr() as usize,
            pool_len: nic.bytes.len(),
            trace: trace.clone(),
        }
    }
}

impl Memory for Recorder {
    fn bytes(&self) -> &[u8] {
        &self.data
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
        let mut trace = self.trace.lock().unwrap();
        trace.events.push(Event::Write(at, bytes.to_vec()));
    }

    fn store(&mut self, at: usize, word: u64) {
        assert_eq!(at % 8, 0, "a word that is stored whole");
        self.write(at, &word.to_le_bytes());
    }

    fn flush(&mut self, at: usize, len: usize) {
        self.trace.lock().unwrap().flush(at, len);
    }

    fn flush_foreign(&mut self, bytes: &[u8]) {
        let at = bytes.as_ptr() as usize - self.pool;
        assert!(at + bytes.len() <= self.pool_len, "payload in the pool");
        let at = self.data.len() + at;
        self.trace.lock().unwrap().flush(at, bytes.len());
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut trace = self.trace.lock().unwrap();
        let fault = trace.fault == Fault::Wait(trace.waits);
        trace.waits += 1;
        if !fault {
            trace.events.push(Event::Wait);
        }
        Ok(())
    }
}

/// Words of one write in one line: they arrive in any order.
type Words = Vec<(usize, [u8; 8])>;

#[derive(Clone, Default)]
struct Line {
    pending: Vec<Words>,
    flushed: usize,
}

/// The persistent memory, and what may get there.
#[derive(Clone)]
pub struct Cache {
    /// What is certain.
    pub image: Vec<u8>,
    lines: BTreeMap<usize, Line>,
}

impl Cache {
    pub fn new(image: Vec<u8>) -> Cache {
        Cache {
            image,
            lines: BTreeMap::new(),
        }
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Write(at, bytes) => self.write(*at, bytes),
            Event::Flush(line) => {
                if let Some(line) = self.lines.get_mut(line) {
                    line.flushed = line.pending.len();
                }
            }
            Event::Wait => {
                for line in self.lines.values_mut() {
                    for words in line.pending.drain(..line.flushed) {
                        put(&mut self.image, &words);
                    }
                    line.flushed = 0;
                }
                self.lines.retain(|_, line| !line.pending.is_empty());
            }
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        // Bytes at an odd end take their neighbours along: those were there.
        let (mut at, end) = (at, at + bytes.len());
        let start = at;
        let mut by_line: BTreeMap<usize, Words> = BTreeMap::new();
        while at < end {
            let word = at & !7;
            let mut value = self.latest(word);
            while at < end && at < word + 8 {
                value[at - word] = bytes[at - start];
                at += 1;
            }
            by_line.entry(word / LINE).or_default().push((word, value));
        }
        for (line, words) in by_line {
            self.lines.entry(line).or_default().pending.push(words);
        }
    }

    fn latest(&self, word: usize) -> [u8; 8] {
        let pending = self.lines.get(&(word / LINE)).map(|line| &line.pending);
        let stores = pending.into_iter().flatten().flatten();
        let newest = stores.filter(|store| store.0 == word).last();
        newest.map_or_else(|| self.image[word..word + 8].try_into().unwrap(), |s| s.1)
    }

    /// Everything gets there: what a process that died leaves to the next one.
    pub fn everything(&self) -> Vec<u8> {
        let mut image = self.image.clone();
        for words in self.lines.values().flat_map(|line| &line.pending) {
            put(&mut image, words);
        }
        image
    }

    /// One image that a failure now can leave: `choose` picks a number below
    /// its argument, how many stores to a line got through and which words of
    /// the next one.
    pub fn leave(&self, mut choose: impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut image = self.image.clone();
        for line in self.lines.values() {
            let count = choose(line.pending.len() + 1);
            let (whole, rest) = line.pending.split_at(count);
            whole.iter().for_each(|words| put(&mut image, words));
            if let Some(torn) = rest.first() {
                let mask = choose(1 << torn.len());
                let some = torn
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| (mask >> i) & 1 == 1);
                let some: Words = some.map(|(_, word)| *word).collect();
                put(&mut image, &some);
            }
        }
        image
    }

    /// Give `check` images that a failure now can leave: all of them, if they
    /// are not more than `budget`, with writes to one line as units; else, and
    /// to see writes torn, `budget` that are drawn. Returns how many.
    pub fn crash<E>(
        &self,
        budget: usize,
        rng: &mut Rng,
        mut check: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let lines: Vec<&Line> = self.lines.values().collect();
        let choices = |line: &Line| line.pending.len() + 1;
        let all = lines
            .iter()
            .try_fold(1usize, |n, line| n.checked_mul(choices(line)));
        let all = all.filter(|&all| all <= budget);
        for i in 0..all.unwrap_or(0) {
            let (mut image, mut rest) = (self.image.clone(), i);
            for line in &lines {
                let count = rest % choices(line);
                rest /= choices(line);
                line.pending[..count]
                    .iter()
                    .for_each(|words| put(&mut image, words));
            }
            check(&image)?;
        }
        let draws = if all == Some(1) {
            0
        } else {
            all.map_or(budget, |all| all.min(budget / 4))
        };
        for _ in 0..draws {
            let mut image = self.image.clone();
            // Failures with little lost, little kept, and in between.
            let bias = rng.below(4);
            for line in &lines {
                let count = match (bias, rng.below(4)) {
                    (0, 1..) => 0,
                    (1, 1..) => line.pending.len(),
                    _ => rng.below(choices(line)),
                };
                line.pending[..count]
                    .iter()
                    .for_each(|words| put(&mut image, words));
                if let Some(torn) = line.pending.get(count) {
                    let some: Words = torn
                        .iter()
                        .filter(|_| rng.next() & 1 == 0)
                        .copied()
                        .collect();
                    put(&mut image, &some);
                }
            }
            check(&image)?;
        }
        Ok(all.unwrap_or(0) + draws)
    }
}

fn put(image: &mut [u8], words: &[(usize, [u8; 8])]) {
    for (at, word) in words {
        image[*at..at + 8].copy_from_slice(word);
    }
}
