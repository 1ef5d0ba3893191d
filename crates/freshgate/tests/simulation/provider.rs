//! The provider of a run: rotation in several manners, and every fault that a network and a server have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use freshgate::provider::{ProviderAnswer, ProviderRequest, Transport, TransportError};
use freshgate_oidc::{RawLogoutToken, base64url};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;

use crate::{
    book::{Book, Fate},
    executor::{Owner, WORLD, give_way},
    world::{Moment, Rotation, Skew, World},
};

pub(crate) const ISSUER: &str = "https://provider.test";
pub(crate) const CLIENT_ID: &str = "app";
/// How long an engine waits for an answer, as its transport over the network does.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How far apart, in seconds, an engine takes the provider's clock and its own to be at the most.
const LEEWAY: i64 = 60;

// The same keys in every run: what is signed must not differ between two runs of one seed.
static KEY: LazyLock<Ed25519KeyPair> = LazyLock::new(|| key(7));
static OTHER_KEY: LazyLock<Ed25519KeyPair> = LazyLock::new(|| key(8));

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes make a key")
}

pub(crate) struct Provider {
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    serial: u64,
    /// By number, from 1: what one login grew into.
    families: BTreeMap<u64, Family>,
    tainted: BTreeSet<String>,
    /// The nonces of the logins under way, by the number of what will come of them.
    logins: BTreeMap<u64, String>,
    last_login: u64,
    last_logout: u64,
    down_until: Option<Instant>,
}

struct Family {
    good: String,
    /// In seconds, by the true time.
    good_from: Option<i64>,
    spent: BTreeMap<String, (Instant, String)>,
    revoked: bool,
    /// Of the user's profile.
    version: u64,
}

enum Met {
    Answer { status: StatusCode, retry_after: &'static str, body: Vec<u8>, tells: Tells },
    NotSent,
    Lost,
}

/// What an answer tells of the refresh token.
enum Tells {
    /// That it was not used.
    Unused,
    /// What came of it: the next one, where it rotates.
    All(Option<String>),
    /// Something that cannot be read.
    Nothing,
    /// Nothing: a gateway answers in the provider's place, which used it.
    OfAGateway,
}

impl Met {
    fn status(status: StatusCode) -> Self {
        Self::Answer { status, retry_after: "", body: b"{}".to_vec(), tells: Tells::Unused }
    }

    fn without_words() -> Self {
        Self::Answer {
            status: StatusCode::BAD_REQUEST,
            retry_after: "",
            body: Vec::new(),
            tells: Tells::Unused,
        }
    }

    fn json(body: &Value, tells: Tells) -> Self {
        Self::Answer { status: StatusCode::OK, retry_after: "", body: body.to_string().into_bytes(), tells }
    }
}

impl Provider {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a token of an answer that a check must refuse.
    pub(crate) fn is_tainted(&self, access_token: &str) -> bool {
        self.state().tainted.contains(access_token)
    }

    /// Whether the provider would take this refresh token now.
    pub(crate) fn is_good(&self, token: &str) -> bool {
        self.state()
            .families
            .get(&crate::book::family(token))
            .is_some_and(|family| !family.revoked && family.good == token)
    }

    /// Whether this refresh token is the right one, and not good yet.
    pub(crate) fn is_early(&self, token: &str) -> bool {
        let now = self.world.unix_seconds();
        self.state()
            .families
            .get(&crate::book::family(token))
            .is_some_and(|family| family.good == token && family.good_from.is_some_and(|from| now < from))
    }

    /// The user edits the profile.
    pub(crate) fn edit_profile(&self, family: u64) {
        if let Some(family) = self.state().families.get_mut(&family) {
            family.version += 1;
        }
    }

    pub(crate) fn version(&self, family: u64) -> u64 {
        self.state().families.get(&family).map_or(0, |family| family.version)
    }

    /// An administrator revokes what one login grew into.
    pub(crate) fn revoke(&self, family: u64) {
        if let Some(family) = self.state().families.get_mut(&family) {
            family.revoked = true;
        }
    }

