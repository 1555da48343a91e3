// SPDX-License-Identifier: GPL-2.0
//! The HTTP/1.1 server side of one connection, without any input or output of
//! its own: bytes are fed in as they come, answers go to an [`Out`]. However
//! the bytes are cut, the answers are the same.

use std::io;

use crate::chunked::{Chunked, Piece};
use crate::request::{Action, Framing, Parser, Request, Service, MAX_HEAD};
use crate::site::{Out, Site, Status};
use crate::store::{Object, Store};

/// What the connections of a thread have in common.
pub struct Shared<'a> {
    site: &'a Site,
    parser: Parser,
    /// Where bodies are kept, if they are.
    pub store: Option<Store<'a>>,
}

impl<'a> Shared<'a> {
    /// For connections to this site.
    pub fn new(site: &'a Site, store: Option<Store<'a>>) -> Shared<'a> {
        let service = store.as_ref().map_or(Service::Generated, Store::service);
        Shared {
            site,
            parser: Parser::new(service),
            store,
        }
    }

    /// Make durable what was answered for since the last time; before any of
    /// these answers is sent.
    #[inline]
    pub fn commit(&mut self) -> io::Result<()> {
        match &mut self.store {
            Some(store) => store.commit(),
            None => Ok(()),
        }
    }
}

/// One connection.
pub struct Connection {
    state: State,
    /// Start of a head that has not come whole. Empty nearly always.
    head: Vec<u8>,
    /// What is to be stored, loaded or removed. Empty if nothing is.
    object: Object,
}

enum State {
    /// Between requests, or within a head.
    Head,
    /// Within a body.
    Body { body: Body, answer: Answer },
    /// A request about something that may have come with the same input.
    Waiting(Answer),
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
    /// These are about the connection's object.
    Store,
    Load,
    Remove,
}

impl Connection {
    /// A new connection.
    pub fn new() -> Connection {
        Connection {
            state: State::Head,
            head: Vec::new(),
            object: Object::default(),
        }
    }

    /// The connection ends here: what was stored of an unfinished body is
    /// dropped. Nothing must be fed after that.
    pub fn abandon(&mut self, shared: &mut Shared<'_>) {
        if let Some(store) = &mut shared.store {
            store.abandon(&mut self.object);
        }
    }

