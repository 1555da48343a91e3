// SPDX-License-Identifier: GPL-2.0
//! Takes NICs out of a stack port and puts them into it, while another process
//! uses the port.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use netmap::Port;
use nmtools::Outcome;

/// Attach and detach a NIC.
#[derive(Parser)]
struct Options {
    /// Stack port, e.g. pst:0; it is made if nobody has it
    port: String,

    /// NIC
    nic: String,

    /// What to do, in this order
    #[arg(value_enum, required = true)]
    steps: Vec<Step>,

    /// Milliseconds after each step
    #[arg(short, long, default_value_t = 0)]
    pause: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Step {
    Attach,
    Detach,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let pauses = Duration::from_millis(options.pause) * options.steps.len() as u32;
    nmtools::watchdog("nmattach", pauses + Duration::from_secs(60));
    nmtools::report("nmattach", run(&options))
}

fn run(options: &Options) -> Outcome {
    let port = Port::open(&options.port)?;
    for (number, step) in options.steps.iter().enumerate() {
        let done = match step {
            Step::Attach => port.attach(&options.nic),
            Step::Detach => port.detach(&options.nic),
        };
        done.map_err(|error| format!("step {}: {error}", number + 1))?;
        std::thread::sleep(Duration::from_millis(options.pause));
    }
    Ok(())
}