    /// Nobody reaches it for a while.
    pub(crate) fn restart(&self, lasting: Duration) {
        self.state().down_until = Some(Instant::now() + lasting);
    }

    /// The user signs in; yields what the browser brings back, and the number of the family to come.
    pub(crate) fn authorize(&self, query: &str) -> (String, u64) {
        let mut provider = self.state();
        provider.last_login += 1;
        let number = provider.last_login;
        provider.logins.insert(number, parameter(query, "nonce").unwrap_or_default());
        let state = parameter(query, "state").unwrap_or_default();
        let callback = form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &format!("code-{number}"))
            .append_pair("state", &state)
            .finish();
        (callback, number)
    }

    /// Says that the user of a family signed out, by the name of the session here or by the user's.
    pub(crate) fn logout_token(&self, family: u64, by_session: bool) -> RawLogoutToken {
        let mut state = self.state();
        state.last_logout += 1;
        let now = self.world.unix_seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "iat": now - 120, "exp": now + 3600, "jti": format!("jti-{}", state.last_logout),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        match by_session {
            true => claims["sid"] = format!("sid-{family}").into(),
            false => claims["sub"] = format!("user-{family}").into(),
        }
        RawLogoutToken::new(sign(&KEY, &claims))
    }

    fn is_down(&self) -> bool {
        self.state().down_until.is_some_and(|until| Instant::now() < until) && !self.world.is_calm()
    }

    async fn latency(&self) {
        if self.world.fault("slow answer", self.world.dealt.slow) {
            tokio::time::sleep(self.world.chance.millis(1_000, 14_000)).await;
        } else {
            self.world.dawdle(200).await;
        }
    }

    async fn token(self: Arc<Self>, form: String) -> Met {
        let (world, percent) = (self.world.clone(), self.world.dealt.provider_faults);
        if self.is_down() || world.fault("not reached", percent) {
            return Met::NotSent;
        }
        self.latency().await;
        if world.fault("request lost", percent) {
            return Met::Lost;
        }
        if world.fault("503", percent) {
            return Met::status(StatusCode::SERVICE_UNAVAILABLE);
        }
        if world.fault("502", percent) {
            return Met::status(StatusCode::BAD_GATEWAY);
        }
        if world.fault("maintenance page", percent) {
            let (status, body) = (StatusCode::OK, b"<!DOCTYPE html><p>Back soon".to_vec());
            return Met::Answer { status, retry_after: "", body, tells: Tells::Unused };
        }
        if world.fault("400 without words", percent) {
            return Met::without_words();
        }
        if world.fault("429", percent) {
            return Met::Answer {
                status: StatusCode::TOO_MANY_REQUESTS,
                retry_after: world.chance.pick(&["", "1", "7", "20"]),
                body: b"{}".to_vec(),
                tells: Tells::Unused,
            };
        }
        let answer = self.grant(&form);
        if parameter(&form, "refresh_token").is_some_and(|token| world.woke_at_use_of(&token)) {
            // Who woke up is sending now, before this answer is there.
            tokio::time::sleep(world.chance.millis(200, 5_000)).await;
        }
        self.latency().await;
        if world.fault("answer lost", percent) {
            return Met::Lost;
        }
        if world.fault("504 after it took effect", percent / 2) {
            let used = matches!(answer, Met::Answer { tells: Tells::All(_) | Tells::Nothing, .. });
            let tells = if used { Tells::OfAGateway } else { Tells::Unused };
            let (status, body) = (StatusCode::GATEWAY_TIMEOUT, b"{}".to_vec());
            return Met::Answer { status, retry_after: "", body, tells };
        }
        answer
    }

