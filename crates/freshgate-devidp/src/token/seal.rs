//! Access and refresh tokens that prove themselves.
//!
//! A token names its grant and carries an authentication code over what it says, so nothing has to be stored for each
//! token; a million of them cost nothing. Whether it is still good is the state's business. The same number of the same
//! grant is always the same text: that is how a grace window can yield the same successor again without keeping it.

use aws_lc_rs::hmac;

use super::dpop::Thumbprint;
use crate::clock::UnixTime;
use crate::random::{base64url, from_base64url, random_bytes};
use crate::state::GrantId;

const SECRET_LENGTH: usize = 32;
const TAG_LENGTH: usize = 32;
const REFRESH: &str = "rt-";
const ACCESS: &str = "at-";

/// Makes and recognises tokens.
pub(crate) struct Seal {
    secret: [u8; SECRET_LENGTH],
    key: hmac::Key,
}

/// A refresh token that we made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) grant: GrantId,
    /// Its place in the grant's chain.
    pub(crate) number: u64,
}

/// An access token that we made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessToken {
    pub(crate) grant: GrantId,
    pub(crate) expires: UnixTime,
    id: [u8; 12],
    /// The key that it is bound to (`cnf.jkt`, RFC 9449 6.1). `None`: it is good for whoever has it.
    pub(crate) key: Option<Thumbprint>,
}

impl AccessToken {
    pub(crate) fn new(grant: GrantId, expires: UnixTime, key: Option<Thumbprint>) -> AccessToken {
        AccessToken { grant, expires, id: random_bytes(), key }
    }

    /// The same, but for when it ends.
    pub(crate) fn ending(self, expires: UnixTime) -> AccessToken {
        AccessToken { expires, ..self }
    }

    /// Its own name, to revoke it alone. Not a secret.
    pub(crate) fn id(&self) -> String {
        base64url(&self.id)
    }
}

impl Seal {
    pub(crate) fn generate() -> Seal {
        Seal::of(random_bytes())
    }

    fn of(secret: [u8; SECRET_LENGTH]) -> Seal {
        Seal { secret, key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// For the state file.
    pub(crate) fn save(&self) -> String {
        base64url(&self.secret)
    }

    pub(crate) fn restore(saved: &str) -> Option<Seal> {
        Some(Seal::of(from_base64url(saved)?.try_into().ok()?))
    }

    /// The text of a refresh token. One that is good from some time on has the shape of a JWT that says so: what proves it is
    /// where a signature would be, and its claims are for others to read.
    pub(crate) fn refresh_token(&self, token: RefreshToken, good_from: Option<i64>) -> String {
        let body = [token.grant.as_bytes().as_slice(), &token.number.to_be_bytes()].concat();
        let sealed = self.seal(REFRESH, &body);
        let Some(good_from) = good_from else { return sealed };
        let header = base64url(br#"{"alg":"HS256","typ":"rt+jwt"}"#);
        let claims = base64url(format!(r#"{{"nbf":{good_from}}}"#).as_bytes());
        format!("{header}.{claims}.{sealed}")
    }

    pub(crate) fn read_refresh_token(&self, text: &str) -> Option<RefreshToken> {
        let body = self.open(REFRESH, text.rsplit('.').next()?)?;
        let (grant, number) = body.split_first_chunk::<{ GrantId::LENGTH }>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        Some(RefreshToken { grant: GrantId::from_bytes(*grant), number })
    }

    pub(crate) fn access_token(&self, token: AccessToken) -> String {
        let expires = token.expires.millis().to_be_bytes();
        let key = token.key.as_ref().map_or(&[][..], |key| key.as_bytes());
        self.seal(ACCESS, &[token.grant.as_bytes().as_slice(), &expires, &token.id, key].concat())
    }

    /// Recognises an access token. What follows a `~` in it is the padding with which a script makes tokens large.
    pub(crate) fn read_access_token(&self, text: &str) -> Option<AccessToken> {
        let text = text.split('~').next().unwrap_or_default();
        let body = self.open(ACCESS, text)?;
        let (grant, rest) = body.split_first_chunk::<{ GrantId::LENGTH }>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (id, key) = rest.split_first_chunk::<12>()?;
        let key = match key {
            [] => None,
            key => Some(Thumbprint::from_bytes(key.try_into().ok()?)),
        };
        Some(AccessToken {
            grant: GrantId::from_bytes(*grant),
            expires: UnixTime::from_millis(i64::from_be_bytes(*expires)),
            id: *id,
            key,
        })
    }

    fn seal(&self, kind: &str, body: &[u8]) -> String {
        let mut sealed = body.to_vec();
        sealed.extend_from_slice(hmac::sign(&self.key, &[kind.as_bytes(), body].concat()).as_ref());
        format!("{kind}{}", base64url(&sealed))
    }

    fn open(&self, kind: &str, text: &str) -> Option<Vec<u8>> {
        let mut sealed = from_base64url(text.strip_prefix(kind)?)?;
        let body_length = sealed.len().checked_sub(TAG_LENGTH)?;
        let (body, tag) = sealed.split_at(body_length);
        hmac::verify(&self.key, &[kind.as_bytes(), body].concat(), tag).ok()?;
        sealed.truncate(body_length);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessToken, RefreshToken, Seal};
    use crate::clock::UnixTime;
    use crate::state::GrantId;
    use crate::token::Thumbprint;

    #[test]
    fn reads_what_it_sealed_and_nothing_else() {
        let seal = Seal::generate();
        let refresh = RefreshToken { grant: GrantId::random(), number: 7 };
        let access = AccessToken::new(GrantId::random(), UnixTime::from_millis(5), None);
        let key = Some(Thumbprint::from_bytes([7; Thumbprint::LENGTH]));
        let bound = AccessToken::new(access.grant, access.expires, key);
        assert_eq!(seal.read_access_token(&seal.access_token(bound)), Some(bound));
        let (refresh_text, access_text) = (seal.refresh_token(refresh, None), seal.access_token(access));
        let restored = Seal::restore(&seal.save()).unwrap();
        assert_eq!(restored.read_refresh_token(&refresh_text), Some(refresh));
        assert_eq!(restored.read_access_token(&access_text), Some(access));
        assert_eq!(seal.read_access_token(&format!("{access_text}~xxx")), Some(access));
        assert_eq!(seal.refresh_token(refresh, None), refresh_text);
        assert_eq!(seal.read_refresh_token(&seal.refresh_token(refresh, Some(1_795_000_000))), Some(refresh));

        let as_refresh = access_text.replacen("at-", "rt-", 1);
        let cut = &refresh_text[..refresh_text.len() - 4];
        for foreign in ["", "rt-", "rt-AAAA", cut, &as_refresh, &access_text] {
            assert_eq!(seal.read_refresh_token(foreign), None);
        }
        assert_eq!(Seal::generate().read_refresh_token(&refresh_text), None);
    }
}
