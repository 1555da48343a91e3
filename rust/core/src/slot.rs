// SPDX-License-Identifier: GPL-2.0
//! Slots of a stack port: what `slot.ptr` and `slot.len` say about a buffer.
//!
//! ```text
//! buffer: |<- offset ->|<- doff ->|<- payload ->|        |
//!         0                                          buf_size
//!                      |<------- slot.len ----->|
//! ptr:    bits 0-7 offset, 8-39 fd (signed), 40-49 doff, others 0
//! ```

use super::Errno;

/// Largest `doff`, bytes: it has 10 bits.
pub const MAX_DOFF: u16 = 0x3ff;
/// Largest offset, bytes: it has 8 bits.
pub const MAX_OFFSET: u8 = 0xff;

const FD_SHIFT: u32 = 8;
const DOFF_SHIFT: u32 = 40;
const USED_BITS: u64 = (1 << 50) - 1;

/// The parts of `slot.ptr` on a stack port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPtr {
    /// Where the slot's data begins in the buffer, bytes.
    pub offset: u8,
    /// The socket, as the registering process numbers it.
    pub fd: i32,
    /// Where the payload begins in the data, bytes; at most [`MAX_DOFF`].
    pub doff: u16,
}

impl SlotPtr {
    /// Takes the three fields out of `ptr`; other bits are not looked at.
    pub const fn unpack(ptr: u64) -> SlotPtr {
        // Each cast keeps exactly the bits of its field.
        SlotPtr {
            offset: ptr as u8,
            fd: (ptr >> FD_SHIFT) as u32 as i32,
            doff: (ptr >> DOFF_SHIFT) as u16 & MAX_DOFF,
        }
    }

    /// The value of `slot.ptr`; bits of `doff` beyond [`MAX_DOFF`] are cut off.
    pub const fn pack(self) -> u64 {
        self.offset as u64
            | ((self.fd as u32 as u64) << FD_SHIFT)
            | (((self.doff & MAX_DOFF) as u64) << DOFF_SHIFT)
    }
}

/// What a valid transmit slot asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxPayload {
    /// The socket to send on, not negative.
    pub fd: i32,
    /// Where the payload begins in the buffer, bytes.
    pub start: u32,
    /// Payload bytes, possibly 0; `start + len` is within the buffer.
    pub len: u32,
}

/// Checks a transmit slot that an application filled. `buf_size` is in bytes.
///
/// # Errors
///
/// `EINVAL` if the data ends behind the buffer, `len` is less than `doff`, or unused bits of `ptr`
/// are set (a data offset that does not fit its field); `EBADF` if the descriptor is negative.
pub const fn tx_payload(len: u16, ptr: u64, buf_size: u32) -> Result<TxPayload, Errno> {
    if ptr & !USED_BITS != 0 {
        return Err(Errno::EINVAL);
    }
    let SlotPtr { offset, fd, doff } = SlotPtr::unpack(ptr);
    let end = (offset as u32).saturating_add(len as u32);
    if end > buf_size {
        return Err(Errno::EINVAL);
    }
    let Some(payload) = len.checked_sub(doff) else {
        return Err(Errno::EINVAL);
    };
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    Ok(TxPayload {
        fd,
        start: (offset as u32).saturating_add(doff as u32),
        len: payload as u32,
    })
}

/// `ptr` and `len` of a receive slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxSlot {
    /// Value of `slot.ptr`.
    pub ptr: u64,
    /// Value of `slot.len`.
    pub len: u16,
}

/// The receive slot for `payload` bytes of socket `fd` that begin `start` bytes into a buffer.
///
/// The whole distance is `doff` where that suffices (as far as byte 1023), the rest of it `offset`.
/// `None` if it lies too far in (beyond byte 1278), or the length does not fit 16 bits: the caller
/// then copies the payload to the begin of another buffer. The caller knows that the payload lies
/// within the buffer.
pub fn rx_slot(fd: i32, start: u32, payload: u32) -> Option<RxSlot> {
    let doff = start.min(u32::from(MAX_DOFF));
    let offset = u8::try_from(start.checked_sub(doff)?).ok()?;
    let len = u16::try_from(doff.checked_add(payload)?).ok()?;
    let doff = u16::try_from(doff).ok()?;
    let ptr = SlotPtr { offset, fd, doff }.pack();
    Some(RxSlot { ptr, len })
}

