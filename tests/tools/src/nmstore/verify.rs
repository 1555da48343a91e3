// SPDX-License-Identifier: GPL-2.0
//! Look for everything that the journal tells of.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use clap::Args;
use nmtools::client::Client;
use nmtools::Outcome;

use crate::journal::{allowed, Id, Journal, What};
use crate::Options;

#[derive(Args)]
pub struct Verify {
    /// Largest body, as it was for `put`
    #[arg(short, long, default_value_t = 8000)]
    most: usize,

    /// Logs: so many numbers beyond the acknowledged ones are looked at
    #[arg(long, default_value_t = 200)]
    beyond: u64,

    /// Logs: records up to this number were dropped
    #[arg(long, default_value_t = 0)]
    dropped: u64,

    /// How many objects must have been acknowledged, at least
    #[arg(long, default_value_t = 1)]
    least: u64,
}

/// What is asked for, and what the answer may be.
struct Question {
    path: String,
    allowed: Vec<Option<Id>>,
}

/// Counts of answers.
#[derive(Default)]
struct Seen {
    found: u64,
    absent: u64,
    bytes: u64,
}

impl Verify {
    pub fn run(&self, options: &Options) -> Outcome {
        let journal = Journal::read(&options.journal)?;
        let acknowledged: u64 = journal
            .objects
            .values()
            .flatten()
            .map(|entry| u64::from(entry.acknowledged))
            .sum();
        if acknowledged < self.least {
            return Err(format!("only {acknowledged} objects were acknowledged").into());
        }
        let questions = match options.log {
            true => self.of_log(&journal)?,
            false => of_keys(&journal),
        };
        let mut all = Seen::default();
        std::thread::scope(|scope| {
            let share = questions
                .len()
                .div_ceil(options.connections.max(1) as usize);
            let threads: Vec<_> = questions
                .chunks(share.max(1))
                .map(|part| scope.spawn(move || self.ask(options, part)))
                .collect();
            for thread in threads {
                let seen = thread.join().map_err(|_| "a thread panicked")??;
                all.found += seen.found;
                all.absent += seen.absent;
                all.bytes += seen.bytes;
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        println!(
            "verify ok: acknowledged={acknowledged} found={} absent={} bytes={}",
            all.found, all.absent, all.bytes
        );
        Ok(())
    }

    /// Every number up to some beyond the last one: acknowledged ones must be
    /// there, others may be there if they were sent.
    fn of_log(&self, journal: &Journal) -> Result<Vec<Question>, String> {
        let mut numbers: BTreeMap<u64, Id> = BTreeMap::new();
        let mut sent: BTreeSet<Id> = BTreeSet::new();
        let mut dropped = self.dropped;
        for entry in journal.objects.values().flatten() {
            if entry.what == What::Delete {
                dropped = dropped.max(entry.number.unwrap_or(0));
                continue;
            }
            match entry.number.filter(|_| entry.acknowledged) {
                Some(number) => {
                    if let Some(other) = numbers.insert(number, entry.id) {
                        return Err(format!(
                            "{other:?} and {:?} both became record {number}",
                            entry.id
                        ));
                    }
                }
                None => {
                    sent.insert(entry.id);
                }
            }
        }
        let sent: Vec<Option<Id>> = [None]
            .into_iter()
            .chain(sent.into_iter().map(Some))
            .collect();
        let end = numbers
            .keys()
            .next_back()
            .map_or(0, |last| last + self.beyond);
        let question = |number: u64| Question {
            path: format!("/{number}"),
            allowed: match numbers.get(&number) {
                _ if number <= dropped => vec![None],
                Some(id) => vec![Some(*id)],
                None => sent.clone(),
            },
        };
        // A few of those that were dropped will do.
        let first = dropped.saturating_sub(self.beyond) + 1;
        Ok((first..=end).map(question).collect())
    }

    fn ask(&self, options: &Options, questions: &[Question]) -> io::Result<Seen> {
        let mut client = Client::connect(options.server, Duration::from_secs(options.wait))?;
        let mut seen = Seen::default();
        let mut content = Vec::new();
        for Question { path, allowed } in questions {
            let request = format!("GET {path} HTTP/1.1\r\nHost: phttpd\r\n\r\n");
            client.send(request.as_bytes())?;
            let answer = client.head()?;
            content.clear();
            client.body(answer.length, |piece| content.extend_from_slice(piece))?;
            let wrong = |what: String| io::Error::other(format!("{path}: {what}"));
            match answer.status {
                200 => {
                    let id = Id::of(&content);
                    if id.is_none() || !allowed.contains(&id) {
                        return Err(wrong(format!("{id:?} instead of one of {allowed:?}")));
                    }
                    let want = id.map(|id| id.content(options.seed, self.most));
                    if want.as_ref() != Some(&content) {
                        return Err(wrong(format!("{id:?} is not intact")));
                    }
                    seen.found += 1;
                    seen.bytes += content.len() as u64;
                }
                404 if allowed.contains(&None) => seen.absent += 1,
                404 => return Err(wrong(format!("gone, one of {allowed:?} was expected"))),
                status => return Err(wrong(format!("status {status}"))),
            }
        }
        Ok(seen)
    }
}

/// Every object.
fn of_keys(journal: &Journal) -> Vec<Question> {
    let question = |(object, entries): (&u64, &Vec<_>)| Question {
        path: format!("/object/{object}"),
        allowed: allowed(entries),
    };
    journal.objects.iter().map(question).collect()
}
