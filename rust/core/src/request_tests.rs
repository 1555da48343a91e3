// SPDX-License-Identifier: GPL-2.0
//! Tests of `request.rs`.

use super::super::cases::cases;
use super::*;
use proptest::prelude::*;

fn header(version: u16, reqtype: u16, body: u64) -> NmreqHeader {
    NmreqHeader {
        nr_version: version,
        nr_reqtype: reqtype,
        nr_body: body,
        ..NmreqHeader::ZERO
    }
}

fn register(mode: u32, ringid: u16, flags: u64) -> NmreqRegister {
    NmreqRegister {
        nr_mode: mode,
        nr_ringid: ringid,
        nr_flags: flags,
        ..NmreqRegister::ZERO
    }
}

fn range(first: u16, end: u16) -> RingRange {
    RingRange { first, end }
}

const NIC: RingCounts = RingCounts {
    tx: 4,
    rx: 2,
    host_tx: 1,
    host_rx: 1,
};

#[test]
fn the_table_lists_types_1_to_18_in_order() {
    let numbers: Vec<u16> = REQUESTS.iter().map(|r| r.number).collect();
    assert_eq!(numbers, (1..=18).collect::<Vec<u16>>());
}

#[test]
fn bodies_have_the_sizes_of_the_abi() {
    let sizes: Vec<u32> = REQUESTS.iter().map(|r| r.body_size).collect();
    let want = [56, 32, 64, 8, 8, 8, 8, 16, 0, 16, 16, 64, 8, 0, 0, 64, 8, 8];
    assert_eq!(sizes, want);
}

#[test]
fn versions_14_and_15_are_accepted() {
    for (version, ok) in [(0, false), (13, false), (14, true), (15, true), (16, false)] {
        let got = check_header(&header(version, NETMAP_REQ_REGISTER, 8));
        assert_eq!(got.is_ok(), ok, "{version}");
    }
}

#[test]
fn a_body_is_there_exactly_if_the_type_has_one() {
    for (reqtype, body, ok) in [
        (NETMAP_REQ_REGISTER, 8, true),
        (NETMAP_REQ_REGISTER, 0, false),
        (NETMAP_REQ_CSB_ENABLE, 0, true),
        (NETMAP_REQ_CSB_ENABLE, 8, false),
        (0, 8, false),
        (0, 0, false),
        (19, 8, false),
    ] {
        let got = check_header(&header(14, reqtype, body)).map(|r| r.number);
        let want = if ok { Ok(reqtype) } else { Err(Errno::EINVAL) };
        assert_eq!(got, want, "{reqtype} {body}");
    }
}

#[test]
fn the_reserved_field_is_zero() {
    let mut bad = header(14, NETMAP_REQ_REGISTER, 8);
    bad.nr_reserved = 1;
    assert_eq!(check_header(&bad), Err(Errno::EINVAL));
}

#[test]
fn each_mode_binds_its_rings() {
    let none = RingRange::default();
    for (mode, id, want) in [
        (NR_REG_ALL_NIC, 0, [range(0, 4), range(0, 2), none, none]),
        (NR_REG_ALL_NIC, 9, [range(0, 4), range(0, 2), none, none]),
        (NR_REG_SW, 0, [none, none, range(0, 1), range(0, 1)]),
        (
            NR_REG_NIC_SW,
            0,
            [range(0, 4), range(0, 2), range(0, 1), range(0, 1)],
        ),
        (NR_REG_ONE_NIC, 1, [range(1, 2), range(1, 2), none, none]),
        (NR_REG_ONE_NIC, 3, [range(3, 4), range(0, 1), none, none]),
        (NR_REG_ONE_SW, 0, [none, none, range(0, 1), range(0, 1)]),
        (NR_REG_NULL, 0, [none; 4]),
    ] {
        let got = select_rings(&register(mode, id, 0), &NIC).unwrap();
        let rings = [got.tx, got.rx, got.host_tx, got.host_rx];
        assert_eq!(rings, want, "mode {mode} ring {id}");
    }
}

