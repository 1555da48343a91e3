// SPDX-License-Identifier: GPL-2.0
//! Stores objects in phttpd and checks later, perhaps after a crash, that all
//! that was acknowledged is there and that nothing is half there.
#![forbid(unsafe_code)]

#[path = "../nmstore/forget.rs"]
mod forget;
#[path = "../nmstore/journal.rs"]
mod journal;
#[path = "../nmstore/put.rs"]
mod put;
#[path = "../nmstore/verify.rs"]
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Stores objects and looks for them again.
#[derive(Parser)]
struct Options {
    /// Server, as ADDRESS:PORT
    server: SocketAddr,

    /// Seconds after which it is a failure
    #[arg(short = 't', long, global = true, default_value_t = 120)]
    timeout: u64,

    /// Seconds that one answer may take
    #[arg(short = 'w', long, global = true, default_value_t = 20)]
    wait: u64,

    /// Start of the random numbers
    #[arg(short, long, global = true, default_value_t = 1)]
    seed: u64,

    /// The server has a log (`phttpd -d`), not keys (`phttpd -d -B`)
    #[arg(long, global = true)]
    log: bool,

    /// Connections
    #[arg(short, long, global = true, default_value_t = 50)]
    connections: u64,

    /// What was sent and what was acknowledged
    #[arg(short, long, global = true, default_value = "journal")]
    journal: PathBuf,

    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Store objects, and write the journal
    Put(put::Put),
    /// Delete old objects; the journal remembers that
    Forget(forget::Forget),
    /// Compare what there is with the journal
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let options = Options::parse();
    nmtools::watchdog("nmstore", Duration::from_secs(options.timeout));
    let outcome = match &options.what {
        What::Put(put) => put.run(&options),
        What::Forget(forget) => forget.run(&options),
        What::Verify(verify) => verify.run(&options),
    };
    nmtools::report("nmstore", outcome)
}
