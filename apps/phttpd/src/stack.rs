// SPDX-License-Identifier: GPL-2.0
//! Serving over a stack port: one poll() brings the requests of all
//! connections in rx slots; they are parsed where they lie, and answers are
//! written into tx slots, which the next poll() sends.
//!
//! What the ring or a socket does not take waits in the connection (`Slow`),
//! and so does its further input; when that is much, the kernel is told to hold
//! the peer. A connection is closed only
//! when the tx ring has been drained, as slots name sockets by descriptor: an
//! answer must not end up in the next connection with the same number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use netmap::abi::{NS_PST_ERR, NS_PST_WRITABLE};
use netmap::{Builder, Port, TxRing, Wait, Watch};
use rustix::net::{sockopt, Shutdown};

use crate::http::{Connection, Shared};
use crate::listen::{accept, Accepted};
use crate::options::Options;
use crate::site::{Out, Site};
use crate::slow::Slow;
use crate::table::{Lingering, Table};
use crate::{during, Stop};

/// Most input of a connection that may wait because its answers do. What the
/// kernel gives before it hears that the peer is to be held must fit: an rx
/// ring's worth.
const MAX_UNREAD: usize = 4 << 20;
/// Tx slots a connection may fill in one go before the others have their turn.
const TURN: u32 = 128;

/// Open the port once per thread and attach the NICs; nothing without NICs.
pub fn open(options: &Options) -> io::Result<Vec<Port>> {
    if options.nics.is_empty() {
        return Ok(Vec::new());
    }
    let mut ports = Vec::new();
    for i in 0..options.threads {
        let name = match options.threads {
            1 => options.stack_port.clone(),
            _ => format!("{}-{i}", options.stack_port),
        };
        let builder = Builder::new(&name)?.rings(options.threads);
        ports.push(
            builder
                .open()
                .map_err(during(format_args!("opening {name}")))?,
        );
        if i == 0 {
            for nic in &options.nics {
                ports[0]
                    .attach(nic)
                    .map_err(during(format_args!("attaching {nic}")))?;
            }
        }
    }
    Ok(ports)
}

struct Peer {
    socket: OwnedFd,
    id: u64,
    http: Connection,
    /// Only while something waits.
    slow: Option<Box<Slow>>,
    /// The peer sends no more.
    finished: bool,
    /// On its way out: queued for `end_some`, or shut down.
    ending: bool,
    /// Failed: whatever still comes is of no interest.
    dead: bool,
}

/// Fills tx slots with the answers to one connection.
struct TxOut<'a> {
    tx: &'a mut TxRing,
    fd: RawFd,
    /// Bytes in the slot being filled.
    used: usize,
    /// Slots filled.
    filled: u32,
    /// What the ring had no room for.
    over: Vec<u8>,
}

impl TxOut<'_> {
    fn new(tx: &mut TxRing, fd: RawFd) -> TxOut<'_> {
        TxOut {
            tx,
            fd,
            used: 0,
            filled: 0,
            over: Vec::new(),
        }
    }

    /// Give the last slot to the ring. Returns what it had no room for.
    fn finish(self) -> Vec<u8> {
        if self.used > 0 {
            if let Some(slot) = self.tx.reserve() {
                // A slot's room, so under 64 KiB.
                slot.send_to(self.fd, self.used as u16);
            }
        }
        self.over
    }
}

impl Out for TxOut<'_> {
    #[inline]
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.over.is_empty() {
            let Some(mut slot) = self.tx.reserve() else {
                break;
            };
            let room = slot.room();
            let size = room.len().min(usize::from(u16::MAX));
            let room = room.get_mut(self.used..size).unwrap_or(&mut []);
            let n = room.len().min(bytes.len());
            if n == 0 {
                break;
            }
            room[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.used += n;
            if self.used == size {
                slot.send_to(self.fd, size as u16);
                self.filled += 1;
                self.used = 0;
            }
        }
        self.over.extend_from_slice(bytes);
    }

    #[inline]
    fn full(&self) -> bool {
        !self.over.is_empty() || self.filled >= TURN
    }
}

/// One thread's server.
pub struct Server<'a> {
    listener: &'a OwnedFd,
    port: Port,
    state: Connections<'a>,
}