#[test]
fn bad_modes_and_rings_are_refused() {
    for (mode, id) in [
        (NR_REG_DEFAULT, 0),
        (NR_REG_PIPE_MASTER, 0),
        (NR_REG_PIPE_SLAVE, 0),
        (9, 0),
        (u32::MAX, 0),
        (NR_REG_ONE_NIC, 4),
        (NR_REG_ONE_NIC, u16::MAX),
        (NR_REG_ONE_SW, 1),
    ] {
        let got = select_rings(&register(mode, id, 0), &NIC);
        assert_eq!(got, Err(Errno::EINVAL), "mode {mode} ring {id}");
    }
}

#[test]
fn host_rings_must_exist() {
    let stack = RingCounts {
        tx: 1,
        rx: 1,
        ..RingCounts::default()
    };
    for mode in [NR_REG_SW, NR_REG_NIC_SW, NR_REG_ONE_SW] {
        assert_eq!(
            select_rings(&register(mode, 0, 0), &stack),
            Err(Errno::EINVAL)
        );
    }
    assert!(select_rings(&register(NR_REG_ALL_NIC, 0, 0), &stack).is_ok());
}

#[test]
fn flags_narrow_the_selection() {
    let select = |flags| select_rings(&register(NR_REG_NIC_SW, 0, flags), &NIC).unwrap();
    let rx = select(NR_RX_RINGS_ONLY | NR_EXCLUSIVE);
    assert!(rx.tx.is_empty() && rx.host_tx.is_empty() && rx.exclusive && !rx.no_tx_poll);
    assert_eq!((rx.rx.len(), rx.host_rx.len()), (2, 1));
    let tx = select(NR_TX_RINGS_ONLY | NR_NO_TX_POLL);
    assert!(tx.rx.is_empty() && tx.host_rx.is_empty() && !tx.exclusive && tx.no_tx_poll);
    assert_eq!((tx.tx.len(), tx.host_tx.len()), (4, 1));
}

#[test]
fn a_stack_port_has_the_shape_asked_for_within_limits() {
    let shape = |rings, slots| {
        PortShape::stack(&NmreqRegister {
            nr_tx_rings: rings,
            nr_rx_rings: rings,
            nr_tx_slots: slots,
            nr_rx_slots: slots,
            ..NmreqRegister::ZERO
        })
    };
    for (rings, slots, want) in [
        (0, 0, (1, 1024)),
        (1, 1, (1, 2)),
        (64, 2048, (64, 2048)),
        (65, 2049, (64, 2048)),
        (u16::MAX, u32::MAX, (64, 2048)),
    ] {
        let got = shape(rings, slots);
        assert_eq!((got.tx_rings, got.tx_slots), want);
        assert_eq!((got.rx_rings, got.rx_slots), want);
    }
}

#[test]
fn a_nic_is_attached_whole() {
    for (mode, ringid, want) in [
        (NR_REG_ALL_NIC, 0, Ok(false)),
        (NR_REG_NIC_SW, 0, Ok(true)),
        (NR_REG_NIC_SW, 1, Err(Errno::EINVAL)),
        (NR_REG_ONE_NIC, 0, Err(Errno::EINVAL)),
        (NR_REG_SW, 0, Err(Errno::EINVAL)),
        (NR_REG_DEFAULT, 0, Err(Errno::EINVAL)),
    ] {
        assert_eq!(check_attach(&register(mode, ringid, 0)), want);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_selection_never_names_a_ring_that_is_not_there(
        mode in 0u32..10, id: u16, flags: u64, tx in 0u16..70, rx in 0u16..70, host in 0u16..3,
    ) {
        let have = RingCounts { tx, rx, host_tx: host, host_rx: host };
        if let Ok(sel) = select_rings(&register(mode, id, flags), &have) {
            let ranges = [(sel.tx, tx), (sel.rx, rx), (sel.host_tx, host), (sel.host_rx, host)];
            for (range, count) in ranges {
                prop_assert!(range.first <= range.end && range.end <= count);
                prop_assert!(range.iter().all(|ring| range.contains(ring)));
            }
        }
    }
}
