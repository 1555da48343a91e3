// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Connections to the thread whose ring gets their packets.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use libc::{sock_filter, sock_fprog};

/// Of the sockets that listen on one address (`SO_REUSEPORT`), let the one that
/// was the n-th to listen accept the connections whose packets come in on NIC
/// queue n, n + `threads`, and so on: those are the queues that ring n of a
/// stack port with `threads` rings serves. `listener` is any of the sockets.
///
/// A connection that does not come from a stack port's NIC goes to any of them.
///
/// # Errors
/// EINVAL: no threads, or the socket is not one of such a group. The kernel's.
pub fn steer(listener: impl AsFd, threads: u16) -> io::Result<()> {
    if threads == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut program = program(threads);
    let argument = sock_fprog {
        // A few instructions.
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads one sock_fprog, and the instructions it names,
    // which live until the call is over.
    let done = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(&argument).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Classic BPF: the number of the receive queue, which packets have plus one,
/// modulo `threads`. Without one the result is no socket's number, which leaves
/// the choice to the kernel.
fn program(threads: u16) -> [sock_filter; 6] {
    let queue = (libc::SKF_AD_OFF + libc::SKF_AD_QUEUE) as u32;
    let op = |code: u32, jt: u8, k: u32| sock_filter {
        // All codes are below 256.
        code: code as u16,
        jt,
        jf: 0,
        k,
    };
    [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, queue),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 3, 0),
        op(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, 0, 1),
        op(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            0,
            threads.into(),
        ),
        op(libc::BPF_RET | libc::BPF_A, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use rustix::net::{self, sockopt, AddressFamily, SocketType};

    use super::*;

    fn listen(port: u16) -> TcpListener {
        let socket: OwnedFd = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
        net::listen(&socket, 16).unwrap();
        socket.into()
    }

    #[test]
    fn connections_without_a_queue_are_still_accepted() {
        let first = listen(0);
        let address = first.local_addr().unwrap();
        let second = listen(address.port());
        steer(&first, 2).unwrap();
        let streams: Vec<_> = (0..16)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut count = 0;
        for listener in [first, second] {
            listener.set_nonblocking(true).unwrap();
            while listener.accept().is_ok() {
                count += 1;
            }
        }
        assert_eq!(count, streams.len());
    }

    #[test]
    fn a_socket_without_a_group_is_refused() {
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(steer(&alone, 2).is_err());
        assert!(steer(&alone, 0).is_err());
    }
}
