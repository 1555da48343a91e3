// SPDX-License-Identifier: GPL-2.0
//! Serving over plain sockets: one epoll loop, one read and one write per
//! batch of requests. The fair opponent of the stack port, so no less careful.
//!
//! With a store, answers wait until all events that epoll gave at once have
//! been looked at; then everything is made durable together, and they are sent.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::http::{Connection, Shared};
use crate::listen::{accept, Accepted};
use crate::site::{Out, Site};
use crate::store::Store;
use crate::table::{Lingering, Table};
use crate::{during, Stop};

/// Most that is read at once.
const READ: usize = 64 * 1024;
/// Events taken at once.
const EVENTS: usize = 512;

struct Peer {
    socket: OwnedFd,
    id: u64,
    http: Connection,
    /// Answers the socket did not take, and input not yet looked at because of
    /// that. While there are any, nothing more is read.
    unsent: Vec<u8>,
    unread: Vec<u8>,
    /// Shut down by us.
    ended: bool,
}

/// What becomes of a peer.
#[derive(PartialEq)]
enum Fate {
    Stays,
    Ends,
}

/// One thread's server.
pub struct Server<'a> {
    shared: Shared<'a>,
    listener: BorrowedFd<'a>,
    epoll: OwnedFd,
    peers: Table<Peer>,
    lingering: Lingering,
    next_id: u64,
    input: Vec<u8>,
    out: Vec<u8>,
    /// Answers that wait for the commit are put off.
    group: bool,
    /// Whose they are, and where in `answers`.
    put_off: Vec<(RawFd, Range<usize>)>,
    answers: Vec<u8>,
}

