// SPDX-License-Identifier: GPL-2.0
//! Sends or receives numbered, checksummed frames over a port, and counts; or
//! carries frames between a NIC and the host.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use netmap::{Port, RxRing, TxRing, Wait};
use nmtools::random::Random;
use nmtools::Outcome;

/// EtherType for local experiments (IEEE 802, 88B5).
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// Ethernet header, number, sum.
const HEAD: usize = 14 + 8 + 8;
/// Shortest frame without its check sequence.
const SHORTEST: usize = 60;

/// Raw frames over a netmap port.
#[derive(Parser)]
struct Options {
    /// Port, e.g. netmap:eth0
    port: String,

    /// Seconds after which it is a failure
    #[arg(short = 't', long, global = true, default_value_t = 60)]
    timeout: u64,

    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Send frames
    Send {
        /// How many
        #[arg(short = 'n', long, default_value_t = 100_000)]
        count: u64,
        /// Bytes of each, 60 to 1514; 0 for random sizes
        #[arg(short, long, default_value_t = 60)]
        length: usize,
        /// Frames per second; 0 for as many as possible
        #[arg(short, long, default_value_t = 0)]
        rate: u64,
        /// Seconds to wait first: NICs take their link down when they change mode
        #[arg(short, long, default_value_t = 4)]
        wait: u64,
        /// Destination address
        #[arg(short, long, default_value = "ff:ff:ff:ff:ff:ff")]
        destination: String,
    },
    /// Receive frames until there are enough, or none for a while
    Recv {
        /// How many
        #[arg(short = 'n', long, default_value_t = 100_000)]
        count: u64,
        /// Seconds without a frame after which it ends
        #[arg(short, long, default_value_t = 3)]
        idle: u64,
        /// The same as long as none has come; else as --idle
        #[arg(short, long)]
        begin: Option<u64>,
        /// Most frames that may be missing
        #[arg(short, long, default_value_t = 0)]
        loss: u64,
        /// So many frames of other programs are enough, too
        #[arg(short, long)]
        other: Option<u64>,
    },
    /// Carry frames between the NIC's ring and the host's (port netmap:NIC*)
    Bridge {
        /// Seconds
        #[arg(short, long, default_value_t = 10)]
        duration: u64,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    nmtools::watchdog("nmpkt", Duration::from_secs(options.timeout));
    nmtools::report("nmpkt", run(&options))
}

fn run(options: &Options) -> Outcome {
    let port = Port::open(&options.port)?;
    match &options.what {
        What::Send {
            count,
            length,
            rate,
            wait,
            destination,
        } => {
            let to = address(destination).ok_or("bad address")?;
            if *length != 0 && !(SHORTEST..=1514).contains(length) {
                return Err("length must be 0 or 60 to 1514".into());
            }
            std::thread::sleep(Duration::from_secs(*wait));
            send(port, *count, *length, *rate, to)
        }
        What::Recv {
            count,
            idle,
            begin,
            loss,
            other,
        } => {
            let waits = [begin.unwrap_or(*idle), *idle].map(Duration::from_secs);
            recv(port, *count, waits, *loss, other.unwrap_or(u64::MAX))
        }
        What::Bridge { duration } => bridge(port, Duration::from_secs(*duration)),
    }
}

fn address(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// Fletcher-like sum over what follows it.
fn sum(number: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold((number, 0u64), |(a, b), byte| {
            let a = a.wrapping_add(u64::from(*byte) + 1);
            (a, b.wrapping_add(a))
        })
        .1
}

/// Make frame `number` in place.
fn make(frame: &mut [u8], number: u64, to: [u8; 6]) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&ETHER_TYPE);
    Random::new(number).fill(&mut frame[HEAD..]);
    let check = sum(number, &frame[HEAD..]);
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame[22..HEAD].copy_from_slice(&check.to_be_bytes());
}

/// What a received frame is.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Ours(u64),
    Broken,
    Other,
}

fn look(frame: &[u8]) -> Frame {
    if frame.get(12..14) != Some(&ETHER_TYPE[..]) {
        return Frame::Other;
    }
    let word = |at: usize| {
        frame
            .get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_be_bytes)
    };
    match (word(14), word(22), frame.get(HEAD..)) {
        (Some(number), Some(check), Some(rest)) if check == sum(number, rest) => {
            Frame::Ours(number)
        }
        _ => Frame::Broken,
    }
}

fn send(mut port: Port, count: u64, length: usize, rate: u64, to: [u8; 6]) -> Outcome {
    let start = Instant::now();
    let mut random = Random::new(count);
    let (mut sent, mut bytes) = (0, 0u64);
    let mut progress = Progress::new("sent");
    while sent < count {
        let due = match rate {
            0 => count,
            _ => (start.elapsed().as_micros() as u64 * rate / 1_000_000 + 1).min(count),
        };
        let tx = port.tx(0);
        while sent < due {
            let Some(mut slot) = tx.reserve() else { break };
            let size = match length {
                0 => SHORTEST + random.below(1514 - SHORTEST as u64 + 1) as usize,
                fixed => fixed,
            };
            let room = slot.room().get_mut(..size).ok_or("buffers are too small")?;
            make(room, sent, to);
            // At most 1514.
            slot.send(size as u16, false);
            sent += 1;
            bytes += size as u64;
        }
        if sent == due && sent < count {
            port.txsync()?;
            std::thread::sleep(Duration::from_micros(500));
        } else if port.poll(Wait::Tx, Some(Duration::from_secs(2)))?.error {
            return Err("the port has failed".into());
        }
        progress.tell(sent);
    }
    while !port.tx(0).drained() {
        port.txsync()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "sent={sent} bytes={bytes} seconds={seconds:.3} pps={:.0}",
        sent as f64 / seconds
    );
    Ok(())
}

