// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! An open port: registration, memory, syncs.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::abi::{
    NetmapIf, NmreqPstFdReg, NmreqRegister, NmreqValeAttach, NmreqValeDetach, NR_NO_TX_POLL,
    NR_REG_NIC_SW,
};
use crate::fence::{self, ExtraBuf, ExtraList, Map, MemoryTag, RxRing, TxRing};
use crate::name::PortName;
use crate::scribble::Scribbler;

/// What to ask for when opening a port. Zero: what there is.
#[derive(Clone, Debug)]
pub struct Builder {
    name: PortName,
    register: NmreqRegister,
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
            ..NmreqRegister::default()
        };
        Ok(Builder { name, register })
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

    /// Open `/dev/netmap`, register, map the memory.
    ///
    /// EBUSY: bound exclusively by somebody else. EINVAL: no such ring or
    /// mode. ENXIO: no such port. ENOMEM: memory for rings or buffers. EFAULT:
    /// the kernel's answer makes no sense.
    pub fn open(self) -> io::Result<Port> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/netmap", flags, Mode::empty())?;
        let mut info = self.register;
        fence::control(fd.as_fd(), &self.name.kernel, &mut info)?;
        let size = usize::try_from(info.nr_memsize).map_err(|_| Errno::FAULT)?;
        let nifp = usize::try_from(info.nr_offset).map_err(|_| Errno::FAULT)?;
        let map = Arc::new(Map::new(fd.as_fd(), size)?);
        let tag = MemoryTag::new();
        let (tx, rx) = bound_rings(&map, nifp, tag)?;
        let Some(mem) = rx.first().map(RxRing::mem).or(tx.first().map(TxRing::mem)) else {
            return Err(Errno::FAULT.into());
        };
        let extra = ExtraList::take(&map, nifp, info.nr_extra_bufs, mem, tag)?;
        Ok(Port {
            name: self.name.kernel,
            fd,
            info,
            tx,
            rx,
            extra,
            tag,
        })
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

/// What to wait for in [`Port::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Received slots.
    Rx,
    /// Room in a tx ring.
    Tx,
    /// Either.
    RxTx,
    /// Nothing of this port, only the other descriptors; tx is still flushed.
    Nothing,
}

/// What [`Port::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// There are received slots.
    pub rx: bool,
    /// There is room in a tx ring (only if waited for).
    pub tx: bool,
    /// The port failed or its NIC is gone; open it again.
    pub error: bool,
    /// How many of the other descriptors have something.
    pub others: usize,
}

/// Another descriptor to wait for in [`Port::poll_with`].
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// What to wait for.
    pub events: PollFlags,
    /// What it has, after the call.
    pub ready: PollFlags,
}

impl<'a> Watch<'a> {
    /// Wait until `fd` can be read, or accepted from.
    pub fn readable(fd: BorrowedFd<'a>) -> Watch<'a> {
        Watch {
            fd,
            events: PollFlags::IN,
            ready: PollFlags::empty(),
        }
    }
}

/// An open port. Closing it gives rings and extra buffers back.
pub struct Port {
    name: String,
    fd: OwnedFd,
    info: NmreqRegister,
    tx: Vec<TxRing>,
    rx: Vec<RxRing>,
    extra: ExtraList,
    tag: MemoryTag,
}

/// Most descriptors that [`Port::poll_with`] takes beside the port's own.
pub const MAX_OTHERS: usize = 7;

impl Port {
    /// [`Builder::open`] with nothing but a name.
    pub fn open(name: &str) -> io::Result<Port> {
        Builder::new(name)?.open()
    }

    /// What the kernel answered to the registration.
    pub fn info(&self) -> &NmreqRegister {
        &self.info
    }

    /// Receive rings bound by this port, hardware first.
    pub fn rx_rings(&self) -> usize {
        self.rx.len()
    }

    /// Transmit rings bound by this port, hardware first.
    pub fn tx_rings(&self) -> usize {
        self.tx.len()
    }

