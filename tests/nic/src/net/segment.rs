// SPDX-License-Identifier: GPL-2.0
//! Segmentation by the NIC (TSO): one long TCP segment becomes many of at most `mss` bytes.

use super::{checksum, set_word, word};

/// How a frame is to be cut. Lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Start of the IP header (14, with a VLAN tag in the frame 18).
    pub network_at: usize,
    /// Start of the TCP or UDP header.
    pub transport_at: usize,
    /// Start of the payload.
    pub payload_at: usize,
    /// Payload of each segment but the last.
    pub mss: usize,
    /// UDP datagrams (of one flow) rather than TCP.
    pub udp: bool,
}

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Cuts `frame` and hands each segment to `emit`. The transport's checksum field may hold anything. An
/// error says what is wrong with the plan.
pub fn segment(frame: &[u8], plan: &Plan, mut emit: impl FnMut(&[u8])) -> Result<(), &'static str> {
    let Plan {
        network_at,
        transport_at,
        payload_at,
        mss,
        udp,
    } = *plan;
    if mss == 0 {
        return Err("MSS of 0");
    }
    let headers = frame
        .get(..payload_at)
        .ok_or("headers longer than the frame")?;
    let payload = frame
        .get(payload_at..)
        .ok_or("headers longer than the frame")?;
    let least = transport_at + if udp { 8 } else { 20 };
    if network_at + 20 > transport_at || least > payload_at {
        return Err("headers overlap");
    }
    let version = headers.get(network_at).map_or(0, |byte| byte >> 4);
    if !(version == 4 || version == 6 && network_at + 40 <= transport_at) {
        return Err("no IP header where it should be");
    }
    let number = |at: usize| {
        (u32::from(word(headers, at).unwrap_or(0)) << 16)
            | u32::from(word(headers, at + 2).unwrap_or(0))
    };
    let (sequence, flags) = (
        number(transport_at + 4),
        headers.get(transport_at + 13).copied().unwrap_or(0),
    );
    let identification = word(headers, network_at + 4).unwrap_or(0);
    let count = payload.len().div_ceil(mss).max(1);
    let mut made = Vec::with_capacity(payload_at + mss);
    for index in 0..count {
        let start = index * mss;
        let piece = payload
            .get(start..payload.len().min(start + mss))
            .unwrap_or_default();
        made.clear();
        made.extend_from_slice(headers);
        made.extend_from_slice(piece);
        let end = made.len();
        let mut right = true;
        if version == 4 {
            right &= set_word(&mut made, network_at + 2, (end - network_at) as u16);
            right &= set_word(
                &mut made,
                network_at + 4,
                identification.wrapping_add(index as u16),
            );
            right &= checksum::fill_ipv4(&mut made, network_at, transport_at - network_at);
        } else {
            right &= set_word(&mut made, network_at + 4, (end - network_at - 40) as u16);
        }
        let field = if udp {
            right &= set_word(&mut made, transport_at + 4, (end - transport_at) as u16);
            transport_at + 6
        } else {
            let at = sequence.wrapping_add(start as u32);
            right &= set_word(&mut made, transport_at + 4, (at >> 16) as u16);
            right &= set_word(&mut made, transport_at + 6, at as u16);
            // The end of the data is in the last one; that the window was reduced is said once.
            let mut kept = flags;
            if index + 1 < count {
                kept &= !(FIN | PSH);
            }
            if index > 0 {
                kept &= !CWR;
            }
            if let Some(byte) = made.get_mut(transport_at + 13) {
                *byte = kept;
            }
            transport_at + 16
        };
        let protocol = if udp { 17 } else { 6 };
        let seed = made
            .get(network_at..)
            .and_then(|header| checksum::pseudo(header, protocol, end - transport_at));
        right &= seed.is_some()
            && checksum::fill_transport(&mut made, transport_at, field, end, seed, udp);
        if !right {
            return Err("headers too short");
        }
        emit(&made);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::{Packet, Transport};
    use crate::net::vlan;

    /// A frame with a TCP segment of `length` bytes of payload, byte n being n modulo 251.
    fn long(six: bool, length: usize) -> (Vec<u8>, Plan) {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if six {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
            frame.extend_from_slice(&[0xfd; 16]);
            frame.extend_from_slice(&[0xfe; 16]);
        } else {
            frame.extend_from_slice(&[
                8, 0, 0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            ]);
        }
        let transport_at = frame.len();
        // Ports 1 and 2, sequence number near the wrap, CWR, ACK, PSH and FIN, a timestamp option.
        frame.extend_from_slice(&[
            0, 1, 0, 2, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 9, 0x80, 0x99, 1, 0, 0, 0, 0, 0,
        ]);
        frame.extend_from_slice(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
        let payload_at = frame.len();
        frame.extend((0..length).map(|n| (n % 251) as u8));
        (
            frame,
            Plan {
                network_at: 14,
                transport_at,
                payload_at,
                mss: 1000,
                udp: false,
            },
        )
    }

    fn cut(frame: &[u8], plan: &Plan) -> Vec<Vec<u8>> {
        let mut made = Vec::new();
        segment(frame, plan, |piece| made.push(piece.to_vec())).unwrap();
        made
    }

    #[test]
    fn segments_hold_the_payload_in_order_and_right_checksums() {
        for six in [false, true] {
            for (length, count) in [(1, 1), (1000, 1), (1001, 2), (2500, 3), (64000, 64)] {
                let (frame, plan) = long(six, length);
                let made = cut(&frame, &plan);
                assert_eq!(made.len(), count);
                let mut payload = Vec::new();
                for (index, piece) in made.iter().enumerate() {
                    let packet = Packet::parse(piece);
                    assert_eq!(packet.transport, Some(Transport::Tcp));
                    assert_eq!(packet.end, piece.len());
                    assert_eq!(packet.transport_sum(piece), Some(true));
                    assert_eq!(
                        packet.network_sum(piece),
                        if six { None } else { Some(true) }
                    );
                    let sequence =
                        u32::from_be_bytes(piece[plan.transport_at + 4..][..4].try_into().unwrap());
                    assert_eq!(sequence, 0xffff_ff00u32.wrapping_add(1000 * index as u32));
                    let flags = piece[plan.transport_at + 13];
                    assert_eq!(flags & (FIN | PSH) != 0, index + 1 == count);
                    assert_eq!(flags & CWR != 0, index == 0);
                    if !six {
                        assert_eq!(word(piece, 18), Some(0xffffu16.wrapping_add(index as u16)));
                    }
                    payload.extend_from_slice(&piece[plan.payload_at..]);
                }
                assert_eq!(payload, frame[plan.payload_at..]);
            }
        }
    }

    #[test]
    fn a_tag_in_the_frame_stays_in_each_segment() {
        let (mut frame, plan) = long(false, 1500);
        vlan::insert(&mut frame, 7);
        let plan = Plan {
            network_at: plan.network_at + 4,
            transport_at: plan.transport_at + 4,
            payload_at: plan.payload_at + 4,
            ..plan
        };
        for piece in cut(&frame, &plan) {
            let packet = Packet::parse(&piece);
            assert_eq!(packet.vlan, Some(7));
            assert_eq!(packet.transport_sum(&piece), Some(true));
        }
    }

    #[test]
    fn wrong_plans_are_refused() {
        let (frame, plan) = long(false, 1500);
        let refused = |plan: Plan| segment(&frame, &plan, |_| ()).is_err();
        assert!(refused(Plan { mss: 0, ..plan }));
        assert!(refused(Plan {
            payload_at: 9000,
            ..plan
        }));
        assert!(refused(Plan {
            payload_at: plan.transport_at + 8,
            ..plan
        }));
        assert!(refused(Plan {
            transport_at: plan.network_at + 8,
            ..plan
        }));
        assert!(refused(Plan {
            network_at: 12,
            ..plan
        }));
    }
}
