// SPDX-License-Identifier: GPL-2.0
//! Store objects of mixed sizes over many connections.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use nmtools::client::{Answer, Client};
use nmtools::random::Random;
use nmtools::Outcome;

use crate::journal::{Entry, Id, Journal, What};
use crate::Options;

#[derive(Args)]
pub struct Put {
    /// Objects
    #[arg(short = 'n', long, default_value_t = 5000)]
    objects: u64,

    /// Number of the first one
    #[arg(short, long, default_value_t = 0)]
    first: u64,

    /// Largest body
    #[arg(short, long, default_value_t = 8000)]
    most: usize,

    /// Of 100 requests with keys, so many set an earlier object anew
    #[arg(long, default_value_t = 0)]
    again: u64,

    /// Of 100 requests with keys, so many delete an earlier object
    #[arg(long, default_value_t = 0)]
    delete: u64,

    /// The server may die: that is the end, and no failure
    #[arg(long)]
    until_death: bool,

    /// The store may be full: go on with the next object
    #[arg(long)]
    full: bool,

    /// Say so once this many requests were acknowledged
    #[arg(long, default_value_t = 0)]
    tell: u64,
}

/// Requests that were acknowledged until now, by all connections.
static ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

/// What a connection has done.
#[derive(Default)]
struct Done {
    entries: Vec<Entry>,
    refused: u64,
    error: Option<io::Error>,
}

impl Put {
    pub fn run(&self, options: &Options) -> Outcome {
        let journal = Mutex::new(Journal::read(&options.journal)?);
        let (mut acknowledged, mut sent, mut refused) = (0, 0, 0);
        let mut failure = None;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..options.connections)
                .map(|number| scope.spawn(move || self.connection(options, number)))
                .collect();
            for thread in threads {
                let done = thread.join().map_err(|_| "a thread panicked")?;
                sent += done.entries.len();
                acknowledged += done.entries.iter().filter(|e| e.acknowledged).count();
                refused += done.refused;
                failure = failure.take().or(done.error);
                let mut journal = journal.lock().map_err(|_| "a thread panicked")?;
                journal.add(done.entries);
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        let journal = journal.into_inner().map_err(|_| "a thread panicked")?;
        journal.write(&options.journal)?;
        println!("put: sent={sent} acknowledged={acknowledged} refused={refused}");
        match failure {
            Some(error) if !self.until_death => Err(error.into()),
            Some(error) => {
                println!("ended by: {error}");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn connection(&self, options: &Options, number: u64) -> Done {
        let mut done = Done::default();
        let wait = Duration::from_secs(options.wait);
        done.error = Client::connect(options.server, wait)
            .and_then(|mut client| self.requests(options, number, &mut client, &mut done))
            .err();
        done
    }

    fn requests(
        &self,
        options: &Options,
        number: u64,
        client: &mut Client,
        done: &mut Done,
    ) -> io::Result<()> {
        let mut random = Random::part(options.seed, !(number + self.first));
        // Each connection has its own objects, so that it knows their order.
        let step = options.connections.max(1);
        let mut known: Vec<Id> = Vec::new();
        for object in (self.first + number..self.first + self.objects).step_by(step as usize) {
            let mut next = Some(Id { object, version: 0 });
            while let Some(id) = next.take() {
                self.request(options, client, id, What::Put, done)?;
                if id.version == 0 {
                    known.push(id);
                }
                let dice = random.below(100);
                if options.log || dice >= self.again + self.delete {
                    break;
                }
                let at = random.below(known.len() as u64) as usize;
                known[at].version += 1;
                let id = known[at];
                if dice < self.again {
                    next = Some(id);
                } else {
                    self.request(options, client, id, What::Delete, done)?;
                }
            }
        }
        Ok(())
    }

    fn request(
        &self,
        options: &Options,
        client: &mut Client,
        id: Id,
        what: What,
        done: &mut Done,
    ) -> io::Result<()> {
        let content = match what {
            What::Put => id.content(options.seed, self.most),
            What::Delete => Vec::new(),
        };
        let line = match (what, options.log) {
            (What::Put, true) => "POST /".to_string(),
            (What::Put, false) => format!("PUT /object/{}", id.object),
            (What::Delete, _) => format!("DELETE /object/{}", id.object),
        };
        let mut request = format!(
            "{line} HTTP/1.1\r\nHost: phttpd\r\nContent-Length: {}\r\n\r\n",
            content.len()
        )
        .into_bytes();
        request.extend_from_slice(&content);
        done.entries.push(Entry {
            id,
            what,
            acknowledged: false,
            number: None,
        });
        client.send(&request)?;
        let Answer {
            status,
            length,
            location,
            ..
        } = client.head()?;
        client.body(length, |_| {})?;
        match (status, what) {
            // What was never stored, or deleted already, is not there: as wanted.
            (200, _) | (404, What::Delete) => {
                if let Some(entry) = done.entries.last_mut() {
                    entry.acknowledged = true;
                    entry.number = location;
                }
                let before = ACKNOWLEDGED.fetch_add(1, Ordering::Relaxed);
                if before + 1 == self.tell {
                    println!("put: acknowledged={}, going on", self.tell);
                }
            }
            (507, _) if self.full => {
                done.refused += 1;
                // Refused is not stored.
                done.entries.pop();
            }
            _ => return Err(io::Error::other(format!("{line}: status {status}"))),
        }
        Ok(())
    }
}
