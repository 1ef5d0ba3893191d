//! Sealing: what leaves the process (to a store, to a cookie) leaves it encrypted and bound to where it belongs.
//!
//! Keys change while a gate runs: the ring takes up what its [`KeySource`] has, when it is told to and when it meets
//! something that none of its keys opens. [`Resealing`] seals anew what a store holds.

mod key;
mod resealing;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use aws_lc_rs::aead::{Aad, MAX_TAG_LEN, NONCE_LEN, Nonce};
use freshgate_oidc::Secret;
use zeroize::Zeroizing;

pub use key::{Key, KeyId};
pub use resealing::{Resealing, SealCount, SealCounts};

use crate::clock::Entropy;

/// The keys that seal and open. The first seals; all open what they sealed.
///
/// Sealed bytes are `format (1) | key id (8) | nonce (12) | ciphertext | tag (16)`, sealed with AES-256-GCM-SIV (RFC 8452):
/// nonces are random, and with SIV even a repeated one reveals no more than that two plaintexts are equal. Everything
/// before the ciphertext, the [`Purpose`] and the caller's context are authenticated with it, so what was sealed for one
/// place does not open in another.
///
/// Cheap to clone; all clones are one ring.
#[derive(Clone)]
pub struct Keyring(Arc<Ring>);

struct Ring {
    /// The first seals. Replaced whole.
    keys: RwLock<Arc<[Key]>>,
    source: Option<Box<dyn KeySource>>,
    /// Held while the source is asked and what it has is taken up.
    looking: Mutex<()>,
}

/// Where a ring's keys come from, if they may change while it is in use.
pub trait KeySource: Send + Sync + 'static {
    /// The keys, if they are others than at the last call.
    ///
    /// Called on threads that serve, whenever something does not open, and anybody may send such things: it must cost
    /// next to nothing while nothing has changed.
    fn changed(&self) -> Option<Keys>;
}

/// What a [`Keyring`] is made of.
#[derive(Debug)]
pub struct Keys {
    /// The one that seals.
    pub seals: Key,
    /// Those that open besides: of former times, and, while several gates are given a new key one after the other, the
    /// one to come.
    pub opens: Vec<Key>,
}

/// What the sealed bytes are for. Those of one purpose do not open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session's record in a store. Context: the bytes of its [`SessionKey`](crate::session::SessionKey).
    SessionRecord,
    /// What is left to read of a session that ended, in a store. Context: the bytes of its key.
    EndedSession,
    /// A login in progress, in a cookie. Context: its flow's name.
    LoginFlow,
    /// A login that an app has prepared, in an address. Context: none.
    PreparedLogin,
}

impl Purpose {
    /// Part of the format: never change or reuse a number.
    fn number(self) -> u8 {
        match self {
            Self::SessionRecord => 1,
            Self::LoginFlow => 2,
            Self::EndedSession => 3,
            Self::PreparedLogin => 4,
        }
    }
}

/// Why sealed bytes do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed with a key that is not, or no longer, on the ring.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// Altered, or sealed for another purpose or context.
    #[error("altered, or sealed for another place")]
    Tampered,
    /// Not in our format, or in that of a later version.
    #[error("not sealed by this version of freshgate")]
    Malformed,
}

const FORMAT: u8 = 1;
const HEADER_LENGTH: usize = 1 + KeyId::LENGTH + NONCE_LEN;

impl Keyring {
    /// A ring with one key, derived from a secret of the configuration (`cookie_secret`).
    pub fn from_secret(secret: &Secret) -> Self {
        Self::new(Keys { seals: Key::from_secret(secret), opens: Vec::new() })
    }

    /// A ring of these keys, for good.
    pub fn new(keys: Keys) -> Self {
        Self::made(keys, None)
    }

    /// A ring of these keys that takes up what the source has later.
    pub fn following(keys: Keys, source: impl KeySource) -> Self {
        Self::made(keys, Some(Box::new(source)))
    }

    fn made(keys: Keys, source: Option<Box<dyn KeySource>>) -> Self {
        Self(Arc::new(Ring { keys: RwLock::new(keys.into_ring()), source, looking: Mutex::default() }))
    }

    /// Takes up the keys of the source, if they have changed; tells whether they had.
    pub fn take_up_changes(&self) -> bool {
        self.look_beyond(&self.keys())
    }

    /// The key that seals now.
    pub fn seals(&self) -> KeyId {
        self.keys()[0].id()
    }

    /// Whether what this key sealed opens.
    pub fn opens(&self, id: KeyId) -> bool {
        self.keys().iter().any(|key| key.id() == id)
    }

    /// Seals `plain`. It opens for the same purpose and context alone.
    pub fn seal(&self, entropy: &dyn Entropy, purpose: Purpose, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let keys = self.keys();
        let key = &keys[0];
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);

        let mut sealed = Vec::with_capacity(HEADER_LENGTH + plain.len() + MAX_TAG_LEN);
        sealed.push(FORMAT);
        sealed.extend_from_slice(key.id().as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);

