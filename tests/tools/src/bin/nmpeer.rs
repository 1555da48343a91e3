// SPDX-License-Identifier: GPL-2.0
//! One connection on a stack port, step by step: what tests of single
//! properties need. Reads commands from stdin, a line each, and answers each
//! with lines of which the last one is "ok" or an error.
//!
//! ```text
//! send BYTES        put that much of the stream into tx slots
//! fill              send until slots come back unsent; says how much was taken
//! poll MS           poll until something comes; says what
//! sync              send what is in tx slots, look at nothing
//! wait MS           do nothing
//! sndbuf BYTES      SO_SNDBUF of the connection
//! share COUNT       fill extra buffers, to be sent with `keep`
//! keep TIMES        send all of them, keeping them
//! unshare           take them back
//! give              from now on they replace the buffers of received slots
//! left              says how many are not given yet
//! end               stop
//! ```
#![forbid(unsafe_code)]

use std::io::BufRead;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use netmap::abi::{NS_PST_ERR, NS_PST_WRITABLE};
use netmap::{Builder, ExtraBuf, Port, SharedBuf, Wait};
use nmtools::Outcome;

/// Bytes of a shared buffer that are sent.
const SHARED: u16 = 1400;
/// Where they are in it.
const SHARED_AT: u16 = 100;

/// One connection on a stack port, step by step.
#[derive(Parser)]
struct Options {
    /// NIC to attach
    #[arg(short = 'i', long = "nic")]
    nic: String,

    /// TCP port to accept the connection on
    #[arg(short, long)]
    listen: u16,

    /// Stack port
    #[arg(long, default_value = "pst:0")]
    port: String,

    /// Seconds after which it is a failure
    #[arg(short = 't', long, default_value_t = 120)]
    timeout: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    nmtools::watchdog("nmpeer", Duration::from_secs(options.timeout));
    nmtools::report("nmpeer", run(&options))
}

fn run(options: &Options) -> Outcome {
    let mut port = Builder::new(&options.port)?.extra_bufs(64).open()?;
    let mut extra: Vec<_> = std::iter::from_fn(|| port.take_extra()).collect();
    port.attach(&options.nic)?;
    let listener = TcpListener::bind(("::", options.listen))?;
    println!("listening");
    let (socket, _) = listener.accept()?;
    port.register_socket(socket.as_fd())?;
    println!("accepted");
    let mut peer = Peer {
        port,
        socket,
        sent: 0,
        received: 0,
        shared: Vec::new(),
        giving: Vec::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or("");
        let number = words.next().map(str::parse).transpose()?.unwrap_or(0);
        match command {
            "send" => peer.send(number),
            "fill" => peer.fill()?,
            "poll" => peer.poll(Duration::from_millis(number as u64))?,
            "sync" => peer.port.txsync()?,
            "wait" => std::thread::sleep(Duration::from_millis(number as u64)),
            "sndbuf" => {
                rustix::net::sockopt::set_socket_send_buffer_size(&peer.socket, number)?;
            }
            "share" => peer.share(&mut extra, number)?,
            "keep" => peer.keep(number)?,
            "unshare" => {
                for buf in peer.shared.drain(..) {
                    extra.push(buf.into_extra().map_err(|_| "still shared")?);
                }
            }
            "give" => peer.giving.append(&mut extra),
            "left" => println!("left {}", peer.giving.len()),
            "end" => break,
            _ => return Err(format!("what is {line}?").into()),
        }
        println!("ok");
    }
    for buf in extra.into_iter().chain(peer.giving.drain(..)) {
        peer.port
            .give_extra(buf)
            .map_err(|_| "a stranger's buffer")?;
    }
    Ok(())
}

/// Byte `at` of the stream.
fn byte(at: usize) -> u8 {
    let at = at % 65_536;
    (at * 167 + (at >> 8) * 13) as u8
}

struct Peer {
    port: Port,
    socket: TcpStream,
    sent: usize,
    received: usize,
    shared: Vec<SharedBuf>,
    /// Take the place of received buffers.
    giving: Vec<ExtraBuf>,
}

impl Peer {
    /// As much of the stream as there are slots for, at most `bytes`.
    fn send(&mut self, bytes: usize) {
        let fd = self.socket.as_raw_fd();
        let end = self.sent + bytes;
        while self.sent < end {
            let Some(mut slot) = self.port.tx(0).reserve() else {
                break;
            };
            let room = slot.room();
            let n = room.len().min(end - self.sent).min(1448);
            for (i, to) in room.iter_mut().take(n).enumerate() {
                *to = byte(self.sent + i);
            }
            slot.send_to(fd, n as u16);
            self.sent += n;
        }
    }

    fn fill(&mut self) -> Outcome {
        for _ in 0..10_000 {
            self.send(100_000);
            self.port.txsync()?;
            let tx = self.port.tx(0);
            let back: usize = tx.unsent().map(|slot| slot.payload().len()).sum();
            if back > 0 {
                self.sent -= back;
                println!("full {}", self.sent);
                return Ok(());
            }
        }
        Err("it takes everything".into())
    }

    fn poll(&mut self, time: Duration) -> Outcome {
        let end = Instant::now() + time;
        let mut any = false;
        while !any {
            let left = end.saturating_duration_since(Instant::now());
            if self.port.poll(Wait::Rx, Some(left))?.error {
                return Err("the port has failed".into());
            }
            let (rx, tx) = self.port.rings();
            let back: usize = tx[0].unsent().map(|slot| slot.payload().len()).sum();
            if back > 0 {
                println!("unsent {back}");
                any = true;
            }
            for mut slot in rx[0].received() {
                any = true;
                let n = slot.payload().len();
                self.received += n;
                match slot.flags() {
                    _ if n > 0 => {
                        if let Some(mut buf) = self.giving.pop() {
                            slot.swap(&mut buf);
                            // The received buffer is lost to us until the port closes.
                        }
                    }
                    flags if flags & NS_PST_WRITABLE != 0 => println!("writable"),
                    flags if flags & NS_PST_ERR != 0 => println!("error"),
                    _ => println!("fin"),
                }
            }
            if left.is_zero() {
                break;
            }
        }
        println!("received {}", self.received);
        Ok(())
    }

    fn share(&mut self, extra: &mut Vec<ExtraBuf>, count: usize) -> Outcome {
        for number in self.shared.len()..count {
            let mut buf = extra.pop().ok_or("no extra buffer is left")?;
            let bytes = self.port.rx(0).extra_mut(&mut buf);
            let bytes = bytes
                .get_mut(usize::from(SHARED_AT)..)
                .and_then(|b| b.get_mut(..usize::from(SHARED)))
                .ok_or("buffers are too small")?;
            for (i, to) in bytes.iter_mut().enumerate() {
                *to = byte(number * 1000 + i);
            }
            self.shared.push(buf.share());
        }
        Ok(())
    }

    fn keep(&mut self, times: usize) -> Outcome {
        let fd = self.socket.as_raw_fd();
        for _ in 0..times {
            for buf in &self.shared {
                let slot = match self.port.tx(0).reserve() {
                    Some(slot) => slot,
                    None => {
                        self.port.txsync()?;
                        self.port.tx(0).reserve().ok_or("no slot is free")?
                    }
                };
                if !slot.send_shared(buf, SHARED_AT, SHARED, fd) {
                    return Err("not sent".into());
                }
            }
        }
        self.port.txsync()?;
        let back = self.port.tx(0).unsent().count();
        if back > 0 {
            return Err(format!("{back} slots are more than the socket takes").into());
        }
        Ok(())
    }
}
