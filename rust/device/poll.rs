// SPDX-License-Identifier: GPL-2.0

//! poll(), select() and epoll: the call in which an application gets everything done.
//!
//! It sends what is pending, receives on all rings of the file, and only if nothing came of it
//! asks for an interrupt. An application that polls without sleeping never does.

#![deny(unsafe_code)]

use super::{
    session::Session,
    sync::{self, Outcome}, //
};
use crate::{
    adapter::kring::Kring,
    device::bind::Bound,
    sys::poll::{
        PollTable,
        EPOLLERR,
        EPOLLIN,
        EPOLLOUT,
        EPOLLRDNORM,
        EPOLLWRNORM, //
    },
};
use kernel::sync::Arc;

const IN: u32 = EPOLLIN | EPOLLRDNORM;
const OUT: u32 = EPOLLOUT | EPOLLWRNORM;

/// Times that something may come between a sync and the request for an interrupt.
const ROUNDS: u32 = 4;

/// The events that there are.
pub(super) fn poll(file: &Session, table: &PollTable<'_>) -> u32 {
    let Some(bound) = file.bound() else {
        return EPOLLERR;
    };
    if table.waits() {
        // Both directions, whatever is asked for.
        for ring in bound.rings() {
            table.wait(&ring.wait);
        }
    }
    let wanted = table.events();
    for _ in 0..ROUNDS {
        let found = round(bound, wanted);
        if found != 0 || !sleeps(bound, table) || !arm(bound, wanted) {
            return found;
        }
    }
    0
}

/// Syncs the rings of the file once.
fn round(bound: &Bound, wanted: u32) -> u32 {
    let port = &bound.port;
    let (want_in, want_out) = (wanted & IN, wanted & OUT);
    let mut found = 0;
    port.backend.begin(port, &bound.tx, &bound.rx);
    if want_out != 0 || bound.tx_poll {
        for ring in bound.tx.iter() {
            // Once there is room to report, only rings that have something to send matter.
            if (want_out == 0 || found & want_out != 0) && !ring.has_pending() && !ring.stopped() {
                continue;
            }
            found |= one(bound, ring, want_out);
        }
    }
    if want_in != 0 {
        for ring in bound.rx.iter() {
            found |= one(bound, ring, want_in);
        }
    }
    port.backend.end(port, &bound.tx, &bound.rx);
    found
}

/// Syncs `ring`; `events` if it is ready.
#[inline]
fn one(bound: &Bound, ring: &Arc<Kring>, events: u32) -> u32 {
    match sync::sync(&bound.port, ring) {
        Outcome::Failed => EPOLLERR,
        Outcome::Empty => 0,
        Outcome::Ready => {
            if ring.users() > 1 {
                ring.notify();
            }
            events
        }
    }
}

/// Whether the caller may go to sleep after this: it registers now, or has done so before (epoll,
/// or a poll() that was woken in vain).
fn sleeps(bound: &Bound, table: &PollTable<'_>) -> bool {
    table.waits()
        || bound
            .rx
            .first()
            .or(bound.tx.first())
            .is_some_and(|ring| ring.has_waiters())
}

/// Asks for interrupts; whether something has come meanwhile.
fn arm(bound: &Bound, wanted: u32) -> bool {
    let port = &bound.port;
    let mut again = false;
    if wanted & IN != 0 {
        for ring in bound.rx.iter() {
            again |= port.backend.arm(port, ring);
        }
    }
    if wanted & OUT != 0 {
        for ring in bound.tx.iter() {
            again |= port.backend.arm(port, ring);
        }
    }
    again
}
