// SPDX-License-Identifier: GPL-2.0
//! Counters of the threads, a line per second, and the sum at the end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What one thread has done. On a cache line of its own, as only its thread writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    frames: AtomicU64,
    bytes: AtomicU64,
    done: AtomicBool,
}

impl Counters {
    /// Adds a batch. Only the one thread that owns the counters calls it.
    pub fn add(&self, frames: u64, bytes: u64) {
        self.frames
            .store(self.frames.load(Relaxed) + frames, Relaxed);
        self.bytes.store(self.bytes.load(Relaxed) + bytes, Relaxed);
    }

    /// The thread has ended.
    pub fn done(&self) {
        self.done.store(true, Relaxed);
    }
}

/// Sum over all threads: (frames, bytes).
fn sum(all: &[Counters]) -> (u64, u64) {
    all.iter().fold((0, 0), |(frames, bytes), one| {
        (
            frames + one.frames.load(Relaxed),
            bytes + one.bytes.load(Relaxed),
        )
    })
}

/// Prints a line per second to stderr until all threads have ended.
pub fn watch(what: &str, all: &[Counters]) {
    let mut last = (Instant::now(), sum(all));
    while !all.iter().all(|one| one.done.load(Relaxed)) {
        std::thread::sleep(Duration::from_millis(50));
        let now = Instant::now();
        let seconds = now.duration_since(last.0).as_secs_f64();
        if seconds >= 1.0 {
            let total = sum(all);
            let frames = (total.0 - last.1 .0) as f64 / seconds;
            let bits = (total.1 - last.1 .1) as f64 * 8.0 / seconds;
            eprintln!(
                "{what} {} frames, {frames:.0}/s, {:.3} Gbit/s",
                total.0,
                bits / 1e9
            );
            last = (now, total);
        }
    }
}

/// The totals as `name=value` words.
pub fn totals(all: &[Counters], seconds: f64) -> String {
    let (frames, bytes) = sum(all);
    format!(
        "frames={frames} bytes={bytes} seconds={seconds:.3} pps={:.0}",
        frames as f64 / seconds.max(1e-9)
    )
}
