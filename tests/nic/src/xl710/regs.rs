// SPDX-License-Identifier: GPL-2.0

//! The registers that the model knows, and the memory behind them ("Intel Ethernet Controller
//! X710/XXV710/XL710 Datasheet", section 10). All others are plain memory.

/// Bytes of BAR 0.
pub const BAR_SIZE: usize = 4 << 20;

// Admin queues.
pub const ATQBAL: u32 = 0x8_0000;
pub const ARQBAL: u32 = 0x8_0080;
pub const ATQBAH: u32 = 0x8_0100;
pub const ARQBAH: u32 = 0x8_0180;
pub const ATQLEN: u32 = 0x8_0200;
pub const ARQLEN: u32 = 0x8_0280;
pub const ATQH: u32 = 0x8_0300;
pub const ARQH: u32 = 0x8_0380;
pub const ATQT: u32 = 0x8_0400;
pub const ARQT: u32 = 0x8_0480;
/// Enable bit of ATQLEN and ARQLEN.
pub const AQ_ENABLE: u32 = 1 << 31;

// Resets and the state of the device.
pub const PFGEN_CTRL: u32 = 0x9_2400;
pub const GLGEN_RSTAT: u32 = 0xb_8188;
pub const GLGEN_RSTCTL: u32 = 0xb_8180;
pub const GLGEN_RTRIG: u32 = 0xb_8190;
pub const PRTGEN_CNF: u32 = 0xb_8120;
pub const GLVFGEN_TIMER: u32 = 0x8_81bc;

// Non-volatile memory.
pub const GLNVM_ULD: u32 = 0xb_6008;
pub const GLNVM_GENS: u32 = 0xb_6100;
pub const GLNVM_FLA: u32 = 0xb_6108;
pub const GLNVM_SRCTL: u32 = 0xb_6110;
pub const GLNVM_SRDATA: u32 = 0xb_6114;

// What the function has.
pub const GLPCI_CNF2: u32 = 0xb_e494;
pub const PFLAN_QALLOC: u32 = 0x1c_0400;
pub const PRTTSYN_CTL0: u32 = 0x1e_4200;

// Host memory cache: where queue contexts are.
pub const PFHMC_SDCMD: u32 = 0xc_0000;
pub const PFHMC_SDDATALOW: u32 = 0xc_0100;
pub const PFHMC_SDDATAHIGH: u32 = 0xc_0200;
pub const GLHMC_LANTXOBJSZ: u32 = 0xc_2004;
pub const GLHMC_LANQMAX: u32 = 0xc_2008;
pub const GLHMC_LANRXOBJSZ: u32 = 0xc_200c;
pub const GLHMC_FCOEDDPOBJSZ: u32 = 0xc_2010;
pub const GLHMC_FCOEFOBJSZ: u32 = 0xc_2018;
pub const GLHMC_FCOEFMAX: u32 = 0xc_20d0;
pub const GLHMC_LANTXBASE: u32 = 0xc_6200;
pub const GLHMC_LANTXCNT: u32 = 0xc_6300;
pub const GLHMC_LANRXBASE: u32 = 0xc_6400;
pub const GLHMC_LANRXCNT: u32 = 0xc_6500;

// Queues: arrays with one register per queue.
pub const QTX_ENA: u32 = 0x10_0000;
pub const QTX_TAIL: u32 = 0x10_8000;
pub const QRX_ENA: u32 = 0x12_0000;
pub const QRX_TAIL: u32 = 0x12_8000;
/// Bits of QTX_ENA and QRX_ENA.
pub const QENA_REQ: u32 = 1;
pub const QENA_STAT: u32 = 1 << 2;

// Interrupts. Arrays with one register per vector (from vector 1 on) or queue.
pub const PFINT_ITRN: u32 = 0x3_0000;
/// Bytes between the ITR arrays of two indices.
pub const ITRN_STRIDE: u32 = 0x800;
pub const PFINT_DYN_CTLN: u32 = 0x3_4800;
pub const PFINT_LNKLSTN: u32 = 0x3_5000;
pub const PFINT_ITR0: u32 = 0x3_8000;
pub const PFINT_DYN_CTL0: u32 = 0x3_8480;
pub const PFINT_ICR0: u32 = 0x3_8780;
pub const PFINT_ICR0_ENA: u32 = 0x3_8800;
pub const QINT_RQCTL: u32 = 0x3_a000;
pub const QINT_TQCTL: u32 = 0x3_c000;
/// Bit of QINT_xQCTL.
pub const CAUSE_ENA: u32 = 1 << 30;
/// Bits of ICR0.
pub const ICR0_INTEVENT: u32 = 1;
pub const ICR0_MAL_DETECT: u32 = 1 << 19;
pub const ICR0_GRST: u32 = 1 << 20;
pub const ICR0_ADMINQ: u32 = 1 << 30;

