//! What a development provider is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use freshgate_oidc::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

/// Everything that can be set about a [`DevProvider`](crate::DevProvider).
#[derive(Clone, Debug)]
pub struct DevProviderConfig {
    /// Where to listen: a loopback address. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The issuer identifier, compared character by character by relying parties. `None`: `http://` and the address
    /// it listens on. A path is allowed and then is in front of every endpoint.
    pub issuer: Option<String>,
    /// The applications that may send people here.
    pub clients: Vec<DevClient>,
    /// The people to choose from on the sign-in page. A user that the state file knows already stays as it is there.
    pub users: Vec<DevUser>,
    /// How long an access token lives.
    pub access_token_lifetime: Duration,
    /// How long an ID token lives.
    pub id_token_lifetime: Duration,
    /// How long a refresh token lives; each new one starts anew.
    pub refresh_token_lifetime: Duration,
    /// From how long after it was issued on a refresh token is good. It is a JWT then, and says so (`nbf`). `None`: at once,
    /// and it says nothing.
    pub refresh_token_not_before: Option<Duration>,
    /// Whether a refresh replaces the refresh token.
    pub rotation: Rotation,
    /// Whether clients must leave their authorization requests here before the browser comes (RFC 9126).
    pub pushed_requests: PushedRequests,
    /// Whether access tokens must be bound to a key of the client's (RFC 9449).
    pub dpop: Dpop,
    /// Whether proofs of holding such a key must have a nonce of the provider's.
    pub dpop_nonces: DpopNonces,
    /// What ID tokens and logout tokens are signed with. Keys for RS256 and ES256 are published in any case.
    pub signing_algorithm: SigningAlgorithm,
    /// Where keys, users, sessions and grants are kept over a restart. `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// Whether it can be told to misbehave.
    pub scripting: Scripting,
}

impl DevProviderConfig {
    /// Access and ID tokens of five minutes, refresh tokens of thirty days that rotate without grace, RS256, nothing
    /// kept over a restart, no scripting; no client and no user yet.
    pub fn new(listen: SocketAddr) -> DevProviderConfig {
        DevProviderConfig {
            listen,
            issuer: None,
            clients: Vec::new(),
            users: Vec::new(),
            access_token_lifetime: Duration::from_secs(300),
            id_token_lifetime: Duration::from_secs(300),
            refresh_token_lifetime: Duration::from_secs(30 * 24 * 3600),
            refresh_token_not_before: None,
            rotation: Rotation::On { grace: Duration::ZERO },
            pushed_requests: PushedRequests::Taken,
            dpop: Dpop::Taken,
            dpop_nonces: DpopNonces::NotWanted,
            signing_algorithm: SigningAlgorithm::Rs256,
            state_file: None,
            scripting: Scripting::Off,
        }
    }
}

/// An application that sends people here to sign in.
#[derive(Clone, Debug)]
pub struct DevClient {
    /// Its `client_id`.
    pub id: String,
    /// Its `client_secret`, accepted as `client_secret_basic` and `client_secret_post`. `None`: a public client.
    pub secret: Option<Secret>,
    /// Its public keys as a JWK set: it proves itself by assertions that one of them verifies (`private_key_jwt`), and by
    /// nothing else.
    pub jwks: Option<Value>,
    /// The only addresses that codes are sent to. Compared character by character, so kept as they were written.
    pub redirect_uris: Vec<String>,
    /// The only addresses that people are sent back to after they have signed out here. Compared like the others.
    pub post_logout_redirect_uris: Vec<String>,
    /// Where logout tokens are posted to. `None`: it is not told.
    pub backchannel_logout_uri: Option<Url>,
    /// What the page of a logout has a frame of. `None`: no frame.
    pub frontchannel_logout_uri: Option<Url>,
}

impl DevClient {
    /// A client that proves itself with a secret.
    pub fn confidential(id: impl Into<String>, secret: Secret, redirect_uri: impl Into<String>) -> DevClient {
        DevClient { secret: Some(secret), ..DevClient::public(id, redirect_uri) }
    }

