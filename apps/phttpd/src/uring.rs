// SPDX-License-Identifier: GPL-2.0
//! Serving over plain sockets by io_uring, the way it is meant to be used: one
//! system call for each round of the loop sends all answers and waits; requests
//! to accept and to receive stay until they are cancelled, and the kernel puts
//! input into buffers that it chooses.
//!
//! Answers are sent from one place (`answers`), as much as the sockets take at
//! once; the kernel says nothing when that is all, and is done with them when
//! the call returns. Only what is left, or is to be followed by more or by the
//! end of the connection, is sent by itself and reported when it is gone.
//! Further input waits in the connection (`unread`) till then; if that is much,
//! nothing more is received.
//!
//! A connection that ends keeps its descriptor until the kernel has answered
//! what was asked about it, so no answer is taken for another connection's.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::fence::{Event, Queues, Ring};
use crate::http::{Connection, Shared};
use crate::listen::Accepted;
use crate::site::{Out, Site};
use crate::store::Store;
use crate::table::{Lingering, Table};
use crate::{during, Stop};

/// Answers of a connection, bytes, after which the others have their turn.
const SHARE: usize = 64 << 10;
/// With so many bytes of answers for all, they are sent before the next event.
const MANY: usize = 1 << 20;
/// With more waiting input of a connection than this, nothing more is received.
const HOLD_ABOVE: usize = 64 << 10;

struct Peer {
    socket: OwnedFd,
    id: u64,
    http: Connection,
    /// Answers of this round: where in `answers`. Of an earlier one otherwise.
    queued: Range<usize>,
    round: u64,
    /// Input not yet looked at, while answers are on their way by themselves.
    unread: Option<Vec<u8>>,
    /// What the kernel was asked for and has not answered for the last time.
    receiving: bool,
    sending: bool,
    /// It is not to receive until there is less in `unread`.
    held: bool,
    /// The peer sends no more.
    finished: bool,
    /// Shut down by us.
    ended: bool,
    /// To be forgotten when the kernel has answered.
    dead: bool,
}

/// The end of `answers`, which is one connection's.
struct Queue<'a> {
    answers: &'a mut Vec<u8>,
    start: usize,
}

impl Out for Queue<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.answers.extend_from_slice(bytes);
    }

    fn full(&self) -> bool {
        self.answers.len() - self.start >= SHARE
    }
}

struct Server<'a> {
    shared: Shared<'a>,
    listener: BorrowedFd<'a>,
    ring: Ring<'a>,
    peers: Table<Peer>,
    lingering: Lingering,
    next_id: u64,
    events: VecDeque<Event>,
    /// Of this round: answers, and whose there are among them.
    answers: Vec<u8>,
    answered: Vec<RawFd>,
    round: u64,
    /// Answers that are sent by themselves, once they may be.
    alone: Vec<(RawFd, Vec<u8>)>,
    /// Used within a round.
    sends: Vec<(RawFd, Range<usize>)>,
    short: Vec<(RawFd, Result<usize, Errno>)>,
}

/// An error if there is no io_uring here, or not for us.
pub fn probe() -> io::Result<()> {
    Queues::new().map(drop).map_err(during("io_uring"))
}

/// One thread's server on a listening socket, until told to stop.
pub fn serve(
    site: &Site,
    store: Option<Store<'_>>,
    listener: &OwnedFd,
    poll: Duration,
    stop: &Stop,
) -> io::Result<()> {
    let mut queues = Queues::new().map_err(during("io_uring"))?;
    let mut server = Server {
        shared: Shared::new(site, store),
        listener: listener.as_fd(),
        ring: Ring::new(&mut queues).map_err(during("io_uring"))?,
        peers: Table::new(),
        lingering: Lingering::new(),
        next_id: 0,
        events: VecDeque::new(),
        answers: Vec::new(),
        answered: Vec::new(),
        round: 1,
        alone: Vec::new(),
        sends: Vec::new(),
        short: Vec::new(),
    };
    server.run(poll, stop)
}

/// A connection that has not come to its end.
#[inline]
fn alive(peers: &mut Table<Peer>, fd: RawFd) -> Option<&mut Peer> {
    peers.get(fd).filter(|peer| !peer.dead)
}

