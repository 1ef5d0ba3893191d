//! What of a client's bytes on a WebSocket is the user's doing.
//!
//! A page that nobody touches is not silent: browsers answer an app's pings by themselves (RFC 6455 section 5.5.3). So
//! frames are told apart, by their headers alone: nothing of them is kept, and none is held up.

/// Follows the frames that a client sends.
#[derive(Debug, Default)]
pub(super) struct ClientFrames {
    header: [u8; LONGEST],
    /// How much of the header has come.
    have: usize,
    /// How much of the frame is still to come after its header: the mask and the payload.
    rest: u64,
}

/// A header without its mask: two bytes, and eight that tell the length of a large frame.
const LONGEST: usize = 10;

impl ClientFrames {
    /// Takes the next bytes, however they are cut, and tells whether a frame with data begins in them.
    pub(super) fn bring_data(&mut self, mut bytes: &[u8]) -> bool {
        let mut data = false;
        while let Some((first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let passed = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
                self.rest -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.header[self.have] = *first;
            self.have += 1;
            bytes = others;
            if self.have >= 2 && self.have == header_length(self.header[1]) {
                data |= is_data(self.header[0]);
                self.rest = rest_of(&self.header);
                self.have = 0;
            }
        }
        data
    }
}

/// Opcodes from 8 on are of control frames (section 5.5).
fn is_data(first: u8) -> bool {
    first & 0x0f < 8
}

fn header_length(second: u8) -> usize {
    match second & 0x7f {
        126 => 4,
        127 => LONGEST,
        _ => 2,
    }
}

fn rest_of(header: &[u8; LONGEST]) -> u64 {
    let [_, second, length @ ..] = *header;
    let payload = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes([length[0], length[1]])),
        127 => u64::from_be_bytes(length),
        short => u64::from(short),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    payload.saturating_add(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u8 = 0x81;
    const CONTINUED: u8 = 0x80;
    const BINARY: u8 = 0x82;
    const CLOSE: u8 = 0x88;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;

    /// A masked frame, as clients send them. Its payload is full of what looks like the start of a text.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(0x80 | length as u8),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([TEXT; 4]);
        frame.extend(std::iter::repeat_n(TEXT, length));
        frame
    }

    #[test]
    fn which_frames_are_the_users_doing() {
        for (frames, expected) in [
            (vec![], false),
            (vec![frame(PONG, 0)], false),
            (vec![frame(PONG, 4), frame(PING, 125), frame(CLOSE, 2)], false),
            (vec![frame(TEXT, 0)], true),
            (vec![frame(BINARY, 1)], true),
            (vec![frame(PONG, 4), frame(CONTINUED, 7)], true),
            (vec![frame(BINARY, 125), frame(PONG, 4)], true),
        ] {
            let bytes = frames.concat();
            assert_eq!(ClientFrames::default().bring_data(&bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        for length in [0, 1, 125, 126, 127, 300, 0xffff, 0x1_0000, 0x1_2345] {
            // After a frame of this length, control frames alone; and then one with data.
            let first = frame(BINARY, length);
            let quiet = [frame(PONG, 4), frame(PING, 0), frame(PONG, 125)].concat();
            for step in [1, 2, 3, 5, 7, 64, 65_536] {
                let mut frames = ClientFrames::default();
                let seen: Vec<bool> = first.chunks(step).map(|part| frames.bring_data(part)).collect();
                assert_eq!(
                    seen.iter().filter(|seen| **seen).count(),
                    1,
                    "{length} by {step}: once, at its start"
                );
                assert!(!quiet.chunks(step).any(|part| frames.bring_data(part)), "{length} by {step}");
                let last = frame(TEXT, 3);
                assert!(last.chunks(step).any(|part| frames.bring_data(part)), "{length} by {step}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_stops_nothing() {
        let mut frames = ClientFrames::default();
        let largest = [[TEXT, 0xff].as_slice(), &[0xff; 8], &[0; 100]].concat();
        assert!(frames.bring_data(&largest));
        assert!(!frames.bring_data(&[0; 1000]));
        for byte in 0..=255_u8 {
            ClientFrames::default().bring_data(&[byte; 300]);
        }
    }
}
