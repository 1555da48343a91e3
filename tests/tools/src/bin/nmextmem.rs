// SPDX-License-Identifier: GPL-2.0
//! Opens a port in memory of its own, says what it got, and does something with it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use netmap::{Builder, ExtraBuf, Formatting, Memory, PoolParams, Port, Wait, Watch};
use nmtools::random::Random;
use nmtools::Outcome;
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};

/// Ports in files and other memory.
#[derive(Parser)]
struct Options {
    /// Port, e.g. pst:0
    port: String,

    /// file:PATH, file:PATH,BYTES, memfd:BYTES, anon:BYTES, or kernel
    #[arg(short, long, default_value = "kernel")]
    memory: String,

    /// Interfaces
    #[arg(long, default_value_t = 0)]
    if_num: u32,

    /// Rings
    #[arg(long, default_value_t = 0)]
    ring_num: u32,

    /// Bytes of a buffer
    #[arg(long, default_value_t = 0)]
    buf_size: u32,

    /// Buffers at least
    #[arg(long, default_value_t = 0)]
    buf_num: u32,

    /// Extra buffers
    #[arg(short, long, default_value_t = 0)]
    extra: u32,

    /// Buffers that we had
    #[arg(short, long, value_delimiter = ',')]
    claim: Vec<u32>,

    /// What becomes of memory that was used before
    #[arg(short, long, value_enum, default_value_t = Format::Keep)]
    format: Format,

    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Keep,
    Anew,
    Existing,
}

#[derive(Subcommand)]
enum Action {
    /// Nothing else
    Info,
    /// Fill the extra and the claimed buffers with random bytes
    Write { seed: u64 },
    /// See that the claimed buffers hold the bytes that were written so
    Check { seed: u64 },
    /// Stay for so many seconds
    Hold { seconds: u64 },
    /// Open the port a second time, in the same memory
    Twice,
    /// Echo what TCP connections send, for so many seconds
    Echo {
        nic: String,
        tcp_port: u16,
        seconds: u64,
    },
}

fn main() -> ExitCode {
    nmtools::watchdog("nmextmem", Duration::from_secs(300));
    nmtools::report("nmextmem", run(&Options::parse()))
}

/// The memory that the words name; None: the kernel's own.
fn memory(words: &str) -> Result<Option<Memory>, Box<dyn std::error::Error + Send + Sync>> {
    let file = |file: &File, len: Option<u64>| {
        let len = len.map_or_else(|| Memory::room(file), Ok)?;
        Memory::file(file, usize::try_from(len).map_err(std::io::Error::other)?)
    };
    Ok(match words.split_once(':') {
        None if words == "kernel" => None,
        Some(("file", words)) => {
            let (path, len) = match words.split_once(',') {
                Some((path, len)) => (path, Some(len.parse()?)),
                None => (words, None),
            };
            let opened = OpenOptions::new().read(true).write(true).open(path)?;
            Some(file(&opened, len)?)
        }
        Some(("memfd", bytes)) => {
            let made = File::from(memfd_create("pool", MemfdFlags::CLOEXEC)?);
            ftruncate(&made, bytes.parse()?)?;
            Some(file(&made, None)?)
        }
        Some(("anon", bytes)) => Some(Memory::anonymous(bytes.parse()?)?),
        _ => return Err(format!("no memory: {words}").into()),
    })
}

fn open(options: &Options, memory: Option<&Memory>, format: Format) -> std::io::Result<Port> {
    let mut builder = Builder::new(&options.port)?.extra_bufs(options.extra);
    if let Some(memory) = memory {
        let params = PoolParams {
            if_num: options.if_num,
            ring_num: options.ring_num,
            buf_num: options.buf_num,
            buf_size: options.buf_size,
            ..PoolParams::default()
        };
        builder = builder.memory(memory, params);
    }
    builder
        .claim(options.claim.clone())
        .format(match format {
            Format::Keep => Formatting::Keep,
            Format::Anew => Formatting::Anew,
            Format::Existing => Formatting::Existing,
        })
        .open()
}

fn list(bufs: &[ExtraBuf]) -> String {
    let numbers: Vec<_> = bufs.iter().map(|buf| buf.index().to_string()).collect();
    numbers.join(",")
}