        let authenticated = authenticated(&sealed[..HEADER_LENGTH], purpose, context);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = &mut sealed[HEADER_LENGTH..];
        let tag = key.cipher().seal_in_place_separate_tag(nonce, Aad::from(authenticated), text);
        let tag = tag.expect("only a plaintext of gigabytes cannot be sealed");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`Keyring::seal`] sealed for this purpose and context, by this process or another. If no key fits, the
    /// source is asked for newer ones. The plaintext is wiped when dropped.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let keys = self.keys();
        match open_with(&keys, purpose, context, sealed) {
            Err(OpenError::UnknownKey) if self.look_beyond(&keys) => {
                open_with(&self.keys(), purpose, context, sealed)
            }
            opened => opened,
        }
    }

    /// Whether these bytes were sealed with the key that seals now. If not, they are worth sealing anew.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        KeyId::of_sealed(sealed) == Some(self.seals())
    }

    fn keys(&self) -> Arc<[Key]> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the source, and tells whether the ring is another than `tried` now: whoever waited for one who asked finds
    /// what that one took up.
    fn look_beyond(&self, tried: &Arc<[Key]>) -> bool {
        let Some(source) = &self.0.source else { return false };
        let _one_at_a_time = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = source.changed() {
            *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into_ring();
        }
        !Arc::ptr_eq(tried, &self.keys())
    }
}

impl Keys {
    fn into_ring(self) -> Arc<[Key]> {
        std::iter::once(self.seals).chain(self.opens).collect()
    }
}

fn open_with(
    keys: &[Key],
    purpose: Purpose,
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (header, text) = sealed.split_at_checked(HEADER_LENGTH).ok_or(OpenError::Malformed)?;
    if header[0] != FORMAT || text.len() < MAX_TAG_LEN {
        return Err(OpenError::Malformed);
    }
    let (id, nonce) = header[1..].split_at(KeyId::LENGTH);
    let key = keys.iter().find(|key| key.id().as_bytes() == id).ok_or(OpenError::UnknownKey)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;

    let authenticated = authenticated(header, purpose, context);
    let mut plain = Zeroizing::new(text.to_vec());
    let length = key
        .cipher()
        .open_in_place(nonce, Aad::from(authenticated), &mut plain)
        .map_err(|_| OpenError::Tampered)?
        .len();
    plain.truncate(length);
    Ok(plain)
}