    /// Receive ring `i` of those bound. Panics if there is none.
    pub fn rx(&mut self, i: usize) -> &mut RxRing {
        &mut self.rx[i]
    }

    /// Transmit ring `i` of those bound. Panics if there is none.
    pub fn tx(&mut self, i: usize) -> &mut TxRing {
        &mut self.tx[i]
    }

    /// All rings at once, receive and transmit.
    pub fn rings(&mut self) -> (&mut [RxRing], &mut [TxRing]) {
        (&mut self.rx, &mut self.tx)
    }

    /// One of the extra buffers asked for with [`Builder::extra_bufs`].
    pub fn take_extra(&mut self) -> Option<ExtraBuf> {
        self.extra.pop()
    }

    /// Return an extra buffer. One of another memory comes back as the error.
    pub fn give_extra(&mut self, buf: ExtraBuf) -> Result<(), ExtraBuf> {
        if buf.belongs_to(self.tag) {
            self.extra.push(buf);
            Ok(())
        } else {
            Err(buf)
        }
    }

    /// Extra buffers not taken.
    pub fn extra_count(&self) -> usize {
        self.extra.len()
    }

    fn publish(&mut self) {
        self.tx.iter_mut().for_each(TxRing::publish);
        self.rx.iter().for_each(RxRing::publish);
    }

    fn refresh(&mut self) {
        self.tx.iter_mut().for_each(TxRing::refresh);
        self.rx.iter_mut().for_each(RxRing::refresh);
    }

    /// Send what was put into the tx rings, without waiting.
    /// ENXIO: the port is gone. EIO: a ring is stopped.
    pub fn txsync(&mut self) -> io::Result<()> {
        self.publish();
        let result = fence::txsync(self.fd.as_fd());
        self.refresh();
        Ok(result?)
    }

    /// Return taken rx slots and fetch new ones, without waiting.
    /// ENXIO: the port is gone. EIO: a ring is stopped.
    pub fn rxsync(&mut self) -> io::Result<()> {
        self.publish();
        let result = fence::rxsync(self.fd.as_fd());
        self.refresh();
        Ok(result?)
    }

    /// Sync, and wait until there is something or the time is over (`None`:
    /// for ever). EINTR: a signal came.
    pub fn poll(&mut self, wait: Wait, timeout: Option<Duration>) -> io::Result<Ready> {
        self.poll_with(wait, &mut [], timeout)
    }

