// SPDX-License-Identifier: GPL-2.0
//! A device with its bus, and the thread that brings it frames, time and control commands.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};

use crate::control;
use crate::device::{Bus, Device, Intake};

/// Frames that are taken from the wire before the other thread gets its turn.
const BATCH: usize = 32;

/// A device and all that belongs to it; there is one lock around it.
pub struct Core {
    /// The model.
    pub device: Box<dyn Device>,
    /// Its outside.
    pub bus: Bus,
    /// A frame that found no room.
    waiting: Option<Vec<u8>>,
    frame: Vec<u8>,
    /// Whether the wire's thread sleeps, until when at most, and whether a frame does not wake it.
    asleep: bool,
    sleeps_until: Option<Instant>,
    deaf: bool,
}

impl Core {
    fn deadline(&self) -> Option<Instant> {
        if self.bus.faults.removed {
            return None;
        }
        self.device
            .deadline()
            .into_iter()
            .chain(self.bus.faults.deadline())
            .min()
    }

    /// Offers the device frames. True: there may be more.
    fn frames(&mut self) -> bool {
        let Core {
            device,
            bus,
            waiting,
            frame,
            ..
        } = self;
        let mut count = 0;
        while count < BATCH {
            if let Some(old) = waiting.take() {
                *frame = old;
            } else if !bus.faults.receive(frame, &mut bus.wire) {
                break;
            }
            if bus.faults.removed {
                continue;
            }
            if device.receive(bus, frame) == Intake::Full {
                *waiting = Some(std::mem::take(frame));
                break;
            }
            count += 1;
        }
        if count > 0 {
            device.settle(bus);
        }
        count == BATCH
    }

    fn time(&mut self) {
        let now = Instant::now();
        let Bus { faults, wire, .. } = &mut self.bus;
        faults.tick(now, wire);
        if !self.bus.faults.removed && self.device.deadline().is_some_and(|at| at <= now) {
            self.device.tick(&mut self.bus, now);
        }
    }
}

/// A running device, shared by its threads.
#[derive(Clone)]
pub struct Runner {
    core: Arc<Mutex<Core>>,
    wake: Arc<OwnedFd>,
}

impl Runner {
    /// Takes a device into service.
    pub fn new(device: Box<dyn Device>, bus: Bus) -> io::Result<Self> {
        let core = Core {
            device,
            bus,
            waiting: None,
            frame: Vec::new(),
            asleep: false,
            sleeps_until: None,
            deaf: false,
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Runner {
            core: Arc::new(Mutex::new(core)),
            wake: Arc::new(wake),
        })
    }

    /// The device, for the caller alone. A poisoned lock is no obstacle: a thread that panicked ends the process.
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a register write: settles, offers a frame that waited, and sees to it that the wire's thread
    /// does not sleep too long.
    pub fn after_write(&self, core: &mut Core) {
        if core.waiting.is_some() {
            core.frames();
        }
        core.device.settle(&mut core.bus);
        let late = match (core.deadline(), core.sleeps_until) {
            (Some(_), None) => true,
            (Some(wanted), Some(planned)) => wanted < planned,
            (None, _) => false,
        };
        if core.asleep && (late || core.deaf && core.waiting.is_none()) {
            self.wake();
        }
    }

    /// Makes the wire's thread look again.
    pub fn wake(&self) {
        // Only a full counter refuses, and then it is awake.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// The wire's thread. Returns on an error only.
    pub fn run(&self, control: Option<UnixListener>) -> io::Result<()> {
        let wire = self.lock().bus.wire.descriptor()?;
        let mut clients: Vec<(UnixStream, Vec<u8>)> = Vec::new();
        loop {
            let (more, wait, listen) = {
                let mut core = self.lock();
                core.asleep = false;
                core.time();
                let more = core.frames();
                core.asleep = !more;
                core.sleeps_until = core.deadline();
                core.deaf = core.waiting.is_some() || core.bus.wire.closed;
                (more, core.sleeps_until, !core.deaf)
            };
            let timeout = if more {
                Some(Duration::ZERO)
            } else {
                wait.map(|at| at.saturating_duration_since(Instant::now()))
            };
            let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
            if let Some(listener) = &control {
                fds.push(PollFd::new(listener, PollFlags::IN));
            }
            fds.extend(
                clients
                    .iter()
                    .map(|(stream, _)| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)),
            );
            if let (Some(wire), true) = (&wire, listen) {
                fds.push(PollFd::new(wire, PollFlags::IN));
            }
            let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let mut ready = ready.into_iter();
            if ready.next() == Some(true) {
                let mut count = [0; 8];
                let _ = rustix::io::read(&*self.wake, &mut count);
            }
            let called = control.is_some() && ready.next() == Some(true);
            clients.retain_mut(|client| ready.next() != Some(true) || control::serve(client, self));
            if called {
                if let Some(Ok((stream, _))) = control.as_ref().map(UnixListener::accept) {
                    clients.push((stream, Vec::new()));
                }
            }
        }
    }
}
