// SPDX-License-Identifier: GPL-2.0

//! What a ring of a stack port has beside its slots: the sockets that belong to it, the list of
//! those with something to report, the NIC queues it serves, and who processes these queues now.
//!
//! While the application polls, interrupts only wake it, and stay off until a poll finds nothing
//! to do. If it stays away for [`ACTIVE`] ticks, the queues are processed in softirq context (NAPI)
//! like those of any NIC, so that everything else on the host goes on; data for registered sockets
//! then waits in their receive queues, and their windows close.

#![deny(unsafe_code)]

use super::socket::Socket;
use crate::adapter::kring::Kring;
use crate::adapter::nic::Nic;
use crate::sys::bh::{jiffies, BhGuard};
use crate::sys::ready::{ReadyList, Taken};
use crate::sys::timer::{Tick, Timer};
use core::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::{new_spinlock, Arc, ArcBorrow, SpinLock};

/// Ticks after its last sync for which an application counts as polling.
const ACTIVE: u64 = 2;

/// A queue of a NIC that a ring serves.
pub(super) struct Queue {
    pub(super) nic: Arc<Nic>,
    pub(super) index: u32,
}

/// Sockets by descriptor number.
pub(super) struct Table(KVVec<Option<Arc<Socket>>>);

/// One ring pair of a stack port, as sockets, NICs and the port see it.
#[pin_data]
pub(crate) struct Ring {
    /// Owner id of the port's buffers: tells whose socket a packet belongs to.
    pub(super) owner: u16,
    /// The receive ring, whose waiters are woken.
    kring: Arc<Kring>,
    /// A poll is at work and will drain the ready list: no need to wake anybody.
    polling: AtomicBool,
    /// Sockets with something to report.
    ready: ReadyList<Socket>,
    /// `left` is not empty.
    any_left: AtomicBool,
    /// Interrupts of the queues are off until a poll, or the timer, puts them on again.
    masked: AtomicBool,
    /// Some queue may have too few buffers.
    hungry: AtomicBool,
    /// Tick of the last sync.
    last_sync: AtomicU64,
    /// Those that found no slot in the last sync; they come before `ready`.
    #[pin]
    left: SpinLock<Taken<Socket>>,
    /// Process context only.
    #[pin]
    table: SpinLock<Table>,
    #[pin]
    pub(super) queues: SpinLock<KVec<Queue>>,
    #[pin]
    timer: Timer<Ring>,
}

