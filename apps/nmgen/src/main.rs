// SPDX-License-Identifier: GPL-2.0
//! `nmgen`: sends or receives packets over netmap ports as fast as it goes, one thread per ring,
//! and reports rates and losses.
#![forbid(unsafe_code)]

mod frame;
mod rates;
mod receive;
mod send;

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use netmap::{Builder, Port};

use frame::{Ends, Mac};
use rates::Counters;
use receive::{Flows, Limits};
use send::Plan;

/// Sends or receives packets over netmap ports, one thread per ring, and reports rates and losses.
///
/// A line per second goes to stderr, the totals to stdout. Frames are UDP over IPv4 and numbered;
/// the receiver counts the gaps. Ends after -t seconds, -n frames, or with SIGINT.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Send
    Tx {
        #[command(flatten)]
        common: Common,
        /// Bytes of a frame without its check sequence, 60 to 65535, at most a buffer
        #[arg(short, long, default_value_t = frame::SHORTEST)]
        length: usize,
        /// Frames per second, all threads together; 0: as many as go
        #[arg(short, long, default_value_t = 0)]
        rate: u64,
        /// UDP flows per thread; a receiving NIC spreads them over its queues
        #[arg(short, long, default_value_t = 1)]
        flows: u32,
        /// Seconds to wait first: many NICs take their link down when a port opens
        #[arg(short, long, default_value_t = 4)]
        wait: u64,
        /// Ethernet destination
        #[arg(short, long, default_value = "ff:ff:ff:ff:ff:ff")]
        destination: Mac,
        /// Ethernet source
        #[arg(short, long, default_value = "02:00:00:00:00:01")]
        source: Mac,
        /// IPv4 destination
        #[arg(short = 'D', long, default_value = "198.18.0.2")]
        to: Ipv4Addr,
        /// IPv4 source
        #[arg(short = 'S', long, default_value = "198.18.0.1")]
        from: Ipv4Addr,
    },
    /// Receive, and count what is missing
    Rx {
        #[command(flatten)]
        common: Common,
        /// Seconds without a frame, after the first, at which it ends
        #[arg(short, long, default_value_t = 3)]
        idle: u64,
        /// Milliseconds to sleep before each look, so that frames gather in the rings
        #[arg(short, long, default_value_t = 0)]
        pause: u64,
    },
}

#[derive(Parser)]
struct Common {
    /// Port: netmap:eth0 for all rings of eth0, netmap:eth0-1 for ring 1
    port: String,
    /// Seconds after which it ends; 0: never
    #[arg(short, long, default_value_t = 10)]
    time: u64,
    /// Frames per thread after which it ends; 0: no limit
    #[arg(short = 'n', long, default_value_t = 0)]
    count: u64,
}

impl Common {
    /// When time is up, counted from now.
    fn end(&self, wait: u64) -> Option<Instant> {
        (self.time != 0).then(|| Instant::now() + Duration::from_secs(self.time + wait))
    }
}

fn main() -> ExitCode {
    match run(Options::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nmgen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One port per NIC ring in the direction asked for, or just the one named with a ring.
fn ports(name: &str, tx: bool) -> io::Result<Vec<Port>> {
    let open = |name: &str| {
        Builder::new(name)?
            .open()
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
    };
    let first = open(name)?;
    let info = *first.info();
    let rings = if tx {
        info.nr_tx_rings
    } else {
        info.nr_rx_rings
    };
    // Other than "all rings of the NIC": as it is.
    if rings <= 1 || info.nr_mode != netmap::abi::NR_REG_ALL_NIC {
        return Ok(vec![first]);
    }
    drop(first);
    (0..rings).map(|i| open(&format!("{name}-{i}"))).collect()
}

fn run(what: What) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    match what {
        What::Tx {
            common,
            length,
            rate,
            flows,
            wait,
            destination,
            source,
            to,
            from,
        } => {
            let mut ports = ports(&common.port, true)?;
            let threads = ports.len() as u32;
            let most = frame::MAX_FLOWS / threads;
            if !(frame::SHORTEST..=65535).contains(&length) || flows == 0 || flows > most {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("lengths go from 60 to 65535, flows from 1 to {most}"),
                ));
            }
            std::thread::sleep(Duration::from_secs(wait));
            let plan = |i: u32| Plan {
                ends: Ends {
                    mac: (destination, source),
                    ip: (from, to),
                },
                flows: i * flows..(i + 1) * flows,
                length,
                count: common.count,
                rate: rate.div_ceil(u64::from(threads)),
                end: common.end(0),
                stop: &stop,
            };
            let plans: Vec<_> = (0..threads).map(plan).collect();
            let (_, totals) = all("sent", &mut ports, |i, port, counters| {
                send::run(port, &plans[i], counters)
            })?;
            println!("{totals}");
        }
        What::Rx {
            common,
            idle,
            pause,
        } => {
            let mut ports = ports(&common.port, false)?;
            let limits = Limits {
                count: common.count,
                end: common.end(0),
                idle: Duration::from_secs(idle),
                pause: Duration::from_millis(pause),
                stop: &stop,
            };
            let (found, totals) = all("received", &mut ports, |_, port, counters| {
                receive::run(port, &limits, counters)
            })?;
            let (mut flows, mut other) = (Flows::default(), 0);
            for (one, foreign) in &found {
                flows.merge(one);
                other += foreign;
            }
            println!(
                "{totals} flows={} lost={} other={other}",
                flows.count(),
                flows.lost()
            );
        }
    }
    Ok(())
}

/// Runs `work` in a thread for each port. Returns what the threads return, and the totals.
fn all<T: Send>(
    what: &str,
    ports: &mut [Port],
    work: impl Fn(usize, &mut Port, &Counters) -> io::Result<T> + Sync,
) -> io::Result<(Vec<T>, String)> {
    let counters: Vec<Counters> = ports.iter().map(|_| Counters::default()).collect();
    let start = Instant::now();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = ports
            .iter_mut()
            .zip(&counters)
            .enumerate()
            .map(|(i, (port, counters))| {
                let work = &work;
                scope.spawn(move || {
                    let result = work(i, port, counters);
                    counters.done();
                    result
                })
            })
            .collect();
        rates::watch(what, &counters);
        threads
            .into_iter()
            .map(|thread| {
                let failed = |_| Err(io::Error::other("a thread failed"));
                thread.join().unwrap_or_else(failed)
            })
            .collect::<io::Result<Vec<T>>>()
    })?;
    let totals = rates::totals(&counters, start.elapsed().as_secs_f64());
    Ok((results, totals))
}
