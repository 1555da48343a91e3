// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! An append-only log in a ring of cache lines.
//!
//! A line is valid through its first word, which is stored last. It names the
//! segments of an object and has the checksum of their bytes. So nothing has
//! to be ordered before it: payload and lines of a whole batch are flushed as
//! they come, and one wait makes all of them durable. A line that got through
//! a power failure without its payload, or without its other lines, is found
//! out by the checksums, and was not acknowledged.
//!
//! The log ends where the first line is missing, and starts where the state
//! word says, which one atomic store moves on.

mod line;
mod recover;

use line::{Line, SEGMENTS};

use crate::header::{Header, Kind, LINES};
use crate::memory::LINE;
use crate::store::Store;
use crate::{word, Body, Buffers, Error, Found, Memory, Pool, Segment};

/// State word: the oldest object's first line.
const FIRST: usize = 0;
/// State word: all lines before this one had been waited for, and perhaps some
/// after it.
const DURABLE: usize = 1;

/// Number of an object's first line, counted from the log's first one, which
/// is 1.
pub type Seq = u64;

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogShape {
    /// Lines of 64 bytes: one per object, more for those of more than 5
    /// segments, 5 to a line.
    pub lines: u32,
    /// Blocks for payload that is copied.
    pub blocks: u32,
    /// Bytes of a block: a multiple of 64 below 65536.
    pub block_size: u32,
}

impl LogShape {
    /// A file of about `size` bytes with a line for each block of `block_size`
    /// bytes, or with lines only if that is 0.
    pub fn for_bytes(size: u64, block_size: u32) -> LogShape {
        let room = size.saturating_sub(2 * LINES as u64);
        let each = LINE as u64 + u64::from(block_size);
        let count = u32::try_from(room / each).unwrap_or(u32::MAX >> 1).max(1);
        LogShape {
            lines: count,
            blocks: if block_size == 0 { 0 } else { count },
            block_size,
        }
    }

    /// Bytes of the file. `Shape`: no log can have these sizes.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.header(Pool::NONE)?.total())
    }

    fn header(&self, pool: Pool) -> Result<Header, Error> {
        let blocks = (self.blocks, self.block_size);
        Header::new(Kind::Log, (self.lines, 0), blocks, pool)
    }
}

/// A log of objects whose bytes stay in packet buffers or are copied to blocks.
///
/// ```
/// use netmap_storage::{Body, Heap, Log, LogShape, NoBuffers, Pool};
///
/// let shape = LogShape::for_bytes(1 << 20, 2048);
/// let mut log = Log::format(Heap::new(1 << 20), shape, Pool::NONE)?;
///
/// let mut body = Body::new();
/// log.copy(&mut body, b"first half, ")?;
/// log.copy(&mut body, b"second half")?;
/// let seq = log.append(&mut body)?;
/// log.commit()?;
///
/// // Later, in another process:
/// let (log, found) = Log::open(log.into_memory(), Pool::NONE, &NoBuffers)?;
/// assert_eq!((found.objects, found.bytes), (1, 23));
/// let object = log.get(seq).unwrap();
/// let text: Vec<u8> = object.segments().flat_map(|s| log.block(s).to_vec()).collect();
/// assert_eq!(text, b"first half, second half");
/// # Ok::<(), netmap_storage::Error>(())
/// ```
pub struct Log<M> {
    store: Store<M>,
    seed: u32,
    /// First line of the oldest object that has not been dropped.
    first: Seq,
    /// The same, durably: lines before it can be used again.
    reusable: Seq,
    /// The next line.
    head: Seq,
    /// All lines before it are durable.
    durable: Seq,
    /// Segments of objects that have been dropped, not durably yet.
    dropped: Vec<Segment>,
    /// Objects that recovery found damaged, in order: nobody gets them.
    damaged: Vec<Seq>,
}

impl<M: Memory> Log<M> {
    /// Make an empty log of `mem`, whatever was in it. Errors: `Shape`,
    /// `Truncated` (the memory is too small), `Io`.
    pub fn format(mut mem: M, shape: LogShape, pool: Pool) -> Result<Log<M>, Error> {
        let header = shape.header(pool)?;
        // Lines need no clearing: with another salt none of them is valid.
        header.format(&mut mem, [1, 1], |_| ())?;
        Ok(Log::new(Store::new(mem, header), 1))
    }

