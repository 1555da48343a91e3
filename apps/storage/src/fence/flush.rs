// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Writing cache lines back (Intel SDM, "CLWB", "CLFLUSHOPT", "CLFLUSH",
//! "SFENCE").

use std::fmt;

/// How bytes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `clwb` and `sfence`: lines stay in the cache.
    Clwb,
    /// `clflushopt` and `sfence`: lines leave the cache.
    ClflushOpt,
    /// `clflush`, one line after the other, and `sfence`.
    Clflush,
    /// `msync`: for files in the page cache.
    Msync,
    /// `fdatasync`: the same, with one call for the whole file.
    Fdatasync,
    /// Not at all.
    None,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Clwb => "clwb",
            Method::ClflushOpt => "clflushopt",
            Method::Clflush => "clflush",
            Method::Msync => "msync",
            Method::Fdatasync => "fdatasync",
            Method::None => "no flush",
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _mm_sfence};

    use super::Method;
    use crate::LINE;

    /// The best that this CPU has.
    pub(in crate::fence) fn method() -> Option<Method> {
        // SAFETY: every x86-64 CPU has cpuid; leaf 7 exists if leaf 0 says so.
        let features = unsafe {
            if __cpuid(0).eax < 7 {
                0
            } else {
                __cpuid_count(7, 0).ebx
            }
        };
        Some(if features & (1 << 24) != 0 {
            Method::Clwb
        } else if features & (1 << 23) != 0 {
            Method::ClflushOpt
        } else {
            Method::Clflush
        })
    }

    /// Start to write back the lines of `bytes`, by a method that [`method`]
    /// may return.
    #[inline]
    pub(in crate::fence) fn flush(method: Method, bytes: &[u8]) {
        let range = bytes.as_ptr_range();
        let mut line = (range.start as usize) & !(LINE - 1);
        let end = range.end as usize;
        // A loop each, so that none has a choice in it, and four lines at a time,
        // as the loop costs more than they do.
        macro_rules! lines {
            ($instruction:literal) => {{
                while line + 3 * LINE < end {
                    // SAFETY: as below, and the last of these lines holds at
                    // least one of the bytes, so all do.
                    unsafe {
                        asm!(
                            concat!($instruction, " [{0}]"),
                            concat!($instruction, " [{0} + 64]"),
                            concat!($instruction, " [{0} + 128]"),
                            concat!($instruction, " [{0} + 192]"),
                            in(reg) line,
                            options(nostack, preserves_flags)
                        );
                    }
                    line += 4 * LINE;
                }
                while line < end {
                    // SAFETY: the line holds at least one of the bytes; the
                    // instruction writes nothing that the language sees. Not
                    // `nomem`: stores must not move past it.
                    unsafe {
                        asm!(
                            concat!($instruction, " [{0}]"),
                            in(reg) line,
                            options(nostack, preserves_flags)
                        );
                    }
                    line += LINE;
                }
            }};
        }
        match method {
            Method::Clwb => lines!("clwb"),
            Method::ClflushOpt => lines!("clflushopt"),
            _ => lines!("clflush"),
        }
    }

    /// Wait for what was flushed: where the memory controller has it, it
    /// survives a power failure (ADR).
    #[inline]
    pub(in crate::fence) fn wait() {
        // SAFETY: every x86-64 CPU has SSE.
        unsafe { _mm_sfence() }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod cpu {
    use super::Method;

    /// None that this library knows.
    pub(in crate::fence) fn method() -> Option<Method> {
        None
    }

    pub(in crate::fence) fn flush(_method: Method, _bytes: &[u8]) {}

    pub(in crate::fence) fn wait() {}
}

pub(super) use cpu::{flush, method, wait};

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_this_cpu_runs_at_any_alignment() {
        let memory = vec![7u8; 400];
        let best = method().unwrap();
        let order = [Method::Clflush, Method::ClflushOpt, Method::Clwb];
        let known = order.iter().position(|m| *m == best).unwrap();
        for &method in &order[..=known] {
            for start in [0, 1, 63, 64, 65] {
                for len in [0, 1, 64, 200, 330] {
                    flush(method, &memory[start..start + len]);
                }
            }
            wait();
        }
        assert!(memory.iter().all(|&b| b == 7));
    }
}
