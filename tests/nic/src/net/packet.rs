// SPDX-License-Identifier: GPL-2.0
//! The headers of a received frame, as far as a NIC looks at them.

use super::{checksum, vlan, word};

/// Internet protocol of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// Transport protocol of a frame. A fragment has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Where the headers are. Offsets are bytes in the frame as it was parsed, with its VLAN tag if it had one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Tag control information.
    pub vlan: Option<u16>,
    /// Type behind the tag.
    pub ether_type: u16,
    /// IP, if its header is whole.
    pub network: Option<Network>,
    /// Start of the IP header (or of whatever follows the Ethernet header).
    pub network_at: usize,
    /// Whether IPv4 options or IPv6 extension headers are there.
    pub extended: bool,
    /// Part of a datagram that was fragmented.
    pub fragment: bool,
    /// TCP, UDP or SCTP, if it is no fragment and its header is whole.
    pub transport: Option<Transport>,
    /// Start of what follows the IP header.
    pub transport_at: usize,
    /// End of the IP packet: behind it is padding.
    pub end: usize,
}

impl Packet {
    /// Looks at a frame.
    pub fn parse(frame: &[u8]) -> Packet {
        let vlan = vlan::tag(frame);
        let network_at = if vlan.is_some() { 18 } else { 14 };
        let ether_type = word(frame, network_at - 2).unwrap_or(0);
        let mut found = Packet {
            vlan,
            ether_type,
            network_at,
            transport_at: network_at,
            end: frame.len(),
            ..Packet::default()
        };
        match ether_type {
            0x0800 => found.ipv4(frame),
            0x86dd => found.ipv6(frame),
            _ => None,
        };
        found
    }

    fn ipv4(&mut self, frame: &[u8]) -> Option<()> {
        let header = frame.get(self.network_at..)?;
        let first = *header.first()?;
        let length = usize::from(first & 15) * 4;
        let total = usize::from(word(header, 2)?);
        if first >> 4 != 4 || length < 20 || total < length || header.len() < total {
            return None;
        }
        self.network = Some(Network::V4);
        self.extended = length > 20;
        self.transport_at = self.network_at + length;
        self.end = self.network_at + total;
        self.fragment = word(header, 6)? & 0x3fff != 0;
        self.transport(frame, *header.get(9)?)
    }

    fn ipv6(&mut self, frame: &[u8]) -> Option<()> {
        let header = frame.get(self.network_at..)?;
        let payload = usize::from(word(header, 4)?);
        if header.first()? >> 4 != 6 || header.len() < 40 + payload {
            return None;
        }
        self.network = Some(Network::V6);
        self.end = self.network_at + 40 + payload;
        let mut next = *header.get(6)?;
        let mut at = 40;
        // Hop-by-hop, routing, fragment and destination options.
        while let 0 | 43 | 44 | 60 = next {
            self.extended = true;
            let length = if next == 44 {
                self.fragment = true;
                8
            } else {
                8 + 8 * usize::from(*header.get(at + 1)?)
            };
            next = *header.get(at)?;
            at += length;
        }
        self.transport_at = self.network_at + at;
        self.transport(frame, next)
    }

    fn transport(&mut self, frame: &[u8], protocol: u8) -> Option<()> {
        let (transport, least) = match protocol {
            6 => (Transport::Tcp, 20),
            17 => (Transport::Udp, 8),
            132 => (Transport::Sctp, 12),
            _ => return None,
        };
        if !self.fragment && frame.get(self.transport_at..self.end)?.len() >= least {
            self.transport = Some(transport);
        }
        Some(())
    }

    /// Whether the IPv4 header's checksum is right; None: there is none.
    pub fn network_sum(&self, frame: &[u8]) -> Option<bool> {
        if self.network != Some(Network::V4) {
            return None;
        }
        let header = frame.get(self.network_at..self.transport_at)?;
        Some(checksum::fold(checksum::add(0, header)) == 0xffff)
    }

    /// Whether the transport's checksum is right; None: there is none.
    pub fn transport_sum(&self, frame: &[u8]) -> Option<bool> {
        let segment = frame.get(self.transport_at..self.end)?;
        let protocol = match self.transport? {
            Transport::Tcp => 6,
            Transport::Udp if word(segment, 6)? == 0 => return None,
            Transport::Udp => 17,
            Transport::Sctp => return Some(segment.get(8..12)? == checksum::sctp(segment)),
        };
        let pseudo = checksum::pseudo(frame.get(self.network_at..)?, protocol, segment.len())?;
        Some(checksum::fold(checksum::add(pseudo, segment)) == 0xffff)
    }
}
