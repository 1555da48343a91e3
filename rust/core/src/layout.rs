// SPDX-License-Identifier: GPL-2.0
//! Where things lie in the memory that a port shares with its applications.
//!
//! One linear file of three pools: interfaces, rings, buffers, each an array of objects of one
//! size. All offsets and sizes are in bytes, and no object lies outside the file.

use super::abi::{NetmapIf, NetmapRing, NmreqPoolsInfo, Slot};
use super::Errno;

/// Page size of the machine, bytes.
pub const PAGE_SIZE: u32 = 4096;
/// Object sizes are rounded up to this, bytes.
const OBJ_ALIGN: u32 = 64;
/// Largest cluster, bytes.
const MAX_CLUSTER: u32 = 4 << 20;
/// Largest ring object, bytes.
const MAX_RING_SIZE: u32 = 32 * PAGE_SIZE;
/// Buffers 0 and 1 are never handed out; this is the first that is.
pub const FIRST_BUF: u32 = 2;

/// Number and size of the objects of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjParams {
    /// Objects.
    pub num: u32,
    /// Bytes of each.
    pub size: u32,
}

/// Wanted sizes of the three pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolParams {
    /// Interfaces (`if_num`, `if_size`).
    pub ifs: ObjParams,
    /// Rings (`ring_num`, `ring_size`).
    pub rings: ObjParams,
    /// Buffers (`buf_num`, `buf_size`).
    pub bufs: ObjParams,
}

/// Limits of the parameters of one pool, both ends allowed.
struct Limits {
    num: (u32, u32),
    size: (u32, u32),
}

const IF_LIMITS: Limits = Limits {
    num: (1, 10_000),
    size: (NetmapIf::SIZE as u32, 4096),
};
const RING_LIMITS: Limits = Limits {
    num: (2, 1024),
    size: (NetmapRing::SIZE as u32, MAX_RING_SIZE),
};
const BUF_LIMITS: Limits = Limits {
    num: (4, 1_000_000),
    size: (64, 65536),
};

impl PoolParams {
    /// Defaults of the memory that all NICs share (module parameters `if_num` to `buf_size`).
    pub const GLOBAL: PoolParams = PoolParams {
        ifs: ObjParams {
            num: 100,
            size: 1024,
        },
        rings: ObjParams {
            num: 200,
            size: 36864,
        },
        bufs: ObjParams {
            num: 163_840,
            size: 2048,
        },
    };

    /// Defaults of the memory of one port (module parameters `priv_if_num` to `priv_buf_size`).
    pub const PRIVATE: PoolParams = PoolParams {
        ifs: ObjParams { num: 2, size: 1024 },
        rings: ObjParams {
            num: 4,
            size: 20480,
        },
        bufs: ObjParams {
            num: 4098,
            size: 2048,
        },
    };

    /// These parameters with what is 0 taken from `defaults`.
    pub fn or(&self, defaults: &PoolParams) -> PoolParams {
        PoolParams {
            ifs: self.ifs.or(&defaults.ifs),
            rings: self.rings.or(&defaults.rings),
            bufs: self.bufs.or(&defaults.bufs),
        }
    }

    /// These parameters, enlarged where a port needs more. Sums that exceed 32 bits end at the
    /// largest number, which no pool accepts.
    pub fn for_port(&self, need: &PortNeed) -> PoolParams {
        let rings = need.tx_rings.saturating_add(need.rx_rings);
        let slots = need.tx_slots.max(need.rx_slots);
        let tx_bufs = need.tx_rings.saturating_mul(need.tx_slots);
        let rx_bufs = need.rx_rings.saturating_mul(need.rx_slots);
        let bufs = tx_bufs
            .saturating_add(rx_bufs)
            .saturating_add(need.spare_bufs)
            .saturating_add(FIRST_BUF);
        let least = PoolParams {
            ifs: ObjParams {
                num: need.ifs,
                size: if_size(rings),
            },
            rings: ObjParams {
                num: rings,
                size: ring_size(slots),
            },
            bufs: ObjParams { num: bufs, size: 0 },
        };
        PoolParams {
            ifs: self.ifs.max(&least.ifs),
            rings: self.rings.max(&least.rings),
            bufs: self.bufs.max(&least.bufs),
        }
    }
}

