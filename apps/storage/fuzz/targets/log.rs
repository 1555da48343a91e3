// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! `storage_fuzz::log` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage_fuzz::log(data));
