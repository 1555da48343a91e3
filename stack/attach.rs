// SPDX-License-Identifier: GPL-2.0

//! NICs and sockets come to a port, and leave it.

#![deny(unsafe_code)]

use super::port::SPARE_BUFS;
use super::ring::{Queue, Ring};
use super::socket::Socket;
use super::{input, output};
use crate::adapter::nic::{Nic, Upper};
use crate::adapter::Port;
use crate::mem::Pool;
use crate::nmcore::abi::{NmreqRegister, NR_REG_ALL_NIC, NR_REG_NIC_SW};
use crate::nmcore::Errno;
use crate::sys::bh::BhGuard;
use crate::sys::log::{complain, trimmed};
use crate::sys::netdev::NetDev;
use crate::sys::netns::Rtnl;
use crate::sys::skb::Skb;
use crate::sys::sock::Sock;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::{new_mutex, Arc, Mutex, SetOnce};

/// The part of a pool whose buffers the receive queues of one NIC may have. Half of a pool are the
/// slots', so that three NICs leave some for what TCP holds, however many queues and descriptors
/// they have.
const NIC_PART: u32 = 8;

/// Registers descriptor `fd` of the calling process with a ring.
///
/// EINVAL: below 3, not open, not a socket, a listening one. EPROTONOSUPPORT: not TCP.
/// ENOTCONN: neither connected nor connecting. EBUSY: registered already. EOPNOTSUPP: it has
/// another owner. ENOMEM.
pub(super) fn register(rings: &[Arc<Ring>], ring: &Arc<Ring>, fd: i32) -> Result {
    if fd < 3 {
        return Err(EINVAL);
    }
    let sock = Sock::from_fd(fd).map_err(|e| {
        if e == Errno::EPROTONOSUPPORT.into() || e == ENOMEM {
            e
        } else {
            EINVAL
        }
    })?;
    if sock.listening() {
        return Err(EINVAL);
    }
    // A descriptor number may be that of a socket which lives on under another one: the number
    // means the new socket from now on.
    for r in rings {
        if let Some(old) = r.socket(fd) {
            if old.sock.is(&sock) {
                return Err(EBUSY);
            }
            r.forget(&old);
            old.release();
        }
    }
    let socket = Socket::new(fd, sock, ring.clone())?;
    ring.enter(&socket)?;
    let hooked = socket.sock.lock().hook(socket.clone());
    if let Err(e) = hooked {
        ring.forget(&socket);
        return Err(e);
    }
    // What came before the hook was on.
    ring.make_ready(socket.as_arc_borrow());
    Ok(())
}

/// The NICs of a port.
#[pin_data]
pub(super) struct Nics {
    rings: SetOnce<KVec<Arc<Ring>>>,
    #[pin]
    list: Mutex<KVec<Option<Arc<Nic>>>>,
}

