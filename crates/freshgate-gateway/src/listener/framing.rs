//! Follows a client's bytes closely enough to say where in a message they are.
//!
//! hyper parses the messages and is the authority; this only watches. It exists for two things that hyper does not tell:
//! that a head named both `Content-Length` and `Transfer-Encoding` (hyper goes by the second and forgets the first, a
//! gate must refuse: RFC 9112 section 6.3), and whether a silent client is between requests, within a head or within a
//! body, which have time limits of their own. Where a message is malformed hyper ends the connection, so it does not
//! matter that the watcher has lost its place.

/// Where in the stream of messages the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// After a message, before the next.
    BetweenMessages,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
    /// Lost, after something malformed.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The start of the current line; the rest of a longer one does not matter.
    line: [u8; Framing::LINE],
    line_length: usize,
    head: Head,
    heads: u32,
    ambiguous: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    content_length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BetweenMessages,
    Head,
    Body { left: u64 },
    ChunkSize,
    Chunk { left: u64 },
    Trailers,
    Unknown,
}

impl Framing {
    const LINE: usize = 48;

    pub(super) fn new() -> Self {
        Self {
            state: State::BetweenMessages,
            line: [0; Self::LINE],
            line_length: 0,
            head: Head::default(),
            heads: 0,
            ambiguous: None,
        }
    }

    pub(super) fn place(&self) -> Place {
        match self.state {
            State::BetweenMessages => Place::BetweenMessages,
            State::Head => Place::Head,
            State::Body { .. } | State::ChunkSize | State::Chunk { .. } | State::Trailers => Place::Body,
            State::Unknown => Place::Unknown,
        }
    }

    /// How many heads ended so far.
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// The number, from 1, of the message whose head named both lengths.
    pub(super) fn ambiguous(&self) -> Option<u32> {
        self.ambiguous
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            bytes = match self.state {
                State::BetweenMessages if first == b'\r' || first == b'\n' => &bytes[1..],
                State::BetweenMessages => {
                    self.state = State::Head;
                    self.head = Head::default();
                    self.line_length = 0;
                    bytes
                }
                State::Body { left } | State::Chunk { left } => self.skip(left, bytes),
                State::Head | State::ChunkSize | State::Trailers => self.read_line(bytes),
                State::Unknown => return,
            };
        }
    }

    fn skip<'a>(&mut self, left: u64, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - skipped as u64;
        self.state = match self.state {
            State::Body { .. } if left == 0 => State::BetweenMessages,
            State::Body { .. } => State::Body { left },
            _ if left == 0 => State::ChunkSize,
            _ => State::Chunk { left },
        };
        &bytes[skipped..]
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr::memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let kept = piece.len().min(Self::LINE - self.line_length);
        self.line[self.line_length..self.line_length + kept].copy_from_slice(&piece[..kept]);
        self.line_length += kept;
        let Some(end) = end else { return &[] };
        let line = self.line;
        self.end_line(line[..self.line_length].trim_ascii_end());
        self.line_length = 0;
        &bytes[end + 1..]
    }

    fn end_line(&mut self, line: &[u8]) {
        match self.state {
            State::Head if line.is_empty() => self.end_head(),
            State::Head => self.head.note(line),
            // The line end after a chunk's data.
            State::ChunkSize if line.is_empty() => {}
            State::ChunkSize => {
                self.state = match chunk_size(line) {
                    Some(0) => State::Trailers,
                    Some(size) => State::Chunk { left: size },
                    None => State::Unknown,
                };
            }
            State::Trailers if line.is_empty() => self.state = State::BetweenMessages,
            _ => {}
        }
    }

    fn end_head(&mut self) {
        self.heads = self.heads.wrapping_add(1);
        self.state = match self.head {
            Head { content_length: Some(_), chunked: true } => {
                self.ambiguous = Some(self.heads);
                State::Unknown
            }
            Head { chunked: true, .. } => State::ChunkSize,
            Head { content_length: Some(length @ 1..), .. } => State::Body { left: length },
            Head { .. } => State::BetweenMessages,
        };
    }
}

impl Head {
    fn note(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            // hyper refuses what is no number, and two that differ.
            let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            self.content_length = Some(length.unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it ends, how many heads it saw, and which message was ambiguous.
    type Seen = (Place, u32, Option<u32>);

    /// Feeds the bytes whole and in every split of two, and one by one: the end is the same.
    fn after(bytes: &str) -> Seen {
        let bytes = bytes.as_bytes();
        let end = |pieces: &[&[u8]]| {
            let mut framing = Framing::new();
            for piece in pieces {
                framing.feed(piece);
            }
            (framing.place(), framing.heads(), framing.ambiguous())
        };
        let whole = end(&[bytes]);
        for at in 0..bytes.len() {
            assert_eq!(end(&[&bytes[..at], &bytes[at..]]), whole, "split at {at}");
        }
        assert_eq!(end(&bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }

    #[test]
    fn places() {
        use Place::{BetweenMessages, Body, Head, Unknown};
        let table: &[(&str, Seen)] = &[
            ("", (BetweenMessages, 0, None)),
            ("\r\n\r\n", (BetweenMessages, 0, None)),
            ("GET / HT", (Head, 0, None)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", (Head, 0, None)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", (BetweenMessages, 1, None)),
            ("GET / HTTP/1.1\nHost: a\n\n", (BetweenMessages, 1, None)),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", (BetweenMessages, 1, None)),
            ("POST / HTTP/1.1\r\ncontent-LENGTH:3\r\n\r\nab", (Body, 1, None)),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", (BetweenMessages, 1, None)),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET", (Head, 1, None)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", (Body, 1, None)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", (Body, 1, None)),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\n",
                (Body, 1, None),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
                (BetweenMessages, 1, None),
            ),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", (Unknown, 1, None)),
            // Both lengths, in either order; elsewhere than in a head they mean nothing.
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                (Unknown, 1, Some(1)),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                (Unknown, 1, Some(1)),
            ),
            (
                "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding: x\r\ncontent-length: 0\r\n\r\n",
                (Unknown, 2, Some(2)),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n19\r\nContent-Length: 3\r\nX: 12\r\n\r\n0\r\n\r\n",
                (BetweenMessages, 1, None),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 32\r\n\r\n\r\nTransfer-Encoding: chunked\r\n\r\n",
                (BetweenMessages, 1, None),
            ),
            // Lines longer than are kept.
            (
                "GET /0123456789012345678901234567890123456789012345678901234567890123456789 HTTP/1.1\r\n\r\n",
                (BetweenMessages, 1, None),
            ),
        ];
        for (bytes, expected) in table {
            assert_eq!(after(bytes), *expected, "{bytes:?}");
        }
    }
}
