//! The private key by which a client proves itself, as an operator keeps it: in PEM, or as a JWK (RFC 7517).

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use crate::{
    jws::{CURVES, KeyPair, SigningAlgorithm, ecdsa},
    operator_text::one_line,
    secret::{Secret, base64url, from_base64url, sha256},
};

/// A private key that signs client assertions (`private_key_jwt`). Cheap to clone; the last one wipes the key.
#[derive(Clone)]
pub struct ClientKey {
    pub(super) pair: Arc<KeyPair>,
    /// The one algorithm that it signs by, if that is said.
    algorithm: Option<SigningAlgorithm>,
    pub(super) key_id: Option<String>,
    /// The SHA-256 of its certificate (`x5t#S256`), by which some providers know it.
    pub(super) certificate: Option<String>,
}

/// Whether they are one key, by its public part, and are used in one way.
impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.pair.public_part() == other.pair.public_part()
            && self.algorithm == other.algorithm
            && self.key_id == other.key_id
            && self.certificate == other.certificate
    }
}

impl Eq for ClientKey {}

/// Why a text is no key that signs client assertions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientKeyError {
    /// It is larger than any key.
    #[error("it is larger than {limit} bytes, so it is no private key")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is neither PEM nor JSON with a private key in it.
    #[error("it holds no private key, neither in PEM nor as a JWK")]
    NotAKey,
    /// It wants a password.
    #[error("its private key is encrypted with a password")]
    Encrypted,
    /// It is a JWK without its private part.
    #[error("its key is a public key")]
    Public,
    /// It holds several.
    #[error("it holds more than one private key")]
    Several,
    /// The key is for something else: `use`, `key_ops` or `alg` say so.
    #[error("its key is not for signing")]
    NotForSigning,
    /// Its type, size or curve is none that signs.
    #[error("its key is neither RSA of 2048 to 8192 bits nor on the curves P-256, P-384, P-521 or Ed25519")]
    UnsupportedType,
    /// A part of it is missing or wrong, or its parts do not belong together.
    #[error("its key is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// It does not make signatures of this algorithm.
    #[error("its key cannot sign {algorithm}")]
    Algorithm {
        /// The algorithm.
        algorithm: String,
    },
    /// The certificate beside it is another key's.
    #[error("the certificate beside the private key is not its own")]
    Certificate,
}

impl ClientKey {
    /// More than this is no key.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Reads a key: PEM (PKCS #8, PKCS #1 or SEC 1), a JWK, or a JWK set of one.
    ///
    /// A certificate in the PEM becomes the header's `x5t#S256` (RFC 7515 section 4.1.8); a JWK says its `kid`, `alg` and
    /// `x5t#S256` itself.
    pub fn parse(text: &Secret) -> Result<Self, ClientKeyError> {
        if text.expose().len() > Self::MAX_BYTES {
            return Err(ClientKeyError::TooLarge { limit: Self::MAX_BYTES });
        }
        if text.expose().trim_start().starts_with('{') {
            Self::from_json(text.expose())
        } else {
            Self::from_pem(text.expose())
        }
    }

    /// The same key under this id (`kid`).
    #[must_use]
    pub fn with_key_id(self, key_id: impl Into<String>) -> Self {
        Self { key_id: Some(key_id.into()), ..self }
    }

    /// The same key, signing by this algorithm and no other. Fails if it cannot.
    pub fn with_algorithm(self, algorithm: SigningAlgorithm) -> Result<Self, ClientKeyError> {
        if self.pair.fits(algorithm) {
            Ok(Self { algorithm: Some(algorithm), ..self })
        } else {
            Err(ClientKeyError::Algorithm { algorithm: algorithm.name().to_owned() })
        }
    }

    /// By which algorithm it signs for a provider that lists these. What is set, or what the JWK says, counts whatever
    /// the provider lists; else it is the first that both have, RS256 before other RSA algorithms.
    pub(super) fn algorithm_for(&self, listed: Option<&[String]>) -> Option<SigningAlgorithm> {
        self.algorithm.or_else(|| {
            SigningAlgorithm::ALL.into_iter().find(|algorithm| {
                self.pair.fits(*algorithm)
                    && listed.is_none_or(|listed| {
                        listed.iter().any(|name| SigningAlgorithm::from_name(name) == Some(*algorithm))
                    })
            })
        })
    }

    fn of(pair: KeyPair) -> Self {
        Self { pair: Arc::new(pair), algorithm: None, key_id: None, certificate: None }
    }

