// SPDX-License-Identifier: GPL-2.0
//! An HTTP server over a stack port, or over plain sockets: `phttpd --help`.
//!
//! options    the command line            http       one connection's HTTP
//! listen     sockets to accept from      request    heads
//! plain      the loop over epoll         chunked    bodies in chunks
//! uring      the loop over io_uring      site       what is answered
//! stack      the loop over a stack port    store    bodies that are kept
//! txout      answers into slots            fence      io_uring's memory
//! table      connections by descriptor
#![deny(unsafe_code)]

mod chunked;
mod fence;
mod http;
mod listen;
mod options;
mod plain;
mod request;
mod site;
mod slow;
mod stack;
mod store;
mod table;
mod txout;
mod uring;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use rustix::thread::{sched_setaffinity, CpuSet};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use options::Options;
use site::Site;

/// Ends the threads: by a signal, or because one of them failed.
pub struct Stop {
    flag: AtomicBool,
    signals: Handle,
    failure: Mutex<Option<String>>,
}

impl Stop {
    /// Whether to end now.
    #[inline]
    pub fn requested(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// End everything because of an error; the first one is reported.
    fn fail(&self, error: &io::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(|e| e.into_inner());
        failure.get_or_insert(error.to_string());
        drop(failure);
        self.signals.close();
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phttpd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Put what was going on in front of an error.
fn during(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn run(options: &Options) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let stop = Stop {
        flag: AtomicBool::new(false),
        signals: signals.handle(),
        failure: Mutex::new(None),
    };
    allow_many_sockets();
    if options.uring {
        uring::probe()?;
    }
    let site = Site::new(options.length, options.max_body, options.fixed_head);
    let poll = Duration::from_millis(options.poll_ms.into());

    let mut tcp_port = options.port;
    let mut listeners: Vec<OwnedFd> = Vec::new();
    for _ in 0..options.threads {
        let listener = listen::bind(options.address, tcp_port)
            .map_err(during(format_args!("listening on port {tcp_port}")))?;
        // With -P 0 the first one is given a number, which the others share.
        tcp_port = listen::port(listener.as_fd())?;
        listeners.push(listener);
    }
    let files = store::Files::open(&options.storage, options.threads)?;
    let mut ports = stack::open(options, files.as_ref())?;
    let (shelves, parts) = match files {
        Some(files) => files.finish(&mut ports)?,
        None => Default::default(),
    };
    // Only now: nobody is to wait for a recovery, or for a server that cannot start.
    for listener in &listeners {
        listen::listen(listener.as_fd())
            .map_err(during(format_args!("listening on port {tcp_port}")))?;
    }
    if let ([first, _, ..], false) = (listeners.as_slice(), options.nics.is_empty()) {
        // The thread that polls a NIC queue accepts the connections that come in there.
        netmap::steer(first, options.threads).map_err(during("steering connections"))?;
    }
    let (mut ports, mut parts) = (ports.into_iter(), parts.into_iter());

    std::thread::scope(|scope| {
        for (number, listener) in listeners.iter().enumerate() {
            let (site, stop, shelves) = (&site, &stop, &shelves);
            let (port, part) = (ports.next(), parts.next());
            std::thread::Builder::new()
                .name(format!("phttpd-{number}"))
                .spawn_scoped(scope, move || {
                    let store = part.map(|part| store::Store::new(shelves, part));
                    let result = pin(options.affinity, number).and_then(|()| match port {
                        Some(port) => {
                            stack::Server::new(site, store, listener, port).run(poll, stop)
                        }
                        None if options.uring => uring::serve(site, store, listener, poll, stop),
                        None => plain::Server::new(site, store, listener)?.run(poll, stop),
                    });
                    if let Err(error) = result {
                        stop.fail(&error);
                    }
                })?;
        }
        eprintln!("phttpd: port {tcp_port}, {}", describe(options));
        // Ends at the first signal, or when a thread failed.
        signals.forever().next();
        stop.flag.store(true, Ordering::Relaxed);
        listeners
            .iter()
            .for_each(|listener| listen::close(listener.as_fd()));
        Ok::<(), io::Error>(())
    })?;
    match stop.failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(failure) => Err(io::Error::other(failure)),
        None => Ok(()),
    }
}

fn describe(options: &Options) -> String {
    let over = match options.nics.as_slice() {
        [] if options.uring => "plain sockets by io_uring".to_string(),
        [] => "plain sockets".to_string(),
        nics => format!("stack port {} on {}", options.stack_port, nics.join(", ")),
    };
    format!("{} thread(s), {over}", options.threads)
}

/// Pin this thread, the `number`th, if wanted.
fn pin(first: Option<usize>, number: usize) -> io::Result<()> {
    let Some(cpu) = first.map(|first| first + number) else {
        return Ok(());
    };
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!("no CPU {cpu}")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|e| during(format_args!("CPU {cpu}"))(e.into()))
}

/// As many descriptors as we may have. Not getting them is no failure.
fn allow_many_sockets() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
