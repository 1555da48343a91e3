// SPDX-License-Identifier: GPL-2.0
//! Port names as the kernel sees them.
//!
//! ```text
//! pst[ID]:NAME      NAME of a stack port: the port itself, or a NIC attached to it
//! vale[ID]:NAME     a port of a bridge
//! stack[ID]:NAME    stack port of older interfaces
//! BASE{ID BASE}ID   the two ends of a pipe of port BASE
//! NAME              a network interface
//! ```
//!
//! ID is made of letters, digits and `_`. A name with a colon is never a network interface, one
//! without is never a bridge: an interface may well be called `pst0`.

use super::abi::{NETMAP_REQ_IFNAMSIZ, NR_MONITOR_RX, NR_MONITOR_TX, NR_REG_NULL, NR_ZCOPY_MON};
use super::Errno;

/// Longest name of a network interface, bytes without the NUL (`IFNAMSIZ - 1`).
pub const IFNAME_MAX: usize = 15;

/// A name with a colon: `pst0:eth1` has the bridge `pst0` and the member `eth1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// All of it, at most 63 bytes.
    pub full: &'a [u8],
    /// What is before the colon, prefix included; at most [`IFNAME_MAX`] bytes.
    pub bridge: &'a [u8],
    /// What is after the colon, not empty.
    pub member: &'a [u8],
}

