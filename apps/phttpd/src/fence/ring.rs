// SPDX-License-Identifier: GPL-2.0
//! A ring whose one thread asks for what it wants and waits with one system
//! call: io_uring_enter().

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::pool::{Filled, Pool, GROUP};
use crate::table::Table;

/// Requests that fit without a system call in between.
const REQUESTS: u32 = 1024;
/// Answers of the kernel that fit; more wait in its own memory.
const COMPLETIONS: u32 = 8 * REQUESTS;

/// Most that is sent at once; the kernel has a limit a little below twice that.
const MOST: usize = 1 << 30;

/// Of a send: all of it, or it has failed.
const ALL: i32 = RecvFlags::WAITALL.bits() as i32;
/// And at once.
const AT_ONCE: i32 = ALL | SendFlags::DONTWAIT.bits() as i32;

/// What a request was about, in the upper half of its number; in the lower half
/// is the descriptor.
const ACCEPT: u32 = 0;
const RECEIVE: u32 = 1;
const SEND: u32 = 2;
const SEND_NOW: u32 = 3;
const CANCEL: u32 = 4;

fn number(kind: u32, fd: RawFd) -> u64 {
    (u64::from(kind) << 32) | u64::from(fd as u32)
}

/// What the kernel says.
pub enum Event {
    /// There is a connection. Without `more` it accepts no others until asked.
    Accepted {
        result: Result<OwnedFd, Errno>,
        more: bool,
    },
    /// A connection has input, or ended (`None`). Without `more` nothing is
    /// received until asked.
    Received {
        fd: RawFd,
        result: Result<Option<Filled>, Errno>,
        more: bool,
    },
    /// [`Ring::send`] is over; how many of these bytes were sent.
    Sent {
        fd: RawFd,
        result: Result<usize, Errno>,
        bytes: Vec<u8>,
    },
}

/// The queues of a ring, which is used through a [`Ring`].
pub struct Queues(IoUring);

impl Queues {
    /// New ones. It may be that this kernel has no io_uring, or forbids it.
    pub fn new() -> io::Result<Queues> {
        IoUring::builder()
            // Only this thread uses them, and work is done when it waits.
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(REQUESTS)
            .map(Queues)
    }
}

/// What a thread asks the kernel for, and what that says.
///
/// # Invariants
///
/// What requests that were not taken or not answered name is in `sending` or
/// `pool`. Only within [`Ring::enter`] may they name something else, unless
/// `failed`; then none is handed to the kernel any more.
pub struct Ring<'r> {
    submitter: Submitter<'r>,
    requests: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    pool: Pool,
    sending: Table<Vec<u8>>,
    failed: bool,
}

impl<'r> Ring<'r> {
    /// For the thread that made the queues. There can be no second ring of them,
    /// which might find requests that the first one left: the pool would be the
    /// second of its number.
    pub fn new(queues: &'r mut Queues) -> io::Result<Ring<'r>> {
        let (mut submitter, requests, completions) = queues.0.split();
        // Without it the kernel looks the descriptor up in each call.
        submitter.register_ring_fd()?;
        let pool = Pool::new(&submitter)?;
        Ok(Ring {
            submitter,
            requests,
            completions,
            pool,
            sending: Table::new(),
            failed: false,
        })
    }

    /// Accept connections until told otherwise.
    pub fn accept(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let fd = listener.as_raw_fd();
        // Sockets that block: requests wait for them, not we.
        let entry = opcode::AcceptMulti::new(Fd(fd))
            .flags(SocketFlags::CLOEXEC.bits() as i32)
            .build();
        // SAFETY: it names no memory.
        unsafe { self.push(entry.user_data(number(ACCEPT, fd))) }
    }

    /// Receive from a connection until told otherwise, or it ends.
    #[inline]
    pub fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        // SAFETY: it names the pool's memory, which is mapped for ever.
        unsafe { self.push(entry.user_data(number(RECEIVE, fd))) }
    }

    /// Receive no more from a connection. What came meanwhile comes first.
    pub fn cancel_receive(&mut self, fd: RawFd) -> io::Result<()> {
        self.cancel(fd, RECEIVE)
    }

    /// Send these bytes, however long the peer takes; of more than [`MOST`] a part.
    /// Not while others are on their way to it.
    pub fn send(&mut self, fd: RawFd, bytes: Vec<u8>) -> io::Result<()> {
        assert!(self.sending.get(fd).is_none(), "one send at a time");
        let entry = opcode::Send::new(Fd(fd), bytes.as_ptr(), length(&bytes)).flags(ALL);
        // INVARIANT: it stays there, unchanged, until the answer has come.
        self.sending.insert(fd, bytes);
        // SAFETY: by the invariant, and see `drop`.
        unsafe { self.push(entry.build().user_data(number(SEND, fd))) }
    }

    /// Do not wait for the peer of a [`Ring::send`] any longer.
    pub fn cancel_send(&mut self, fd: RawFd) -> io::Result<()> {
        self.cancel(fd, SEND)
    }