    /// What the request brings about, at once.
    fn grant(&self, form: &str) -> Met {
        let world = &self.world;
        let percent = world.dealt.provider_faults;
        let mut state = self.state();
        let state = &mut *state;
        let presented = parameter(form, "refresh_token");
        let number = match &presented {
            None => {
                let code = parameter(form, "code").unwrap_or_default();
                let number = crate::book::family(&code);
                let family = Family {
                    good: String::new(),
                    good_from: None,
                    spent: BTreeMap::new(),
                    revoked: false,
                    version: 1,
                };
                state.families.insert(number, family);
                number
            }
            Some(token) => crate::book::family(token),
        };
        let Some(family) = state.families.get_mut(&number) else { return refused(world.dealt.without_words) };
        state.serial += 1;
        let now = world.unix_seconds();
        let good_from = world.dealt.not_before.map(|seconds| now + seconds);
        let fresh = refresh_token(number, state.serial, good_from);
        let refresh_token = match &presented {
            _ if family.revoked => return refused(world.dealt.without_words),
            None => {
                family.good.clone_from(&fresh);
                family.good_from = good_from;
                Some(fresh)
            }
            Some(token) if *token == family.good && family.good_from.is_some_and(|from| now < from) => {
                world.note(|| format!("provider: {token} is sent too early"));
                let early = family.good_from.unwrap_or(now) - now;
                if world.dealt.skew == Skew::None && early > LEEWAY {
                    world.broken(
                        "a refresh token is not sent before its time",
                        format!("{token}, {early} s early"),
                    );
                }
                return refused(world.dealt.without_words);
            }
            Some(token) if *token == family.good && world.dealt.rotation == Rotation::None => None,
            Some(token) if *token == family.good => {
                family.spent.insert(token.clone(), (Instant::now(), fresh.clone()));
                family.good.clone_from(&fresh);
                family.good_from = good_from;
                Some(fresh)
            }
            Some(token) => match (world.dealt.rotation, family.spent.get(token)) {
                (Rotation::Grace(grace), Some((at, successor)))
                    if at.elapsed() <= grace && *successor == family.good =>
                {
                    Some(successor.clone())
                }
                (Rotation::Revoke | Rotation::Grace(_), Some(_)) => {
                    family.revoked = true;
                    world.note(|| format!("provider: {token} was spent before: the family is revoked"));
                    return refused(world.dealt.without_words);
                }
                _ => return refused(world.dealt.without_words),
            },
        };
        let access_token = format!("at-{number}-{}", state.serial);
        // Made a while ago, so that an engine whose clock is far behind takes it.
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "sub": format!("user-{number}"), "iat": now - 120, "exp": now + 3600,
            "auth_time": 1_000_000_000, "version": family.version, "sid": format!("sid-{number}"),
        });
        if presented.is_none() {
            claims["nonce"] = state.logins.remove(&number).into();
        }
        let mut key = &*KEY;
        let with_id_token = presented.is_none() || world.dealt.id_token;
        if with_id_token && presented.is_some() {
            let tainted = if world.fault("bad signature", percent) {
                key = &*OTHER_KEY;
                true
            } else if world.fault("other audience", percent / 2) {
                claims["aud"] = "another-app".into();
                true
            } else if world.fault("other subject", percent / 4) {
                claims["sub"] = "mallory".into();
                true
            } else {
                false
            };
            if tainted {
                state.tainted.insert(access_token.clone());
            }
        }
        let mut body =
            json!({"access_token": access_token, "token_type": "Bearer", "expires_in": world.dealt.lifetime});
        if with_id_token {
            body["id_token"] = sign(key, &claims).into();
        }
        if let Some(token) = &refresh_token {
            body["refresh_token"] = token.clone().into();
        }
        if presented.is_some() {
            if world.fault("answer without access token", percent) {
                body.as_object_mut().expect("an object").remove("access_token");
                if refresh_token.is_none() {
                    return Met::json(&body, Tells::Nothing);
                }
            } else if world.fault("answer cut short", percent / 2) {
                let mut text = body.to_string();
                text.truncate(20);
                let (status, body) = (StatusCode::OK, text.into_bytes());
                return Met::Answer { status, retry_after: "", body, tells: Tells::Nothing };
            }
        }
        Met::json(&body, Tells::All(refresh_token))
    }

    async fn userinfo(self: Arc<Self>, access_token: String) -> Met {
        let (world, percent) = (self.world.clone(), self.world.dealt.provider_faults);
        if self.is_down() || world.fault("userinfo not reached", percent) {
            return Met::NotSent;
        }
        self.latency().await;
        if world.fault("userinfo 503", percent) {
            return Met::status(StatusCode::SERVICE_UNAVAILABLE);
        }
        if world.fault("userinfo 403", percent / 2) {
            return Met::status(StatusCode::FORBIDDEN);
        }
        let number = crate::book::family(&access_token);
        let version = self.version(number);
        let mut subject = format!("user-{number}");
        if world.fault("userinfo of somebody else", percent / 4) {
            subject = "mallory".into();
        }
        self.latency().await;
        let body = json!({"sub": subject, "version": version, "email": "user@example.test"});
        Met::json(&body, Tells::Unused)
    }
}

