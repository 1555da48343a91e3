// SPDX-License-Identifier: GPL-2.0
//! Clients that check what a server answers, or behave badly towards it.
#![forbid(unsafe_code)]

#[path = "../nmload/churn.rs"]
mod churn;
#[path = "../nmload/echo.rs"]
mod echo;
#[path = "../nmload/hold.rs"]
mod hold;
#[path = "../nmload/slow.rs"]
mod slow;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Clients for phttpd.
#[derive(Parser)]
struct Options {
    /// Server, as ADDRESS:PORT
    server: SocketAddr,

    /// Seconds after which it is a failure
    #[arg(short = 't', long, global = true, default_value_t = 120)]
    timeout: u64,

    /// Start of the random numbers
    #[arg(short, long, global = true, default_value_t = 1)]
    seed: u64,

    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Echo random bodies over many connections and compare every byte
    Echo(echo::Echo),
    /// Hold many connections open, idle, and use them all again
    Hold(hold::Hold),
    /// Peers that do not read, or read late, beside others that must not suffer
    Slow(slow::Slow),
    /// Connect and leave in all ways: FIN, half-close, reset, in the middle
    Churn(churn::Churn),
}

/// What all of them need.
struct Target {
    server: SocketAddr,
    timeout: Duration,
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let timeout = Duration::from_secs(options.timeout);
    nmtools::watchdog("nmload", timeout);
    let target = Target {
        server: options.server,
        timeout,
        seed: options.seed,
    };
    let outcome = match &options.what {
        What::Echo(echo) => echo.run(&target),
        What::Hold(hold) => hold.run(&target),
        What::Slow(slow) => slow.run(&target),
        What::Churn(churn) => churn.run(&target),
    };
    nmtools::report("nmload", outcome)
}
