// SPDX-License-Identifier: GPL-2.0
//! The guest's memory, as far as QEMU has handed it over (it is remapped several times while the firmware starts).

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};

/// Guest-physical memory. Accesses fail (with None or false) where no memory is.
#[derive(Default)]
pub struct Memory {
    map: GuestMemoryMmap,
}

impl Memory {
    /// Adds `size` bytes of `file` from `offset` on at `address`. False if they overlap or cannot be mapped.
    pub fn insert(&mut self, address: u64, size: u64, file: File, offset: u64) -> bool {
        let Ok(length) = usize::try_from(size) else {
            return false;
        };
        let Ok(region) = MmapRegion::from_file(FileOffset::new(file, offset), length) else {
            return false;
        };
        let Some(region) = GuestRegionMmap::new(region, GuestAddress(address)) else {
            return false;
        };
        match self.map.insert_region(Arc::new(region)) {
            Ok(map) => {
                self.map = map;
                true
            }
            Err(_) => false,
        }
    }

    /// Takes all regions out that lie in the range.
    pub fn remove(&mut self, address: u64, size: u64) {
        let end = address.saturating_add(size);
        let within: Vec<_> = self
            .map
            .iter()
            .map(|region| (region.start_addr(), region.len()))
            .filter(|(start, length)| start.0 >= address && start.0.saturating_add(*length) <= end)
            .collect();
        for (start, length) in within {
            if let Ok((map, _)) = self.map.remove_region(start, length) {
                self.map = map;
            }
        }
    }

    /// Copies from the guest.
    #[must_use]
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.map.read_slice(buffer, GuestAddress(address)).is_ok()
    }

    /// Copies to the guest.
    #[must_use]
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        self.map.write_slice(data, GuestAddress(address)).is_ok()
    }

    /// An aligned 64-bit word, read at once; what the driver wrote before it is seen by later reads.
    #[must_use]
    pub fn load64(&self, address: u64) -> Option<u64> {
        self.map
            .load(GuestAddress(address), Ordering::Acquire)
            .ok()
            .map(u64::from_le)
    }

    /// An aligned 64-bit word, written at once and after all earlier writes.
    #[must_use]
    pub fn store64(&self, address: u64, value: u64) -> bool {
        self.map
            .store(value.to_le(), GuestAddress(address), Ordering::Release)
            .is_ok()
    }

    /// As [`Memory::load64`], 32 bits.
    #[must_use]
    pub fn load32(&self, address: u64) -> Option<u32> {
        self.map
            .load(GuestAddress(address), Ordering::Acquire)
            .ok()
            .map(u32::from_le)
    }

    /// As [`Memory::store64`], 32 bits.
    #[must_use]
    pub fn store32(&self, address: u64, value: u32) -> bool {
        self.map
            .store(value.to_le(), GuestAddress(address), Ordering::Release)
            .is_ok()
    }
}