/// What one port takes out of its pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortNeed {
    /// Interfaces: one per file that has the port open.
    pub ifs: u32,
    /// Transmit rings, host rings and stand-ins for them included.
    pub tx_rings: u32,
    /// Receive rings, likewise.
    pub rx_rings: u32,
    /// Slots of a transmit ring.
    pub tx_slots: u32,
    /// Slots of a receive ring.
    pub rx_slots: u32,
    /// Buffers beyond those in slots: extra buffers, NIC rings, what TCP holds.
    pub spare_bufs: u32,
}

impl ObjParams {
    fn or(&self, defaults: &ObjParams) -> ObjParams {
        let pick = |own, default| if own == 0 { default } else { own };
        ObjParams {
            num: pick(self.num, defaults.num),
            size: pick(self.size, defaults.size),
        }
    }

    fn max(&self, other: &ObjParams) -> ObjParams {
        ObjParams {
            num: self.num.max(other.num),
            size: self.size.max(other.size),
        }
    }

    /// The parameters with the size rounded up, if both are within `limits`.
    fn checked(&self, limits: &Limits) -> Result<ObjParams, Errno> {
        let within = |x, (low, high)| low <= x && x <= high;
        let size = self
            .size
            .checked_next_multiple_of(OBJ_ALIGN)
            .ok_or(Errno::EINVAL)?;
        if !within(size, limits.size) || !within(self.num, limits.num) {
            return Err(Errno::EINVAL);
        }
        Ok(ObjParams {
            num: self.num,
            size,
        })
    }
}

/// Bytes of a `netmap_if` with `rings` ring offsets.
pub const fn if_size(rings: u32) -> u32 {
    rings
        .saturating_mul(8)
        .saturating_add(NetmapIf::SIZE as u32)
}

/// Bytes of a ring with `slots` slots.
pub const fn ring_size(slots: u32) -> u32 {
    slots
        .saturating_mul(Slot::SIZE as u32)
        .saturating_add(NetmapRing::SIZE as u32)
}

/// One pool in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Where it begins in the file.
    pub off: u64,
    /// Bytes of an object.
    pub size: u32,
    /// Objects.
    pub num: u32,
}

impl Pool {
    /// Where object `index` begins in the file; `None` if there is no such object.
    pub fn offset(&self, index: u32) -> Option<u64> {
        if index >= self.num {
            return None;
        }
        let within = u64::from(index).checked_mul(u64::from(self.size))?;
        self.off.checked_add(within)
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        u64::from(self.num).saturating_mul(u64::from(self.size))
    }
}

/// A place in memory made of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the page, counted from the begin of the file.
    pub page: u32,
    /// Offset in the page.
    pub offset: u32,
}

/// Where the pools lie in the file, and its size.
///
/// # Invariants
///
/// The pools follow each other in the order of the fields without overlapping, and end at or before
/// `memsize`. Each begins at a page. `memsize` is a multiple of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Interfaces.
    pub ifs: Pool,
    /// Rings.
    pub rings: Pool,
    /// Buffers; those before [`FIRST_BUF`] are reserved.
    pub bufs: Pool,
    /// Size of the file.
    pub memsize: u64,
}

impl Geometry {
    /// Memory of the kernel's own: sizes are rounded up to 64 bytes, and the number of objects to
    /// whole clusters, the smallest multiple of an object that is a multiple of the page.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a number or a size is out of its limits, or no cluster of up to 4 MiB exists.
    pub fn kernel(params: &PoolParams) -> Result<Geometry, Errno> {
        let ifs = clusters(&params.ifs.checked(&IF_LIMITS)?)?;
        let rings = clusters(&params.rings.checked(&RING_LIMITS)?)?;
        let bufs = clusters(&params.bufs.checked(&BUF_LIMITS)?)?;
        // INVARIANT: `chain` puts them in order; clusters are multiples of the page.
        Geometry::chain(ifs, rings, bufs)
    }

