//! Tokens that are good for whoever holds a key, and the proofs of holding it (DPoP, RFC 9449).

use std::fmt;

use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    discovery::ProviderMetadata,
    jws::{KeyPair, SigningAlgorithm},
    secret::{Secret, base64url, from_base64url, sha256},
    time::Timestamp,
};

/// The key that the tokens of one session are bound to. Kept as the 32 bytes that it is made of, and wiped.
#[derive(Clone)]
pub struct DpopKey {
    algorithm: SigningAlgorithm,
    /// In base64url.
    seed: Secret,
}

/// What one proof proves.
#[derive(Clone, Copy, Debug)]
pub struct DpopProof<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address. Its query does not count.
    pub url: &'a Url,
    /// The access token that the request carries, if it does.
    pub access_token: Option<&'a Secret>,
    /// What the server has handed out to be put into the next proof.
    pub nonce: Option<&'a DpopNonce>,
    /// The time.
    pub now: Timestamp,
    /// Random and new for every proof.
    pub id: &'a Secret,
}

impl DpopKey {
    /// How many bytes a key is made of.
    pub const SEED_LENGTH: usize = 32;
    /// The algorithms of such keys, the one that every server knows first.
    const ALGORITHMS: [SigningAlgorithm; 2] = [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa];

    /// The algorithm for a provider that lists these for proofs (RFC 9449 section 5.1). `None`: it lists none of ours, or
    /// nothing at all, which says that it knows no DPoP.
    pub fn algorithm_for(metadata: &ProviderMetadata) -> Option<SigningAlgorithm> {
        let listed = metadata.dpop_signing_alg_values_supported.as_deref()?;
        Self::ALGORITHMS
            .into_iter()
            .find(|algorithm| listed.iter().any(|name| SigningAlgorithm::from_name(name) == Some(*algorithm)))
    }

    /// A key of these random bytes. `None` for one in four billion, of which there is no key of this algorithm (and for an
    /// algorithm that has no such keys): take others.
    pub fn from_seed(algorithm: SigningAlgorithm, seed: &[u8; Self::SEED_LENGTH]) -> Option<Self> {
        let key = Self { algorithm, seed: Secret::new(base64url(seed)) };
        key.pair().map(|_| key)
    }

    /// Takes back what [`to_secret`](Self::to_secret) gave. `None` for anything else.
    pub fn parse(secret: &Secret) -> Option<Self> {
        let (algorithm, seed) = secret.expose().split_once('.')?;
        let algorithm = SigningAlgorithm::from_name(algorithm)?;
        let seed: Zeroizing<[u8; Self::SEED_LENGTH]> =
            Zeroizing::new(Zeroizing::new(from_base64url(seed)?).as_slice().try_into().ok()?);
        Self::from_seed(algorithm, &seed)
    }

    /// The key, to be sealed.
    pub fn to_secret(&self) -> Secret {
        Secret::new(format!("{}.{}", self.algorithm.name(), self.seed.expose()))
    }

    /// The thumbprint of its public part (RFC 7638): what `dpop_jkt` says of it (RFC 9449 section 10).
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.public_jwk())
    }

    /// Signs a proof (RFC 9449 section 4.2). It is for one request, at once.
    pub fn prove(&self, proof: &DpopProof<'_>) -> Secret {
        let header = json!({"typ": "dpop+jwt", "alg": self.algorithm.name(), "jwk": self.public_jwk()});
        let mut target = proof.url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let mut claims = json!({
            "jti": proof.id.expose(),
            "htm": proof.method,
            "htu": target.as_str(),
            "iat": proof.now.as_unix_seconds(),
        });
        if let Some(access_token) = proof.access_token {
            claims["ath"] = base64url(&sha256(access_token.expose().as_bytes())).into();
        }
        if let Some(nonce) = proof.nonce {
            claims["nonce"] = nonce.0.expose().into();
        }
        self.usable_pair().token(self.algorithm, &header, &claims)
    }

    fn public_jwk(&self) -> Value {
        self.usable_pair().public_jwk_of_seed()
    }

    fn usable_pair(&self) -> KeyPair {
        self.pair().expect("the key was made once before")
    }

    fn pair(&self) -> Option<KeyPair> {
        let seed = Zeroizing::new(from_base64url(self.seed.expose())?);
        KeyPair::of_seed(self.algorithm, &seed)
    }
}

/// Shows the algorithm alone.
impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What an access token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedTokenType {
    /// For whoever has it: no proof was sent, so it can be bound to nothing of ours.
    Bearer,
    /// For whoever holds our key, or for whoever has it, as the provider likes.
    Either,
    /// For whoever holds our key, and for nobody else.
    Dpop,
}

impl ExpectedTokenType {
    /// Whether a token of this type (`Bearer` or `DPoP`) is one (RFC 9449 section 5).
    pub fn includes(self, token_type: &str) -> bool {
        match self {
            Self::Bearer => token_type == "Bearer",
            Self::Either => true,
            Self::Dpop => token_type == "DPoP",
        }
    }
}

/// What a server wants to see in the next proof (RFC 9449 sections 8 and 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopNonce(Secret);

impl DpopNonce {
    /// More than this is no nonce.
    const MAX_BYTES: usize = 4096;

    /// Takes the value of a `DPoP-Nonce` header (section 8.1: visible ASCII without quotes and backslashes). `None` if it
    /// is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_nonce = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        is_nonce.then(|| Self(Secret::new(text)))
    }
}

