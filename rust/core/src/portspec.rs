// SPDX-License-Identifier: GPL-2.0
//! Port names as users write them, turned into what a registration needs.
//!
//! ```text
//! spec    = ("netmap:" NAME | "vale" [ID] ":" NAME | "pst" [ID] ":" NAME) [pipe] [rings]
//!           ["/" flags] {"@" N} {"@" option}
//! pipe    = "{" ID | "}" ID
//! rings   = "-" N    NIC ring pair N        "*"    NIC and host rings
//!         | "^"      host rings             "^" N  host ring pair N
//! flags   = x exclusive, z zero-copy monitor, t/r monitor what is sent/received,
//!           T/R bind only transmit/receive rings, V accept a header before frames
//! option  = "share:port=" P
//!         | "extmem:file=" F {",if-num=" ...} | "conf:rings=" N {"," ...} | "offset:initial=" ...
//! ```
//!
//! This is the grammar of user space; the kernel sees only what [`PortSpec::name`] holds.

use super::abi::{
    NR_ACCEPT_VNET_HDR, NR_EXCLUSIVE, NR_MONITOR_RX, NR_MONITOR_TX, NR_REG_ALL_NIC, NR_REG_NIC_SW,
    NR_REG_ONE_NIC, NR_REG_ONE_SW, NR_REG_SW, NR_RX_RINGS_ONLY, NR_TX_RINGS_ONLY, NR_ZCOPY_MON,
};
use super::layout::PoolParams;

/// Largest ring number.
const MAX_RING: u32 = 0xfff;
/// Longest name, bytes without the NUL.
const NAME_MAX: usize = 63;

/// What is wrong with a name, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Byte offset in the text.
    pub at: usize,
    /// What was expected, or is wrong.
    pub what: &'static str,
}

impl core::fmt::Display for SpecError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} at character {}", self.what, self.at)
    }
}

impl core::error::Error for SpecError {}

/// Option `@extmem`: buffers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtmemSpec<'a> {
    /// Path of the file.
    pub file: &'a str,
    /// Pools asked for; 0 stands for the default.
    pub pools: PoolParams,
}

/// Option `@conf`: shape of the port; 0 stands for the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfSpec {
    /// Transmit rings.
    pub tx_rings: u16,
    /// Receive rings.
    pub rx_rings: u16,
    /// Host transmit rings.
    pub host_tx_rings: u16,
    /// Host receive rings.
    pub host_rx_rings: u16,
    /// Slots of a transmit ring.
    pub tx_slots: u32,
    /// Slots of a receive ring.
    pub rx_slots: u32,
}

/// Option `@offset`: frames begin inside the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetSpec {
    /// Offset of fresh slots, bytes.
    pub initial: u64,
    /// Bits of `slot.ptr` that hold it, 0 for the default.
    pub bits: u32,
}

/// A parsed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec<'a> {
    /// Name for the kernel: without `netmap:`, with the part for a pipe.
    pub name: &'a str,
    /// `NR_REG_*`.
    pub mode: u32,
    /// Ring in the one-ring modes.
    pub ringid: u16,
    /// `NR_*` of registrations.
    pub flags: u64,
    /// Memory allocator, 0 for the default.
    pub mem_id: u16,
    /// Port whose memory is to be used (`@share`).
    pub share: Option<&'a str>,
    /// Buffers in a file.
    pub extmem: Option<ExtmemSpec<'a>>,
    /// Shape of the port.
    pub conf: ConfSpec,
    /// Offsets; programs that do not expect them should refuse this.
    pub offset: Option<OffsetSpec>,
}

/// The text not read yet, and where it begins.
#[derive(Clone, Copy)]
struct Input<'a> {
    rest: &'a str,
    at: usize,
}

impl<'a> Input<'a> {
    fn error<T>(&self, what: &'static str) -> Result<T, SpecError> {
        Err(SpecError { at: self.at, what })
    }

    /// Takes the first `len` bytes, or all if there are fewer or a character would be cut.
    fn take(&mut self, len: usize) -> &'a str {
        let (head, tail) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = tail;
        self.at = self.at.saturating_add(head.len());
        head
    }

    /// Takes the characters before the first one in `stop`.
    fn until(&mut self, stop: &[char]) -> &'a str {
        self.take(self.rest.find(stop).unwrap_or(self.rest.len()))
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.take(text.len());
        }
        found
    }

    /// Takes decimal digits as a number of at most `max`.
    fn number(&mut self, max: u32) -> Result<u32, SpecError> {
        let begin = *self;
        let is_digit = |c: char| c.is_ascii_digit();
        let len = self.rest.find(|c| !is_digit(c)).unwrap_or(self.rest.len());
        match self.take(len).parse() {
            Ok(number) if number <= max => Ok(number),
            Ok(_) => begin.error("number too large"),
            Err(_) => begin.error("number expected"),
        }
    }

    fn starts_with_digit(&self) -> bool {
        self.rest.starts_with(|c: char| c.is_ascii_digit())
    }
}

