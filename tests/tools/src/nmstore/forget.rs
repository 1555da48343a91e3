// SPDX-License-Identifier: GPL-2.0
//! Delete old objects, so that a store has room for new ones.

use std::io;
use std::time::Duration;

use clap::Args;
use nmtools::client::Client;
use nmtools::Outcome;

use crate::journal::{Entry, Id, Journal, What};
use crate::Options;

#[derive(Args)]
pub struct Forget {
    /// All objects before this one
    #[arg(short, long)]
    before: u64,
}

impl Forget {
    pub fn run(&self, options: &Options) -> Outcome {
        let mut journal = Journal::read(&options.journal)?;
        let mut client = Client::connect(options.server, Duration::from_secs(options.wait))?;
        let old = journal.objects.range(..self.before);
        let mut doomed: Vec<(String, Id, Option<u64>)> = Vec::new();
        if options.log {
            // The last record takes those before it along.
            let entries = old.flat_map(|(_, entries)| entries);
            let stored = entries.filter(|entry| entry.what == What::Put && entry.number.is_some());
            if let Some(last) = stored.max_by_key(|entry| entry.number) {
                let path = format!("/{}", last.number.unwrap_or(0));
                doomed.push((path, last.id, last.number));
            }
        } else {
            for (object, entries) in old {
                // What is gone already was deleted before.
                let last = entries.last();
                if let Some(last) = last.filter(|e| e.what == What::Put || !e.acknowledged) {
                    doomed.push((format!("/object/{object}"), last.id, None));
                }
            }
        }
        for some in doomed.chunks(50) {
            delete(&mut client, some)?;
        }
        println!("forget: deleted={}", doomed.len());
        journal.add(doomed.into_iter().map(|(_, id, number)| Entry {
            id,
            what: What::Delete,
            acknowledged: true,
            number,
        }));
        journal.write(&options.journal)?;
        Ok(())
    }
}

/// Requests at once, then their answers.
fn delete(client: &mut Client, some: &[(String, Id, Option<u64>)]) -> io::Result<()> {
    let request =
        |(path, ..): &(String, _, _)| format!("DELETE {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    client.send(some.iter().map(request).collect::<String>().as_bytes())?;
    for (path, ..) in some {
        let answer = client.head()?;
        client.body(answer.length, |_| {})?;
        // Those that were asked for but never stored are not there.
        if !matches!(answer.status, 200 | 404) {
            let text = format!("{path}: status {}", answer.status);
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}