// Malicious driver detection.
pub const GL_MDET_TX: u32 = 0xe_6480;
pub const PF_MDET_TX: u32 = 0xe_6400;
pub const GL_MDET_RX: u32 = 0x12_a510;
pub const PF_MDET_RX: u32 = 0x12_a400;

// Receive filters and RSS. HENA, HKEY and HLUT are arrays with 128 bytes between registers.
pub const PFQF_CTL_0: u32 = 0x1c_0ac0;
pub const PFQF_HLUT: u32 = 0x24_0000;
pub const PFQF_HKEY: u32 = 0x24_4800;
pub const PFQF_HENA: u32 = 0x24_5900;
pub const HASH_STRIDE: u32 = 128;
/// Bit of PFQF_CTL_0: the table has 512 entries.
pub const HASHLUTSIZE_512: u32 = 1 << 16;

/// Hits of flow director filters: an array.
pub const GLQF_PCNT: u32 = 0x26_6800;
pub const GLQF_PCNT_END: u32 = GLQF_PCNT + 4 * 511;

/// Largest frame: PRTGL_SAH bits 16 to 31.
pub const PRTGL_SAH: u32 = 0x1e_2140;

/// The registers, word by word.
pub struct Registers {
    words: Vec<u32>,
}

impl Registers {
    /// All zero but what the device sets by itself after power-on.
    pub fn new() -> Self {
        let mut registers = Self {
            words: vec![0; BAR_SIZE / 4],
        };
        registers.defaults();
        registers
    }

    /// What is constant, and set again by every reset of the device.
    pub fn defaults(&mut self) {
        use super::config::{QUEUES, VECTORS};
        // Both modules loaded; 4 KiB of shadow memory, in normal use.
        self.set(GLNVM_ULD, (1 << 3) | (1 << 4));
        self.set(GLNVM_GENS, 2 << 5);
        self.set(GLNVM_FLA, 1 << 6);
        self.set(GLNVM_SRCTL, 1 << 31);
        self.set(GLGEN_RSTCTL, 1);
        self.set(GLVFGEN_TIMER, 0);
        self.set(GLPCI_CNF2, VECTORS << 2);
        self.set(PFLAN_QALLOC, ((QUEUES - 1) << 16) | (1 << 31));
        // Sizes are powers of two: 128 bytes per transmit context, 32 per receive context.
        self.set(GLHMC_LANTXOBJSZ, 7);
        self.set(GLHMC_LANRXOBJSZ, 5);
        self.set(GLHMC_LANQMAX, QUEUES);
        self.set(GLHMC_FCOEDDPOBJSZ, 6);
        self.set(GLHMC_FCOEFOBJSZ, 6);
        // Not for use, but the driver wants there to be some.
        self.set(GLHMC_FCOEFMAX, 0x8000);
        // The clock of IEEE 1588 belongs to another function: none here.
        self.set(PRTTSYN_CTL0, 1 << 8);
        self.set(PRTGL_SAH, 0x2600 << 16);
    }

    /// The register at byte `at`; 0 outside the BAR.
    #[inline]
    pub fn get(&self, at: u32) -> u32 {
        self.words.get(at as usize / 4).copied().unwrap_or(0)
    }

    /// Sets the register at byte `at`; nothing outside the BAR.
    #[inline]
    pub fn set(&mut self, at: u32, value: u32) {
        if let Some(word) = self.words.get_mut(at as usize / 4) {
            *word = value;
        }
    }

    /// Adds to a counter of 48 bits, low word at byte `low`, high word after it.
    #[inline]
    pub fn add48(&mut self, low: u32, value: u64) {
        let now = u64::from(self.get(low)) | (u64::from(self.get(low + 4)) << 32);
        let sum = now.wrapping_add(value) & 0xffff_ffff_ffff;
        self.set(low, sum as u32);
        self.set(low + 4, (sum >> 32) as u32);
    }

    /// Adds to a counter of 32 bits.
    #[inline]
    pub fn add32(&mut self, at: u32, value: u32) {
        self.set(at, self.get(at).wrapping_add(value));
    }

    /// Clears `count` registers, `stride` bytes apart.
    pub fn clear(&mut self, at: u32, count: u32, stride: u32) {
        for i in 0..count {
            self.set(at + i * stride, 0);
        }
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

/// Index of a register `at` in an array of `count` registers at `base`, 4 bytes apart.
#[inline]
pub fn index(at: u32, base: u32, count: u32) -> Option<u32> {
    let offset = at.checked_sub(base)?;
    (offset % 4 == 0 && offset / 4 < count).then_some(offset / 4)
}