/// Everything but the port, so that slots and connections can be borrowed at
/// the same time.
struct Connections<'a> {
    shared: Shared<'a>,
    peers: Table<Peer>,
    next_id: u64,
    /// Connections that can go on when the ring has room again.
    waiting: Vec<RawFd>,
    /// Connections to be ended once the ring is drained.
    ending: Vec<RawFd>,
    lingering: Lingering,
}

impl<'a> Server<'a> {
    /// A server on a listening socket and the port's first ring pair.
    pub fn new(site: &'a Site, listener: &'a OwnedFd, port: Port) -> Server<'a> {
        let state = Connections {
            shared: Shared::new(site),
            peers: Table::new(),
            next_id: 0,
            waiting: Vec::new(),
            ending: Vec::new(),
            lingering: Lingering::new(),
        };
        Server {
            listener,
            port,
            state,
        }
    }

    /// Serve until told to stop.
    pub fn run(&mut self, poll: Duration, stop: &Stop) -> io::Result<()> {
        let mut watch = [Watch::readable(self.listener.as_fd())];
        while !stop.requested() {
            let state = &mut self.state;
            let mut timeout = state.lingering.wait().map_or(poll, |time| time.min(poll));
            if !state.ending.is_empty() {
                timeout = Duration::ZERO;
            }
            let wait = if state.waiting.is_empty() {
                Wait::Rx
            } else {
                Wait::RxTx
            };
            let ready = match self.port.poll_with(wait, &mut watch, Some(timeout)) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(during("poll")(error)),
            };
            if ready.error {
                return Err(io::Error::other("the stack port has failed"));
            }
            let (rx, tx) = self.port.rings();
            let (Some(rx), Some(tx)) = (rx.first_mut(), tx.first_mut()) else {
                return Err(io::Error::other("the stack port has no rings"));
            };
            state.take_back(tx);
            if !state.ending.is_empty() && tx.drained() {
                state.end_some();
            }
            state.resume(tx);
            for slot in rx.received() {
                let payload = slot.payload();
                if payload.is_empty() {
                    state.news(slot.fd(), slot.flags(), tx);
                } else {
                    state.input(slot.fd(), payload, tx);
                }
            }
            while let Some((fd, id)) = state.lingering.expired() {
                state.time_is_over(fd, id);
            }
            if !watch[0].ready.is_empty() {
                self.accept();
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        loop {
            let socket = match accept(self.listener.as_fd()) {
                Accepted::Socket(socket) => socket,
                Accepted::Nobody | Accepted::Closed => return,
                Accepted::Exhausted => {
                    std::thread::sleep(Duration::from_millis(1));
                    return;
                }
            };
            match self.port.register_socket(socket.as_fd()) {
                Ok(()) => self.state.add(socket),
                // Reset while it waited to be accepted.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => eprintln!("phttpd: registering a socket: {error}"),
            }
        }
    }
}

/// A connection that has not failed.
#[inline]
fn alive(peers: &mut Table<Peer>, fd: RawFd) -> Option<&mut Peer> {
    peers.get(fd).filter(|peer| !peer.dead)
}

