// SPDX-License-Identifier: GPL-2.0
//! Receive side scaling: the Toeplitz hash and what of a packet goes into it.

use super::packet::{Network, Packet, Transport};

/// Toeplitz hash. For each bit of the input that is set, the 32 bits of the key that begin at its position
/// are added without carry. The key is 40 bytes for IPv6; one that is too short counts as continued by zeros.
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let mut bytes = key.iter().copied();
    let mut window = (0..8).fold(0u64, |sum, _| {
        (sum << 8) | u64::from(bytes.next().unwrap_or(0))
    });
    let mut hash = 0;
    for byte in input {
        for bit in (0..8).rev() {
            if (byte >> bit) & 1 == 1 {
                // The window holds 64 bits; the byte in hand begins at its top.
                hash ^= (window << (7 - bit) >> 32) as u32;
            }
        }
        window = (window << 8) | u64::from(bytes.next().unwrap_or(0));
    }
    hash
}

/// Which fields of a packet go into the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Both addresses.
    Addresses,
    /// Both addresses and both ports.
    Ports,
}

/// Addresses and ports in the order of the hash: source, destination, source port, destination port. None:
/// the packet does not have those fields.
pub fn input<'a>(
    frame: &[u8],
    packet: &Packet,
    fields: Fields,
    buffer: &'a mut [u8; 36],
) -> Option<&'a [u8]> {
    let (at, length) = match packet.network? {
        Network::V4 => (packet.network_at + 12, 8),
        Network::V6 => (packet.network_at + 8, 32),
    };
    buffer
        .get_mut(..length)?
        .copy_from_slice(frame.get(at..at + length)?);
    if fields == Fields::Addresses {
        return buffer.get(..length);
    }
    match packet.transport? {
        Transport::Tcp | Transport::Udp | Transport::Sctp => {
            let ports = frame.get(packet.transport_at..packet.transport_at + 4)?;
            buffer.get_mut(length..length + 4)?.copy_from_slice(ports);
            buffer.get(..length + 4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The key of Microsoft's "Verifying the RSS hash calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn hash(source: &[u8], destination: &[u8], ports: Option<(u16, u16)>) -> u32 {
        let mut input = [source, destination].concat();
        if let Some((from, to)) = ports {
            input.extend_from_slice(&from.to_be_bytes());
            input.extend_from_slice(&to.to_be_bytes());
        }
        toeplitz(&KEY, &input)
    }

    #[test]
    fn published_vectors_ipv4() {
        // Source, port, destination, port, hash of addresses, hash with ports.
        let table = [
            (
                "66.9.149.187",
                2794,
                "161.142.100.80",
                1766,
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                "199.92.111.2",
                14230,
                "65.69.140.83",
                4739,
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                "24.19.198.95",
                12898,
                "12.22.207.184",
                38024,
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                "38.27.205.30",
                48228,
                "209.142.163.6",
                2217,
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                "153.39.163.191",
                44251,
                "202.188.127.2",
                1303,
                0x5d18_09c5,
                0x10e8_28a2,
            ),
        ];
        for (source, from, destination, to, plain, ports) in table {
            let source = source.parse::<Ipv4Addr>().unwrap().octets();
            let destination = destination.parse::<Ipv4Addr>().unwrap().octets();
            assert_eq!(hash(&source, &destination, None), plain);
            assert_eq!(hash(&source, &destination, Some((from, to))), ports);
        }
    }

    #[test]
    fn published_vectors_ipv6() {
        let table = [
            (
                "3ffe:2501:200:1fff::7",
                2794,
                "3ffe:2501:200:3::1",
                1766,
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                "3ffe:501:8::260:97ff:fe40:efab",
                14230,
                "ff02::1",
                4739,
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                "fe80::200:f8ff:fe21:67cf",
                38024,
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for (source, from, destination, to, plain, ports) in table {
            let source = source.parse::<Ipv6Addr>().unwrap().octets();
            let destination = destination.parse::<Ipv6Addr>().unwrap().octets();
            assert_eq!(hash(&source, &destination, None), plain);
            assert_eq!(hash(&source, &destination, Some((from, to))), ports);
        }
    }
}
