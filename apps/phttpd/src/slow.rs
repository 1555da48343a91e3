// SPDX-License-Identifier: GPL-2.0
//! What waits in a connection of a stack port, and when its peer is held.

use std::os::fd::RawFd;

use netmap::TxRing;

/// With more waiting input than this, bytes, the peer is held.
const HOLD_ABOVE: usize = 256 << 10;
/// With less than this it may go on.
const RESUME_BELOW: usize = 64 << 10;

/// Of a connection whose answers wait.
#[derive(Default)]
pub struct Slow {
    /// Answers to be sent before anything else.
    pub unsent: Vec<u8>,
    /// How many bytes at the start of `unsent` came back from the kernel.
    pub returned: usize,
    /// Input to be looked at after that.
    pub unread: Vec<u8>,
    /// The socket is full; the kernel will say when it is not.
    pub blocked: bool,
    /// The kernel was told to receive nothing more.
    held: bool,
}

impl Slow {
    /// Answers and input that wait.
    pub fn new(unsent: Vec<u8>, unread: Vec<u8>) -> Slow {
        Slow {
            unsent,
            unread,
            ..Slow::default()
        }
    }

    /// True while the peer is held. That must end before the connection is
    /// forgotten to be slow.
    pub fn held(&self) -> bool {
        self.held
    }

    /// Hold the peer or let it go on, as the waiting input demands. That takes
    /// a slot; without one, call it again when there may be one.
    #[inline]
    pub fn regulate(&mut self, fd: RawFd, tx: &mut TxRing) {
        if self.due() {
            if let Some(slot) = tx.reserve() {
                if self.turn() {
                    slot.hold(fd);
                } else {
                    slot.resume(fd);
                }
            }
        }
    }

    /// True if the kernel has to be told something else than last time.
    fn due(&self) -> bool {
        if self.held {
            self.unread.len() < RESUME_BELOW
        } else {
            self.unread.len() > HOLD_ABOVE
        }
    }

    /// Change over; returns whether the peer is held now.
    fn turn(&mut self) -> bool {
        self.held = !self.held;
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(held: bool, unread: usize) -> Slow {
        Slow {
            unread: vec![0; unread],
            held,
            ..Slow::default()
        }
    }

    #[test]
    fn much_input_holds_and_little_ends_it() {
        for (held, unread, due) in [
            (false, 0, false),
            (false, RESUME_BELOW, false),
            (false, HOLD_ABOVE, false),
            (false, HOLD_ABOVE + 1, true),
            (true, HOLD_ABOVE + 1, false),
            (true, RESUME_BELOW, false),
            (true, RESUME_BELOW - 1, true),
            (true, 0, true),
        ] {
            assert_eq!(with(held, unread).due(), due, "{held} {unread}");
        }
    }

    #[test]
    fn what_the_kernel_is_told_alternates() {
        let mut slow = with(false, 0);
        let mut told = Vec::new();
        // Input comes in pieces, some turns find no slot, then it is read.
        let sizes = (0..40).chain((0..40).rev()).map(|n| n * 10_000);
        for (i, size) in sizes.clone().chain(sizes).enumerate() {
            slow.unread.resize(size, 0);
            if slow.due() && i % 3 == 0 {
                told.push(slow.turn());
            }
        }
        // The last turn without input that has a slot.
        slow.unread.clear();
        if slow.due() {
            told.push(slow.turn());
        }
        assert_eq!(told, [true, false, true, false]);
        assert!(!slow.held());
    }
}
