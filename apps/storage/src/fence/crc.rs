// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! CRC-32C with the instruction that SSE 4.2 has for it, 8 bytes each: for
//! pieces as short as packets that takes a third of the instructions that the
//! crate needs, which is made for long ones. Elsewhere it is the crate.

/// Checksum of what `crc` is the checksum of, followed by `bytes`.
#[inline]
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the CPU has it.
        return unsafe { by_instruction(crc, bytes) };
    }
    crc32c::crc32c_append(crc, bytes)
}

/// # Safety
/// The CPU must have SSE 4.2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
unsafe fn by_instruction(crc: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u64, _mm_crc32_u8};

    // SAFETY: these words are the begin of `bytes`, and need no alignment.
    let words: &[[u8; 8]] =
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 8) };
    let mut sum = u64::from(!crc);
    // 16 at a time: a loop round each is as much again.
    let mut sixteens = words.chunks_exact(16);
    for piece in &mut sixteens {
        macro_rules! add {
            ($($i:literal)*) => {
                // SAFETY: the CPU has it, says the caller.
                unsafe { $(sum = _mm_crc32_u64(sum, u64::from_le_bytes(piece[$i]));)* }
            };
        }
        add!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for &word in sixteens.remainder() {
        // SAFETY: as above.
        sum = unsafe { _mm_crc32_u64(sum, u64::from_le_bytes(word)) };
    }
    // The upper half is always 0.
    let mut sum = sum as u32;
    for &byte in &bytes[words.len() * 8..] {
        // SAFETY: as above.
        sum = unsafe { _mm_crc32_u8(sum, byte) };
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn it_is_the_crates_checksum() {
        let bytes: Vec<u8> = (0..700u32).map(|i| ((i * i) >> 3) as u8).collect();
        for start in 0..9 {
            for end in start..bytes.len() {
                let bytes = &bytes[start..end];
                assert_eq!(crc32c(7, bytes), crc32c::crc32c_append(7, bytes));
            }
        }
        // RFC 3720, B.4.
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
    }
}
