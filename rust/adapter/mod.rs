// SPDX-License-Identifier: GPL-2.0

//! Ports: what an application opens, and what stands behind it.
//!
//! A port has rings and a backend. The device (`device/`) looks after files, names and cursors;
//! the backend moves slots: to and from a NIC (`raw`), or through the host's TCP (`stack/`).

#![deny(unsafe_code)]

mod host;
pub(crate) mod kring;
pub(crate) mod nic;
pub(crate) mod queue;
pub(crate) mod raw;
pub(crate) mod span;

use crate::{
    mem::Pool,
    nmcore::{
        abi::NmreqRegister,
        request::RingCounts,
        Errno, //
    },
    sys::netns::{
        Net,
        Rtnl, //
    },
};
use core::fmt;
use kernel::{
    prelude::*,
    str::CStr,
    sync::Arc, //
};
use kring::{
    Kring,
    KringState,
    RingShape, //
};

/// What the rings of a port are like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Transmit rings.
    pub(crate) tx_rings: u16,
    /// Receive rings.
    pub(crate) rx_rings: u16,
    /// Transmit rings to the host, 0 if the port has none.
    pub(crate) host_tx: u16,
    /// Receive rings from the host, likewise.
    pub(crate) host_rx: u16,
    /// Slots of a transmit ring.
    pub(crate) tx_slots: u32,
    /// Slots of a receive ring.
    pub(crate) rx_slots: u32,
    /// `netmap_ring.offset_mask`.
    pub(crate) offset_mask: u64,
    /// `ptr` of fresh slots.
    pub(crate) slot_ptr: u64,
    /// Whether the port has a pool of its own unless told otherwise.
    pub(crate) private_mem: bool,
    /// Buffers that the port needs beside those in slots and extra ones, in a pool of its own.
    pub(crate) spare_bufs: u32,
    /// Least size of a buffer, bytes.
    pub(crate) min_buf: u32,
}

impl Shape {
    /// The numbers of rings.
    pub(crate) fn counts(&self) -> RingCounts {
        RingCounts {
            tx: self.tx_rings,
            rx: self.rx_rings,
            host_tx: self.host_tx,
            host_rx: self.host_rx,
        }
    }
}

/// What the first file asks of a port; 0 where it does not care.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    /// Transmit rings.
    pub(crate) tx_rings: u16,
    /// Receive rings.
    pub(crate) rx_rings: u16,
    /// Transmit rings to the host.
    pub(crate) host_tx: u16,
    /// Receive rings from the host.
    pub(crate) host_rx: u16,
    /// Slots of a transmit ring.
    pub(crate) tx_slots: u32,
    /// Slots of a receive ring.
    pub(crate) rx_slots: u32,
}

impl Wish {
    /// What a registration asks for.
    pub(crate) fn of(req: &NmreqRegister) -> Self {
        Self {
            tx_rings: req.nr_tx_rings,
            rx_rings: req.nr_rx_rings,
            host_tx: req.nr_host_tx_rings,
            host_rx: req.nr_host_rx_rings,
            tx_slots: req.nr_tx_slots,
            rx_slots: req.nr_rx_slots,
        }
    }
}

/// A port name: bytes without NUL, at most 63.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    bytes: [u8; 64],
    len: usize,
}

impl Name {
    /// `None` if it is too long.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; 64];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        (name.len() < bytes.len()).then_some(Self {
            bytes,
            len: name.len(),
        })
    }

    /// The name.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// The name as far as it fits in `N` bytes with a NUL.
    pub(crate) fn cut<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        let len = self.len.min(N.saturating_sub(1));
        for (to, from) in out.iter_mut().zip(self.bytes.iter().take(len)) {
            *to = *from;
        }
        out
    }
}

