// SPDX-License-Identifier: GPL-2.0
//! Receiving: counts, and gaps in the numbers of each flow.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use netmap::{Port, Wait};

use crate::frame;
use crate::rates::Counters;

/// The numbers seen of a flow.
#[derive(Clone, Copy, Debug)]
struct Flow {
    lowest: u64,
    highest: u64,
    seen: u64,
}

impl Flow {
    /// Nothing seen.
    const NEW: Flow = Flow {
        lowest: u64::MAX,
        highest: 0,
        seen: 0,
    };
}

/// What became of the flows that came to a ring.
#[derive(Clone, Debug, Default)]
pub struct Flows(Vec<Flow>);

impl Flows {
    /// Notes a frame.
    #[inline(always)]
    fn note(&mut self, flow: u32, number: u64) {
        let Some(flow) = self.0.get_mut(flow as usize) else {
            return self.note_first(flow, number);
        };
        // A late frame may have come before the first one that was seen.
        flow.lowest = flow.lowest.min(number);
        flow.highest = flow.highest.max(number);
        flow.seen += 1;
    }

    #[cold]
    #[inline(never)]
    fn note_first(&mut self, flow: u32, number: u64) {
        self.grow(flow as usize + 1);
        self.note(flow, number);
    }

    fn grow(&mut self, flows: usize) {
        self.0.resize(flows, Flow::NEW);
    }

    /// Adds what another ring has seen.
    pub fn merge(&mut self, other: &Flows) {
        if self.0.len() < other.0.len() {
            self.grow(other.0.len());
        }
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            to.lowest = to.lowest.min(from.lowest);
            to.highest = to.highest.max(from.highest);
            to.seen += from.seen;
        }
    }

    /// Frames that are missing between the first and the last seen of each flow.
    pub fn lost(&self) -> u64 {
        // Less by one than numbers from the lowest to the highest, so that no number is too large.
        let lost = |flow: &Flow| match flow.seen.checked_sub(1) {
            Some(others) => (flow.highest - flow.lowest).saturating_sub(others),
            None => 0,
        };
        self.0.iter().map(lost).sum()
    }

    /// Flows of which something came.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|flow| flow.seen != 0).count()
    }
}

/// When to stop, whatever comes first.
pub struct Limits<'a> {
    /// After so many frames; 0: never.
    pub count: u64,
    /// At this time.
    pub end: Option<Instant>,
    /// When nothing came for so long after something did.
    pub idle: Duration,
    /// How long to sleep before each look.
    pub pause: Duration,
    /// When this is set.
    pub stop: &'a AtomicBool,
}

/// Receives on all rings of `port`.
///
/// # Errors
///
/// Those of the port; `ConnectionAborted` if it failed.
pub fn run(port: &mut Port, limits: &Limits<'_>, counters: &Counters) -> io::Result<(Flows, u64)> {
    let mut flows = Flows::default();
    let (mut total, mut other) = (0, 0);
    let mut newest = None;
    while !limits.stop.load(Relaxed) {
        if !limits.pause.is_zero() {
            std::thread::sleep(limits.pause);
        }
        let ready = port.poll(Wait::Rx, Some(Duration::from_millis(100)))?;
        if ready.error {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let now = Instant::now();
        let (mut frames, mut bytes) = (0, 0);
        let (rings, _) = port.rings();
        for ring in rings {
            let mut strange = 0;
            let seen = ring.look(u32::MAX, |packet, _| {
                bytes += packet.len() as u64;
                match frame::read(packet) {
                    Some((flow, number)) => flows.note(flow, number),
                    None => strange += 1,
                }
            });
            frames += u64::from(seen) - strange;
            other += strange;
        }
        if frames != 0 {
            counters.add(frames, bytes);
            total += frames;
            newest = Some(now);
        }
        let idle = newest.is_some_and(|at| now.duration_since(at) >= limits.idle);
        let enough = limits.count != 0 && total >= limits.count;
        if idle || enough || limits.end.is_some_and(|end| now >= end) {
            break;
        }
    }
    Ok((flows, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_losses_and_order_does_not_matter() {
        let mut one = Flows::default();
        for number in [5, 6, 8, 7, 11] {
            one.note(2, number);
        }
        assert_eq!((one.lost(), one.count()), (2, 1));
        let mut two = Flows::default();
        two.note(2, 9);
        two.note(0, 1);
        two.note(0, 3);
        one.merge(&two);
        assert_eq!((one.lost(), one.count()), (2, 2));
        let mut late = Flows::default();
        late.note(0, 4);
        late.note(0, 3);
        assert_eq!(late.lost(), 0);
    }
}
