// SPDX-License-Identifier: GPL-2.0
//! Where request bodies are kept: a log or a map on a medium (`files`), with
//! the bodies in its own blocks or in packet buffers (`held`).
//!
//! What was taken is durable after [`Store::commit`]; the loops call it before
//! they send the answers of a batch. Threads have a log each, to which they
//! alone write; others read records of it. A map they share, and take turns: one
//! has it from the first use in a batch to the commit. So nobody sees what is not
//! durable, and who flushed cache lines also waits for them.

mod files;
mod first;
mod held;
mod room;
#[cfg(test)]
mod tests;
mod written;

use std::io;
use std::sync::{Mutex, MutexGuard};

use netmap::{ExtraBuf, RxSlot};
use netmap_storage::{Body, Error, Log, Map, Place, Segment};

pub use files::Files;
use held::{Held, Kept};
use written::Medium;

use crate::request::Service;
use crate::site::{Out, Status};

/// What a connection is storing, or what it asked for.
#[derive(Default)]
pub struct Object {
    name: Vec<u8>,
    body: Body,
}

impl Object {
    /// What a request is about.
    pub fn name(&mut self, path: &[u8]) {
        self.name.clear();
        self.name.extend_from_slice(path);
    }
}

/// What a thread has stored, or all of them.
pub struct Shelf {
    books: Books,
    /// With zero copy: the buffers that bodies lie in.
    kept: Kept,
    /// Spare buffers for whoever has the turn.
    spare: Vec<ExtraBuf>,
    /// A commit failed: what is here may not be durable.
    failed: bool,
}

impl Shelf {
    fn new(books: Books) -> Shelf {
        Shelf {
            books,
            kept: Kept::default(),
            spare: Vec::new(),
            failed: false,
        }
    }
}

/// What is stored.
#[derive(Default)]
pub struct Shelves {
    all: Vec<Mutex<Shelf>>,
    /// If threads share one: held by the one whose turn it is.
    turn: Option<Mutex<()>>,
}

impl Shelves {
    fn new(shelves: Vec<Shelf>, shared: bool) -> Shelves {
        Shelves {
            all: shelves.into_iter().map(Mutex::new).collect(),
            turn: shared.then(Mutex::default),
        }
    }
}

/// What a thread makes its [`Store`] of.
pub struct Part {
    own: usize,
    held: Option<Held>,
    recycle: Option<Recycle>,
    each: bool,
}

/// A log or a map; there are few, so their size is of no importance.
#[allow(clippy::large_enum_variant)]
enum Books {
    /// Records in the order in which they came.
    Log(Log<Medium>),
    /// Values by path.
    Map(Map<Medium>),
}

/// The same call on either.
macro_rules! either {
    ($books:expr, $it:ident => $call:expr) => {
        match $books {
            Books::Log($it) => $call,
            Books::Map($it) => $call,
        }
    };
}

/// A thread's way to what is stored.
pub struct Store<'a> {
    /// Of all threads.
    shelves: &'a Shelves,
    /// Number of the one that this thread writes to.
    own: usize,
    /// It is this thread's turn.
    turn: Option<MutexGuard<'a, ()>>,
    service: Service,
    /// With zero copy: the packet buffers, and where the input lies.
    held: Option<Held>,
    /// When the log is full, drop the oldest records.
    recycle: Option<Recycle>,
    /// Commit each request by itself.
    each: bool,
    /// Something was changed since the last commit.
    dirty: bool,
    /// A commit within a batch failed, which ends the server.
    failed: Option<io::Error>,
}

/// What has to be free before a batch, so that it finds room.
#[derive(Clone, Copy, Debug)]
pub struct Recycle {
    /// Lines of the log.
    pub lines: u64,
    /// Blocks for copies.
    pub blocks: usize,
    /// Packet buffers.
    pub buffers: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panics ends the program.
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}

fn status(error: &Error) -> Status {
    match error {
        Error::KeyLength(_) => Status::NAME_TOO_LONG,
        _ => Status::FULL,
    }
}

impl<'a> Store<'a> {
    /// The store that a thread makes of its part.
    pub fn new(shelves: &'a Shelves, part: Part) -> Store<'a> {
        let service = match lock(&shelves.all[part.own]).books {
            Books::Log(_) => Service::Log,
            Books::Map(_) => Service::Map,
        };
        Store {
            shelves,
            own: part.own,
            turn: None,
            service,
            held: part.held,
            recycle: part.recycle,
            each: part.each,
            // What recovery dropped is to be found.
            dirty: true,
            failed: None,
        }
    }

    fn shelf(&self) -> MutexGuard<'a, Shelf> {
        lock(&self.shelves.all[self.own])
    }

