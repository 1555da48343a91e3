// SPDX-License-Identifier: GPL-2.0
//! Listening sockets, and accepting from them.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{fcntl_dupfd_cloexec, Errno};
use rustix::net::{self, ipproto, sockopt, AddressFamily, SocketFlags, SocketType};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;

/// A socket that several threads may have on the same address. "::" takes IPv4,
/// too, and becomes 0.0.0.0 where there is no IPv6.
pub fn listen(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    match open(SocketAddr::new(address, port)) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
            if address.is_ipv6() && address.is_unspecified() =>
        {
            Ok(open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?)
        }
        result => Ok(result?),
    }
}

fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it: answers are written whole.
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The port that a socket listens on.
pub fn port(listener: BorrowedFd<'_>) -> io::Result<u16> {
    let address = SocketAddr::try_from(net::getsockname(listener)?).map_err(io::Error::from)?;
    Ok(address.port())
}

/// Have the kernel end these sockets, and all that are accepted from now on,
/// before `port` when the process is killed: it closes the highest number first.
/// So their clients are told over a NIC whose link is not restarting yet.
pub fn end_before(listeners: &mut [OwnedFd], port: &impl AsRawFd) -> io::Result<()> {
    let port = port.as_raw_fd();
    for listener in listeners {
        *listener = fcntl_dupfd_cloexec(&*listener, port + 1)?;
    }
    // Accepted sockets get the lowest numbers that are free: none below stays so.
    let nothing = File::open("/dev/null")?;
    loop {
        let taken = fcntl_dupfd_cloexec(&nothing, 0)?;
        if taken.as_raw_fd() > port {
            // The file itself may have the last one.
            if nothing.as_raw_fd() < port {
                std::mem::forget(nothing);
            }
            return Ok(());
        }
        std::mem::forget(taken);
    }
}

/// What [`accept`] found.
pub enum Accepted {
    /// A connection.
    Socket(OwnedFd),
    /// No more for now.
    Nobody,
    /// Descriptors or memory are used up; to be tried again later.
    Exhausted,
    /// The socket does not listen any more.
    Closed,
}

/// Accept one connection.
pub fn accept(listener: BorrowedFd<'_>) -> Accepted {
    loop {
        return match net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Accepted::Socket(socket),
            Err(Errno::AGAIN) => Accepted::Nobody,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted,
            Err(Errno::INVAL | Errno::BADF) => Accepted::Closed,
            // EINTR, and what became of a connection while it waited here.
            Err(_) => continue,
        };
    }
}

/// Make `accept` on this socket report [`Accepted::Closed`], and wake whoever
/// waits for it.
pub fn close(listener: BorrowedFd<'_>) {
    // It cannot fail on a listening socket; if it did, the thread would notice
    // its stop flag when its wait is over.
    let _ = net::shutdown(listener.as_fd(), net::Shutdown::Both);
}
