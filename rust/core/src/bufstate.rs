// SPDX-License-Identifier: GPL-2.0
//! Who owns a buffer.
//!
//! Each buffer has one 32-bit word in memory only the kernel sees: the state in bits 0-2, a flag in
//! bit 3, the owner in bits 16-31. A transition is a compare-and-exchange of that word with what
//! [`step`], [`give`] or [`take`] returns; a transition that is not in the table does not happen.
//! The caller does the atomics.
//!
//! A word of 0 is a free buffer. The owner is 0 except in state `User`.

/// State of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the pool, nobody's.
    Free = 0,
    /// Posted to a receive descriptor of a NIC.
    NicRx = 1,
    /// The application's: in a slot it sees, or in its list of extra buffers. It may swap between
    /// the two at any time, so the kernel does not tell them apart.
    User = 2,
    /// TCP or a transmit descriptor of a NIC still refers to it.
    Lent = 3,
    /// In the kernel's hand: between a slot and its next place, or kept for a slot that the
    /// application does not see yet.
    Held = 4,
    /// Never handed out: indices 0 and 1, and buffers whose memory cannot be used.
    Reserved = 5,
}

const STATES: usize = 6;
const STATE_MASK: u32 = 0x7;
const OWNER_SHIFT: u32 = 16;

/// Bit 3: the kernel has the buffer in a list of buffers to look at. The meaning is the list's; the
/// flag keeps a buffer from being linked twice. Any state may have it, and steps keep it.
pub const QUEUED: u32 = 1 << 3;

const YES: bool = true;
const NO: bool = false;

/// Which state may follow which: `LEGAL[from][to]`. What an application gives up is held first, so
/// that a buffer it names twice is taken once.
#[rustfmt::skip]
const LEGAL: [[bool; STATES]; STATES] = [
    // to:      Free NicRx User Lent Held Reserved
    /* Free  */ [NO,  YES, YES, NO,  YES, NO],  // posted; given to an application; for a copy
    /* NicRx */ [YES, NO,  YES, YES, YES, NO],  // torn down; shown in a slot; frame goes to TCP
    /* User  */ [NO,  NO,  NO,  NO,  YES, NO],  // released, sent or closed
    /* Lent  */ [YES, NO,  YES, NO,  NO,  NO],  // idle again; its payload shown in a slot
    /* Held  */ [YES, YES, YES, YES, NO,  NO],  // where it goes next
    /* Rsvd  */ [NO,  NO,  NO,  NO,  NO,  NO],
];

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [State; STATES] = [
        State::Free,
        State::NicRx,
        State::User,
        State::Lent,
        State::Held,
        State::Reserved,
    ];

    /// The state in `word`; `None` for numbers that are no state.
    pub const fn of(word: u32) -> Option<State> {
        match word & STATE_MASK {
            0 => Some(State::Free),
            1 => Some(State::NicRx),
            2 => Some(State::User),
            3 => Some(State::Lent),
            4 => Some(State::Held),
            5 => Some(State::Reserved),
            _ => None,
        }
    }

    /// Whether `to` may follow this state.
    pub fn may_become(self, to: State) -> bool {
        LEGAL
            .get(self as usize)
            .and_then(|row| row.get(to as usize))
            .is_some_and(|&legal| legal)
    }
}

/// A word without flag. `owner` is the number of a port, 0 for nobody.
pub const fn word(state: State, owner: u16) -> u32 {
    state as u32 | ((owner as u32) << OWNER_SHIFT)
}

/// The owner in `word`.
pub const fn owner(word: u32) -> u16 {
    (word >> OWNER_SHIFT) as u16
}

/// Whether the flag [`QUEUED`] is set in `word`.
pub const fn is_queued(word: u32) -> bool {
    word & QUEUED != 0
}

/// `word` with the flag [`QUEUED`].
pub const fn queue(word: u32) -> u32 {
    word | QUEUED
}

/// `word` without the flag [`QUEUED`].
pub const fn unqueue(word: u32) -> u32 {
    word & !QUEUED
}

/// The word that follows `word` when its buffer goes from state `from` to `to`, owned by nobody.
///
/// `None` if it is not in state `from`, or the table does not allow the step.
pub fn step(word: u32, from: State, to: State) -> Option<u32> {
    if State::of(word) != Some(from) || !from.may_become(to) {
        return None;
    }
    Some(word & QUEUED | to as u32)
}

/// [`step`] from state `from` to [`State::User`], for the application `new_owner`.
pub fn give(word: u32, from: State, new_owner: u16) -> Option<u32> {
    step(word, from, State::User).map(|next| next | (u32::from(new_owner) << OWNER_SHIFT))
}