/// Which end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeEnd {
    /// Written `{`.
    Master,
    /// Written `}`.
    Slave,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortName<'a> {
    /// Nothing: some requests are then about memory only.
    Empty,
    /// A port without rings (mode [`NR_REG_NULL`]); the name is free.
    Null(&'a [u8]),
    /// A monitor of the port with this name (flags `NR_MONITOR_*`).
    Monitor(&'a [u8]),
    /// One end of a pipe.
    Pipe {
        /// Name of the port that the pipe belongs to.
        base: &'a [u8],
        /// Which of its pipes.
        id: &'a [u8],
        /// Which end.
        end: PipeEnd,
    },
    /// A port of a bridge.
    Vale(Member<'a>),
    /// A stack port (`pst`).
    Stack(Member<'a>),
    /// A stack port by the prefix of older interfaces (`stack`), with another slot layout.
    LegacyStack(Member<'a>),
    /// A network interface, at most [`IFNAME_MAX`] bytes.
    Netdev(&'a [u8]),
}

/// The bytes of `nr_name` before its NUL.
///
/// # Errors
///
/// `EINVAL` if there is no NUL.
pub fn field(nr_name: &[u8; NETMAP_REQ_IFNAMSIZ]) -> Result<&[u8], Errno> {
    let mut parts = nr_name.splitn(2, |&b| b == 0);
    match (parts.next(), parts.next()) {
        (Some(name), Some(_)) => Ok(name),
        _ => Err(Errno::EINVAL),
    }
}

/// Finds out what `nr_name` stands for. `nr_mode` and `nr_flags` are those of a registration, 0 for
/// other requests.
///
/// # Errors
///
/// `EINVAL` if there is no NUL, a pipe has no base or no valid id, or a bridge has too long a name
/// or no member; `ENXIO` for names that nothing can have.
pub fn classify(
    nr_name: &[u8; NETMAP_REQ_IFNAMSIZ],
    nr_mode: u32,
    nr_flags: u64,
) -> Result<PortName<'_>, Errno> {
    let name = field(nr_name)?;
    if nr_mode == NR_REG_NULL {
        return Ok(PortName::Null(name));
    }
    if name.is_empty() {
        return Ok(PortName::Empty);
    }
    if nr_flags & (NR_MONITOR_TX | NR_MONITOR_RX | NR_ZCOPY_MON) != 0 {
        return Ok(PortName::Monitor(name));
    }
    if let Some(at) = name.iter().position(|b| matches!(b, b'{' | b'}')) {
        return pipe(name, at);
    }
    match name.iter().position(|&b| b == b':') {
        Some(colon) => member(name, colon),
        None if name.len() > IFNAME_MAX => Err(Errno::ENXIO),
        None => Ok(PortName::Netdev(name)),
    }
}

/// The NIC that an attach request names: `eth0` in `pst:eth0`, with NULs behind it as the kernel's
/// functions want it.
///
/// # Errors
///
/// `EINVAL` if it is too long for an interface.
pub fn if_name(name: &[u8]) -> Result<[u8; IFNAME_MAX + 1], Errno> {
    let mut out = [0; IFNAME_MAX + 1];
    if name.len() > IFNAME_MAX {
        return Err(Errno::EINVAL);
    }
    for (to, from) in out.iter_mut().zip(name) {
        *to = *from;
    }
    Ok(out)
}

fn is_id(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn pipe(name: &[u8], at: usize) -> Result<PortName<'_>, Errno> {
    let (base, rest) = name.split_at_checked(at).ok_or(Errno::EINVAL)?;
    let (brace, id) = rest.split_first().ok_or(Errno::EINVAL)?;
    if base.is_empty() || id.is_empty() || !is_id(id) {
        return Err(Errno::EINVAL);
    }
    let end = match brace {
        b'{' => PipeEnd::Master,
        _ => PipeEnd::Slave,
    };
    Ok(PortName::Pipe { base, id, end })
}

fn member(full: &[u8], colon: usize) -> Result<PortName<'_>, Errno> {
    let (bridge, rest) = full.split_at_checked(colon).ok_or(Errno::ENXIO)?;
    let (_, member) = rest.split_first().ok_or(Errno::ENXIO)?;
    let parts = Member {
        full,
        bridge,
        member,
    };
    // A bridge that begins with none of the prefixes cannot exist.
    let (id, kind) = if let Some(id) = bridge.strip_prefix(b"pst") {
        (id, PortName::Stack(parts))
    } else if let Some(id) = bridge.strip_prefix(b"vale") {
        (id, PortName::Vale(parts))
    } else if let Some(id) = bridge.strip_prefix(b"stack") {
        (id, PortName::LegacyStack(parts))
    } else {
        return Err(Errno::ENXIO);
    };
    if !is_id(id) || bridge.len() > IFNAME_MAX || member.is_empty() {
        return Err(Errno::EINVAL);
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::super::abi::{NR_EXCLUSIVE, NR_REG_ALL_NIC};
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    fn nr_name(text: &str) -> [u8; NETMAP_REQ_IFNAMSIZ] {
        let mut out = [0; NETMAP_REQ_IFNAMSIZ];
        out[..text.len()].copy_from_slice(text.as_bytes());
        out
    }

    fn parts<'a>(full: &'a str, bridge: &'a str, member: &'a str) -> Member<'a> {
        Member {
            full: full.as_bytes(),
            bridge: bridge.as_bytes(),
            member: member.as_bytes(),
        }
    }

    #[test]
    fn each_kind_of_name_is_recognised() {
        use PortName::*;
        for (text, want) in [
            ("", Empty),
            ("eth0", Netdev(b"eth0")),
            ("pst0", Netdev(b"pst0")),
            ("valence", Netdev(b"valence")),
            ("enp0s31f6abcdef", Netdev(b"enp0s31f6abcdef")),
            ("pst:0", Stack(parts("pst:0", "pst", "0"))),
            ("pst:eth0", Stack(parts("pst:eth0", "pst", "eth0"))),
            ("pst1:eth0", Stack(parts("pst1:eth0", "pst1", "eth0"))),
            ("vale0:a", Vale(parts("vale0:a", "vale0", "a"))),
            ("stack:em0", LegacyStack(parts("stack:em0", "stack", "em0"))),
            (
                "eth0{1",
                Pipe {
                    base: b"eth0",
                    id: b"1",
                    end: PipeEnd::Master,
                },
            ),
            (
                "vale0:a}x_1",
                Pipe {
                    base: b"vale0:a",
                    id: b"x_1",
                    end: PipeEnd::Slave,
                },
            ),
        ] {
            assert_eq!(
                classify(&nr_name(text), NR_REG_ALL_NIC, 0),
                Ok(want),
                "{text}"
            );
        }
    }

    #[test]
    fn names_that_nothing_can_have_are_refused() {
        for (text, want) in [
            ("abcdefghijklmnop", Errno::ENXIO),
            ("eth0:1", Errno::ENXIO),
            (":0", Errno::ENXIO),
            ("ps:0", Errno::ENXIO),
            ("pst:", Errno::EINVAL),
            ("pst-1:0", Errno::EINVAL),
            ("vale0123456789ab:0", Errno::EINVAL),
            ("{1", Errno::EINVAL),
            ("eth0{", Errno::EINVAL),
            ("eth0{1{2", Errno::EINVAL),
            ("eth0}a-b", Errno::EINVAL),
        ] {
            assert_eq!(
                classify(&nr_name(text), NR_REG_ALL_NIC, 0),
                Err(want),
                "{text}"
            );
        }
    }

    #[test]
    fn mode_and_flags_come_before_the_name() {
        let name = nr_name("pst:0");
        assert_eq!(
            classify(&name, NR_REG_NULL, 0),
            Ok(PortName::Null(b"pst:0"))
        );
        for flags in [NR_MONITOR_TX, NR_MONITOR_RX, NR_ZCOPY_MON] {
            let got = classify(&name, NR_REG_ALL_NIC, flags);
            assert_eq!(got, Ok(PortName::Monitor(b"pst:0")));
        }
        let plain = classify(&name, NR_REG_ALL_NIC, NR_EXCLUSIVE);
        assert!(matches!(plain, Ok(PortName::Stack(_))));
    }

    #[test]
    fn a_field_without_nul_is_refused() {
        assert_eq!(field(&[b'a'; NETMAP_REQ_IFNAMSIZ]), Err(Errno::EINVAL));
        let mut longest = [b'a'; NETMAP_REQ_IFNAMSIZ];
        longest[63] = 0;
        assert_eq!(field(&longest).map(<[u8]>::len), Ok(63));
    }

    #[test]
    fn an_interface_name_has_room_for_its_nul() {
        assert_eq!(
            if_name(b"eth0").map(|n| n[..5].to_vec()),
            Ok(b"eth0\0".to_vec())
        );
        assert!(if_name(&[b'a'; 15]).is_ok());
        assert_eq!(if_name(&[b'a'; 16]), Err(Errno::EINVAL));
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn any_bytes_get_an_answer(
            bytes in proptest::collection::vec(any::<u8>(), NETMAP_REQ_IFNAMSIZ),
            mode in 0u32..10, flags: u64,
        ) {
            let bytes: [u8; NETMAP_REQ_IFNAMSIZ] = bytes.try_into().unwrap();
            if let Ok(PortName::Netdev(name)) = classify(&bytes, mode, flags) {
                prop_assert!(!name.is_empty() && name.len() <= IFNAME_MAX && !name.contains(&b':'));
            }
        }

        #[test]
        fn a_member_name_is_put_together_from_its_parts(text in "(pst|vale|stack)[a-z0-9_]{0,4}:[a-z0-9]{1,20}") {
            let name = nr_name(&text);
            let got = classify(&name, NR_REG_ALL_NIC, 0);
            let Ok(PortName::Stack(m) | PortName::Vale(m) | PortName::LegacyStack(m)) = got else {
                return Err(TestCaseError::fail(format!("{got:?}")));
            };
            prop_assert_eq!([m.bridge, b":", m.member].concat(), m.full);
            prop_assert_eq!(m.full, text.as_bytes());
        }
    }
}