impl Provider {
    async fn take_back(self: Arc<Self>, form: String) -> Met {
        let (world, percent) = (self.world.clone(), self.world.dealt.provider_faults);
        if self.is_down() || world.fault("not reached", percent) {
            return Met::NotSent;
        }
        self.latency().await;
        if world.fault("revocation 503", percent) {
            return Met::status(StatusCode::SERVICE_UNAVAILABLE);
        }
        if let Some(token) = parameter(&form, "token") {
            self.revoke(crate::book::family(&token));
        }
        Met::status(StatusCode::OK)
    }
}

fn refused(without_words: bool) -> Met {
    if without_words {
        return Met::without_words();
    }
    let (status, body) = (StatusCode::BAD_REQUEST, br#"{"error":"invalid_grant"}"#.to_vec());
    Met::Answer { status, retry_after: "", body, tells: Tells::Unused }
}

/// A JWT, where it has to say from when on it is good.
fn refresh_token(family: u64, serial: u64, good_from: Option<i64>) -> String {
    let name = format!("rt-{family}-{serial}");
    match good_from {
        Some(from) => format!("{name}.{}.", base64url(json!({"nbf": from}).to_string().as_bytes())),
        None => name,
    }
}

fn parameter(form: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(form.as_bytes())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

fn sign(key: &Ed25519KeyPair, claims: &Value) -> String {
    let head = base64url(br#"{"alg":"EdDSA","kid":"one"}"#);
    let body = base64url(claims.to_string().as_bytes());
    let signature = key.sign(format!("{head}.{body}").as_bytes());
    format!("{head}.{body}.{}", base64url(signature.as_ref()))
}

fn metadata() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": format!("{ISSUER}/authorize"),
        "token_endpoint": format!("{ISSUER}/token"),
        "userinfo_endpoint": format!("{ISSUER}/userinfo"),
        "jwks_uri": format!("{ISSUER}/jwks"),
        "revocation_endpoint": format!("{ISSUER}/revoke"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "scopes_supported": ["openid", "offline_access"],
    })
}

fn keys() -> Value {
    let x = base64url(KEY.public_key().as_ref());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "alg": "EdDSA", "x": x}]})
}

/// The way of one engine to the provider.
pub(crate) struct Wire {
    pub(crate) world: Arc<World>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) book: Arc<Book>,
    pub(crate) by: Owner,
}

/// Notices a request that its engine drops.
struct UnderWay<'a> {
    wire: &'a Wire,
    token: &'a str,
    settled: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.wire.book.abandoned(self.token, self.wire.by);
        }
    }
}

