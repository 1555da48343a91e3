// SPDX-License-Identifier: GPL-2.0

//! What the hardware says of a received frame: its type, whether checksums are right, its hash, and which
//! entry of the lookup table that picks.

use super::filters;
use super::regs::{self, Registers, HASH_STRIDE};
use crate::net::packet::{Network, Packet, Transport};
use crate::net::rss::{self, Fields};

/// Packet types of the first table: plain Ethernet, and where IPv4 and IPv6 begin.
const L2: u8 = 1;
const V4: u8 = 22;
const V6: u8 = 88;
/// Offsets in the IP tables.
const FRAGMENT: u8 = 0;
const OTHER: u8 = 1;
const UDP: u8 = 2;
const TCP: u8 = 4;
const SCTP: u8 = 5;
const ICMP: u8 = 6;

/// Classifiers of the hash: bits of HENA. Those of IPv6 are ten higher.
const HASH_UDP: u8 = 31;
const HASH_TCP: u8 = 33;
const HASH_SCTP: u8 = 34;
const HASH_OTHER: u8 = 35;
const HASH_FRAGMENT: u8 = 36;
const HASH_V6: u8 = 10;

/// Bytes of the key in registers.
const KEY: usize = 52;

/// What is known of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Type.
    pub ptype: u8,
    /// 0 unicast, 1 multicast, 2 broadcast.
    pub cast: u8,
    /// Tag that was taken off.
    pub tag: Option<u16>,
    /// Hash.
    pub hash: Option<u32>,
    /// Entry of the lookup table.
    pub spread: Option<u8>,
    /// Checksums were looked at.
    pub checked: bool,
    /// The IPv4 header's checksum is wrong.
    pub bad_ip: bool,
    /// The transport's checksum is wrong.
    pub bad_l4: bool,
}

/// Type and hash classifier.
fn classify(frame: &[u8], packet: &Packet) -> (u8, Option<u8>) {
    let (table, six) = match packet.network {
        None => return (L2, None),
        Some(Network::V4) => (V4, 0),
        Some(Network::V6) => (V6, HASH_V6),
    };
    if packet.fragment {
        return (table + FRAGMENT, Some(HASH_FRAGMENT + six));
    }
    let protocol = match packet.network {
        Some(Network::V4) => frame.get(packet.network_at + 9),
        _ => frame.get(packet.network_at + 6),
    };
    match packet.transport {
        Some(Transport::Udp) => (table + UDP, Some(HASH_UDP + six)),
        Some(Transport::Tcp) => (table + TCP, Some(HASH_TCP + six)),
        Some(Transport::Sctp) => (table + SCTP, Some(HASH_SCTP + six)),
        None if matches!(protocol, Some(1 | 58)) => (table + ICMP, Some(HASH_OTHER + six)),
        None => (table + OTHER, Some(HASH_OTHER + six)),
    }
}

/// The key, from its registers.
fn key(registers: &Registers) -> [u8; KEY] {
    let mut key = [0; KEY];
    for (i, bytes) in key.chunks_exact_mut(4).enumerate() {
        let word = registers.get(regs::PFQF_HKEY + HASH_STRIDE * i as u32);
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    key
}

/// An entry of the lookup table.
fn entry(registers: &Registers, hash: u32) -> u8 {
    let size = if registers.get(regs::PFQF_CTL_0) & regs::HASHLUTSIZE_512 != 0 {
        512
    } else {
        128
    };
    let index = hash % size;
    let word = registers.get(regs::PFQF_HLUT + HASH_STRIDE * (index / 4));
    word.to_le_bytes()[(index % 4) as usize] & 0x3f
}

/// Looks at a frame, with its tag if it has one.
pub fn look(registers: &Registers, frame: &[u8]) -> Verdict {
    let packet = Packet::parse(frame);
    let (ptype, class) = classify(frame, &packet);
    let cast = frame
        .first_chunk::<6>()
        .map_or(0, |address| match filters::kind(address) {
            filters::MULTICAST => 1,
            filters::BROADCAST => 2,
            _ => 0,
        });
    let mut verdict = Verdict {
        ptype,
        cast,
        ..Verdict::default()
    };
    if packet.network.is_some() {
        verdict.checked = true;
        verdict.bad_ip = packet.network_sum(frame) == Some(false);
        verdict.bad_l4 = packet.transport_sum(frame) == Some(false);
    }
    let enabled = u64::from(registers.get(regs::PFQF_HENA))
        | (u64::from(registers.get(regs::PFQF_HENA + HASH_STRIDE)) << 32);
    if class.is_none_or(|class| (enabled >> class) & 1 == 0) {
        return verdict;
    }
    let fields = if packet.transport.is_some() {
        Fields::Ports
    } else {
        Fields::Addresses
    };
    let mut buffer = [0; 36];
    if let Some(input) = rss::input(frame, &packet, fields, &mut buffer) {
        let hash = rss::toeplitz(&key(registers), input);
        verdict.hash = Some(hash);
        verdict.spread = Some(entry(registers, hash));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 frame with 20 bytes of a transport's header, not checked.
    fn ipv4(protocol: u8, fragment: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 40, 0, 0, fragment, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0; 26]);
        frame
    }

    #[test]
    fn types_of_ipv4() {
        for (protocol, fragment, ptype) in [
            (6, 0, 26),
            (17, 0, 24),
            (132, 0, 27),
            (1, 0, 28),
            (47, 0, 23),
            (6, 0x20, 22),
        ] {
            let frame = ipv4(protocol, fragment);
            assert_eq!(look(&Registers::new(), &frame).ptype, ptype);
        }
        let mut frame = ipv4(6, 0);
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(look(&Registers::new(), &frame).ptype, L2);
    }

    #[test]
    fn hash_only_if_enabled() {
        let mut registers = Registers::new();
        let frame = ipv4(6, 0);
        assert_eq!(look(&registers, &frame).hash, None);
        registers.set(regs::PFQF_HENA + HASH_STRIDE, 1 << (33 - 32));
        registers.set(regs::PFQF_HKEY, 0x5a6d_da56u32.swap_bytes());
        registers.set(regs::PFQF_HLUT, 0x0101_0101);
        assert!(look(&registers, &frame).hash.is_some());
        assert_eq!(look(&registers, &ipv4(17, 0)).hash, None);
    }

    #[test]
    fn wrong_checksums_are_told() {
        let mut frame = ipv4(6, 0);
        assert!(look(&Registers::new(), &frame).bad_ip);
        assert!(crate::net::checksum::fill_ipv4(&mut frame, 14, 20));
        let verdict = look(&Registers::new(), &frame);
        assert!(verdict.checked && !verdict.bad_ip && verdict.bad_l4);
    }
}
