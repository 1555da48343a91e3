// SPDX-License-Identifier: GPL-2.0

//! What descriptors ask the hardware to do to a packet before it is sent: checksums, segmentation, a VLAN tag.

use super::config::MAX_FRAME;
use super::tx::MOST_BUFFERS;
use crate::net::segment::{self, Plan};
use crate::net::{checksum, vlan};

/// Shortest packet that the hardware takes, in bytes.
const SHORTEST: usize = 17;
/// Limits of a segment's payload.
const MSS: std::ops::RangeInclusive<usize> = 64..=9674;

/// Commands of a context descriptor.
const TSO: u64 = 1;
/// Bits of a context's command that are modelled: none but segmentation.
const CONTEXT_KNOWN: u64 = TSO;

/// A context descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Payload bytes in all, and in a segment; None: no segmentation.
    segments: Option<(usize, usize)>,
}

impl Context {
    /// From the descriptor's words.
    pub fn decode(low: u64, high: u64) -> Result<Self, &'static str> {
        let command = (high >> 4) & 0x7f;
        if low & 0xffff_ffff != 0 {
            return Err("tunnel offload is not modelled");
        }
        if command & !CONTEXT_KNOWN != 0 {
            return Err("context asks for what is not modelled");
        }
        if command & TSO == 0 {
            return Ok(Self::default());
        }
        let (total, mss) = ((high >> 30) & 0x3_ffff, (high >> 50) & 0x3fff);
        Ok(Self {
            segments: Some((total as usize, mss as usize)),
        })
    }
}

/// Internet protocol, as the descriptor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Network {
    #[default]
    None,
    V6,
    V4,
    /// With the header's checksum.
    V4Sum,
}

/// Transport whose checksum is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Transport {
    #[default]
    None,
    Tcp,
    Sctp,
    Udp,
}

/// What all data descriptors of a packet say. Lengths are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    network: Network,
    transport: Transport,
    mac: usize,
    ip: usize,
    l4: usize,
    tag: Option<u16>,
    crc: bool,
}

impl Data {
    /// From the descriptor's second word.
    pub fn decode(high: u64) -> Self {
        let command = high >> 4;
        Self {
            network: match (command >> 5) & 3 {
                0 => Network::None,
                1 => Network::V6,
                2 => Network::V4,
                _ => Network::V4Sum,
            },
            transport: match (command >> 8) & 3 {
                0 => Transport::None,
                1 => Transport::Tcp,
                2 => Transport::Sctp,
                _ => Transport::Udp,
            },
            mac: ((high >> 16) & 0x7f) as usize * 2,
            ip: ((high >> 23) & 0x7f) as usize * 4,
            l4: ((high >> 30) & 0xf) as usize * 4,
            tag: (command & 8 != 0).then_some((high >> 48) as u16),
            crc: command & 4 != 0,
        }
    }

