// SPDX-License-Identifier: GPL-2.0
//! Tests of `portspec.rs`.

use super::super::cases::cases;
use super::super::layout::ObjParams;
use super::*;
use proptest::prelude::*;

fn plain(name: &str) -> PortSpec<'_> {
    PortSpec {
        name,
        mode: NR_REG_ALL_NIC,
        ringid: 0,
        flags: 0,
        mem_id: 0,
        share: None,
        extmem: None,
        conf: ConfSpec::default(),
        offset: None,
    }
}

#[test]
fn a_prefix_is_stripped_or_kept() {
    for (text, name) in [
        ("netmap:eth0", "eth0"),
        ("vale0:a", "vale0:a"),
        ("vale:a", "vale:a"),
        ("pst:0", "pst:0"),
        ("pst1:eth0", "pst1:eth0"),
        ("netmap:eth0{1", "eth0{1"),
        ("vale0:a}x_1", "vale0:a}x_1"),
        ("netmap:eth0.5", "eth0.5"),
    ] {
        assert_eq!(PortSpec::parse(text), Ok(plain(name)), "{text}");
    }
}

#[test]
fn suffixes_choose_mode_ring_flags_and_memory() {
    for (text, mode, ringid, flags, mem_id) in [
        ("netmap:eth0-3", NR_REG_ONE_NIC, 3, 0, 0),
        ("netmap:eth0*", NR_REG_NIC_SW, 0, 0, 0),
        ("netmap:eth0^", NR_REG_SW, 0, 0, 0),
        ("netmap:eth0^2", NR_REG_ONE_SW, 2, 0, 0),
        ("netmap:eth0/x", NR_REG_ALL_NIC, 0, NR_EXCLUSIVE, 0),
        ("netmap:eth0^/R@7", NR_REG_SW, 0, NR_RX_RINGS_ONLY, 7),
        (
            "netmap:eth0-1/zT@2",
            NR_REG_ONE_NIC,
            1,
            NR_ZCOPY_MON | NR_TX_RINGS_ONLY,
            2,
        ),
        (
            "netmap:eth0/trV",
            NR_REG_ALL_NIC,
            0,
            NR_MONITOR_TX | NR_MONITOR_RX | NR_ACCEPT_VNET_HDR,
            0,
        ),
        ("netmap:eth0@5@5", NR_REG_ALL_NIC, 0, 0, 5),
        ("netmap:eth0-4095/", NR_REG_ONE_NIC, 4095, 0, 0),
    ] {
        let want = PortSpec {
            mode,
            ringid,
            flags,
            mem_id,
            ..plain("eth0")
        };
        assert_eq!(PortSpec::parse(text), Ok(want), "{text}");
    }
}

#[test]
fn the_server_with_rings_in_a_file_is_understood() {
    let text = "pst:0-0@conf:rings=4@extmem:file=/mnt/pm/netmap_mem,if-num=4,ring-num=12,\
                ring-size=33024,buf-num=30000";
    let obj = |num, size| ObjParams { num, size };
    let want = PortSpec {
        mode: NR_REG_ONE_NIC,
        conf: ConfSpec {
            tx_rings: 4,
            rx_rings: 4,
            ..ConfSpec::default()
        },
        extmem: Some(ExtmemSpec {
            file: "/mnt/pm/netmap_mem",
            pools: PoolParams {
                ifs: obj(4, 0),
                rings: obj(12, 33024),
                bufs: obj(30000, 0),
            },
        }),
        ..plain("pst:0")
    };
    assert_eq!(PortSpec::parse(text), Ok(want));
}

#[test]
fn later_options_refine_earlier_ones() {
    let got =
        PortSpec::parse("vale0:a@conf:rings=4,slots=512,tx-rings=2,host-rings=1,host-rx-rings=3");
    let want = ConfSpec {
        tx_rings: 2,
        rx_rings: 4,
        host_tx_rings: 1,
        host_rx_rings: 3,
        tx_slots: 512,
        rx_slots: 512,
    };
    assert_eq!(got.map(|spec| spec.conf), Ok(want));
}

#[test]
fn share_and_offset_are_understood() {
    let got = PortSpec::parse("netmap:eth0@share:port=netmap:eth1@offset:initial=48,bits=8");
    let want = PortSpec {
        share: Some("netmap:eth1"),
        offset: Some(OffsetSpec {
            initial: 48,
            bits: 8,
        }),
        ..plain("eth0")
    };
    assert_eq!(got, Ok(want));
}

#[test]
fn an_error_says_where() {
    for (text, at, what) in [
        ("", 0, "netmap:, vale[ID]: or pst[ID]: expected"),
        ("eth0", 0, "netmap:, vale[ID]: or pst[ID]: expected"),
        ("valeé:0", 0, "netmap:, vale[ID]: or pst[ID]: expected"),
        ("netmap:", 7, "port expected"),
        ("netmap:-1", 7, "port expected"),
        ("netmap:eth0{", 12, "pipe id expected"),
        ("netmap:eth0{a:b", 12, "letters, digits or _ expected"),
        ("netmap:eth0{1}2", 13, "second pipe"),
        ("netmap:eth0-", 12, "number expected"),
        ("netmap:eth0-x", 12, "number expected"),
        ("netmap:eth0-4096", 12, "number too large"),
        ("netmap:eth0*1", 12, "unexpected character"),
        ("netmap:eth0/xq", 13, "unknown flag"),
        ("netmap:eth0@", 12, "memory id or option expected"),
        ("netmap:eth0@1@2", 14, "another memory id than before"),
        ("netmap:eth0@65536", 12, "number too large"),
        ("netmap:eth0@1x", 13, "unexpected character"),
        ("netmap:eth0@what:x", 12, "unknown option"),
        ("netmap:eth0@conf:rings=x", 23, "number expected"),
        ("netmap:eth0@conf:rings=4x", 24, "unexpected character"),
        ("netmap:eth0@conf:rings=65536", 23, "number too large"),
        ("netmap:eth0@conf:rings=4,", 25, "key expected"),
        ("netmap:eth0@conf:wings=4", 17, "unknown key"),
        ("netmap:eth0@extmem:if-num=3", 19, "file expected"),
        ("netmap:eth0@share:", 18, "port expected"),
    ] {
        assert_eq!(PortSpec::parse(text), Err(SpecError { at, what }), "{text}");
    }
}

#[test]
fn the_longest_name_still_has_room_for_its_nul() {
    let name = |len: usize| format!("pst:{}", "a".repeat(len - 4));
    assert!(PortSpec::parse(&name(63)).is_ok());
    assert!(PortSpec::parse(&name(64)).is_err());
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_text_gets_an_answer(text in "(netmap|vale|pst)?:?\\PC{0,40}") {
        if let Err(error) = PortSpec::parse(&text) {
            prop_assert!(error.at <= text.len());
        }
    }

    #[test]
    fn text_made_of_the_grammars_characters_gets_an_answer(
        text in "(netmap|vale|pst0):[a-z0-9{}*^/@:=,-]{0,30}",
    ) {
        if let Ok(spec) = PortSpec::parse(&text) {
            prop_assert!(text.contains(spec.name) && !spec.name.is_empty());
        }
    }
}
