// SPDX-License-Identifier: GPL-2.0
//! Decoder of the chunked transfer coding (RFC 9112, section 7.1), for bodies
//! that come in pieces of any size.

/// Most bytes of chunk extensions, size digits and trailers together per body
/// and chunk: they are dropped, but nobody may send them for ever.
const MAX_OVERHEAD: u32 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the digits of a chunk size; whether there was one yet.
    Size {
        left: u64,
        any: bool,
    },
    /// Behind the digits, up to the end of the line.
    Extension {
        left: u64,
    },
    /// After the CR of the size line.
    SizeEnd {
        left: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In the trailer section; whether the line has something in it.
    Trailer {
        any: bool,
    },
    /// After a CR in the trailer section.
    TrailerLf {
        any: bool,
    },
    Done,
}

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    overhead: u32,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Payload.
    Data(&'a [u8]),
    /// The input is used up.
    More,
    /// The body is complete; what follows is the next request.
    End,
    /// It is not the chunked coding.
    Malformed,
}

impl Chunked {
    /// At the start of a body.
    pub fn new() -> Chunked {
        Chunked {
            state: State::Size {
                left: 0,
                any: false,
            },
            overhead: 0,
        }
    }

    /// Decode the next piece of `input`; also says how many bytes of the input
    /// that took.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        for (at, &byte) in input.iter().enumerate() {
            if let State::Data { left } = self.state {
                let rest = &input[at..];
                let n = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                let left = left - n as u64;
                self.state = if left == 0 {
                    State::DataCr
                } else {
                    State::Data { left }
                };
                return (at + n, Piece::Data(&rest[..n]));
            }
            match self.step(byte) {
                Some(State::Done) => {
                    self.state = State::Done;
                    return (at + 1, Piece::End);
                }
                Some(state) => self.state = state,
                None => return (at, Piece::Malformed),
            }
        }
        (input.len(), Piece::More)
    }

    /// The state after one byte that is not payload; `None`: malformed.
    fn step(&mut self, byte: u8) -> Option<State> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD {
            return None;
        }
        Some(match (self.state, byte) {
            (State::Size { any: true, left }, b'\r') => State::SizeEnd { left },
            (State::Size { any: true, left }, b';' | b' ' | b'\t') => State::Extension { left },
            (State::Size { left, .. }, digit) => {
                let value = u64::from(char::from(digit).to_digit(16)?);
                State::Size {
                    left: left.checked_mul(16)?.checked_add(value)?,
                    any: true,
                }
            }
            (State::Extension { left }, b'\r') => State::SizeEnd { left },
            (State::Extension { .. }, b'\n') => return None,
            (State::Extension { left }, _) => State::Extension { left },
            (State::SizeEnd { left: 0 }, b'\n') => State::Trailer { any: false },
            (State::SizeEnd { left }, b'\n') => State::Data { left },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.overhead = 0;
                State::Size {
                    left: 0,
                    any: false,
                }
            }
            (State::Trailer { any }, b'\r') => State::TrailerLf { any },
            (State::Trailer { .. }, b'\n') => return None,
            (State::Trailer { .. }, _) => State::Trailer { any: true },
            (State::TrailerLf { any: true }, b'\n') => State::Trailer { any: false },
            (State::TrailerLf { any: false }, b'\n') => State::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decode, the input cut into pieces of `step` bytes: body and rest.
    fn decode(input: &[u8], step: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut decoder = Chunked::new();
        let mut body = Vec::new();
        let mut at = 0;
        for piece in input.chunks(step) {
            let mut used = 0;
            while used < piece.len() {
                let (n, found) = decoder.next(&piece[used..]);
                used += n;
                match found {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::More => {}
                    Piece::End => return Some((body, input[at + used..].to_vec())),
                    Piece::Malformed => return None,
                }
            }
            at += piece.len();
        }
        None
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let input = b"5\r\nhello\r\nC ; a=\"b\"\r\n, big  world\r\n000\r\nT: x\r\nU:\r\n\r\nGET /";
        for step in 1..=input.len() {
            let (body, rest) = decode(input, step).unwrap();
            assert_eq!(
                (&body[..], &rest[..]),
                (&b"hello, big  world"[..], &b"GET /"[..])
            );
        }
        assert_eq!(decode(b"0\r\n\r\n", 1), Some((vec![], vec![])));
    }

    #[test]
    fn malformed_bodies_are_refused() {
        for bad in [
            &b"\r\n"[..],
            b";a\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"1\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1;x\n",
            b"0\r\nT: x\n\r\n",
            b"0\r\n\rX",
            b"1\rx",
            b"10000000000000000\r\n",
        ] {
            assert_eq!(decode(bad, 1), None, "{}", String::from_utf8_lossy(bad));
            assert_eq!(decode(bad, 100), None);
        }
        let endless = [&b"1;"[..], &[b'x'; 9000]].concat();
        assert_eq!(decode(&endless, 7), None);
        assert!(matches!(Chunked::new().next(&endless).1, Piece::Malformed));
    }

    #[test]
    fn overhead_is_counted_per_chunk() {
        let mut input = Vec::new();
        for _ in 0..5000 {
            input.extend_from_slice(b"1\r\nx\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(decode(&input, 1000).unwrap().0.len(), 5000);
    }
}