impl Wire {
    async fn refresh(&self, token: String, form: String) -> Met {
        let by = self.by;
        // To connect takes a while, and a process may be suspended in the middle of it.
        let decided = Instant::now();
        self.world.dawdle(100).await;
        if self.world.fault("stands still before it sends", self.world.dealt.freezes) {
            if self.world.chance.percent(50) {
                self.world.wake_at_use_of(&token, by);
            }
            self.world.stand_still(by, self.world.chance.millis(5_000, 40_000));
            give_way(1).await;
        }
        self.world.note(|| format!("wire: engine {by} sends {token}"));
        let presentation = self.book.sent(&token, by, decided);
        let mut under_way = UnderWay { wire: self, token: &token, settled: false };
        if self.world.fault("store away before an answer comes", self.world.dealt.outages) {
            self.world.store_goes_away(if self.world.chance.percent(50) { WORLD } else { by });
        }
        let answer = self.world.on_its_own(self.provider.clone().token(form));
        let met = tokio::time::timeout(TIMEOUT, answer).await.unwrap_or(Met::Lost);
        under_way.settled = true;
        let (fate, rotated) = match &met {
            Met::Answer { tells: Tells::All(Some(rotated)), .. } if *rotated != token => {
                (Fate::Rotated, Some(rotated.as_str()))
            }
            Met::Answer { status: StatusCode::BAD_REQUEST, body, .. } if body.is_empty() => {
                (Fate::WithoutWords, None)
            }
            Met::Answer { tells: Tells::Nothing, .. } | Met::Lost => (Fate::Lost, None),
            Met::Answer { tells: Tells::OfAGateway, .. } => (Fate::Hidden, None),
            _ => (Fate::MaySendAgain, None),
        };
        self.world.note(|| {
            let what = match &met {
                Met::Answer { status, tells: Tells::All(rotated), .. } => format!("{status} {rotated:?}"),
                Met::Answer { status, .. } => status.to_string(),
                Met::NotSent => "not reached".into(),
                Met::Lost => "answer lost".into(),
            };
            format!("wire: engine {by} has the answer to {token}: {what}")
        });
        let patience = match &met {
            Met::Answer { retry_after, .. } => retry_after.parse().ok().map(Duration::from_secs),
            Met::NotSent | Met::Lost => None,
        };
        self.book.settled(presentation, fate, rotated, patience);
        if self.world.fault("stands still with the answer in hand", self.world.dealt.freezes) {
            if let Some(rotated) = rotated
                && self.world.chance.percent(50)
            {
                self.world.wake_at_use_of(rotated, by);
            }
            // For long enough that another takes it for dead, and gets an answer that is newer.
            self.world.stand_still(by, self.world.chance.millis(10_000, 60_000));
            give_way(1).await;
        }
        met
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
        let lost = || TransportError::AnswerLost {
            host: "provider.test".into(),
            source: "as the simulation wants".into(),
        };
        let not_sent = || TransportError::NotSent {
            host: "provider.test".into(),
            source: "as the simulation wants".into(),
        };
        let dies = self.world.call_begins(self.by);
        if dies == Some(Moment::BeforeEffect) {
            self.world.dies_now(self.by);
            std::future::pending::<()>().await;
        }
        let met = match request.url.path() {
            "/token" => {
                let form = String::from_utf8_lossy(&request.body).into_owned();
                match parameter(&form, "refresh_token") {
                    Some(token) => self.refresh(token, form).await,
                    None => self.world.on_its_own(self.provider.clone().token(form)).await,
                }
            }
            "/userinfo" => {
                let bearer = request.headers.get("authorization").and_then(|value| value.to_str().ok());
                let token =
                    bearer.and_then(|bearer| bearer.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
                let answer = self.world.on_its_own(self.provider.clone().userinfo(token));
                tokio::time::timeout(TIMEOUT, answer).await.unwrap_or(Met::Lost)
            }
            "/revoke" => {
                let form = String::from_utf8_lossy(&request.body).into_owned();
                let answer = self.world.on_its_own(self.provider.clone().take_back(form));
                tokio::time::timeout(TIMEOUT, answer).await.unwrap_or(Met::Lost)
            }
            path => {
                self.world.dawdle(50).await;
                if self.provider.is_down()
                    || self.world.fault("not reached", self.world.dealt.provider_faults)
                {
                    Met::NotSent
                } else {
                    let document = if path == "/jwks" { keys() } else { metadata() };
                    Met::json(&document, Tells::Unused)
                }
            }
        };
        if dies == Some(Moment::AfterEffect) {
            self.world.dies_now(self.by);
            std::future::pending::<()>().await;
        }
        match met {
            Met::Answer { status, retry_after, body, .. } => {
                let mut headers = HeaderMap::new();
                headers.insert("content-type", "application/json".parse().expect("a header value"));
                if !retry_after.is_empty() {
                    headers.insert("retry-after", retry_after.parse().expect("a header value"));
                }
                Ok(ProviderAnswer { status, headers, body: body.into() })
            }
            Met::NotSent => Err(not_sent()),
            Met::Lost => Err(lost()),
        }
    }
}
