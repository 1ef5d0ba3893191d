//! A provider behind the `Transport` seam: it signs real tokens and follows a script.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use freshgate::provider::{ProviderAnswer, ProviderRequest, Transport, TransportError};
use freshgate_oidc::{RawLogoutToken, base64url};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use url::form_urlencoded;

pub(crate) const ISSUER: &str = "https://provider.test";
pub(crate) const CLIENT_ID: &str = "app";

/// What a token or userinfo request is answered with, if not in the ordinary way.
pub(crate) enum Act {
    /// This status and body, before the request has any effect.
    Status(u16, &'static str, Value),
    /// The request takes effect; the answer is lost.
    LoseAnswer,
    /// Nothing reaches the provider.
    NotReached,
    /// The request takes effect; the claims of the ID token are changed on the way.
    IdToken(fn(&mut Value)),
    /// The request takes effect; the ID token is signed by somebody else.
    ForgedSignature,
    /// The request takes effect; the answer has no ID token.
    NoIdToken,
    /// The request takes effect; the answer has no access token.
    NoAccessToken,
    /// Not looked at: the proof of the next one must have this nonce (RFC 9449).
    WantNonce(&'static str),
    /// The request takes effect; the answer is this much longer than it need be.
    Padded(usize),
    /// The request takes effect; the access token is of this type.
    TokenType(&'static str),
    /// A userinfo or revocation request is answered only after [`ScriptedProvider::release`].
    Hold,
}

#[derive(Default)]
struct State {
    serial: u32,
    /// Those that are good: one for each login, replaced at each refresh.
    refresh_tokens: HashSet<String>,
    claims: Value,
    nonce: Option<String>,
    token_acts: VecDeque<Act>,
    userinfo_acts: VecDeque<Act>,
    presented: Vec<String>,
    revocation_acts: VecDeque<Act>,
    revoked: Vec<String>,
    /// The name of the session that the next login is of.
    sid: Option<String>,
    token_ids: u32,
    token_forms: Vec<String>,
    /// The proofs that came, with the path they came to; nothing where one was missing.
    proofs: Vec<(String, Option<String>)>,
    lifetime: u64,
    keeps_refresh_token: bool,
    /// So many seconds after it was issued a refresh token becomes good, and says so.
    not_before: Option<i64>,
}

pub(crate) struct ScriptedProvider {
    key: EcdsaKeyPair,
    other_key: EcdsaKeyPair,
    clock: Arc<crate::setting::TestClock>,
    state: Mutex<State>,
    /// Refresh requests wait here while they are "on the wire", if the test wants them to.
    pub(crate) wire: Semaphore,
    release: Notify,
    on_the_wire: AtomicUsize,
    keys_fetched: AtomicUsize,
    keys_withheld: AtomicBool,
    most_on_the_wire: AtomicUsize,
}

fn key_pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

impl ScriptedProvider {
    pub(crate) fn new(clock: Arc<crate::setting::TestClock>) -> Arc<Self> {
        let claims = json!({"sub": "alice", "email": "alice@example.test", "name": "Alice"});
        Arc::new(Self {
            key: key_pair(),
            other_key: key_pair(),
            clock,
            state: Mutex::new(State { claims, lifetime: 300, ..State::default() }),
            wire: Semaphore::new(Semaphore::MAX_PERMITS),
            release: Notify::new(),
            on_the_wire: AtomicUsize::new(0),
            keys_fetched: AtomicUsize::new(0),
            keys_withheld: AtomicBool::new(false),
            most_on_the_wire: AtomicUsize::new(0),
        })
    }

    pub(crate) fn next_token_act(&self, act: Act) {
        self.state.lock().unwrap().token_acts.push_back(act);
    }

    pub(crate) fn next_userinfo_act(&self, act: Act) {
        self.state.lock().unwrap().userinfo_acts.push_back(act);
    }

    /// Edits the profile of the user.
    pub(crate) fn set_claim(&self, name: &str, value: Value) {
        self.state.lock().unwrap().claims[name] = value;
    }

    pub(crate) fn next_revocation_act(&self, act: Act) {
        self.state.lock().unwrap().revocation_acts.push_back(act);
    }

    /// The tokens that it was asked to revoke, in order.
    pub(crate) fn asked_to_revoke(&self) -> Vec<String> {
        self.state.lock().unwrap().revoked.clone()
    }

    /// Whose logins the next ones are: the user, and the session at the provider, which may have no name.
    pub(crate) fn next_login_is_of(&self, subject: &str, sid: &str) {
        let mut state = self.state.lock().unwrap();
        state.claims["sub"] = subject.into();
        state.sid = Some(sid.to_owned());
    }

    /// A logout token that is right but for what `change` makes of it.
    pub(crate) fn logout_token(&self, change: impl FnOnce(&mut Value)) -> RawLogoutToken {
        self.signed_logout_token(&self.key, "one", change)
    }

    /// One that somebody else made.
    pub(crate) fn forged_logout_token(&self, key_id: &str) -> RawLogoutToken {
        self.signed_logout_token(&self.other_key, key_id, |_| {})
    }

    fn signed_logout_token(
        &self,
        key: &EcdsaKeyPair,
        key_id: &str,
        change: impl FnOnce(&mut Value),
    ) -> RawLogoutToken {
        let mut state = self.state.lock().unwrap();
        state.token_ids += 1;
        let now = self.clock.unix_seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": format!("jti-{}", state.token_ids),
            "sub": "alice", "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        change(&mut claims);
        RawLogoutToken::new(self.sign(key, key_id, &claims))
    }

    /// How often its keys were asked for.
    pub(crate) fn keys_fetched(&self) -> usize {
        self.keys_fetched.load(Ordering::SeqCst)
    }

    /// Whether it answers those who ask for its keys with an error.
    pub(crate) fn withhold_keys(&self, withheld: bool) {
        self.keys_withheld.store(withheld, Ordering::SeqCst);
    }

    /// From now on a refresh token stays good, and is given out again.
    pub(crate) fn stop_rotating(&self) {
        self.state.lock().unwrap().keeps_refresh_token = true;
    }

    /// From now on refresh tokens say that they are good only so many seconds after they were issued.
    pub(crate) fn issue_for_later(&self, seconds: i64) {
        self.state.lock().unwrap().not_before = Some(seconds);
    }

    /// Lets a userinfo request go on that was held.
    pub(crate) fn release(&self) {
        self.release.notify_one();
    }

    pub(crate) fn forget_refresh_tokens(&self) {
        self.state.lock().unwrap().refresh_tokens.clear();
    }

    /// The refresh tokens that were presented, in order.
    pub(crate) fn presented(&self) -> Vec<String> {
        self.state.lock().unwrap().presented.clone()
    }

    /// What each token request asked for, in order, of the parameter of this name.
    pub(crate) fn asked_for(&self, name: &str) -> Vec<Vec<String>> {
        let values = |form: &String| {
            form_urlencoded::parse(form.as_bytes())
                .filter(|(found, _)| found == name)
                .map(|(_, value)| value.into_owned())
                .collect()
        };
        self.state.lock().unwrap().token_forms.iter().map(values).collect()
    }

    /// The claims and the key of each proof that came to a path; `None` for a request without one.
    pub(crate) fn proofs(&self, path: &str) -> Vec<Option<(Value, Value)>> {
        let part = |proof: &str, number: usize| -> Value {
            let part = proof.split('.').nth(number).and_then(freshgate_oidc::from_base64url).unwrap();
            serde_json::from_slice(&part).unwrap()
        };
        let state = self.state.lock().unwrap();
        let proofs = state.proofs.iter().filter(|(at, _)| at == path);
        proofs
            .map(|(_, proof)| proof.as_ref().map(|proof| (part(proof, 1), part(proof, 0)["jwk"].clone())))
            .collect()
    }

    pub(crate) fn on_the_wire(&self) -> usize {
        self.on_the_wire.load(Ordering::SeqCst)
    }

    pub(crate) fn most_on_the_wire(&self) -> usize {
        self.most_on_the_wire.load(Ordering::SeqCst)
    }

    /// What the browser would bring to the authorization endpoint.
    pub(crate) fn authorize(&self, query: &str) -> String {
        let parameter = |name: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.into_owned())
        };
        self.state.lock().unwrap().nonce = parameter("nonce");
        let state = parameter("state").unwrap();
        form_urlencoded::Serializer::new(String::new())
            .append_pair("code", "code-1")
            .append_pair("state", &state)
            .finish()
    }

    fn sign(&self, key: &EcdsaKeyPair, key_id: &str, claims: &Value) -> String {
        let head = base64url(json!({"alg": "ES256", "kid": key_id}).to_string().as_bytes());
        let body = base64url(claims.to_string().as_bytes());
        let signature = key.sign(&SystemRandom::new(), format!("{head}.{body}").as_bytes()).unwrap();
        format!("{head}.{body}.{}", base64url(signature.as_ref()))
    }

    fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256",
            "x": base64url(&point[1..33]), "y": base64url(&point[33..65]),
        }]})
    }

    async fn token(&self, form: &str) -> Result<(StatusCode, HeaderMap, Value), TransportError> {
        let parameter = |name: &str| {
            form_urlencoded::parse(form.as_bytes())
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.into_owned())
        };
        self.state.lock().unwrap().token_forms.push(form.to_owned());
        let refresh_token = parameter("refresh_token");
        let is_login = refresh_token.is_none();
        if let Some(presented) = &refresh_token {
            self.state.lock().unwrap().presented.push(presented.clone());
            let now = self.on_the_wire.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_on_the_wire.fetch_max(now, Ordering::SeqCst);
            let permit = self.wire.acquire().await.unwrap();
            permit.forget();
            self.on_the_wire.fetch_sub(1, Ordering::SeqCst);
        }
        let mut state = self.state.lock().unwrap();
        let act = state.token_acts.pop_front();
        match act {
            Some(Act::NotReached) => return Err(not_sent()),
            Some(Act::Status(status, retry_after, body)) => return Ok(answer(status, retry_after, body)),
            Some(Act::WantNonce(nonce)) => {
                return Ok(with_nonce(nonce, answer(400, "", json!({"error": "use_dpop_nonce"}))));
            }
            _ => {}
        }
        if refresh_token.as_ref().is_some_and(|presented| !state.refresh_tokens.remove(presented)) {
            return Ok(answer(400, "", json!({"error": "invalid_grant"})));
        }
        state.serial += 1;
        let serial = state.serial;
        let next = match refresh_token {
            Some(presented) if state.keeps_refresh_token => presented,
            _ => match state.not_before {
                Some(seconds) => {
                    let claims = json!({"nbf": self.clock.unix_seconds() + seconds}).to_string();
                    format!("refresh-{serial}.{}.", base64url(claims.as_bytes()))
                }
                None => format!("refresh-{serial}"),
            },
        };
        state.refresh_tokens.insert(next.clone());
        let now = self.clock.unix_seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "iat": now, "exp": now + 600, "auth_time": 1_000_000_000,
        });
        match state.sid.as_deref().unwrap_or("provider-session") {
            "" => {}
            sid => claims["sid"] = sid.into(),
        }
        claims["sub"] = state.claims["sub"].clone();
        claims["serial"] = serial.into();
        if is_login {
            claims["nonce"] = state.nonce.clone().into();
        }
        let mut key = &self.key;
        match &act {
            Some(Act::IdToken(change)) => change(&mut claims),
            Some(Act::ForgedSignature) => key = &self.other_key,
            _ => {}
        }
        let mut body = json!({
            "access_token": format!("access-{serial}"),
            "token_type": "Bearer",
            "expires_in": state.lifetime,
            "refresh_token": next,
            "id_token": self.sign(key, "one", &claims),
        });
        match act {
            Some(Act::Padded(bytes)) => body["padding"] = "x".repeat(bytes).into(),
            Some(Act::TokenType(token_type)) => body["token_type"] = token_type.into(),
            Some(Act::NoIdToken) => drop(body.as_object_mut().unwrap().remove("id_token")),
            Some(Act::NoAccessToken) => drop(body.as_object_mut().unwrap().remove("access_token")),
            Some(Act::LoseAnswer) => return Err(lost()),
            _ => {}
        }
        Ok(answer(200, "", body))
    }

    async fn revoke(&self, form: &str) -> Result<(StatusCode, HeaderMap, Value), TransportError> {
        let mut form = form_urlencoded::parse(form.as_bytes());
        let (_, token) = form.find(|(name, _)| name == "token").unwrap();
        let act = {
            let mut state = self.state.lock().unwrap();
            state.revoked.push(token.into_owned());
            state.revocation_acts.pop_front()
        };
        match act {
            Some(Act::Status(status, retry_after, body)) => return Ok(answer(status, retry_after, body)),
            Some(Act::NotReached) => return Err(not_sent()),
            Some(Act::LoseAnswer) => return Err(lost()),
            Some(Act::Hold) => self.release.notified().await,
            _ => {}
        }
        Ok(answer(200, "", Value::Null))
    }

    async fn userinfo(&self) -> (StatusCode, HeaderMap, Value) {
        let act = self.state.lock().unwrap().userinfo_acts.pop_front();
        match act {
            Some(Act::Status(status, retry_after, body)) => return answer(status, retry_after, body),
            Some(Act::WantNonce(nonce)) => {
                return with_nonce(nonce, answer(401, "", json!({"error": "use_dpop_nonce"})));
            }
            Some(Act::Hold) => self.release.notified().await,
            _ => {}
        }
        answer(200, "", self.state.lock().unwrap().claims.clone())
    }
}

