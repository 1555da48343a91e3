// SPDX-License-Identifier: GPL-2.0
//! The cursors of a ring: who owns which slot.
//!
//! The kernel side keeps these numbers in its own memory. Of the shared ring it reads only `head`
//! and `cur`, once per sync, and passes them through [`Cursor::tx_prologue`] or
//! [`Cursor::rx_prologue`]; after that only the checked copies here count. The shared `tail` is
//! never read: each sync overwrites it, so a changed one is restored silently.
//!
//! Going round the ring from `hwcur`:
//!
//! ```text
//! hwcur ...... rhead ...... rcur ...... rtail ...... hwtail ...... hwcur
//!    | handed to  |     application's      | not yet    |  kernel's
//!    | the kernel |     (rcur = wake-up)   | published  |  (NIC, stack)
//! ```

/// `head` or `cur` of the application lies outside what it owns. The ring must be [reset], and
/// poll() reports `POLLERR`; the sync ioctls report nothing.
///
/// [reset]: Cursor::reset
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset;

/// Values to write to the shared ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// `netmap_ring.head`.
    pub head: u32,
    /// `netmap_ring.cur`.
    pub cur: u32,
    /// `netmap_ring.tail`.
    pub tail: u32,
}

/// The kernel's cursors of one ring.
///
/// # Invariants
///
/// All are less than `num_slots`, which is not 0. With `d(x)` the steps from `hwcur` to `x`:
/// `d(rhead) <= d(rcur) <= d(rtail) <= d(hwtail) <= num_slots - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    num_slots: u32,
    hwcur: u32,
    hwtail: u32,
    rhead: u32,
    rcur: u32,
    rtail: u32,
}

impl Cursor {
    /// A fresh transmit ring: the application owns all slots but one. `num_slots` of 0 counts as 1.
    pub const fn tx(num_slots: u32) -> Cursor {
        let num_slots = if num_slots == 0 { 1 } else { num_slots };
        let last = num_slots.saturating_sub(1);
        // INVARIANT: hwcur = rhead = rcur = 0, and d(last) = num_slots - 1.
        Cursor {
            num_slots,
            hwcur: 0,
            hwtail: last,
            rhead: 0,
            rcur: 0,
            rtail: last,
        }
    }

    /// A fresh receive ring: the kernel owns all slots. `num_slots` of 0 counts as 1.
    pub const fn rx(num_slots: u32) -> Cursor {
        // INVARIANT: all distances are 0.
        Cursor {
            num_slots: if num_slots == 0 { 1 } else { num_slots },
            hwcur: 0,
            hwtail: 0,
            rhead: 0,
            rcur: 0,
            rtail: 0,
        }
    }

    /// Number of slots.
    pub const fn num_slots(&self) -> u32 {
        self.num_slots
    }

    /// First slot the kernel has not taken yet.
    pub const fn hwcur(&self) -> u32 {
        self.hwcur
    }

    /// First slot that is the kernel's.
    pub const fn hwtail(&self) -> u32 {
        self.hwtail
    }

    /// `head` as of the last sync.
    pub const fn rhead(&self) -> u32 {
        self.rhead
    }

    /// `cur` as of the last sync.
    pub const fn rcur(&self) -> u32 {
        self.rcur
    }

    /// `tail` as last published.
    pub const fn rtail(&self) -> u32 {
        self.rtail
    }

    /// The slot after `slot`. A slot outside the ring counts as the last one.
    pub const fn next(&self, slot: u32) -> u32 {
        let next = slot.saturating_add(1);
        if next < self.num_slots {
            next
        } else {
            0
        }
    }

    /// The slot before `slot`. A slot outside the ring counts as 0.
    pub const fn prev(&self, slot: u32) -> u32 {
        if slot == 0 || slot >= self.num_slots {
            self.num_slots.saturating_sub(1)
        } else {
            slot.saturating_sub(1)
        }
    }

    /// The slot `count` steps after `slot`; both must be at most `num_slots`.
    pub const fn forward(&self, slot: u32, count: u32) -> u32 {
        let left = self.num_slots.saturating_sub(slot);
        if count < left {
            slot.saturating_add(count)
        } else {
            count.saturating_sub(left)
        }
    }

