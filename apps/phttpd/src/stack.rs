// SPDX-License-Identifier: GPL-2.0
//! Serving over a stack port: one poll() brings the requests of all
//! connections in rx slots; they are parsed where they lie, and answers are
//! written into tx slots, which the next poll() sends.
//!
//! What was stored is made durable once per batch, before that poll().
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
use netmap::{Builder, Formatting, Port, RxSlot, TxRing, Wait, Watch};
use rustix::net::{sockopt, Shutdown};

use crate::http::{Connection, Shared};
use crate::listen::{accept, Accepted};
use crate::options::Options;
use crate::site::{Out, Site};
use crate::slow::Slow;
use crate::store::{Files, Store};
use crate::table::{Lingering, Table};
use crate::txout::{Named, TxOut};
use crate::{during, Stop};

/// Most input of a connection that may wait because its answers do. What the
/// kernel gives before it hears that the peer is to be held must fit: an rx
/// ring's worth.
const MAX_UNREAD: usize = 4 << 20;

/// Open the port once per thread and attach the NICs; nothing without NICs. With
/// zero copy the packet buffers lie in the pool of `files`.
pub fn open(options: &Options, files: Option<&Files<'_>>) -> io::Result<Vec<Port>> {
    if options.nics.is_empty() {
        return Ok(Vec::new());
    }
    let mut ports = Vec::new();
    for i in 0..options.threads {
        let name = match options.threads {
            1 => options.stack_port.clone(),
            _ => format!("{}-{i}", options.stack_port),
        };
        let mut builder = Builder::new(&name)?.rings(options.threads);
        if let Some((pool, claims)) = files.and_then(Files::pool) {
            builder = builder.memory(&pool.memory, pool.params);
            // The first one has all buffers; they serve the rings of any.
            builder = match (i, pool.format) {
                (0, None) => builder.format(Formatting::Anew),
                (0, Some(_)) => builder.format(Formatting::Existing).claim(claims),
                _ => builder,
            };
            if i == 0 {
                builder = builder.extra_bufs(files.map_or(0, Files::extra_bufs));
            }
        }
        ports.push(builder.open().map_err(during(format_args!(
            "opening {name} (the kernel log says more)"
        )))?);
        if i == 0 {
            for nic in &options.nics {
                ports[0].attach(nic).map_err(during(format_args!(
                    "attaching {nic} (the kernel log says more)"
                )))?;
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
    named: Named,
}

impl<'a> Server<'a> {
    /// A server on a listening socket and the port's first ring pair.
    pub fn new(
        site: &'a Site,
        store: Option<Store<'a>>,
        listener: &'a OwnedFd,
        port: Port,
    ) -> Server<'a> {
        let state = Connections {
            shared: Shared::new(site, store),
            peers: Table::new(),
            next_id: 0,
            waiting: Vec::new(),
            ending: Vec::new(),
            lingering: Lingering::new(),
            named: Named::default(),
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
            // The poll() sends the answers.
            state.shared.commit().map_err(during("storing"))?;
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
            state.named.clear();
            state.take_back(tx);
            if tx.drained() {
                state.drained();
            }
            state.resume(tx);
            for slot in rx.received() {
                let payload = slot.payload();
                if payload.is_empty() {
                    state.news(slot.fd(), slot.flags(), tx);
                } else if state.shared.store.is_none() {
                    state.input(slot.fd(), payload, tx);
                } else {
                    state.input_to_store(slot, tx)?;
                }
            }
            while let Some((fd, id)) = state.lingering.expired() {
                state.time_is_over(fd, id);
            }
            if !watch[0].ready.is_empty() {
                self.accept();
            }
        }
        self.state.shared.commit().map_err(during("storing"))
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
                let mut out = TxOut::new(tx, fd, &mut self.named);
                let taken = peer.http.feed(&mut self.shared, payload, &mut out);
                let full = out.full() || peer.http.waits();
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

    /// The same where some of it may be kept in its buffer.
    fn input_to_store(&mut self, slot: RxSlot<'_>, tx: &mut TxRing) -> io::Result<()> {
        let each = self.shared.store.as_mut().is_some_and(|store| {
            store.begin_slot(&slot);
            store.each()
        });
        self.input(slot.fd(), slot.payload(), tx);
        if let Some(store) = &mut self.shared.store {
            store.end_slot(slot);
        }
        if each {
            self.shared.commit().map_err(during("storing"))?;
        }
        Ok(())
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
        let mut out = TxOut::new(tx, fd, &mut self.named);
        out.put(&slow.unsent);
        let taken = if out.full() {
            0
        } else {
            peer.http.feed(&mut self.shared, &slow.unread, &mut out)
        };
        let full = out.full() || peer.http.waits();
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

    fn remove(&mut self, fd: RawFd) {
        if let Some(mut peer) = self.peers.remove(fd) {
            peer.http.abandon(&mut self.shared);
        }
    }

    /// The ring is drained: nothing in it names a buffer or a connection.
    #[inline]
    fn drained(&mut self) {
        if let Some(store) = &mut self.shared.store {
            store.sent();
        }
        if !self.ending.is_empty() {
            self.end_some();
        }
    }

    /// End connections that nothing in the ring names.
    fn end_some(&mut self) {
        for fd in std::mem::take(&mut self.ending) {
            let Some(peer) = self.peers.get(fd) else {
                continue;
            };
            if peer.dead {
                // Reset: the peer must not take it for a proper end.
                let _ = sockopt::set_socket_linger(&peer.socket, Some(Duration::ZERO));
                self.remove(fd);
            } else if peer.slow.is_some() {
                // Some of it came back; `go_on` ends it when that is sent.
                peer.ending = false;
            } else if peer.finished || rustix::net::shutdown(&peer.socket, Shutdown::Write).is_err()
            {
                self.remove(fd);
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
