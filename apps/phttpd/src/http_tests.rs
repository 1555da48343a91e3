// SPDX-License-Identifier: GPL-2.0
//! Connections without a network.

use proptest::prelude::*;

use super::*;

/// An output that takes `limit` bytes at a time.
struct Trickle {
    all: Vec<u8>,
    waiting: usize,
    limit: usize,
}

impl Out for Trickle {
    fn put(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
        self.waiting += bytes.len();
    }

    fn full(&self) -> bool {
        self.waiting >= self.limit
    }
}

/// Feed `input` in pieces of the given sizes (repeated), with an output that
/// fills up after `limit` bytes and is emptied whenever nothing goes on.
fn serve(site: &Site, input: &[u8], sizes: &[usize], limit: usize) -> (Vec<u8>, bool) {
    let mut shared = Shared::new(site, None);
    let mut connection = Connection::new();
    let mut out = Trickle {
        all: Vec::new(),
        waiting: 0,
        limit,
    };
    let mut at = 0;
    for size in sizes.iter().cycle() {
        let end = (at + size).min(input.len());
        while at < end {
            at += connection.feed(&mut shared, &input[at..end], &mut out);
            assert!(
                at == end || out.full(),
                "input is left only when the output is full"
            );
            out.waiting = 0;
        }
        if at == input.len() {
            break;
        }
    }
    for _ in 0..10_000 {
        let before = out.all.len();
        out.waiting = 0;
        connection.feed(&mut shared, &[], &mut out);
        if out.all.len() == before {
            break;
        }
    }
    (out.all, connection.closing())
}

fn answer(site: &Site, input: &str) -> (String, bool) {
    let (out, closing) = serve(site, input.as_bytes(), &[input.len()], usize::MAX);
    (String::from_utf8(out).unwrap(), closing)
}

fn site() -> Site {
    Site::new(64, 1 << 20, false)
}

fn status_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let input = "GET / HTTP/1.1\r\nHost: h\r\n\r\n\
                 POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
                 HEAD / HTTP/1.1\r\nHost: h\r\n\r\n\
                 POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nsome\
                 GET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET / never";
    let (out, closing) = answer(&site(), input);
    assert!(closing);
    let statuses: Vec<&str> = out.matches("HTTP/1.1 200 OK").collect();
    assert_eq!(statuses.len(), 4);
    assert!(out.contains("Content-Length: 5\r\n\r\nhelloHTTP/1.1 200"));
    assert!(
        out.contains("Content-Length: 64\r\n\r\nHTTP/1.1"),
        "HEAD has no body"
    );
    assert!(out.ends_with("Connection: close\r\nServer: phttpd (PASTE)\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n404 Not Found\n"));
}

#[test]
fn errors_that_leave_the_framing_intact_keep_the_connection() {
    for (head, number) in [("GET /none", "404"), ("PUT /", "405"), ("BREW /", "501")] {
        let input = format!("{head} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        let (out, closing) = answer(&site(), &input);
        assert!(out.starts_with(&format!("HTTP/1.1 {number} ")), "{out}");
        assert!(!closing && out.contains("Connection: keep-alive"));
    }
}

#[test]
fn errors_that_lose_the_framing_close() {
    let large = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        (1 << 20) + 1
    );
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
    for (input, number) in [
        ("nonsense\r\n\r\n", "400"),
        (&large, "413"),
        (&long, "431"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
            "501",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\nx",
            "200",
        ),
    ] {
        let (out, closing) = answer(&site(), input);
        if number == "200" {
            // The chunk is announced too long, but nothing came yet.
            assert!(!closing && out.is_empty());
            continue;
        }
        assert!(out.starts_with(&format!("HTTP/1.1 {number} ")), "{out}");
        assert!(closing && out.contains("Connection: close"));
    }
}

