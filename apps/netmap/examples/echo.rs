// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A TCP echo server over a stack port: every payload goes back in the buffer
//! that it came in.
//!
//! ```text
//! echo NIC PORT
//! ```
//!
//! To stay short it closes connections that do not read what they sent; see
//! phttpd for a server that waits for them.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use netmap::{Port, Wait, Watch};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(nic), Some(tcp_port)) = (args.next(), args.next()) else {
        eprintln!("usage: echo NIC PORT");
        std::process::exit(2);
    };
    let tcp_port: u16 = tcp_port.parse().map_err(std::io::Error::other)?;
    let listener = TcpListener::bind(("::", tcp_port))?;
    listener.set_nonblocking(true)?;

    let mut port = Port::open("pst:0")?;
    port.attach(&nic)?;
    let mut sockets: HashMap<i32, TcpStream> = HashMap::new();

    loop {
        let mut watch = [Watch::readable(listener.as_fd())];
        let ready = port.poll_with(Wait::Rx, &mut watch, None)?;
        if ready.error {
            return Err(std::io::Error::other("the port is gone"));
        }
        let (rx, tx) = port.rings();
        for slot in tx[0].unsent() {
            sockets.remove(&slot.fd());
        }
        for slot in rx[0].received() {
            let fd = slot.fd();
            if slot.payload().is_empty() {
                sockets.remove(&fd);
            } else if let (true, Some(free)) = (sockets.contains_key(&fd), tx[0].reserve()) {
                free.send_received(slot, fd);
            } else {
                sockets.remove(&fd);
            }
        }
        while let Ok((socket, _)) = listener.accept() {
            match port.register_socket(socket.as_fd()) {
                Ok(()) => drop(sockets.insert(socket.as_raw_fd(), socket)),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
}
