// SPDX-License-Identifier: GPL-2.0
//! The frames: UDP over IPv4, numbered flow by flow.
//!
//! Behind the headers: [`MAGIC`], the flow (u32) and the frame's number in it (u64), big-endian.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// Ethernet, IPv4 and UDP headers, bytes.
const HEADERS: usize = 14 + 20 + 8;
/// Where the number is.
const NUMBER: usize = HEADERS + 8;
/// Shortest frame, without its check sequence.
pub const SHORTEST: usize = 60;
/// Marks the frames of this program.
const MAGIC: [u8; 4] = *b"nmgn";
/// The discard service (RFC 863).
const DISCARD: u16 = 9;
/// Source port of flow 0; each flow has its own, so that a NIC spreads them over its queues.
const FIRST_PORT: u16 = 10_000;
/// Most flows.
pub const MAX_FLOWS: u32 = 50_000;

/// An Ethernet address, written as six hexadecimal numbers with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Mac, Self::Err> {
        const WRONG: &str = "an Ethernet address looks like 02:00:00:00:00:01";
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() <= 2).ok_or(WRONG)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| WRONG)?;
        }
        match parts.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err(WRONG),
        }
    }
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Ethernet destination and source.
    pub mac: (Mac, Mac),
    /// IPv4 source and destination.
    pub ip: (Ipv4Addr, Ipv4Addr),
}

/// Writes the whole of a frame of `flow` with number 0. `frame` has 60 to 65535 bytes.
#[cold]
pub fn write(frame: &mut [u8], ends: &Ends, flow: u32) {
    let ip_len = (frame.len() - 14) as u16;
    frame.fill(0);
    frame[..6].copy_from_slice(&ends.mac.0 .0);
    frame[6..12].copy_from_slice(&ends.mac.1 .0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (ip, udp) = frame[14..].split_at_mut(20);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&ends.ip.0.octets());
    ip[16..20].copy_from_slice(&ends.ip.1.octets());
    let sum = checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    // MAX_FLOWS keeps it below 2^16. A UDP checksum of 0: none.
    let port = FIRST_PORT + flow as u16;
    udp[..2].copy_from_slice(&port.to_be_bytes());
    udp[2..4].copy_from_slice(&DISCARD.to_be_bytes());
    udp[4..6].copy_from_slice(&(ip_len - 20).to_be_bytes());
    udp[8..12].copy_from_slice(&MAGIC);
    udp[12..16].copy_from_slice(&flow.to_be_bytes());
}

/// Changes the number of a frame that [`write`] made.
#[inline]
pub fn number(frame: &mut [u8], number: u64) {
    if let Some(field) = frame.get_mut(NUMBER..NUMBER + 8) {
        field.copy_from_slice(&number.to_be_bytes());
    }
}

/// Flow and number of a frame; `None` if it is not of this program.
#[inline]
pub fn read(frame: &[u8]) -> Option<(u32, u64)> {
    let mark: &[u8; 16] = frame.get(HEADERS..HEADERS + 16)?.try_into().ok()?;
    let (whose, number) = mark.split_first_chunk::<8>()?;
    let number = number.first_chunk::<8>()?;
    // The flow, if the mark is right; else a number that is too large for one.
    let flow = u64::from_be_bytes(*whose) ^ (u64::from(u32::from_be_bytes(MAGIC)) << 32);
    (flow < u64::from(MAX_FLOWS)).then(|| (flow as u32, u64::from_be_bytes(*number)))
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends {
        mac: (Mac([0xff; 6]), Mac([2, 0, 0, 0, 0, 1])),
        ip: (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)),
    };

    #[test]
    fn what_was_written_is_read() {
        for size in [SHORTEST, 61, 1514] {
            let mut frame = vec![7; size];
            write(&mut frame, &ENDS, 49_999);
            number(&mut frame, 1 << 40);
            assert_eq!(read(&frame), Some((49_999, 1 << 40)));
            // A header with its checksum sums up to nothing.
            assert_eq!(checksum(&frame[14..34]), 0);
        }
    }

    #[test]
    fn other_frames_are_not_ours() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0; SHORTEST]), None);
        let mut frame = [0; SHORTEST];
        write(&mut frame, &ENDS, 3);
        assert_eq!(read(&frame[..57]), None);
        frame[HEADERS] ^= 1;
        assert_eq!(read(&frame), None);
    }

    #[test]
    fn addresses() {
        assert_eq!("01:2:ff:00:0:a".parse(), Ok(Mac([1, 2, 255, 0, 0, 10])));
        for bad in [
            "",
            "1:2:3:4:5",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:100",
            "g:2:3:4:5:6",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
