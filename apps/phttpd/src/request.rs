// SPDX-License-Identifier: GPL-2.0
//! The head of a request: what the server needs to know of it.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Error, Header, Status as Parsed};

use crate::site::Status;

/// Longest head, request line and header fields, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 64;

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes, also none.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The generated answer.
    Answer,
    /// The body back.
    Echo,
    /// Keep the body, as a record or as the value of the path.
    Store,
    /// What was stored.
    Load,
    /// Drop what was stored.
    Remove,
    /// An error that is known before the body.
    Refuse(Status),
}

/// What paths stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Generated answers.
    Generated,
    /// A log: POST appends, `/N` is record N.
    Log,
    /// Keys.
    Map,
}

/// A head taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the head.
    pub len: usize,
    /// Where in it the path is, without a query: begin and end, both less than
    /// [`MAX_HEAD`].
    path: (u16, u16),
    /// What is asked for.
    pub action: Action,
    /// How the body is delimited.
    pub framing: Framing,
    /// The connection is to stay open.
    pub keep: bool,
    /// HEAD: the answer has no body.
    pub head_only: bool,
    /// The client waits for "100 Continue".
    pub expects: bool,
    /// HTTP/1.0: knows no chunks and no "100 Continue".
    pub old: bool,
}

impl Request {
    /// Parse the head at the start of `input`. `Ok(None)`: it is not all there.
    /// An error ends the connection.
    pub fn parse(service: Service, input: &[u8]) -> Result<Option<Request>, Status> {
        let mut fields: [MaybeUninit<Header<'_>>; MAX_FIELDS] =
            [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let len = match request.parse_with_uninit_headers(input, &mut fields) {
            Ok(Parsed::Complete(len)) if len <= MAX_HEAD => len,
            Ok(Parsed::Complete(_)) => return Err(Status::HEADERS_TOO_LARGE),
            Ok(Parsed::Partial) if input.len() >= MAX_HEAD => {
                return Err(Status::HEADERS_TOO_LARGE)
            }
            Ok(Parsed::Partial) => return Ok(None),
            Err(Error::TooManyHeaders) => return Err(Status::HEADERS_TOO_LARGE),
            Err(Error::Version) => return Err(Status::VERSION),
            Err(_) => return Err(Status::BAD_REQUEST),
        };
        let old = request.version == Some(0);
        let found = Fields::read(request.headers, old)?;
        if !found.host && !old {
            return Err(Status::BAD_REQUEST);
        }
        let framing = match (found.chunked, found.length) {
            // Both at once is how requests are smuggled past proxies.
            (true, Some(_)) => return Err(Status::BAD_REQUEST),
            (true, None) if old => return Err(Status::BAD_REQUEST),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        let method = request.method.unwrap_or("");
        let target = request.path.unwrap_or("");
        let path = target.split('?').next().unwrap_or("");
        // Both point into `input`, and a head is shorter than 64 KiB.
        let begin = (path.as_ptr() as usize).saturating_sub(input.as_ptr() as usize);
        Ok(Some(Request {
            len,
            path: (begin as u16, (begin + path.len()) as u16),
            action: route(service, method, path),
            framing,
            keep: found.keep,
            head_only: method == "HEAD",
            expects: found.expects && !old,
            old,
        }))
    }

    /// The path, in the head that this was parsed from.
    pub fn path<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        let range: Range<usize> = self.path.0.into()..self.path.1.into();
        head.get(range).unwrap_or(&[])
    }
}

/// Longest head that [`Parser`] remembers.
const REMEMBERED: usize = 512;

/// Parses heads, and remembers the last one: clients repeat themselves, and the
/// same bytes mean the same request.
pub struct Parser {
    service: Service,
    head: Vec<u8>,
    request: Option<Request>,
    plain: bool,
}

impl Parser {
    /// Knows nothing yet.
    pub fn new(service: Service) -> Parser {
        Parser {
            service,
            head: Vec::with_capacity(REMEMBERED),
            request: None,
            plain: false,
        }
    }

    /// What paths stand for.
    pub fn service(&self) -> Service {
        self.service
    }

    /// As [`Request::parse`].
    #[inline]
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<Request>, Status> {
        match self.request {
            Some(request) if input.starts_with(&self.head) => Ok(Some(request)),
            _ => self.parse_new(input),
        }
    }

    /// Whether these bytes are just the remembered head, of a request without a body for the
    /// generated answer, whole, on a connection that stays.
    #[inline]
    pub fn plain_again(&self, input: &[u8]) -> bool {
        self.plain && input == self.head
    }

    #[cold]
    fn parse_new(&mut self, input: &[u8]) -> Result<Option<Request>, Status> {
        let parsed = Request::parse(self.service, input)?;
        if let Some(request) = parsed.filter(|request| request.len <= REMEMBERED) {
            self.head.clear();
            self.head.extend_from_slice(&input[..request.len]);
            self.plain = request.action == Action::Answer
                && request.framing == Framing::Length(0)
                && request.keep
                && !request.head_only;
            self.request = Some(request);
        }
        Ok(parsed)
    }
}

/// Methods that exist, whether they mean something here or not.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH",
];

/// What a method does to a path.
fn route(service: Service, method: &str, path: &str) -> Action {
    let refuse = |status| match METHODS.contains(&method) {
        true => Action::Refuse(status),
        false => Action::Refuse(Status::NOT_IMPLEMENTED),
    };
    let record = || {
        path.strip_prefix('/')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match (service, path, method) {
        (Service::Map, _, "GET" | "HEAD") => Action::Load,
        (Service::Map, _, "POST" | "PUT") => Action::Store,
        (Service::Map, _, "DELETE") => Action::Remove,
        (Service::Map, ..) => refuse(Status::KEY_METHODS),
        (_, "/echo", "POST" | "PUT") => Action::Echo,
        (_, "/echo", _) => refuse(Status::ECHO_METHODS),
        (Service::Log, _, "POST") => Action::Store,
        (_, "/", "GET" | "HEAD" | "POST") => Action::Answer,
        (_, "/", _) => refuse(Status::ROOT_METHODS),
        (Service::Log, _, "GET" | "HEAD") if record() => Action::Load,
        (Service::Log, _, "DELETE") if record() => Action::Remove,
        _ => refuse(Status::NOT_FOUND),
    }
}

/// The header fields that matter.
struct Fields {
    length: Option<u64>,
    chunked: bool,
    keep: bool,
    expects: bool,
    host: bool,
}

impl Fields {
    fn read(headers: &[Header<'_>], old: bool) -> Result<Fields, Status> {
        let mut found = Fields {
            length: None,
            chunked: false,
            keep: !old,
            expects: false,
            host: false,
        };
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // By length first: that tells nearly all other fields apart.
            match header.name.len() {
                4 if is("host") => {
                    if found.host {
                        return Err(Status::BAD_REQUEST);
                    }
                    found.host = true;
                }
                6 if is("expect") => {
                    found.expects = header.value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if is("connection") => found.connection(header.value),
                14 if is("content-length") => {
                    let length = length(header.value).ok_or(Status::BAD_REQUEST)?;
                    if found.length.is_some_and(|other| other != length) {
                        return Err(Status::BAD_REQUEST);
                    }
                    found.length = Some(length);
                }
                17 if is("transfer-encoding") => {
                    if !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Status::NOT_IMPLEMENTED);
                    }
                    if found.chunked {
                        return Err(Status::BAD_REQUEST);
                    }
                    found.chunked = true;
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// A comma-separated list; "close" wins.
    fn connection(&mut self, value: &[u8]) {
        for word in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if word.eq_ignore_ascii_case(b"close") {
                self.keep = false;
                return;
            }
            if word.eq_ignore_ascii_case(b"keep-alive") {
                self.keep = true;
            }
        }
    }
}

/// A Content-Length: digits and nothing else.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|d| *d < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &[u8]) -> Result<Option<Request>, Status> {
        Request::parse(Service::Generated, text)
    }

    fn parse(text: &str) -> Request {
        head(text.as_bytes()).unwrap().unwrap()
    }

    fn refused(text: &str) -> Status {
        head(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn methods_and_paths_are_routed() {
        for (line, action) in [
            ("GET /", Action::Answer),
            ("HEAD /?x=1", Action::Answer),
            ("POST /", Action::Answer),
            ("PUT /echo", Action::Echo),
            ("POST /echo?a", Action::Echo),
            ("PUT /", Action::Refuse(Status::ROOT_METHODS)),
            ("GET /echo", Action::Refuse(Status::ECHO_METHODS)),
            ("GET /none", Action::Refuse(Status::NOT_FOUND)),
            ("DELETE /none", Action::Refuse(Status::NOT_FOUND)),
            ("BREW /", Action::Refuse(Status::NOT_IMPLEMENTED)),
        ] {
            let request = parse(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(request.action, action, "{line}");
            assert_eq!((request.keep, request.framing), (true, Framing::Length(0)));
            assert_eq!(request.head_only, line.starts_with("HEAD"));
        }
    }

    #[test]
    fn stores_route_by_their_own_rules() {
        use Service::{Log, Map};
        let of = |service, line: &str| {
            let text = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
            let request = Request::parse(service, text.as_bytes()).unwrap().unwrap();
            let path = String::from_utf8_lossy(request.path(text.as_bytes())).into_owned();
            (request.action, path)
        };
        for (service, line, action, path) in [
            (Log, "POST /any?x", Action::Store, "/any"),
            (Log, "GET /", Action::Answer, "/"),
            (Log, "GET /17", Action::Load, "/17"),
            (Log, "DELETE /17?", Action::Remove, "/17"),
            (Log, "GET /1x", Action::Refuse(Status::NOT_FOUND), "/1x"),
            (Log, "PUT /echo", Action::Echo, "/echo"),
            (
                Log,
                "BREW /1",
                Action::Refuse(Status::NOT_IMPLEMENTED),
                "/1",
            ),
            (Map, "PUT /echo", Action::Store, "/echo"),
            (Map, "HEAD /", Action::Load, "/"),
            (Map, "DELETE /a/b?c", Action::Remove, "/a/b"),
            (Map, "TRACE /a", Action::Refuse(Status::KEY_METHODS), "/a"),
        ] {
            assert_eq!(of(service, line), (action, path.into()), "{line}");
        }
    }

    #[test]
    fn fields_decide_about_body_and_connection() {
        let of = |fields: &str| parse(&format!("POST / HTTP/1.1\r\nhost: h\r\n{fields}\r\n\r\n"));
        assert_eq!(of("CONTENT-length: 12 ").framing, Framing::Length(12));
        assert_eq!(
            of("Content-Length: 7\r\nContent-Length: 7").framing,
            Framing::Length(7)
        );
        assert_eq!(of("Transfer-Encoding: Chunked").framing, Framing::Chunked);
        assert!(!of("Connection: x , Close").keep);
        assert!(of("Expect: 100-Continue").expects);
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").keep);
        assert!(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep);
    }

    #[test]
    fn malformed_heads_are_refused_with_the_right_number() {
        let with =
            |fields: &str| refused(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"));
        for bad in [
            "Content-Length: ",
            "Content-Length: +1",
            "Content-Length: 1x",
            "Content-Length: 18446744073709551616",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Host: again",
            "a b: c",
            "\u{1}: c",
        ] {
            assert_eq!(with(bad), Status::BAD_REQUEST, "{bad}");
        }
        assert_eq!(with("Transfer-Encoding: gzip"), Status::NOT_IMPLEMENTED);
        assert_eq!(with(&"a: b\r\n".repeat(64)), Status::HEADERS_TOO_LARGE);
        assert_eq!(
            with(&format!("a: {}", "b".repeat(MAX_HEAD))),
            Status::HEADERS_TOO_LARGE
        );
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Status::BAD_REQUEST);
        assert_eq!(refused("GET / HTTP/2.0\r\n\r\n"), Status::VERSION);
        assert_eq!(refused("hello\r\n\r\n"), Status::BAD_REQUEST);
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refused(old), Status::BAD_REQUEST);
    }

    #[test]
    fn a_remembered_head_means_the_same() {
        let mut parser = Parser::new(Service::Generated);
        let heads = [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
        ];
        for head in heads.iter().chain(&heads).flat_map(|head| [head, head]) {
            for cut in [0, 1, head.len() - 1] {
                assert_eq!(parser.parse(&head.as_bytes()[..cut]), Ok(None));
            }
            let followed = format!("{head}abc");
            let expected = super::tests::head(head.as_bytes());
            assert_eq!(parser.parse(followed.as_bytes()), expected);
            assert_eq!(parser.parse(head.as_bytes()), expected);
        }
        assert!(parser.parse(b"\0").is_err());
    }

    #[test]
    fn an_endless_head_is_refused_when_it_is_too_long() {
        let mut long = b"GET / HTTP/1.1\r\nHost: h\r\nx: ".to_vec();
        assert_eq!(head(&long), Ok(None));
        long.resize(MAX_HEAD, b'y');
        assert_eq!(head(&long), Err(Status::HEADERS_TOO_LARGE));
    }
}