    fn check(&self, frame: &[u8]) -> Result<(), &'static str> {
        if !self.crc {
            return Err("no CRC is asked for");
        }
        if self.network == Network::None {
            return match self.transport {
                Transport::None => Ok(()),
                _ => Err("a transport without IP"),
            };
        }
        if self.mac < 14 || self.ip < 20 {
            return Err("no lengths of headers");
        }
        let version = if self.network == Network::V6 { 6 } else { 4 };
        let first = frame.get(self.mac).copied().unwrap_or(0);
        if first >> 4 != version {
            return Err("no such IP header where it should be");
        }
        if version == 4 && usize::from(first & 15) * 4 != self.ip || version == 6 && self.ip < 40 {
            return Err("wrong length of the IP header");
        }
        let start = self.mac + self.ip;
        let (protocol, least) = match self.transport {
            Transport::None => return Ok(()),
            Transport::Tcp => (6, 20),
            Transport::Udp => (17, 8),
            Transport::Sctp => (132, 12),
        };
        if self.l4 < least || frame.len() < start + self.l4 {
            return Err("wrong length of the transport's header");
        }
        let found = frame.get(self.mac + if version == 4 { 9 } else { 6 });
        if (self.ip == 40 || version == 4) && found != Some(&protocol) {
            return Err("another transport than the header says");
        }
        if self.transport == Transport::Tcp {
            let length = frame.get(start + 12).map_or(0, |byte| byte >> 4);
            if usize::from(length) * 4 != self.l4 {
                return Err("wrong length of the TCP header");
            }
        }
        Ok(())
    }

    fn checksums(&self, frame: &mut [u8]) -> bool {
        let start = self.mac + self.ip;
        let network =
            self.network != Network::V4Sum || checksum::fill_ipv4(frame, self.mac, self.ip);
        let end = self.end(frame);
        let transport = match self.transport {
            Transport::None => true,
            Transport::Tcp => checksum::fill_transport(frame, start, start + 16, end, None, false),
            Transport::Udp => checksum::fill_transport(frame, start, start + 6, end, None, true),
            Transport::Sctp => {
                let sum = frame.get(start..end).map(checksum::sctp);
                match (frame.get_mut(start + 8..start + 12), sum) {
                    (Some(field), Some(sum)) => {
                        field.copy_from_slice(&sum);
                        true
                    }
                    _ => false,
                }
            }
        };
        network && transport
    }

    /// End of the IP packet, where padding begins.
    fn end(&self, frame: &[u8]) -> usize {
        let (field, base) = if self.network == Network::V6 {
            (self.mac + 4, start_of_payload(self.mac))
        } else {
            (self.mac + 2, self.mac)
        };
        let length = crate::net::word(frame, field).unwrap_or(0);
        (base + usize::from(length)).min(frame.len())
    }
}

/// IPv6 counts from behind its fixed header.
fn start_of_payload(network: usize) -> usize {
    network + 40
}

/// Completes a gathered packet and hands its frame or frames to `emit`. `pieces` are the lengths of its buffers.
pub fn send(
    frame: &mut [u8],
    pieces: &[usize],
    context: Option<Context>,
    data: Data,
    mut emit: impl FnMut(&[u8]),
) -> Result<(), &'static str> {
    if frame.len() < SHORTEST {
        return Err("packet shorter than 17 bytes");
    }
    data.check(frame)?;
    let mut tagged = Vec::new();
    let mut emit = |piece: &[u8]| match data.tag {
        None => emit(piece),
        Some(tag) => {
            tagged.clear();
            tagged.extend_from_slice(piece);
            vlan::insert(&mut tagged, tag);
            emit(&tagged);
        }
    };
    let Some((total, mss)) = context.and_then(|context| context.segments) else {
        if pieces.len() > MOST_BUFFERS {
            return Err("more than 8 buffers");
        }
        if frame.len() > MAX_FRAME as usize {
            return Err("packet longer than 9728 bytes");
        }
        if !data.checksums(frame) {
            return Err("a checksum has no place in the packet");
        }
        emit(frame);
        return Ok(());
    };
    if data.transport != Transport::Tcp && data.transport != Transport::Udp {
        return Err("segmentation of neither TCP nor UDP");
    }
    if data.network == Network::V4 {
        return Err("segmentation without the IP checksum");
    }
    let headers = data.mac + data.ip + data.l4;
    if !MSS.contains(&mss) {
        return Err("MSS out of range");
    }
    if headers + total != frame.len() {
        return Err("length of the payload does not fit the buffers");
    }
    if buffers(pieces, headers, mss) > MOST_BUFFERS {
        return Err("a segment of more than 8 buffers");
    }
    let plan = Plan {
        network_at: data.mac,
        transport_at: data.mac + data.ip,
        payload_at: headers,
        mss,
        udp: data.transport == Transport::Udp,
    };
    segment::segment(frame, &plan, &mut emit)
}