    /// Wait for this thread's turn, if threads take turns, unless it is.
    #[inline]
    fn take_turn(&mut self) {
        if self.turn.is_some() {
            return;
        }
        let Some(turn) = &self.shelves.turn else {
            return;
        };
        self.turn = Some(lock(turn));
        let mut shelf = self.shelf();
        if let Some(held) = &mut self.held {
            held.take_spare(&mut shelf.spare);
        }
        if shelf.failed {
            self.dirty = true;
            let error = io::Error::other("another thread could not");
            self.failed.get_or_insert(error);
        }
    }

    /// The next thread's turn.
    fn end_turn(&mut self) {
        if self.turn.is_none() {
            return;
        }
        if let Some(held) = &mut self.held {
            held.give_spare(&mut lock(&self.shelves.all[self.own]).spare);
        }
        self.turn = None;
    }

    /// What paths stand for.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Whether each request is to be committed by itself.
    pub fn each(&self) -> bool {
        self.each
    }

    /// What connections are fed with next is the payload of this slot.
    #[inline]
    pub fn begin_slot(&mut self, slot: &RxSlot<'_>) {
        if let Some(held) = &mut self.held {
            held.begin(slot);
        }
    }

    /// That was all of it: keep its buffer, if something in it was stored.
    #[inline]
    pub fn end_slot(&mut self, slot: RxSlot<'_>) {
        if let Some(held) = &mut self.held {
            held.end(slot);
        }
    }

    /// All tx slots were sent.
    #[inline]
    pub fn sent(&mut self) {
        if let Some(held) = &mut self.held {
            held.sent();
        }
    }

    /// True if what was stored of the present input can neither be loaded nor
    /// removed before all of that has been looked at: its buffer is still the
    /// ring's, and to remove a record makes what came before it durable, so that
    /// other threads may look for that.
    #[inline]
    pub fn busy(&self) -> bool {
        self.held.as_ref().is_some_and(Held::busy)
    }

    /// A body is about to come. 414: its name is too long.
    #[inline]
    pub fn begin(&mut self, object: &mut Object, path: &[u8]) -> Result<(), Status> {
        if self.service == Service::Map {
            if path.is_empty() || path.len() > netmap_storage::MAX_KEY {
                return Err(Status::NAME_TOO_LONG);
            }
            object.name(path);
        }
        Ok(())
    }

    /// The next piece of the body, which begins at byte `at` of the input. 507:
    /// no room; the body is dropped.
    #[inline]
    pub fn piece(&mut self, object: &mut Object, at: usize, data: &[u8]) -> Result<(), Status> {
        self.take_turn();
        let mut shelf = self.shelf();
        self.dirty = true;
        let body = &mut object.body;
        let place = self
            .held
            .as_mut()
            .and_then(|held| held.hold(at, data.len()));
        let done = match place {
            Some(segment) => either!(&mut shelf.books, it => it.hold(body, segment, data)),
            None => either!(&mut shelf.books, it => it.copy(body, data)),
        };
        if let Err(error) = done {
            either!(&mut shelf.books, it => it.discard(body));
            return Err(status(&error));
        }
        Ok(())
    }

    /// The body is complete. The number of the record it became; a value has
    /// none. 507: no room; the body is dropped.
    #[inline]
    pub fn finish(&mut self, object: &mut Object) -> Result<Option<u64>, Status> {
        self.take_turn();
        let mut shelf = self.shelf();
        self.dirty = true;
        let body = &mut object.body;
        let done = match &mut shelf.books {
            Books::Log(log) => log.append(body).map(Some),
            Books::Map(map) => map.put(&object.name, body).map(|()| None),
        };
        match done {
            Ok(number) => Ok(number.map(|seq| self.number(seq))),
            Err(error) => {
                either!(&mut shelf.books, it => it.discard(body));
                Err(status(&error))
            }
        }
    }

    /// The rest of the body will not come.
    pub fn abandon(&mut self, object: &mut Object) {
        if object.body.segments().is_empty() {
            return;
        }
        self.dirty = true;
        either!(&mut self.shelf().books, it => it.discard(&mut object.body));
    }

    /// The number by which clients know a record: threads have every nth.
    fn number(&self, seq: u64) -> u64 {
        seq * self.shelves.all.len() as u64 + self.own as u64
    }

    /// The reverse: which thread's, and its number there.
    fn record(&self, name: &[u8]) -> Option<(usize, u64)> {
        let text = std::str::from_utf8(name.strip_prefix(b"/")?).ok()?;
        let number: u64 = text.parse().ok()?;
        let threads = self.shelves.all.len() as u64;
        Some(((number % threads) as usize, number / threads))
    }

