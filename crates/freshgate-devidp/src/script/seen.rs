//! What can be seen of a request from outside.

use axum::body::Bytes;
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::random::sha256;
use crate::state::GrantId;

/// The endpoints that rules and the log know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Discovery,
    Jwks,
    /// The endpoint itself and the pages behind it.
    Authorize,
    Par,
    TokenCode,
    TokenRefresh,
    TokenOther,
    Userinfo,
    Revoke,
    EndSession,
    Api,
}

impl Endpoint {
    /// `None`: a page for people, which is none of a relying party's business.
    pub(super) fn of(path: &str) -> Option<Endpoint> {
        Some(match path {
            "/.well-known/openid-configuration" => Endpoint::Discovery,
            "/jwks" => Endpoint::Jwks,
            "/authorize" | "/sign-in" | "/consent" => Endpoint::Authorize,
            "/par" => Endpoint::Par,
            "/token" => Endpoint::TokenOther,
            "/userinfo" => Endpoint::Userinfo,
            "/revoke" => Endpoint::Revoke,
            "/end_session" | "/end_session/confirm" => Endpoint::EndSession,
            "/api/whoami" | "/api/quote" => Endpoint::Api,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Endpoint::Discovery => "discovery",
            Endpoint::Jwks => "jwks",
            Endpoint::Authorize => "authorize",
            Endpoint::Par => "par",
            Endpoint::TokenCode => "token:code",
            Endpoint::TokenRefresh => "token:refresh",
            Endpoint::TokenOther => "token",
            Endpoint::Userinfo => "userinfo",
            Endpoint::Revoke => "revoke",
            Endpoint::EndSession => "end_session",
            Endpoint::Api => "api",
        }
    }
}

/// A request, as far as the log may tell of it: never a token.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) endpoint: Endpoint,
    pub(super) grant_type: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_auth: Option<&'static str>,
    pub(super) refresh_presented: Option<String>,
    pub(super) grant: Option<GrantId>,
    pub(super) sub: Option<String>,
}

impl Seen {
    pub(super) fn at(endpoint: Endpoint) -> Seen {
        Seen {
            endpoint,
            grant_type: None,
            client_id: None,
            client_auth: None,
            refresh_presented: None,
            grant: None,
            sub: None,
        }
    }

    pub(super) fn of(provider: &Provider, parts: &Parts, body: &Bytes) -> Option<Seen> {
        let mut seen = Seen::at(Endpoint::of(parts.uri.path())?);
        match seen.endpoint {
            Endpoint::Par | Endpoint::TokenOther | Endpoint::Revoke => seen.read_form(provider, parts, body),
            Endpoint::Userinfo | Endpoint::Api => {
                let authorization =
                    authorization(parts).and_then(|(_, token)| provider.seal.read_access_token(token));
                seen.grant = authorization.map(|token| token.grant);
            }
            _ => {}
        }
        let grant = seen.grant;
        seen.sub = grant.and_then(|id| provider.ledger.read(|state| Some(state.grant(id)?.sub.clone())));
        Some(seen)
    }

    fn read_form(&mut self, provider: &Provider, parts: &Parts, body: &Bytes) {
        let form = Parameters::parse(body).unwrap_or_default();
        self.grant_type = form.get("grant_type").map(str::to_owned);
        self.endpoint = match (self.endpoint, form.get("grant_type")) {
            (Endpoint::TokenOther, Some("authorization_code")) => Endpoint::TokenCode,
            (Endpoint::TokenOther, Some("refresh_token")) => Endpoint::TokenRefresh,
            (endpoint, _) => endpoint,
        };
        self.client_id = form.get("client_id").map(str::to_owned).or_else(|| basic_client_id(parts));
        let ways = [
            ("client_secret_basic", authorization(parts).is_some()),
            ("client_secret_post", form.get("client_secret").is_some()),
            ("private_key_jwt", form.get("client_assertion").is_some()),
        ];
        let mut used = ways.into_iter().filter_map(|(name, used)| used.then_some(name));
        self.client_auth = Some(match (used.next(), used.next()) {
            (None, _) => "none",
            (Some(way), None) => way,
            (Some(_), Some(_)) => "both",
        });
        if let Some(presented) = form.get("refresh_token") {
            self.refresh_presented = Some(fingerprint(presented));
            self.grant = provider.seal.read_refresh_token(presented).map(|token| token.grant);
        }
    }
}

/// The first 16 hexadecimal digits of a token's SHA-256.
pub(super) fn fingerprint(token: &str) -> String {
    sha256(token.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn authorization(parts: &Parts) -> Option<(&str, &str)> {
    parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')
}

fn basic_client_id(parts: &Parts) -> Option<String> {
    let decoded = STANDARD.decode(authorization(parts)?.1).ok()?;
    let id = decoded.split(|byte| *byte == b':').next()?;
    Some(url::form_urlencoded::parse(id).next()?.0.into_owned())
}
