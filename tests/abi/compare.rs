// SPDX-License-Identifier: GPL-2.0
//! Headers, user library and kernel core against `abi.table`.
#![forbid(unsafe_code)]
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use abi_check::{Abi, Layout};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn table() -> Abi {
    Abi::parse(include_str!("abi.table")).expect("abi.table is well-formed")
}

fn field_size<T, U>(_: fn(&T) -> &U) -> usize {
    size_of::<U>()
}

/// Layouts of Rust structs: C name, type, fields to compare.
macro_rules! layouts {
    ($($c:literal = $ty:path { $($field:ident),* })*) => {
        BTreeMap::from([$(($c.to_string(), {
            type S = $ty;
            Layout {
                size: size_of::<S>(),
                fields: BTreeMap::from([$((
                    stringify!($field).to_string(),
                    (std::mem::offset_of!(S, $field), field_size(|s: &S| &s.$field)),
                )),*]),
            }
        })),*])
    };
}

macro_rules! numbers {
    ($module:path: $($name:ident)*) => {{
        use $module as m;
        BTreeMap::from([$((stringify!($name).to_string(), m::$name as u64)),*])
    }};
}

fn compare(structs: BTreeMap<String, Layout>, numbers: BTreeMap<String, u64>) {
    let abi = table();
    for (name, layout) in structs {
        assert_eq!(abi.structs.get(&name), Some(&layout), "struct {name}");
    }
    for (name, value) in numbers {
        assert_eq!(abi.numbers.get(&name), Some(&value), "{name}");
    }
}

#[test]
fn user_library_agrees_with_the_table() {
    use netmap::abi as a;
    let structs = layouts! {
        "netmap_slot" = a::NetmapSlot { buf_idx, len, flags, ptr }
        "netmap_ring" = a::NetmapRing {
            buf_ofs, num_slots, nr_buf_size, ringid, dir, head, cur, tail, flags, ts, offset_mask,
            buf_align, sem
        }
        "netmap_if" = a::NetmapIf {
            ni_name, ni_version, ni_flags, ni_tx_rings, ni_rx_rings, ni_bufs_head,
            ni_host_tx_rings, ni_host_rx_rings
        }
        "nmreq_header" = a::NmreqHeader {
            nr_version, nr_reqtype, nr_reserved, nr_name, nr_options, nr_body
        }
        "nmreq_register" = a::NmreqRegister {
            nr_offset, nr_memsize, nr_tx_slots, nr_rx_slots, nr_tx_rings, nr_rx_rings,
            nr_host_tx_rings, nr_host_rx_rings, nr_mem_id, nr_ringid, nr_mode, nr_extra_bufs,
            nr_flags
        }
        "nmreq_vale_attach" = a::NmreqValeAttach { reg, port_index }
        "nmreq_vale_detach" = a::NmreqValeDetach { port_index }
        "nmreq_pst_fd_reg" = a::NmreqPstFdReg { nr_fd }
        "nmreq_pools_info" = a::NmreqPoolsInfo {
            nr_memsize, nr_mem_id, nr_if_pool_offset, nr_if_pool_objtotal, nr_if_pool_objsize,
            nr_ring_pool_offset, nr_ring_pool_objtotal, nr_ring_pool_objsize, nr_buf_pool_offset,
            nr_buf_pool_objtotal, nr_buf_pool_objsize
        }
        "nmreq_option" = a::NmreqOption { nro_next, nro_reqtype, nro_status, nro_size }
        "nmreq_opt_extmem" = a::NmreqOptExtmem { nro_opt, nro_usrptr, nro_info }
        "nmreq_opt_pst_bufs" = a::NmreqOptPstBufs {
            nro_opt, nro_bufs, nro_claim, nro_room, nro_count, nro_flags
        }
    };
    let numbers = numbers!(netmap::abi:
        NETMAP_API NETMAP_REQ_IFNAMSIZ NIOCCTRL NIOCTXSYNC NIOCRXSYNC
        NETMAP_REQ_REGISTER NETMAP_REQ_PORT_INFO_GET NETMAP_REQ_PST_ATTACH NETMAP_REQ_PST_DETACH
        NETMAP_REQ_PST_FD_REG NETMAP_REQ_OPT_EXTMEM NETMAP_REQ_OPT_PST_BUFS
        PST_BUFS_FORMAT PST_BUFS_EXISTING PST_BUFS_FORMATTED
        NS_BUF_CHANGED NS_REPORT NS_FORWARD NS_MOREFRAG NS_PST_KEEP NS_PST_UNSENT NS_PST_WRITABLE
        NS_PST_FIN NS_PST_ERR NS_PST_HOLD NS_PST_RESUME NR_TIMESTAMP NR_FORWARD NR_PST_UNSENT
        NR_REG_ALL_NIC NR_REG_SW NR_REG_NIC_SW NR_REG_ONE_NIC NR_REG_NULL NR_REG_ONE_SW
        NR_MONITOR_TX NR_MONITOR_RX NR_ZCOPY_MON NR_EXCLUSIVE NR_RX_RINGS_ONLY NR_TX_RINGS_ONLY
        NR_NO_TX_POLL);
    compare(structs, numbers);
}

