// SPDX-License-Identifier: GPL-2.0
//! Ring cursors against a model that writes down the owner of every slot.

#[path = "../src/cases.rs"]
mod cases;

use cases::cases;
use netmap_core::ring::Cursor;
use proptest::prelude::*;

/// A step of the kernel or of the application.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The application sets `head` and `cur` (may be nonsense), then syncs.
    Sync { head: u32, cur: u32 },
    /// The kernel takes slots.
    Take(u32),
    /// The kernel gives slots.
    Give(u32),
    /// The kernel publishes.
    Publish,
}

/// Owner of a slot, in the order in which slots go round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Pending,
    App,
    Unpublished,
    Kernel,
}

/// The ring as a queue of slot numbers with their owners, beginning at `hwcur`.
#[derive(Clone, Debug)]
struct Model {
    slots: Vec<(u32, Owner)>,
    cur: u32,
}

impl Model {
    fn new(n: u32, owned: u32) -> Model {
        let owner = |i| if i < owned { Owner::App } else { Owner::Kernel };
        let slots = (0..n).map(|i| (i, owner(i))).collect();
        Model { slots, cur: 0 }
    }

    fn count(&self, owner: Owner) -> u32 {
        self.slots.iter().filter(|s| s.1 == owner).count() as u32
    }

    /// The positions `head` may take, in order: each slot the application owns (for rx those
    /// pending as well) and the one after them.
    fn allowed(&self, rx: bool) -> Vec<u32> {
        let first = if rx {
            0
        } else {
            self.count(Owner::Pending) as usize
        };
        let last = (self.count(Owner::Pending) + self.count(Owner::App)) as usize;
        (first..=last).map(|i| self.slots[i].0).collect()
    }

    fn sync(&mut self, rx: bool, head: u32, cur: u32) -> bool {
        let allowed = self.allowed(rx);
        let at = |x| allowed.iter().position(|&a| a == x);
        let (Some(head_at), Some(cur_at)) = (at(head), at(cur)) else {
            return false;
        };
        if head_at > cur_at {
            return false;
        }
        for (slot, owner) in &mut self.slots {
            let Some(i) = allowed[..allowed.len() - 1].iter().position(|a| a == slot) else {
                continue;
            };
            *owner = if i < head_at {
                Owner::Pending
            } else {
                Owner::App
            };
        }
        self.cur = cur;
        true
    }

    fn take(&mut self, count: u32) -> bool {
        if count > self.count(Owner::Pending) {
            return false;
        }
        for _ in 0..count {
            let (slot, _) = self.slots.remove(0);
            self.slots.push((slot, Owner::Kernel));
        }
        true
    }

    fn give(&mut self, count: u32) -> bool {
        let kernel = self.count(Owner::Kernel);
        if count + 1 > kernel {
            return false;
        }
        let mut left = count;
        for (_, owner) in &mut self.slots {
            if *owner == Owner::Kernel && left > 0 {
                *owner = Owner::Unpublished;
                left -= 1;
            }
        }
        true
    }

    fn publish(&mut self) -> u32 {
        for (_, owner) in &mut self.slots {
            if *owner == Owner::Unpublished {
                *owner = Owner::App;
            }
        }
        self.slots.iter().find(|s| s.1 == Owner::Kernel).unwrap().0
    }

    fn reset(&mut self) {
        for (_, owner) in &mut self.slots {
            if *owner != Owner::Kernel {
                *owner = Owner::App;
            }
        }
        self.cur = self.slots[0].0;
    }
}

fn steps(n: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..n + 2, 0..n + 2).prop_map(|(head, cur)| Step::Sync { head, cur }),
        2 => (0..n + 1).prop_map(Step::Take),
        2 => (0..n + 1).prop_map(Step::Give),
        2 => Just(Step::Publish),
    ];
    proptest::collection::vec(step, 0..if cfg!(miri) { 10 } else { 60 })
}

fn runs() -> impl Strategy<Value = (u32, bool, Vec<Step>)> {
    (1u32..9).prop_flat_map(|n| (Just(n), any::<bool>(), steps(n)))
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn the_cursors_agree_with_the_model((n, rx, steps) in runs()) {
        let mut ring = if rx { Cursor::rx(n) } else { Cursor::tx(n) };
        let mut model = Model::new(n, if rx { 0 } else { n - 1 });
        for step in steps {
            match step {
                Step::Sync { head, cur } => {
                    let got = if rx { ring.rx_prologue(head, cur) } else { ring.tx_prologue(head, cur) };
                    prop_assert_eq!(got.is_ok(), model.sync(rx, head, cur));
                    if got.is_err() {
                        ring.reset();
                        model.reset();
                    }
                }
                Step::Take(count) => prop_assert_eq!(ring.take(count), model.take(count)),
                Step::Give(count) => prop_assert_eq!(ring.give(count), model.give(count)),
                Step::Publish => prop_assert_eq!(ring.sync_finalize(), model.publish()),
            }
            prop_assert_eq!(ring.pending(), model.count(Owner::Pending));
            prop_assert_eq!(ring.space(), model.count(Owner::App));
            prop_assert_eq!(ring.room(), model.count(Owner::Kernel) - 1);
            prop_assert_eq!(ring.hwcur(), model.slots[0].0);
            prop_assert_eq!(ring.rcur(), model.cur);
        }
    }

    #[test]
    fn no_value_of_head_and_cur_breaks_a_ring(n in 1u32..2049, head: u32, cur: u32, rx: bool) {
        let mut ring = if rx { Cursor::rx(n) } else { Cursor::tx(n) };
        let sync = if rx { ring.rx_prologue(head, cur) } else { ring.tx_prologue(head, cur) };
        if sync.is_err() {
            ring.reset();
        }
        prop_assert!(ring.rhead() < n && ring.rcur() < n && ring.rtail() < n);
        prop_assert!(ring.pending() + ring.space() + ring.room() == n - 1);
    }
}