fn is_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl<'a> PortSpec<'a> {
    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// What is wrong first.
    pub fn parse(text: &'a str) -> Result<PortSpec<'a>, SpecError> {
        let mut input = Input { rest: text, at: 0 };
        let mut spec = PortSpec {
            name: parse_name(&mut input)?,
            mode: NR_REG_ALL_NIC,
            ringid: 0,
            flags: 0,
            mem_id: 0,
            share: None,
            extmem: None,
            conf: ConfSpec::default(),
            offset: None,
        };
        spec.parse_rings(&mut input)?;
        if input.eat("/") {
            spec.parse_flags(&mut input)?;
        }
        while input.eat("@") {
            if input.starts_with_digit() {
                spec.parse_mem_id(&mut input)?;
            } else {
                spec.parse_option(&mut input)?;
            }
        }
        if !input.rest.is_empty() {
            return input.error("unexpected character");
        }
        Ok(spec)
    }

    fn parse_rings(&mut self, input: &mut Input<'a>) -> Result<(), SpecError> {
        let mut one = None;
        if input.eat("-") {
            one = Some(NR_REG_ONE_NIC);
        } else if input.eat("*") {
            self.mode = NR_REG_NIC_SW;
        } else if input.eat("^") {
            self.mode = NR_REG_SW;
            if input.starts_with_digit() {
                one = Some(NR_REG_ONE_SW);
            }
        }
        if let Some(mode) = one {
            self.mode = mode;
            let begin = *input;
            self.ringid = u16::try_from(input.number(MAX_RING)?)
                .or_else(|_| begin.error("number too large"))?;
        }
        Ok(())
    }

    fn parse_flags(&mut self, input: &mut Input<'a>) -> Result<(), SpecError> {
        let mut begin = *input;
        let letters = input.until(&['@']);
        for letter in letters.chars() {
            self.flags |= match letter {
                'x' => NR_EXCLUSIVE,
                'z' => NR_ZCOPY_MON,
                't' => NR_MONITOR_TX,
                'r' => NR_MONITOR_RX,
                'T' => NR_TX_RINGS_ONLY,
                'R' => NR_RX_RINGS_ONLY,
                'V' => NR_ACCEPT_VNET_HDR,
                _ => return begin.error("unknown flag"),
            };
            begin.take(letter.len_utf8());
        }
        Ok(())
    }

    fn parse_mem_id(&mut self, input: &mut Input<'a>) -> Result<(), SpecError> {
        let begin = *input;
        let id = input.number(u32::from(u16::MAX))?;
        let id = u16::try_from(id).or_else(|_| begin.error("number too large"))?;
        if self.mem_id != 0 && self.mem_id != id {
            return begin.error("another memory id than before");
        }
        self.mem_id = id;
        Ok(())
    }

    fn parse_option(&mut self, input: &mut Input<'a>) -> Result<(), SpecError> {
        let begin = *input;
        let option = input.until(&[':', '@']);
        if !input.eat(":") {
            return begin.error("memory id or option expected");
        }
        let mut pairs = Pairs {
            input: Input {
                at: input.at,
                rest: input.until(&['@']),
            },
        };
        match option {
            "share" => self.parse_share(&mut pairs),
            "extmem" => self.parse_extmem(&mut pairs),
            "conf" => self.parse_conf(&mut pairs),
            "offset" => self.parse_offset(&mut pairs),
            _ => begin.error("unknown option"),
        }
    }

    fn parse_share(&mut self, pairs: &mut Pairs<'a>) -> Result<(), SpecError> {
        let begin = pairs.input;
        while let Some(pair) = pairs.next()? {
            match pair.key {
                "port" | "" => self.share = Some(pair.value.rest),
                _ => return pair.unknown(),
            }
        }
        match self.share {
            Some(port) if !port.is_empty() => Ok(()),
            _ => begin.error("port expected"),
        }
    }

    fn parse_extmem(&mut self, pairs: &mut Pairs<'a>) -> Result<(), SpecError> {
        let begin = pairs.input;
        let mut extmem = ExtmemSpec {
            file: "",
            pools: PoolParams::default(),
        };
        while let Some(pair) = pairs.next()? {
            let pools = &mut extmem.pools;
            match pair.key {
                "file" | "" => extmem.file = pair.value.rest,
                "if-num" => pools.ifs.num = pair.number()?,
                "if-size" => pools.ifs.size = pair.number()?,
                "ring-num" => pools.rings.num = pair.number()?,
                "ring-size" => pools.rings.size = pair.number()?,
                "buf-num" => pools.bufs.num = pair.number()?,
                "buf-size" => pools.bufs.size = pair.number()?,
                _ => return pair.unknown(),
            }
        }
        if extmem.file.is_empty() {
            return begin.error("file expected");
        }
        self.extmem = Some(extmem);
        Ok(())
    }

    fn parse_conf(&mut self, pairs: &mut Pairs<'a>) -> Result<(), SpecError> {
        while let Some(pair) = pairs.next()? {
            let conf = &mut self.conf;
            match pair.key {
                "rings" => {
                    conf.tx_rings = pair.number_u16()?;
                    conf.rx_rings = conf.tx_rings;
                }
                "host-rings" => {
                    conf.host_tx_rings = pair.number_u16()?;
                    conf.host_rx_rings = conf.host_tx_rings;
                }
                "slots" => {
                    conf.tx_slots = pair.number()?;
                    conf.rx_slots = conf.tx_slots;
                }
                "tx-rings" => conf.tx_rings = pair.number_u16()?,
                "rx-rings" => conf.rx_rings = pair.number_u16()?,
                "host-tx-rings" => conf.host_tx_rings = pair.number_u16()?,
                "host-rx-rings" => conf.host_rx_rings = pair.number_u16()?,
                "tx-slots" => conf.tx_slots = pair.number()?,
                "rx-slots" => conf.rx_slots = pair.number()?,
                _ => return pair.unknown(),
            }
        }
        Ok(())
    }

    fn parse_offset(&mut self, pairs: &mut Pairs<'a>) -> Result<(), SpecError> {
        let mut offset = OffsetSpec::default();
        while let Some(pair) = pairs.next()? {
            match pair.key {
                "initial" | "" => offset.initial = u64::from(pair.number()?),
                "bits" => offset.bits = pair.number()?,
                _ => return pair.unknown(),
            }
        }
        self.offset = Some(offset);
        Ok(())
    }
}

/// Takes the name: what is before the first of `-*^/@`, or a pipe's id.
fn parse_name<'a>(input: &mut Input<'a>) -> Result<&'a str, SpecError> {
    let stop = ['-', '*', '^', '/', '@', '{', '}'];
    let whole = *input;
    let prefix = input.until(&[':']);
    let bridge = prefix
        .strip_prefix("vale")
        .or_else(|| prefix.strip_prefix("pst"));
    if !input.eat(":") || !(prefix == "netmap" || bridge.is_some_and(is_id)) {
        return whole.error("netmap:, vale[ID]: or pst[ID]: expected");
    }
    // The kernel knows bridge names with their prefix, and NICs without.
    let mut name = if bridge.is_some() { whole } else { *input };
    let first = name.at;
    if input.until(&stop).is_empty() {
        return input.error("port expected");
    }
    if input.eat("{") || input.eat("}") {
        let id = *input;
        if input.until(&stop).is_empty() {
            return id.error("pipe id expected");
        }
        let mut id_only = id;
        if !is_id(id_only.take(input.at.saturating_sub(id.at))) {
            return id.error("letters, digits or _ expected");
        }
        if input.rest.starts_with(['{', '}']) {
            return input.error("second pipe");
        }
    }
    let name = name.take(input.at.saturating_sub(first));
    if name.len() > NAME_MAX {
        return whole.error("name too long");
    }
    Ok(name)
}