#[test]
fn kernel_core_agrees_with_the_table() {
    use netmap_core::abi as a;
    let structs = layouts! {
        "netmap_slot" = a::Slot { buf_idx, len, flags, ptr }
        "netmap_ring" = a::NetmapRing {
            buf_ofs, num_slots, nr_buf_size, ringid, dir, head, cur, tail, flags, ts, offset_mask,
            buf_align, sem
        }
        "netmap_if" = a::NetmapIf {
            ni_name, ni_version, ni_flags, ni_tx_rings, ni_rx_rings, ni_bufs_head,
            ni_host_tx_rings, ni_host_rx_rings
        }
        "nmreq_header" = a::NmreqHeader {
            nr_version, nr_reqtype, nr_reserved, nr_name, nr_options, nr_body
        }
        "nmreq_register" = a::NmreqRegister {
            nr_offset, nr_memsize, nr_tx_slots, nr_rx_slots, nr_tx_rings, nr_rx_rings,
            nr_host_tx_rings, nr_host_rx_rings, nr_mem_id, nr_ringid, nr_mode, nr_extra_bufs,
            nr_flags
        }
        "nmreq_port_info_get" = a::NmreqPortInfoGet {
            nr_memsize, nr_tx_slots, nr_rx_slots, nr_tx_rings, nr_rx_rings, nr_host_tx_rings,
            nr_host_rx_rings, nr_mem_id
        }
        "nmreq_vale_attach" = a::NmreqValeAttach { reg, port_index }
        "nmreq_vale_detach" = a::NmreqValeDetach { port_index }
        "nmreq_vale_list" = a::NmreqValeList { nr_bridge_idx, nr_port_idx }
        "nmreq_port_hdr" = a::NmreqPortHdr { nr_hdr_len }
        "nmreq_vale_newif" = a::NmreqValeNewif {
            nr_tx_slots, nr_rx_slots, nr_tx_rings, nr_rx_rings, nr_mem_id
        }
        "nmreq_vale_polling" = a::NmreqValePolling {
            nr_mode, nr_first_cpu_id, nr_num_polling_cpus
        }
        "nmreq_sync_kloop_start" = a::NmreqSyncKloopStart { sleep_us }
        "nmreq_pools_info" = a::NmreqPoolsInfo {
            nr_memsize, nr_mem_id, nr_if_pool_offset, nr_if_pool_objtotal, nr_if_pool_objsize,
            nr_ring_pool_offset, nr_ring_pool_objtotal, nr_ring_pool_objsize, nr_buf_pool_offset,
            nr_buf_pool_objtotal, nr_buf_pool_objsize
        }
        "nmreq_pst_fd_reg" = a::NmreqPstFdReg { nr_fd }
        "nmreq_option" = a::NmreqOption { nro_next, nro_reqtype, nro_status, nro_size }
        "nmreq_opt_extmem" = a::NmreqOptExtmem { nro_opt, nro_usrptr, nro_info }
        "nmreq_opt_pst_bufs" = a::NmreqOptPstBufs {
            nro_opt, nro_bufs, nro_claim, nro_room, nro_count, nro_flags
        }
        "nmreq_opt_csb" = a::NmreqOptCsb { nro_opt, csb_atok, csb_ktoa }
        "nmreq_opt_sync_kloop_mode" = a::NmreqOptSyncKloopMode { nro_opt, mode }
        "nmreq_opt_offsets" = a::NmreqOptOffsets {
            nro_opt, nro_max_offset, nro_initial_offset, nro_offset_bits, nro_tx_align, nro_min_gap
        }
        "nm_csb_atok" = a::NmCsbAtok { head, cur, appl_need_kick, sync_flags }
        "nm_csb_ktoa" = a::NmCsbKtoa { hwcur, hwtail, kern_need_kick }
        "nmreq" = a::Nmreq {
            nr_name, nr_version, nr_offset, nr_memsize, nr_tx_slots, nr_rx_slots, nr_tx_rings,
            nr_rx_rings, nr_ringid, nr_cmd, nr_arg1, nr_arg2, nr_arg3, nr_flags
        }
        "nm_ifreq" = a::NmIfreq { nifr_name, data }
    };
    assert_eq!(
        structs.len(),
        table().structs.len(),
        "every struct is compared"
    );
    let numbers = numbers!(netmap_core::abi:
        NETMAP_API NETMAP_MIN_API NETMAP_MAX_API NETMAP_REQ_IFNAMSIZ NETMAP_MAX_FRAGS
        NIOCCTRL NIOCTXSYNC NIOCRXSYNC NIOCGINFO NIOCREGIF NIOCCONFIG
        NETMAP_REQ_REGISTER NETMAP_REQ_PORT_INFO_GET NETMAP_REQ_VALE_ATTACH NETMAP_REQ_VALE_DETACH
        NETMAP_REQ_VALE_LIST NETMAP_REQ_PORT_HDR_SET NETMAP_REQ_PORT_HDR_GET NETMAP_REQ_VALE_NEWIF
        NETMAP_REQ_VALE_DELIF NETMAP_REQ_VALE_POLLING_ENABLE NETMAP_REQ_VALE_POLLING_DISABLE
        NETMAP_REQ_POOLS_INFO_GET NETMAP_REQ_SYNC_KLOOP_START NETMAP_REQ_SYNC_KLOOP_STOP
        NETMAP_REQ_CSB_ENABLE NETMAP_REQ_PST_ATTACH NETMAP_REQ_PST_DETACH NETMAP_REQ_PST_FD_REG
        NETMAP_REQ_OPT_EXTMEM NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS NETMAP_REQ_OPT_CSB
        NETMAP_REQ_OPT_SYNC_KLOOP_MODE NETMAP_REQ_OPT_OFFSETS NETMAP_REQ_OPT_MAX
        NETMAP_REQ_OPT_PST_BUFS PST_BUFS_FORMAT PST_BUFS_EXISTING PST_BUFS_FORMATTED
        NR_REG_DEFAULT NR_REG_ALL_NIC NR_REG_SW NR_REG_NIC_SW NR_REG_ONE_NIC NR_REG_PIPE_MASTER
        NR_REG_PIPE_SLAVE NR_REG_NULL NR_REG_ONE_SW
        NR_MONITOR_TX NR_MONITOR_RX NR_ZCOPY_MON NR_EXCLUSIVE NR_RX_RINGS_ONLY NR_TX_RINGS_ONLY
        NR_ACCEPT_VNET_HDR NR_DO_RX_POLL NR_NO_TX_POLL
        NS_BUF_CHANGED NS_REPORT NS_FORWARD NS_NO_LEARN NS_INDIRECT NS_MOREFRAG NS_TXMON NS_CSUM
        NS_PST_KEEP NS_PST_UNSENT NS_PST_WRITABLE NS_PST_FIN NS_PST_ERR NS_PST_HOLD NS_PST_RESUME
        NR_TIMESTAMP NR_FORWARD NR_PST_UNSENT NI_PRIV_MEM);
    compare(structs, numbers);
}

