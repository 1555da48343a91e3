// SPDX-License-Identifier: GPL-2.0
//! The headers of an Ethernet frame, as far as a TCP segment needs them.
//!
//! Recognises only what a stack port may leave in its buffer: a whole, plain TCP segment over IPv4
//! (options allowed) or IPv6 (no extension headers), behind at most two VLAN tags. Everything else
//! goes to the host unseen. Checksums are not looked at; the stack checks them.
//!
//! Sources: IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 9293.

use core::ops::Range;

/// Where the parts of a TCP segment lie in its frame; offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFrame {
    /// IP header.
    pub l3_off: usize,
    /// TCP header.
    pub l4_off: usize,
    /// Payload; what is before it are headers.
    pub payload_off: usize,
    /// Payload, as the IP header says: padding of the frame is excluded.
    pub payload_len: usize,
    /// IPv6, not IPv4.
    pub v6: bool,
}

impl TcpFrame {
    /// The payload's bytes in the frame.
    pub fn payload(&self) -> Range<usize> {
        self.payload_off..self.payload_off.saturating_add(self.payload_len)
    }
}

const ETH_ADDRS: usize = 12;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const MAX_TAGS: usize = 2;
const PROTO_TCP: u8 = 6;
const IPV4_MIN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_MIN: usize = 20;
/// More-fragments bit and fragment offset of IPv4.
const FRAGMENT: u16 = 0x3fff;

/// `N` bytes of `bytes` from offset `at` on.
fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    read(bytes, at).map(u16::from_be_bytes)
}

/// Finds the TCP segment in an Ethernet frame of `frame_len` bytes (no FCS), of which `head` holds
/// the first ones; `None` if it is anything else, or headers are not all in `head`, or contradict
/// the length of the frame.
#[inline]
pub fn tcp_frame(head: &[u8], frame_len: usize) -> Option<TcpFrame> {
    let (ethertype, l3_off) = ethertype(head)?;
    let packet = head.get(l3_off..)?;
    // What IP says is its own, so that the padding of short frames is not taken for data.
    let (v6, header, total) = match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet)?,
        ETHERTYPE_IPV6 => ipv6(packet)?,
        _ => return None,
    };
    if total > frame_len.checked_sub(l3_off)? {
        return None;
    }
    let tcp = packet.get(header..)?;
    let [doff_byte] = read(tcp, 12)?;
    let tcp_len = usize::from(doff_byte >> 4).checked_mul(4)?;
    if tcp_len < TCP_MIN || tcp_len > tcp.len() {
        return None;
    }
    let payload_len = total.checked_sub(header)?.checked_sub(tcp_len)?;
    let l4_off = l3_off.checked_add(header)?;
    Some(TcpFrame {
        l3_off,
        l4_off,
        payload_off: l4_off.checked_add(tcp_len)?,
        payload_len,
        v6,
    })
}

/// The type of the frame and where its packet begins, VLAN tags skipped.
fn ethertype(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = ETH_ADDRS;
    for _ in 0..=MAX_TAGS {
        let ethertype = read_u16(frame, at)?;
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            return Some((ethertype, at.checked_add(2)?));
        }
        at = at.checked_add(4)?;
    }
    None
}

/// IP version, header length and total length of an unfragmented IPv4 packet with TCP.
fn ipv4(packet: &[u8]) -> Option<(bool, usize, usize)> {
    let [first] = read(packet, 0)?;
    let header = usize::from(first & 0xf).checked_mul(4)?;
    let [proto] = read(packet, 9)?;
    let plain = first >> 4 == 4
        && header >= IPV4_MIN
        && proto == PROTO_TCP
        && read_u16(packet, 6)? & FRAGMENT == 0;
    plain.then_some((false, header, usize::from(read_u16(packet, 2)?)))
}

