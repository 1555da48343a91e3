// SPDX-License-Identifier: GPL-2.0
//! A plain HTTP client: one connection, blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Body bytes of an answer are handed over in pieces of up to this size.
const PIECE: usize = 64 * 1024;

/// A connection.
pub struct Client {
    stream: TcpStream,
    /// Read but not used: `buffer[start..end]`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status number.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// The server closes after it.
    pub closes: bool,
    /// `Location: /NUMBER`: what became of a body that was stored.
    pub location: Option<u64>,
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Client {
    /// Connect; no single read or write may take longer than `timeout`.
    pub fn connect(to: SocketAddr, timeout: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&to, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            buffer: vec![0; PIECE].into_boxed_slice(),
            start: 0,
            end: 0,
        })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Send bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn more(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = &mut self.buffer[self.end..];
        if room.is_empty() {
            return Err(bad("the head of an answer is too long".into()));
        }
        let n = self.stream.read(room)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += n;
        Ok(())
    }

    /// Read the head of an answer; one with "100 Continue" is skipped.
    pub fn head(&mut self) -> io::Result<Answer> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut response = httparse::Response::new(&mut fields);
            let bytes = &self.buffer[self.start..self.end];
            match response
                .parse(bytes)
                .map_err(|e| bad(format!("bad head: {e}")))?
            {
                httparse::Status::Partial => {}
                httparse::Status::Complete(n) => {
                    let field = |name: &str| {
                        let found = response.headers.iter().find(|h| h.name == name)?;
                        std::str::from_utf8(found.value).ok()
                    };
                    let status = response.code.unwrap_or(0);
                    let length = field("Content-Length").and_then(|text| text.parse().ok());
                    let closes = field("Connection") == Some("close");
                    let location = field("Location").and_then(|path| path.strip_prefix('/'));
                    let location = location.and_then(|number| number.parse().ok());
                    self.start += n;
                    if status == 100 {
                        continue;
                    }
                    let length = length.ok_or_else(|| bad("no Content-Length".into()))?;
                    return Ok(Answer {
                        status,
                        length,
                        closes,
                        location,
                    });
                }
            }
            self.more()?;
        }
    }

    /// Read a body of `length` bytes, piece by piece.
    pub fn body(&mut self, mut length: u64, mut piece: impl FnMut(&[u8])) -> io::Result<()> {
        while length > 0 {
            if self.start == self.end {
                self.more()?;
            }
            let here = self.end - self.start;
            let n = usize::try_from(length).map_or(here, |length| length.min(here));
            piece(&self.buffer[self.start..self.start + n]);
            self.start += n;
            length -= n as u64;
        }
        Ok(())
    }

    /// Read one answer with status 200 and drop its body. Returns its length.
    pub fn expect_ok(&mut self) -> io::Result<u64> {
        let answer = self.head()?;
        if answer.status != 200 {
            return Err(bad(format!("status {}", answer.status)));
        }
        self.body(answer.length, |_| {})?;
        Ok(answer.length)
    }

    /// GET / and its answer, whose length is returned.
    pub fn get(&mut self) -> io::Result<u64> {
        self.send(GET)?;
        self.expect_ok()
    }

    /// Check that the server has closed and nothing else came.
    pub fn expect_end(&mut self) -> io::Result<()> {
        if self.start < self.end {
            return Err(bad(format!("{} bytes too many", self.end - self.start)));
        }
        match self.stream.read(&mut self.buffer)? {
            0 => Ok(()),
            n => Err(bad(format!("{n} bytes too many"))),
        }
    }

    /// Close with a reset instead of a FIN.
    pub fn reset(self) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        Ok(())
    }
}

/// The shortest request.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: phttpd\r\n\r\n";