#[test]
fn the_library_reads_the_header_that_the_kernel_writes() {
    use netmap_core::{format::Header, layout};
    let params = layout::PoolParams::PRIVATE;
    let geometry = layout::Geometry::extmem(&params, 63_000_000).unwrap();
    let bytes = Header::new(&geometry, 0xfedc_ba98_7654_3210).to_bytes();
    let format = netmap::Format::parse(&bytes).unwrap();
    assert_eq!(format.memsize, geometry.memsize);
    assert_eq!(format.id, 0xfedc_ba98_7654_3210);
    assert_eq!(format.bufs_offset(), geometry.bufs.off);
    for index in [0, 2, geometry.bufs.num - 1, geometry.bufs.num] {
        assert_eq!(format.buf_offset(index), geometry.bufs.offset(index));
    }
    for bit in 0..512 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(netmap::Format::parse(&bytes), None, "bit {bit}");
    }
}

/// A C source in which every line of the table is an assertion.
fn assertions() -> String {
    let mut c = String::from(
        "#include <stddef.h>\n#include <net/netmap_user.h>\n#include <net/netmap_paste.h>\n\
         #ifndef __cplusplus\n#define static_assert _Static_assert\n#endif\n",
    );
    let abi = table();
    for (name, layout) in &abi.structs {
        let s = format!("struct {name}");
        writeln!(c, "static_assert(sizeof({s}) == {}, \"{s}\");", layout.size).unwrap();
        for (f, (offset, size)) in &layout.fields {
            writeln!(
                c,
                "static_assert(offsetof({s}, {f}) == {offset}, \"{s}.{f}\");"
            )
            .unwrap();
            writeln!(
                c,
                "static_assert(sizeof((({s} *)0)->{f}) == {size}, \"{s}.{f}\");"
            )
            .unwrap();
        }
    }
    for (name, value) in &abi.numbers {
        writeln!(c, "static_assert({name} == {value}, \"{name}\");").unwrap();
    }
    for (field, offset) in [
        ("version", 8),
        ("memsize", 16),
        ("if_num", 24),
        ("id", 48),
        ("crc", netmap_core::format::SIZE - 4),
    ] {
        writeln!(
            c,
            "static_assert(offsetof(struct pst_format, {field}) == {offset}, \"{field}\");"
        )
        .unwrap();
    }
    c.push_str("static_assert(offsetof(struct netmap_ring, slot) == 256, \"slot\");\n");
    c.push_str("static_assert(offsetof(struct netmap_if, ring_ofs) == 56, \"ring_ofs\");\n");
    c
}