/// [`step`] from [`State::User`] to [`State::Held`], only if the buffer is `claimant`'s: the check
/// of every index that an application wrote.
pub fn take(word: u32, claimant: u16) -> Option<u32> {
    if owner(word) != claimant {
        return None;
    }
    step(word, State::User, State::Held)
}

/// Number of buffers in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`State::Free`].
    pub free: u32,
    /// [`State::NicRx`].
    pub nic_rx: u32,
    /// [`State::User`].
    pub user: u32,
    /// [`State::Lent`].
    pub lent: u32,
    /// [`State::Held`].
    pub held: u32,
    /// [`State::Reserved`].
    pub reserved: u32,
    /// Words that hold no state: always 0 unless memory is corrupt.
    pub invalid: u32,
}

impl Counts {
    /// Counts `words`, one per buffer.
    pub fn of(words: impl IntoIterator<Item = u32>) -> Counts {
        let mut counts = Counts::default();
        for word in words {
            let count = match State::of(word) {
                Some(State::Free) => &mut counts.free,
                Some(State::NicRx) => &mut counts.nic_rx,
                Some(State::User) => &mut counts.user,
                Some(State::Lent) => &mut counts.lent,
                Some(State::Held) => &mut counts.held,
                Some(State::Reserved) => &mut counts.reserved,
                None => &mut counts.invalid,
            };
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Number of buffers counted.
    pub const fn total(&self) -> u32 {
        self.free
            .saturating_add(self.nic_rx)
            .saturating_add(self.user)
            .saturating_add(self.lent)
            .saturating_add(self.held)
            .saturating_add(self.reserved)
            .saturating_add(self.invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_path_of_a_received_and_answered_request_is_legal() {
        let mut w = 0;
        w = step(w, State::Free, State::NicRx).unwrap();
        w = step(w, State::NicRx, State::Lent).unwrap();
        w = give(w, State::Lent, 7).unwrap();
        assert_eq!((State::of(w), owner(w)), (Some(State::User), 7));
        w = take(w, 7).unwrap();
        assert_eq!(owner(w), 0);
        w = step(w, State::Held, State::Lent).unwrap();
        w = step(w, State::Lent, State::Free).unwrap();
        assert_eq!(w, 0);
    }

    #[test]
    fn a_buffer_named_twice_is_taken_once() {
        let taken = take(word(State::User, 7), 7).unwrap();
        assert_eq!(take(taken, 7), None);
        assert_eq!(take(taken, 0), None);
    }

    #[test]
    fn nobody_takes_the_buffer_of_another() {
        assert_eq!(take(word(State::User, 7), 8), None);
        for state in [
            State::Free,
            State::NicRx,
            State::Lent,
            State::Held,
            State::Reserved,
        ] {
            assert_eq!(take(word(state, 7), 7), None, "{state:?}");
        }
    }

    #[test]
    fn a_reserved_buffer_never_moves() {
        for to in State::ALL {
            assert_eq!(step(word(State::Reserved, 0), State::Reserved, to), None);
        }
        for from in State::ALL {
            assert!(!from.may_become(State::Reserved));
        }
    }

    #[test]
    fn a_step_to_the_same_state_is_no_step() {
        for state in State::ALL {
            assert!(!state.may_become(state));
        }
    }

    #[test]
    fn the_flag_survives_steps() {
        let w = take(queue(word(State::User, 7)), 7).unwrap();
        assert_eq!(w, queue(word(State::Held, 0)));
        assert!(is_queued(w) && !is_queued(unqueue(w)));
    }

    #[test]
    fn counts_add_up_and_show_what_is_no_state() {
        let words = [
            word(State::Reserved, 0),
            word(State::User, 1),
            queue(word(State::User, 2)),
            7,
        ];
        let counts = Counts::of(words);
        let want = Counts {
            user: 2,
            reserved: 1,
            invalid: 1,
            ..Counts::default()
        };
        assert_eq!((counts, counts.total()), (want, 4));
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn a_step_reaches_its_state_or_nothing(w: u32, from in 0usize..STATES, to in 0usize..STATES) {
            let (from, to) = (State::ALL[from], State::ALL[to]);
            match step(w, from, to) {
                Some(next) => {
                    prop_assert_eq!(State::of(w), Some(from));
                    prop_assert_eq!(State::of(next), Some(to));
                    prop_assert_eq!(next & QUEUED, w & QUEUED);
                }
                None => prop_assert!(State::of(w) != Some(from) || !from.may_become(to)),
            }
        }
    }
}
