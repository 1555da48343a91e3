// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Port names as programs write them: `netmap:eth0-1/x`, `pst:0`, `vale1:a`.

use crate::abi::{
    NETMAP_REQ_IFNAMSIZ, NR_EXCLUSIVE, NR_MONITOR_RX, NR_MONITOR_TX, NR_REG_ALL_NIC, NR_REG_NIC_SW,
    NR_REG_ONE_NIC, NR_REG_ONE_SW, NR_REG_SW, NR_RX_RINGS_ONLY, NR_TX_RINGS_ONLY, NR_ZCOPY_MON,
};

/// A port name taken apart.
///
/// ```text
/// netmap:PORT | vale[ID]:PORT | pst[ID]:PORT   the kind and the port
///   -N  *  ^  ^N                               ring N, host too, host only
///   /flags                                     x z t r T R
///   @N                                         memory id
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    /// What the kernel gets: without `netmap:`, with `vale1:` or `pst:`.
    pub kernel: String,
    /// `NR_REG_*`.
    pub mode: u32,
    /// Ring number of the modes that bind one ring.
    pub ring: u16,
    /// `NR_*` bits.
    pub flags: u64,
    /// Memory id, 0 for any.
    pub mem_id: u16,
}

/// Why a port name cannot be read: the part that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad port name: {}", self.0)
    }
}

impl std::error::Error for NameError {}

impl std::str::FromStr for PortName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PortName, NameError> {
        let kernel_part = match text.split_once(':') {
            Some(("netmap", rest)) => rest,
            Some((kind, _)) if kind.starts_with("vale") || kind.starts_with("pst") => text,
            _ => return Err(NameError(format!("'{text}' is of no known kind"))),
        };
        let end = kernel_part
            .find(['-', '*', '^', '/', '@'])
            .unwrap_or(kernel_part.len());
        let (name, mut rest) = kernel_part.split_at(end);
        if name.is_empty() || name.ends_with(':') || name.len() >= NETMAP_REQ_IFNAMSIZ {
            return Err(NameError(format!("length of '{name}'")));
        }
        let mut port = PortName {
            kernel: name.to_string(),
            mode: NR_REG_ALL_NIC,
            ring: 0,
            flags: 0,
            mem_id: 0,
        };
        if let Some(after) = rest.strip_prefix('-') {
            port.mode = NR_REG_ONE_NIC;
            (port.ring, rest) = number(after)?;
        } else if let Some(after) = rest.strip_prefix('*') {
            port.mode = NR_REG_NIC_SW;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('^') {
            port.mode = NR_REG_SW;
            rest = after;
            if after.starts_with(|c: char| c.is_ascii_digit()) {
                port.mode = NR_REG_ONE_SW;
                (port.ring, rest) = number(after)?;
            }
        }
        if let Some(after) = rest.strip_prefix('/') {
            let letters = after.split('@').next().unwrap_or(after);
            for letter in letters.chars() {
                port.flags |= match letter {
                    'x' => NR_EXCLUSIVE,
                    'z' => NR_ZCOPY_MON,
                    't' => NR_MONITOR_TX,
                    'r' => NR_MONITOR_RX,
                    'T' => NR_TX_RINGS_ONLY,
                    'R' => NR_RX_RINGS_ONLY,
                    _ => return Err(NameError(format!("flag '{letter}'"))),
                };
            }
            rest = &after[letters.len()..];
        }
        if let Some(after) = rest.strip_prefix('@') {
            (port.mem_id, rest) = number(after)?;
        }
        if !rest.is_empty() {
            return Err(NameError(format!("'{rest}'")));
        }
        Ok(port)
    }
}

/// The number at the start of `text`, and what follows it.
fn number(text: &str) -> Result<(u16, &str), NameError> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    match digits.parse() {
        Ok(n) => Ok((n, rest)),
        Err(_) => Err(NameError(format!("'{digits}' is no number up to 65535"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, u32, u16, u64, u16) {
        let p: PortName = text.parse().unwrap();
        (p.kernel, p.mode, p.ring, p.flags, p.mem_id)
    }

    #[test]
    fn suffixes_choose_mode_ring_flags_and_memory() {
        assert_eq!(read("netmap:eth0"), ("eth0".into(), 1, 0, 0, 0));
        assert_eq!(read("pst:0"), ("pst:0".into(), 1, 0, 0, 0));
        assert_eq!(read("pst:0-3"), ("pst:0".into(), 4, 3, 0, 0));
        assert_eq!(read("vale1:a*"), ("vale1:a".into(), 3, 0, 0, 0));
        assert_eq!(read("netmap:eth0^"), ("eth0".into(), 2, 0, 0, 0));
        assert_eq!(read("netmap:eth0^2"), ("eth0".into(), 8, 2, 0, 0));
        assert_eq!(read("netmap:e-1/xR@7"), ("e".into(), 4, 1, 0x2800, 7));
    }

    #[test]
    fn malformed_names_are_refused() {
        let long = format!("netmap:{}", "a".repeat(64));
        for bad in [
            "eth0",
            "netmap:",
            "pst:",
            "tap:x",
            "netmap:e-",
            "netmap:e-x",
            "netmap:e/q",
            &long,
        ] {
            assert!(bad.parse::<PortName>().is_err(), "{bad}");
        }
        assert!("netmap:e@1x".parse::<PortName>().is_err());
        assert!("netmap:e-70000".parse::<PortName>().is_err());
    }
}