/// `begin`, `idle`: how long to wait for the first frame, and for each of the others. `count` frames of
/// ours are enough, and so are `others`.
fn recv(
    mut port: Port,
    count: u64,
    [begin, idle]: [Duration; 2],
    loss: u64,
    others: u64,
) -> Outcome {
    let mut seen = vec![false; usize::try_from(count)?];
    let (mut good, mut twice, mut broken, mut other, mut late) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut newest = None;
    let mut first = None;
    let mut progress = Progress::new("received");
    let mut wait = begin;
    println!("receiving");
    while good < count && other < others {
        let ready = port.poll(Wait::Rx, Some(wait))?;
        if ready.error {
            return Err("the port has failed".into());
        }
        if !ready.rx {
            break;
        }
        wait = idle;
        first.get_or_insert_with(Instant::now);
        let (rx, _) = port.rings();
        for slot in rx.iter_mut().flat_map(|ring| ring.received()) {
            match look(slot.packet()) {
                Frame::Ours(number) => {
                    let known = usize::try_from(number).ok().and_then(|n| seen.get_mut(n));
                    match known.map(|known| std::mem::replace(known, true)) {
                        Some(false) => good += 1,
                        _ => twice += 1,
                    }
                    late += u64::from(newest > Some(number));
                    newest = newest.max(Some(number));
                }
                Frame::Broken => broken += 1,
                Frame::Other => other += 1,
            }
        }
        progress.tell(good);
    }
    let seconds = first.map_or(0.0, |time| time.elapsed().as_secs_f64());
    let lost = count - good;
    println!(
        "received={good} lost={lost} twice={twice} late={late} broken={broken} other={other} \
         seconds={seconds:.3} pps={:.0}",
        good as f64 / seconds.max(1e-9)
    );
    match (broken + twice, lost > loss) {
        (0, false) => Ok(()),
        (0, true) => Err(format!("{lost} frames are missing").into()),
        _ => Err("frames came broken or twice".into()),
    }
}

/// Copy what comes into ring 0 to ring 1 and the other way round: rings of the
/// NIC come first, the host's last.
fn bridge(mut port: Port, duration: Duration) -> Outcome {
    let end = Instant::now() + duration;
    let (mut up, mut down) = (0u64, 0u64);
    println!("bridging");
    while Instant::now() < end {
        if port.poll(Wait::Rx, Some(Duration::from_millis(100)))?.error {
            return Err("the port has failed".into());
        }
        let (rx, tx) = port.rings();
        let ([nic_rx @ .., host_rx], [nic_tx, .., host_tx]) = (rx, tx) else {
            return Err("the port has no host rings".into());
        };
        for queue in nic_rx {
            up += carry(queue, host_tx)?;
        }
        down += carry(host_rx, nic_tx)?;
    }
    println!("bridged: to_host={up} to_nic={down}");
    Ok(())
}

/// Copy frames; those for which there is no room are lost.
fn carry(from: &mut RxRing, to: &mut TxRing) -> Result<u64, &'static str> {
    let mut count = 0;
    for slot in from.received() {
        let packet = slot.packet();
        let Some(mut out) = to.reserve() else {
            continue;
        };
        let room = out.room().get_mut(..packet.len());
        room.ok_or("a frame is larger than a buffer")?
            .copy_from_slice(packet);
        out.send(packet.len() as u16, false);
        count += 1;
    }
    Ok(count)
}

/// A line per second.
struct Progress {
    what: &'static str,
    next: Instant,
    before: u64,
}

impl Progress {
    fn new(what: &'static str) -> Progress {
        Progress {
            what,
            next: Instant::now() + Duration::from_secs(1),
            before: 0,
        }
    }

    fn tell(&mut self, total: u64) {
        if Instant::now() >= self.next {
            eprintln!("{} {total} (+{})", self.what, total - self.before);
            self.before = total;
            self.next += Duration::from_secs(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_recognised_and_damage_is_seen() {
        let mut frame = [0; 100];
        make(&mut frame, 77, [0xff; 6]);
        assert_eq!(look(&frame), Frame::Ours(77));
        for at in 14..100 {
            let mut damaged = frame;
            damaged[at] ^= 4;
            assert_eq!(look(&damaged), Frame::Broken, "{at}");
        }
        frame[40..].rotate_left(1);
        assert_eq!(look(&frame), Frame::Broken);
        assert_eq!(look(&[0; 60]), Frame::Other);
        assert_eq!(look(&[]), Frame::Other);
        assert_eq!(address("01:02:03:04:05:ff"), Some([1, 2, 3, 4, 5, 255]));
        assert_eq!(address("1:2:3"), None);
    }
}
