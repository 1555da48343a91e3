// SPDX-License-Identifier: GPL-2.0
//! A server with a store on loopback, and a client of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("phttpd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Server {
    child: Child,
    port: u16,
    pub said: String,
}

pub fn command(path: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phttpd"));
    command.args(["-P", "0", "-d"]).arg(path);
    command.args(args.split_whitespace());
    command
}

/// What a server says that does not start.
pub fn refused(path: &Path, args: &str) -> String {
    let mut child = command(path, args).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        if said.contains("phttpd: port ") {
            let _ = child.kill();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(1), "{args}: {said}");
    said
}

impl Server {
    pub fn start(path: &Path, args: &str) -> Server {
        let mut child = command(path, args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let before = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
            let rest = said[before..].strip_prefix("phttpd: port ");
            if let Some(port) = rest.and_then(|rest| rest.split(',').next()) {
                break port.parse().unwrap();
            }
        };
        Server { child, port, said }
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let timeout = Some(Duration::from_secs(10));
        stream.set_read_timeout(timeout).unwrap();
        Client(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL: every end is a crash here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Client(pub BufReader<TcpStream>);

pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn send(&mut self, line: &str, body: &[u8]) {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.0.get_mut().write_all(&request).unwrap();
    }

    pub fn answer(&mut self) -> Answer {
        let (mut status, mut length, mut location) = (0, 0, None);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(n) = line.strip_prefix("Content-Length: ") {
                length = n.parse().unwrap();
            } else if let Some(path) = line.strip_prefix("Location: ") {
                location = Some(path.to_string());
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Answer {
            status,
            location,
            body,
        }
    }

    pub fn ask(&mut self, line: &str, body: &[u8]) -> Answer {
        self.send(line, body);
        self.answer()
    }
}