    /// Recover a log: see what is in it and check it, byte by byte. Nothing
    /// is written unless the log can be opened. Errors: any but `Full`,
    /// `KeyLength`, `BadSegment`, `Shape`.
    pub fn open(mem: M, pool: Pool, bufs: &dyn Buffers) -> Result<(Log<M>, Found), Error> {
        recover::open(mem, pool, bufs)
    }

    fn new(store: Store<M>, first: Seq) -> Log<M> {
        Log {
            seed: store.header.seed(0),
            store,
            first,
            reusable: first,
            head: first,
            durable: first,
            dropped: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Add the bytes of a packet buffer to an object, where they are. Starts
    /// to flush them. Errors: `BadSegment`.
    #[inline]
    pub fn hold(&mut self, body: &mut Body, segment: Segment, bytes: &[u8]) -> Result<(), Error> {
        self.store.hold(body, segment, bytes)
    }

    /// Copy bytes into blocks and add them to an object. Starts to flush them.
    /// Errors: `Full`; the body is as it was.
    #[inline]
    pub fn copy(&mut self, body: &mut Body, bytes: &[u8]) -> Result<(), Error> {
        self.store.copy(body, bytes)
    }

    /// Give an object up that was not appended. Its packet buffers come out of
    /// [`Log::freed`].
    pub fn discard(&mut self, body: &mut Body) {
        self.store.discard(body);
    }

    /// Append an object and start to flush its lines. It is durable after the
    /// next [`Log::commit`]. The body is empty then and can be used again.
    /// Errors: `Full`; the body is as it was.
    pub fn append(&mut self, body: &mut Body) -> Result<Seq, Error> {
        let lines = body.segments.len().div_ceil(SEGMENTS).max(1) as u64;
        if lines > self.free_lines() || self.head + lines > word::MAX {
            return Err(Error::Full);
        }
        let seq = self.head;
        let mut crc = body.crc;
        let mut rest = body.segments.as_slice();
        for i in 0..lines {
            let (here, later) = rest.split_at(rest.len().min(SEGMENTS));
            let ends = (i == 0, i + 1 == lines);
            let (word, line) = Line::encode(seq + i, ends, crc, here, self.seed);
            let at = self.at(seq + i);
            let mem = &mut self.store.mem;
            mem.write(at + 8, &line[8..]);
            mem.store(at, word);
            mem.flush(at, LINE);
            (crc, rest) = (0, later);
        }
        self.head = seq + lines;
        body.clear();
        Ok(seq)
    }

    /// Wait until everything appended and dropped is durable: one wait for all
    /// of it, none if there is nothing. After an error nothing new may be
    /// acknowledged; it can be tried again.
    pub fn commit(&mut self) -> std::io::Result<()> {
        if self.first != self.reusable {
            self.store.set_state(FIRST, self.first);
        } else if self.head == self.durable {
            return Ok(());
        }
        self.store.mem.wait()?;
        self.reusable = self.first;
        self.durable = self.head;
        // Not waited for: it only helps to tell damage from interruption.
        self.store.set_state(DURABLE, self.head);
        for segment in self.dropped.drain(..) {
            self.store.release(segment);
        }
        Ok(())
    }

    /// Packet buffers that nothing in the log refers to any more, durably.
    pub fn freed(&mut self) -> std::vec::Drain<'_, u32> {
        self.store.freed()
    }

    /// Drop the oldest object that is durable; its space and buffers are free
    /// after the next [`Log::commit`]. `None` if there is no such object.
    pub fn drop_oldest(&mut self) -> Option<Seq> {
        if self.first >= self.durable {
            return None;
        }
        let seq = self.first;
        let dropped = &mut self.dropped;
        let lines = Lines(&self.store, self.seed);
        let group = lines.group(seq, self.durable, |line| dropped.extend(line.segments()));
        self.first = group.next;
        Some(seq)
    }

    /// Drop all durable objects before `before`, as [`Log::drop_oldest`] does.
    pub fn truncate(&mut self, before: Seq) {
        while self.first < before && self.drop_oldest().is_some() {}
    }

    /// Drop old objects until `lines` lines are free, or nothing durable is left
    /// to drop; the room is there after the next [`Log::commit`]. Done in each
    /// batch for the next one, a log runs for ever and waits for nothing more.
    pub fn make_room(&mut self, lines: u64) {
        let all = u64::from(self.store.header.lines);
        while all - (self.head - self.first) < lines && self.drop_oldest().is_some() {}
    }

    /// Lines that can be appended.
    pub fn free_lines(&self) -> u64 {
        u64::from(self.store.header.lines) - (self.head - self.reusable)
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

    /// The object that starts at `seq`, if there is one and it is not damaged.
    pub fn get(&self, seq: Seq) -> Option<Object<'_, M>> {
        if !(self.first..self.head).contains(&seq) {
            return None;
        }
        self.object(seq, self.head)
    }

    /// The object that starts at `seq` as a failure now would leave it: one that
    /// was dropped is there until that is durable, and one that was appended
    /// since the last [`Log::commit`] is not.
    pub fn get_durable(&self, seq: Seq) -> Option<Object<'_, M>> {
        if !(self.reusable..self.durable).contains(&seq) {
            return None;
        }
        self.object(seq, self.durable)
    }