/// RFC 7638 section 3: the members that make the key, in the order of their names, without white space.
pub(crate) fn thumbprint(jwk: &Value) -> String {
    let member = |name: &str| jwk[name].as_str().map(|value| format!("\"{name}\":\"{value}\""));
    let members: Vec<String> =
        ["crv", "e", "kty", "n", "x", "y"].iter().filter_map(|name| member(name)).collect();
    base64url(&sha256(format!("{{{}}}", members.join(",")).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        jws::{AllowedAlgorithms, UnverifiedJws},
        test_provider::{key_set, metadata},
    };

    const SEED: [u8; 32] = [7; 32];

    fn key(algorithm: SigningAlgorithm) -> DpopKey {
        DpopKey::from_seed(algorithm, &SEED).unwrap()
    }

    fn part(proof: &Secret, number: usize) -> Value {
        let part = proof.expose().split('.').nth(number).and_then(from_base64url).unwrap();
        serde_json::from_slice(&part).unwrap()
    }

    #[test]
    fn thumbprints_are_those_of_the_specifications() {
        // RFC 7638 section 3.1, RFC 8037 appendix A.3, RFC 9449 section 6.1.
        for (jwk, expected) in [
            (
                json!({"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}),
                "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
            ),
            (
                json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
                "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            ),
            (
                json!({"kty": "EC", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA", "crv": "P-256"}),
                "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
            ),
        ] {
            assert_eq!(thumbprint(&jwk), expected);
        }
    }

    #[test]
    fn rfc_9449_4_2_a_proof_says_for_what_and_when_and_once() {
        let url = Url::parse("https://idp.example:443/token?x=1#y").unwrap();
        // The access token and its hash are those of RFC 9449 section 7.1.
        let access_token = Secret::new("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
        let nonce = DpopNonce::parse("eyJ7S_zG.eyJH0-Z.HX4w-7v").unwrap();
        let bare =
            json!({"jti": "once", "htm": "POST", "htu": "https://idp.example/token", "iat": 1_795_435_200});
        let with = |more: Value| {
            let mut claims = bare.clone();
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            claims
        };
        for (access_token, nonce, claims) in [
            (None, None, bare.clone()),
            (Some(&access_token), None, with(json!({"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"}))),
            (None, Some(&nonce), with(json!({"nonce": "eyJ7S_zG.eyJH0-Z.HX4w-7v"}))),
        ] {
            for algorithm in DpopKey::ALGORITHMS {
                let proof = key(algorithm).prove(&DpopProof {
                    method: "POST",
                    url: &url,
                    access_token,
                    nonce,
                    now: Timestamp::from_unix_millis(1_795_435_200_999),
                    id: &Secret::new("once"),
                });
                assert_eq!(part(&proof, 1), claims);
                let header = part(&proof, 0);
                assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!(algorithm.name())));
                assert_eq!(thumbprint(&header["jwk"]), key(algorithm).thumbprint());
                assert!(header["jwk"].get("d").is_none(), "the public part alone");
                let jws = UnverifiedJws::parse(proof.expose()).unwrap();
                let keys = key_set([header["jwk"].clone()]);
                assert_eq!(jws.verify(&keys, &AllowedAlgorithms::only([algorithm])), Ok(()));
            }
        }
    }

    #[test]
    fn a_key_is_kept_and_not_shown() {
        for algorithm in DpopKey::ALGORITHMS {
            let secret = key(algorithm).to_secret();
            let again = DpopKey::parse(&secret).unwrap();
            assert_eq!(again.thumbprint(), key(algorithm).thumbprint());
            let shown = format!("{again:?} {secret:?}");
            assert!(!shown.contains(&base64url(&SEED)), "{shown}");
        }
        let seed = base64url(&SEED);
        for text in [
            "".to_owned(),
            seed.clone(),
            format!("RS256.{seed}"),
            format!("ES384.{seed}"),
            format!("none.{seed}"),
            format!("ES256.{}", &seed[1..]),
            format!("ES256.{seed}AA"),
            format!("ES256.{}", base64url(&[0xff; 32])),
        ] {
            assert!(DpopKey::parse(&Secret::new(&*text)).is_none(), "{text}");
        }
        // Neither nothing nor what is beyond the curve's order is a key of it.
        for seed in [[0; 32], [0xff; 32]] {
            assert!(DpopKey::from_seed(SigningAlgorithm::Es256, &seed).is_none());
            assert!(DpopKey::from_seed(SigningAlgorithm::EdDsa, &seed).is_some());
        }
    }

    #[test]
    fn the_algorithm_is_one_that_the_provider_lists() {
        use SigningAlgorithm::{EdDsa, Es256};
        for (listed, algorithm) in [
            (None, None),
            (Some(&[][..]), None),
            (Some(&["RS256", "ES384"]), None),
            (Some(&["EdDSA", "ES256"]), Some(Es256)),
            (Some(&["RS256", "Ed25519"]), Some(EdDsa)),
        ] {
            let listed = listed.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            let metadata = ProviderMetadata { dpop_signing_alg_values_supported: listed, ..metadata() };
            assert_eq!(DpopKey::algorithm_for(&metadata), algorithm, "{metadata:?}");
        }
    }

    #[test]
    fn which_tokens_will_do() {
        use ExpectedTokenType::{Bearer, Dpop, Either};
        for (expected, bearer, dpop) in [(Bearer, true, false), (Either, true, true), (Dpop, false, true)] {
            assert_eq!(
                (expected.includes("Bearer"), expected.includes("DPoP")),
                (bearer, dpop),
                "{expected:?}"
            );
        }
    }

    #[test]
    fn what_is_a_nonce() {
        for (text, is_nonce) in [
            ("eyJ7S_zG.eyJH0-Z.HX4w-7v", true),
            ("!#~", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\\b", false),
            ("ä", false),
            (&"x".repeat(4097), false),
        ] {
            assert_eq!(DpopNonce::parse(text).is_some(), is_nonce, "{text}");
        }
        assert!(!format!("{:?}", DpopNonce::parse("hunter2")).contains("hunter2"));
    }
}
