// SPDX-License-Identifier: GPL-2.0
//! Clients over a stack port: connections that this side opens. They are
//! registered while they are still connecting, or once they are connected, and
//! send random bodies to the /echo of a server and compare what comes back.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use netmap::abi::{NS_PST_ERR, NS_PST_FIN, NS_PST_WRITABLE};
use netmap::{Port, TxRing, Wait};
use nmtools::random::Random;
use nmtools::Outcome;
use rustix::net::{self, ipproto, AddressFamily, Shutdown, SocketFlags, SocketType};

/// Clients over a stack port.
#[derive(Parser)]
struct Options {
    /// Server, as ADDRESS:PORT
    server: SocketAddr,

    /// NIC to attach; may be repeated
    #[arg(short = 'i', long = "nic")]
    nics: Vec<String>,

    /// Stack port
    #[arg(long, default_value = "pst:0")]
    port: String,

    /// Connections
    #[arg(short, long, default_value_t = 10)]
    connections: usize,

    /// Bytes of body over all connections
    #[arg(short = 'n', long, default_value_t = 1_000_000)]
    bytes: usize,

    /// Largest body
    #[arg(short, long, default_value_t = 100_000)]
    most: usize,

    /// Seconds after which it is a failure
    #[arg(short = 't', long, default_value_t = 60)]
    timeout: u64,
}

/// One connection: one request at a time.
struct Client {
    socket: OwnedFd,
    random: Random,
    /// Bytes of body still to be sent after this request.
    left: usize,
    /// The body on its way.
    body: Vec<u8>,
    /// The part of the answer that has come.
    answer: Vec<u8>,
    /// Bytes that the ring or the socket has not taken.
    unsent: Vec<u8>,
    /// Some came back: nothing is sent until the socket is writable.
    blocked: bool,
    finished: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    nmtools::watchdog("nmconnect", Duration::from_secs(options.timeout));
    nmtools::report("nmconnect", run(&options))
}

/// A socket that connects; it need not be connected yet.
fn connect(to: SocketAddr, wait: bool) -> Result<OwnedFd, rustix::io::Errno> {
    let family = if to.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC
        | if wait {
            SocketFlags::empty()
        } else {
            SocketFlags::NONBLOCK
        };
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn run(options: &Options) -> Outcome {
    nmtools::allow_descriptors(options.connections as u64 + 100)?;
    let mut port = Port::open(&options.port)?;
    for nic in &options.nics {
        port.attach(nic)?;
    }
    // A NIC that enters netmap mode restarts its link.
    for nic in &options.nics {
        let carrier = format!("/sys/class/net/{nic}/carrier");
        while std::fs::read_to_string(&carrier)?.trim() != "1" {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let mut clients = HashMap::new();
    for number in 0..options.connections {
        // The second half is registered in the middle of the handshake.
        let socket = connect(options.server, number < options.connections / 2)?;
        port.register_socket(socket.as_fd())
            .map_err(|e| format!("connection {number}: {e}"))?;
        let share = (options.bytes + number) / options.connections;
        let mut client = Client {
            socket,
            random: Random::part(1, number as u64),
            left: share,
            body: Vec::new(),
            answer: Vec::new(),
            unsent: Vec::new(),
            blocked: false,
            finished: false,
        };
        client.next(options.most);
        clients.insert(client.socket.as_raw_fd(), client);
    }
    let (mut echoed, mut requests, mut held_back) = (0, 0u64, 0u64);
    while !clients.is_empty() {
        // Room in the ring is looked for only where something waits for it.
        let waits = clients.values().any(|c| !c.blocked && !c.unsent.is_empty());
        let wait = if waits { Wait::RxTx } else { Wait::Rx };
        if port.poll(wait, Some(Duration::from_secs(1)))?.error {
            return Err("the port has failed".into());
        }
        let (rx, tx) = port.rings();
        let (rx, tx) = (&mut rx[0], &mut tx[0]);
        let mut back: HashMap<i32, Vec<u8>> = HashMap::new();
        for slot in tx.unsent() {
            held_back += 1;
            let bytes = back.entry(slot.fd()).or_default();
            bytes.extend_from_slice(slot.payload());
        }
        for (fd, mut bytes) in back {
            if let Some(client) = clients.get_mut(&fd) {
                bytes.append(&mut client.unsent);
                client.unsent = bytes;
                client.blocked = true;
            }
        }
        for slot in rx.received() {
            let fd = slot.fd();
            let Some(client) = clients.get_mut(&fd) else {
                continue;
            };
            if !slot.payload().is_empty() {
                client.answer.extend_from_slice(slot.payload());
                if let Some(length) = client.answered()? {
                    echoed += length;
                    requests += 1;
                    client.next(options.most);
                }
            } else if slot.flags() & NS_PST_WRITABLE != 0 {
                client.blocked = false;
            } else if slot.flags() & NS_PST_ERR != 0 {
                return Err(format!("descriptor {fd}: the connection failed").into());
            } else if slot.flags() & NS_PST_FIN != 0 {
                if !client.finished {
                    return Err(format!("descriptor {fd}: an early end").into());
                }
                clients.remove(&fd);
            }
        }
        for client in clients.values_mut() {
            client.send(tx)?;
        }
    }
    println!(
        "connect ok: connections={} requests={requests} bytes={echoed} held_back={held_back}",
        options.connections
    );
    Ok(())
}

impl Client {
    /// Make the next request, if there is one.
    fn next(&mut self, most: usize) {
        if self.left == 0 {
            return;
        }
        let length = self.random.size(most.min(self.left)).max(1);
        self.left -= length;
        self.body.resize(length, 0);
        self.random.fill(&mut self.body);
        let head = format!("POST /echo HTTP/1.1\r\nHost: echo\r\nContent-Length: {length}\r\n\r\n");
        self.unsent.extend_from_slice(head.as_bytes());
        self.unsent.extend_from_slice(&self.body);
    }

    /// The length of the body that came back, once it has come, and is right.
    fn answered(&mut self) -> Result<Option<usize>, String> {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut fields);
        let at = match head.parse(&self.answer).map_err(|e| e.to_string())? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete(at) => at,
        };
        if head.code != Some(200) {
            return Err(format!("status {:?}", head.code));
        }
        let length = self.body.len();
        match self.answer.len() - at {
            come if come < length => Ok(None),
            come if come > length => Err(format!("{come} bytes instead of {length}")),
            _ if self.answer[at..] != self.body => Err("wrong bytes".into()),
            _ => {
                self.answer.clear();
                self.body.clear();
                Ok(Some(length))
            }
        }
    }

    /// Fill slots with what waits; shut our side down when there is no more.
    fn send(&mut self, tx: &mut TxRing) -> Outcome {
        if self.blocked {
            return Ok(());
        }
        let mut done = 0;
        while done < self.unsent.len() {
            let Some(mut slot) = tx.reserve() else {
                break;
            };
            let room = slot.room();
            let n = room
                .len()
                .min(self.unsent.len() - done)
                .min(usize::from(u16::MAX));
            room[..n].copy_from_slice(&self.unsent[done..done + n]);
            slot.send_to(self.socket.as_raw_fd(), n as u16);
            done += n;
        }
        self.unsent.drain(..done);
        if self.left == 0 && self.body.is_empty() && !self.finished {
            self.finished = true;
            net::shutdown(&self.socket, Shutdown::Write)?;
        }
        Ok(())
    }
}
