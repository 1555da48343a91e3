// SPDX-License-Identifier: GPL-2.0

//! Drivers that hand over their rings: the kernel's side of drivers/netmap_nic.h.

use super::bindings;
use super::dma::DmaDevice;
use super::netdev::{NetDev, Rtnl};
use super::skb::Skb;
use crate::nmcore::Errno;
use core::ptr::NonNull;
use core::sync::atomic::{fence, AtomicU64, Ordering};
use kernel::ffi::{c_int, c_uint, c_void};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes of a descriptor: two little-endian words of 64 bits.
const DESC: usize = 16;

/// Descriptor memory and doorbell of one hardware ring.
///
/// # Invariants
///
/// Valid from the `tx_ring` or `rx_ring` call that passes it until the `stop` call that follows:
/// whoever keeps it drops it there.
pub(crate) struct DescRing {
    desc: NonNull<u8>,
    tail: NonNull<c_void>,
    head: *const u32,
    count: u32,
}

// SAFETY: device memory belongs to no thread.
unsafe impl Send for DescRing {}

impl DescRing {
    /// # Safety
    ///
    /// `ring` comes from a driver's `tx_ring` or `rx_ring` call.
    unsafe fn from_raw(ring: *const bindings::nm_nic_ring) -> Option<Self> {
        // SAFETY: valid during the call.
        let ring = unsafe { &*ring };
        // INVARIANT: as the driver promises.
        Some(Self {
            desc: NonNull::new(ring.desc.cast())?,
            tail: NonNull::new(ring.tail)?,
            head: ring.head_wb,
            count: ring.count,
        })
    }

    #[inline]
    fn word(&self, i: u32, word: usize) -> Option<*mut u64> {
        // SAFETY: within the `count` descriptors of the ring, valid by the invariant.
        (i < self.count && word < 2).then(|| unsafe {
            self.desc
                .as_ptr()
                .add(i as usize * DESC + word * 8)
                .cast::<u64>()
        })
    }

    /// Word 0 or 1 of descriptor `i`; 0 for one that is not there.
    #[inline]
    pub(crate) fn read(&self, i: u32, word: usize) -> u64 {
        // SAFETY: valid and, as descriptors are, aligned. The device may write it, hence volatile.
        let value = self.word(i, word).map(|p| unsafe { p.read_volatile() });
        u64::from_le(value.unwrap_or(0))
    }

    /// Writes word 0 or 1 of descriptor `i`, which must not be the device's.
    #[inline]
    pub(crate) fn write(&self, i: u32, word: usize, value: u64) {
        if let Some(p) = self.word(i, word) {
            // SAFETY: as in `read`.
            unsafe { p.write_volatile(value.to_le()) };
        }
    }

    /// Up to `max` descriptors from `from` on, but none over the end of the ring.
    #[inline]
    pub(crate) fn run(&self, from: u32, max: u32) -> &[Descriptor] {
        // SAFETY: `count` descriptors, aligned to their size, valid by the invariant; every access
        // is atomic, and what the device does is outside of Rust's view.
        let all =
            unsafe { core::slice::from_raw_parts(self.desc.as_ptr().cast(), self.count as usize) };
        let end = (from as usize + max as usize).min(all.len());
        all.get(from as usize..end).unwrap_or(&[])
    }

    /// Writes descriptor `i`, which must not be the device's.
    #[inline]
    pub(crate) fn put(&self, i: u32, low: u64, high: u64) {
        self.write(i, 0, low);
        self.write(i, 1, high);
    }

    /// Number of descriptors.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The descriptor that the device looks at next, as it last wrote it. 0 where it does not.
    #[inline]
    pub(crate) fn head(&self) -> u32 {
        if self.head.is_null() {
            return 0;
        }
        // SAFETY: by the invariant. The device may write it, hence volatile.
        u32::from_le(unsafe { self.head.read_volatile() })
    }

    /// Writes the doorbell, after all descriptors written before.
    #[inline]
    pub(crate) fn doorbell(&self, value: u32) {
        // SAFETY: by the invariant the register is mapped.
        unsafe { bindings::nms_doorbell(self.tail.as_ptr(), value) };
    }

    /// What the device wrote before the word just read is visible from here on. Loads are not
    /// reordered on x86, the only architecture that the module is built for, so this is a barrier
    /// for the compiler.
    #[inline(always)]
    pub(crate) fn read_barrier(&self) {
        fence(Ordering::Acquire);
    }
}

