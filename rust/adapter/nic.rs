// SPDX-License-Identifier: GPL-2.0

//! A NIC in netmap mode: its queues, and who uses them.
//!
//! The user (`Upper`) is a stack port or a port that shows the NIC's rings. Rings come and go
//! with the driver's restarts (ifdown, MTU, ring size, watchdog): between the driver's `stop` and
//! the next `rx_ring`/`tx_ring` a queue has no hardware ring and does nothing. The queues
//! themselves live as long as the [`Nic`], which has room for as many as the NIC may ever get.
//!
//! Lock order: rtnl, then what the user locks in its callbacks, then one queue lock (bottom halves
//! off), then the pool's.

#![deny(unsafe_code)]

use super::queue::{Running, RxQueue, TxQueue, TxSpace};
use crate::drivers::hw::{Driver as Chip, Offload};
use crate::mem::Pool;
use crate::nmcore::Errno;
use crate::sys::bh::BhGuard;
use crate::sys::dma::{DmaDevice, PoolMap};
use crate::sys::log::complain;
pub(crate) use crate::sys::netdev::Notifier;
use crate::sys::netdev::{self, Event, NetDev, Rtnl, Watcher};
use crate::sys::nicops::{DescRing, Driver, Hooks, Mode, NicOps};
use crate::sys::skb::Skb;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_mutex, new_spinlock, Arc, Mutex, SetOnce, SpinLock};
use kernel::time::{delay::fsleep, Delta};

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// Bytes of a VLAN tag.
const VLAN_TAG: u32 = 4;

/// Milliseconds, or a little more each, that a NIC which leaves netmap mode has for what it is to send.
const DRAIN: u32 = 50;

/// Who uses a NIC in netmap mode.
pub(crate) trait Upper: Send + Sync {
    /// Whether the frames passed to [`xmit`](Self::xmit) must be complete and in one piece: the
    /// stack then computes checksums and cuts segments itself.
    fn plain(&self) -> bool {
        false
    }

    /// The number of queues has changed; their rings follow. Process context, no lock but rtnl.
    fn resized(&self, nic: &Nic) {
        let _ = nic;
    }

    /// Receive queue `queue` has an empty ring: post buffers. Process context, no lock but rtnl.
    fn configured(&self, nic: &Nic, queue: u32);

    /// The NIC has stopped; posted buffers are back in the queues' caches, frames to be sent are
    /// dropped. Process context.
    fn cleaned(&self, nic: &Nic) {
        let _ = nic;
    }

    /// NAPI poll of the queues `queue`: returns the work done, less than `budget` when there is no
    /// more. `rearm` left true: their interrupt is unmasked; false: the user calls
    /// [`Nic::irq_enable`] when it wants it. Queues may share an interrupt, so that it comes all
    /// the same.
    fn irq(&self, nic: &Nic, queue: u32, budget: i32, rearm: &mut bool) -> i32;

    /// The stack sends a frame. `Err`: no room (see [`TxQueue::ready`]), the stack tries again. A
    /// frame that cannot be sent at all is dropped.
    fn xmit(&self, nic: &Nic, queue: u32, skb: Skb) -> Result<(), Skb>;

    /// The NIC has gone (driver unloaded, moved to another name space); netmap mode has ended. The
    /// user drops its references of the [`Nic`]: the device waits for them.
    fn gone(&self, nic: &Nic, rtnl: &Rtnl);

    /// Its state, link or MTU changed.
    fn changed(&self, nic: &Nic, event: Event) {
        let _ = (nic, event);
    }
}

/// A queue that is made when it is first needed.
type Place<Q> = SetOnce<Pin<KBox<SpinLock<Q>>>>;

/// A NIC in netmap mode.
#[pin_data]
pub(crate) struct Nic {
    dev: NetDev,
    chip: Chip,
    pool: Arc<Pool>,
    upper: Arc<dyn Upper>,
    rx: KVec<Place<RxQueue>>,
    tx: KVec<Place<TxQueue>>,
    /// How many of the places are in use now, from the first on.
    num_rx: AtomicU32,
    num_tx: AtomicU32,
    /// False from the end of netmap mode on.
    alive: AtomicBool,
    #[pin]
    held: Mutex<Held>,
}