const WARNINGS: [&str; 9] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wcast-align",
    "-Wshadow",
    "-Wvla",
    "-Werror",
    "-O2",
];

/// Compile `source` as `language` ("c" or "c++") into `output`.
fn compile(language: &str, standard: &str, source: &Path, output: &Path, extra: &[&str]) {
    let (variable, default) = if language == "c" {
        ("CC", "cc")
    } else {
        ("CXX", "c++")
    };
    let compiler = std::env::var(variable).unwrap_or_else(|_| default.to_string());
    let include = Path::new(HERE).join("../../include");
    let done = Command::new(&compiler)
        .args(WARNINGS)
        .args(extra)
        .arg(format!("-std={standard}"))
        .arg("-I")
        .arg(include)
        .args(["-x", language])
        .arg(source)
        .arg("-o")
        .arg(output)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    let messages = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "{compiler} -std={standard}:\n{messages}"
    );
}

const STANDARDS: [(&str, &str); 4] = [
    ("c", "gnu11"),
    ("c", "gnu17"),
    ("c++", "gnu++11"),
    ("c++", "gnu++20"),
];

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn headers_agree_with_the_table_in_c_and_cxx() {
    let source = scratch("abi-assertions.c");
    std::fs::write(&source, assertions()).unwrap();
    for (language, standard) in STANDARDS {
        let object = scratch(&format!("abi-{standard}.o"));
        // offsetof on a structure with constant members is "conditionally
        // supported" in C++; compilers do support it.
        let extra: &[&str] = if language == "c++" {
            &["-c", "-Wno-invalid-offsetof"]
        } else {
            &["-c"]
        };
        compile(language, standard, &source, &object, extra);
    }
}

#[test]
fn programs_compile_and_the_inline_functions_work() {
    let source = Path::new(HERE).join("uses.c");
    for (language, standard) in STANDARDS {
        let program = scratch(&format!("uses-{standard}"));
        let sanitize = ["-fsanitize=undefined", "-fno-sanitize-recover"];
        let extra: &[&str] = if standard == "gnu17" { &sanitize } else { &[] };
        compile(language, standard, &source, &program, extra);
        let run = Command::new(&program).output().unwrap();
        let messages = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{standard}: {messages}");
    }
}

#[test]
fn a_header_compiles_alone() {
    for header in ["netmap.h", "netmap_user.h", "netmap_paste.h"] {
        let source = scratch(&format!("alone-{header}.c"));
        let code = format!("#include <net/{header}>\nextern int unused;\n");
        std::fs::write(&source, code).unwrap();
        for (language, standard) in STANDARDS {
            compile(
                language,
                standard,
                &source,
                &scratch(&format!("alone-{header}.o")),
                &["-c"],
            );
        }
    }
}
