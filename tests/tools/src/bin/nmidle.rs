// SPDX-License-Identifier: GPL-2.0
//! What an empty poll() of a stack port costs with many idle sockets on it,
//! and what memory they take.
#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use netmap::{Port, Wait};
use nmtools::Outcome;

/// Empty polls with idle registered sockets.
#[derive(Parser)]
struct Options {
    /// Registered sockets, over loopback
    #[arg(short = 'n', long, default_value_t = 0)]
    sockets: usize,

    /// Polls to measure
    #[arg(short, long, default_value_t = 100_000)]
    polls: u64,

    /// Stack port
    #[arg(long, default_value = "pst:0")]
    port: String,

    /// NIC to attach; may be repeated
    #[arg(short = 'i', long = "nic")]
    nics: Vec<String>,

    /// Seconds of quiet before and after the polls, for who counts instructions
    #[arg(long, default_value_t = 0)]
    pause: u64,

    /// Seconds after which it is a failure
    #[arg(short = 't', long, default_value_t = 300)]
    timeout: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    nmtools::watchdog("nmidle", Duration::from_secs(options.timeout));
    nmtools::report("nmidle", run(&options))
}

fn run(options: &Options) -> Outcome {
    nmtools::allow_descriptors(2 * options.sockets as u64 + 100)?;
    let mut port = Port::open(&options.port)?;
    for nic in &options.nics {
        port.attach(nic)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut pairs = Vec::with_capacity(options.sockets);
    for _ in 0..options.sockets {
        let client = TcpStream::connect(address)?;
        pairs.push((client, listener.accept()?.0));
    }
    let before = kernel_memory()?;
    for (number, (_, socket)) in pairs.iter().enumerate() {
        port.register_socket(socket.as_fd())
            .map_err(|e| format!("socket {number}: {e}"))?;
    }
    let used = kernel_memory()?.saturating_sub(before);
    // What came with the registrations does not belong to the measurement.
    for _ in 0..100 {
        port.poll(Wait::Rx, Some(Duration::ZERO))?;
        port.rx(0).received().for_each(drop);
    }
    println!("start polls={} sockets={}", options.polls, options.sockets);
    std::thread::sleep(Duration::from_secs(options.pause));
    let start = Instant::now();
    let mut slots = 0;
    for _ in 0..options.polls {
        if port.poll(Wait::Rx, Some(Duration::ZERO))?.rx {
            slots += port.rx(0).received().count();
        }
    }
    let time = start.elapsed();
    std::thread::sleep(Duration::from_secs(options.pause));
    println!(
        "idle: sockets={} polls={} ns_per_poll={} slots={slots} bytes_per_socket={}",
        options.sockets,
        options.polls,
        time.as_nanos() / u128::from(options.polls.max(1)),
        used / (options.sockets as u64).max(1)
    );
    Ok(())
}

/// Kernel memory in slabs, in bytes. What others do meanwhile counts, too.
fn kernel_memory() -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Slab:"))
        .ok_or("no Slab: line")?;
    let number = line.split_whitespace().next().ok_or("no number")?;
    Ok(number.parse::<u64>()? * 1024)
}
