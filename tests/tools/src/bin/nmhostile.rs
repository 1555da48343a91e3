// SPDX-License-Identifier: GPL-2.0
//! Opens a port and writes random things all over its memory while it syncs.
//! With --listen it has sockets on a stack port, so that there is traffic to
//! spoil; with --rings a thread for each ring, which syncs its own and spoils
//! all. Whatever the kernel answers is fine, as long as it survives.
#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
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

    /// Rings of a stack port, with a thread each; 0: all that there are, with
    /// one thread
    #[arg(short, long, default_value_t = 0)]
    rings: u16,

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
    let names: Vec<String> = match options.rings {
        0 => vec![options.port.clone()],
        rings => (0..rings)
            .map(|ring| format!("{}-{ring}", options.port))
            .collect(),
    };
    let open = |name: &String| {
        Builder::new(name)?
            .rings(options.rings)
            .extra_bufs(options.extra)
            .open()
    };
    let ports: Vec<Port> = names.iter().map(open).collect::<Result<_, _>>()?;
    for nic in &options.nics {
        ports[0].attach(nic)?;
    }
    let victims: Vec<Scribbler> = ports
        .into_iter()
        .map(Port::scribble)
        .collect::<Result<_, _>>()?;
    let door = options
        .listen
        .map(|port| Door::new(port, &victims))
        .transpose()?;
    // All of one memory, which each thread can reach.
    let rings: Vec<Range<usize>> = victims.iter().flat_map(Scribbler::rings).cloned().collect();
    let end = Instant::now() + Duration::from_secs(options.duration);
    let (rounds, errors) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (number, victim) in victims.iter().enumerate() {
            let random = Random::new(options.seed + 1000 * number as u64);
            let (rings, door, rounds, errors) = (&rings, &door, &rounds, &errors);
            scope.spawn(move || {
                let (more, failed) = spoil(victim, rings, door.as_ref(), random, end);
                rounds.fetch_add(more, Relaxed);
                errors.fetch_add(failed, Relaxed);
            });
        }
    });
    let registered: Vec<String> = door
        .iter()
        .flat_map(|door| &door.registered)
        .map(|count| count.load(Relaxed).to_string())
        .collect();
    println!(
        "hostile done: rounds={} errors={} rings={} registered={} bytes={}",
        rounds.load(Relaxed),
        errors.load(Relaxed),
        rings.len(),
        registered.join(","),
        victims[0].len()
    );
    Ok(())
}

/// Where connections come in, which are given to the rings.
struct Door<'a> {
    listener: TcpListener,
    victims: &'a [Scribbler],
    next: AtomicUsize,
    /// How many each ring has got.
    registered: Vec<AtomicU64>,
}

impl<'a> Door<'a> {
    fn new(port: u16, victims: &'a [Scribbler]) -> std::io::Result<Door<'a>> {
        let listener = TcpListener::bind(("::", port))?;
        listener.set_nonblocking(true)?;
        Ok(Door {
            listener,
            victims,
            next: AtomicUsize::new(0),
            registered: victims.iter().map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The next connection, if there is one, and whether it could be given to
    /// a ring: each in its turn, whoever asks.
    fn accept(&self) -> Option<(TcpStream, bool)> {
        let (socket, _) = self.listener.accept().ok()?;
        let ring = self.next.fetch_add(1, Relaxed) % self.victims.len();
        let done = self.victims[ring].register_socket(socket.as_fd()).is_ok();
        self.registered[ring].fetch_add(u64::from(done), Relaxed);
        Some((socket, done))
    }
}

/// Syncs one descriptor's rings and spoils all; how often, and how many calls
/// failed.
fn spoil(
    victim: &Scribbler,
    rings: &[Range<usize>],
    door: Option<&Door<'_>>,
    mut random: Random,
    end: Instant,
) -> (u64, u64) {
    let mut sockets = Vec::new();
    let (mut rounds, mut errors) = (0u64, 0u64);
    while Instant::now() < end {
        scribble(victim, rings, &mut random, rounds % 64 == 63);
        let result = match random.below(4) {
            0 => victim.txsync(),
            1 => victim.rxsync(),
            _ => victim
                .poll(Duration::from_millis(random.below(3)))
                .map(|_| ()),
        };
        errors += u64::from(result.is_err());
        while let Some((socket, done)) = door.and_then(Door::accept) {
            errors += u64::from(!done);
            sockets.push(socket);
        }
        if sockets.len() > 200 {
            let at = random.below(sockets.len() as u64) as usize;
            sockets.swap_remove(at);
        }
        rounds += 1;
    }
    (rounds, errors)
}

/// Spoil what the kernel reads most: cursors and slots. Now and then all of
/// the memory.
fn scribble(victim: &Scribbler, rings: &[Range<usize>], random: &mut Random, everything: bool) {
    for ring in rings {
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
