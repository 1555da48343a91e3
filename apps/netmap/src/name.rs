// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Port names as programs write them: `netmap:eth0-1/x`, `pst:0`, `vale1:a`.

use crate::abi::{
    NETMAP_REQ_IFNAMSIZ, NR_EXCLUSIVE, NR_MONITOR_RX, NR_MONITOR_TX, NR_REG_ALL_NIC, NR_REG_NIC_SW,
    NR_REG_ONE_NIC, NR_REG_ONE_SW, NR_REG_SW, NR_RX_RINGS_ONLY, NR_TX_RINGS_ONLY, NR_ZCOPY_MON,
};
use crate::format::PoolParams;

/// A port name taken apart.
///
/// ```text
/// netmap:PORT | vale[ID]:PORT | pst[ID]:PORT   the kind and the port
///   -N  *  ^  ^N                               ring N, host too, host only
///   /flags                                     x z t r T R
///   @N                                         memory id
///   @extmem:file=F,if-num=N,...                buffers in a file, see [`Extmem`]
///   @conf:rings=N,slots=N                      shape of a port that is not open
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
    /// Memory for the port's pools.
    pub extmem: Option<Extmem>,
    /// Rings in each direction, 0 for the default.
    pub rings: u16,
    /// Slots of each, 0 for the default.
    pub slots: u32,
}

/// A file that a port's pools are built in, which exists and has its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extmem {
    /// `file`; without `,` and `@`.
    pub file: String,
    /// `if-num`, `if-size`, `ring-num`, `ring-size`, `buf-num`, `buf-size`.
    pub params: PoolParams,
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
            extmem: None,
            rings: 0,
            slots: 0,
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
        while let Some(after) = rest.strip_prefix('@') {
            let end = after.find('@').unwrap_or(after.len());
            if let Some(options) = after[..end].strip_prefix("extmem:") {
                port.extmem = Some(extmem(options)?);
                rest = &after[end..];
            } else if let Some(options) = after[..end].strip_prefix("conf:") {
                for (key, value) in pairs(options)? {
                    match key {
                        "rings" => port.rings = whole(value)?,
                        "slots" => port.slots = whole(value)?,
                        _ => return Err(NameError(format!("'{key}'"))),
                    }
                }
                rest = &after[end..];
            } else {
                (port.mem_id, rest) = number(after)?;
            }
        }
        if !rest.is_empty() {
            return Err(NameError(format!("'{rest}'")));
        }
        Ok(port)
    }
}

/// The parameters of `@extmem`.
fn extmem(options: &str) -> Result<Extmem, NameError> {
    let mut extmem = Extmem::default();
    let params = &mut extmem.params;
    for (key, value) in pairs(options)? {
        match key {
            "file" => extmem.file = value.to_string(),
            "if-num" => params.if_num = whole(value)?,
            "if-size" => params.if_size = whole(value)?,
            "ring-num" => params.ring_num = whole(value)?,
            "ring-size" => params.ring_size = whole(value)?,
            "buf-num" => params.buf_num = whole(value)?,
            "buf-size" => params.buf_size = whole(value)?,
            _ => return Err(NameError(format!("'{key}'"))),
        }
    }
    if extmem.file.is_empty() {
        return Err(NameError("no file".to_string()));
    }
    Ok(extmem)
}

/// `KEY=VALUE,...`
fn pairs(options: &str) -> Result<Vec<(&str, &str)>, NameError> {
    let pair = |text: &'_ str| NameError(format!("'{text}' is no KEY=VALUE"));
    options
        .split(',')
        .map(|text| text.split_once('=').ok_or_else(|| pair(text)))
        .collect()
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, NameError> {
    text.parse()
        .map_err(|_| NameError(format!("'{text}' is no number, or too large")))
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
    fn memory_and_shape_follow_the_name() {
        let name = "pst:0-1@extmem:file=/mnt/pm/pool,if-num=4,buf-size=4096@conf:rings=2,slots=512";
        let port: PortName = name.parse().unwrap();
        assert_eq!((port.mode, port.ring), (4, 1));
        assert_eq!((port.rings, port.slots), (2, 512));
        let extmem = port.extmem.unwrap();
        assert_eq!(extmem.file, "/mnt/pm/pool");
        assert_eq!((extmem.params.if_num, extmem.params.buf_size), (4, 4096));
        for bad in [
            "pst:0@extmem:if-num=4",
            "pst:0@extmem:file=",
            "pst:0@extmem:file=x,if-num=-1",
            "pst:0@extmem:file=x,if_num=1",
            "pst:0@conf:rings=70000",
            "pst:0@conf:",
            "pst:0@",
        ] {
            assert!(bad.parse::<PortName>().is_err(), "{bad}");
        }
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