impl Connections<'_> {
    fn add(&mut self, socket: OwnedFd) {
        let fd = socket.as_raw_fd();
        let peer = Peer {
            socket,
            id: self.next_id,
            http: Connection::new(),
            slow: None,
            finished: false,
            ending: false,
            dead: false,
        };
        self.next_id += 1;
        self.peers.insert(fd, peer);
    }

    /// Payload of a connection.
    #[inline]
    fn input(&mut self, fd: RawFd, payload: &[u8], tx: &mut TxRing) {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return;
        };
        match &mut peer.slow {
            None => {
                let mut out = TxOut::new(tx, fd);
                let taken = peer.http.feed(&mut self.shared, payload, &mut out);
                let full = out.full();
                let unsent = out.finish();
                if full {
                    let unread = payload[taken..].to_vec();
                    peer.slow = Some(Box::new(Slow::new(unsent, unread)));
                    self.waiting.push(fd);
                } else if peer.http.closing() {
                    self.end(fd);
                }
            }
            // What comes after the last request is of no interest.
            Some(_) if peer.http.closing() => {}
            Some(slow) if slow.unread.len() + payload.len() <= MAX_UNREAD => {
                slow.unread.extend_from_slice(payload);
                slow.regulate(fd, tx);
            }
            Some(_) => self.abort(fd),
        }
    }

    /// A slot without payload.
    fn news(&mut self, fd: RawFd, flags: u16, tx: &mut TxRing) {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return;
        };
        if flags & NS_PST_ERR != 0 {
            self.abort(fd);
        } else if flags & NS_PST_WRITABLE != 0 {
            if let Some(slow) = &mut peer.slow {
                if std::mem::take(&mut slow.blocked) {
                    self.go_on(fd, tx);
                }
            }
        } else {
            // NS_PST_FIN, or an older kernel's way to say it.
            peer.finished = true;
            if peer.slow.is_none() {
                peer.ending = false;
                self.end(fd);
            }
        }
    }

    /// Slots that came back unsent: their sockets are full.
    fn take_back(&mut self, tx: &mut TxRing) {
        for slot in tx.unsent() {
            let Some(peer) = alive(&mut self.peers, slot.fd()) else {
                continue;
            };
            let slow = peer.slow.get_or_insert_with(Box::default);
            // In front of what never was in the ring, in their own order.
            let at = slow.returned;
            slow.unsent.splice(at..at, slot.payload().iter().copied());
            slow.returned += slot.payload().len();
            slow.blocked = true;
        }
    }

    /// Connections that waited for room in the ring.
    fn resume(&mut self, tx: &mut TxRing) {
        if self.waiting.is_empty() {
            return;
        }
        // First, as answers may fill the ring.
        for &fd in &self.waiting {
            if let Some(slow) = self.peers.get(fd).and_then(|peer| peer.slow.as_mut()) {
                slow.regulate(fd, tx);
            }
        }
        let mut served = 0;
        for fd in std::mem::take(&mut self.waiting) {
            let room = tx.reserve().is_some();
            self.go_on(fd, tx);
            if room {
                served = self.waiting.len();
            }
        }
        // Who found no room is first next time.
        self.waiting.rotate_left(served);
    }

    /// Send what waits in a connection, then look at the input that waits.
    fn go_on(&mut self, fd: RawFd, tx: &mut TxRing) {
        let Some(peer) = alive(&mut self.peers, fd) else {
            return;
        };
        let Some(mut slow) = peer.slow.take() else {
            return;
        };
        if slow.blocked {
            peer.slow = Some(slow);
            return;
        }
        slow.returned = 0;
        let mut out = TxOut::new(tx, fd);
        out.put(&slow.unsent);
        let taken = if out.full() {
            0
        } else {
            peer.http.feed(&mut self.shared, &slow.unread, &mut out)
        };
        let full = out.full();
        slow.unsent = out.finish();
        slow.unread.drain(..taken);
        slow.regulate(fd, tx);
        if full || slow.held() {
            peer.slow = Some(slow);
            self.waiting.push(fd);
        } else if peer.finished || peer.http.closing() {
            self.end(fd);
        }
    }

    /// End a connection properly, as soon as the ring is drained.
    fn end(&mut self, fd: RawFd) {
        if let Some(peer) = self.peers.get(fd) {
            if !peer.ending {
                peer.ending = true;
                self.ending.push(fd);
            }
        }
    }

    /// End a connection that has failed or misbehaves.
    fn abort(&mut self, fd: RawFd) {
        if let Some(peer) = alive(&mut self.peers, fd) {
            peer.dead = true;
            peer.slow = None;
            peer.ending = true;
            self.ending.push(fd);
        }
    }

    /// The ring is drained: nothing in it names the ending connections.
    fn end_some(&mut self) {
        for fd in std::mem::take(&mut self.ending) {
            let Some(peer) = self.peers.get(fd) else {
                continue;
            };
            if peer.dead {
                // Reset: the peer must not take it for a proper end.
                let _ = sockopt::set_socket_linger(&peer.socket, Some(Duration::ZERO));
                self.peers.remove(fd);
            } else if peer.slow.is_some() {
                // Some of it came back; `go_on` ends it when that is sent.
                peer.ending = false;
            } else if peer.finished || rustix::net::shutdown(&peer.socket, Shutdown::Write).is_err()
            {
                self.peers.remove(fd);
            } else {
                self.lingering.add(fd, peer.id);
            }
        }
    }

    /// A lingering peer had its time.
    fn time_is_over(&mut self, fd: RawFd, id: u64) {
        if self.peers.get(fd).is_some_and(|peer| peer.id == id) {
            self.abort(fd);
        }
    }
}
