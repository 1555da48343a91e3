// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space of a device: header, MSI-X and PCI Express capabilities.

use crate::device::Identity;

/// Bytes of configuration space of a PCI Express device.
pub const SIZE: usize = 4096;

/// Offset of the MSI-X capability. As on the real cards, where drivers do not look for it.
const MSIX: usize = 0x70;

/// Offset of the PCI Express capability. ixgbe reads its status words without looking for it.
const EXPRESS: usize = 0xa0;

/// Configuration space. QEMU emulates the BARs and the MSI-X table itself and passes the rest on.
pub struct Config {
    bytes: Vec<u8>,
    /// Bits that may be written.
    mask: Vec<u8>,
}

impl Config {
    /// Configuration space after power-on.
    pub fn new(identity: &Identity) -> Self {
        let mut made = Config {
            bytes: vec![0; SIZE],
            mask: vec![0; SIZE],
        };
        made.word(0x00, identity.vendor);
        made.word(0x02, identity.device);
        // Memory space, bus master, parity, SERR, no INTx.
        made.writable(0x04, &[0x46, 0x05]);
        // There is a list of capabilities.
        made.word(0x06, 0x0010);
        made.byte(0x08, identity.revision);
        // Ethernet controller.
        made.word(0x0a, 0x0200);
        made.writable(0x0c, &[0xff]);
        for bar in &identity.bars {
            let flags = if bar.wide { 4 } else { 0 } | if bar.prefetchable { 8 } else { 0 };
            let at = 0x10 + 4 * usize::from(bar.index);
            made.byte(at, flags);
            let size = (!(bar.size - 1)).to_le_bytes();
            made.writable(at, if bar.wide { &size } else { &size[..4] });
        }
        made.word(0x2c, identity.subsystem.0);
        made.word(0x2e, identity.subsystem.1);
        made.byte(0x34, MSIX as u8);
        made.writable(0x3c, &[0xff]);

        made.byte(MSIX, 0x11);
        made.byte(MSIX + 1, EXPRESS as u8);
        made.word(MSIX + 2, identity.vectors - 1);
        made.writable(MSIX + 2, &[0, 0xc0]);
        made.dword(MSIX + 4, u32::from(identity.msix_bar));
        made.dword(MSIX + 8, identity.pending | u32::from(identity.msix_bar));

        made.byte(EXPRESS, 0x10);
        // Version 2, endpoint.
        made.word(EXPRESS + 0x02, 0x0002);
        // Payloads up to 512 bytes; function-level reset.
        made.dword(EXPRESS + 0x04, 0x1000_8002);
        made.word(EXPRESS + 0x08, 0x2810);
        made.writable(EXPRESS + 0x08, &[0xff, 0x7f]);
        // Link: up to 8 GT/s and 8 lanes, and that is what it has.
        made.dword(EXPRESS + 0x0c, 0x0000_0083);
        made.writable(EXPRESS + 0x10, &[0xc3, 0x0f]);
        made.word(EXPRESS + 0x12, 0x1083);
        made.dword(EXPRESS + 0x2c, 0x0000_000e);
        made.writable(EXPRESS + 0x28, &[0x1f, 0x04]);
        made.writable(EXPRESS + 0x30, &[0x0f, 0x00]);
        made
    }

    fn byte(&mut self, at: usize, value: u8) {
        self.place(at, &[value]);
    }

    fn word(&mut self, at: usize, value: u16) {
        self.place(at, &value.to_le_bytes());
    }

    fn dword(&mut self, at: usize, value: u32) {
        self.place(at, &value.to_le_bytes());
    }

    fn place(&mut self, at: usize, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(value) {
            *to = *from;
        }
    }

    fn writable(&mut self, at: usize, bits: &[u8]) {
        for (to, from) in self.mask.iter_mut().skip(at).zip(bits) {
            *to = *from;
        }
    }

    /// Reads; 0 beyond the end.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(offset + at).copied().unwrap_or(0);
        }
    }

    /// Writes what may be written. True: the write asks for a function-level reset.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> bool {
        for (at, byte) in data.iter().enumerate() {
            if let (Some(to), Some(mask)) =
                (self.bytes.get_mut(offset + at), self.mask.get(offset + at))
            {
                *to = *to & !mask | byte & mask;
            }
        }
        let high = EXPRESS + 9;
        high.checked_sub(offset)
            .and_then(|at| data.get(at))
            .is_some_and(|byte| byte & 0x80 != 0)
    }

    /// Whether the driver lets the device reach memory.
    pub fn master(&self) -> bool {
        self.bytes.get(4).is_some_and(|byte| byte & 4 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Bar;

    fn sample() -> Config {
        Config::new(&Identity {
            vendor: 0x8086,
            device: 0x10fb,
            subsystem: (0x8086, 3),
            revision: 1,
            bars: vec![Bar {
                index: 0,
                size: 0x80000,
                wide: true,
                prefetchable: false,
            }],
            vectors: 64,
            msix_bar: 4,
            pending: 0x2000,
        })
    }

    #[test]
    fn capabilities_form_a_list_that_ends() {
        let config = sample();
        let mut at = [0];
        let mut found = Vec::new();
        config.read(0x34, &mut at);
        while at[0] != 0 {
            let mut head = [0; 2];
            config.read(usize::from(at[0]), &mut head);
            found.push(head[0]);
            at[0] = head[1];
        }
        assert_eq!(found, [0x11, 0x10]);
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut config = sample();
        assert!(!config.write(0, &[0xff; 4]));
        let mut id = [0; 4];
        config.read(0, &mut id);
        assert_eq!(id, [0x86, 0x80, 0xfb, 0x10]);
    }

    #[test]
    fn function_level_reset_is_noticed() {
        let mut config = sample();
        assert!(!config.write(0xa8, &[0x10, 0x28]));
        assert!(config.write(0xa8, &[0x10, 0xa8]));
        assert!(!config.master());
        assert!(!config.write(4, &[6, 0]));
        assert!(config.master());
    }
}
