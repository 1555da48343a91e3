// SPDX-License-Identifier: GPL-2.0

//! Buffers and who owns them: the only place where that changes.
//!
//! Each buffer has a word (`nmcore::bufstate`) in memory that no application sees:
//!
//! ```text
//!            get_nic                 lend
//!   Free ----------------> NicRx ----------------> Lent
//!    ^  \                    ^  \ deliver           |  |
//!    |   \ get_user     post |   \      deliver     |  | idle again
//!    |    +----------------. |    v                 |  | (reclaim)
//!    |  put (idle)          \|   User(port) <-------+  |
//!    +---------------- Held <--- take                  |
//!    |                   \ lend, put (busy)            |
//!    |                    +--------------------> Lent -+
//!    +--------------------------------------------------
//! ```
//!
//! A buffer that is Free (in a cache), NicRx or Held belongs to one kernel context, which changes
//! the word with a plain store. User and Lent words are fought for with compare-and-exchange:
//! an application may name a buffer twice, and a lent buffer may come back in a packet while
//! another context looks whether it is idle.
//!
//! Lent buffers wait in a FIFO of the cache that lent them. Nothing tells when packets let go of
//! a page, so the cache looks when it needs buffers. The flag QUEUED says that a buffer is in
//! some FIFO; it stays there through other states until that FIFO comes across it.

#![deny(unsafe_code)]

use super::pool::{
    Fifo,
    Pool, //
};
use crate::nmcore::{
    bufstate::{self, Counts, State},
    layout::FIRST_BUF,
};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What the kernel knows of a buffer.
struct Entry {
    word: AtomicU32,
    /// The buffer after this one in its FIFO. Belongs to whoever owns that FIFO.
    next: AtomicU32,
}

/// The words of all buffers of a pool, and the links of the FIFOs.
pub(super) struct Words {
    entries: KVVec<Entry>,
}

impl Words {
    pub(super) fn new(count: u32) -> Result<Self> {
        let len = usize::try_from(count)?;
        let mut entries = KVVec::with_capacity(len, GFP_KERNEL)?;
        for idx in 0..count {
            let state = if idx < FIRST_BUF {
                State::Reserved
            } else {
                State::Free
            };
            let entry = Entry {
                word: AtomicU32::new(bufstate::word(state, 0)),
                next: AtomicU32::new(0),
            };
            entries.push(entry, GFP_KERNEL)?;
        }
        Ok(Self { entries })
    }

    pub(super) fn counts(&self) -> Counts {
        let words = self.entries.iter().map(|e| e.word.load(Ordering::Relaxed));
        Counts::of(words)
    }

