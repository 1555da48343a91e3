// SPDX-License-Identifier: GPL-2.0
//! The internet checksum (RFC 1071).

use super::{set_word, word};

/// Adds bytes, as big-endian 16-bit words, to a sum that is not folded yet. An odd last byte is the high
/// half of a word; so only the last piece of data may be odd.
pub fn add(mut sum: u64, data: &[u8]) -> u64 {
    let mut words = data.chunks_exact(4);
    for bytes in &mut words {
        sum += u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    }
    match *words.remainder() {
        [a] => sum + (u64::from(a) << 8),
        [a, b] => sum + u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => sum + u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
        _ => sum,
    }
}

/// Folds a sum to 16 bits, without the final inversion.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum of the pseudo header of TCP or UDP over IP. `network` is the IP header. None: not an IP header.
pub fn pseudo(network: &[u8], protocol: u8, length: usize) -> Option<u64> {
    let addresses = match network.first()? >> 4 {
        4 => network.get(12..20)?,
        6 => network.get(8..40)?,
        _ => return None,
    };
    Some(add(u64::from(protocol) + length as u64, addresses))
}

/// Writes the checksum of an IPv4 header of `length` bytes at `at`. False: it does not fit.
#[must_use]
pub fn fill_ipv4(frame: &mut [u8], at: usize, length: usize) -> bool {
    if !set_word(frame, at + 10, 0) {
        return false;
    }
    let Some(header) = frame.get(at..at + length) else {
        return false;
    };
    let sum = !fold(add(0, header));
    set_word(frame, at + 10, sum)
}

/// Writes the checksum of a TCP or UDP segment that begins at `at`, ends at `end` and has it at `field`,
/// both in the frame. What is in the field counts for the pseudo header if `seeded` (as Linux leaves it),
/// else the sum of that is `seed`. False: it does not fit.
#[must_use]
pub fn fill_transport(
    frame: &mut [u8],
    at: usize,
    field: usize,
    end: usize,
    seed: Option<u64>,
    udp: bool,
) -> bool {
    let Some(found) = word(frame, field) else {
        return false;
    };
    let seed = seed.unwrap_or(u64::from(found));
    if !set_word(frame, field, 0) {
        return false;
    }
    let Some(segment) = frame.get(at..end) else {
        return false;
    };
    let mut sum = !fold(add(seed, segment));
    if udp && sum == 0 {
        // 0 says that there is none.
        sum = 0xffff;
    }
    set_word(frame, field, sum)
}

/// CRC-32c of SCTP (RFC 9260), of a packet whose checksum field at 8 counts as 0. As the field's bytes.
pub fn sctp(packet: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        crc ^= u32::from(if (8..12).contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_1071() {
        // Its bytes 00 01 f2 03 f4 f5 f6 f7 sum to ddf2.
        assert_eq!(
            fold(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])),
            0xddf2
        );
    }

    #[test]
    fn an_odd_byte_is_a_high_half() {
        assert_eq!(fold(add(0, &[0x12])), 0x1200);
        assert_eq!(fold(add(0, &[0, 1, 0x12])), 0x1201);
        assert_eq!(fold(add(0, &[0, 0, 0, 1, 0x12])), 0x1201);
    }

    #[test]
    fn known_header_gets_its_checksum() {
        // The header of the example in Wikipedia's article on the IPv4 header checksum: b861.
        let mut header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert!(fill_ipv4(&mut header, 0, 20));
        assert_eq!(header[10..12], [0xb8, 0x61]);
        assert_eq!(fold(add(0, &header)), 0xffff);
    }

    #[test]
    fn udp_has_no_zero_checksum() {
        let mut datagram = [0xff, 0xff, 0, 0, 0, 0, 0, 0];
        assert!(fill_transport(&mut datagram, 0, 6, 8, Some(0), true));
        assert_eq!(datagram[6..], [0xff, 0xff]);
    }

    #[test]
    fn crc32c_of_the_digits() {
        // The check value of CRC-32C: e3069283 for "123456789"; the field at 8 is no part of it, so split there.
        let mut crc_input = b"12345678".to_vec();
        crc_input.extend_from_slice(&[0; 4]);
        assert_eq!(sctp(&crc_input), sctp(b"12345678abcd"));
        assert_eq!(sctp(b"1234567"), crc(b"1234567"));
        assert_eq!(u32::from_le_bytes(crc(b"123456789")), 0xe306_9283);
    }

    /// Bit by bit, over all bytes.
    fn crc(data: &[u8]) -> [u8; 4] {
        let mut crc = u32::MAX;
        for byte in data {
            for bit in 0..8 {
                let one = (crc ^ u32::from(byte >> bit)) & 1;
                crc = (crc >> 1) ^ if one == 1 { 0x82f6_3b78 } else { 0 };
            }
        }
        (!crc).to_le_bytes()
    }
}