impl Server<'_> {
    fn run(&mut self, poll: Duration, stop: &Stop) -> io::Result<()> {
        self.ring.accept(self.listener)?;
        while !stop.requested() {
            let wait = self.lingering.wait().map_or(poll, |time| time.min(poll));
            self.exchange(Some(wait))?;
            while let Some(event) = self.events.pop_front() {
                match event {
                    Event::Received { fd, result, more } => {
                        if let (false, Some(peer)) = (more, self.peers.get(fd)) {
                            peer.receiving = false;
                        }
                        match result {
                            Ok(Some(input)) => {
                                self.input(fd, &input)?;
                                self.ring.give_back(input);
                            }
                            Ok(None) => self.finished(fd)?,
                            // Without a buffer, cancelled, or for no reason.
                            Err(Errno::NOBUFS | Errno::CANCELED | Errno::INTR | Errno::AGAIN) => {}
                            Err(_) => self.end(fd)?,
                        }
                        if !more {
                            self.receive_again(fd)?;
                        }
                    }
                    Event::Sent { fd, result, bytes } => self.sent(fd, result, bytes)?,
                    Event::Accepted { result, more } => self.accepted(result, more)?,
                }
                if self.answers.len() >= MANY {
                    self.exchange(None)?;
                }
            }
            while let Some((fd, id)) = self.lingering.expired() {
                if self.peers.get(fd).is_some_and(|peer| peer.id == id) {
                    self.end(fd)?;
                }
            }
        }
        // What was answered for since is durable and sent, as far as it can be.
        self.exchange(None)
    }

    /// Send the answers, after what they tell of was made durable; then wait
    /// for events, if `wait` says how long, and take what there is.
    fn exchange(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.shared.commit().map_err(during("storing"))?;
        for fd in self.answered.drain(..) {
            let Some(peer) = alive(&mut self.peers, fd) else {
                continue;
            };
            if peer.unread.is_some() || peer.finished || peer.http.closing() {
                peer.unread.get_or_insert_default();
                let bytes = self.answers[peer.queued.clone()].to_vec();
                self.alone.push((fd, bytes));
            } else {
                self.sends.push((fd, peer.queued.clone()));
            }
        }
        for (fd, bytes) in self.alone.drain(..) {
            if let Some(peer) = alive(&mut self.peers, fd) {
                peer.sending = true;
                self.ring.send(fd, bytes)?;
            }
        }
        self.ring
            .enter(&self.answers, &self.sends, wait)
            .map_err(during("io_uring"))?;
        self.ring
            .events(&mut self.short, &mut self.events)
            .map_err(during("io_uring"))?;
        // Before anything else that came of these connections.
        while let Some((fd, result)) = self.short.pop() {
            self.fell_short(fd, result)?;
        }
        self.sends.clear();
        self.answers.clear();
        self.round += 1;
        Ok(())
    }

    /// The socket did not take all of what this round had for it.
    fn fell_short(&mut self, fd: RawFd, result: Result<usize, Errno>) -> io::Result<()> {
        let sent = match result {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => 0,
            Err(_) => return self.end(fd),
        };
        if let Some(peer) = alive(&mut self.peers, fd) {
            let rest = self.answers[peer.queued.clone()][sent..].to_vec();
            peer.unread = Some(Vec::new());
            peer.sending = true;
            self.ring.send(fd, rest)?;
        }
        Ok(())
    }

    fn accepted(&mut self, result: Result<OwnedFd, Errno>, more: bool) -> io::Result<()> {
        match result {
            Ok(socket) => self.add(socket)?,
            Err(error) => match Accepted::failed(error) {
                Some(Accepted::Closed) => return Ok(()),
                Some(Accepted::Exhausted) => std::thread::sleep(Duration::from_millis(1)),
                _ => {}
            },
        }
        if !more {
            self.ring.accept(self.listener)?;
        }
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        let peer = Peer {
            socket,
            id: self.next_id,
            http: Connection::new(),
            queued: 0..0,
            round: 0,
            unread: None,
            receiving: true,
            sending: false,
            held: false,
            finished: false,
            ended: false,
            dead: false,
        };
        self.next_id += 1;
        self.peers.insert(fd, peer);
        self.ring.receive(fd)
    }

    /// Input of a connection.
    #[inline]
    fn input(&mut self, fd: RawFd, input: &[u8]) -> io::Result<()> {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return Ok(());
        };
        match &mut peer.unread {
            None => {}
            // What comes after the last request is of no interest.
            Some(_) if peer.http.closing() => return Ok(()),
            Some(unread) => {
                unread.extend_from_slice(input);
                if unread.len() > HOLD_ABOVE && !peer.held {
                    peer.held = true;
                    if peer.receiving {
                        self.ring.cancel_receive(fd)?;
                    }
                }
                return Ok(());
            }
        }
        let end = self.answers.len();
        if peer.round != self.round {
            peer.queued = end..end;
        } else if peer.queued.end != end {
            // Others answered meanwhile, but there is to be one send for each.
            self.answers.extend_from_within(peer.queued.clone());
            peer.queued = end..self.answers.len();
        }
        let mut out = Queue {
            start: peer.queued.start,
            answers: &mut self.answers,
        };
        let taken = peer.http.feed(&mut self.shared, input, &mut out);
        let full = out.full() || taken < input.len();
        let first = peer.round != self.round;
        peer.queued.end = self.answers.len();
        if peer.queued.is_empty() {
            return self.conclude(fd);
        }
        peer.round = self.round;
        if full {
            peer.unread = Some(input[taken..].to_vec());
        }
        if first {
            self.answered.push(fd);
        }
        if self.shared.store.as_ref().is_some_and(Store::each) {
            self.shared.commit().map_err(during("storing"))?;
        }
        Ok(())
    }

    /// The peer sends no more.
    fn finished(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return Ok(());
        };
        peer.finished = true;
        // Whatever it asked for is answered first.
        if peer.unread.is_none() && peer.round != self.round {
            return self.end(fd);
        }
        Ok(())
    }

    /// The kernel does not receive from a connection any more.
    fn receive_again(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(peer) = self.peers.get(fd) else {
            return Ok(());
        };
        peer.receiving = !(peer.held || peer.finished || peer.dead);
        if peer.receiving {
            return self.ring.receive(fd);
        }
        self.forget(fd);
        Ok(())
    }

    /// What was sent by itself is gone: look at the input that waited.
    fn sent(
        &mut self,
        fd: RawFd,
        result: Result<usize, Errno>,
        mut bytes: Vec<u8>,
    ) -> io::Result<()> {
        let Some(peer) = self.peers.get(fd) else {
            return Ok(());
        };
        peer.sending = false;
        if peer.dead {
            self.forget(fd);
            return Ok(());
        }
        match result {
            Ok(n) if n == bytes.len() => {}
            Ok(n) => {
                bytes.drain(..n);
                self.alone.push((fd, bytes));
                return Ok(());
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => {
                self.alone.push((fd, bytes));
                return Ok(());
            }
            Err(_) => return self.end(fd),
        }
        bytes.clear();
        let unread = peer.unread.get_or_insert_default();
        let taken = peer.http.feed(&mut self.shared, unread, &mut bytes);
        unread.drain(..taken);
        if peer.held && unread.len() <= HOLD_ABOVE {
            peer.held = false;
            // If it is about to be cancelled, see `receive_again`.
            if !peer.receiving && !peer.finished {
                peer.receiving = true;
                self.ring.receive(fd)?;
            }
        }
        if !bytes.is_empty() {
            self.alone.push((fd, bytes));
            return Ok(());
        }
        peer.unread = None;
        self.conclude(fd)
    }

    /// All answers are sent: end the connection if that was its last one.
    fn conclude(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return Ok(());
        };
        if peer.finished {
            return self.end(fd);
        }
        if peer.http.closing() && !peer.ended {
            peer.ended = true;
            if rustix::net::shutdown(&peer.socket, Shutdown::Write).is_err() {
                return self.end(fd);
            }
            self.lingering.add(fd, peer.id);
        }
        Ok(())
    }

    /// A connection has come to its end: drop what waits.
    fn end(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return Ok(());
        };
        peer.dead = true;
        peer.unread = None;
        peer.http.abandon(&mut self.shared);
        if peer.receiving {
            self.ring.cancel_receive(fd)?;
        }
        if peer.sending {
            self.ring.cancel_send(fd)?;
        }
        self.forget(fd);
        Ok(())
    }

    /// Close what is dead and not asked about any more.
    fn forget(&mut self, fd: RawFd) {
        if let Some(peer) = self.peers.get(fd) {
            if peer.dead && !peer.receiving && !peer.sending {
                self.peers.remove(fd);
            }
        }
    }
}