    /// Changes the word of buffer `idx` to what `next` makes of it, unless that is `None`. Returns
    /// the word before.
    #[inline]
    fn change(&self, idx: u32, next: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let word = &self.entries.get(idx as usize)?.word;
        let mut old = word.load(Ordering::Acquire);
        loop {
            let new = next(old)?;
            if owned_here(old) {
                word.store(new, Ordering::Release);
                return Some(old);
            }
            match word.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(old),
                Err(now) => old = now,
            }
        }
    }

    #[inline]
    fn step(&self, idx: u32, from: State, to: State) -> bool {
        self.change(idx, |word| bufstate::step(word, from, to))
            .is_some()
    }

    /// Free -> User(owner), of a buffer in the pool's list, whose lock is held.
    pub(super) fn claim(&self, idx: u32, owner: u16) {
        self.change(idx, |word| bufstate::give(word, State::Free, owner));
    }

    /// Free -> Lent, of a buffer in the pool's list, whose lock is held. `false`: it is not free.
    pub(super) fn lend_free(&self, fifo: &mut Fifo, idx: u32) -> bool {
        let free = self.step(idx, State::Free, State::Held);
        if free {
            self.lend(fifo, idx);
        }
        free
    }

    /// User(owner) -> Held.
    #[inline]
    pub(super) fn take(&self, idx: u32, owner: u16) -> bool {
        self.change(idx, |word| bufstate::take(word, owner))
            .is_some()
    }

    #[inline]
    pub(super) fn owned(&self, idx: u32, owner: u16) -> bool {
        self.entries.get(idx as usize).is_some_and(|entry| {
            let word = entry.word.load(Ordering::Relaxed);
            State::of(word) == Some(State::User) && bufstate::owner(word) == owner
        })
    }

    /// Held or NicRx -> User(owner), or Lent -> User(owner).
    #[inline]
    fn deliver(&self, idx: u32, owner: u16) -> bool {
        self.change(idx, |word| match State::of(word)? {
            // One arm each: the table is looked up when this is compiled.
            State::NicRx => bufstate::give(word, State::NicRx, owner),
            State::Held => bufstate::give(word, State::Held, owner),
            State::Lent => bufstate::give(word, State::Lent, owner),
            _ => None,
        })
        .is_some()
    }

    #[cold]
    fn deliver_rare(&self, idx: u32, owner: u16) -> bool {
        self.deliver(idx, owner)
    }

    /// Held or NicRx -> Lent, and into `fifo` unless it is in one.
    #[inline]
    fn lend(&self, fifo: &mut Fifo, idx: u32) {
        let before = self.change(idx, |word| match State::of(word)? {
            from @ (State::NicRx | State::Held) => {
                bufstate::step(word, from, State::Lent).map(bufstate::queue)
            }
            _ => None,
        });
        // Flag and state changed in one step, so that exactly one FIFO links the buffer.
        if before.is_some_and(|word| !bufstate::is_queued(word)) {
            self.push(fifo, idx);
        }
    }

    /// Held or NicRx -> Free if `idle` (then `true`: the caller keeps it in a free list), else
    /// lent.
    #[inline]
    pub(super) fn put(&self, fifo: &mut Fifo, idx: u32, idle: bool) -> bool {
        if !idle {
            self.lend(fifo, idx);
            return false;
        }
        self.change(idx, |word| match State::of(word)? {
            from @ (State::NicRx | State::Held) => bufstate::step(word, from, State::Free),
            _ => None,
        })
        .is_some()
    }

    /// Looks at the oldest buffer of `fifo`. Idle: it becomes free and is returned. Busy: it goes
    /// to the end. No longer lent: it leaves the FIFO.
    #[inline]
    pub(super) fn inspect(&self, fifo: &mut Fifo, idle: impl Fn(u32) -> bool) -> Option<u32> {
        if fifo.len == 0 {
            return None;
        }
        let idx = fifo.head;
        let Entry { word, next } = self.entries.get(idx as usize)?;
        fifo.head = next.load(Ordering::Relaxed);
        fifo.len = fifo.len.wrapping_sub(1);
        let mut old = word.load(Ordering::Acquire);
        loop {
            let lent = State::of(old) == Some(State::Lent);
            if lent && !idle(idx) {
                self.push(fifo, idx);
                return None;
            }
            let new = if lent {
                bufstate::unqueue(bufstate::step(old, State::Lent, State::Free)?)
            } else {
                bufstate::unqueue(old)
            };
            match word.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return lent.then_some(idx),
                Err(now) => old = now,
            }
        }
    }

    #[inline]
    fn push(&self, fifo: &mut Fifo, idx: u32) {
        if fifo.len == 0 {
            fifo.head = idx;
        } else if let Some(last) = self.entries.get(fifo.tail as usize) {
            last.next.store(idx, Ordering::Relaxed);
        }
        fifo.tail = idx;
        // A buffer is in one FIFO at most, so this is less than their number.
        fifo.len = fifo.len.wrapping_add(1);
    }

    /// Puts all of `from` behind `to`.
    pub(super) fn append(&self, to: &mut Fifo, from: Fifo) {
        if from.len == 0 {
            return;
        }
        if to.len == 0 {
            *to = from;
        } else if let Some(last) = self.entries.get(to.tail as usize) {
            last.next.store(from.head, Ordering::Relaxed);
            to.tail = from.tail;
            to.len = to.len.wrapping_add(from.len);
        }
    }
}

/// The words of a pool's buffers at hand for a batch of slots of one owner: the steps that nearly
/// every buffer takes, each a comparison and a store. A word with the flag is left to [`BufCache`].
#[derive(Clone, Copy)]
pub(crate) struct Hand<'a> {
    words: &'a Words,
    entries: &'a [Entry],
    owner: u16,
    user: u32,
}

const HELD: u32 = bufstate::word(State::Held, 0);
const NIC_RX: u32 = bufstate::word(State::NicRx, 0);

impl<'a> Hand<'a> {
    #[inline]
    pub(super) fn new(words: &'a Words, owner: u16) -> Self {
        Self {
            words,
            entries: &words.entries,
            owner,
            user: bufstate::word(State::User, owner),
        }
    }