    fn object(&self, seq: Seq, end: Seq) -> Option<Object<'_, M>> {
        if !self.damaged.is_empty() && self.damaged.binary_search(&seq).is_ok() {
            return None;
        }
        let group = self.group(seq, end, |_| ());
        group.whole.then_some(Object {
            log: self,
            seq,
            end: group.next,
        })
    }

    /// All objects that are not damaged, the oldest first.
    pub fn objects(&self) -> impl Iterator<Item = Object<'_, M>> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            while next < self.head {
                let seq = next;
                next = self.group(seq, self.head, |_| ()).next;
                if let Some(object) = self.get(seq) {
                    return Some(object);
                }
            }
            None
        })
    }

    /// The memory, after a last commit that may have failed.
    pub fn into_memory(self) -> M {
        self.store.mem
    }

    /// Where the line of a number lies.
    fn at(&self, seq: Seq) -> usize {
        self.lines().at(seq)
    }

    /// The line of a number, if it is valid.
    fn line(&self, seq: Seq) -> Option<Line<'_>> {
        self.lines().line(seq)
    }

    /// See [`Lines::group`].
    fn group(&self, seq: Seq, end: Seq, each: impl FnMut(Line<'_>)) -> Group {
        self.lines().group(seq, end, each)
    }

    fn lines(&self) -> Lines<'_, M> {
        Lines(&self.store, self.seed)
    }
}

/// What is in the log's lines, given their seed.
struct Lines<'a, M>(&'a Store<M>, u32);

impl<'a, M: Memory> Lines<'a, M> {
    /// Where the line of a number lies.
    #[inline]
    fn at(&self, seq: Seq) -> usize {
        LINES + (seq % u64::from(self.0.header.lines)) as usize * LINE
    }

    /// The line of a number, if it is valid.
    #[inline]
    fn line(&self, seq: Seq) -> Option<Line<'a>> {
        let bytes = self.0.mem.bytes().get(self.at(seq)..)?.first_chunk()?;
        Line::decode(bytes, seq, self.1)
    }

    /// The lines from `seq` on that belong to one object, or that have to be
    /// skipped to get to the next one; not beyond `end`. `each` gets those that
    /// are valid.
    #[inline]
    fn group(&self, seq: Seq, end: Seq, mut each: impl FnMut(Line<'_>)) -> Group {
        let mut whole = true;
        let mut next = seq;
        while next < end {
            let line = self.line(next);
            let first = line.is_some_and(Line::is_first);
            if next > seq && first {
                break;
            }
            whole &= line.is_some() && first == (next == seq);
            next += 1;
            if let Some(line) = line {
                each(line);
                if whole && line.is_last() {
                    return Group { next, whole };
                }
            }
        }
        Group { next, whole: false }
    }
}

/// Lines of an object.
struct Group {
    /// Number of the line after them.
    next: Seq,
    /// All there, from the first to the last.
    whole: bool,
}

/// An object in a log.
pub struct Object<'a, M> {
    log: &'a Log<M>,
    seq: Seq,
    end: Seq,
}

impl<M: Memory> Object<'_, M> {
    /// Its number.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Its bytes lie there, in this order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let lines = (self.seq..self.end).filter_map(|seq| self.log.line(seq));
        lines.flat_map(Line::segments)
    }

    /// How many bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.segments().map(|segment| u64::from(segment.len)).sum()
    }
}