    /// Memory of an application (`memsize` bytes): objects are not padded to clusters, each pool
    /// begins at a page, and what is left over becomes buffers, as far as their number goes; what
    /// lies behind that is not used. The same parameters give the same offsets each time.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a number or a size is out of its limits; `ENOMEM` if the pools do not fit.
    pub fn extmem(params: &PoolParams, memsize: u64) -> Result<Geometry, Errno> {
        let ifs = params.ifs.checked(&IF_LIMITS)?;
        let rings = params.rings.checked(&RING_LIMITS)?;
        let mut bufs = params.bufs.checked(&BUF_LIMITS)?;
        let pages = memsize.checked_div(u64::from(PAGE_SIZE)).unwrap_or(0);
        let memsize = pages.saturating_mul(u64::from(PAGE_SIZE));
        let wanted = Geometry::chain(ifs, rings, bufs)?;
        let room = memsize.checked_sub(wanted.bufs.off).ok_or(Errno::ENOMEM)?;
        let fit = room
            .checked_div(u64::from(bufs.size))
            .ok_or(Errno::EINVAL)?;
        let fit = u32::try_from(fit).unwrap_or(u32::MAX);
        if fit < bufs.num {
            return Err(Errno::ENOMEM);
        }
        bufs.num = fit.min(BUF_LIMITS.num.1);
        let mut all = Geometry::chain(ifs, rings, bufs)?;
        if fit <= bufs.num {
            // INVARIANT: the buffers end at or before `memsize`, which is a multiple of the page.
            all.memsize = memsize;
        }
        Ok(all)
    }

    /// Puts one pool after the other, each at the next page.
    fn chain(ifs: ObjParams, rings: ObjParams, bufs: ObjParams) -> Result<Geometry, Errno> {
        let page = u64::from(PAGE_SIZE);
        let mut end = 0u64;
        let mut place = |obj: ObjParams| {
            let pool = Pool {
                off: end,
                size: obj.size,
                num: obj.num,
            };
            end = end
                .checked_add(pool.bytes())
                .and_then(|end| end.checked_next_multiple_of(page))
                .ok_or(Errno::EINVAL)?;
            Ok(pool)
        };
        Ok(Geometry {
            ifs: place(ifs)?,
            rings: place(rings)?,
            bufs: place(bufs)?,
            memsize: end,
        })
    }

    /// Where buffer `index` begins; `None` if there is no such buffer.
    pub fn buf_place(&self, index: u32) -> Option<Place> {
        let at = self.bufs.offset(index)?;
        let page = u64::from(PAGE_SIZE);
        Some(Place {
            page: u32::try_from(at.checked_div(page)?).ok()?,
            offset: u32::try_from(at.checked_rem(page)?).ok()?,
        })
    }

    /// The buffer that holds a place, and the offset in that buffer; `None` outside the buffers.
    pub fn buf_at(&self, place: Place) -> Option<(u32, u32)> {
        let at = u64::from(place.page)
            .checked_mul(u64::from(PAGE_SIZE))?
            .checked_add(u64::from(place.offset))?
            .checked_sub(self.bufs.off)?;
        let size = u64::from(self.bufs.size);
        let index = u32::try_from(at.checked_div(size)?).ok()?;
        let offset = u32::try_from(at.checked_rem(size)?).ok()?;
        (index < self.bufs.num).then_some((index, offset))
    }

    /// Whether `index` is a buffer that may be handed out.
    pub const fn is_buf(&self, index: u32) -> bool {
        index >= FIRST_BUF && index < self.bufs.num
    }

    /// Whether no buffer crosses the end of a page.
    pub const fn bufs_keep_to_pages(&self) -> bool {
        matches!(PAGE_SIZE.checked_rem(self.bufs.size), Some(0))
    }

    /// `netmap_ring.buf_ofs` of ring object `ring`: from it to buffer 0, bytes.
    pub fn buf_ofs(&self, ring: u32) -> Option<i64> {
        let back = self.bufs.off.checked_sub(self.rings.offset(ring)?)?;
        i64::try_from(back).ok()
    }

    /// `netmap_if.ring_ofs` of ring object `ring` as interface object `nifp` shows it, bytes.
    pub fn ring_ofs(&self, nifp: u32, ring: u32) -> Option<i64> {
        let from_if = self
            .rings
            .offset(ring)?
            .checked_sub(self.ifs.offset(nifp)?)?;
        i64::try_from(from_if).ok()
    }