impl Nics {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { rings: SetOnce::new(), list <- new_mutex!(KVec::new()) }),
            GFP_KERNEL,
        )
    }

    pub(super) fn set_rings(&self, rings: &KVec<Arc<Ring>>) -> Result {
        let mut copy = KVec::with_capacity(rings.len(), GFP_KERNEL)?;
        for ring in rings.iter() {
            copy.push(ring.clone(), GFP_KERNEL)?;
        }
        self.rings.populate(copy);
        Ok(())
    }

    /// The ring that serves queue `q`.
    fn ring(&self, q: u32) -> Option<&Arc<Ring>> {
        let rings = self.rings.as_ref()?;
        rings.get(q as usize % rings.len().max(1))
    }

    /// Brings NIC `name` into the port; returns its port index, 1 and up.
    ///
    /// EINVAL: no such NIC, another memory id, a mode that is neither ALL_NIC nor NIC_SW.
    /// EBUSY: attached already, here or elsewhere. EOPNOTSUPP: the driver has no netmap support.
    pub(super) fn attach(
        this: &Arc<Self>,
        port: &Arc<Port>,
        name: &CStr,
        reg: &NmreqRegister,
        rtnl: &Rtnl,
    ) -> Result<u32> {
        let mode_ok = matches!(reg.nr_mode, NR_REG_ALL_NIC | NR_REG_NIC_SW);
        if !mode_ok || (reg.nr_mem_id != 0 && reg.nr_mem_id != port.pool.id()) {
            complain(fmt!(
                "a NIC is attached in mode ALL_NIC or NIC_SW, with its port's memory"
            ));
            return Err(EINVAL);
        }
        let dev = NetDev::by_name(&port.net, name, rtnl).ok_or_else(|| {
            complain(fmt!(
                "the port's network name space has no interface of that name"
            ));
            EINVAL
        })?;
        let index = {
            let mut list = this.list.lock();
            if list
                .iter()
                .flatten()
                .any(|nic| nic.dev().as_ptr() == dev.as_ptr())
            {
                return Err(EBUSY);
            }
            match list.iter().position(Option::is_none) {
                Some(i) => i,
                None => {
                    list.push(None, GFP_KERNEL)?;
                    list.len() - 1
                }
            }
        };
        let upper: Arc<dyn Upper> = this.clone();
        let nic = Nic::attach(dev, port.pool.clone(), upper, rtnl)?;
        if let Err(e) = this.serve(&nic) {
            this.unserve(&nic);
            nic.detach(rtnl);
            return Err(e);
        }
        // An interrupt may have come, and stayed off, before the ring knew the queue; and who feeds
        // hungry queues did not know it.
        for q in 0..nic.num_rx() {
            nic.schedule(q);
            if let Some(ring) = this.ring(q) {
                Ring::feed_later(ring);
            }
        }
        if let Some(entry) = this.list.lock().get_mut(index) {
            *entry = Some(nic);
        }
        Ok(index as u32 + 1)
    }

    /// Spreads the queues of a NIC over the rings.
    fn serve(&self, nic: &Arc<Nic>) -> Result {
        for q in 0..nic.num_rx().max(nic.num_tx()) {
            let ring = self.ring(q).ok_or(ENXIO)?;
            // Grown outside of the spin lock.
            let room = {
                let _bh = BhGuard::new();
                let n = ring.queues.lock().len();
                n + 1
            };
            let mut bigger = KVec::with_capacity(room, GFP_KERNEL)?;
            let _bh = BhGuard::new();
            let mut queues = ring.queues.lock();
            // rtnl is held: nobody else has changed it meanwhile.
            while let Some(queue) = queues.pop() {
                let _ = bigger.push_within_capacity(queue);
            }
            let _ = bigger.push_within_capacity(Queue {
                nic: nic.clone(),
                index: q,
            });
            core::mem::swap(&mut *queues, &mut bigger);
        }
        self.share_out(nic.pool());
        Ok(())
    }

    /// Takes the queues of a NIC away from the rings.
    fn unserve(&self, nic: &Nic) {
        for ring in self.rings.as_ref().map_or(&[][..], |r| r.as_slice()) {
            let _bh = BhGuard::new();
            ring.queues
                .lock()
                .retain(|queue| !core::ptr::eq(&*queue.nic, nic));
        }
        self.share_out(nic.pool());
    }

    /// Keeps half of the buffers that the NICs leave from being lent: each that is lent may keep
    /// another one from use, with which it shares a page, and a slow peer may never let go of it.
    pub(super) fn share_out(&self, pool: &Pool) {
        let rings = self.rings.as_ref().map_or(&[][..], |r| r.as_slice());
        let mut left = SPARE_BUFS.saturating_mul(rings.len() as u32);
        for ring in rings {
            let _bh = BhGuard::new();
            for queue in ring.queues.lock().iter() {
                let most = queue.nic.rx(queue.index).map_or(0, |rx| rx.lock().most());
                left = left.saturating_sub(most);
            }
        }
        pool.keep(left / 2);
    }

    /// Gives NIC `name` back to the host; returns the port index it had. ENXIO: not attached.
    pub(super) fn detach(&self, name: &CStr, rtnl: &Rtnl) -> Result<u32> {
        let (index, nic) = {
            let mut list = self.list.lock();
            let index = list
                .iter()
                .position(|nic| {
                    nic.as_ref()
                        .is_some_and(|nic| **trimmed(&nic.dev().name()) == *name.to_bytes())
                })
                .ok_or(ENXIO)?;
            (
                index,
                list.get_mut(index).and_then(Option::take).ok_or(ENXIO)?,
            )
        };
        self.unserve(&nic);
        nic.detach(rtnl);
        Ok(index as u32 + 1)
    }

    /// The port closes.
    pub(super) fn detach_all(&self, rtnl: &Rtnl) {
        let list = core::mem::replace(&mut *self.list.lock(), KVec::new());
        for nic in list.iter().flatten() {
            self.unserve(nic);
            nic.detach(rtnl);
        }
    }

    pub(super) fn show(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        for (i, nic) in self.list.lock().iter().enumerate() {
            if let Some(nic) = nic {
                let name = nic.dev().name();
                let copied: u64 = {
                    let _bh = BhGuard::new();
                    let queues = (0..nic.num_rx()).filter_map(|q| nic.rx(q));
                    queues.map(|rx| rx.lock().copied).sum()
                };
                w.write_fmt(fmt!("  nic {} {} copied {copied}\n", i + 1, trimmed(&name)))?;
            }
        }
        Ok(())
    }
}

impl Upper for Nics {
    fn resized(&self, nic: &Nic) {
        let own = {
            let list = self.list.lock();
            let found = list.iter().flatten().find(|n| core::ptr::eq(&***n, nic));
            found.cloned()
        };
        // Not in the list yet: attach() spreads the queues.
        let Some(nic) = own else {
            return;
        };
        self.unserve(&nic);
        if self.serve(&nic).is_err() {
            pr_err!("no memory to serve all queues\n");
        }
    }

    fn configured(&self, nic: &Nic, q: u32) {
        let (Some(rx), Some(ring)) = (nic.rx(q), self.ring(q)) else {
            return;
        };
        {
            let _bh = BhGuard::new();
            let mut rx = rx.lock();
            rx.limit(nic.pool().buf_count() / NIC_PART / nic.num_rx().max(1));
            rx.fill();
            rx.doorbell();
            if rx.hungry() {
                Ring::feed_later(ring);
            }
        }
        self.share_out(nic.pool());
    }

    fn irq(&self, nic: &Nic, queue: u32, budget: i32, rearm: &mut bool) -> i32 {
        let Some(ring) = self.ring(queue) else {
            return 0;
        };
        if Ring::leave_to_poll(ring) {
            *rearm = false;
            return 0;
        }
        let budget = u32::try_from(budget).unwrap_or(0);
        let Some(n) = input::reap(nic, queue, budget, ring, None) else {
            Ring::leave(ring);
            *rearm = false;
            return 0;
        };
        // At most `budget`, which is an i32.
        n as i32
    }

    fn xmit(&self, nic: &Nic, q: u32, skb: Skb) -> Result<(), Skb> {
        output::xmit(nic, q, skb)
    }

    fn gone(&self, nic: &Nic, _rtnl: &Rtnl) {
        self.unserve(nic);
        let left = {
            let mut list = self.list.lock();
            list.iter_mut()
                .find_map(|entry| entry.take_if(|n| core::ptr::eq(&**n, nic)))
        };
        pr_info!("{}: has left its stack port\n", trimmed(&nic.dev().name()));
        drop(left);
    }
}