fn run(options: &Options) -> Outcome {
    let memory = memory(&options.memory)?;
    if let Some(memory) = &memory {
        println!("sync={}", memory.is_sync());
    }
    let mut port = open(options, memory.as_ref(), options.format)?;
    let mut extra: Vec<_> = std::iter::from_fn(|| port.take_extra()).collect();
    let mut claimed = port.take_claimed();
    let info = port.info();
    println!(
        "memsize={} memory={} offset={} first={:?} formatted={}",
        info.nr_memsize,
        info.nr_mem_id,
        info.nr_offset,
        port.buffer_offset(0),
        port.formatted()
    );
    if let Some(format) = port.format() {
        println!("id={:x} {:?}", format.id, format.params);
        let agree = format.buf_offset(2) == port.buffer_offset(2);
        if !agree {
            return Err("the header does not say where the buffers are".into());
        }
    }
    println!("extra={}", list(&extra));
    println!("claimed={}", list(&claimed));
    match &options.action {
        Action::Info => {}
        Action::Write { seed } => {
            let rx = port.rx(0);
            for buf in extra.iter_mut().chain(&mut claimed) {
                let mut random = Random::part(*seed, buf.index().into());
                random.fill(rx.extra_mut(buf));
            }
        }
        Action::Check { seed } => {
            for buf in &claimed {
                let mut want = vec![0; port.bytes(buf).len()];
                Random::part(*seed, buf.index().into()).fill(&mut want);
                let shared = memory.as_ref().map_or(port.bytes(buf), |m| m.bytes(buf));
                if want.is_empty() || port.bytes(buf) != want || shared != want {
                    return Err(format!("buffer {} has other bytes", buf.index()).into());
                }
            }
        }
        Action::Hold { seconds } => {
            println!("holding");
            std::thread::sleep(Duration::from_secs(*seconds));
        }
        Action::Twice => twice(options, memory.as_ref(), &mut port, extra)?,
        Action::Echo {
            nic,
            tcp_port,
            seconds,
        } => {
            let end = Instant::now() + Duration::from_secs(*seconds);
            echo(&mut port, nic, *tcp_port, end)?;
        }
    }
    println!("done");
    Ok(())
}

/// A second descriptor of the port: its buffers are others, and work in the rings of the first.
fn twice(
    options: &Options,
    memory: Option<&Memory>,
    port: &mut Port,
    extra: Vec<ExtraBuf>,
) -> Outcome {
    let mut second = open(options, memory, Format::Keep)?;
    let more: Vec<_> = std::iter::from_fn(|| second.take_extra()).collect();
    println!("more={}", list(&more));
    if extra
        .iter()
        .any(|a| more.iter().any(|b| a.index() == b.index()))
    {
        return Err("a buffer was given out twice".into());
    }
    if memory.is_some_and(|m| m.read().is_some()) {
        return Err("memory in use can be read".into());
    }
    let all = more.into_iter().map(|buf| port.give_extra(buf));
    let refused = all.filter(Result::is_err).count();
    if (refused == 0) != memory.is_some() {
        return Err("buffers belong to one memory only".into());
    }
    Ok(())
}

/// An echo server, for clients that read what they sent before they send more.
fn echo(port: &mut Port, nic: &str, tcp_port: u16, end: Instant) -> Outcome {
    let listener = TcpListener::bind(("::", tcp_port))?;
    listener.set_nonblocking(true)?;
    port.attach(nic)?;
    println!("listening");
    let mut sockets: HashMap<i32, TcpStream> = HashMap::new();
    while Instant::now() < end {
        let mut watch = [Watch::readable(listener.as_fd())];
        let ready = port.poll_with(Wait::Rx, &mut watch, Some(Duration::from_millis(100)))?;
        if ready.error {
            return Err("the port is gone".into());
        }
        let (rx, tx) = port.rings();
        if tx[0].unsent().next().is_some() {
            return Err("a client does not read".into());
        }
        for slot in rx[0].received() {
            let fd = slot.fd();
            if slot.payload().is_empty() {
                sockets.remove(&fd);
            } else if !sockets.contains_key(&fd) {
                return Err("data of a socket that is closed".into());
            } else if let Some(free) = tx[0].reserve() {
                free.send_received(slot, fd);
            } else {
                return Err("no room to answer".into());
            }
        }
        while let Ok((socket, _)) = listener.accept() {
            port.register_socket(socket.as_fd())?;
            sockets.insert(socket.as_raw_fd(), socket);
        }
    }
    println!("open={}", sockets.len());
    Ok(())
}
