// SPDX-License-Identifier: GPL-2.0
//! Tools of the tests. On the client's side of a network: `nmload`, `nmstore`.
//! On the side of the module: `nmhostile`, `nmpkt`, `nmidle`, `nmconnect`.
//!
//! All of them end by themselves, with status 0 if what they check holds, 1 if
//! not, 2 on wrong usage and 3 when their time is over.
#![forbid(unsafe_code)]

pub mod client;
pub mod random;

use std::process::ExitCode;
use std::time::Duration;

/// What tools return; the message says what went wrong.
pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Turn an outcome into the exit status, with its message.
pub fn report(tool: &str, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{tool}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// End the whole program with status 3 after this time, whatever it does.
pub fn watchdog(tool: &'static str, time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        eprintln!("{tool}: not done after {} s", time.as_secs());
        std::process::exit(3);
    });
}

/// As many descriptors as we may have; fails below `wanted`.
pub fn allow_descriptors(wanted: u64) -> Outcome {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < wanted) {
        let maximum = match limit.maximum {
            Some(most) if most < wanted => Some(wanted),
            most => most,
        };
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum,
            },
        )?;
    }
    Ok(())
}