    /// Steps from slot `from` to slot `to` going forward; both must be in the ring.
    pub const fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from {
            to.saturating_sub(from)
        } else {
            self.num_slots.saturating_sub(from).saturating_add(to)
        }
    }

    /// Slots handed to the kernel that it has not taken: to be sent (tx), to be refilled (rx).
    pub const fn pending(&self) -> u32 {
        self.distance(self.hwcur, self.rhead)
    }

    /// Slots the application owns as far as it has been told.
    pub const fn space(&self) -> u32 {
        self.distance(self.rhead, self.rtail)
    }

    /// Slots by which `hwtail` may still advance. One slot of a ring always stays behind, so that a
    /// full ring differs from an empty one.
    pub const fn room(&self) -> u32 {
        let used = self.distance(self.hwcur, self.hwtail);
        self.num_slots.saturating_sub(1).saturating_sub(used)
    }

    /// Whether poll() reports the ring: there are slots from the wake-up point on.
    pub const fn ready(&self) -> bool {
        self.rcur != self.rtail
    }

    /// Whether slots wait to be synced, or the application has run out of them: a transmit ring for
    /// which poll() has work although nobody asked for `POLLOUT`.
    pub const fn has_pending(&self) -> bool {
        self.hwcur != self.rhead
    }

    /// Accepts `head` and `cur` if, going forward from `low`, `head` comes first, then `cur`, and
    /// neither lies behind the published tail.
    fn accept(&mut self, low: u32, head: u32, cur: u32) -> Result<u32, Reset> {
        if head >= self.num_slots || cur >= self.num_slots {
            return Err(Reset);
        }
        let to_head = self.distance(low, head);
        let to_cur = self.distance(low, cur);
        if to_head > to_cur || to_cur > self.distance(low, self.rtail) {
            return Err(Reset);
        }
        // INVARIANT: `low` is `hwcur` or `rhead`, so d() keeps the order just checked.
        self.rhead = head;
        self.rcur = cur;
        Ok(head)
    }

    /// Takes `head` and `cur` of a shared transmit ring at the start of a sync.
    ///
    /// Valid is: `head` from the previous one to the published tail, `cur` from `head` to that
    /// tail. Slots once handed over cannot be taken back. Returns the accepted `head`; the slots
    /// from [`hwcur`](Cursor::hwcur) up to it are to be sent.
    ///
    /// # Errors
    ///
    /// [`Reset`], and nothing has changed.
    pub fn tx_prologue(&mut self, head: u32, cur: u32) -> Result<u32, Reset> {
        self.accept(self.rhead, head, cur)
    }

    /// Takes `head` and `cur` of a shared receive ring at the start of a sync.
    ///
    /// Valid is: `head` from `hwcur` to the published tail, `cur` from `head` to that tail. Returns
    /// the accepted `head`; the slots from [`hwcur`](Cursor::hwcur) up to it are released. Slots
    /// that the kernel has filled but not published cannot be released.
    ///
    /// # Errors
    ///
    /// [`Reset`], and nothing has changed.
    pub fn rx_prologue(&mut self, head: u32, cur: u32) -> Result<u32, Reset> {
        self.accept(self.hwcur, head, cur)
    }

    /// The kernel has taken `count` of the [pending](Cursor::pending) slots. `false`, and no
    /// change, if there are fewer.
    #[must_use]
    pub fn take(&mut self, count: u32) -> bool {
        if count > self.pending() {
            return false;
        }
        // INVARIANT: every distance shrinks by `count`, and d(rhead) was at least that.
        self.hwcur = self.forward(self.hwcur, count);
        true
    }

    /// The kernel gives `count` more slots to the application: sent (tx), filled (rx). They are
    /// seen after the next [`sync_finalize`](Cursor::sync_finalize). `false`, and no change, if
    /// [`room`](Cursor::room) is less.
    #[must_use]
    pub fn give(&mut self, count: u32) -> bool {
        if count > self.room() {
            return false;
        }
        // INVARIANT: only d(hwtail) grows, by no more than what is left to num_slots - 1.
        self.hwtail = self.forward(self.hwtail, count);
        true
    }

    /// Ends a sync: the tail to publish. `head` and `cur` of the shared ring stay untouched, the
    /// application may be moving them.
    pub fn sync_finalize(&mut self) -> u32 {
        // INVARIANT: d(rtail) becomes d(hwtail).
        self.rtail = self.hwtail;
        self.rtail
    }

    /// Gives the application its ring back after [`Reset`]: it owns what is between `hwcur` and
    /// `hwtail`, nothing is pending. The three values are to be published.
    pub fn reset(&mut self) -> Published {
        // INVARIANT: d(rhead) = d(rcur) = 0, d(rtail) = d(hwtail).
        self.rhead = self.hwcur;
        self.rcur = self.hwcur;
        self.rtail = self.hwtail;
        self.published()
    }

    /// What the shared ring shows after initialisation.
    pub const fn published(&self) -> Published {
        Published {
            head: self.rhead,
            cur: self.rcur,
            tail: self.rtail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_tx_ring_offers_all_slots_but_one() {
        let tx = Cursor::tx(8);
        let shown = Published {
            head: 0,
            cur: 0,
            tail: 7,
        };
        assert_eq!(tx.published(), shown);
        assert_eq!((tx.space(), tx.room(), tx.pending()), (7, 0, 0));
        assert!(tx.ready() && !tx.has_pending());
    }

    #[test]
    fn a_fresh_rx_ring_is_empty() {
        let rx = Cursor::rx(8);
        let shown = Published {
            head: 0,
            cur: 0,
            tail: 0,
        };
        assert_eq!(rx.published(), shown);
        assert_eq!((rx.space(), rx.room()), (0, 7));
        assert!(!rx.ready());
    }

    #[test]
    fn a_ring_of_no_or_one_slot_never_has_room() {
        for n in [0, 1] {
            let mut tx = Cursor::tx(n);
            assert_eq!((tx.space(), tx.room()), (0, 0));
            assert!(!tx.give(1) && !tx.take(1));
            assert_eq!(tx.tx_prologue(0, 0), Ok(0));
            assert_eq!(tx.tx_prologue(1, 1), Err(Reset));
        }
    }

    #[test]
    fn tx_head_cannot_go_back_over_what_was_handed_over() {
        let mut tx = Cursor::tx(8);
        assert_eq!(tx.tx_prologue(5, 5), Ok(5));
        assert!(tx.take(2));
        assert_eq!(tx.tx_prologue(4, 5), Err(Reset));
        assert_eq!(tx.pending(), 3);
    }

    #[test]
    fn rx_head_may_go_back_to_what_was_not_taken() {
        let mut rx = Cursor::rx(8);
        assert!(rx.give(5));
        rx.sync_finalize();
        assert_eq!(rx.rx_prologue(4, 4), Ok(4));
        assert_eq!(rx.rx_prologue(2, 5), Ok(2));
        assert!(rx.take(2));
        assert_eq!(rx.rx_prologue(1, 1), Err(Reset));
    }

    #[test]
    fn unpublished_rx_slots_cannot_be_released() {
        let mut rx = Cursor::rx(8);
        assert!(rx.give(3));
        assert_eq!(rx.rx_prologue(1, 1), Err(Reset));
        assert_eq!(rx.sync_finalize(), 3);
        assert_eq!(rx.rx_prologue(3, 3), Ok(3));
    }

    #[test]
    fn cur_before_head_or_behind_tail_is_refused() {
        let mut rx = Cursor::rx(8);
        assert!(rx.give(4));
        rx.sync_finalize();
        for (head, cur) in [(2, 1), (2, 5), (5, 5), (8, 8), (0, 8), (u32::MAX, 0)] {
            assert_eq!(rx.rx_prologue(head, cur), Err(Reset), "{head} {cur}");
        }
        assert_eq!(rx.rx_prologue(0, 4), Ok(0));
        assert!(!rx.ready());
    }

    #[test]
    fn a_reset_forgets_what_was_pending() {
        let mut tx = Cursor::tx(8);
        assert_eq!(tx.tx_prologue(5, 6), Ok(5));
        assert!(tx.take(1));
        let shown = Published {
            head: 1,
            cur: 1,
            tail: 7,
        };
        assert_eq!(tx.reset(), shown);
        assert_eq!((tx.pending(), tx.space()), (0, 6));
    }

    #[test]
    fn next_and_prev_wrap_and_bound_foreign_values() {
        let ring = Cursor::rx(4);
        assert_eq!((ring.next(2), ring.next(3), ring.next(u32::MAX)), (3, 0, 0));
        assert_eq!((ring.prev(1), ring.prev(0), ring.prev(u32::MAX)), (0, 3, 3));
    }
}
