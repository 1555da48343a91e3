// SPDX-License-Identifier: GPL-2.0
//! Listening sockets, and accepting from them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, ipproto, sockopt, AddressFamily, SocketFlags, SocketType};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;

/// A socket, not listening yet, that several threads may have on the same
/// address. "::" takes IPv4, too, and becomes 0.0.0.0 where there is no IPv6.
pub fn bind(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
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
    Ok(socket)
}

/// From here on connections come.
pub fn listen(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(net::listen(socket, BACKLOG)?)
}

/// The port that a socket listens on.
pub fn port(listener: BorrowedFd<'_>) -> io::Result<u16> {
    let address = SocketAddr::try_from(net::getsockname(listener)?).map_err(io::Error::from)?;
    Ok(address.port())
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

impl Accepted {
    /// What an error of accept() means; `None`: try again.
    pub fn failed(error: Errno) -> Option<Accepted> {
        match error {
            Errno::AGAIN => Some(Accepted::Nobody),
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Some(Accepted::Exhausted),
            Errno::INVAL | Errno::BADF => Some(Accepted::Closed),
            // EINTR, and what became of a connection while it waited here.
            _ => None,
        }
    }
}

/// Accept one connection.
pub fn accept(listener: BorrowedFd<'_>) -> Accepted {
    loop {
        let found = match net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Some(Accepted::Socket(socket)),
            Err(error) => Accepted::failed(error),
        };
        if let Some(found) = found {
            return found;
        }
    }
}

/// Make `accept` on this socket report [`Accepted::Closed`], and wake whoever
/// waits for it.
pub fn close(listener: BorrowedFd<'_>) {
    // It cannot fail on a listening socket; if it did, the thread would notice
    // its stop flag when its wait is over.
    let _ = net::shutdown(listener.as_fd(), net::Shutdown::Both);
}
