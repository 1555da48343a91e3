// SPDX-License-Identifier: GPL-2.0

//! One sync of one ring: cursors in, the backend's work, cursors out.

#![deny(unsafe_code)]

use super::bind::Bound;
use crate::{
    adapter::{kring::Kring, Port},
    nmcore::abi::NR_TIMESTAMP,
    sys::params,
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{hrtimer::HrTimerExpires, Instant, RealTime}, //
};

/// What a sync came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There are slots from the wake-up point on.
    Ready,
    /// There are none.
    Empty,
    /// Bad cursors (the ring was reset), the backend failed, or the ring is stopped.
    Failed,
}

/// Syncs `ring`.
pub(super) fn sync(port: &Port, ring: &Kring) -> Outcome {
    if ring.stopped() {
        return Outcome::Failed;
    }
    let mut state = ring.state.lock();
    let state = &mut *state;
    let (head, cur) = (ring.mem.head(), ring.mem.cur());
    let head = if ring.tx {
        state.cursor.tx_prologue(head, cur)
    } else {
        state.cursor.rx_prologue(head, cur)
    };
    let Ok(head) = head else {
        let at = state.cursor.reset();
        ring.mem.publish(at.head, at.cur, at.tail);
        ring.set_taken(at.head);
        return Outcome::Failed;
    };
    let done = if ring.tx {
        port.backend.txsync(port, ring, state, head)
    } else {
        port.backend.rxsync(port, ring, state, head)
    };
    ring.mem.set_tail(state.cursor.sync_finalize());
    if ring.tx {
        ring.set_taken(state.cursor.hwcur());
    } else if (state.cursor.ready() || ring.mem.flags() & NR_TIMESTAMP != 0) && params::timestamps()
    {
        ring.mem.stamp(Instant::<RealTime>::now().as_nanos());
    }
    match done {
        Err(_) => Outcome::Failed,
        Ok(()) if state.cursor.ready() => Outcome::Ready,
        Ok(()) => Outcome::Empty,
    }
}

/// The ioctls NIOCTXSYNC and NIOCRXSYNC. What a ring's own sync says is not reported.
///
/// # Errors
///
/// `EIO` if a ring is stopped; the others are synced all the same.
pub(super) fn sync_all(bound: &Bound, tx: bool) -> Result {
    let port = &bound.port;
    let none: &[Arc<Kring>] = &[];
    let (txs, rxs) = if tx {
        (&bound.tx[..], none)
    } else {
        (none, &bound.rx[..])
    };
    port.backend.begin(port, txs, rxs);
    let mut result = Ok(());
    for ring in Iterator::chain(txs.iter(), rxs) {
        if ring.stopped() {
            result = Err(EIO);
        } else {
            sync(port, ring);
        }
    }
    port.backend.end(port, txs, rxs);
    result
}
