// SPDX-License-Identifier: GPL-2.0
//! VLAN tags (802.1Q).

use super::word;

/// Ether type of a tag.
pub const TAG: u16 = 0x8100;

/// The tag control information of a frame that has a tag.
pub fn tag(frame: &[u8]) -> Option<u16> {
    if word(frame, 12)? == TAG {
        return word(frame, 14);
    }
    None
}

/// Takes the tag out of a frame that has one.
pub fn strip(frame: &mut Vec<u8>) -> Option<u16> {
    let found = tag(frame)?;
    frame.drain(12..16);
    Some(found)
}

/// Puts a tag into a frame. A frame too short for addresses stays as it is.
pub fn insert(frame: &mut Vec<u8>, control: u16) {
    if frame.len() >= 12 {
        let [a, b] = control.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, a, b]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_undoes_insert() {
        let plain: Vec<u8> = (0..64).collect();
        let mut frame = plain.clone();
        insert(&mut frame, 0x6005);
        assert_eq!(frame.len(), 68);
        assert_eq!(tag(&frame), Some(0x6005));
        assert_eq!(strip(&mut frame), Some(0x6005));
        assert_eq!(frame, plain);
        assert_eq!(strip(&mut frame), None);
    }
}
