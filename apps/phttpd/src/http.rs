// SPDX-License-Identifier: GPL-2.0
//! The HTTP/1.1 server side of one connection, without any input or output of
//! its own: bytes are fed in as they come, answers go to an [`Out`]. However
//! the bytes are cut, the answers are the same.

use crate::chunked::{Chunked, Piece};
use crate::request::{Action, Framing, Parser, Request, MAX_HEAD};
use crate::site::{Out, Site, Status};

/// What the connections of a thread have in common.
pub struct Shared<'a> {
    site: &'a Site,
    parser: Parser,
}

impl<'a> Shared<'a> {
    /// For connections to this site.
    pub fn new(site: &'a Site) -> Shared<'a> {
        Shared {
            site,
            parser: Parser::new(),
        }
    }
}

/// One connection.
pub struct Connection {
    state: State,
    /// Start of a head that has not come whole. Empty nearly always.
    head: Vec<u8>,
}

enum State {
    /// Between requests, or within a head.
    Head,
    /// Within a body.
    Body { body: Body, answer: Answer },
    /// The rest of a generated body is to be sent.
    Filling { left: u64, keep: bool },
    /// No request is read any more; once all is sent the connection ends.
    Closing,
}

/// What is left of a request body.
enum Body {
    Length(u64),
    Chunked { decoder: Chunked, taken: u64 },
}

/// What happens with a body and after it.
#[derive(Clone, Copy)]
struct Answer {
    kind: Kind,
    keep: bool,
    head_only: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Usual,
    Refuse(Status),
    /// Whether its head is sent; the length if it is known.
    Echo {
        started: bool,
        length: Option<u64>,
    },
}

impl Connection {
    /// A new connection.
    pub fn new() -> Connection {
        Connection {
            state: State::Head,
            head: Vec::new(),
        }
    }

    /// True once no more input is wanted: when all that was put out is sent,
    /// close. [`Connection::feed`] takes and drops what still comes.
    pub fn closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Take input, put out answers. Returns how much of the input was taken;
    /// if not all, `out` is full, and the rest is to be fed when it no longer
    /// is. To be called without input, too, when `out` is no longer full.
    #[inline]
    pub fn feed(&mut self, shared: &mut Shared<'_>, input: &[u8], out: &mut impl Out) -> usize {
        let site = shared.site;
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            match &mut self.state {
                State::Closing => return input.len(),
                State::Filling { left, keep } => {
                    *left = site.fill(out, *left);
                    if *left > 0 {
                        return taken;
                    }
                    self.state = if *keep { State::Head } else { State::Closing };
                }
                _ if rest.is_empty() || out.full() => return taken,
                State::Head => taken += self.take_head(shared, rest, out),
                State::Body { .. } => taken += self.take_body(site, rest, out),
            }
        }
    }

    /// Input in [`State::Head`]; not empty.
    #[inline]
    fn take_head(&mut self, shared: &mut Shared<'_>, input: &[u8], out: &mut impl Out) -> usize {
        let site = shared.site;
        if self.head.is_empty() {
            return match shared.parser.parse(input) {
                Ok(Some(request)) => {
                    let len = request.len;
                    self.begin(site, request, out);
                    len
                }
                Ok(None) => {
                    self.head.extend_from_slice(input);
                    input.len()
                }
                Err(status) => self.fail(site, status, out, input.len()),
            };
        }
        // The rest of a head that came in parts. Only a line end can complete
        // it, so nothing else is worth a new look.
        let before = self.head.len();
        let room = MAX_HEAD.saturating_sub(before);
        let part = &input[..room.min(input.len())];
        self.head.extend_from_slice(part);
        if !part.contains(&b'\n') && self.head.len() < MAX_HEAD {
            return part.len();
        }
        match Request::parse(&self.head) {
            Ok(Some(request)) => {
                // The part before was no whole head, so it ends in this one.
                let len = request.len.saturating_sub(before);
                self.head = Vec::new();
                self.begin(site, request, out);
                len
            }
            Ok(None) => part.len(),
            Err(status) => self.fail(site, status, out, part.len()),
        }
    }