    /// True once no more input is wanted: when all that was put out is sent,
    /// close. [`Connection::feed`] takes and drops what still comes.
    pub fn closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// True if the last input must be done with before the answers go on.
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Take input, put out answers. Returns how much of the input was taken;
    /// if not all, `out` is full or the connection waits, and the rest is to be
    /// fed when that is over. To be called without input, too, when it is.
    #[inline]
    pub fn feed(&mut self, shared: &mut Shared<'_>, input: &[u8], out: &mut impl Out) -> usize {
        let site = shared.site;
        if let (State::Head, Some(answer)) = (&self.state, site.whole()) {
            // The same request as before, from whomever.
            if self.head.is_empty() && shared.parser.plain_again(input) && !out.full() {
                out.put(answer);
                return input.len();
            }
        }
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
                State::Waiting(answer) => {
                    let answer = *answer;
                    if shared.store.as_ref().is_some_and(Store::busy) {
                        return taken;
                    }
                    self.finish(shared, answer, out);
                }
                _ if rest.is_empty() || out.full() => return taken,
                State::Head => taken += self.take_head(shared, rest, out),
                State::Body { .. } => taken += self.take_body(shared, taken, rest, out),
            }
        }
    }

    /// Input in [`State::Head`]; not empty.
    #[inline]
    fn take_head(&mut self, shared: &mut Shared<'_>, input: &[u8], out: &mut impl Out) -> usize {
        if self.head.is_empty() {
            return match shared.parser.parse(input) {
                Ok(Some(request)) => {
                    self.begin(shared, request, input, out);
                    request.len
                }
                Ok(None) => {
                    self.head.extend_from_slice(input);
                    input.len()
                }
                Err(status) => self.fail(shared, status, out, input.len()),
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
        match Request::parse(shared.parser.service(), &self.head) {
            Ok(Some(request)) => {
                let head = std::mem::take(&mut self.head);
                self.begin(shared, request, &head, out);
                // The part before was no whole head, so it ends in this one.
                request.len.saturating_sub(before)
            }
            Ok(None) => part.len(),
            Err(status) => self.fail(shared, status, out, part.len()),
        }
    }

    /// An error after which the connection cannot go on.
    fn fail(
        &mut self,
        shared: &mut Shared<'_>,
        status: Status,
        out: &mut impl Out,
        taken: usize,
    ) -> usize {
        shared.site.status(out, status, false, false);
        self.abandon(shared);
        self.head = Vec::new();
        self.state = State::Closing;
        taken
    }

    /// A whole head was read, at the start of `head`.
    #[inline]
    fn begin(
        &mut self,
        shared: &mut Shared<'_>,
        request: Request,
        head: &[u8],
        out: &mut impl Out,
    ) {
        let length = match request.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        if length > Some(shared.site.max_body) {
            self.fail(shared, Status::TOO_LARGE, out, 0);
            return;
        }
        let kind = match request.action {
            Action::Answer => Kind::Usual,
            Action::Refuse(status) => Kind::Refuse(status),
            Action::Echo => Kind::Echo {
                started: false,
                length,
            },
            Action::Store => self.begin_object(shared, request.path(head)),
            Action::Load => self.name_object(Kind::Load, request.path(head)),
            Action::Remove => self.name_object(Kind::Remove, request.path(head)),
        };
        let answer = Answer {
            kind,
            keep: request.keep,
            head_only: request.head_only,
        };
        let body = match length {
            Some(0) => return self.finish(shared, answer, out),
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
                self.fail(shared, status, out, 0);
                return;
            }
            shared.site.proceed(out);
        }
        self.state = State::Body { body, answer };
    }

    /// A body to be stored is about to come.
    fn begin_object(&mut self, shared: &mut Shared<'_>, path: &[u8]) -> Kind {
        let Some(store) = &mut shared.store else {
            return Kind::Refuse(Status::NOT_FOUND);
        };
        match store.begin(&mut self.object, path) {
            Ok(()) => Kind::Store,
            Err(status) => Kind::Refuse(status),
        }
    }

    fn name_object(&mut self, kind: Kind, path: &[u8]) -> Kind {
        self.object.name(path);
        kind
    }

    /// The body is over, or there was none.
    #[inline]
    fn finish(&mut self, shared: &mut Shared<'_>, answer: Answer, out: &mut impl Out) {
        let Answer {
            kind,
            keep,
            head_only,
        } = answer;
        let site = shared.site;
        let mut left = 0;
        match (kind, &mut shared.store) {
            (Kind::Refuse(status), _) => site.status(out, status, keep, head_only),
            (Kind::Echo { started, length }, _) => {
                if !started {
                    site.echo(out, keep, length);
                }
                if length.is_none() {
                    site.last_chunk(out);
                }
            }
            (Kind::Store, Some(store)) => match store.finish(&mut self.object) {
                Ok(number) => left = site.stored(out, keep, number),
                Err(status) => site.status(out, status, keep, head_only),
            },
            (Kind::Load | Kind::Remove, Some(store)) if store.busy() => {
                self.state = State::Waiting(answer);
                return;
            }
            (Kind::Load, Some(store)) => {
                let found = store.load(&self.object, |length| {
                    site.echo(out, keep, Some(length));
                    (!head_only).then_some(&mut *out)
                });
                if !found {
                    site.status(out, Status::NOT_FOUND, keep, head_only);
                }
            }
            (Kind::Remove, Some(store)) => match store.remove(&self.object) {
                Ok(true) => left = site.ok(out, keep, false),
                Ok(false) => site.status(out, Status::NOT_FOUND, keep, false),
                Err(status) => site.status(out, status, keep, false),
            },
            (Kind::Usual | Kind::Store | Kind::Load | Kind::Remove, _) => {
                left = site.ok(out, keep, head_only);
            }
        }
        self.state = match (left, keep) {
            (0, true) => State::Head,
            (0, false) => State::Closing,
            (left, keep) => State::Filling { left, keep },
        };
    }

    /// Input in [`State::Body`], not empty, that begins at byte `at` of what
    /// was fed.
    fn take_body(
        &mut self,
        shared: &mut Shared<'_>,
        at: usize,
        input: &[u8],
        out: &mut impl Out,
    ) -> usize {
        let State::Body { body, answer } = &mut self.state else {
            return 0;
        };
        match body {
            Body::Length(left) => {
                let n = usize::try_from(*left).map_or(input.len(), |l| l.min(input.len()));
                *left -= n as u64;
                let over = *left == 0;
                answer.data(shared, &mut self.object, at, &input[..n], out);
                if over {
                    let answer = *answer;
                    self.finish(shared, answer, out);
                }
                n
            }
            Body::Chunked { decoder, taken } => {
                let (n, piece) = decoder.next(input);
                match piece {
                    Piece::Data(data) => {
                        *taken += data.len() as u64;
                        if *taken > shared.site.max_body {
                            return self.break_off(shared, Status::TOO_LARGE, out, n);
                        }
                        // A piece ends where the decoder stopped.
                        let at = at + n - data.len();
                        answer.data(shared, &mut self.object, at, data, out);
                    }
                    Piece::More => {}
                    Piece::End => {
                        let answer = *answer;
                        self.finish(shared, answer, out);
                    }
                    Piece::Malformed => {
                        return self.break_off(shared, Status::BAD_REQUEST, out, n);
                    }
                }
                n
            }
        }
    }

    /// A body that cannot be read on. If the answer has begun, it just ends
    /// short: that is how its reader knows.
    fn break_off(
        &mut self,
        shared: &mut Shared<'_>,
        status: Status,
        out: &mut impl Out,
        n: usize,
    ) -> usize {
        if let State::Body { answer, .. } = &self.state {
            if matches!(answer.kind, Kind::Echo { started: true, .. }) {
                self.state = State::Closing;
                return n;
            }
        }
        self.fail(shared, status, out, n)
    }
}

impl Answer {
    /// A piece of the body, never empty, from byte `at` of what was fed.
    #[inline]
    fn data(
        &mut self,
        shared: &mut Shared<'_>,
        object: &mut Object,
        at: usize,
        data: &[u8],
        out: &mut impl Out,
    ) {
        match &mut self.kind {
            Kind::Echo { started, length } => {
                let site = shared.site;
                if !*started {
                    site.echo(out, self.keep, *length);
                    *started = true;
                }
                match length {
                    Some(_) => out.put(data),
                    None => site.chunk(out, data),
                }
            }
            Kind::Store => {
                if let Some(store) = &mut shared.store {
                    if let Err(status) = store.piece(object, at, data) {
                        self.kind = Kind::Refuse(status);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
