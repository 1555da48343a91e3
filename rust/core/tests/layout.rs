// SPDX-License-Identifier: GPL-2.0
//! Pool geometry: figures seen on the original, limits, and that nothing overlaps.

#[path = "../src/cases.rs"]
mod cases;

use cases::cases;
use netmap_core::abi::NmreqPoolsInfo;
use netmap_core::layout::*;
use netmap_core::Errno;
use proptest::prelude::*;

fn params(ifs: (u32, u32), rings: (u32, u32), bufs: (u32, u32)) -> PoolParams {
    let obj = |(num, size)| ObjParams { num, size };
    PoolParams {
        ifs: obj(ifs),
        rings: obj(rings),
        bufs: obj(bufs),
    }
}

#[test]
fn the_defaults_give_the_observed_file() {
    let all = Geometry::kernel(&PoolParams::GLOBAL).unwrap();
    assert_eq!(all.memsize, 343_019_520);
    assert_eq!(all.bufs.off, 0x721000);
    assert_eq!(all.pools_info(1).nr_buf_pool_offset, 0x721000);
}

#[test]
fn a_private_port_gives_the_observed_file() {
    // The original counts one host ring per direction and room for two pipes: 10 interfaces, 16
    // rings and 16 times 1024 buffers more.
    let mut need = PortNeed {
        ifs: 10,
        tx_rings: 2,
        rx_rings: 2,
        tx_slots: 1024,
        rx_slots: 1024,
        spare_bufs: 16 * 1024,
    };
    let mut params = PoolParams::PRIVATE.for_port(&need);
    params.rings.num += 16;
    assert_eq!(Geometry::kernel(&params).unwrap().memsize, 42_369_024);
    need.spare_bufs += 10;
    let mut params = PoolParams::PRIVATE.for_port(&need);
    params.rings.num += 16;
    assert_eq!(Geometry::kernel(&params).unwrap().memsize, 42_389_504);
}

#[test]
fn a_port_gets_at_least_the_defaults() {
    let need = PortNeed {
        tx_rings: 1,
        rx_rings: 1,
        tx_slots: 16,
        rx_slots: 16,
        ..PortNeed::default()
    };
    assert_eq!(PoolParams::PRIVATE.for_port(&need), PoolParams::PRIVATE);
}

#[test]
fn a_larger_port_gets_what_it_needs() {
    let need = PortNeed {
        ifs: 65,
        tx_rings: 65,
        rx_rings: 65,
        tx_slots: 2048,
        rx_slots: 1024,
        spare_bufs: 100,
    };
    let got = PoolParams::PRIVATE.for_port(&need);
    assert_eq!(
        got.ifs,
        ObjParams {
            num: 65,
            size: 56 + 130 * 8
        }
    );
    assert_eq!(
        got.rings,
        ObjParams {
            num: 130,
            size: 256 + 2048 * 16
        }
    );
    assert_eq!(
        got.bufs,
        ObjParams {
            num: 65 * 3072 + 102,
            size: 2048
        }
    );
    assert!(Geometry::kernel(&got).is_ok());
}

#[test]
fn absurd_needs_are_refused_without_overflow() {
    let need = PortNeed {
        ifs: u32::MAX,
        tx_rings: u32::MAX,
        rx_rings: u32::MAX,
        tx_slots: u32::MAX,
        rx_slots: u32::MAX,
        spare_bufs: u32::MAX,
    };
    let got = PoolParams::PRIVATE.for_port(&need);
    assert_eq!(Geometry::kernel(&got), Err(Errno::EINVAL));
}

#[test]
fn sizes_and_numbers_end_at_their_limits() {
    let good = params((10, 1024), (4, 4096), (16, 2048));
    assert!(Geometry::kernel(&good).is_ok());
    for (what, bad) in [
        ("no interface", params((0, 1024), (4, 4096), (16, 2048))),
        (
            "many interfaces",
            params((10_001, 1024), (4, 4096), (16, 2048)),
        ),
        ("large interface", params((10, 4097), (4, 4096), (16, 2048))),
        ("no interface size", params((10, 0), (4, 4096), (16, 2048))),
        ("one ring", params((10, 1024), (1, 4096), (16, 2048))),
        ("many rings", params((10, 1024), (1025, 4096), (16, 2048))),
        ("small ring", params((10, 1024), (4, 192), (16, 2048))),
        ("large ring", params((10, 1024), (4, 131_073), (16, 2048))),
        ("three buffers", params((10, 1024), (4, 4096), (3, 2048))),
        (
            "many buffers",
            params((10, 1024), (4, 4096), (1_000_001, 2048)),
        ),
        ("no buffer size", params((10, 1024), (4, 4096), (16, 0))),
        ("large buffer", params((10, 1024), (4, 4096), (16, 65_537))),
        (
            "endless buffer",
            params((10, 1024), (4, 4096), (16, u32::MAX)),
        ),
        // 64 of them make the first whole page, and more than 4 MiB.
        ("no cluster", params((10, 1024), (4, 131_008), (16, 2048))),
    ] {
        assert_eq!(Geometry::kernel(&bad), Err(Errno::EINVAL), "{what}");
    }
}