    fn from_pem(text: &str) -> Result<Self, ClientKeyError> {
        let mut pair = None;
        let mut certificate: Option<Vec<u8>> = None;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|_| malformed("it is no PEM"))?;
            let der = Zeroizing::new(der);
            let read = match kind {
                SectionKind::PrivateKey => from_pkcs8(&der)?,
                SectionKind::RsaPrivateKey => rsa(&der)?,
                SectionKind::EcPrivateKey => from_sec1(&der)?,
                SectionKind::Certificate => {
                    // The first is the key's own, those after it vouch for it.
                    certificate.get_or_insert(der.to_vec());
                    continue;
                }
                _ => continue,
            };
            if pair.replace(read).is_some() {
                return Err(ClientKeyError::Several);
            }
        }
        let pair = match pair {
            Some(pair) => pair,
            None if text.contains("ENCRYPTED") => return Err(ClientKeyError::Encrypted),
            None if text.contains("-----BEGIN PUBLIC KEY-----") => return Err(ClientKeyError::Public),
            None => return Err(ClientKeyError::NotAKey),
        };
        let certificate = match certificate {
            // It holds the key's public part as it is (RFC 5280 section 4.1.2.7).
            Some(der) if contains(&der, pair.public_key()) => Some(base64url(&sha256(&der))),
            Some(_) => return Err(ClientKeyError::Certificate),
            None => None,
        };
        Ok(Self { certificate, ..Self::of(pair) })
    }

    fn from_json(text: &str) -> Result<Self, ClientKeyError> {
        // Errors of the parser quote what they trip over, so none is kept.
        let not_json = |_| malformed("it is no JWK");
        let kind: Kind = serde_json::from_str(text).map_err(not_json)?;
        let jwk = match kind.keys {
            None => serde_json::from_str(text).map_err(not_json)?,
            Some(_) => {
                let set: PrivateJwkSet = serde_json::from_str(text).map_err(not_json)?;
                let mut keys = set.keys.into_iter();
                match (keys.next(), keys.next()) {
                    (Some(only), None) => only,
                    (None, _) => return Err(ClientKeyError::NotAKey),
                    (Some(_), Some(_)) => return Err(ClientKeyError::Several),
                }
            }
        };
        PrivateJwk::read(jwk)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Tells a set from a key. Looked at first: to try the one and then the other would leave copies of the key behind.
#[derive(Deserialize)]
struct Kind {
    keys: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct PrivateJwkSet {
    keys: Vec<PrivateJwk>,
}

/// RFC 7518 sections 6.2 and 6.3, RFC 8037 section 2.
#[derive(Deserialize)]
struct PrivateJwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    #[serde(rename = "x5t#S256")]
    certificate: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<Secret>,
    p: Option<Secret>,
    q: Option<Secret>,
    dp: Option<Secret>,
    dq: Option<Secret>,
    qi: Option<Secret>,
    /// An RSA key of more than two primes.
    oth: Option<IgnoredAny>,
}

impl PrivateJwk {
    fn read(self) -> Result<ClientKey, ClientKeyError> {
        let for_signing = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "sign"));
        if !for_signing {
            return Err(ClientKeyError::NotForSigning);
        }
        if self.d.is_none() && matches!(self.kty.as_str(), "RSA" | "EC" | "OKP") {
            return Err(ClientKeyError::Public);
        }
        let pair = match self.kty.as_str() {
            "RSA" => self.rsa()?,
            "EC" => self.elliptic_curve()?,
            "OKP" => self.ed25519()?,
            _ => return Err(ClientKeyError::UnsupportedType),
        };
        let key = ClientKey { key_id: self.kid, certificate: self.certificate, ..ClientKey::of(pair) };
        match self.alg {
            None => Ok(key),
            Some(name) => match SigningAlgorithm::from_name(&name) {
                Some(algorithm) => key.with_algorithm(algorithm),
                None => Err(ClientKeyError::Algorithm { algorithm: one_line(&name, 40) }),
            },
        }
    }

    fn rsa(&self) -> Result<KeyPair, ClientKeyError> {
        if self.oth.is_some() {
            return Err(malformed("it has more than two primes"));
        }
        let public = [&self.n, &self.e].map(|text| number(text.as_deref()));
        let private = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi];
        let private = private.map(|text| number(text.as_ref().map(Secret::expose)));
        let numbers: Vec<Zeroizing<Vec<u8>>> = public
            .into_iter()
            .chain(private)
            .collect::<Option<_>>()
            .ok_or(malformed("an RSA key has the members n, e, d, p, q, dp, dq and qi, in base64url"))?;
        rsa(&rsa_private_key(&numbers))
    }

    fn elliptic_curve(&self) -> Result<KeyPair, ClientKeyError> {
        let curve = self.crv.as_deref().and_then(|name| CURVES.into_iter().find(|(_, known)| *known == name));
        let Some((algorithm, curve)) = curve.and_then(|(algorithm, _)| Some((algorithm, ecdsa(algorithm)?)))
        else {
            return Err(ClientKeyError::UnsupportedType);
        };
        let numbers = (number(self.d()), number(self.x.as_deref()), number(self.y.as_deref()));
        let (Some(d), Some(x), Some(y)) = numbers else {
            return Err(malformed("a key on a curve has the members d, x and y, in base64url"));
        };
        let point = [&[0x04], &x[..], &y[..]].concat();
        EcdsaKeyPair::from_private_key_and_public_key(curve, &d, &point)
            .map(|pair| KeyPair::Ec(algorithm, pair))
            .map_err(|_| malformed("d, x and y do not belong together"))
    }

    fn ed25519(&self) -> Result<KeyPair, ClientKeyError> {
        if self.crv.as_deref() != Some("Ed25519") {
            return Err(ClientKeyError::UnsupportedType);
        }
        let (Some(d), Some(x)) = (number(self.d()), number(self.x.as_deref())) else {
            return Err(malformed("an Ed25519 key has the members d and x, in base64url"));
        };
        Ed25519KeyPair::from_seed_and_public_key(&d, &x)
            .map(KeyPair::Ed25519)
            .map_err(|_| malformed("d and x do not belong together"))
    }

    fn d(&self) -> Option<&str> {
        self.d.as_ref().map(Secret::expose)
    }
}

