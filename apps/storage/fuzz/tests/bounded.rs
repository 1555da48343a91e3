// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The fuzz targets with bytes that proptest draws: PROPTEST_CASES=100000 makes
//! it a long run.

use proptest::prelude::*;

fn config() -> ProptestConfig {
    let more = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if more { default.cases } else { 1000 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damage(data in prop::collection::vec(any::<u8>(), 0..400)) {
        storage_fuzz::damage(&data);
    }

    #[test]
    fn log(data in prop::collection::vec(any::<u8>(), 0..600)) {
        storage_fuzz::log(&data);
    }

    #[test]
    fn map(data in prop::collection::vec(any::<u8>(), 0..600)) {
        storage_fuzz::map(&data);
    }
}