/// All parts but the last have a fixed length, so that no two combinations read the same.
fn authenticated(header: &[u8], purpose: Purpose, context: &[u8]) -> Vec<u8> {
    [header, &[purpose.number()], context].concat()
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys().iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    const CONTEXT: &[u8] = &[7; 32];
    const PLAIN: &[u8] = b"a refresh token and all the rest";

    fn key(secret: &str) -> Key {
        Key::from_secret(&Secret::new(secret))
    }

    fn ring(secret: &str) -> Keyring {
        Keyring::from_secret(&Secret::new(secret))
    }

    fn ring_of(seals: &str, opens: &[&str]) -> Keyring {
        Keyring::new(keys_of(seals, opens))
    }

    fn keys_of(seals: &str, opens: &[&str]) -> Keys {
        Keys { seals: key(seals), opens: opens.iter().map(|secret| key(secret)).collect() }
    }

    fn seal(ring: &Keyring) -> Vec<u8> {
        ring.seal(&SystemEntropy, Purpose::SessionRecord, CONTEXT, PLAIN)
    }

    fn open(ring: &Keyring, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        ring.open(Purpose::SessionRecord, CONTEXT, sealed)
    }

    #[test]
    fn what_was_sealed_opens() {
        let ring = ring("secret");
        for plain in [&b""[..], b"x", PLAIN, &[0; 1 << 20]] {
            let sealed = ring.seal(&SystemEntropy, Purpose::LoginFlow, CONTEXT, plain);
            assert_eq!(sealed.len(), plain.len() + HEADER_LENGTH + MAX_TAG_LEN);
            assert_eq!(*ring.open(Purpose::LoginFlow, CONTEXT, &sealed).unwrap(), plain);
        }
    }

    #[test]
    fn no_two_seals_are_alike_and_none_shows_the_plaintext() {
        let ring = ring("secret");
        let (one, other) = (seal(&ring), seal(&ring));
        assert_ne!(one[HEADER_LENGTH..], other[HEADER_LENGTH..]);
        assert!(!one.windows(8).any(|window| PLAIN.windows(8).any(|plain| plain == window)));
    }

    #[test]
    fn it_opens_in_its_own_place_alone() {
        let ring = ring("secret");
        let sealed = seal(&ring);
        for (purpose, context) in [
            (Purpose::LoginFlow, CONTEXT),
            (Purpose::EndedSession, CONTEXT),
            (Purpose::SessionRecord, &[8; 32]),
            (Purpose::SessionRecord, &CONTEXT[..31]),
            (Purpose::SessionRecord, &[7; 33]),
            (Purpose::SessionRecord, &[]),
        ] {
            assert_eq!(ring.open(purpose, context, &sealed).unwrap_err(), OpenError::Tampered, "{purpose:?}");
        }
    }

    #[test]
    fn it_opens_with_its_own_key_alone() {
        let sealed = seal(&ring("secret"));
        assert_eq!(open(&ring("other secret"), &sealed).unwrap_err(), OpenError::UnknownKey);
        // Even where the ids are the same by chance.
        let namesake = key("other secret").called(key("secret").id());
        let ring = Keyring::new(Keys { seals: namesake, opens: Vec::new() });
        assert_eq!(open(&ring, &sealed).unwrap_err(), OpenError::Tampered);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let ring = ring("secret");
        let sealed = seal(&ring);
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 => OpenError::Malformed,
                1..=KeyId::LENGTH => OpenError::UnknownKey,
                _ => OpenError::Tampered,
            };
            assert_eq!(open(&ring, &altered).unwrap_err(), expected, "bit {bit}");
        }
    }

    #[test]
    fn any_missing_or_added_byte_is_noticed() {
        let ring = ring("secret");
        let sealed = seal(&ring);
        for length in 0..sealed.len() {
            assert!(open(&ring, &sealed[..length]).is_err(), "{length} bytes");
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(open(&ring, &longer).unwrap_err(), OpenError::Tampered);
    }

    #[test]
    fn keys_are_rotated() {
        let old = ring("old");
        let sealed_before = seal(&old);
        assert!(old.is_current(&sealed_before));

        // First every gate learns to open with the new key, then to seal with it, then the old one goes.
        let learning = ring_of("old", &["new"]);
        let rotated = ring_of("new", &["old"]);
        let sealed_after = seal(&rotated);
        for ring in [&learning, &rotated] {
            assert_eq!(*open(ring, &sealed_before).unwrap(), PLAIN);
            assert_eq!(*open(ring, &sealed_after).unwrap(), PLAIN);
        }
        assert!(!rotated.is_current(&sealed_before));
        assert!(rotated.is_current(&sealed_after));

        let finished = ring("new");
        assert_eq!(open(&finished, &sealed_before).unwrap_err(), OpenError::UnknownKey);
        assert_eq!(*open(&finished, &sealed_after).unwrap(), PLAIN);
    }

    #[test]
    fn one_secret_is_one_key_in_every_process_and_version() {
        struct Sevens;
        impl Entropy for Sevens {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(7);
            }
        }
        // A change that makes this differ signs everyone out: give it another format number and read both.
        let sealed = ring("secret").seal(&Sevens, Purpose::SessionRecord, CONTEXT, b"plain");
        assert_eq!(
            freshgate_oidc::base64url(&sealed),
            "AXLYWEp058A-BwcHBwcHBwcHBwcHgclycQIECI62h6x3m8UD4uOnEvuC"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = "a very secret secret";
        let shown = format!("{:?} {:?}", ring(secret), key(secret));
        assert!(shown.contains(&key(secret).id().to_string()));
        assert!(!shown.contains(secret));
    }

    /// Has keys to give out, once each.
    struct Given(Arc<Mutex<Vec<Keys>>>);

    impl KeySource for Given {
        fn changed(&self) -> Option<Keys> {
            self.0.lock().unwrap().pop()
        }
    }

    #[test]
    fn a_ring_takes_up_what_its_source_has() {
        let given = Arc::new(Mutex::new(Vec::new()));
        let ring = Keyring::following(keys_of("old", &[]), Given(given.clone()));
        let clone = ring.clone();
        assert!(!ring.take_up_changes(), "nothing has changed");

        given.lock().unwrap().push(keys_of("new", &["old"]));
        let before = seal(&ring);
        assert!(ring.take_up_changes());
        assert_eq!(
            (clone.seals(), clone.opens(key("old").id())),
            (key("new").id(), true),
            "clones are one ring"
        );
        assert_eq!(*open(&clone, &before).unwrap(), PLAIN);
        assert!(!clone.is_current(&before) && clone.is_current(&seal(&ring)));
    }

    #[test]
    fn what_does_not_open_makes_it_look_for_newer_keys() {
        let given = Arc::new(Mutex::new(vec![keys_of("old", &["new"])]));
        let ring = Keyring::following(keys_of("old", &[]), Given(given.clone()));
        assert_eq!(*open(&ring, &seal(&ring_of("new", &[]))).unwrap(), PLAIN);
        // What is altered is not worth a look, and what nobody knows stays unknown.
        given.lock().unwrap().push(keys_of("newest", &[]));
        let mut altered = seal(&ring);
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(open(&ring, &altered).unwrap_err(), OpenError::Tampered);
        assert_eq!(open(&ring, &seal(&ring_of("stranger", &[]))).unwrap_err(), OpenError::UnknownKey);
        assert_eq!(ring.seals(), key("newest").id());
        assert_eq!(open(&ring, b"").unwrap_err(), OpenError::Malformed);
    }

    #[test]
    fn who_waited_for_one_who_looked_finds_what_that_one_found() {
        for _ in 0..50 {
            let given = Arc::new(Mutex::new(vec![keys_of("new", &["old"])]));
            let ring = Keyring::following(keys_of("old", &[]), Given(given));
            let sealed = seal(&ring_of("new", &[]));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| assert_eq!(*open(&ring, &sealed).unwrap(), PLAIN));
                }
            });
        }
    }
}
