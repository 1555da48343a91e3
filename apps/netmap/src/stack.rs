// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! `slot.ptr` of a stack port.

/// `slot.ptr`: bits 0-7 where the frame starts in its buffer, 8-39 descriptor
/// of the socket, 40-49 bytes from the frame's start to the payload ("doff").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ptr(pub u64);

impl Ptr {
    /// Largest doff.
    pub const MAX_DOFF: u16 = 0x3ff;

    /// Descriptor of the socket.
    #[inline]
    pub fn fd(self) -> i32 {
        // The 32 bits are the number's own.
        (self.0 >> 8) as u32 as i32
    }

    /// Bytes from the frame's start to the payload.
    #[inline]
    pub fn doff(self) -> u16 {
        (self.0 >> 40) as u16 & Self::MAX_DOFF
    }

    /// Offset kept, fd and doff replaced. Too large a doff loses its high bits.
    #[inline]
    #[must_use]
    pub fn with(self, fd: i32, doff: u16) -> Ptr {
        let doff = u64::from(doff & Self::MAX_DOFF);
        Ptr((self.0 & 0xff) | (u64::from(fd as u32) << 8) | (doff << 40))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observed_value_is_taken_apart() {
        let ptr = Ptr(0x4200_0000_0830);
        assert_eq!((ptr.0 & 0xff, ptr.fd(), ptr.doff()), (48, 8, 66));
        assert_eq!(Ptr(48).with(8, 66), ptr);
    }

    #[test]
    fn extreme_values_survive() {
        for fd in [-1, 0, i32::MIN, i32::MAX] {
            for doff in [0, 1, 1023] {
                let ptr = Ptr(0xff).with(fd, doff);
                assert_eq!(
                    (ptr.fd(), ptr.doff(), ptr.0 & 0xff, ptr.0 >> 50),
                    (fd, doff, 0xff, 0)
                );
            }
        }
        assert_eq!(Ptr(0).with(3, 1024).doff(), 0);
    }
}