// The kernel's log prints by a trait of its own.
impl kernel::fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.as_bytes() {
            let printable = byte.is_ascii_graphic();
            fmt::Write::write_char(f, if printable { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

/// An open port.
pub(crate) struct Port {
    /// Owner of its buffers that applications have; not 0.
    pub(crate) id: u16,
    /// What it was opened as.
    pub(crate) name: Name,
    /// The name space of the process that opened it first.
    pub(crate) net: Net,
    /// Where its rings and buffers lie.
    pub(crate) pool: Arc<Pool>,
    /// What its rings are like.
    pub(crate) shape: Shape,
    /// Transmit rings of the NIC or the stack.
    pub(crate) tx: KVec<Arc<Kring>>,
    /// Receive rings of the NIC or the stack.
    pub(crate) rx: KVec<Arc<Kring>>,
    /// Transmit rings to the host.
    pub(crate) host_tx: KVec<Arc<Kring>>,
    /// Receive rings from the host.
    pub(crate) host_rx: KVec<Arc<Kring>>,
    /// What moves its slots.
    pub(crate) backend: Arc<dyn Backend>,
}

impl Port {
    /// A port with fresh rings.
    ///
    /// # Errors
    ///
    /// `ENOMEM` without memory, ring objects or buffers; `EINVAL` if a ring does not fit in its
    /// object.
    pub(crate) fn new(
        id: u16,
        name: Name,
        net: Net,
        pool: Arc<Pool>,
        backend: Arc<dyn Backend>,
    ) -> Result<Arc<Self>> {
        let shape = backend.shape();
        let make = |tx, host, first: u16, count: u16| {
            let mut rings = KVec::with_capacity(count.into(), GFP_KERNEL)?;
            for n in 0..count {
                let ring = RingShape {
                    tx,
                    host,
                    id: first.saturating_add(n),
                    slots: if tx { shape.tx_slots } else { shape.rx_slots },
                    offset_mask: shape.offset_mask,
                    slot_ptr: shape.slot_ptr,
                };
                rings.push(Kring::new(&pool, id, ring)?, GFP_KERNEL)?;
            }
            Ok::<_, Error>(rings)
        };
        let RingCounts {
            tx,
            rx,
            host_tx,
            host_rx,
        } = shape.counts();
        let rings = (|| {
            Ok((
                make(true, false, 0, tx)?,
                make(false, false, 0, rx)?,
                make(true, true, tx, host_tx)?,
                make(false, true, rx, host_rx)?,
            ))
        })();
        let (tx, rx, host_tx, host_rx) = rings.inspect_err(|_: &Error| pool.reclaim_owner(id))?;
        Ok(Arc::new(
            Self {
                id,
                name,
                net,
                pool,
                shape,
                tx,
                rx,
                host_tx,
                host_rx,
                backend,
            },
            GFP_KERNEL,
        )?)
    }

    /// All rings: transmit, host transmit, receive, host receive.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &Arc<Kring>> {
        let tx = Iterator::chain(self.tx.iter(), self.host_tx.iter());
        let rx = Iterator::chain(self.rx.iter(), self.host_rx.iter());
        // Named in full: the kernel's initialisers have a `chain` too.
        Iterator::chain(tx, rx)
    }
}

/// What stands behind a port.
///
/// A `txsync` or `rxsync` that fails makes poll() report POLLERR; the sync ioctls report success,
/// as they always did. Slots up to the failure count as done: the cursor says how far it came.
pub(crate) trait Backend: Send + Sync {
    /// What the rings of its port are to be like; does not change.
    fn shape(&self) -> Shape;

    /// Whether the port's name still leads to it. A NIC that has gone, or has another name by now,
    /// leaves its own to others. The registry's lock is held.
    fn named(&self) -> bool {
        true
    }

    /// The port is there, with rings. Called once; rtnl and the registry's lock are held.
    ///
    /// # Errors
    ///
    /// Those of starting a NIC.
    fn open(&self, _port: &Arc<Port>, _rtnl: &Rtnl) -> Result {
        Ok(())
    }

    /// The last file of the port has gone, no sync runs or will. The same locks. Buffers that the
    /// backend still has must be back in their caches when the backend is dropped.
    fn close(&self, port: &Port, rtnl: &Rtnl);

    /// Takes the slots from `st.cursor.hwcur()` to `head` of a transmit ring, as many as it can,
    /// and gives back what is done: advances the cursor by `take` and `give`.
    fn txsync(&self, port: &Port, ring: &Kring, st: &mut KringState, head: u32) -> Result;

    /// Takes back the slots from `st.cursor.hwcur()` to `head` of a receive ring, then fills from
    /// `st.cursor.hwtail()` on.
    fn rxsync(&self, port: &Port, ring: &Kring, st: &mut KringState, head: u32) -> Result;

    /// Before the syncs of one poll() or ioctl; no lock is held.
    fn begin(&self, _port: &Port, _tx: &[Arc<Kring>], _rx: &[Arc<Kring>]) {}

    /// After them: doorbells.
    fn end(&self, _port: &Port, _tx: &[Arc<Kring>], _rx: &[Arc<Kring>]) {}

    /// poll() found nothing on `ring` and the caller is about to sleep: let an interrupt wake it
    /// ([`Kring::notify`]). `true`: something has come meanwhile, sync once more.
    fn arm(&self, _port: &Port, _ring: &Kring) -> bool {
        false
    }

    /// Takes socket `fd` of the calling process to ring `ring`. No lock is held.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the port takes no sockets.
    fn fd_register(&self, _port: &Port, _ring: u16, _fd: i32) -> Result {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Attaches NIC `nic` and tells its index. rtnl is held.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the port takes no NICs.
    fn attach(
        &self,
        _port: &Arc<Port>,
        _nic: &CStr,
        _reg: &NmreqRegister,
        _rtnl: &Rtnl,
    ) -> Result<u32> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Detaches it and tells the index it had. rtnl is held.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the port takes no NICs.
    fn detach(&self, _port: &Arc<Port>, _nic: &CStr, _rtnl: &Rtnl) -> Result<u32> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Lines for the operator's file, each ending with a line feed.
    fn show(&self, _port: &Port, _to: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}