    /// Number of pages of the file.
    pub fn pages(&self) -> u32 {
        let pages = self.memsize.checked_div(u64::from(PAGE_SIZE));
        // The limits of the pools keep the file below 2^37 bytes.
        u32::try_from(pages.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// The same as an answer to `NETMAP_REQ_POOLS_INFO_GET`.
    pub const fn pools_info(&self, mem_id: u16) -> NmreqPoolsInfo {
        NmreqPoolsInfo {
            nr_memsize: self.memsize,
            nr_mem_id: mem_id,
            nr_if_pool_offset: self.ifs.off,
            nr_if_pool_objtotal: self.ifs.num,
            nr_if_pool_objsize: self.ifs.size,
            nr_ring_pool_offset: self.rings.off,
            nr_ring_pool_objtotal: self.rings.num,
            nr_ring_pool_objsize: self.rings.size,
            nr_buf_pool_offset: self.bufs.off,
            nr_buf_pool_objtotal: self.bufs.num,
            nr_buf_pool_objsize: self.bufs.size,
            ..NmreqPoolsInfo::ZERO
        }
    }
}

impl PoolParams {
    /// The parameters asked for in an EXTMEM option; 0 stands for what is not given.
    pub const fn from_pools_info(info: &NmreqPoolsInfo) -> PoolParams {
        PoolParams {
            ifs: ObjParams {
                num: info.nr_if_pool_objtotal,
                size: info.nr_if_pool_objsize,
            },
            rings: ObjParams {
                num: info.nr_ring_pool_objtotal,
                size: info.nr_ring_pool_objsize,
            },
            bufs: ObjParams {
                num: info.nr_buf_pool_objtotal,
                size: info.nr_buf_pool_objsize,
            },
        }
    }
}

/// Rounds the number of objects up to whole clusters.
fn clusters(obj: &ObjParams) -> Result<ObjParams, Errno> {
    // With a size that is a multiple of 64, at most 64 objects fill whole pages.
    let per_cluster = (1..=PAGE_SIZE / OBJ_ALIGN)
        .find(|k| matches!(obj.size.checked_mul(*k), Some(n) if n % PAGE_SIZE == 0))
        .ok_or(Errno::EINVAL)?;
    if obj.size.saturating_mul(per_cluster) > MAX_CLUSTER {
        return Err(Errno::EINVAL);
    }
    let num = obj
        .num
        .checked_next_multiple_of(per_cluster)
        .ok_or(Errno::EINVAL)?;
    Ok(ObjParams {
        num,
        size: obj.size,
    })
}

/// Order of the ring offsets behind a `netmap_if`: NIC tx, host tx, NIC rx, host rx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfLayout {
    /// NIC transmit rings.
    pub tx: u32,
    /// Host transmit rings as shown, at least 1.
    pub host_tx: u32,
    /// NIC receive rings.
    pub rx: u32,
    /// Host receive rings as shown, at least 1.
    pub host_rx: u32,
}

impl IfLayout {
    /// The layout for a port with these numbers of rings; ports without host rings show one of
    /// each.
    pub fn new(tx: u16, rx: u16, host_tx: u16, host_rx: u16) -> IfLayout {
        IfLayout {
            tx: u32::from(tx),
            host_tx: u32::from(host_tx.max(1)),
            rx: u32::from(rx),
            host_rx: u32::from(host_rx.max(1)),
        }
    }

    /// Number of ring offsets.
    pub const fn total(&self) -> u32 {
        self.tx
            .saturating_add(self.host_tx)
            .saturating_add(self.rx)
            .saturating_add(self.host_rx)
    }

    /// Bytes of the `netmap_if` with its offsets.
    pub const fn size(&self) -> u32 {
        if_size(self.total())
    }

    /// Place of transmit ring `ring` in the array; host rings are counted after those of the NIC.
    pub const fn tx_index(&self, ring: u32) -> u32 {
        ring
    }

    /// Place of receive ring `ring` in the array; host rings are counted after those of the NIC.
    pub const fn rx_index(&self, ring: u32) -> u32 {
        self.tx.saturating_add(self.host_tx).saturating_add(ring)
    }
}
