// SPDX-License-Identifier: GPL-2.0
//! The server itself over plain sockets on loopback: what only shows when a
//! real peer is slow, leaves early, or talks in pieces.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

mod loops;

/// Options for a loop over plain sockets.
type Loop = &'static [&'static str];

/// Each case over both loops.
macro_rules! cases {
    ($($name:ident)*) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(&[]); })*
        }
        mod uring {
            $(#[test] fn $name() {
                if super::loops::has_uring(concat!("uring::", stringify!($name))) {
                    super::$name(&["--uring"]);
                }
            })*
        }
    };
}

cases! {
    a_half_closed_peer_gets_all_its_answers
    a_peer_that_reads_late_gets_everything_and_others_are_served
    a_peer_that_sends_without_reading_is_held_off
    errors_are_delivered_although_input_is_left_over
    requests_in_single_bytes_are_served
    many_peers_at_once_are_served
    of_peers_that_leave_nothing_stays
    what_many_peers_store_at_once_survives_a_kill
    signals_end_it_with_status_0_and_free_the_port
    failures_have_status_1_and_say_why
}

fn command(over: Loop) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phttpd"));
    command.args(["-P", "0"]).args(over);
    command
}

/// What it says when it cannot start.
fn failure(over: Loop) -> String {
    let out = command(over).args(["-A", "192.0.2.1"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

struct Server {
    child: Child,
    port: u16,
    /// Lines before that with the port.
    said: Vec<String>,
}

impl Server {
    fn start(over: Loop, args: &[&str]) -> Server {
        let mut child = command(over)
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let port = loop {
            let Some(line) = lines.next() else {
                panic!("{said:?}");
            };
            let line = line.unwrap();
            if let Some(rest) = line.strip_prefix("phttpd: port ") {
                break rest.split(',').next().and_then(|n| n.parse().ok()).unwrap();
            }
            said.push(line);
        };
        Server { child, port, said }
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

fn a_half_closed_peer_gets_all_its_answers(over: Loop) {
    let server = Server::start(over, &["-l", "100000"]);
    let mut peer = server.connect();
    peer.write_all(&GET.repeat(20)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&mut peer).len(), 20 * (100_000 + 91));
}

fn a_peer_that_reads_late_gets_everything_and_others_are_served(over: Loop) {
    let server = Server::start(over, &["-l", "1000000"]);
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

fn a_peer_that_sends_without_reading_is_held_off(over: Loop) {
    let server = Server::start(over, &["--max-body", "1000000000"]);
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

fn errors_are_delivered_although_input_is_left_over(over: Loop) {
    let server = Server::start(over, &["--max-body", "1000"]);
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

fn requests_in_single_bytes_are_served(over: Loop) {
    let server = Server::start(over, &["-c"]);
    let mut peer = server.connect();
    peer.set_nodelay(true).unwrap();
    let request = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    for byte in request {
        peer.write_all(&[*byte]).unwrap();
    }
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(all(&mut peer).ends_with(b"\r\n\r\nabc"));
}

fn many_peers_at_once_are_served(over: Loop) {
    let server = Server::start(over, &["-p", "2"]);
    let mut peers: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for round in 0..20 {
        for peer in &mut peers {
            peer.write_all(&GET.repeat(1 + round % 3)).unwrap();
        }
        for peer in &mut peers {
            let mut answers = vec![0; 151 * (1 + round % 3)];
            peer.read_exact(&mut answers).unwrap();
            assert_eq!(count(&answers, b"HTTP/1.1 200 OK\r\n"), 1 + round % 3);
        }
        // Some make room for others.
        for peer in peers.iter_mut().step_by(3) {
            *peer = server.connect();
        }
    }
}

fn of_peers_that_leave_nothing_stays(over: Loop) {
    let server = Server::start(over, &["-l", "1000000"]);
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.child.id()))
            .unwrap()
            .count()
    };
    // When it serves, it has opened all that it needs.
    let mut first = server.connect();
    first.write_all(GET).unwrap();
    first.read_exact(&mut vec![0; 1_000_092]).unwrap();
    let before = files();
    let close = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for i in 0..100 {
        let mut peer = server.connect();
        match i % 5 {
            // Without a word, within a head or a body, with answers on their way.
            0 => {}
            1 => peer.write_all(&GET[..20]).unwrap(),
            2 => peer
                .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx")
                .unwrap(),
            3 => peer.write_all(&GET.repeat(50)).unwrap(),
            _ => peer.write_all(close).unwrap(),
        }
        if i % 5 > 2 && i % 2 == 0 {
            let _ = peer.read(&mut [0; 1000]);
        }
    }
    for _ in 0..100 {
        if files() == before {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} files, {before} before", files());
}

fn what_many_peers_store_at_once_survives_a_kill(over: Loop) {
    let path = std::env::temp_dir().join(format!("phttpd-{}-{}", over.len(), std::process::id()));
    let _ = std::fs::remove_file(&path);
    let args = ["-m", "-d", path.to_str().unwrap()];
    let mut lines = Vec::new();
    for peers in [100, 0] {
        let mut server = Server::start(over, &args);
        let mut peers: Vec<_> = (0..peers).map(|_| server.connect()).collect();
        for peer in &mut peers {
            peer.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
                .unwrap();
        }
        for peer in peers {
            let mut line = String::new();
            BufReader::new(peer).read_line(&mut line).unwrap();
            assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        }
        server.child.kill().unwrap();
        lines = std::mem::take(&mut server.said);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(
        lines.iter().any(|line| line.contains("100 objects")),
        "{lines:?}"
    );
}

fn signals_end_it_with_status_0_and_free_the_port(over: Loop) {
    let mut first = Server::start(over, &["-p", "3"]);
    let mut peer = first.connect();
    peer.write_all(GET).unwrap();
    peer.read_exact(&mut [0; 151]).unwrap();
    assert_eq!(first.stop(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", first.port)).is_err());
}

fn failures_have_status_1_and_say_why(over: Loop) {
    assert!(failure(over).starts_with("phttpd: listening on port 0: "));
}
