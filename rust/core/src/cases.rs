// SPDX-License-Identifier: GPL-2.0
//! How many cases the property tests try.

use proptest::test_runner::Config;

/// `host` cases, or a few under miri, which is a thousand times slower. Failing cases are printed,
/// not kept in files: miri has none.
pub(crate) fn cases(host: u32) -> Config {
    let mut config = Config::with_cases(if cfg!(miri) { 4 } else { host });
    config.failure_persistence = None;
    config
}
