// SPDX-License-Identifier: GPL-2.0
//! The server itself over plain sockets on loopback: what only shows when a
//! real peer is slow, leaves early, or talks in pieces.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_phttpd"))
            .args(["-P", "0"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line
            .split("port ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let port = port
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("{line}"));
        Server { child, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    /// SIGTERM, and the exit status.
    fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all(stream: &mut TcpStream) -> Vec<u8> {
    let mut out = Vec::new();
    stream.read_to_end(&mut out).unwrap();
    out
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .filter(|w| *w == needle)
        .count()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_half_closed_peer_gets_all_its_answers() {
    let server = Server::start(&["-l", "100000"]);
    let mut peer = server.connect();
    peer.write_all(&GET.repeat(20)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&mut peer).len(), 20 * (100_000 + 91));
}

#[test]
fn a_peer_that_reads_late_gets_everything_and_others_are_served() {
    let server = Server::start(&["-l", "1000000"]);
    let mut slow = server.connect();
    slow.write_all(&GET.repeat(20)).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut quick = server.connect();
    quick.write_all(GET).unwrap();
    quick.read_exact(&mut vec![0; 1_000_092]).unwrap();
    slow.read_exact(&mut vec![0; 20 * 1_000_092]).unwrap();
    slow.write_all(GET).unwrap();
    slow.read_exact(&mut vec![0; 1_000_092]).unwrap();
}

#[test]
fn a_peer_that_sends_without_reading_is_held_off() {
    let server = Server::start(&["--max-body", "1000000000"]);
    let mut peer = server.connect();
    peer.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 500000000\r\n\r\n";
    peer.write_all(head.as_bytes()).unwrap();
    let block = vec![7u8; 1 << 20];
    let mut sent = 0;
    let error = loop {
        match peer.write(&block) {
            Ok(n) => sent += n,
            Err(error) => break error,
        }
        assert!(sent < 100 << 20, "the window never closed");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // What went in comes out.
    let mut reader = BufReader::new(peer.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let mut back = vec![0; sent];
    reader.read_exact(&mut back).unwrap();
    assert!(back.iter().all(|b| *b == 7));
}

#[test]
fn errors_are_delivered_although_input_is_left_over() {
    let server = Server::start(&["--max-body", "1000"]);
    let mut peer = server.connect();
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    peer.write_all(head.as_bytes()).unwrap();
    // The server closes, so some of this may be refused.
    let _ = peer.write_all(&vec![0; 200_000]);
    let _ = peer.shutdown(Shutdown::Write);
    let out = all(&mut peer);
    assert!(out.starts_with(b"HTTP/1.1 413 "));
    assert_eq!(count(&out, b"Connection: close\r\n"), 1);
}

#[test]
fn requests_in_single_bytes_are_served() {
    let server = Server::start(&["-c"]);
    let mut peer = server.connect();
    peer.set_nodelay(true).unwrap();
    let request = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    for byte in request {
        peer.write_all(&[*byte]).unwrap();
    }
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(all(&mut peer).ends_with(b"\r\n\r\nabc"));
}

#[test]
fn signals_end_it_with_status_0_and_free_the_port() {
    let mut first = Server::start(&["-p", "3"]);
    let mut peer = first.connect();
    peer.write_all(GET).unwrap();
    peer.read_exact(&mut [0; 151]).unwrap();
    assert_eq!(first.stop(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", first.port)).is_err());
}

#[test]
fn failures_have_status_1_and_say_why() {
    let out = Command::new(env!("CARGO_BIN_EXE_phttpd"))
        .args(["-A", "192.0.2.1", "-P", "0"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("phttpd: listening on port 0: "));
}