/// IP version, header length and total length of an IPv6 packet with TCP right after its header.
fn ipv6(packet: &[u8]) -> Option<(bool, usize, usize)> {
    let [first] = read(packet, 0)?;
    let [next_header] = read(packet, 6)?;
    let plain = first >> 4 == 6 && next_header == PROTO_TCP;
    let total = usize::from(read_u16(packet, 4)?).checked_add(IPV6_LEN)?;
    plain.then_some((true, IPV6_LEN, total))
}

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    /// A frame with `tags` VLAN tags, IPv4 with `ip_opts` and TCP with `tcp_opts` 4-byte words of
    /// options, and `data` bytes of payload.
    fn v4(tags: usize, ip_opts: u8, tcp_opts: u8, data: usize) -> Vec<u8> {
        let mut frame = vec![0xaa; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0x00, 0x00, 0x05]);
        }
        let header = 20 + 4 * usize::from(ip_opts);
        let tcp = 20 + 4 * usize::from(tcp_opts);
        let total = u16::try_from(header + tcp + data).unwrap();
        frame.extend([0x08, 0x00, 0x45 + ip_opts, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(std::iter::repeat_n(1, header - 20));
        frame.extend(tcp_header(tcp_opts));
        frame.extend(std::iter::repeat_n(b'd', data));
        frame
    }

    fn v6(data: usize) -> Vec<u8> {
        let mut frame = vec![0xaa; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(u16::try_from(20 + data).unwrap().to_be_bytes());
        frame.extend([6, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        frame.extend(tcp_header(0));
        frame.extend(std::iter::repeat_n(b'd', data));
        frame
    }

    fn tcp_header(opts: u8) -> Vec<u8> {
        let mut tcp = vec![0x12, 0x34, 0x00, 0x50, 1, 2, 3, 4, 0, 0, 0, 0];
        tcp.extend([0x50 + (opts << 4), 0x18, 1, 0, 0, 0, 0, 0]);
        tcp.extend(std::iter::repeat_n(1, 4 * usize::from(opts)));
        tcp
    }

    fn whole(frame: &[u8]) -> Option<TcpFrame> {
        tcp_frame(frame, frame.len())
    }

    #[test]
    fn the_first_bytes_suffice() {
        let frame = v4(0, 0, 3, 1448);
        let got = tcp_frame(&frame[..128], frame.len());
        assert_eq!(got, whole(&frame));
        assert_eq!(tcp_frame(&frame[..128], frame.len() - 1), None);
        assert_eq!(tcp_frame(&frame[..65], frame.len()), None);
    }

    #[test]
    fn the_usual_headers_are_66_bytes() {
        let got = whole(&v4(0, 0, 3, 81)).unwrap();
        let want = TcpFrame {
            l3_off: 14,
            l4_off: 34,
            payload_off: 66,
            payload_len: 81,
            v6: false,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn options_and_tags_move_the_payload() {
        for (tags, ip_opts, tcp_opts) in [(0, 0, 0), (1, 0, 3), (2, 10, 10), (0, 10, 0)] {
            let frame = v4(tags, ip_opts, tcp_opts, 5);
            let got = whole(&frame).unwrap();
            assert_eq!(&frame[got.payload()], b"ddddd");
            assert_eq!(got.payload_off, frame.len() - 5);
        }
    }

    #[test]
    fn padding_is_not_payload() {
        let mut frame = v4(0, 0, 0, 1);
        frame.resize(60, 0);
        assert_eq!(whole(&frame).unwrap().payload_len, 1);
        let mut ack = v4(0, 0, 0, 0);
        ack.resize(60, 0);
        assert_eq!(whole(&ack).unwrap().payload_len, 0);
    }

    #[test]
    fn ipv6_is_recognised() {
        let frame = v6(7);
        let got = whole(&frame).unwrap();
        assert_eq!((got.l3_off, got.l4_off, got.payload_off), (14, 54, 74));
        assert_eq!(&frame[got.payload()], b"ddddddd");
        assert!(got.v6);
    }

    #[test]
    fn what_is_not_plain_tcp_is_refused() {
        let change = |at: usize, value: u8| {
            let mut frame = v4(0, 0, 0, 10);
            frame[at] = value;
            frame
        };
        for (why, frame) in [
            ("ARP", change(13, 0x06)),
            ("three tags", v4(3, 0, 0, 10)),
            ("version 5", change(14, 0x55)),
            ("header of 16 bytes", change(14, 0x44)),
            ("longer than the frame", change(17, 51)),
            ("shorter than its headers", change(17, 39)),
            ("more fragments", change(20, 0x20)),
            ("a later fragment", change(21, 1)),
            ("UDP", change(23, 17)),
            ("TCP header of 16 bytes", change(46, 0x40)),
            ("TCP header longer than the packet", change(46, 0xf0)),
            ("empty", Vec::new()),
        ] {
            assert_eq!(whole(&frame), None, "{why}");
        }
        let mut extension = v6(10);
        extension[20] = 0;
        assert_eq!(whole(&extension), None, "extension header");
    }

    #[test]
    fn a_frame_cut_off_anywhere_is_refused() {
        for frame in [v4(1, 2, 3, 10), v6(10)] {
            for end in 0..frame.len() {
                assert_eq!(whole(&frame[..end]), None, "{end} bytes");
            }
        }
    }

    proptest! {
        #![proptest_config(cases(2000))]

        #[test]
        fn random_bytes_give_offsets_within_the_frame(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(got) = whole(&bytes) {
                prop_assert!(bytes.get(got.payload()).is_some());
            }
        }

        #[test]
        fn damaged_frames_give_offsets_within_the_frame(
            tags in 0usize..3, ip in 0u8..11, tcp in 0u8..11, data in 0usize..100, six: bool,
            damage in proptest::collection::vec((0usize..100, any::<u8>()), 0..4),
        ) {
            let mut frame = if six { v6(data) } else { v4(tags, ip, tcp, data) };
            for (at, value) in damage {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some(got) = whole(&frame) {
                prop_assert!(got.l3_off < got.l4_off && got.l4_off < got.payload_off);
                prop_assert!(frame.get(got.payload()).is_some());
            }
        }
    }
}
