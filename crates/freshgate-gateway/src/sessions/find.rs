//! From the start of a handle to the one session that it means.

use freshgate::{Engine, engine::SessionReport, session::SessionKey};

use super::Failed;

/// How many of the sessions that a short handle could mean are named.
const NAMED: usize = 5;

/// The session whose handle begins so.
pub(super) async fn find(engine: &Engine, start: &str) -> Result<SessionReport, Failed> {
    let first = first_key(start).ok_or_else(|| Failed::NotAHandle(start.to_owned()))?;
    let page = engine.reports(before(first), NAMED + 1).await?;
    let mut meant: Vec<_> =
        page.into_iter().take_while(|report| report.key.to_string().starts_with(start)).collect();
    match meant.len() {
        0 => Err(Failed::NoSession(start.to_owned())),
        1 => Ok(meant.remove(0)),
        several => {
            let mut handles: Vec<_> = (meant.iter().zip(1..))
                .take(NAMED)
                .map(|(report, next)| {
                    let other = meant.get(next).or_else(|| meant.get(next.wrapping_sub(2)));
                    let shared = other.map_or(0, |other| in_common(report.key, other.key));
                    short(report.key, shared)
                })
                .collect();
            if several > NAMED {
                handles.push("…".to_owned());
            }
            Err(Failed::Ambiguous(start.to_owned(), handles))
        }
    }
}

/// How many characters of a handle are shown at least.
const SHOWN: usize = 10;

/// As much of a handle as tells it from one that shares so many characters with it.
pub(super) fn short(key: SessionKey, shared: usize) -> String {
    let mut handle = key.to_string();
    handle.truncate(SHOWN.max(shared + 1));
    handle
}

/// How many characters two handles have in common at their start.
pub(super) fn in_common(one: SessionKey, other: SessionKey) -> usize {
    one.to_string().bytes().zip(other.to_string().bytes()).take_while(|(one, other)| one == other).count()
}

/// The first key, in the order of keys, whose handle begins so: each character is six bits, and the rest is zero.
fn first_key(start: &str) -> Option<SessionKey> {
    const CHARACTERS: usize = 43;
    if start.is_empty() || start.len() > CHARACTERS || !start.is_ascii() {
        return None;
    }
    // The last of 43 characters has two bits to spare: only where they are zero is it a handle.
    SessionKey::parse(&format!("{start:A<CHARACTERS$}"))
}

/// The key before this one.
fn before(key: SessionKey) -> Option<SessionKey> {
    let mut bytes = *key.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            return Some(SessionKey::from_bytes(bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_of_a_start() {
        let key = |start| first_key(start).map(|key| *key.as_bytes());
        assert_eq!(key("A"), Some([0; 32]));
        assert_eq!(key("_").map(|bytes| bytes[..2].to_vec()), Some(vec![0b1111_1100, 0]));
        assert_eq!(key("AB").map(|bytes| bytes[..2].to_vec()), Some(vec![0, 0b0001_0000]));
        let whole = SessionKey::from_bytes([0xa5; 32]).to_string();
        assert_eq!(key(&whole), Some([0xa5; 32]));
        for bad in ["", "a b", "ä", "+", "=", &"A".repeat(44), &format!("{}B", "A".repeat(42))] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_key_before() {
        let of = |number: u8| {
            let mut bytes = [0; 32];
            bytes[30] = number;
            SessionKey::from_bytes(bytes)
        };
        assert_eq!(before(SessionKey::from_bytes([0; 32])), None);
        let mut expected = [0; 32];
        expected[31] = 0xff;
        assert_eq!(before(of(1)), Some(SessionKey::from_bytes(expected)));
    }
}