#[test]
fn extmem_turns_the_surplus_into_buffers() {
    // What a program computes for one thread and a file of 63,000,000 bytes.
    let want = params((4, 0), (12, 33024), (4000, 0)).or(&PoolParams::PRIVATE);
    let all = Geometry::extmem(&want, 63_000_000).unwrap();
    assert_eq!(all.rings.off, 4096);
    assert_eq!(all.bufs.off, 4096 + 397_312);
    assert_eq!(all.memsize, 63_000_000 / 4096 * 4096);
    assert_eq!(u64::from(all.bufs.num), (all.memsize - all.bufs.off) / 2048);
    assert_eq!(
        Geometry::extmem(&want, 63_000_000),
        Ok(all),
        "the same again"
    );
}

#[test]
fn extmem_that_is_too_small_is_refused() {
    let want = params((4, 1024), (12, 33024), (4, 4096));
    let least = 4096 + 397_312 + 4 * 4096;
    assert_eq!(Geometry::extmem(&want, least).map(|g| g.bufs.num), Ok(4));
    for memsize in [0, 4096, least - 1] {
        assert_eq!(Geometry::extmem(&want, memsize), Err(Errno::ENOMEM));
    }
}

#[test]
fn what_an_option_leaves_out_comes_from_the_defaults() {
    let info = NmreqPoolsInfo {
        nr_ring_pool_objsize: 512,
        ..NmreqPoolsInfo::ZERO
    };
    let got = PoolParams::from_pools_info(&info).or(&PoolParams::PRIVATE);
    assert_eq!(got.rings, ObjParams { num: 4, size: 512 });
    assert_eq!(got.bufs, PoolParams::PRIVATE.bufs);
}

#[test]
fn the_first_two_buffers_are_reserved() {
    let all = Geometry::kernel(&PoolParams::PRIVATE).unwrap();
    let last = all.bufs.num - 1;
    let usable = [0, 1, 2, last, last + 1].map(|i| all.is_buf(i));
    assert_eq!(usable, [false, false, true, true, false]);
}

#[test]
fn ring_offsets_follow_the_order_of_the_abi() {
    let port = IfLayout::new(2, 3, 0, 0);
    assert_eq!((port.total(), port.size()), (7, 56 + 7 * 8));
    assert_eq!(
        (port.tx_index(2), port.rx_index(0), port.rx_index(3)),
        (2, 3, 6)
    );
}

fn any_params() -> impl Strategy<Value = PoolParams> {
    let obj = |num, size| (1..num, 1..size);
    (obj(200u32, 5000u32), obj(1100, 140_000), obj(5000, 70_000))
        .prop_map(|(ifs, rings, bufs)| params(ifs, rings, bufs))
}

/// The pools are whole, in order, inside the file and at pages.
fn check(all: &Geometry) -> Result<(), TestCaseError> {
    let page = u64::from(PAGE_SIZE);
    let mut end = 0;
    for pool in [all.ifs, all.rings, all.bufs] {
        prop_assert!(pool.off >= end && pool.off % page == 0 && pool.size % 64 == 0);
        end = pool.off + pool.bytes();
    }
    prop_assert!(end <= all.memsize && all.memsize % page == 0);
    prop_assert_eq!(u64::from(all.pages()) * page, all.memsize);
    Ok(())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn pools_of_the_kernel_never_overlap(want in any_params()) {
        if let Ok(all) = Geometry::kernel(&want) {
            check(&all)?;
            prop_assert!(all.bufs.num >= want.bufs.num && all.rings.num >= want.rings.num);
        }
    }

    #[test]
    fn pools_of_an_application_never_overlap(want in any_params(), memsize in 0u64..200_000_000) {
        if let Ok(all) = Geometry::extmem(&want, memsize) {
            check(&all)?;
            prop_assert!(all.memsize <= memsize && all.bufs.num >= want.bufs.num);
        }
    }

    #[test]
    fn a_place_leads_back_to_its_buffer(want in any_params(), index: u32, offset: u32) {
        let Ok(all) = Geometry::kernel(&want) else { return Ok(()) };
        let index = index % all.bufs.num;
        let offset = offset % all.bufs.size;
        let begin = all.buf_place(index).unwrap();
        let at = begin.offset + offset;
        let place = Place { page: begin.page + at / PAGE_SIZE, offset: at % PAGE_SIZE };
        prop_assert_eq!(all.buf_at(place), Some((index, offset)));
        let ring = all.rings.num - 1;
        let buf_ofs = all.buf_ofs(ring).unwrap() as u64;
        prop_assert_eq!(all.rings.offset(ring).unwrap() + buf_ofs, all.bufs.off);
    }

    #[test]
    fn no_parameter_makes_it_panic(raw in any::<[u32; 6]>(), memsize: u64, index: u32) {
        let [a, b, c, d, e, f] = raw;
        let want = params((a, b), (c, d), (e, f));
        for all in [Geometry::kernel(&want), Geometry::extmem(&want, memsize)].into_iter().flatten() {
            check(&all)?;
            let _ = all.buf_place(index);
            prop_assert_eq!(all.buf_at(Place { page: u32::MAX, offset: u32::MAX }), None);
        }
    }
}
