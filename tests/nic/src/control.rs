// SPDX-License-Identifier: GPL-2.0
//! Control commands, a line each, over a Unix stream socket. The answer ends with a line `ok` or `error: REASON`.
//!
//! ```text
//! link up|down            plug or pull the cable
//! drop rx|tx N            lose N frames in a million
//! corrupt rx|tx N         flip a bit in N frames in a million
//! delay rx|tx N           frames arrive N microseconds later
//! stall rx|tx QUEUE       a hardware queue does nothing
//! clear                   no more of the above (the link stays as it is)
//! remove                  pull the card out of its slot
//! show                    figures of the wire and the device
//! ```

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::faults::Direction;
use crate::runner::{Core, Runner};

/// Reads what a client sent and answers it. False: it is gone.
pub fn serve((stream, pending): &mut (UnixStream, Vec<u8>), runner: &Runner) -> bool {
    let mut buffer = [0; 512];
    let Ok(length @ 1..) = stream.read(&mut buffer) else {
        return false;
    };
    pending.extend_from_slice(buffer.get(..length).unwrap_or_default());
    while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = pending.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = {
            let mut core = runner.lock();
            let answer = obey(&mut core, &words);
            runner.after_write(&mut core);
            answer
        };
        let text = answer.map_or_else(|reason| format!("error: {reason}\n"), |text| text + "ok\n");
        if stream.write_all(text.as_bytes()).is_err() {
            return false;
        }
    }
    pending.len() < 4096
}

fn direction(word: &str) -> Result<Direction, String> {
    match word {
        "rx" => Ok(Direction::Receive),
        "tx" => Ok(Direction::Transmit),
        _ => Err(format!("{word}: neither rx nor tx")),
    }
}

/// Frames in a million.
fn share(number: u32) -> Result<u32, String> {
    if number > 1_000_000 {
        return Err(format!("{number}: more than a million in a million"));
    }
    Ok(number)
}

fn obey(core: &mut Core, words: &[&str]) -> Result<String, String> {
    let Core { device, bus, .. } = core;
    match *words {
        ["link", state @ ("up" | "down")] => device.link(bus, state == "up"),
        [fault @ ("drop" | "corrupt" | "delay" | "stall"), side, number] => {
            let side = direction(side)?;
            let number: u32 = number
                .parse()
                .map_err(|_| format!("{number}: not a number"))?;
            let trouble = match side {
                Direction::Receive => &mut bus.faults.receive,
                Direction::Transmit => &mut bus.faults.transmit,
            };
            match fault {
                "drop" => trouble.drop = share(number)?,
                "corrupt" => trouble.corrupt = share(number)?,
                "delay" => trouble.delay = Duration::from_micros(number.into()),
                _ => {
                    let queues = device.queues();
                    if number as usize >= queues {
                        return Err(format!("{number}: the card has {queues} queues"));
                    }
                    bus.faults.stall(side, number as usize);
                }
            }
        }
        ["clear"] => {
            bus.faults.clear();
            device.resume(bus);
        }
        ["remove"] => bus.faults.removed = true,
        ["show"] => {
            let mut text = String::new();
            let faults = &bus.faults;
            let done = writeln!(
                text,
                "wire_sent {}\nwire_refused {}\nwire_received {}\nsegmented {}\ninterrupts {}\ncomplaints {}\n\
                 rx_dropped {}\nrx_corrupted {}\ntx_dropped {}\ntx_corrupted {}",
                bus.wire.sent,
                bus.wire.refused,
                bus.wire.received,
                bus.segmented,
                bus.interrupts.sent,
                bus.complaints.count,
                faults.receive.dropped,
                faults.receive.corrupted,
                faults.transmit.dropped,
                faults.transmit.corrupted
            )
            .and_then(|()| device.show(&mut text));
            return done.map(|()| text).map_err(|error| error.to_string());
        }
        _ => return Err(format!("unknown command: {}", words.join(" "))),
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::complaints::Complaints;
    use crate::device::{Bus, Device};
    use crate::ixgbe::{Ixgbe, Kind};
    use crate::wire::Wire;
    use crate::xl710::Xl710;

    fn tell(runner: &Runner, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        obey(&mut runner.lock(), &words)
    }

    #[test]
    fn faults_that_cannot_be_are_refused() {
        let cards: [(Box<dyn Device>, usize); 2] = [
            (Box::new(Ixgbe::new(Kind::Sfp, [2, 0, 0, 0, 0, 1])), 128),
            (Box::new(Xl710::new([2, 0, 0, 0, 0, 1])), 16),
        ];
        for (device, queues) in cards {
            let bus = Bus::new(Wire::new(None).unwrap(), Complaints::default());
            let runner = Runner::new(device, bus).unwrap();
            for (side, direction) in [("rx", Direction::Receive), ("tx", Direction::Transmit)] {
                let last = queues - 1;
                assert!(tell(&runner, &format!("stall {side} {last}")).is_ok());
                assert!(runner.lock().bus.faults.stalled(direction, last));
                for number in [queues, 999] {
                    let refused = tell(&runner, &format!("stall {side} {number}")).unwrap_err();
                    assert!(refused.contains(&format!("{queues} queues")), "{refused}");
                    assert!(!runner.lock().bus.faults.stalled(direction, number));
                }
                for fault in ["drop", "corrupt"] {
                    assert!(tell(&runner, &format!("{fault} {side} 1000000")).is_ok());
                    assert!(tell(&runner, &format!("{fault} {side} 1000001")).is_err());
                }
            }
            let core = runner.lock();
            assert_eq!(core.bus.faults.receive.drop, 1_000_000);
            assert_eq!(core.bus.faults.transmit.corrupt, 1_000_000);
            drop(core);
            for line in [
                "stall rx",
                "stall rx 1x",
                "stall rx -1",
                "drop up 1",
                "link on",
                "fall",
            ] {
                assert!(tell(&runner, line).is_err(), "{line}");
            }
        }
    }
}
