// SPDX-License-Identifier: GPL-2.0
//! What the server answers: prepared responses, the text of errors, limits.

use netmap::SharedBuf;

/// Where a connection's answers go. Implemented by both transports.
pub trait Out {
    /// Take these bytes, all of them.
    fn put(&mut self, bytes: &[u8]);

    /// Take the bytes from `at` on of a packet buffer, which stay as they are:
    /// sent without a copy where that can be done.
    fn put_held(&mut self, _held: &SharedBuf, _at: usize, bytes: &[u8]) {
        self.put(bytes);
    }

    /// True once there is so much waiting that no more should be made now.
    fn full(&self) -> bool;
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn full(&self) -> bool {
        self.len() >= 64 * 1024
    }
}

/// Bytes that generated bodies are cut from.
const FILLER: usize = 16 * 1024;

/// A response that is not the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Number and reason.
    pub line: &'static str,
    /// More header lines, each with its end.
    pub headers: &'static str,
}

macro_rules! statuses {
    ($($name:ident $line:literal $headers:literal;)*) => {
        impl Status {
            $(#[doc = $line] pub const $name: Status =
                Status { line: $line, headers: $headers };)*
        }
    };
}

statuses! {
    BAD_REQUEST "400 Bad Request" "";
    NOT_FOUND "404 Not Found" "";
    ROOT_METHODS "405 Method Not Allowed" "Allow: GET, HEAD, POST\r\n";
    ECHO_METHODS "405 Method Not Allowed" "Allow: POST, PUT\r\n";
    KEY_METHODS "405 Method Not Allowed" "Allow: GET, HEAD, POST, PUT, DELETE\r\n";
    NAME_TOO_LONG "414 URI Too Long" "";
    OTHER_LOG "409 Conflict" "";
    TOO_LARGE "413 Content Too Large" "";
    HEADERS_TOO_LARGE "431 Request Header Fields Too Large" "";
    NOT_IMPLEMENTED "501 Not Implemented" "";
    FULL "507 Insufficient Storage" "";
    VERSION "505 HTTP Version Not Supported" "";
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const SERVER: &str = "Server: phttpd (PASTE)\r\n";

/// The `Connection` header line.
fn connection(keep: bool) -> &'static str {
    if keep {
        "Connection: keep-alive\r\n"
    } else {
        "Connection: close\r\n"
    }
}

/// Configuration shared by all connections.
pub struct Site {
    /// Bytes of the generated body.
    length: u64,
    /// Largest request body in bytes.
    pub max_body: u64,
    /// Up to [`FILLER`] bytes of generated body.
    filler: Vec<u8>,
    /// Head and as much of the body as there is in `filler`, if prepared.
    prepared: Option<Vec<u8>>,
}

impl Site {
    /// `length` bytes of body per answer; with `fixed_head` its head is made
    /// once and not for each answer.
    pub fn new(length: u64, max_body: u64, fixed_head: bool) -> Site {
        let start = usize::try_from(length).map_or(FILLER, |n| n.min(FILLER));
        let filler: Vec<u8> = (0..start).map(|i| b'a' + (i % 26) as u8).collect();
        let mut site = Site {
            length,
            max_body,
            filler,
            prepared: None,
        };
        if fixed_head {
            let mut whole = Vec::new();
            site.ok(&mut whole, true, true);
            whole.extend_from_slice(&site.filler);
            site.prepared = Some(whole);
        }
        site
    }

    /// The usual answer. Returns how many bytes of its body are still to be
    /// sent, with [`Site::fill`].
    #[inline]
    pub fn ok(&self, out: &mut impl Out, keep: bool, head_only: bool) -> u64 {
        if let (Some(prepared), true, false) = (&self.prepared, keep, head_only) {
            out.put(prepared);
        } else {
            let mut head = Line::new();
            head.text(OK).text(connection(keep)).text(SERVER);
            head.text("Content-Length: ")
                .number(self.length)
                .text("\r\n\r\n");
            out.put(head.bytes());
            if head_only {
                return 0;
            }
            out.put(&self.filler);
        }
        self.length - self.filler.len() as u64
    }

    /// The whole of the usual answer, on a connection that stays, if it was made in advance.
    #[inline]
    pub fn whole(&self) -> Option<&[u8]> {
        let whole = self.prepared.as_deref()?;
        (self.length == self.filler.len() as u64).then_some(whole)
    }

    /// The usual answer to a body that was stored; `number` tells which record
    /// it became. A head that was made in advance cannot say that.
    #[inline]
    pub fn stored(&self, out: &mut impl Out, keep: bool, number: Option<u64>) -> u64 {
        let Some(number) = number.filter(|_| self.prepared.is_none()) else {
            return self.ok(out, keep, false);
        };
        let mut head = Line::new();
        head.text(OK).text(connection(keep)).text(SERVER);
        head.text("Location: /").number(number);
        head.text("\r\nContent-Length: ").number(self.length);
        head.text("\r\n\r\n");
        out.put(head.bytes());
        out.put(&self.filler);
        self.length - self.filler.len() as u64
    }

