//! Follows a client's bytes closely enough to say where in a message they are.
//!
//! hyper parses the messages and is the authority; this only watches. It exists for three things that hyper does not tell:
//! that a head named both `Content-Length` and `Transfer-Encoding` (hyper goes by the second and forgets the first, a
//! gate must refuse: RFC 9112 section 6.3); that a head is too large, which hyper refuses by itself and without a word; and
//! whether a silent client is between requests, within a head or within a body, which have time limits of their own. Where
//! a message is malformed hyper ends the connection, so it does not matter that the watcher has lost its place.

/// How many headers a request may have: as many as hyper reads.
pub(super) const MOST_HEADERS: u32 = 100;
/// How long the end of a head that is cut may be.
pub(super) const LONGEST_ENDING: usize = 32;

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

/// What the bytes of a head were enough to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// It named both `Content-Length` and `Transfer-Encoding`.
    AmbiguousLength,
    /// It is larger than it may be, or has too many headers.
    TooLarge,
}

/// Where a head that is too large is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many of the bytes still count.
    pub(super) at: usize,
    /// What makes a head of them that can be read: of the rest nothing is known, but the request is refused anyway.
    pub(super) ending: &'static [u8],
}

#[derive(Debug)]
pub(super) struct Framing {
    head_limit: usize,
    state: State,
    /// The start of the current line; the rest of a longer one does not matter. Without what a sender may write at any
    /// length, and what says nothing: blanks, and zeros before a number.
    line: [u8; Framing::LINE],
    line_length: usize,
    head: Head,
    heads: u32,
    bad_head: Option<(u32, BadHead)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    bytes: usize,
    lines: u32,
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

    pub(super) fn new(head_limit: usize) -> Self {
        Self {
            head_limit,
            state: State::BetweenMessages,
            line: [0; Self::LINE],
            line_length: 0,
            head: Head::default(),
            heads: 0,
            bad_head: None,
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

    /// The number, from 1, of the message whose head is bad.
    pub(super) fn bad_head(&self) -> Option<(u32, BadHead)> {
        self.bad_head
    }

    /// Takes the next bytes. Yields where to cut them, if they are those by which a head becomes too large.
    pub(super) fn feed(&mut self, all: &[u8]) -> Option<Cut> {
        let mut bytes = all;
        while let Some(&first) = bytes.first() {
            if self.state == State::Head
                && let Some(room) = self.room_in_head(bytes)
            {
                let ending = self.cut_head(&bytes[..room]);
                return Some(Cut { at: all.len() - bytes.len() + room, ending });
            }
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
                State::Unknown => return None,
            };
        }
        None
    }

    /// How many of these bytes of a head there is room for, if not for all of the line that they begin with.
    fn room_in_head(&self, bytes: &[u8]) -> Option<usize> {
        let is_one_header_more = self.head.lines > MOST_HEADERS && self.line_length == 0;
        if is_one_header_more && !bytes.starts_with(b"\r") && !bytes.starts_with(b"\n") {
            return Some(0);
        }
        let room = self.head_limit - self.head.bytes;
        if bytes.len() <= room {
            return None;
        }
        let line = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        (line > room).then_some(room)
    }

    /// Ends a head after these last bytes of it.
    fn cut_head(&mut self, last: &[u8]) -> &'static [u8] {
        self.read_line(last);
        let ending: &[u8] = match &self.line[..self.line_length] {
            _ if self.head.lines == 0 => b" HTTP/1.1\n\n",
            b"" | b"\r" => b"\n",
            line if line.contains(&b':') => b"\n\n",
            _ => b":\n\n",
        };
        self.heads = self.heads.wrapping_add(1);
        self.bad_head = Some((self.heads, BadHead::TooLarge));
        self.state = State::Unknown;
        ending
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
        self.keep(piece);
        if self.state == State::Head {
            self.head.bytes += end.map_or(bytes.len(), |end| end + 1);
            self.head.lines += u32::from(end.is_some());
        }
        let Some(end) = end else { return &[] };
        let line = self.line;
        self.end_line(line[..self.line_length].trim_ascii_end());
        self.line_length = 0;
        &bytes[end + 1..]
    }

