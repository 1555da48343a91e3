// SPDX-License-Identifier: GPL-2.0

//! Memory that a device reads and writes: the pool's pages, mapped once when the NIC is attached,
//! and small areas of kernel memory for the headers of sent frames.

use super::bindings;
use crate::mem::Pool;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes of one area.
pub(crate) const AREA: usize = 2048;
/// Bytes allocated at a time for areas.
const BLOCK: usize = 16 * AREA;
/// What `nms_dma_map` answers when it cannot.
const FAILED: u64 = u64::MAX;

/// A reference of a device that does DMA.
pub(crate) struct DmaDevice(NonNull<bindings::device>);

// SAFETY: the reference belongs to no thread.
unsafe impl Send for DmaDevice {}
// SAFETY: the DMA functions may be called from anywhere.
unsafe impl Sync for DmaDevice {}

impl DmaDevice {
    /// Takes a reference.
    ///
    /// # Safety
    ///
    /// `dev` is a valid device that is bound to its driver. The caller drops every mapping and
    /// allocation made for the device before the driver is unbound.
    pub(super) unsafe fn get(dev: NonNull<bindings::device>) -> Self {
        // SAFETY: valid.
        unsafe { bindings::nms_device_get(dev.as_ptr()) };
        Self(dev)
    }
}

impl Clone for DmaDevice {
    fn clone(&self) -> Self {
        // SAFETY: valid; the promise made for `self` covers its copies.
        unsafe { Self::get(self.0) }
    }
}

impl Drop for DmaDevice {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { bindings::nms_device_put(self.0.as_ptr()) };
    }
}

/// A pool's memory as one device sees it. Dropping it unmaps.
pub(crate) struct PoolMap {
    dev: DmaDevice,
    /// Keeps the pages.
    _pool: Arc<Pool>,
    /// Bytes of a chunk: pages that are contiguous for the CPU and for the device.
    chunk: usize,
    /// Bus address of each chunk.
    chunks: KVVec<u64>,
    /// Bus address of each buffer.
    bufs: KVVec<u64>,
}

impl PoolMap {
    /// Maps all buffers of `pool` for reading and writing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EIO` if the device cannot reach a page (its DMA mask is too narrow).
    pub(crate) fn new(dev: DmaDevice, pool: &Arc<Pool>) -> Result<Self> {
        let per_chunk = pool.chunk_pages().max(1);
        let chunk = per_chunk as usize * super::page::PAGE_SIZE;
        let count = pool.pages().div_ceil(per_chunk);
        let mut map = Self {
            dev,
            _pool: pool.clone(),
            chunk,
            chunks: KVVec::with_capacity(count as usize, GFP_KERNEL)?,
            bufs: KVVec::with_capacity(pool.buf_count() as usize, GFP_KERNEL)?,
        };
        for i in 0..count {
            let page = pool.page(i * per_chunk).ok_or(EIO)?;
            // SAFETY: the device is valid; the pool keeps the chunk's pages, contiguous, and the
            // mapping is undone in drop, before the pool reference goes.
            let dma = unsafe { bindings::nms_dma_map(map.dev.0.as_ptr(), page.as_ptr(), chunk) };
            if dma == FAILED {
                return Err(EIO);
            }
            map.chunks.push(dma, GFP_KERNEL)?;
        }
        for idx in 0..pool.buf_count() {
            let (page, offset) = pool.buf_pos(idx).ok_or(EIO)?;
            let base = map
                .chunks
                .get((page / per_chunk) as usize)
                .copied()
                .ok_or(EIO)?;
            let within = (page % per_chunk) as usize * super::page::PAGE_SIZE + offset as usize;
            map.bufs.push(base + within as u64, GFP_KERNEL)?;
        }
        Ok(map)
    }

    /// Bus address of the first byte of a buffer.
    #[inline]
    pub(crate) fn buf(&self, idx: u32) -> Option<u64> {
        self.bufs.get(idx as usize).copied()
    }
}

impl Drop for PoolMap {
    fn drop(&mut self) {
        for &dma in self.chunks.iter() {
            // SAFETY: mapped in `new` with this length; the queues that used it are gone.
            unsafe { bindings::nms_dma_unmap(self.dev.0.as_ptr(), dma, self.chunk) };
        }
    }
}

struct Block {
    memory: NonNull<u8>,
    dma: u64,
}

/// Areas of [`AREA`] bytes of kernel memory that a device can read.
pub(crate) struct Areas {
    dev: DmaDevice,
    blocks: KVec<Block>,
}

// SAFETY: the memory is owned.
unsafe impl Send for Areas {}

impl Areas {
    /// At least `count` areas.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(dev: DmaDevice, count: u32) -> Result<Self> {
        let blocks = (count as usize).div_ceil(BLOCK / AREA);
        let mut areas = Self {
            dev,
            blocks: KVec::with_capacity(blocks, GFP_KERNEL)?,
        };
        while areas.blocks.len() < blocks {
            let mut dma = 0;
            // SAFETY: the device is valid; freed in drop.
            let memory = unsafe { bindings::nms_dma_alloc(areas.dev.0.as_ptr(), BLOCK, &mut dma) };
            let memory = NonNull::new(memory.cast()).ok_or(ENOMEM)?;
            areas.blocks.push(Block { memory, dma }, GFP_KERNEL)?;
        }
        Ok(areas)
    }

    /// The bytes of area `i`.
    #[inline]
    pub(crate) fn bytes(&mut self, i: u32) -> Option<&mut [u8]> {
        let block = self.blocks.get(i as usize / (BLOCK / AREA))?;
        let offset = i as usize % (BLOCK / AREA) * AREA;
        // SAFETY: within the block, which is initialised (coherent memory comes zeroed) and ours;
        // `&mut self` makes the slice the only one. The device only reads.
        Some(unsafe { core::slice::from_raw_parts_mut(block.memory.add(offset).as_ptr(), AREA) })
    }

    /// Bus address of area `i`.
    #[inline]
    pub(crate) fn dma(&self, i: u32) -> Option<u64> {
        let block = self.blocks.get(i as usize / (BLOCK / AREA))?;
        Some(block.dma + (i as usize % (BLOCK / AREA) * AREA) as u64)
    }
}

impl Drop for Areas {
    fn drop(&mut self) {
        for block in self.blocks.iter() {
            // SAFETY: allocated in `new` with this length; the ring that used it is gone.
            unsafe {
                bindings::nms_dma_free(
                    self.dev.0.as_ptr(),
                    BLOCK,
                    block.memory.as_ptr().cast(),
                    block.dma,
                );
            }
        }
    }
}
