// SPDX-License-Identifier: GPL-2.0
//! Connections of a thread by descriptor, and those that are about to end.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How long a connection that we ended may take to say that it has seen it.
const LINGER: Duration = Duration::from_secs(2);

/// Entries by descriptor: a vector, as descriptors are small numbers.
pub struct Table<T> {
    entries: Vec<Option<T>>,
}

impl<T> Table<T> {
    /// Empty.
    pub fn new() -> Table<T> {
        Table {
            entries: Vec::new(),
        }
    }

    /// The entry of a descriptor.
    #[inline]
    pub fn get(&mut self, fd: RawFd) -> Option<&mut T> {
        self.entries.get_mut(usize::try_from(fd).ok()?)?.as_mut()
    }

    /// Set the entry of a descriptor.
    pub fn insert(&mut self, fd: RawFd, entry: T) {
        let Ok(at) = usize::try_from(fd) else { return };
        if at >= self.entries.len() {
            self.entries.resize_with(at + 1, || None);
        }
        self.entries[at] = Some(entry);
    }

    /// Take the entry of a descriptor out.
    pub fn remove(&mut self, fd: RawFd) -> Option<T> {
        self.entries.get_mut(usize::try_from(fd).ok()?)?.take()
    }
}

/// Connections that were shut down and whose peers have yet to close. Closing
/// at once could reset them and destroy the answer on its way.
pub struct Lingering {
    /// In the order of their time: descriptor and number of the connection.
    queue: VecDeque<(Instant, RawFd, u64)>,
}

impl Lingering {
    /// Nobody.
    pub fn new() -> Lingering {
        Lingering {
            queue: VecDeque::new(),
        }
    }

    /// Give connection number `id` some time from now.
    pub fn add(&mut self, fd: RawFd, id: u64) {
        self.queue.push_back((Instant::now() + LINGER, fd, id));
    }

    /// Time until the first one's is over; `None` if there is nobody.
    pub fn wait(&self) -> Option<Duration> {
        let (time, ..) = self.queue.front()?;
        Some(time.saturating_duration_since(Instant::now()))
    }

    /// The next one whose time is over. It may have ended by itself.
    pub fn expired(&mut self) -> Option<(RawFd, u64)> {
        let (time, ..) = self.queue.front()?;
        if *time > Instant::now() {
            return None;
        }
        self.queue.pop_front().map(|(_, fd, id)| (fd, id))
    }
}
