// SPDX-License-Identifier: GPL-2.0
//! Connections that come and go quickly, in all the ways there are.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use nmtools::client::{Client, GET};
use nmtools::random::Random;
use nmtools::Outcome;

use crate::Target;

#[derive(Args)]
pub struct Churn {
    /// Threads
    #[arg(short, long, default_value_t = 8)]
    connections: u64,

    /// Seconds
    #[arg(short, long, default_value_t = 5)]
    duration: u64,

    /// Only these ways to leave
    #[arg(short, long, value_enum, num_args = 1..)]
    ways: Vec<Way>,

    /// Errors to put up with, per connection of 100 (for a server that is
    /// killed or a link that flaps meanwhile)
    #[arg(long, default_value_t = 0)]
    tolerate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Connect and close
    Empty,
    /// Requests, answers, close
    Close,
    /// Requests, shut down our side, then all answers
    Half,
    /// The server closes, as asked
    Asked,
    /// Requests, reset before the answers
    Reset,
    /// Reset within a request
    Cut,
}

const ALL: [Way; 6] = [
    Way::Empty,
    Way::Close,
    Way::Half,
    Way::Asked,
    Way::Reset,
    Way::Cut,
];

impl Churn {
    pub fn run(&self, target: &Target) -> Outcome {
        let end = Instant::now() + Duration::from_secs(self.duration);
        let ways = if self.ways.is_empty() {
            &ALL[..]
        } else {
            &self.ways
        };
        let (mut done, mut failed) = (0u64, Vec::new());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|number| scope.spawn(move || worker(target, ways, number, end)))
                .collect();
            for thread in threads {
                let (good, bad) = thread.join().map_err(|_| "a thread panicked")?;
                done += good;
                failed.extend(bad);
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        let failures = failed.len() as u64;
        if failures * 100 > self.tolerate * (done + failures) {
            let first = failed.first().map_or("", String::as_str);
            return Err(format!("{failures} of {} failed; {first}", done + failures).into());
        }
        if self.tolerate == 0 {
            Client::connect(target.server, target.timeout)?.get()?;
        }
        println!("churn ok: connections={done} failed={failures}");
        Ok(())
    }
}

/// Connect again and again until the end: how many went well, and what did not.
fn worker(target: &Target, ways: &[Way], number: u64, end: Instant) -> (u64, Vec<String>) {
    let mut random = Random::part(target.seed, number);
    let (mut good, mut bad) = (0, Vec::new());
    while Instant::now() < end {
        let way = ways[random.below(ways.len() as u64) as usize];
        match once(target, way, &mut random) {
            Ok(()) => good += 1,
            Err(error) => {
                bad.push(format!("{way:?}: {error}"));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    (good, bad)
}

fn once(target: &Target, way: Way, random: &mut Random) -> io::Result<()> {
    let mut client = Client::connect(target.server, target.timeout.min(Duration::from_secs(20)))?;
    let count = 1 + random.size(20);
    match way {
        Way::Empty => {}
        Way::Close => {
            client.send(&GET.repeat(count))?;
            for _ in 0..count {
                client.expect_ok()?;
            }
        }
        Way::Half => {
            client.send(&GET.repeat(count))?;
            client.stream().shutdown(Shutdown::Write)?;
            for _ in 0..count {
                client.expect_ok()?;
            }
            client.expect_end()?;
        }
        Way::Asked => {
            let last = b"GET / HTTP/1.1\r\nHost: phttpd\r\nConnection: close\r\n\r\n";
            client.send(last)?;
            client.expect_ok()?;
            client.expect_end()?;
        }
        Way::Reset => {
            client.send(&GET.repeat(count))?;
            client.reset()?;
        }
        Way::Cut => {
            let part = 1 + random.below(GET.len() as u64 - 1) as usize;
            client.send(&GET[..part])?;
            client.reset()?;
        }
    }
    Ok(())
}
