// SPDX-License-Identifier: GPL-2.0
//! Peers that send without reading. The server has to stop listening to them,
//! and must go on serving the others.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use clap::Args;
use nmtools::client::{Client, GET};
use nmtools::random::Random;
use nmtools::Outcome;

use crate::Target;

#[derive(Args)]
pub struct Slow {
    /// Peers that do not read
    #[arg(short, long, default_value_t = 4)]
    connections: u64,

    /// Seconds for which they do not
    #[arg(short, long, default_value_t = 3)]
    pause: u64,

    /// They never read, and are reset in the end
    #[arg(long)]
    never: bool,

    /// Send one endless /echo instead of many GETs
    #[arg(long)]
    echo: bool,

    /// Most bytes that a server may take from one of them
    #[arg(long, default_value_t = 40_000_000)]
    most: u64,
}

/// Bytes of the body of an endless echo: never reached, yet few enough for the
/// server's limit.
const ENDLESS: u64 = 60_000_000;

impl Slow {
    pub fn run(&self, target: &Target) -> Outcome {
        let began = Instant::now();
        let mut peers = Vec::new();
        for number in 0..self.connections {
            let mut client = Client::connect(target.server, target.timeout)?;
            if self.echo {
                let head = "POST /echo HTTP/1.1\r\nHost: phttpd\r\nContent-Length:";
                client.send(format!("{head} {ENDLESS}\r\n\r\n").as_bytes())?;
            }
            let sent = self.stuff(&mut client, Random::part(target.seed, number))?;
            let seconds = began.elapsed().as_secs();
            println!("peer {number}: {sent} bytes until it was held off, after {seconds} s");
            peers.push((client, number, sent));
        }
        // Others are served meanwhile.
        let end = Instant::now() + Duration::from_secs(self.pause);
        let mut probe = Client::connect(target.server, target.timeout)?;
        let (mut probes, mut worst) = (0u64, Duration::ZERO);
        while Instant::now() < end {
            let start = Instant::now();
            probe
                .get()
                .map_err(|e| format!("another connection: {e}"))?;
            worst = worst.max(start.elapsed());
            probes += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("others: probes={probes} worst_ms={}", worst.as_millis());
        for (mut client, number, sent) in peers {
            if self.never {
                client.reset()?;
            } else if self.echo {
                self.read_echo(&mut client, Random::part(target.seed, number), sent)?;
            } else {
                // Each whole request has its answer; the last may be cut.
                for _ in 0..sent / GET.len() as u64 {
                    client.expect_ok()?;
                }
            }
            println!("peer {number}: done after {} s", began.elapsed().as_secs());
        }
        probe.get()?;
        println!("slow ok: peers={}", self.connections);
        Ok(())
    }

    /// Send until nothing is taken for a second. Returns how much was.
    fn stuff(&self, client: &mut Client, mut random: Random) -> Result<u64, io::Error> {
        client
            .stream()
            .set_write_timeout(Some(Duration::from_secs(1)))?;
        let mut block = GET.repeat(1000);
        let mut sent = 0u64;
        loop {
            // A block is the same however much of it was taken before.
            let skip = (sent % block.len() as u64) as usize;
            if self.echo && skip == 0 {
                random.fill(&mut block);
            }
            match client.stream().write(&block[skip..]) {
                Ok(n) => sent += n as u64,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(sent);
                }
                Err(e) => return Err(e),
            }
            if sent > self.most {
                return Err(io::Error::other(format!("the server took {sent} bytes")));
            }
        }
    }

    /// What went into an echo has to come out.
    fn read_echo(&self, client: &mut Client, mut random: Random, sent: u64) -> Outcome {
        let answer = client.head()?;
        if (answer.status, answer.length) != (200, ENDLESS) {
            return Err(format!("echo: {answer:?}").into());
        }
        let mut block = vec![0; GET.len() * 1000];
        let (mut at, mut wrong) = (0u64, None);
        client.body(sent, |piece| {
            for byte in piece {
                let i = (at % block.len() as u64) as usize;
                if i == 0 {
                    random.fill(&mut block);
                }
                if *byte != block[i] {
                    wrong.get_or_insert(at);
                }
                at += 1;
            }
        })?;
        match wrong {
            Some(at) => Err(format!("echo: byte {at} of {sent} is wrong").into()),
            None => Ok(()),
        }
    }
}
