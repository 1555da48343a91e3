// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! An open port: rings, buffers, syncs.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::abi::{
    NetmapIf, NmreqPstFdReg, NmreqRegister, NmreqValeAttach, NmreqValeDetach, NR_REG_NIC_SW,
};
use crate::builder::Builder;
use crate::fence::{self, ExtraBuf, ExtraList, Lease, MemoryTag, RxRing, TxRing};
use crate::format::Format;
use crate::scribble::Scribbler;

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
    pub(crate) name: String,
    pub(crate) fd: OwnedFd,
    pub(crate) info: NmreqRegister,
    pub(crate) tx: Vec<TxRing>,
    pub(crate) rx: Vec<RxRing>,
    pub(crate) extra: ExtraList,
    pub(crate) claimed: Vec<ExtraBuf>,
    pub(crate) formatted: bool,
    pub(crate) tag: MemoryTag,
    // After the descriptor: until that is closed the kernel uses the memory.
    pub(crate) lease: Option<Lease>,
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

    /// The buffers claimed with [`Builder::claim`], in that order; none the
    /// second time.
    pub fn take_claimed(&mut self) -> Vec<ExtraBuf> {
        std::mem::take(&mut self.claimed)
    }

    /// What lies where in the memory given with [`Builder::memory`]. `None`:
    /// the port has other memory, or one without room for a header.
    pub fn format(&self) -> Option<Format> {
        self.lease.as_ref()?.format()
    }

    /// Whether the memory was formatted when this port was opened: it holds
    /// nothing of an earlier life. Memory without a header counts as that.
    pub fn formatted(&self) -> bool {
        self.formatted
    }

    /// The bytes of an extra buffer; empty if it belongs to another memory.
    pub fn bytes<'a>(&'a self, buf: &'a ExtraBuf) -> &'a [u8] {
        self.memory()
            .map_or(&[], |mem| fence::extra_bytes(mem, buf, self.tag))
    }

    /// Where a buffer is in memory: for flushing it. What is there may change
    /// at any time. `None`: there is none of that number.
    pub fn buffer_address(&self, index: u32) -> Option<*const u8> {
        Some(self.memory()?.buffer_place(index)?.0)
    }

    /// Where a buffer is in the file, or whatever memory the port has, in bytes
    /// from its begin. `None`: there is none of that number.
    pub fn buffer_offset(&self, index: u32) -> Option<u64> {
        Some(self.memory()?.buffer_place(index)?.1 as u64)
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
            name: self.name.clone(),
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
        register_socket(self.fd.as_fd(), &self.name, socket)
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

/// PST_FD_REG on a descriptor of the port `name`.
pub(crate) fn register_socket(
    port: BorrowedFd<'_>,
    name: &str,
    socket: BorrowedFd<'_>,
) -> io::Result<()> {
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let nr_fd = u32::try_from(number).map_err(|_| Errno::BADF)?;
    let mut body = NmreqPstFdReg { nr_fd, pad1: 0 };
    Ok(fence::control(port, name, &mut body)?)
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
