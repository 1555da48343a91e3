// SPDX-License-Identifier: GPL-2.0
//! What NICs know of packets: headers, checksums, the hash that spreads flows over queues, segmentation, VLAN tags.

pub mod checksum;
pub mod packet;
pub mod rss;
pub mod segment;
pub mod vlan;

/// A big-endian 16-bit word, or None beyond the end.
pub fn word(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Overwrites a big-endian 16-bit word. False: beyond the end.
#[must_use]
pub fn set_word(data: &mut [u8], at: usize, value: u16) -> bool {
    match at.checked_add(2).and_then(|end| data.get_mut(at..end)) {
        Some(place) => {
            place.copy_from_slice(&value.to_be_bytes());
            true
        }
        None => false,
    }
}
