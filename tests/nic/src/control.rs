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
                "drop" => trouble.drop = number,
                "corrupt" => trouble.corrupt = number,
                "delay" => trouble.delay = Duration::from_micros(number.into()),
                _ => bus.faults.stall(side, number as usize),
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