/// Most buffers of a segment: those of the headers, and those that its payload touches.
fn buffers(pieces: &[usize], headers: usize, mss: usize) -> usize {
    let mut most = 0;
    let (mut segment, mut count) = (0, 0);
    let (mut at, mut of_headers) = (0, 0);
    for piece in pieces {
        let (start, end) = (at, at + piece);
        at = end;
        if start < headers {
            of_headers += 1;
        }
        let mut from = start.max(headers) - headers;
        let to = end.max(headers) - headers;
        while from < to {
            let index = from / mss;
            if index != segment {
                most = most.max(count);
                (segment, count) = (index, 0);
            }
            // One that begins in the headers is counted already.
            count += usize::from(start >= headers);
            from = to.min((index + 1) * mss);
        }
    }
    of_headers + most.max(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::Packet;

    /// A TCP packet over IPv4 with so much payload, as Linux hands it down; and its second word.
    fn packet(payload: usize) -> (Vec<u8>, u64) {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let total = (40 + payload) as u16;
        let [high, low] = total.to_be_bytes();
        frame.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([
            0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
        ]);
        let seed = checksum::pseudo(&frame[14..], 6, 20 + payload).unwrap();
        let seed = checksum::fold(seed).to_be_bytes();
        frame[50..52].copy_from_slice(&seed);
        frame.extend((0..payload).map(|n| n as u8));
        // EOP, CRC, IPv4 with checksum, TCP; lengths of headers in units of 2 and 4 bytes.
        let command = 1 | 4 | 0x60 | 0x100;
        (frame, (command << 4) | (7 << 16) | (5 << 23) | (5 << 30))
    }

    fn run(
        frame: &[u8],
        pieces: &[usize],
        context: Option<Context>,
        word: u64,
    ) -> Result<Vec<Vec<u8>>, &'static str> {
        let mut made = Vec::new();
        let mut frame = frame.to_vec();
        send(&mut frame, pieces, context, Data::decode(word), |piece| {
            made.push(piece.to_vec());
        })?;
        Ok(made)
    }

    #[test]
    fn checksums_are_right() {
        let (frame, word) = packet(101);
        for word in [word, word | (8 << 4) | (7 << 48)] {
            let made = run(&frame, &[frame.len()], None, word).unwrap();
            let packet = Packet::parse(&made[0]);
            assert_eq!(packet.vlan, (word >> 48 != 0).then_some(7));
            assert_eq!(packet.network_sum(&made[0]), Some(true));
            assert_eq!(packet.transport_sum(&made[0]), Some(true));
        }
    }

    #[test]
    fn long_packets_are_cut() {
        let (frame, word) = packet(5000);
        let context = Context::decode(0, 1 | (1 << 4) | (5000 << 30) | (1460 << 50)).unwrap();
        let made = run(&frame, &[54, 4096, 904], Some(context), word).unwrap();
        assert_eq!(
            made.iter().map(Vec::len).collect::<Vec<_>>(),
            [1514, 1514, 1514, 674]
        );
        for piece in &made {
            assert_eq!(Packet::parse(piece).transport_sum(piece), Some(true));
        }
    }

    #[test]
    fn malformed_packets_are_refused() {
        let (frame, word) = packet(5000);
        let all = [frame.len()];
        let context = |total: u64, mss: u64| {
            Context::decode(0, 1 | (1 << 4) | (total << 30) | (mss << 50)).ok()
        };
        assert!(run(&frame, &all, None, word).is_ok());
        assert!(run(&frame[..16], &[16], None, 4 << 4).is_err());
        assert!(run(&frame, &all, None, word & !(4 << 4)).is_err());
        assert!(run(&frame, &all, None, word & !(0x7f << 16)).is_err());
        assert!(run(&frame, &all, None, word ^ (1 << 23)).is_err());
        assert!(run(&frame, &all, None, word ^ (1 << 30)).is_err());
        assert!(run(&frame, &all, None, word | (0x300 << 4)).is_err());
        assert!(run(&frame, &all, context(5000, 63), word).is_err());
        assert!(run(&frame, &all, context(5001, 1460), word).is_err());
        assert!(run(&frame, &[1; 9], None, word).is_err());
        assert!(run(&[0; 9800], &[9800], None, 4 << 4).is_err());
        assert!(Context::decode(0, 1 | (2 << 4)).is_err());
    }

    #[test]
    fn buffers_count_per_segment() {
        // Headers in a buffer of their own, then 7 per segment.
        assert_eq!(buffers(&[54, 100, 100], 54, 1000), 3);
        assert_eq!(
            buffers(&[54, 200, 200, 200, 200, 200, 200, 200, 200], 54, 1000),
            6
        );
        assert_eq!(buffers(&[1054], 54, 1000), 1);
        assert_eq!(buffers(&[54, 10_000], 54, 1000), 2);
    }
}