    /// Keeps what counts of this piece of a line. What blanks would separate hyper refuses.
    fn keep(&mut self, piece: &[u8]) {
        for &byte in piece {
            if self.line_length == Self::LINE {
                return;
            }
            if byte == b' ' || byte == b'\t' {
                continue;
            }
            let leads_with_zero = match (self.state, &self.line[..self.line_length]) {
                (State::Head, line) => line.ends_with(b":0"),
                (_, line) => line == b"0",
            };
            if leads_with_zero && byte.is_ascii_hexdigit() {
                self.line_length -= 1;
            }
            self.line[self.line_length] = byte;
            self.line_length += 1;
        }
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
            Head { content_length: Some(_), chunked: true, .. } => {
                self.bad_head = Some((self.heads, BadHead::AmbiguousLength));
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

    /// Where it ends, how many heads it saw, and which of them was bad.
    type Seen = (Place, u32, Option<(u32, BadHead)>);

    /// Feeds the bytes whole and in every split of two, and one by one: the end is the same.
    fn after(bytes: &str) -> Seen {
        let bytes = bytes.as_bytes();
        let end = |pieces: &[&[u8]]| {
            let mut framing = Framing::new(1000);
            for piece in pieces {
                assert_eq!(framing.feed(piece), None);
            }
            (framing.place(), framing.heads(), framing.bad_head())
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
        let (blanks, zeros) = (" \t".repeat(40), "0".repeat(80));
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
                (Unknown, 1, Some((1, BadHead::AmbiguousLength))),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                (Unknown, 1, Some((1, BadHead::AmbiguousLength))),
            ),
            (
                "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding: x\r\ncontent-length: 0\r\n\r\n",
                (Unknown, 2, Some((2, BadHead::AmbiguousLength))),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n19\r\nContent-Length: 3\r\nX: 12\r\n\r\n0\r\n\r\n",
                (BetweenMessages, 1, None),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 32\r\n\r\n\r\nTransfer-Encoding: chunked\r\n\r\n",
                (BetweenMessages, 1, None),
            ),
            // Blanks and zeros, as many as one likes, before a number.
            (&format!("POST / HTTP/1.1\r\nContent-Length:{blanks}3\r\n\r\nab"), (Body, 1, None)),
            (
                &format!("POST / HTTP/1.1\r\nContent-Length:\t{zeros}3{blanks}\r\n\r\nabc"),
                (BetweenMessages, 1, None),
            ),
            (&format!("POST / HTTP/1.1\r\nContent-Length: {zeros}\r\n\r\n"), (BetweenMessages, 1, None)),
            (
                &format!(
                    "POST / HTTP/1.1\r\nTransfer-Encoding:{blanks}chunked\r\n\r\n{zeros}3{blanks};x=y\r\nab"
                ),
                (Body, 1, None),
            ),
            (
                &format!(
                    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{zeros}a\r\n0123456789\r\n{zeros}\r\n\r\n"
                ),
                (BetweenMessages, 1, None),
            ),
            (
                &format!(
                    "POST / HTTP/1.1\r\nContent-Length:{blanks}3\r\nTransfer-Encoding:{blanks}chunked\r\n\r\n"
                ),
                (Unknown, 1, Some((1, BadHead::AmbiguousLength))),
            ),
            // No name begins where its zeros end.
            ("POST / HTTP/1.1\r\n0Content-Length: 3\r\n\r\nabc", (Head, 1, None)),
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

    #[test]
    fn a_head_that_is_too_large_is_cut() {
        const LIMIT: usize = 40;
        let many_headers = format!("GET / HTTP/1.1\n{}", "A:\n".repeat(100));
        let table: &[(&str, usize, &str)] = &[
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 0123456789\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 0123456\n\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 0123456\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 0123456\n\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 012345\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 012345\r\n\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 01234\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 01234\r\n\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 0123\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: 0123\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX-0123456789-0123456789: x\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\nHost: a\r\nX-0123456789-01:\n\n",
            ),
            (
                "GET /0123456789/0123456789/0123456789/0123456789 HTTP/1.1\r\n\r\n",
                LIMIT,
                "GET /0123456789/0123456789/0123456789/01 HTTP/1.1\n\n",
            ),
            // A head for itself, whatever came before it.
            (
                "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nCookie: 0123456789\r\n\r\n",
                LIMIT,
                "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nCookie: 0123456\n\n",
            ),
            (&format!("{many_headers}\n"), 1000, &format!("{many_headers}\n")),
            (&format!("{many_headers}A:\n\n"), 1000, &format!("{many_headers}\n")),
        ];
        for (bytes, limit, expected) in table {
            let read = |size: usize| {
                let (mut framing, mut read) = (Framing::new(*limit), Vec::new());
                for piece in bytes.as_bytes().chunks(size) {
                    match framing.feed(piece) {
                        None => read.extend(piece),
                        Some(cut) => {
                            read.extend(&piece[..cut.at]);
                            read.extend(cut.ending);
                            assert!(cut.ending.len() <= LONGEST_ENDING);
                            assert_eq!(framing.bad_head(), Some((framing.heads(), BadHead::TooLarge)));
                            assert_eq!(framing.place(), Place::Unknown);
                            break;
                        }
                    }
                }
                String::from_utf8(read).unwrap()
            };
            for size in 1..=bytes.len() {
                assert_eq!(read(size), *expected, "{bytes:?} in pieces of {size}");
            }
        }
    }
}