    /// Answer with what was asked for. `begin` is told its length and says
    /// where the bytes go, if they are wanted. Returns false if there is no
    /// such thing.
    pub fn load<'o, O: Out + 'o>(
        &mut self,
        object: &Object,
        begin: impl FnOnce(u64) -> Option<&'o mut O>,
    ) -> bool {
        let (thread, seq) = match self.service {
            Service::Map => (self.own, 0),
            _ => match self.record(&object.name) {
                Some(found) => found,
                None => return false,
            },
        };
        self.take_turn();
        let mut shelf = lock(&self.shelves.all[thread]);
        let Shelf { books, kept, .. } = &mut *shelf;
        if let Some(held) = self.held.as_mut().filter(|_| thread == self.own) {
            held.keep(kept);
        }
        // A buffer may be named in slots only if no other thread gives it up.
        let alone = thread == self.own && self.shelves.turn.is_none();
        let held = self.held.as_ref().map(|held| (held, alone));
        // Whether all that is wanted of it was put; nothing is of what is not there.
        let whole = match books {
            Books::Log(log) => {
                // Another thread's client must not see what a crash may take
                // back, be that a record or that it is gone.
                let found = match thread == self.own {
                    true => log.get(seq),
                    false => log.get_durable(seq),
                };
                found.map(|found| {
                    let block = |segment| log.block(segment);
                    answer((found.len(), found.segments()), begin, block, held, kept)
                })
            }
            Books::Map(map) => map.get(&object.name).map(|found| {
                let block = |segment| map.block(segment);
                answer((found.len(), found.segments()), begin, block, held, kept)
            }),
        };
        if whole.is_some_and(|whole| whole.is_none()) {
            // The head has gone out already. That must never happen; if it does,
            // better no answer at all than one that lacks something.
            self.dirty = true;
            let error = io::Error::other("a packet buffer of what is stored is missing");
            self.failed.get_or_insert(error);
        }
        whole.is_some()
    }

    /// Drop what was asked for: the value of a key, or the records up to a
    /// number. False: there is no such thing.
    pub fn remove(&mut self, object: &Object) -> Result<bool, Status> {
        self.take_turn();
        let mut shelf = self.shelf();
        let Shelf { books, kept, .. } = &mut *shelf;
        match books {
            Books::Map(map) => {
                self.dirty = true;
                Ok(map.delete(&object.name))
            }
            Books::Log(log) => {
                let Some((thread, seq)) = self.record(&object.name) else {
                    return Ok(false);
                };
                // Only its thread may change a log.
                if thread != self.own {
                    return Err(Status::OTHER_LOG);
                }
                if log.get(seq).is_none() {
                    return Ok(false);
                }
                self.dirty = true;
                // It may be of this batch, and only what is durable can go. Other
                // threads get to see all of the batch: with its buffers.
                if let Some(held) = &mut self.held {
                    held.keep(kept);
                }
                if let Err(error) = log.commit() {
                    self.failed = Some(error);
                    return Err(Status::FULL);
                }
                log.truncate(seq + 1);
                Ok(true)
            }
        }
    }

    /// Make everything since the last time durable: before any answer is sent,
    /// and before any wait, as others may wait for their turn. An error means
    /// that this is not certain: no answer may be sent at all.
    #[inline]
    pub fn commit(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.take_turn();
            self.commit_batch()?;
        }
        self.end_turn();
        Ok(())
    }

    fn commit_batch(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut shelf = self.shelf();
        let Shelf {
            books,
            kept,
            failed,
            ..
        } = &mut *shelf;
        if let (Some(low), Books::Log(log)) = (self.recycle, &mut *books) {
            // What is dropped is free after the commit, so this is a guess: an
            // object has a buffer or a block at least.
            let spare = self.held.as_ref().map_or(usize::MAX, Held::spare);
            let blocks = low.blocks.saturating_sub(log.free_blocks());
            for _ in 0..low.buffers.saturating_sub(spare).max(blocks) {
                log.drop_oldest();
            }
            log.make_room(low.lines);
        }
        let done = either!(&mut *books, it => it.commit());
        *failed = done.is_err();
        done?;
        if let Some(held) = &mut self.held {
            held.keep(kept);
            either!(books, it => it.freed().for_each(|index| held.free(kept, index)));
            if self.turn.is_some() {
                // No slot names any of them, see `load`: they go to the next one.
                held.sent();
            }
        }
        Ok(())
    }
}

/// Answer with an object: its length and pieces. Blocks are found by `block`,
/// packet buffers in `kept`. `None`: a piece is missing.
#[must_use]
fn answer<'o, 's, O: Out + 'o>(
    (len, segments): (u64, impl Iterator<Item = Segment>),
    begin: impl FnOnce(u64) -> Option<&'o mut O>,
    block: impl Fn(Segment) -> &'s [u8],
    held: Option<(&Held, bool)>,
    kept: &mut Kept,
) -> Option<()> {
    let Some(out) = begin(len) else {
        return Some(());
    };
    for segment in segments {
        match (segment.place(), held) {
            (Place::Block(_), _) => out.put(block(segment)),
            (Place::Packet(_), Some((held, own))) => held.send(kept, segment, own, out)?,
            // Only a store with a pool has such segments.
            (Place::Packet(_), None) => return None,
        }
    }
    Some(())
}
