// SPDX-License-Identifier: GPL-2.0

//! Network devices, and what happens to them.

use super::bindings;
use super::netns::Net;
pub(crate) use super::netns::Rtnl;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::ffi::c_ulong;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A reference of a network device.
pub(crate) struct NetDev(pub(super) NonNull<bindings::net_device>);

// SAFETY: the reference belongs to no thread.
unsafe impl Send for NetDev {}
// SAFETY: what is read through it may change at any time and is read as one word each.
unsafe impl Sync for NetDev {}

impl NetDev {
    /// The device of that name.
    pub(crate) fn by_name(net: &Net, name: &CStr, _rtnl: &Rtnl) -> Option<Self> {
        // SAFETY: both are valid, rtnl is held.
        NonNull::new(unsafe { bindings::nms_dev_get(net.as_ptr(), name.as_char_ptr()) }).map(Self)
    }

    /// The kernel's `struct net_device`.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::net_device {
        self.0.as_ptr()
    }

    /// Its name now, NUL-padded.
    pub(crate) fn name(&self) -> [u8; 16] {
        let mut name = [0; 16];
        // SAFETY: valid; 16 bytes are written.
        unsafe { bindings::nms_dev_name(self.as_ptr(), name.as_mut_ptr().cast()) };
        name
    }

    /// Largest packet behind the Ethernet header, in bytes.
    #[inline]
    pub(crate) fn mtu(&self) -> u32 {
        // SAFETY: valid.
        unsafe { (&raw const (*self.as_ptr()).mtu).read_volatile() }
    }

    /// Whether it has a link.
    pub(crate) fn carrier(&self) -> bool {
        // SAFETY: valid.
        unsafe { bindings::nms_dev_carrier(self.as_ptr()) }
    }

    /// Whether no packet waits in a queueing discipline, or is on its way from there to the driver.
    /// May sleep.
    pub(crate) fn queues_empty(&self) -> bool {
        // SAFETY: valid.
        unsafe { bindings::nms_dev_queues_empty(self.as_ptr()) }
    }

    /// Whether it is up.
    pub(crate) fn running(&self) -> bool {
        // SAFETY: valid.
        unsafe { bindings::nms_dev_running(self.as_ptr()) }
    }

    /// Name of its driver, empty if it has none.
    pub(crate) fn driver_name(&self, _rtnl: &Rtnl) -> &[u8] {
        // SAFETY: valid.
        let name = unsafe { bindings::nms_dev_driver(self.as_ptr()) };
        if name.is_null() {
            return &[];
        }
        // SAFETY: a string that lives as long as the driver is bound, which rtnl and our reference
        // make sure of: removal unregisters the device first.
        unsafe { CStr::from_char_ptr(name) }.to_bytes()
    }
}

impl Clone for NetDev {
    fn clone(&self) -> Self {
        // SAFETY: valid.
        unsafe { bindings::nms_dev_hold(self.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for NetDev {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { bindings::nms_dev_put(self.as_ptr()) };
    }
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Will be stopped.
    GoingDown,
    /// Has been started.
    Up,
    /// Its link or flags changed.
    Change,
    /// Its MTU changed.
    Mtu,
    /// Leaves (driver unloaded, hardware unplugged) or moves to another name space.
    Unregister,
}

/// Told of what happens to devices.
pub(crate) trait Watcher: Send + Sync {
    /// rtnl is held. May sleep.
    fn event(&self, event: Event, rtnl: &Rtnl);
}

struct Watch {
    dev: NetDev,
    watcher: Arc<dyn Watcher>,
}

kernel::sync::global_lock! {
    // SAFETY: initialised in `Notifier::new`, before which there is no device to watch.
    unsafe(uninit) static WATCHES: Mutex<KVec<Watch>> = KVec::new();
}

/// Receives the kernel's notifications about network devices while it lives: one per module.
pub(crate) struct Notifier(PhantomData<()>);

impl Notifier {
    /// Starts. Called once, when the module is loaded.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: once, before all other uses.
        unsafe { WATCHES.init() };
        // SAFETY: unregistered in drop.
        kernel::error::to_result(unsafe { bindings::nms_dev_watch(Some(notify)) })?;
        Ok(Self(PhantomData))
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // SAFETY: pairs with `new`.
        unsafe { bindings::nms_dev_unwatch() };
    }
}

/// From here on `watcher` is told of what happens to `dev`. rtnl keeps the order of events.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn watch(dev: &NetDev, watcher: Arc<dyn Watcher>, _rtnl: &Rtnl) -> Result {
    WATCHES.lock().push(
        Watch {
            dev: dev.clone(),
            watcher,
        },
        GFP_KERNEL,
    )?;
    Ok(())
}

/// Ends [`watch`].
pub(crate) fn unwatch(dev: &NetDev, _rtnl: &Rtnl) {
    WATCHES.lock().retain(|w| w.dev.as_ptr() != dev.as_ptr());
}

/// # Safety
///
/// Called by the shim with a device and rtnl held.
unsafe extern "C" fn notify(dev: *mut bindings::net_device, event: c_ulong) {
    let event = match event as u32 {
        bindings::netdev_cmd_NETDEV_GOING_DOWN => Event::GoingDown,
        bindings::netdev_cmd_NETDEV_UP => Event::Up,
        bindings::netdev_cmd_NETDEV_CHANGE => Event::Change,
        bindings::netdev_cmd_NETDEV_CHANGEMTU => Event::Mtu,
        bindings::netdev_cmd_NETDEV_UNREGISTER => Event::Unregister,
        _ => return,
    };
    // One watcher per device: netmap mode has one user.
    let watcher = {
        let watches = WATCHES.lock();
        let found = watches.iter().find(|w| core::ptr::eq(w.dev.as_ptr(), dev));
        found.map(|w| w.watcher.clone())
    };
    if let Some(watcher) = watcher {
        // Not dropped: the notification's caller unlocks.
        // SAFETY: the shim passes on only events that come with rtnl held.
        let rtnl = unsafe { Rtnl::assume() };
        watcher.event(event, &rtnl);
    }
}