fn answer(status: u16, retry_after: &str, body: Value) -> (StatusCode, HeaderMap, Value) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    if !retry_after.is_empty() {
        headers.insert("retry-after", retry_after.parse().unwrap());
    }
    (StatusCode::from_u16(status).unwrap(), headers, body)
}

fn with_nonce(
    nonce: &'static str,
    (status, mut headers, body): (StatusCode, HeaderMap, Value),
) -> (StatusCode, HeaderMap, Value) {
    headers.insert("dpop-nonce", nonce.parse().unwrap());
    (status, headers, body)
}

fn not_sent() -> TransportError {
    TransportError::NotSent { host: "provider.test".into(), source: "as the test wants".into() }
}

fn lost() -> TransportError {
    TransportError::AnswerLost { host: "provider.test".into(), source: "as the test wants".into() }
}

#[async_trait]
impl Transport for ScriptedProvider {
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
        let proof = request.headers.get("dpop").map(|proof| {
            assert!(proof.is_sensitive());
            proof.to_str().unwrap().to_owned()
        });
        let path = request.url.path().to_owned();
        let authorization = request.headers.get("authorization").map(|value| value.to_str().unwrap());
        assert!(path != "/userinfo" || authorization.unwrap().starts_with("DPoP ") == proof.is_some());
        self.state.lock().unwrap().proofs.push((path, proof));
        let (status, headers, body) = match request.url.path() {
            "/.well-known/openid-configuration" => answer(
                200,
                "",
                json!({
                    "issuer": ISSUER,
                    "authorization_endpoint": format!("{ISSUER}/authorize"),
                    "token_endpoint": format!("{ISSUER}/token"),
                    "userinfo_endpoint": format!("{ISSUER}/userinfo"),
                    "jwks_uri": format!("{ISSUER}/jwks"),
                    "end_session_endpoint": format!("{ISSUER}/logout"),
                    "revocation_endpoint": format!("{ISSUER}/revoke"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                    "scopes_supported": ["openid", "offline_access"],
                }),
            ),
            "/jwks" => {
                self.keys_fetched.fetch_add(1, Ordering::SeqCst);
                let status = if self.keys_withheld.load(Ordering::SeqCst) { 500 } else { 200 };
                answer(status, "", self.jwks())
            }
            "/revoke" => self.revoke(std::str::from_utf8(&request.body).unwrap()).await?,
            "/token" => self.token(std::str::from_utf8(&request.body).unwrap()).await?,
            "/userinfo" => self.userinfo().await,
            path => panic!("nobody should ask for {path}"),
        };
        let body = bytes::Bytes::from(body.to_string());
        if body.len() > request.answer_limit {
            let source = format!("it is larger than {} bytes", request.answer_limit).into();
            return Err(TransportError::AnswerLost { host: "provider.test".into(), source });
        }
        Ok(ProviderAnswer { status, headers, body })
    }
}
