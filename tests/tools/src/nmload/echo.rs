// SPDX-License-Identifier: GPL-2.0
//! Random bodies to /echo and back, pipelined, over many connections.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender, TrySendError};
use std::time::Instant;

use clap::Args;
use nmtools::client::Client;
use nmtools::random::Random;
use nmtools::Outcome;

use crate::Target;

#[derive(Args)]
pub struct Echo {
    /// Connections
    #[arg(short, long, default_value_t = 50)]
    connections: u64,

    /// Bytes of body over all connections, e.g. 200000000
    #[arg(short = 'n', long, default_value_t = 10_000_000)]
    bytes: u64,

    /// Largest body
    #[arg(short, long, default_value_t = 300_000)]
    most: usize,

    /// Requests on their way per connection
    #[arg(short, long, default_value_t = 4)]
    pipeline: usize,
}

/// A body on its way: the stream of its bytes, and how many.
struct Body {
    random: Random,
    length: usize,
}

impl Echo {
    pub fn run(&self, target: &Target) -> Outcome {
        let start = Instant::now();
        let requests = AtomicU64::new(0);
        let each = self.bytes / self.connections.max(1);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..self.connections {
                let requests = &requests;
                threads.push(scope.spawn(move || -> io::Result<()> {
                    let done = self.connection(target, number, each);
                    requests.fetch_add(*done.as_ref().unwrap_or(&0), Ordering::Relaxed);
                    done.map(|_| ())
                        .map_err(|e| io::Error::new(e.kind(), format!("connection {number}: {e}")))
                }));
            }
            for thread in threads {
                thread.join().map_err(|_| "a thread panicked")??;
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        println!(
            "echo ok: connections={} requests={} bytes={} seconds={:.2}",
            self.connections,
            requests.load(Ordering::Relaxed),
            each * self.connections,
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// One connection: a thread that sends, and this one that compares.
    fn connection(&self, target: &Target, number: u64, bytes: u64) -> io::Result<u64> {
        let mut client = Client::connect(target.server, target.timeout)?;
        let mut sender = client.stream().try_clone()?;
        let (expected, coming) = sync_channel(self.pipeline.max(1));
        let random = Random::part(target.seed, number);
        let most = self.most;
        let sending = std::thread::spawn(move || send(&mut sender, random, bytes, most, &expected));
        let checked = check(&mut client, &coming);
        // A sender that waits for room in the pipeline must see the end.
        drop(coming);
        if checked.is_err() {
            let _ = client.stream().shutdown(std::net::Shutdown::Both);
        }
        let sent = sending
            .join()
            .map_err(|_| io::Error::other("the sender panicked"))?;
        let requests = checked?;
        sent?;
        client.stream().shutdown(std::net::Shutdown::Write)?;
        client.expect_end()?;
        Ok(requests)
    }
}

/// Send requests until `bytes` of body are on their way, in writes of random
/// sizes, so that heads and bodies are cut anywhere.
fn send(
    stream: &mut impl io::Write,
    mut random: Random,
    mut bytes: u64,
    most: usize,
    expected: &SyncSender<Body>,
) -> io::Result<()> {
    let mut out = Vec::new();
    while bytes > 0 {
        let length = random.size(usize::try_from(bytes).map_or(most, |left| left.min(most)));
        // Bodies of no length would never end it.
        let length = length.max(1);
        bytes -= length as u64;
        let mut content = Random::new(random.next());
        // The other side learns of a body before it is sent: who reads too
        // late is held off. With the pipeline full, what waits must go first.
        match expected.try_send(Body {
            random: content.clone(),
            length,
        }) {
            Ok(()) => {}
            Err(TrySendError::Full(body)) => {
                write(stream, &mut random, &mut out)?;
                if expected.send(body).is_err() {
                    return Ok(());
                }
            }
            Err(TrySendError::Disconnected(_)) => return Ok(()),
        }
        let head =
            format!("POST /echo HTTP/1.1\r\nHost: phttpd\r\nContent-Length: {length}\r\n\r\n");
        let at = out.len() + head.len();
        out.extend_from_slice(head.as_bytes());
        out.resize(at + length, 0);
        content.fill(&mut out[at..]);
        // Sometimes the next request goes with this one.
        if random.below(3) > 0 || out.len() > 2 * most {
            write(stream, &mut random, &mut out)?;
        }
    }
    write(stream, &mut random, &mut out)
}

/// Send all that waits, in writes of random sizes.
fn write(stream: &mut impl io::Write, random: &mut Random, out: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = &out[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + random.size(100_000)).min(rest.len()));
        stream.write_all(now)?;
        rest = later;
    }
    out.clear();
    Ok(())
}

/// Compare the answers with what was sent.
fn check(client: &mut Client, coming: &Receiver<Body>) -> io::Result<u64> {
    let mut requests = 0;
    for mut body in coming {
        let answer = client.head()?;
        let wrong = |what: String| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("request {requests}: {what}"),
            )
        };
        if (answer.status, answer.length) != (200, body.length as u64) {
            return Err(wrong(format!(
                "{answer:?} instead of {} bytes",
                body.length
            )));
        }
        let mut want = vec![0; body.length];
        body.random.fill(&mut want);
        let mut at = 0;
        let mut first = None;
        client.body(answer.length, |piece| {
            let differs = piece.iter().zip(&want[at..]).position(|(a, b)| a != b);
            first = first.or(differs.map(|n| at + n));
            at += piece.len();
        })?;
        if let Some(at) = first {
            return Err(wrong(format!("byte {at} of {} is wrong", body.length)));
        }
        requests += 1;
    }
    Ok(requests)
}
