// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Recovery of a log.

use std::ops::Range;

use super::{Log, Seq, DURABLE, FIRST};
use crate::header::{Header, Kind};
use crate::memory::{u64_at, LINE};
use crate::store::Store;
use crate::{Buffers, Damage, Error, Found, Memory, Pool, Segment};

/// See [`Log::open`].
pub(super) fn open<M: Memory>(
    mem: M,
    pool: Pool,
    bufs: &dyn Buffers,
) -> Result<(Log<M>, Found), Error> {
    let header = Header::open(mem.bytes(), Kind::Log, pool)?;
    let first = header.state(mem.bytes(), FIRST)?;
    // What is wrong before this is damage; from there on it may be the batch
    // that a failure interrupted.
    let sure = header.state(mem.bytes(), DURABLE)?;
    let end = first + u64::from(header.lines);
    if first == 0 || !(first..=end).contains(&sure) {
        return Err(Error::Damaged("state words"));
    }
    let mut log = Log::new(Store::new(mem, header), first);
    let mut found = Found::default();
    let (mut next, mut segments) = (first, Vec::new());
    while next < end {
        let limit = if next < sure { sure } else { end };
        let mut crc = 0;
        segments.clear();
        let group = log.group(next, limit, |line| {
            crc |= line.crc();
            segments.extend(line.segments());
        });
        let intact = group.whole && log.store.intact(segments.iter().copied(), crc, bufs);
        if !intact && next >= sure {
            break;
        }
        for &segment in &segments {
            log.store.claim(segment);
        }
        if intact {
            found.objects += 1;
            found.bytes += segments.iter().map(|s| u64::from(s.len)).sum::<u64>();
        } else {
            found.damaged.push(Damage::Line(next));
            log.damaged.push(next);
        }
        if group.next > sure {
            persist(&mut log, next..group.next, &segments, bufs);
        }
        next = group.next;
    }
    log.head = next;
    log.durable = next;
    found.unfinished = erase(&mut log, next, end);
    found.buffers = log.store.claimed();
    // Also the state word may be from a process that died before its flush.
    log.store.set_state(FIRST, first);
    log.store.mem.wait()?;
    log.store.set_state(DURABLE, next);
    Ok((log, found))
}

/// Flush an object that had not been waited for.
fn persist<M: Memory>(
    log: &mut Log<M>,
    lines: Range<Seq>,
    segments: &[Segment],
    bufs: &dyn Buffers,
) {
    for seq in lines {
        let at = log.at(seq);
        log.store.mem.flush(at, LINE);
    }
    for &segment in segments {
        log.store.flush_again(segment, bufs);
    }
}

/// Make lines invalid that follow the end of the log, so that they never turn
/// up behind what is appended next. Returns how many objects they started.
fn erase<M: Memory>(log: &mut Log<M>, from: Seq, end: Seq) -> u64 {
    let mut objects = 0;
    for seq in from..end {
        let at = log.at(seq);
        if let Some(line) = log.line(seq) {
            objects += u64::from(line.is_first());
            log.store.mem.store(at, 0);
        } else if u64_at(log.store.mem.bytes(), at + 8) != seq {
            continue;
        }
        // Also where another recovery has stored that: it may have died before
        // it flushed it.
        log.store.mem.flush(at, 8);
    }
    objects
}
