// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Opening a port: registration, memory.

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::abi::{
    NetmapIf, NmreqPoolsInfo, NmreqRegister, NR_NO_TX_POLL, PST_BUFS_EXISTING, PST_BUFS_FORMAT,
    PST_BUFS_FORMATTED,
};
use crate::fence::{self, ExtraBuf, ExtraList, Map, Memory, MemoryTag, Place, RxRing, TxRing};
use crate::format::PoolParams;
use crate::name::PortName;
use crate::port::Port;

/// What to ask for when opening a port. Zero: what there is.
#[derive(Clone)]
pub struct Builder {
    name: PortName,
    register: NmreqRegister,
    memory: Option<(Memory, PoolParams)>,
    claims: Vec<u32>,
    formatting: Formatting,
}

/// What becomes of memory that a port has used before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formatting {
    /// It is used as it is if it was formatted with the same parameters (else
    /// EINVAL), and formatted if it never was.
    #[default]
    Keep,
    /// It is formatted, whatever lies there.
    Anew,
    /// It must have been formatted with the same parameters (else EINVAL).
    Existing,
}

impl Builder {
    /// Parse a port name, see [`PortName`]. EINVAL: it cannot be read.
    pub fn new(name: &str) -> io::Result<Builder> {
        let name: PortName = name
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let register = NmreqRegister {
            nr_mode: name.mode,
            nr_ringid: name.ring,
            nr_mem_id: name.mem_id,
            nr_flags: name.flags,
            nr_tx_rings: name.rings,
            nr_rx_rings: name.rings,
            nr_tx_slots: name.slots,
            nr_rx_slots: name.slots,
            ..NmreqRegister::default()
        };
        Ok(Builder {
            name,
            register,
            memory: None,
            claims: Vec::new(),
            formatting: Formatting::Keep,
        })
    }

    /// Buffers beside those in the rings; the port may get fewer.
    #[must_use]
    pub fn extra_bufs(mut self, count: u32) -> Builder {
        self.register.nr_extra_bufs = count;
        self
    }

    /// Rings in each direction, where the port does not exist yet.
    #[must_use]
    pub fn rings(mut self, count: u16) -> Builder {
        self.register.nr_tx_rings = count;
        self.register.nr_rx_rings = count;
        self
    }

    /// Slots per ring, where the port does not exist yet.
    #[must_use]
    pub fn slots(mut self, count: u32) -> Builder {
        self.register.nr_tx_slots = count;
        self.register.nr_rx_slots = count;
        self
    }

    /// Let [`Port::poll`] leave the tx rings alone unless it is to wait for
    /// room in them.
    #[must_use]
    pub fn no_tx_poll(mut self) -> Builder {
        self.register.nr_flags |= NR_NO_TX_POLL;
        self
    }

    /// Build the port's pools in `memory`. Where things lie there is a function
    /// of `params` and the size of the memory: with the same ones a buffer has
    /// the same bytes next time. No byte of a buffer is touched by giving it
    /// out or back.
    #[must_use]
    pub fn memory(mut self, memory: &Memory, params: PoolParams) -> Builder {
        self.memory = Some((memory.clone(), params));
        self
    }

    /// Get the buffers of these numbers, before any ring gets some
    /// ([`Port::take_claimed`]). They are as an earlier life of the memory left
    /// them.
    #[must_use]
    pub fn claim(mut self, indices: Vec<u32>) -> Builder {
        self.claims = indices;
        self
    }

    /// What becomes of memory that a port has used before.
    #[must_use]
    pub fn format(mut self, formatting: Formatting) -> Builder {
        self.formatting = formatting;
        self
    }

