// SPDX-License-Identifier: GPL-2.0
//! Opens a port and writes random things all over its memory while it syncs.
//! With --listen it has sockets on a stack port, so that there is traffic to
//! spoil. Whatever the kernel answers is fine, as long as it survives.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use netmap::{Builder, Port, Scribbler};
use nmtools::random::Random;
use nmtools::Outcome;

/// Overwrite a port's memory while using it.
#[derive(Parser)]
struct Options {
    /// Port, e.g. pst:1 or netmap:eth0
    port: String,

    /// NIC to attach to it; may be repeated
    #[arg(short = 'i', long = "nic")]
    nics: Vec<String>,

    /// Accept connections on this TCP port and register them
    #[arg(short, long)]
    listen: Option<u16>,

    /// Seconds
    #[arg(short, long, default_value_t = 5)]
    duration: u64,

    /// Start of the random numbers
    #[arg(short, long, default_value_t = 1)]
    seed: u64,

    /// Extra buffers to ask for
    #[arg(short, long, default_value_t = 16)]
    extra: u32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    nmtools::watchdog("nmhostile", Duration::from_secs(options.duration + 60));
    nmtools::report("nmhostile", run(&options))
}

fn run(options: &Options) -> Outcome {
    let port = Builder::new(&options.port)?
        .extra_bufs(options.extra)
        .open()?;
    for nic in &options.nics {
        port.attach(nic)?;
    }
    let mut random = Random::new(options.seed);
    let listener = options
        .listen
        .map(|port| TcpListener::bind(("::", port)))
        .transpose()?;
    // Sockets are registered through a second descriptor: the first one gives
    // up its port to be scribbled on.
    let registrar = match &listener {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            Some(Port::open(&options.port))
        }
        None => None,
    };
    let registrar = registrar.transpose().unwrap_or_else(|error| {
        eprintln!("nmhostile: no second descriptor: {error}");
        None
    });
    let victim = port.scribble()?;
    let end = Instant::now() + Duration::from_secs(options.duration);
    let mut sockets = Vec::new();
    let (mut rounds, mut errors, mut registered) = (0u64, 0u64, 0u64);
    while Instant::now() < end {
        scribble(&victim, &mut random, rounds % 64 == 63);
        let result = match random.below(4) {
            0 => victim.txsync(),
            1 => victim.rxsync(),
            _ => victim
                .poll(Duration::from_millis(random.below(3)))
                .map(|_| ()),
        };
        errors += u64::from(result.is_err());
        if let (Some(listener), Some(registrar)) = (&listener, &registrar) {
            while let Ok((socket, _)) = listener.accept() {
                match registrar.register_socket(socket.as_fd()) {
                    Ok(()) => registered += 1,
                    Err(_) => errors += 1,
                }
                sockets.push(socket);
            }
            if sockets.len() > 200 {
                let at = random.below(sockets.len() as u64) as usize;
                sockets.swap_remove(at);
            }
        }
        rounds += 1;
    }
    println!(
        "hostile done: rounds={rounds} errors={errors} registered={registered} bytes={}",
        victim.len()
    );
    Ok(())
}

/// Spoil what the kernel reads most: cursors and slots. Now and then all of
/// the memory.
fn scribble(victim: &Scribbler, random: &mut Random, everything: bool) {
    for ring in victim.rings() {
        match random.below(4) {
            // Cursors alone: the rest stays plausible.
            0 => cursors(victim, random, ring.start),
            // Plausible slots: buffer numbers in and just out of range, any
            // length, flags, descriptor.
            1 => {
                for at in (ring.start + 256..ring.end).step_by(16) {
                    let index = random.size(1 << 18) as u64;
                    let len = random.size(70_000) as u64 & 0xffff;
                    let _ = victim.write(at, index | (len << 32) | (random.next() << 48));
                    let _ = victim.write(
                        at + 8,
                        random.next() & 0x3_ffff_ffff_ffff & !0xffff_ff00_0000,
                    );
                }
                cursors(victim, random, ring.start);
            }
            2 => {
                let at = ring.start + random.below((ring.end - ring.start) as u64) as usize;
                let _ = victim.write(at & !7, random.next());
            }
            _ => fill(victim, random, ring.start, ring.end),
        }
    }
    if random.below(8) == 0 {
        fill(victim, random, victim.interface(), victim.interface() + 256);
    }
    if everything {
        fill(victim, random, 0, victim.len());
    }
}

/// Sensible and senseless values of head and cur.
fn cursors(victim: &Scribbler, random: &mut Random, ring: usize) {
    let head = random.size(2048) as u64;
    let cur = if random.below(2) == 0 {
        head
    } else {
        random.size(2048) as u64
    };
    // head is the upper half of the word at 16, cur the lower half of the next.
    let word = victim.read(ring + 16).unwrap_or(0) & 0xffff_ffff;
    let _ = victim.write(ring + 16, word | (head << 32));
    let tail = random.next() & !0xffff_ffff;
    let _ = victim.write(ring + 24, tail | cur);
}

fn fill(victim: &Scribbler, random: &mut Random, start: usize, end: usize) {
    for at in (start & !7..end).step_by(8) {
        let _ = victim.write(at, random.next());
    }
}
