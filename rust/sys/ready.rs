// SPDX-License-Identifier: GPL-2.0

//! A list of reference-counted objects that any context adds to without a lock, and one taker
//! empties as a whole, in order.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use kernel::sync::{Arc, ArcBorrow};

/// An object that can be in a [`ReadyList`], one at a time.
pub(crate) trait Linked: Send + Sync + Sized {
    /// The link inside the object.
    fn link(&self) -> &Link<Self>;
}

/// The link of an object.
pub(crate) struct Link<T> {
    next: AtomicPtr<T>,
    linked: AtomicBool,
}

impl<T> Link<T> {
    /// In no list.
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            linked: AtomicBool::new(false),
        }
    }

    /// Whether the object is in a list now.
    pub(crate) fn linked(&self) -> bool {
        self.linked.load(Ordering::Relaxed)
    }
}

/// The list.
///
/// # Invariants
///
/// `head` and the `next` of what it leads to are pointers made by `Arc::into_raw`, or null at the
/// end; every object in the chain is `linked`, last pushed first.
pub(crate) struct ReadyList<T: Linked> {
    head: AtomicPtr<T>,
}

impl<T: Linked> ReadyList<T> {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Adds an object at the end, unless it is in a list. True if it was added.
    #[inline]
    pub(crate) fn push(&self, item: ArcBorrow<'_, T>) -> bool {
        if item.link().linked.swap(true, Ordering::AcqRel) {
            return false;
        }
        let raw = Arc::into_raw(Arc::from(item)).cast_mut();
        // SAFETY: alive through the reference just taken.
        let next = unsafe { &(*raw).link().next };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            next.store(head, Ordering::Relaxed);
            // INVARIANT: as the type's.
            match self
                .head
                .compare_exchange_weak(head, raw, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing is in it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Takes everything, first pushed first.
    #[inline]
    pub(crate) fn take(&self) -> Taken<T> {
        let mut from = self.head.swap(ptr::null_mut(), Ordering::AcqRel);
        let mut first: *mut T = ptr::null_mut();
        while !from.is_null() {
            // SAFETY: by the invariant; the chain is ours alone since the swap.
            let next = unsafe { (*from).link().next.swap(first, Ordering::Relaxed) };
            first = from;
            from = next;
        }
        // INVARIANT: the chain, turned round.
        Taken { first }
    }
}

impl<T: Linked> Drop for ReadyList<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// What was taken from a list.
///
/// # Invariants
///
/// As of [`ReadyList`], first pushed first.
pub(crate) struct Taken<T: Linked> {
    first: *mut T,
}

// SAFETY: owns Arcs of a Send and Sync type.
unsafe impl<T: Linked> Send for Taken<T> {}

impl<T: Linked> Taken<T> {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self {
            first: ptr::null_mut(),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Takes the first object; from then on it may be added to a list again.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<T>> {
        if self.first.is_null() {
            return None;
        }
        // SAFETY: by the invariant the pointer came from `into_raw`.
        let item = unsafe { Arc::from_raw(self.first) };
        self.first = item.link().next.load(Ordering::Relaxed);
        item.link().linked.store(false, Ordering::Release);
        Some(item)
    }
}

impl<T: Linked> Drop for Taken<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
