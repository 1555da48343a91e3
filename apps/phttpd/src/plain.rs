// SPDX-License-Identifier: GPL-2.0
//! Serving over plain sockets: one epoll loop, one read and one write per
//! batch of requests. The fair opponent of the stack port, so no less careful.

use std::io;
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
use crate::table::{Lingering, Table};
use crate::Stop;

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
}

impl<'a> Server<'a> {
    /// A server on a listening socket.
    pub fn new(site: &'a Site, listener: &'a OwnedFd) -> io::Result<Server<'a>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = EventData::new_u64(listener.as_raw_fd() as u64);
        epoll::add(&epoll, listener, data, EventFlags::IN)?;
        Ok(Server {
            shared: Shared::new(site),
            listener: listener.as_fd(),
            epoll,
            peers: Table::new(),
            lingering: Lingering::new(),
            next_id: 0,
            input: vec![0; READ],
            out: Vec::with_capacity(2 * READ),
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
                } else if self.serve(fd, flags) == Fate::Ends {
                    self.peers.remove(fd);
                }
            }
            if newcomers {
                self.accept()?;
            }
            while let Some((fd, id)) = self.lingering.expired() {
                if self.peers.get(fd).is_some_and(|peer| peer.id == id) {
                    self.peers.remove(fd);
                }
            }
        }
        Ok(())
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
    fn serve(&mut self, fd: RawFd, flags: EventFlags) -> Fate {
        let Some(peer) = self.peers.get(fd) else {
            return Fate::Stays;
        };
        if flags.contains(EventFlags::OUT) {
            let unsent = std::mem::take(&mut peer.unsent);
            match write(&peer.socket, &unsent) {
                Ok(n) if n == unsent.len() => {}
                Ok(n) => {
                    peer.unsent = unsent[n..].to_vec();
                    return Fate::Stays;
                }
                Err(_) => return Fate::Ends,
            }
            let unread = std::mem::take(&mut peer.unread);
            let fate = self.answer(fd, &unread);
            let Some(peer) = self.peers.get(fd) else {
                return fate;
            };
            if fate == Fate::Stays && peer.unsent.is_empty() {
                let data = EventData::new_u64(fd as u64);
                if epoll::modify(&self.epoll, &peer.socket, data, EventFlags::IN).is_err() {
                    return Fate::Ends;
                }
            }
            return fate;
        }
        if !peer.unsent.is_empty() {
            // Hung up or failed, which is reported without being asked for.
            return Fate::Ends;
        }
        let mut input = std::mem::take(&mut self.input);
        let fate = match rustix::io::read(&peer.socket, &mut input[..]) {
            Ok(0) => Fate::Ends,
            Ok(n) => self.answer(fd, &input[..n]),
            Err(Errno::AGAIN | Errno::INTR) => Fate::Stays,
            Err(_) => Fate::Ends,
        };
        self.input = input;
        fate
    }

    /// Answer as much of the input as the socket takes answers for.
    #[inline]
    fn answer(&mut self, fd: RawFd, mut input: &[u8]) -> Fate {
        let Some(peer) = self.peers.get(fd) else {
            return Fate::Stays;
        };
        loop {
            self.out.clear();
            let taken = peer.http.feed(&mut self.shared, input, &mut self.out);
            input = &input[taken..];
            if self.out.is_empty() {
                break;
            }
            match write(&peer.socket, &self.out) {
                Ok(n) if n == self.out.len() => {}
                Ok(n) => {
                    peer.unsent = self.out[n..].to_vec();
                    peer.unread = input.to_vec();
                    let data = EventData::new_u64(fd as u64);
                    let done = epoll::modify(&self.epoll, &peer.socket, data, EventFlags::OUT);
                    return if done.is_ok() {
                        Fate::Stays
                    } else {
                        Fate::Ends
                    };
                }
                Err(_) => return Fate::Ends,
            }
            // If it was full there may be more to say.
            if !self.out.full() {
                break;
            }
        }
        if peer.http.closing() && !peer.ended {
            peer.ended = true;
            if rustix::net::shutdown(&peer.socket, Shutdown::Write).is_err() {
                return Fate::Ends;
            }
            self.lingering.add(fd, peer.id);
        }
        Fate::Stays
    }
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