    /// More of the generated body, `left` bytes of which are missing. Returns
    /// how many are then.
    pub fn fill(&self, out: &mut impl Out, mut left: u64) -> u64 {
        while left > 0 && !out.full() {
            let n = left.min(self.filler.len() as u64);
            // No more than the filler's length, a usize.
            out.put(&self.filler[..n as usize]);
            left -= n;
        }
        left
    }

    /// Head of an echo or of what was stored; `length` is `None` for one in chunks.
    pub fn echo(&self, out: &mut impl Out, keep: bool, length: Option<u64>) {
        let mut head = Line::new();
        head.text(OK).text(connection(keep)).text(SERVER);
        head.text("Content-Type: application/octet-stream\r\n");
        match length {
            Some(length) => head
                .text("Content-Length: ")
                .number(length)
                .text("\r\n\r\n"),
            None => head.text("Transfer-Encoding: chunked\r\n\r\n"),
        };
        out.put(head.bytes());
    }

    /// One chunk of an echo. Not to be called without data: that is the end.
    pub fn chunk(&self, out: &mut impl Out, data: &[u8]) {
        let mut head = Line::new();
        head.hex(data.len() as u64).text("\r\n");
        out.put(head.bytes());
        out.put(data);
        out.put(b"\r\n");
    }

    /// The last chunk.
    pub fn last_chunk(&self, out: &mut impl Out) {
        out.put(b"0\r\n\r\n");
    }

    /// An error.
    pub fn status(&self, out: &mut impl Out, status: Status, keep: bool, head_only: bool) {
        let mut head = Line::new();
        head.text("HTTP/1.1 ").text(status.line).text("\r\n");
        head.text(connection(keep))
            .text(SERVER)
            .text(status.headers);
        head.text("Content-Type: text/plain\r\nContent-Length: ");
        head.number(status.line.len() as u64 + 1).text("\r\n\r\n");
        if !head_only {
            head.text(status.line).text("\n");
        }
        out.put(head.bytes());
    }

    /// "Go on": the client waits before it sends a body.
    pub fn proceed(&self, out: &mut impl Out) {
        out.put(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}

/// A head being put together without the heap. What does not fit is cut; all
/// heads above are far shorter.
struct Line {
    len: usize,
    bytes: [u8; 320],
}

impl Line {
    fn new() -> Line {
        Line {
            len: 0,
            bytes: [0; 320],
        }
    }

    fn text(&mut self, text: &str) -> &mut Line {
        let text = text.as_bytes();
        if let Some(room) = self.bytes.get_mut(self.len..self.len + text.len()) {
            room.copy_from_slice(text);
            self.len += text.len();
        }
        self
    }

    fn number(&mut self, value: u64) -> &mut Line {
        self.digits(value, 10)
    }

    fn hex(&mut self, value: u64) -> &mut Line {
        self.digits(value, 16)
    }

    fn digits(&mut self, mut value: u64, base: u64) -> &mut Line {
        // 20 digits hold any u64 in base 10 or 16.
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(value % base) as usize];
            value /= base;
            if value == 0 {
                break;
            }
        }
        let text = std::str::from_utf8(&digits[at..]).unwrap_or("");
        self.text(text)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_64_bytes_is_151_long() {
        for fixed in [false, true] {
            let mut out = Vec::new();
            assert_eq!(Site::new(64, 0, fixed).ok(&mut out, true, false), 0);
            assert_eq!(out.len(), 151);
            assert!(out.starts_with(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n"));
            assert!(out.ends_with(b"ghijkl"));
        }
    }

    #[test]
    fn long_bodies_are_made_piece_by_piece() {
        let site = Site::new(200_000, 0, true);
        let mut out = Vec::new();
        let mut left = site.ok(&mut out, true, false);
        assert_eq!(left, 200_000 - FILLER as u64);
        let mut total = out.len();
        while left > 0 {
            out.clear();
            left = site.fill(&mut out, left);
            assert!(out.len() < 64 * 1024 + FILLER);
            total += out.len();
        }
        assert_eq!(total, 200_000 + 91);
    }

    #[test]
    fn heads_are_not_cut() {
        let site = Site::new(u64::MAX, 0, false);
        let mut out = Vec::new();
        site.status(&mut out, Status::HEADERS_TOO_LARGE, false, false);
        site.status(&mut out, Status::ROOT_METHODS, true, false);
        site.echo(&mut out, true, Some(u64::MAX));
        site.stored(&mut out, true, Some(u64::MAX));
        out.truncate(out.len() - FILLER);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("18446744073709551615\r\n\r\n"));
        assert!(text.contains("Fields Too Large\nHTTP"));
    }
}