/// A descriptor in the memory of a ring, little-endian. The device may write it at any time.
#[repr(C)]
pub(crate) struct Descriptor {
    first: AtomicU64,
    second: AtomicU64,
}

impl Descriptor {
    /// The second word. What the device wrote before it is visible from here on.
    #[inline(always)]
    pub(crate) fn second(&self) -> u64 {
        u64::from_le(self.second.load(Ordering::Acquire))
    }

    /// Writes the descriptor, which must not be the device's.
    #[inline(always)]
    pub(crate) fn put(&self, first: u64, second: u64) {
        self.first.store(first.to_le(), Ordering::Relaxed);
        self.second.store(second.to_le(), Ordering::Relaxed);
    }
}

/// The functions of a driver that a queue calls. Valid as long as a [`DescRing`].
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    dev: NonNull<bindings::net_device>,
    driver: NonNull<bindings::nm_nic_driver>,
}

// SAFETY: the driver's functions may be called from anywhere.
unsafe impl Send for Hooks {}
// SAFETY: as above.
unsafe impl Sync for Hooks {}

/// Frames and bytes since the last report.
pub(crate) type Count = bindings::nm_nic_count;

impl Hooks {
    fn driver(&self) -> &bindings::nm_nic_driver {
        // SAFETY: the driver's constant; see the type.
        unsafe { self.driver.as_ref() }
    }

    /// Unmasks the interrupt of a queue, with `tx` for sent frames too.
    pub(crate) fn irq_enable(&self, queue: u32, tx: bool) {
        if let Some(f) = self.driver().irq_enable {
            // SAFETY: valid device.
            unsafe { f(self.dev.as_ptr(), queue, tx) };
        }
    }

    /// Runs the queue's poll soon.
    pub(crate) fn schedule(&self, queue: u32) {
        if let Some(f) = self.driver().schedule {
            // SAFETY: valid device.
            unsafe { f(self.dev.as_ptr(), queue) };
        }
    }

    /// Adds to the statistics of the interface.
    pub(crate) fn count(&self, queue: u32, count: &Count) {
        if let Some(f) = self.driver().count {
            // SAFETY: valid device.
            unsafe { f(self.dev.as_ptr(), queue, count) };
        }
    }

    /// Stops the stack from sending to a queue.
    pub(crate) fn stop_queue(&self, queue: u32) {
        // SAFETY: valid device.
        unsafe { bindings::nms_dev_stop_queue(self.dev.as_ptr(), queue) };
    }

    /// Undoes [`stop_queue`](Self::stop_queue).
    pub(crate) fn wake_queue(&self, queue: u32) {
        // SAFETY: valid device.
        unsafe { bindings::nms_dev_wake_queue(self.dev.as_ptr(), queue) };
    }
}

/// What a driver calls while its NIC is in netmap mode; see struct nm_nic_ops.
pub(crate) trait NicOps: Send + Sync + 'static {
    /// So many queues are about to be set up; the rings follow. Process context.
    fn start(&self, num_tx: u32, num_rx: u32);
    /// A transmit ring is ready. Process context.
    fn tx_ring(&self, queue: u32, ring: DescRing, hooks: Hooks);
    /// A receive ring is ready: post buffers. Process context.
    fn rx_ring(&self, queue: u32, ring: DescRing, hooks: Hooks);
    /// The rings are no longer valid. Process context.
    fn stop(&self);
    /// The NIC uses no buffer any more. Process context.
    fn clean(&self);
    /// The stack sends a frame. `Err`: busy. Softirq context or BH off.
    fn xmit(&self, queue: u32, skb: Skb) -> Result<(), Skb>;
    /// NAPI poll; see struct nm_nic_ops. Softirq context.
    fn poll(&self, queue: u32, budget: i32, rearm: &mut bool, tx: &mut bool) -> i32;
}

/// A driver that can do netmap mode, kept loaded.
pub(crate) struct Driver {
    dev: NetDev,
    table: NonNull<bindings::nm_nic_driver>,
    /// Number of transmit and receive queues now, the most there may be of one kind later, and
    /// the number of descriptors in each.
    pub(crate) num_tx: u32,
    pub(crate) num_rx: u32,
    pub(crate) max_queues: u32,
    pub(crate) tx_slots: u32,
    pub(crate) rx_slots: u32,
    dma: DmaDevice,
}