#[test]
fn a_chunked_body_over_the_limit_is_refused_or_broken_off() {
    let site = Site::new(1, 1000, false);
    let body = format!("258\r\n{0}\r\n258\r\n{0}\r\n0\r\n\r\n", "x".repeat(600));
    let head = "HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (out, closing) = answer(&site, &format!("POST / {head}{body}"));
    assert!(closing && status_line(&out).contains("413"));
    let (out, closing) = answer(&site, &format!("POST /echo {head}{body}"));
    assert!(closing && status_line(&out).contains("200") && !out.ends_with("0\r\n\r\n"));
}

#[test]
fn who_expects_to_be_asked_is_asked() {
    let head = "HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (out, _) = answer(&site(), &format!("POST /echo {head}"));
    assert_eq!(out, "HTTP/1.1 100 Continue\r\n\r\n");
    let (out, _) = answer(&site(), &format!("POST /echo {head}ab"));
    assert!(out.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK") && out.ends_with("ab"));
    let (out, closing) = answer(&site(), &format!("POST /none {head}"));
    assert!(closing && out.starts_with("HTTP/1.1 404"));
}

#[test]
fn a_chunked_echo_comes_back_in_chunks() {
    let input = "PUT /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n";
    let (out, closing) = answer(&site(), input);
    assert!(!closing);
    assert!(
        out.ends_with("\r\n\r\n3\r\nabc\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n"),
        "{out}"
    );
}

#[test]
fn an_empty_echo_has_a_head() {
    let input = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    assert!(answer(&site(), input)
        .0
        .ends_with("Content-Length: 0\r\n\r\n"));
    let input = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(answer(&site(), input)
        .0
        .ends_with("chunked\r\n\r\n0\r\n\r\n"));
}

#[test]
fn a_long_answer_waits_for_room() {
    let site = Site::new(1_000_000, 0, true);
    let input = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    let (out, closing) = serve(&site, input, &[input.len()], 1000);
    assert!(closing);
    assert_eq!(out.len(), 2 * (1_000_000 + 92) - 5, "'close' is 5 shorter");
}

/// One request of a random kind.
#[test]
fn a_repeated_request_is_answered_as_the_first_was() {
    let fixed = Site::new(64, 1 << 20, true);
    let heads = [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "GET /none HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ];
    for head in heads {
        let input = head.repeat(3);
        let once = serve(&site(), input.as_bytes(), &[input.len()], usize::MAX);
        for limit in [1, usize::MAX] {
            assert_eq!(
                once,
                serve(&fixed, input.as_bytes(), &[head.len()], limit),
                "{head}"
            );
        }
    }
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let plain = (
        prop::sample::select(vec!["POST /", "POST /echo", "PUT /echo", "PUT /x"]),
        body,
    )
        .prop_map(|(line, body)| {
            let head = format!(
                "{line} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), &body].concat()
        });
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..5);
    let chunked = chunks.prop_map(|chunks| {
        let mut all = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in chunks {
            all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            all.extend_from_slice(&chunk);
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(b"0\r\n\r\n");
        all
    });
    let get = prop::sample::select(vec!["GET /", "HEAD /", "GET /missing", "OPTIONS /"])
        .prop_map(|line| format!("{line} HTTP/1.1\r\nHost: h\r\nX-Y: z\r\n\r\n").into_bytes());
    prop_oneof![plain, chunked, get]
}

proptest! {
    #[test]
    fn answers_do_not_depend_on_how_input_and_output_are_cut(
        requests in prop::collection::vec(request(), 1..8),
        sizes in prop::collection::vec(1usize..200, 1..10),
        limit in 1usize..2000,
    ) {
        let site = site();
        let input = requests.concat();
        let whole = serve(&site, &input, &[input.len()], usize::MAX);
        prop_assert_eq!(&whole, &serve(&site, &input, &sizes, limit));
        prop_assert_eq!(&whole, &serve(&site, &input, &[1], 1));
    }

    #[test]
    fn any_bytes_are_survived(
        input in prop::collection::vec(any::<u8>(), 0..2000),
        size in 1usize..500,
    ) {
        serve(&site(), &input, &[size], 100);
    }
}