/// `key=value` pairs with commas between them. A value without a key has the key "".
struct Pairs<'a> {
    input: Input<'a>,
}

struct Pair<'a> {
    key: &'a str,
    at: usize,
    value: Input<'a>,
}

impl<'a> Pairs<'a> {
    fn next(&mut self) -> Result<Option<Pair<'a>>, SpecError> {
        if self.input.rest.is_empty() {
            return Ok(None);
        }
        let at = self.input.at;
        let mut value = Input {
            at,
            rest: self.input.until(&[',']),
        };
        if self.input.eat(",") && self.input.rest.is_empty() {
            return self.input.error("key expected");
        }
        let key = if value.rest.contains('=') {
            value.until(&['='])
        } else {
            ""
        };
        value.eat("=");
        Ok(Some(Pair { key, at, value }))
    }
}

impl Pair<'_> {
    fn number(&self) -> Result<u32, SpecError> {
        let mut value = self.value;
        let number = value.number(u32::MAX)?;
        if !value.rest.is_empty() {
            return value.error("unexpected character");
        }
        Ok(number)
    }

    fn number_u16(&self) -> Result<u16, SpecError> {
        u16::try_from(self.number()?).or_else(|_| self.value.error("number too large"))
    }

    fn unknown<T>(&self) -> Result<T, SpecError> {
        Err(SpecError {
            at: self.at,
            what: "unknown key",
        })
    }
}

#[cfg(test)]
#[path = "portspec_tests.rs"]
mod tests;
