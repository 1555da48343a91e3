// SPDX-License-Identifier: GPL-2.0
//! The table of the ABI, `abi.table`, read into maps. The comparison itself is
//! in `compare.rs`: with the C headers, the user library and the kernel's core.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// Layout of one structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// `sizeof`.
    pub size: usize,
    /// Field name to (offset, size).
    pub fields: BTreeMap<String, (usize, usize)>,
}

/// The whole table.
#[derive(Debug, Default)]
pub struct Abi {
    /// By C name.
    pub structs: BTreeMap<String, Layout>,
    /// By C name.
    pub numbers: BTreeMap<String, u64>,
}

/// A decimal number, or a hexadecimal one with 0x.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Abi {
    /// Read a table; `None` says that a line is malformed or doubled.
    pub fn parse(table: &str) -> Option<Abi> {
        let mut abi = Abi::default();
        let mut current = String::new();
        for line in table.lines().filter(|l| !l.starts_with('#')) {
            let mut words = line.split_whitespace();
            match words.next() {
                None => {}
                Some("struct") => {
                    current = words.next()?.to_string();
                    let size = words.next()?.parse().ok()?;
                    let layout = Layout {
                        size,
                        ..Layout::default()
                    };
                    if abi.structs.insert(current.clone(), layout).is_some() {
                        return None;
                    }
                }
                Some("number") => {
                    let name = words.next()?.to_string();
                    if abi.numbers.insert(name, number(words.next()?)?).is_some() {
                        return None;
                    }
                }
                Some(_) => {
                    let fields = &mut abi.structs.get_mut(&current)?.fields;
                    for field in line.split_whitespace() {
                        let (name, place) = field.split_once('@')?;
                        let (offset, size) = place.split_once(':')?;
                        let place = (offset.parse().ok()?, size.parse().ok()?);
                        if fields.insert(name.to_string(), place).is_some() {
                            return None;
                        }
                    }
                }
            }
        }
        Some(abi)
    }
}