impl Ring {
    pub(super) fn new(owner: u16, kring: Arc<Kring>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                owner,
                kring,
                polling: AtomicBool::new(false),
                ready: ReadyList::new(),
                any_left: AtomicBool::new(false),
                masked: AtomicBool::new(false),
                hungry: AtomicBool::new(false),
                last_sync: AtomicU64::new(0),
                left <- new_spinlock!(Taken::none()),
                table <- new_spinlock!(Table(KVVec::new())),
                queues <- new_spinlock!(KVec::new()),
                timer <- Timer::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Wakes who waits for the ring.
    #[inline]
    pub(super) fn wake(&self) {
        self.kring.notify();
    }

    // Ready list.

    /// Links a socket into the ready list, if it is not linked. Any context.
    #[inline]
    pub(super) fn make_ready(&self, socket: ArcBorrow<'_, Socket>) {
        // The push is a full barrier, like the fence of `idle`: either this sees that nobody
        // polls, or the poller sees the list.
        if self.ready.push(socket) && !self.polling.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Whether a socket is ready.
    #[inline]
    fn any(&self) -> bool {
        !self.ready.is_empty() || self.any_left.load(Ordering::Relaxed)
    }

    /// Takes the ready sockets, in order: those left over first, the others with the next call.
    #[inline]
    pub(super) fn take_ready(&self) -> Taken<Socket> {
        if self.any_left.load(Ordering::Relaxed) {
            self.any_left.store(false, Ordering::Relaxed);
            return core::mem::replace(&mut *self.left.lock(), Taken::none());
        }
        if self.ready.is_empty() {
            return Taken::none();
        }
        self.ready.take()
    }

    /// No slot is left: the next sync goes on with these.
    pub(super) fn put_back(&self, list: Taken<Socket>) {
        if !list.is_empty() {
            *self.left.lock() = list;
            self.any_left.store(true, Ordering::Relaxed);
        }
    }

    // Table.

    /// The socket registered as `fd`.
    #[inline]
    pub(super) fn socket(&self, fd: i32) -> Option<Arc<Socket>> {
        let i = usize::try_from(fd).ok()?;
        self.table.lock().0.get(i)?.clone()
    }

    /// Enters a socket under its descriptor. EBUSY: the entry is taken. ENOMEM.
    pub(super) fn enter(&self, socket: &Arc<Socket>) -> Result {
        let i = usize::try_from(socket.fd).map_err(|_| EINVAL)?;
        loop {
            let have = {
                let mut table = self.table.lock();
                if let Some(entry) = table.0.get_mut(i) {
                    if entry.is_some() {
                        return Err(EBUSY);
                    }
                    *entry = Some(socket.clone());
                    return Ok(());
                }
                table.0.len()
            };
            // Grown outside of the lock, by doubling.
            let size = (i + 1).next_power_of_two().max(64);
            let mut bigger = KVVec::with_capacity(size, GFP_KERNEL)?;
            for _ in 0..size {
                bigger.push(None, GFP_KERNEL)?;
            }
            let old = {
                let mut table = self.table.lock();
                if table.0.len() == have {
                    for (new, old) in bigger.iter_mut().zip(table.0.iter_mut()) {
                        *new = old.take();
                    }
                    core::mem::replace(&mut table.0, bigger)
                } else {
                    bigger
                }
            };
            drop(old);
        }
    }

    /// Takes a socket out of the table.
    pub(super) fn forget(&self, socket: &Socket) {
        let entry = {
            let mut table = self.table.lock();
            usize::try_from(socket.fd)
                .ok()
                .and_then(|i| table.0.get_mut(i))
                .and_then(|e| e.take_if(|s| core::ptr::eq(&**s, socket)))
        };
        drop(entry);
    }

    /// Number of registered sockets, for show.
    pub(super) fn count(&self) -> usize {
        let n = self.table.lock().0.iter().flatten().count();
        n
    }

    /// The port goes: all sockets are ordinary ones again. Process context.
    pub(super) fn release_all(&self) {
        let table = { core::mem::replace(&mut self.table.lock().0, KVVec::new()) };
        for socket in table.iter().flatten() {
            socket.release();
        }
        drop(table);
        while self.any() {
            drop(self.take_ready());
        }
    }

    // Who processes the queues.

    /// A sync begins.
    #[inline]
    pub(super) fn touch(&self) {
        self.last_sync.store(jiffies(), Ordering::Relaxed);
    }

    /// A poll begins: it drains the ready list itself.
    #[inline]
    pub(super) fn poll_begins(&self) {
        self.polling.store(true, Ordering::Relaxed);
        self.touch();
    }

    /// It ends; what became ready after it looked is somebody else's to fetch.
    #[inline]
    pub(super) fn poll_ends(&self) {
        self.polling.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.any() {
            self.wake();
        }
    }

    fn active(&self) -> bool {
        jiffies().wrapping_sub(self.last_sync.load(Ordering::Relaxed)) <= ACTIVE
    }

    /// An interrupt of one of the queues. True: an application is at it, it has been woken, and
    /// the interrupt stays off. False: nobody polls, the caller processes the queue.
    pub(super) fn leave_to_poll(ring: &Arc<Ring>) -> bool {
        let active = ring.active();
        if active {
            Self::leave(ring);
        }
        active
    }

    /// An interrupt stays off and the application is woken, until it has been away for a while.
    pub(super) fn leave(ring: &Arc<Ring>) {
        ring.masked.store(true, Ordering::Release);
        ring.timer.start(ring, ACTIVE);
        ring.wake();
    }

    /// A poll has found nothing to do. Puts interrupts on; true if something has come meanwhile.
    pub(super) fn idle(&self) -> bool {
        self.polling.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.any() {
            return true;
        }
        let unmask = self.masked.swap(false, Ordering::AcqRel);
        let _bh = BhGuard::new();
        let mut work = false;
        for queue in self.queues.lock().iter() {
            if unmask {
                queue.nic.irq_enable(queue.index, false);
            }
            work |= queue
                .nic
                .rx(queue.index)
                .is_some_and(|rx| rx.lock().pending());
        }
        work
    }

    /// Some queue may have got no buffers when its NIC started, because the pool had none just then:
    /// tries again until it has some. Nothing comes in there, so nobody else would.
    pub(super) fn feed_later(ring: &Arc<Ring>) {
        ring.hungry.store(true, Ordering::Release);
        ring.timer.start(ring, ACTIVE);
    }

    /// Softirq context. Whether some queue is still hungry.
    fn feed(&self) -> bool {
        if !self.hungry.swap(false, Ordering::AcqRel) {
            return false;
        }
        let mut hungry = false;
        for queue in self.queues.lock().iter() {
            if let Some(rx) = queue.nic.rx(queue.index) {
                let mut rx = rx.lock();
                if rx.hungry() {
                    rx.cache.recover();
                    rx.fill();
                    rx.doorbell();
                    hungry |= rx.hungry();
                }
            }
        }
        if hungry {
            self.hungry.store(true, Ordering::Release);
        }
        hungry
    }

    /// Looks which buffers that the receive queues have lent are back.
    pub(super) fn recover(&self) {
        let _bh = BhGuard::new();
        for queue in self.queues.lock().iter() {
            if let Some(rx) = queue.nic.rx(queue.index) {
                rx.lock().cache.recover();
            }
        }
    }

    /// Sockets that wait for something, or are waited for.
    pub(super) fn show(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        let polling = self.polling.load(Ordering::Relaxed);
        let masked = self.masked.load(Ordering::Relaxed);
        if polling || masked || self.any() {
            let ready = self.any();
            w.write_fmt(fmt!(
                "    polling {polling} masked {masked} ready {ready}\n"
            ))?;
        }
        let len = self.table.lock().0.len();
        for socket in (0..len).filter_map(|i| self.socket(i as i32)) {
            socket.show(w)?;
        }
        Ok(())
    }

    /// The port goes: no timer any more.
    pub(super) fn shut_down(&self) {
        self.timer.stop();
    }
}

impl Tick for Ring {
    /// Runs in softirq context while interrupts are off or a queue lacks buffers: has the application
    /// stayed away?
    fn tick(&self) -> Option<u64> {
        let again = self.feed().then_some(ACTIVE);
        if !self.masked.load(Ordering::Acquire) {
            return again;
        }
        if self.active() {
            return Some(ACTIVE);
        }
        self.masked.store(false, Ordering::Release);
        for queue in self.queues.lock().iter() {
            queue.nic.schedule(queue.index);
        }
        again
    }
}