/// The receive slot that carries no payload: `len == doff`, both 0. Its flags say why.
pub const fn event_slot(fd: i32) -> RxSlot {
    let ptr = SlotPtr {
        offset: 0,
        fd,
        doff: 0,
    };
    RxSlot {
        ptr: ptr.pack(),
        len: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    fn ptr(offset: u8, fd: i32, doff: u16) -> u64 {
        SlotPtr { offset, fd, doff }.pack()
    }

    #[test]
    fn the_observed_value_unpacks_to_its_parts() {
        let parts = SlotPtr::unpack(0x4200_0000_0830);
        let want = SlotPtr {
            offset: 48,
            fd: 8,
            doff: 66,
        };
        assert_eq!(parts, want);
        assert_eq!(want.pack(), 0x4200_0000_0830);
    }

    #[test]
    fn tx_slots_are_checked_at_their_limits() {
        let ok = |start, len| Ok(TxPayload { fd: 5, start, len });
        for (len, ptr, want) in [
            (0, ptr(0, 5, 0), ok(0, 0)),
            (66, ptr(48, 5, 66), ok(114, 0)),
            (2048, ptr(0, 5, 0), ok(0, 2048)),
            (2049, ptr(0, 5, 0), Err(Errno::EINVAL)),
            (2000, ptr(48, 5, 66), ok(114, 1934)),
            (2001, ptr(48, 5, 66), Err(Errno::EINVAL)),
            (65, ptr(0, 5, 66), Err(Errno::EINVAL)),
            (u16::MAX, ptr(255, 5, 1023), Err(Errno::EINVAL)),
            (100, ptr(0, 5, 0) | (1 << 50), Err(Errno::EINVAL)),
            (100, ptr(0, -1, 0), Err(Errno::EBADF)),
        ] {
            assert_eq!(tx_payload(len, ptr, 2048), want, "len {len} ptr {ptr:#x}");
        }
    }

    #[test]
    fn an_rx_slot_uses_doff_first_and_then_the_offset() {
        for (start, want) in [
            (0, Some((0, 0))),
            (66, Some((0, 66))),
            (1023, Some((0, 1023))),
            (1024, Some((1, 1023))),
            (1278, Some((255, 1023))),
            (1279, None),
            (u32::MAX, None),
        ] {
            let got = rx_slot(7, start, 10).map(|s| SlotPtr::unpack(s.ptr));
            assert_eq!(got.map(|p| (p.offset, p.doff)), want, "start {start}");
        }
    }

    #[test]
    fn an_rx_slot_longer_than_16_bits_is_refused() {
        assert_eq!(rx_slot(7, 0, 65535).map(|s| s.len), Some(65535));
        assert_eq!(rx_slot(7, 1, 65535), None);
        assert_eq!(rx_slot(7, 0, u32::MAX), None);
    }

    #[test]
    fn an_event_slot_has_no_payload() {
        let slot = event_slot(9);
        let parts = SlotPtr::unpack(slot.ptr);
        assert_eq!((slot.len, parts.doff, parts.fd), (0, 0, 9));
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn packing_loses_nothing(offset: u8, fd: i32, doff in 0..=MAX_DOFF) {
            let parts = SlotPtr { offset, fd, doff };
            prop_assert_eq!(SlotPtr::unpack(parts.pack()), parts);
        }

        #[test]
        fn an_accepted_tx_payload_lies_within_the_buffer(len: u16, ptr: u64, size in 0u32..70000) {
            let ptr = ptr & USED_BITS;
            if let Ok(tx) = tx_payload(len, ptr, size) {
                prop_assert!(u64::from(tx.start) + u64::from(tx.len) <= u64::from(size));
                prop_assert!(tx.fd >= 0);
            }
        }

        #[test]
        fn an_rx_slot_sent_back_names_the_same_bytes(
            fd in 0..i32::MAX, start in 0u32..1300, payload in 0u32..4096,
        ) {
            if let Some(slot) = rx_slot(fd, start, payload) {
                let want = TxPayload { fd, start, len: payload };
                prop_assert_eq!(tx_payload(slot.len, slot.ptr, 8192), Ok(want));
            } else {
                prop_assert!(start > 1278);
            }
        }
    }
}
