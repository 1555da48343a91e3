// SPDX-License-Identifier: GPL-2.0
//! The binary interface of `/dev/netmap`: numbers, flags and structs.
//!
//! The same facts as include/net/netmap.h and netmap_paste.h, for x86-64. Names are those of C;
//! every size and offset is checked when this compiles.

mod option;
mod plain;
mod request;
mod shared;

pub use option::*;
pub use request::*;
pub use shared::*;

/// Version of the API that the structs describe (`NETMAP_API`).
pub const NETMAP_API: u16 = 14;
/// Oldest version accepted in `nmreq_header.nr_version`.
pub const NETMAP_MIN_API: u16 = 14;
/// Newest version accepted in `nmreq_header.nr_version`.
pub const NETMAP_MAX_API: u16 = 15;

/// Number of an ioctl of group `i` as Linux encodes it: `dir` 0 none, 3 read and write; `size` of
/// the argument in bytes.
const fn ioc(dir: u32, nr: u32, size: usize) -> u32 {
    // The sizes are those of the structs below, all under 1 KiB.
    (dir << 30) | ((size as u32) << 16) | ((b'i' as u32) << 8) | nr
}

/// Control request, argument [`NmreqHeader`].
pub const NIOCCTRL: u32 = ioc(3, 151, NmreqHeader::SIZE);
/// Synchronises the transmit rings of the file; no argument.
pub const NIOCTXSYNC: u32 = ioc(0, 148, 0);
/// Synchronises the receive rings of the file; no argument.
pub const NIOCRXSYNC: u32 = ioc(0, 149, 0);
/// Legacy port information, argument [`Nmreq`].
pub const NIOCGINFO: u32 = ioc(3, 145, Nmreq::SIZE);
/// Legacy registration, argument [`Nmreq`].
pub const NIOCREGIF: u32 = ioc(3, 146, Nmreq::SIZE);
/// Configuration of a bridge, argument [`NmIfreq`].
pub const NIOCCONFIG: u32 = ioc(3, 150, NmIfreq::SIZE);

const _: () = {
    assert!(NIOCCTRL == 0xc058_6997);
    assert!(NIOCTXSYNC == 0x6994);
    assert!(NIOCRXSYNC == 0x6995);
    assert!(NIOCGINFO == 0xc03c_6991);
    assert!(NIOCREGIF == 0xc03c_6992);
    assert!(NIOCCONFIG == 0xc110_6996);
};

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_register_request_reads_its_fields_at_their_offsets() {
        let mut raw = [0u8; NmreqRegister::SIZE];
        raw[32..34].copy_from_slice(&7u16.to_ne_bytes());
        raw[36..40].copy_from_slice(&NR_REG_ONE_NIC.to_ne_bytes());
        raw[48..56].copy_from_slice(&NR_EXCLUSIVE.to_ne_bytes());
        let req = NmreqRegister::from_bytes(&raw).unwrap();
        assert_eq!(req.nr_mem_id, 7);
        assert_eq!(req.nr_mode, NR_REG_ONE_NIC);
        assert_eq!(req.nr_flags, NR_EXCLUSIVE);
        assert_eq!(req.to_bytes(), raw);
    }

    #[test]
    fn too_few_bytes_give_no_value() {
        assert_eq!(NmreqHeader::from_bytes(&[0; NmreqHeader::SIZE - 1]), None);
        assert_eq!(
            NmreqHeader::from_bytes(&[0; NmreqHeader::SIZE + 1]),
            Some(NmreqHeader::ZERO)
        );
    }

    #[test]
    fn a_struct_inside_a_struct_lies_at_its_offset() {
        let mut attach = NmreqValeAttach::ZERO;
        attach.reg.nr_mode = NR_REG_NIC_SW;
        attach.port_index = 3;
        let raw = attach.to_bytes();
        assert_eq!(raw[36], 3, "nr_mode");
        assert_eq!(raw[56], 3, "port_index");
        assert_eq!(NmreqValeAttach::from_bytes(&raw), Some(attach));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn bytes_survive_a_round_trip_where_there_is_no_padding(raw in any::<[u8; 32]>()) {
            let opt = NmreqPortInfoGet::from_bytes(&raw).unwrap();
            prop_assert_eq!(opt.to_bytes(), raw);
        }
    }
}