impl<'a> Server<'a> {
    /// A server on a listening socket.
    pub fn new(
        site: &'a Site,
        store: Option<Store<'a>>,
        listener: &'a OwnedFd,
    ) -> io::Result<Server<'a>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = EventData::new_u64(listener.as_raw_fd() as u64);
        epoll::add(&epoll, listener, data, EventFlags::IN)?;
        let group = store.as_ref().is_some_and(|store| !store.each());
        Ok(Server {
            shared: Shared::new(site, store),
            listener: listener.as_fd(),
            epoll,
            peers: Table::new(),
            lingering: Lingering::new(),
            next_id: 0,
            input: vec![0; READ],
            out: Vec::with_capacity(2 * READ),
            group,
            put_off: Vec::new(),
            answers: Vec::new(),
        })
    }

    /// Serve until told to stop.
    pub fn run(&mut self, poll: Duration, stop: &Stop) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while !stop.requested() {
            events.clear();
            let wait = self.lingering.wait().map_or(poll, |time| time.min(poll));
            let wait = Timespec::try_from(wait).map_err(|_| Errno::INVAL)?;
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut newcomers = false;
            for Event { flags, data } in events.iter().copied() {
                let fd = data.u64() as RawFd;
                if fd == self.listener.as_raw_fd() {
                    // Last, so that no event meant for a closed connection
                    // meets a new one with the same descriptor.
                    newcomers = true;
                } else if self.serve(fd, flags)? == Fate::Ends {
                    self.remove(fd);
                }
            }
            self.shared.commit().map_err(during("storing"))?;
            self.send_put_off();
            if newcomers {
                self.accept()?;
            }
            while let Some((fd, id)) = self.lingering.expired() {
                if self.peers.get(fd).is_some_and(|peer| peer.id == id) {
                    self.remove(fd);
                }
            }
        }
        self.shared.commit().map_err(during("storing"))
    }

    fn remove(&mut self, fd: RawFd) {
        if let Some(mut peer) = self.peers.remove(fd) {
            peer.http.abandon(&mut self.shared);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match accept(self.listener) {
                Accepted::Socket(socket) => socket,
                Accepted::Nobody | Accepted::Closed => return Ok(()),
                Accepted::Exhausted => {
                    std::thread::sleep(Duration::from_millis(1));
                    return Ok(());
                }
            };
            let fd = socket.as_raw_fd();
            epoll::add(
                &self.epoll,
                &socket,
                EventData::new_u64(fd as u64),
                EventFlags::IN,
            )?;
            let peer = Peer {
                socket,
                id: self.next_id,
                http: Connection::new(),
                unsent: Vec::new(),
                unread: Vec::new(),
                ended: false,
            };
            self.next_id += 1;
            self.peers.insert(fd, peer);
        }
    }

    /// An event of a connection.
    #[inline]
    fn serve(&mut self, fd: RawFd, flags: EventFlags) -> io::Result<Fate> {
        let Some(peer) = self.peers.get(fd) else {
            return Ok(Fate::Stays);
        };
        if flags.contains(EventFlags::OUT) {
            let unsent = std::mem::take(&mut peer.unsent);
            match write(&peer.socket, &unsent) {
                Ok(n) if n == unsent.len() => {}
                Ok(n) => {
                    peer.unsent = unsent[n..].to_vec();
                    return Ok(Fate::Stays);
                }
                Err(_) => return Ok(Fate::Ends),
            }
            let unread = std::mem::take(&mut peer.unread);
            let fate = self.answer(fd, &unread, false)?;
            let Some(peer) = self.peers.get(fd) else {
                return Ok(fate);
            };
            if fate == Fate::Stays && peer.unsent.is_empty() {
                let data = EventData::new_u64(fd as u64);
                if epoll::modify(&self.epoll, &peer.socket, data, EventFlags::IN).is_err() {
                    return Ok(Fate::Ends);
                }
            }
            return Ok(fate);
        }
        if !peer.unsent.is_empty() {
            // Hung up or failed, which is reported without being asked for.
            return Ok(Fate::Ends);
        }
        let mut input = std::mem::take(&mut self.input);
        let fate = match rustix::io::read(&peer.socket, &mut input[..]) {
            Ok(0) => Ok(Fate::Ends),
            Ok(n) => self.answer(fd, &input[..n], self.group),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Fate::Stays),
            Err(_) => Ok(Fate::Ends),
        };
        self.input = input;
        fate
    }

    /// Answer as much of the input as the socket takes answers for; or, with
    /// `later`, put the answers off if all of the input was used. An error: what
    /// was stored may not be durable.
    #[inline]
    fn answer(&mut self, fd: RawFd, mut input: &[u8], later: bool) -> io::Result<Fate> {
        let Some(peer) = self.peers.get(fd) else {
            return Ok(Fate::Stays);
        };
        loop {
            self.out.clear();
            let taken = peer.http.feed(&mut self.shared, input, &mut self.out);
            input = &input[taken..];
            if self.out.is_empty() {
                break;
            }
            if later && !self.out.full() {
                let start = self.answers.len();
                self.answers.extend_from_slice(&self.out);
                self.put_off.push((fd, start..self.answers.len()));
                return Ok(Fate::Stays);
            }
            self.shared.commit().map_err(during("storing"))?;
            match write(&peer.socket, &self.out) {
                Ok(n) if n == self.out.len() => {}
                Ok(n) => {
                    peer.unread = input.to_vec();
                    return Ok(block(&self.epoll, peer, fd, &self.out[n..]));
                }
                Err(_) => return Ok(Fate::Ends),
            }
            // If it was full there may be more to say.
            if !self.out.full() {
                break;
            }
        }
        Ok(conclude(&mut self.lingering, peer, fd))
    }

    /// What the answers told of is durable: send them.
    fn send_put_off(&mut self) {
        let put_off = std::mem::take(&mut self.put_off);
        for (fd, range) in put_off.iter().cloned() {
            let Some(peer) = self.peers.get(fd) else {
                continue;
            };
            let answer = &self.answers[range];
            let fate = match write(&peer.socket, answer) {
                Ok(n) if n == answer.len() => conclude(&mut self.lingering, peer, fd),
                Ok(n) => block(&self.epoll, peer, fd, &answer[n..]),
                Err(_) => Fate::Ends,
            };
            if fate == Fate::Ends {
                self.remove(fd);
            }
        }
        self.put_off = put_off;
        self.put_off.clear();
        self.answers.clear();
    }
}

/// The socket is full: the rest of an answer waits.
fn block(epoll: &OwnedFd, peer: &mut Peer, fd: RawFd, rest: &[u8]) -> Fate {
    peer.unsent = rest.to_vec();
    let data = EventData::new_u64(fd as u64);
    match epoll::modify(epoll, &peer.socket, data, EventFlags::OUT) {
        Ok(()) => Fate::Stays,
        Err(_) => Fate::Ends,
    }
}

/// All answers are sent: end the connection if that was its last one.
#[inline]
fn conclude(lingering: &mut Lingering, peer: &mut Peer, fd: RawFd) -> Fate {
    if peer.http.closing() && !peer.ended {
        peer.ended = true;
        if rustix::net::shutdown(&peer.socket, Shutdown::Write).is_err() {
            return Fate::Ends;
        }
        lingering.add(fd, peer.id);
    }
    Fate::Stays
}

/// Write what the socket takes, perhaps nothing.
fn write(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::write(socket, bytes) {
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}