    /// User -> Held, as [`BufCache::take`]. `false`: left as it was; it may be possible all the same.
    #[inline(always)]
    pub(crate) fn take(&self, idx: u32) -> bool {
        self.claim(idx, HELD)
    }

    /// User -> Held -> NicRx at once. `false`: left as it was; it may be possible all the same.
    #[inline(always)]
    pub(crate) fn take_and_post(&self, idx: u32) -> bool {
        self.claim(idx, NIC_RX)
    }

    /// Held -> NicRx. `false`: left as it was; it may be possible all the same.
    #[inline(always)]
    pub(crate) fn post(&self, idx: u32) -> bool {
        self.swap(idx, HELD, NIC_RX)
    }

    /// NicRx -> User. `false`: left as it was; it may be possible all the same.
    #[inline(always)]
    pub(crate) fn received(&self, idx: u32) -> bool {
        self.swap(idx, NIC_RX, self.user)
    }

    /// Held -> User. `false`: it is not Held.
    #[inline(always)]
    pub(crate) fn sent(&self, idx: u32) -> bool {
        self.swap(idx, HELD, self.user) || self.words.deliver_rare(idx, self.owner)
    }

    /// User -> `to`, of whichever ring is first to name the buffer.
    #[inline(always)]
    fn claim(&self, idx: u32, to: u32) -> bool {
        self.entries.get(idx as usize).is_some_and(|entry| {
            let word = &entry.word;
            word.compare_exchange(self.user, to, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// `from`, which only the caller changes, to `to`.
    #[inline(always)]
    fn swap(&self, idx: u32, from: u32, to: u32) -> bool {
        let Some(Entry { word, .. }) = self.entries.get(idx as usize) else {
            return false;
        };
        let same = word.load(Ordering::Acquire) == from;
        if same {
            word.store(to, Ordering::Release);
        }
        same
    }
}

/// Whether nobody but the context that holds the buffer can change the word: it is in the
/// kernel's hand, and in no FIFO.
#[inline]
fn owned_here(word: u32) -> bool {
    !bufstate::is_queued(word)
        && matches!(
            State::of(word),
            Some(State::Free | State::NicRx | State::Held)
        )
}

/// Lent buffers that are looked at in one go.
const LOOKS: u32 = 8;

/// Free buffers and lent ones of one NIC queue or one ring; lives under the lock of that.
///
/// A method whose buffer is not in the state that it needs does nothing.
pub(crate) struct BufCache {
    pool: Arc<Pool>,
    /// Never more than `full`.
    free: KVec<u32>,
    lent: Fifo,
    /// How many buffers move between the cache and the pool at once.
    batch: usize,
    /// Twice `batch`.
    full: usize,
}

impl BufCache {
    /// An empty cache.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pool: Arc<Pool>) -> Result<Self> {
        let count = pool.buf_count();
        let batch = usize::try_from((count / 128).clamp(4, 64))?;
        Ok(Self {
            free: KVec::with_capacity(batch.saturating_mul(2), GFP_KERNEL)?,
            lent: Fifo::default(),
            batch,
            full: batch.saturating_mul(2),
            pool,
        })
    }

    /// The pool of the buffers.
    #[inline]
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    #[inline]
    fn get(&mut self) -> Option<u32> {
        match self.free.pop() {
            Some(idx) => Some(idx),
            None => self.find(),
        }
    }

    /// Fills the empty cache: first with what has come back, then from the pool.
    #[cold]
    fn find(&mut self) -> Option<u32> {
        // Twice what is lent per round, so that the FIFO shrinks if its buffers come back.
        self.reclaim(self.full as u32);
        if self.free.is_empty() {
            let batch = self.batch;
            self.pool.refill(&mut self.free, batch);
        }
        if self.free.is_empty() {
            self.reclaim(self.lent.len);
        }
        self.free.pop()
    }

    /// Free -> NicRx. `None`: the pool has none left.
    #[inline]
    pub(crate) fn get_nic(&mut self) -> Option<u32> {
        let idx = self.get()?;
        self.pool.words.step(idx, State::Free, State::NicRx);
        Some(idx)
    }

    /// Free -> User(owner). `None`: the pool has none left.
    #[inline]
    pub(crate) fn get_user(&mut self, owner: u16) -> Option<u32> {
        let idx = self.get()?;
        self.pool
            .words
            .change(idx, |word| bufstate::give(word, State::Free, owner));
        Some(idx)
    }

    /// Free -> Held. `None`: the pool has none left.
    #[inline]
    pub(crate) fn get_held(&mut self) -> Option<u32> {
        let idx = self.get()?;
        self.pool.words.step(idx, State::Free, State::Held);
        Some(idx)
    }

    /// User(owner) -> Held: how every index that an application wrote is checked. `false`: it is
    /// not the application's buffer.
    #[inline]
    pub(crate) fn take(&mut self, idx: u32, owner: u16) -> bool {
        self.pool.words.take(idx, owner)
    }

    /// Held or NicRx -> Free if nobody refers to its page, else Lent.
    #[inline]
    pub(crate) fn put(&mut self, idx: u32) {
        let idle = self.pool.idle(idx);
        if self.pool.words.put(&mut self.lent, idx, idle) {
            self.keep(idx);
        }
    }

    /// Held or NicRx -> Lent: somebody holds a reference of its page.
    #[inline]
    pub(crate) fn lend(&mut self, idx: u32) {
        self.pool.words.lend(&mut self.lent, idx);
    }

    /// Lent, Held or NicRx -> User(owner). `false`: it is in another state.
    #[inline]
    pub(crate) fn deliver(&mut self, idx: u32, owner: u16) -> bool {
        self.pool.words.deliver(idx, owner)
    }

    /// Held -> NicRx.
    #[inline]
    pub(crate) fn post(&mut self, idx: u32) -> bool {
        self.pool.words.step(idx, State::Held, State::NicRx)
    }

    /// NicRx -> Held, of a buffer that is not posted.
    #[inline]
    pub(crate) fn unpost(&mut self, idx: u32) -> bool {
        self.pool.words.step(idx, State::NicRx, State::Held)
    }

    /// Whether free buffers are short: better copy than lend.
    #[inline]
    pub(crate) fn low(&mut self) -> bool {
        self.pool.low() && self.still_low()
    }

    /// The same after a look for buffers that have come back. Nobody else looks: who copies needs
    /// no free buffer, so without this a pool that was low once would be low for ever.
    #[cold]
    fn still_low(&mut self) -> bool {
        self.recover();
        self.pool.reclaim_some(LOOKS);
        self.pool.low()
    }

    /// Takes back lent buffers while any of a few are idle or no longer lent. For when there is
    /// nothing else to do, or buffers are short: what a burst has lent is free again soon after it.
    pub(crate) fn recover(&mut self) {
        loop {
            let before = self.lent.len;
            self.reclaim(LOOKS);
            if self.lent.len == before {
                return;
            }
        }
    }

    /// Looks at up to `budget` of the oldest lent buffers and keeps those that are idle.
    pub(crate) fn reclaim(&mut self, budget: u32) {
        for _ in 0..budget.min(self.lent.len) {
            let pool = &self.pool;
            if let Some(idx) = pool.words.inspect(&mut self.lent, |idx| pool.idle(idx)) {
                self.keep(idx);
            }
        }
    }

    /// Takes free buffers of a cache of the same pool that has more of them. A ring gets the buffers
    /// that its queue gives away: so they need not go round through the pool, whose lock others
    /// want, too.
    #[inline]
    pub(crate) fn feed_from(&mut self, other: &mut BufCache) {
        if self.free.len() < self.batch / 2 && other.free.len() > other.batch {
            self.feed(other);
        }
    }

    #[cold]
    fn feed(&mut self, other: &mut BufCache) {
        if !core::ptr::eq(&*self.pool, &*other.pool) {
            return;
        }
        while self.free.len() < self.batch && other.free.len() > other.batch / 2 {
            let Some(idx) = other.free.pop() else {
                return;
            };
            // Its capacity is twice the batch.
            let _ = self.free.push_within_capacity(idx);
        }
    }

    /// Keeps a free buffer, and makes room for the next one.
    #[inline]
    fn keep(&mut self, idx: u32) {
        let _ = self.free.push_within_capacity(idx);
        if self.free.len() >= self.full {
            let batch = self.batch;
            self.pool.spill(&mut self.free, batch);
        }
    }

    /// Gives everything back to the pool.
    pub(crate) fn flush(&mut self) {
        let count = self.free.len();
        self.pool.spill(&mut self.free, count);
        self.pool.adopt(core::mem::take(&mut self.lent));
    }
}

impl Drop for BufCache {
    fn drop(&mut self) {
        self.flush();
    }
}