    fn cancel(&mut self, fd: RawFd, what: u32) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(number(what, fd)).build();
        let entry = entry.flags(Flags::SKIP_SUCCESS);
        // SAFETY: it names no memory.
        unsafe { self.push(entry.user_data(number(CANCEL, fd))) }
    }

    /// What was received is not needed any more.
    #[inline]
    pub fn give_back(&mut self, filled: Filled) {
        self.pool.give_back(filled);
    }

    /// # Safety
    ///
    /// What it names is valid until it was answered.
    #[inline]
    unsafe fn push(&mut self, entry: Entry) -> io::Result<()> {
        // SAFETY: as the caller says.
        while unsafe { self.requests.push(&entry) }.is_err() {
            self.submit(EnterFlags::empty(), 0, Duration::ZERO)?;
        }
        Ok(())
    }

    /// Hand everything asked for to the kernel, and wait for an event for so
    /// long; `None`: do not even look for events.
    ///
    /// `sends` are parts of `answers`, one for a connection at most, none longer
    /// than [`MOST`]. Their sockets take what they have room for, at once. When
    /// that is all of it there will be no event; else see [`Ring::events`].
    pub fn enter(
        &mut self,
        answers: &[u8],
        sends: &[(RawFd, Range<usize>)],
        wait: Option<Duration>,
    ) -> io::Result<()> {
        for (fd, range) in sends {
            let (fd, bytes) = (*fd, answers.get(range.clone()).unwrap_or_default());
            assert!(bytes.len() <= MOST);
            let entry = opcode::Send::new(Fd(fd), bytes.as_ptr(), length(bytes))
                .flags(AT_ONCE)
                .build()
                .flags(Flags::SKIP_SUCCESS);
            // SAFETY: the bytes are valid during this call, at the end of which
            // the kernel has taken all requests or is never called again. With
            // MSG_DONTWAIT it is done with this one when it has taken it
            // (REQ_F_NOWAIT in its io_uring/net.c): it may fail, but not wait.
            unsafe { self.push(entry.user_data(number(SEND_NOW, fd)))? };
        }
        match wait {
            None => self.submit(EnterFlags::empty(), 0, Duration::ZERO),
            Some(Duration::ZERO) => self.submit(EnterFlags::GETEVENTS, 0, Duration::ZERO),
            Some(time) => self.submit(EnterFlags::GETEVENTS, 1, time),
        }
    }

    /// Returns when the kernel has taken all requests, or has failed for good.
    fn submit(&mut self, flags: EnterFlags, events: u32, time: Duration) -> io::Result<()> {
        let time = Timespec::from(time);
        let args = SubmitArgs::new().timespec(&time);
        let flags = (flags | EnterFlags::EXT_ARG).bits();
        self.pool.publish();
        loop {
            self.requests.sync();
            let count = self.requests.len() as u32;
            if self.failed {
                return Err(io::Error::other("io_uring has failed"));
            }
            // SAFETY: EXT_ARG says what `args` is; what the requests name is
            // valid by the invariants.
            let result = unsafe { self.submitter.enter(count, events, flags, Some(&args)) };
            self.requests.sync();
            match result.map_err(|error| error.raw_os_error().map(Errno::from_raw_os_error)) {
                // The time is over, a signal came, or memory is short.
                Ok(_) | Err(Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY)) => {}
                Err(error) => {
                    self.failed = true;
                    return Err(error.unwrap_or(Errno::IO).into());
                }
            }
            if self.requests.is_empty() {
                return Ok(());
            }
        }
    }

    /// Take all events there are, and in `short` the answers of the last
    /// [`Ring::enter`] that were not sent whole: how much of them was.
    pub fn events(
        &mut self,
        short: &mut Vec<(RawFd, Result<usize, Errno>)>,
        events: &mut VecDeque<Event>,
    ) -> io::Result<()> {
        loop {
            self.completions.sync();
            let (pool, sending) = (&self.pool, &mut self.sending);
            events.extend(self.completions.by_ref().filter_map(|completion| {
                let (kind, fd) = kind_and_fd(&completion);
                match kind {
                    RECEIVE => Some(received(pool, fd, &completion)),
                    ACCEPT => Some(accepted(&completion)),
                    SEND => sending.remove(fd).map(|bytes| Event::Sent {
                        fd,
                        result: result(&completion),
                        bytes,
                    }),
                    SEND_NOW => {
                        short.push((fd, result(&completion)));
                        None
                    }
                    // There was nothing to be cancelled.
                    _ => None,
                }
            }));
            self.completions.sync();
            if !self.requests.cq_overflow() {
                return Ok(());
            }
            self.submit(EnterFlags::GETEVENTS, 0, Duration::ZERO)?;
        }
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        // The kernel may send from there until the ring is gone.
        std::mem::forget(std::mem::replace(&mut self.sending, Table::new()));
    }
}

fn length(bytes: &[u8]) -> u32 {
    bytes.len().min(MOST) as u32
}

fn kind_and_fd(completion: &cqueue::Entry) -> (u32, RawFd) {
    let number = completion.user_data();
    ((number >> 32) as u32, number as u32 as RawFd)
}

fn result(completion: &cqueue::Entry) -> Result<usize, Errno> {
    let result = completion.result();
    usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
}

fn accepted(completion: &cqueue::Entry) -> Event {
    let result = result(completion).map(|_| {
        // SAFETY: the kernel has just made it, for us, and says so once.
        unsafe { OwnedFd::from_raw_fd(completion.result()) }
    });
    Event::Accepted {
        result,
        more: cqueue::more(completion.flags()),
    }
}

#[inline]
fn received(pool: &Pool, fd: RawFd, completion: &cqueue::Entry) -> Event {
    let id = cqueue::buffer_select(completion.flags());
    let result = result(completion).map(|len| {
        // SAFETY: the kernel says so, and each of its completions is looked at
        // once.
        id.map(|id| unsafe { pool.filled(id, len as u32) })
    });
    Event::Received {
        fd,
        result,
        more: cqueue::more(completion.flags()),
    }
}