impl Driver {
    /// The driver of a device.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it is not patched, for another version of the interface, or the chip cannot.
    pub(crate) fn of(dev: &NetDev, _rtnl: &Rtnl) -> Result<Self> {
        // SAFETY: valid device, rtnl held.
        let table = unsafe { bindings::nms_nic_driver_get(dev.as_ptr()) };
        let table = NonNull::new(table.cast_mut()).ok_or(Errno::EOPNOTSUPP)?;
        let put = ScopedPut(dev);
        // SAFETY: the driver's constant, kept by the reference just taken.
        let driver = unsafe { table.as_ref() };
        let mut info = bindings::nm_nic_info::default();
        let query = driver
            .info
            .filter(|_| driver.version == bindings::NM_NIC_VERSION);
        // SAFETY: valid device, rtnl held.
        kernel::error::to_result(unsafe {
            query.ok_or(Errno::EOPNOTSUPP)?(dev.as_ptr(), &mut info)
        })?;
        let dma = NonNull::new(info.dma_dev).ok_or(Errno::EOPNOTSUPP)?;
        core::mem::forget(put);
        Ok(Self {
            dev: dev.clone(),
            table,
            num_tx: info.num_tx,
            num_rx: info.num_rx,
            max_queues: info.max_queues.max(info.num_tx).max(info.num_rx),
            tx_slots: info.tx_slots,
            rx_slots: info.rx_slots,
            // SAFETY: the driver's device. `adapter::nic` unmaps when the device is unregistered
            // or netmap mode ends, both before the driver is unbound.
            dma: unsafe { DmaDevice::get(dma) },
        })
    }

    /// The device that does the DMA.
    pub(crate) fn dma(&self) -> DmaDevice {
        self.dma.clone()
    }

    /// Enters netmap mode: `nic` gets the calls from here on, the first ones from inside. `plain`:
    /// frames from the stack come complete and in one piece.
    ///
    /// # Errors
    ///
    /// The driver's: `EBUSY` if it is in netmap mode already or XDP is in use, `EINVAL` for a
    /// buffer size it cannot do.
    pub(crate) fn enter<T: NicOps>(
        self,
        nic: Arc<T>,
        rx_buf_size: u32,
        plain: bool,
        _rtnl: &Rtnl,
    ) -> Result<Mode<T>> {
        // SAFETY: kept by our reference.
        let set_mode = unsafe { self.table.as_ref() }
            .set_mode
            .ok_or(Errno::EOPNOTSUPP)?;
        let mode = Mode {
            cookie: KBox::new(
                Cookie {
                    nic,
                    hooks: Hooks {
                        dev: self.dev.0,
                        driver: self.table,
                    },
                    ops: bindings::nm_nic_ops {
                        start: Some(start::<T>),
                        tx_ring: Some(tx_ring::<T>),
                        rx_ring: Some(rx_ring::<T>),
                        stop: Some(stop::<T>),
                        clean: Some(clean::<T>),
                        xmit: Some(xmit::<T>),
                        poll: Some(poll::<T>),
                        rx_buf_size,
                        // SAFETY: no preconditions.
                        without: unsafe { bindings::nms_nic_without(plain) },
                    },
                },
                GFP_KERNEL,
            )?,
            dev: self.dev.clone(),
        };
        let cookie: *const Cookie<T> = &*mode.cookie;
        // SAFETY: valid device, rtnl held. The cookie lives until `leave`.
        kernel::error::to_result(unsafe {
            set_mode(
                self.dev.as_ptr(),
                &raw const (*cookie).ops,
                cookie.cast_mut().cast(),
            )
        })?;
        Ok(mode)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: pairs with `of`. From here on the driver may be unloaded, which begins with
        // NETDEV_UNREGISTER: netmap mode ends there.
        unsafe { bindings::nms_nic_driver_put(self.dev.as_ptr()) };
    }
}

struct ScopedPut<'a>(&'a NetDev);

impl Drop for ScopedPut<'_> {
    fn drop(&mut self) {
        // SAFETY: pairs with the reference taken in `Driver::of`.
        unsafe { bindings::nms_nic_driver_put(self.0.as_ptr()) };
    }
}