    /// A client that proves itself with a key of this JWK set.
    pub fn with_keys(id: impl Into<String>, jwks: Value, redirect_uri: impl Into<String>) -> DevClient {
        DevClient { jwks: Some(jwks), ..DevClient::public(id, redirect_uri) }
    }

    /// Whether it has nothing to prove itself with.
    pub(crate) fn is_public(&self) -> bool {
        self.secret.is_none() && self.jwks.is_none()
    }

    /// A client without a secret.
    pub fn public(id: impl Into<String>, redirect_uri: impl Into<String>) -> DevClient {
        DevClient {
            id: id.into(),
            secret: None,
            jwks: None,
            redirect_uris: vec![redirect_uri.into()],
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            frontchannel_logout_uri: None,
        }
    }
}

/// A person who can sign in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevUser {
    /// The subject identifier.
    pub sub: String,
    /// Everything else that is known of the person. Claims that Core 5.4 ties to a scope are given out if that scope
    /// was granted, all others always.
    pub claims: Map<String, Value>,
}

impl DevUser {
    /// A made-up person with a name and an e-mail address.
    pub fn named(sub: impl Into<String>) -> DevUser {
        let sub = sub.into();
        let mut letters = sub.chars();
        let given_name: String =
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
        let claims = json!({
            "name": format!("{given_name} Example"),
            "given_name": given_name,
            "family_name": "Example",
            "preferred_username": sub,
            "email": format!("{sub}@example.com"),
            "email_verified": true,
            "locale": "en",
            "groups": ["everyone"],
        });
        let Value::Object(claims) = claims else { unreachable!("written as an object above") };
        DevUser { sub, claims }
    }

    /// The user that a JSON object with a `sub` describes.
    ///
    /// # Errors
    /// If there is no `sub`, or it is not a string of 1 to 255 printable ASCII characters (Core 2).
    pub fn from_claims(mut claims: Map<String, Value>) -> Result<DevUser, NoSubject> {
        match claims.remove("sub") {
            Some(Value::String(sub))
                if (1..=255).contains(&sub.len())
                    && sub.chars().all(|letter| matches!(letter, ' '..='~')) =>
            {
                Ok(DevUser { sub, claims })
            }
            _ => Err(NoSubject),
        }
    }

    /// The claims with the `sub` among them.
    pub(crate) fn all_claims(&self) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("sub".to_owned(), Value::from(self.sub.as_str()));
        all.extend(self.claims.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }

    /// What to call the person on a page.
    pub(crate) fn display_name(&self) -> &str {
        self.claims.get("name").and_then(Value::as_str).unwrap_or(&self.sub)
    }
}

/// Claims that do not say whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"sub\" must be a text of 1 to 255 plain characters")]
pub struct NoSubject;

/// What happens to a refresh token when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It stays good, and the answer brings none.
    Off,
    /// A new one replaces it. Whoever uses a replaced one ends the whole grant, access tokens included (RFC 9700
    /// 4.14.2).
    On {
        /// For how long after the rotation the replaced token still yields the same successor, as long as that
        /// successor has not been used.
        grace: Duration,
    },
}

/// Whether authorization requests are pushed (RFC 9126).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushedRequests {
    /// They are taken, and others too.
    Taken,
    /// No others are.
    Required,
}

/// What a provider does about proofs of possession (DPoP, RFC 9449).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dpop {
    /// Who proves to hold a key gets access tokens that are bound to it, and others get others.
    Taken,
    /// Without a proof there are no tokens.
    Required,
}

/// Whether a proof must have a nonce that the provider has handed out (RFC 9449 8 and 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpopNonces {
    /// It need not.
    NotWanted,
    /// It must, at the token endpoint and wherever an access token is used.
    Wanted,
}

/// A signature algorithm of RFC 7518 section 3.1 or RFC 8037 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSASSA-PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSASSA-PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// EdDSA on Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// Its name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Whether the provider can be told to misbehave, by anyone who reaches its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripting {
    /// It is honest, and there is nothing to tell it otherwise.
    Off,
    /// It obeys `POST /_script` and keeps a log of requests at `GET /_log`. For tests alone.
    On,
}