    /// Open `/dev/netmap`, register, map the memory.
    ///
    /// EBUSY: bound exclusively by somebody else. EINVAL: no such ring or
    /// mode. ENXIO: no such port. ENOMEM: memory for rings or buffers. EFAULT:
    /// the kernel's answer makes no sense.
    ///
    /// With memory of the program's own, beside that: EBUSY: it is another
    /// port's, or somebody has it to read, or a claimed buffer is taken. EINVAL:
    /// it was formatted otherwise, the buffers do not divide a page, or a claim
    /// is no buffer. ENOMEM: the pools do not fit. EFAULT: it is not there (a
    /// file that is too short). EOPNOTSUPP: a file on a file system that is not
    /// for this, or huge pages. The kernel's log says more.
    pub fn open(mut self) -> io::Result<Port> {
        if let Some(extmem) = self.name.extmem.take() {
            let open = std::fs::OpenOptions::new().read(true).write(true).clone();
            let file = open.open(&extmem.file)?;
            let len = usize::try_from(file.metadata()?.len()).map_err(|_| Errno::INVAL)?;
            let memory = Memory::file(&file, len / 4096 * 4096)?;
            self.memory = Some((memory, extmem.params));
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/netmap", flags, Mode::empty())?;
        let mut info = self.register;
        let Some((memory, params)) = &self.memory else {
            if !self.claims.is_empty() {
                return Err(Errno::INVAL.into());
            }
            fence::control(fd.as_fd(), &self.name.kernel, &mut info)?;
            let size = usize::try_from(info.nr_memsize).map_err(|_| Errno::FAULT)?;
            let map = Arc::new(Map::new(fd.as_fd(), size)?);
            let tag = MemoryTag::new();
            let nifp = usize::try_from(info.nr_offset).map_err(|_| Errno::FAULT)?;
            let (tx, rx) = bound_rings(&map, nifp, tag)?;
            let Some(mem) = rx.first().map(RxRing::mem).or(tx.first().map(TxRing::mem)) else {
                return Err(Errno::FAULT.into());
            };
            let extra = ExtraList::take(&map, nifp, info.nr_extra_bufs, mem, tag)?;
            return Ok(Port {
                name: self.name.kernel,
                fd,
                info,
                tx,
                rx,
                extra,
                claimed: Vec::new(),
                formatted: true,
                tag,
                lease: None,
            });
        };
        let lease = memory.lease()?;
        let wanted = fence::Wanted {
            map: lease.map(),
            info: wanted_pools(params, memory.len()),
            claims: &self.claims,
            flags: match self.formatting {
                Formatting::Keep => 0,
                Formatting::Anew => PST_BUFS_FORMAT,
                Formatting::Existing => PST_BUFS_EXISTING,
            },
        };
        let answer = fence::register(fd.as_fd(), &self.name.kernel, &mut info, &wanted)
            .map_err(|(errno, claim)| claim_error(errno, claim, &self.claims))?;
        let tag = lease.tag;
        let claimed = ExtraList::named(&self.claims, tag);
        let mut claimed: Vec<ExtraBuf> = claimed.into_vec();
        claimed.reverse();
        lease.set_bufs(Place {
            offset: answer.info.nr_buf_pool_offset,
            size: answer.info.nr_buf_pool_objsize,
            count: answer.info.nr_buf_pool_objtotal,
        });
        let nifp = usize::try_from(info.nr_offset).map_err(|_| Errno::FAULT)?;
        let (tx, rx) = bound_rings(lease.map(), nifp, tag)?;
        if tx.is_empty() && rx.is_empty() {
            return Err(Errno::FAULT.into());
        }
        Ok(Port {
            name: self.name.kernel,
            fd,
            info,
            tx,
            rx,
            extra: ExtraList::named(&answer.fresh, tag),
            claimed,
            formatted: answer.flags & PST_BUFS_FORMATTED != 0,
            tag,
            lease: Some(lease),
        })
    }
}

/// The pools as the kernel is asked for them.
fn wanted_pools(params: &PoolParams, memsize: usize) -> NmreqPoolsInfo {
    NmreqPoolsInfo {
        nr_memsize: memsize as u64,
        nr_if_pool_objtotal: params.if_num,
        nr_if_pool_objsize: params.if_size,
        nr_ring_pool_objtotal: params.ring_num,
        nr_ring_pool_objsize: params.ring_size,
        nr_buf_pool_objtotal: params.buf_num,
        nr_buf_pool_objsize: params.buf_size,
        ..NmreqPoolsInfo::default()
    }
}

/// An error that names the claimed buffer that it is about.
fn claim_error(errno: Errno, claim: Option<usize>, claims: &[u32]) -> io::Error {
    let error = io::Error::from(errno);
    match claim.and_then(|position| claims.get(position)) {
        Some(index) => io::Error::new(error.kind(), format!("buffer {index} claimed: {error}")),
        None => error,
    }
}

/// The rings that this descriptor bound: those with an offset.
fn bound_rings(
    map: &Arc<Map>,
    nifp: usize,
    tag: MemoryTag,
) -> Result<(Vec<TxRing>, Vec<RxRing>), Errno> {
    let head = map.interface(nifp)?;
    let sum = |a: u32, b: u32| a.checked_add(b).map(|n| n as usize).ok_or(Errno::FAULT);
    let tx_count = sum(head.ni_tx_rings, head.ni_host_tx_rings)?;
    let rx_count = sum(head.ni_rx_rings, head.ni_host_rx_rings)?;
    let (mut tx, mut rx) = (Vec::new(), Vec::new());
    for i in 0..tx_count + rx_count {
        let at = nifp + size_of::<NetmapIf>() + i * size_of::<i64>();
        let offset: i64 = map.read(at)?;
        if offset == 0 {
            continue;
        }
        let ring = usize::try_from(nifp as i64 + offset).map_err(|_| Errno::FAULT)?;
        let mem = fence::RingMem::new(map, ring)?;
        if i < tx_count {
            tx.push(TxRing::new(mem, tag));
        } else {
            rx.push(RxRing::new(mem, tag));
        }
    }
    Ok((tx, rx))
}