struct Cookie<T> {
    nic: Arc<T>,
    hooks: Hooks,
    ops: bindings::nm_nic_ops,
}

/// A NIC is in netmap mode. Holds a reference of its `T`, so it only ends with
/// [`leave`](Self::leave).
pub(crate) struct Mode<T: NicOps> {
    cookie: KBox<Cookie<T>>,
    dev: NetDev,
}

impl<T: NicOps> Mode<T> {
    /// Ends netmap mode. None of `T`'s functions runs when it returns.
    pub(crate) fn leave(self, _rtnl: &Rtnl) {
        // SAFETY: the device is registered or in its NETDEV_UNREGISTER notification, so its driver
        // and the table are there.
        if let Some(set_mode) = unsafe { self.cookie.hooks.driver.as_ref() }.set_mode {
            // SAFETY: valid device, rtnl held. The driver calls `stop` and `clean` if needed, with
            // NAPI disabled and the transmit queues stopped, and forgets the cookie.
            let result =
                unsafe { set_mode(self.dev.as_ptr(), core::ptr::null(), core::ptr::null_mut()) };
            if result != 0 {
                pr_err!("leaving netmap mode failed ({result})\n");
            }
        }
    }
}

/// # Safety
///
/// `nic` is the cookie that `enter` passed.
unsafe fn cookie<'a, T>(nic: *mut c_void) -> &'a Cookie<T> {
    // SAFETY: lives until `leave`, after which the driver does not call.
    unsafe { &*nic.cast::<Cookie<T>>() }
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn start<T: NicOps>(nic: *mut c_void, num_tx: c_uint, num_rx: c_uint) {
    // SAFETY: the driver's call.
    unsafe { cookie::<T>(nic) }.nic.start(num_tx, num_rx);
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn tx_ring<T: NicOps>(
    nic: *mut c_void,
    queue: c_uint,
    ring: *const bindings::nm_nic_ring,
) {
    // SAFETY: the driver's call.
    let (cookie, ring) = unsafe { (cookie::<T>(nic), DescRing::from_raw(ring)) };
    if let Some(ring) = ring {
        cookie.nic.tx_ring(queue, ring, cookie.hooks);
    }
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn rx_ring<T: NicOps>(
    nic: *mut c_void,
    queue: c_uint,
    ring: *const bindings::nm_nic_ring,
) {
    // SAFETY: the driver's call.
    let (cookie, ring) = unsafe { (cookie::<T>(nic), DescRing::from_raw(ring)) };
    if let Some(ring) = ring {
        cookie.nic.rx_ring(queue, ring, cookie.hooks);
    }
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn stop<T: NicOps>(nic: *mut c_void) {
    // SAFETY: the driver's call.
    unsafe { cookie::<T>(nic) }.nic.stop();
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn clean<T: NicOps>(nic: *mut c_void) {
    // SAFETY: the driver's call.
    unsafe { cookie::<T>(nic) }.nic.clean();
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn xmit<T: NicOps>(
    nic: *mut c_void,
    queue: c_uint,
    skb: *mut bindings::sk_buff,
) -> bindings::netdev_tx_t {
    let Some(raw) = NonNull::new(skb) else {
        return bindings::netdev_tx_NETDEV_TX_OK;
    };
    // SAFETY: the stack gives the packet away.
    let (cookie, skb) = unsafe { (cookie::<T>(nic), Skb::from_raw(raw)) };
    match cookie.nic.xmit(queue, skb) {
        Ok(()) => bindings::netdev_tx_NETDEV_TX_OK,
        Err(skb) => {
            // The stack keeps it and tries again.
            let _ = skb.into_raw();
            bindings::netdev_tx_NETDEV_TX_BUSY
        }
    }
}

/// # Safety
///
/// Called by the driver as struct nm_nic_ops says.
unsafe extern "C" fn poll<T: NicOps>(
    nic: *mut c_void,
    queue: c_uint,
    budget: c_int,
    rearm: *mut bool,
    tx: *mut bool,
) -> c_int {
    // SAFETY: the driver's call; both pointers are its own variables.
    let (cookie, rearm, tx) = unsafe { (cookie::<T>(nic), &mut *rearm, &mut *tx) };
    cookie.nic.poll(queue, budget, rearm, tx)
}