    /// An error after which the connection cannot go on.
    fn fail(&mut self, site: &Site, status: Status, out: &mut impl Out, taken: usize) -> usize {
        site.status(out, status, false, false);
        self.head = Vec::new();
        self.state = State::Closing;
        taken
    }

    /// A whole head was read.
    #[inline]
    fn begin(&mut self, site: &Site, request: Request, out: &mut impl Out) {
        let length = match request.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        if length > Some(site.max_body) {
            self.fail(site, Status::TOO_LARGE, out, 0);
            return;
        }
        let kind = match request.action {
            Action::Answer => Kind::Usual,
            Action::Refuse(status) => Kind::Refuse(status),
            Action::Echo => Kind::Echo {
                started: false,
                length,
            },
        };
        let answer = Answer {
            kind,
            keep: request.keep,
            head_only: request.head_only,
        };
        let body = match length {
            Some(0) => return self.finish(site, answer, out),
            Some(length) => Body::Length(length),
            None => Body::Chunked {
                decoder: Chunked::new(),
                taken: 0,
            },
        };
        if request.expects {
            if let Kind::Refuse(status) = answer.kind {
                // The client asked first: the answer is no, and as it may now
                // send the body or not, the connection cannot be used again.
                self.fail(site, status, out, 0);
                return;
            }
            site.proceed(out);
        }
        self.state = State::Body { body, answer };
    }

    /// The body is over, or there was none.
    #[inline]
    fn finish(&mut self, site: &Site, answer: Answer, out: &mut impl Out) {
        let Answer {
            kind,
            keep,
            head_only,
        } = answer;
        let mut left = 0;
        match kind {
            Kind::Usual => left = site.ok(out, keep, head_only),
            Kind::Refuse(status) => site.status(out, status, keep, head_only),
            Kind::Echo { started, length } => {
                if !started {
                    site.echo(out, keep, length);
                }
                if length.is_none() {
                    site.last_chunk(out);
                }
            }
        }
        self.state = match (left, keep) {
            (0, true) => State::Head,
            (0, false) => State::Closing,
            (left, keep) => State::Filling { left, keep },
        };
    }

    /// Input in [`State::Body`]; not empty.
    fn take_body(&mut self, site: &Site, input: &[u8], out: &mut impl Out) -> usize {
        let State::Body { body, answer } = &mut self.state else {
            return 0;
        };
        match body {
            Body::Length(left) => {
                let n = usize::try_from(*left).map_or(input.len(), |l| l.min(input.len()));
                *left -= n as u64;
                let over = *left == 0;
                answer.data(site, &input[..n], out);
                if over {
                    let answer = *answer;
                    self.finish(site, answer, out);
                }
                n
            }
            Body::Chunked { decoder, taken } => {
                let (n, piece) = decoder.next(input);
                match piece {
                    Piece::Data(data) => {
                        *taken += data.len() as u64;
                        if *taken > site.max_body {
                            return self.break_off(site, Status::TOO_LARGE, out, n);
                        }
                        answer.data(site, data, out);
                    }
                    Piece::More => {}
                    Piece::End => {
                        let answer = *answer;
                        self.finish(site, answer, out);
                    }
                    Piece::Malformed => {
                        return self.break_off(site, Status::BAD_REQUEST, out, n);
                    }
                }
                n
            }
        }
    }

    /// A body that cannot be read on. If the answer has begun, it just ends
    /// short: that is how its reader knows.
    fn break_off(&mut self, site: &Site, status: Status, out: &mut impl Out, n: usize) -> usize {
        if let State::Body { answer, .. } = &self.state {
            if matches!(answer.kind, Kind::Echo { started: true, .. }) {
                self.state = State::Closing;
                return n;
            }
        }
        self.fail(site, status, out, n)
    }
}

impl Answer {
    /// A piece of the body; never empty.
    fn data(&mut self, site: &Site, data: &[u8], out: &mut impl Out) {
        if let Kind::Echo { started, length } = &mut self.kind {
            if !*started {
                site.echo(out, self.keep, *length);
                *started = true;
            }
            match length {
                Some(_) => out.put(data),
                None => site.chunk(out, data),
            }
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
