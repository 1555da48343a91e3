// SPDX-License-Identifier: GPL-2.0
//! Sending: every slot keeps its frame, of which only the number changes.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use netmap::{Port, Wait};

use crate::frame::{self, Ends};
use crate::rates::Counters;

/// What a thread sends.
pub struct Plan<'a> {
    /// Addresses.
    pub ends: Ends,
    /// The flows of this thread.
    pub flows: Range<u32>,
    /// Bytes of a frame.
    pub length: usize,
    /// Frames; 0: no limit.
    pub count: u64,
    /// Frames per second; 0: as many as go.
    pub rate: u64,
    /// When to end, at the latest.
    pub end: Option<Instant>,
    /// Ends it when set.
    pub stop: &'a AtomicBool,
}

/// Sends on the first ring of `port`, and waits until all is sent.
///
/// # Errors
///
/// Those of the port; `ConnectionAborted` if it failed, `InvalidInput` if its buffers are too small.
pub fn run(port: &mut Port, plan: &Plan<'_>, counters: &Counters) -> io::Result<()> {
    let start = Instant::now();
    let slots = u64::from(port.tx(0).num_slots());
    let flows = plan.flows.len() as u64;
    if plan.length > port.tx(0).buf_size() as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut sent = 0;
    loop {
        let over = plan.end.is_some_and(|end| Instant::now() >= end);
        if over || plan.stop.load(Relaxed) || (plan.count != 0 && sent >= plan.count) {
            break;
        }
        let mut due = u64::MAX;
        if plan.rate != 0 {
            let elapsed = start.elapsed().as_micros() as u64;
            due = elapsed.saturating_mul(plan.rate) / 1_000_000 + 1;
        }
        if plan.count != 0 {
            due = due.min(plan.count);
        }
        let before = sent;
        let (mut slot_number, mut round) = (sent % slots, sent / slots);
        let length = plan.length as u16;
        let tx = port.tx(0);
        if flows == 1 && round != 0 {
            // All frames are there, and the number of a frame is how many were sent.
            tx.fill(|room| {
                if sent == due {
                    return None;
                }
                frame::number(room, sent);
                sent += 1;
                Some(length)
            });
        } else {
            tx.fill(|room| {
                if sent == due {
                    return None;
                }
                // A ring is used in order from its first slot on, and keeps its buffers: what is there
                // since the first round is a frame of the same flow.
                if round == 0 {
                    let flow = plan.flows.start + (slot_number % flows) as u32;
                    frame::write(room.get_mut(..plan.length)?, &plan.ends, flow);
                }
                frame::number(room, number(slots, flows, slot_number, round));
                sent += 1;
                slot_number += 1;
                if slot_number == slots {
                    (slot_number, round) = (0, round + 1);
                }
                Some(length)
            });
        }
        counters.add(sent - before, (sent - before) * plan.length as u64);
        if sent == due {
            port.txsync()?;
            if plan.rate != 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        } else if port.poll(Wait::Tx, Some(Duration::from_secs(1)))?.error {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    let patience = Instant::now() + Duration::from_secs(2);
    while !port.tx(0).drained() && Instant::now() < patience {
        port.txsync()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The number of a frame in its flow: how many of that flow have been sent before it, when slot
/// `i` of `slots` belongs to flow `i % flows`, and all slots have been used `round` times.
#[inline]
fn number(slots: u64, flows: u64, i: u64, round: u64) -> u64 {
    if flows == 1 {
        return round * slots + i;
    }
    let flow = i % flows;
    let per_round = slots / flows + u64::from(flow < slots % flows);
    round * per_round + i / flows
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_of_a_flow_have_no_gaps() {
        for (slots, flows) in [(8, 1), (8, 2), (8, 3), (5, 4), (4, 7)] {
            let mut next = vec![0; flows as usize];
            for sent in 0..100 {
                let (i, round) = (sent % slots, sent / slots);
                let next = &mut next[(i % flows) as usize];
                assert_eq!(
                    number(slots, flows, i, round),
                    *next,
                    "{slots} {flows} {sent}"
                );
                *next += 1;
            }
        }
    }
}