fn malformed(what: &'static str) -> ClientKeyError {
    ClientKeyError::Malformed { what }
}

fn number(text: Option<&str>) -> Option<Zeroizing<Vec<u8>>> {
    from_base64url(text?).map(Zeroizing::new)
}

fn from_pkcs8(der: &[u8]) -> Result<KeyPair, ClientKeyError> {
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
        return Ok(KeyPair::Rsa(Box::new(pair)));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(KeyPair::Ed25519(pair));
    }
    from_sec1(der)
}

/// On whichever curve: the key says on which it is. (PKCS #8 is taken too.)
fn from_sec1(der: &[u8]) -> Result<KeyPair, ClientKeyError> {
    CURVES
        .into_iter()
        .find_map(|(algorithm, _)| {
            let pair = EcdsaKeyPair::from_private_key_der(ecdsa(algorithm)?, der).ok()?;
            Some(KeyPair::Ec(algorithm, pair))
        })
        .ok_or(ClientKeyError::UnsupportedType)
}

/// An `RSAPrivateKey` (RFC 8017 appendix A.1.2), of 2048 to 8192 bits.
fn rsa(der: &[u8]) -> Result<KeyPair, ClientKeyError> {
    RsaKeyPair::from_der(der)
        .map(|pair| KeyPair::Rsa(Box::new(pair)))
        .map_err(|_| malformed("its numbers do not belong together, or it has not 2048 to 8192 bits"))
}

/// These numbers as a DER `RSAPrivateKey`, which begins with its version.
fn rsa_private_key(numbers: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    // Room for all of it, so that nothing is left behind by growing.
    let room: usize = numbers.iter().map(|number| number.len() + 8).sum();
    let mut content = Zeroizing::new(Vec::with_capacity(room + 8));
    content.extend([0x02, 1, 0]);
    for number in numbers {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let digits = &number[zeros..];
        // A number whose first bit is set would be negative.
        let sign = usize::from(digits.first().is_none_or(|first| first & 0x80 != 0));
        content.push(0x02);
        push_length(&mut content, digits.len() + sign);
        content.extend(std::iter::repeat_n(0, sign));
        content.extend(digits);
    }
    let mut der = Zeroizing::new(Vec::with_capacity(content.len() + 8));
    der.push(0x30);
    push_length(&mut der, content.len());
    der.extend(&content[..]);
    der
}

fn push_length(der: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    if length >= 0x80 {
        der.push(0x80 | u8::try_from(digits.len()).unwrap_or(u8::MAX));
        der.extend(digits);
    } else {
        der.push(u8::try_from(length).unwrap_or(u8::MAX));
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
pub(super) mod tests;
