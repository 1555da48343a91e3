// SPDX-License-Identifier: GPL-2.0
//! Many connections, idle for some time, then all used again.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use nmtools::client::Client;
use nmtools::Outcome;

use crate::Target;

#[derive(Args)]
pub struct Hold {
    /// Connections
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,

    /// Seconds to hold them
    #[arg(short, long, default_value_t = 5)]
    idle: u64,

    /// Use only every Nth of them before and after
    #[arg(short, long, default_value_t = 1)]
    every: usize,

    /// Threads that connect
    #[arg(long, default_value_t = 8)]
    threads: usize,
}

impl Hold {
    pub fn run(&self, target: &Target) -> Outcome {
        nmtools::allow_descriptors(self.connections as u64 + 100)?;
        let start = Instant::now();
        let mut clients: Vec<Client> = Vec::with_capacity(self.connections);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.max(1))
                .map(|i| {
                    let share = (self.connections + i) / self.threads.max(1);
                    scope.spawn(move || {
                        (0..share)
                            .map(|_| Client::connect(target.server, target.timeout))
                            .collect::<io::Result<Vec<Client>>>()
                    })
                })
                .collect();
            for thread in threads {
                clients.extend(thread.join().map_err(|_| "a thread panicked")??);
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        println!(
            "connected={} seconds={:.2}",
            clients.len(),
            start.elapsed().as_secs_f64()
        );
        let first = self.use_all(&mut clients)?;
        std::thread::sleep(Duration::from_secs(self.idle));
        let again = self.use_all(&mut clients)?;
        println!(
            "hold ok: connections={} first_us={first} again_us={again}",
            clients.len()
        );
        Ok(())
    }

    /// A request on each; the mean time of one in microseconds.
    fn use_all(&self, clients: &mut [Client]) -> io::Result<u128> {
        let start = Instant::now();
        let mut used = 0;
        for (i, client) in clients.iter_mut().enumerate().step_by(self.every.max(1)) {
            client
                .get()
                .map_err(|e| io::Error::new(e.kind(), format!("connection {i}: {e}")))?;
            used += 1;
        }
        Ok(start.elapsed().as_micros() / used.max(1))
    }
}