    /// As [`Port::poll`], waiting for up to [`MAX_OTHERS`] other descriptors,
    /// too; what they have is in `Watch::ready`. EINVAL: too many.
    pub fn poll_with(
        &mut self,
        wait: Wait,
        others: &mut [Watch<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<Ready> {
        let events = match wait {
            Wait::Rx => PollFlags::IN,
            Wait::Tx => PollFlags::OUT,
            Wait::RxTx => PollFlags::IN | PollFlags::OUT,
            Wait::Nothing => PollFlags::empty(),
        };
        let timeout = timeout.map(Timespec::try_from).transpose();
        let timeout = timeout.map_err(|_| Errno::INVAL)?;
        self.publish();
        let result = poll_all(self.fd.as_fd(), events, others, timeout.as_ref());
        self.refresh();
        let (count, flags) = result?;
        Ok(Ready {
            rx: flags.contains(PollFlags::IN),
            tx: flags.contains(PollFlags::OUT),
            error: flags.intersects(PollFlags::ERR | PollFlags::NVAL | PollFlags::HUP),
            others: count - usize::from(!flags.is_empty()),
        })
    }

    /// Give up the rings and get at the raw memory instead. EFAULT: the port
    /// has no rings.
    pub fn scribble(mut self) -> io::Result<Scribbler> {
        // Nobody may hold a buffer that is scribbled on.
        let mems = self
            .rx
            .iter()
            .map(RxRing::mem)
            .chain(self.tx.iter().map(TxRing::mem));
        let rings: Vec<_> = mems.map(fence::RingMem::place).collect();
        let map = self.memory().ok_or(Errno::FAULT)?.map().clone();
        let interface = usize::try_from(self.info.nr_offset).map_err(|_| Errno::FAULT)?;
        self.tx.clear();
        self.rx.clear();
        Ok(Scribbler {
            fd: self.fd.try_clone()?,
            map,
            interface,
            rings,
        })
    }

    /// Any of the rings' memories; all are the same.
    fn memory(&self) -> Option<&fence::RingMem> {
        self.rx
            .first()
            .map(RxRing::mem)
            .or(self.tx.first().map(TxRing::mem))
    }

    /// Stack ports: put a NIC of this network namespace on the port. Returns
    /// its index there.
    ///
    /// EBUSY: it is on a port, or open, already. EINVAL: no such NIC, or one
    /// without a netmap driver. ENOTSUP: it lacks transmit checksums.
    pub fn attach(&self, nic: &str) -> io::Result<u32> {
        let name = self.sibling(nic)?;
        let mut body = NmreqValeAttach::default();
        body.reg.nr_mode = NR_REG_NIC_SW;
        body.reg.nr_mem_id = self.info.nr_mem_id;
        fence::control(self.fd.as_fd(), &name, &mut body)?;
        Ok(body.port_index)
    }

    /// Stack ports: take a NIC off the port again. ENXIO: it is not on it.
    pub fn detach(&self, nic: &str) -> io::Result<u32> {
        let name = self.sibling(nic)?;
        let mut body = NmreqValeDetach::default();
        fence::control(self.fd.as_fd(), &name, &mut body)?;
        Ok(body.port_index)
    }

    /// Stack ports: from now on the payload of this TCP socket comes and goes
    /// through this port's ring. Closing the socket ends it.
    ///
    /// EINVAL: listening, or a number below 3. EBUSY: registered already.
    /// EPROTONOSUPPORT: not TCP. ENOTCONN: neither connected nor connecting.
    /// EOPNOTSUPP: something else owns the socket.
    pub fn register_socket(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let nr_fd = u32::try_from(number).map_err(|_| Errno::BADF)?;
        let mut body = NmreqPstFdReg { nr_fd, pad1: 0 };
        Ok(fence::control(self.fd.as_fd(), &self.name, &mut body)?)
    }

    /// The name of `nic` on the same stack port: `pst:0` gives `pst:eth0`.
    fn sibling(&self, nic: &str) -> io::Result<String> {
        let colon = self.name.find(':').ok_or(Errno::INVAL)?;
        let name = format!("{}:{nic}", &self.name[..colon]);
        if nic.is_empty() || name.len() >= crate::abi::NETMAP_REQ_IFNAMSIZ {
            return Err(Errno::INVAL.into());
        }
        Ok(name)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mem = self
            .rx
            .first()
            .map(RxRing::mem)
            .or(self.tx.first().map(TxRing::mem));
        if let Some(mem) = mem {
            self.extra.give_back(mem, self.tag);
        }
    }
}

/// poll() on the port and the others: how many had something, and what the
/// port had.
fn poll_all(
    port: BorrowedFd<'_>,
    events: PollFlags,
    others: &mut [Watch<'_>],
    timeout: Option<&Timespec>,
) -> Result<(usize, PollFlags), Errno> {
    if others.len() > MAX_OTHERS {
        return Err(Errno::INVAL);
    }
    let mut all: [PollFd<'_>; MAX_OTHERS + 1] =
        std::array::from_fn(|_| PollFd::from_borrowed_fd(port, events));
    for (to, from) in all[1..].iter_mut().zip(others.iter()) {
        *to = PollFd::from_borrowed_fd(from.fd, from.events);
    }
    let count = rustix::event::poll(&mut all[..=others.len()], timeout)?;
    for (to, from) in others.iter_mut().zip(&all[1..]) {
        to.ready = from.revents();
    }
    Ok((count, all[0].revents()))
}

// The extra list's place in the header is written through the mapping.
const _: () = assert!(offset_of!(NetmapIf, ni_bufs_head) % 4 == 0);