/// What is given up when netmap mode ends.
struct Held {
    mode: Option<Mode<Nic>>,
    dma: Option<DmaDevice>,
    map: Option<Arc<PoolMap>>,
}

impl Nic {
    /// Puts a NIC into netmap mode with buffers of `pool`. `upper` is called from inside if the
    /// NIC is up.
    ///
    /// The NIC and its user refer to each other: the user drops its reference after
    /// [`detach`](Self::detach) or in [`Upper::gone`].
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`: no patched driver, or the chip cannot. `EBUSY`: in netmap mode already, or XDP
    /// is in use. `EINVAL`: the pool's buffers are too small. `EIO`: the NIC cannot reach the
    /// pool's memory. `ENOMEM`.
    pub(crate) fn attach(
        dev: NetDev,
        pool: Arc<Pool>,
        upper: Arc<dyn Upper>,
        rtnl: &Rtnl,
    ) -> Result<Arc<Self>> {
        let chip = Chip::by_name(dev.driver_name(rtnl)).ok_or(Errno::EOPNOTSUPP)?;
        let driver = Driver::of(&dev, rtnl)?;
        let sizes = chip.rx_buf_sizes().iter();
        let rx_buf_size = sizes
            .copied()
            .filter(|&s| s <= pool.buf_size())
            .max()
            .ok_or(EINVAL)?;
        let map = PoolMap::new(driver.dma(), &pool).inspect_err(|_| {
            complain(fmt!("this NIC's DMA cannot reach all of the pool's memory"));
        })?;
        let map = Arc::new(map, GFP_KERNEL)?;
        let held = Held {
            mode: None,
            dma: Some(driver.dma()),
            map: Some(map),
        };
        let (rx, tx) = (places(driver.max_queues)?, places(driver.max_queues)?);
        let nic = Arc::pin_init(
            pin_init!(Self {
                dev,
                chip,
                pool,
                upper,
                rx,
                tx,
                num_rx: AtomicU32::new(driver.num_rx),
                num_tx: AtomicU32::new(driver.num_tx),
                alive: AtomicBool::new(true),
                held <- new_mutex!(held, "netmap_nic"),
            }),
            GFP_KERNEL,
        )?;
        for queue in 0..driver.num_rx {
            nic.make_rx(queue)?;
        }
        for queue in 0..driver.num_tx {
            nic.make_tx(queue)?;
        }
        // Before the driver knows us, so that its unloading cannot be missed.
        netdev::watch(&nic.dev, nic.clone(), rtnl)?;
        match driver.enter(nic.clone(), rx_buf_size, nic.upper.plain(), rtnl) {
            Ok(mode) => {
                nic.held.lock().mode = Some(mode);
                Ok(nic)
            }
            Err(e) => {
                nic.detach(rtnl);
                Err(e)
            }
        }
    }

    /// Ends netmap mode. Afterwards the user is not called any more and the queues are empty.
    /// Nothing happens if it has ended already.
    pub(crate) fn detach(&self, rtnl: &Rtnl) {
        if !self.alive.swap(false, Ordering::AcqRel) {
            return;
        }
        netdev::unwatch(&self.dev, rtnl);
        let mode = self.held.lock().mode.take();
        if let Some(mode) = mode {
            self.drain();
            mode.leave(rtnl);
        }
        // What the queues had is freed with bottom halves on, as DMA memory must be.
        for rx in self.rx.iter().filter_map(SetOnce::as_ref) {
            let old = without_bh(|| rx.lock().close());
            drop(old);
        }
        for tx in self.tx.iter().filter_map(SetOnce::as_ref) {
            let old = without_bh(|| tx.lock().close());
            drop(old);
        }
        let (dma, map) = {
            let mut held = self.held.lock();
            (held.dma.take(), held.map.take())
        };
        drop((dma, map));
    }

    /// Waits until what was to be sent has been, for [`DRAIN`] tries at most: the NIC's restart loses the
    /// rest, and nobody would send a reset again.
    fn drain(&self) {
        for _ in 0..DRAIN {
            let can_send = self.dev.running() && self.dev.carrier();
            if !can_send || self.dev.queues_empty() && self.sent() {
                return;
            }
            fsleep(Delta::from_millis(1));
        }
    }

    /// Whether the NIC has sent all that it was given.
    fn sent(&self) -> bool {
        let _bh = BhGuard::new();
        let mut tx = self.tx.iter().filter_map(SetOnce::as_ref);
        tx.all(|tx| tx.lock().sent())
    }

    /// Receive queue `queue`, made if there is none yet.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the driver announced fewer. `ENODEV`: netmap mode has ended. `ENOMEM`.
    fn make_rx(&self, queue: u32) -> Result<&SpinLock<RxQueue>> {
        let place = self.rx.get(queue as usize).ok_or(EINVAL)?;
        if place.as_ref().is_none() {
            let map = self.held.lock().map.clone().ok_or(ENODEV)?;
            let new = RxQueue::new(queue, self.pool.clone(), map)?;
            place.populate(KBox::pin_init(new_spinlock!(new, "netmap_rx"), GFP_KERNEL)?);
        }
        Ok(place.as_ref().ok_or(ENOMEM)?)
    }

    /// Transmit queue `queue`, as [`make_rx`](Self::make_rx).
    fn make_tx(&self, queue: u32) -> Result<&SpinLock<TxQueue>> {
        let place = self.tx.get(queue as usize).ok_or(EINVAL)?;
        if place.as_ref().is_none() {
            let map = self.held.lock().map.clone().ok_or(ENODEV)?;
            let new = TxQueue::new(queue, map);
            place.populate(KBox::pin_init(new_spinlock!(new, "netmap_tx"), GFP_KERNEL)?);
        }
        Ok(place.as_ref().ok_or(ENOMEM)?)
    }

    /// Receive queue `queue`. Locked with bottom halves off.
    #[inline]
    pub(crate) fn rx(&self, queue: u32) -> Option<&SpinLock<RxQueue>> {
        Some(self.rx.get(queue as usize)?.as_ref()?)
    }

    /// Transmit queue `queue`. Locked with bottom halves off.
    #[inline]
    pub(crate) fn tx(&self, queue: u32) -> Option<&SpinLock<TxQueue>> {
        Some(self.tx.get(queue as usize)?.as_ref()?)
    }

    /// Number of receive queues now.
    pub(crate) fn num_rx(&self) -> u32 {
        self.num_rx.load(Ordering::Relaxed)
    }

    /// Number of transmit queues now.
    pub(crate) fn num_tx(&self) -> u32 {
        self.num_tx.load(Ordering::Relaxed)
    }

    /// Whether the NIC can complete frames like that; else the stack does.
    #[inline]
    pub(crate) fn can(&self, offload: &Offload) -> bool {
        self.chip.can(offload)
    }

    /// Bytes that a frame may have now, without CRC: what the MTU allows, with room for a VLAN tag.
    pub(crate) fn max_frame(&self) -> u32 {
        let frame = self.mtu().saturating_add(ETHERNET + VLAN_TAG);
        frame.min(self.chip.max_frame())
    }

    /// Pieces that one frame on the wire may be sent in.
    #[inline]
    pub(crate) fn max_pieces(&self) -> u32 {
        self.chip.max_pieces()
    }

    /// The memory its buffers come from.
    #[inline]
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Its device.
    #[inline]
    pub(crate) fn dev(&self) -> &NetDev {
        &self.dev
    }

    /// Largest packet behind the Ethernet header, in bytes.
    #[inline]
    pub(crate) fn mtu(&self) -> u32 {
        self.dev.mtu()
    }

    /// Unmasks the interrupts of a queue: for received frames, and for sent ones if somebody waits
    /// for them ([`TxQueue::wants_irq`]) or `tx` asks for it.
    pub(crate) fn irq_enable(&self, queue: u32, tx: bool) {
        let _bh = BhGuard::new();
        let tx = tx || self.tx(queue).is_some_and(|t| t.lock().wants_irq());
        // Under the lock, so that the ring and with it the driver stay.
        if let Some(rx) = self.rx(queue) {
            let rx = rx.lock();
            if let Some(hooks) = rx.hooks() {
                hooks.irq_enable(queue, tx);
            }
        }
    }

    /// Has [`Upper::irq`] called soon.
    pub(crate) fn schedule(&self, queue: u32) {
        let _bh = BhGuard::new();
        if let Some(rx) = self.rx(queue) {
            let rx = rx.lock();
            if let Some(hooks) = rx.hooks() {
                hooks.schedule(queue);
            }
        }
    }
}

/// Places for `count` queues.
fn places<Q>(count: u32) -> Result<KVec<Place<Q>>> {
    let mut places = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for _ in 0..count {
        places.push(SetOnce::new(), GFP_KERNEL)?;
    }
    Ok(places)
}

/// Calls `f` with bottom halves off.
fn without_bh<T>(f: impl FnOnce() -> T) -> T {
    let _bh = BhGuard::new();
    f()
}

impl NicOps for Nic {
    fn start(&self, num_tx: u32, num_rx: u32) {
        let before = (self.num_tx(), self.num_rx());
        self.num_tx.store(num_tx, Ordering::Relaxed);
        self.num_rx.store(num_rx, Ordering::Relaxed);
        if before == (num_tx, num_rx) {
            return;
        }
        // What waits in queues that are no more is somebody else's to use.
        for rx in self.rx.iter().skip(num_rx as usize) {
            if let Some(rx) = rx.as_ref() {
                let _bh = BhGuard::new();
                rx.lock().cache.flush();
            }
        }
        self.upper.resized(self);
    }

    fn tx_ring(&self, queue: u32, ring: DescRing, hooks: Hooks) {
        if let Err(e) = self.start_tx(queue, ring, hooks) {
            pr_err!("transmit queue {queue} stays closed: {e:?}\n");
        }
    }

    fn rx_ring(&self, queue: u32, ring: DescRing, hooks: Hooks) {
        match self.start_rx(queue, ring, hooks) {
            Ok(()) => self.upper.configured(self, queue),
            Err(e) => pr_err!("receive queue {queue} stays closed: {e:?}\n"),
        }
    }

    fn stop(&self) {
        let _bh = BhGuard::new();
        for rx in self.rx.iter().filter_map(SetOnce::as_ref) {
            rx.lock().stop();
        }
        for tx in self.tx.iter().filter_map(SetOnce::as_ref) {
            tx.lock().stop();
        }
    }

    fn clean(&self) {
        {
            let _bh = BhGuard::new();
            for rx in self.rx.iter().filter_map(SetOnce::as_ref) {
                rx.lock().unpost_all();
            }
            for tx in self.tx.iter().filter_map(SetOnce::as_ref) {
                tx.lock().forget_all();
            }
        }
        self.upper.cleaned(self);
    }

    fn xmit(&self, queue: u32, skb: Skb) -> Result<(), Skb> {
        self.upper.xmit(self, queue, skb)
    }

    fn poll(&self, queue: u32, budget: i32, rearm: &mut bool, tx: &mut bool) -> i32 {
        if let Some(queue) = self.tx(queue) {
            queue.lock().reap();
        }
        let work = self.upper.irq(self, queue, budget, rearm);
        *tx = self.tx(queue).is_some_and(|t| t.lock().wants_irq());
        work
    }
}

impl Nic {
    fn start_tx(&self, queue: u32, ring: DescRing, hooks: Hooks) -> Result {
        let tx = self.make_tx(queue)?;
        let dma = self.held.lock().dma.clone().ok_or(ENODEV)?;
        let space = TxSpace::new(dma, ring.count())?;
        let run = Running {
            hw: self.chip.tx_ring(ring),
            hooks,
        };
        let old = without_bh(|| tx.lock().start(run, space));
        drop(old);
        Ok(())
    }

    fn start_rx(&self, queue: u32, ring: DescRing, hooks: Hooks) -> Result {
        let rx = self.make_rx(queue)?;
        let bufs = KVec::from_elem(0u32, ring.count() as usize, GFP_KERNEL)?;
        let run = Running {
            hw: self.chip.rx_ring(ring),
            hooks,
        };
        let old = without_bh(|| rx.lock().start(run, bufs));
        drop(old);
        Ok(())
    }
}

impl Watcher for Nic {
    fn event(&self, event: Event, rtnl: &Rtnl) {
        if event == Event::Unregister {
            self.detach(rtnl);
            self.upper.gone(self, rtnl);
        } else {
            self.upper.changed(self, event);
        }
    }
}

/// Starts to listen for what happens to network devices. Once, when the module is loaded, before
/// any [`Nic::attach`].
///
/// # Errors
///
/// The kernel's.
pub(crate) fn init() -> Result<Notifier> {
    Notifier::new()
}
