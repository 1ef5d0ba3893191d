//! Logout tokens, posted to the clients (Back-Channel Logout 2.4 and 2.5).

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;

use crate::clock::UnixTime;
use crate::provider::Provider;
use crate::random::random_text;
use crate::signing::signed;
use crate::state::{Grant, Session};

/// How long a client may take to answer. The person in front of the browser waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
const LOGOUT_TOKEN_LIFETIME: i64 = 120;

/// Posts logout tokens.
pub(crate) struct Messenger {
    http: reqwest::Client,
}

impl Messenger {
    pub(crate) fn new() -> Result<Messenger, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Messenger { http })
    }
}

/// One client to be told that one session has ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Notice {
    pub(crate) client_id: String,
    pub(crate) uri: Url,
    pub(crate) sub: String,
    pub(crate) sid: String,
}

/// What came of a [`Notice`].
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) client_id: String,
    pub(crate) status: Result<StatusCode, reqwest::Error>,
    /// What it said of keeping its answer (Back-Channel Logout 2.8).
    pub(crate) cache_control: Option<String>,
}

/// Who has to be told that these have ended: every client that took part and wants to know, once for each session.
pub(crate) fn notices(provider: &Provider, sessions: &[Session], grants: &[Grant]) -> BTreeSet<Notice> {
    let from_sessions = sessions.iter().flat_map(|session| {
        session.clients.iter().map(|client| (client.as_str(), session.sub.as_str(), session.sid.as_str()))
    });
    let from_grants =
        grants.iter().map(|grant| (grant.client_id.as_str(), grant.sub.as_str(), grant.sid.as_str()));
    from_sessions
        .chain(from_grants)
        .filter_map(|(client_id, sub, sid)| {
            let uri = provider.client(client_id)?.backchannel_logout_uri.clone()?;
            Some(Notice { client_id: client_id.to_owned(), uri, sub: sub.to_owned(), sid: sid.to_owned() })
        })
        .collect()
}

/// What a logout token says (Back-Channel Logout 2.4).
pub(crate) fn logout_token_claims(provider: &Provider, notice: &Notice, now: UnixTime) -> Value {
    json!({
        "iss": provider.issuer.as_str(),
        "aud": notice.client_id,
        "iat": now.seconds(),
        "exp": now.seconds() + LOGOUT_TOKEN_LIFETIME,
        "jti": random_text::<16>(),
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        "sub": notice.sub,
        "sid": notice.sid,
    })
}

/// Tells all clients at once and waits until each has answered or had its time.
pub(crate) async fn tell(provider: &Provider, notices: BTreeSet<Notice>) -> Vec<Delivery> {
    let now = provider.now();
    let key = provider.keyring.current();
    let tokens = notices.into_iter().map(|notice| {
        let token = signed(&key, "logout+jwt", &logout_token_claims(provider, &notice, now));
        (notice, token)
    });
    provider.messenger.deliver(tokens).await
}

impl Messenger {
    /// Posts each token to its client, whatever is in it.
    pub(crate) async fn deliver(&self, tokens: impl IntoIterator<Item = (Notice, String)>) -> Vec<Delivery> {
        let mut under_way = JoinSet::new();
        for (notice, token) in tokens {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("logout_token", &token)
                .finish();
            let request = self
                .http
                .post(notice.uri)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body);
            under_way.spawn(async move {
                let answer = request.send().await;
                let cache_control = answer.as_ref().ok().and_then(|answer| {
                    Some(answer.headers().get(header::CACHE_CONTROL)?.to_str().ok()?.to_owned())
                });
                let status = answer.map(|answer| answer.status());
                Delivery { client_id: notice.client_id, status, cache_control }
            });
        }
        let deliveries = under_way.join_all().await;
        for delivery in &deliveries {
            match &delivery.status {
                Ok(status) if status.is_success() => {
                    tracing::info!(client = %delivery.client_id, "told of a logout")
                }
                Ok(status) => tracing::warn!(client = %delivery.client_id, %status, "refused a logout token"),
                Err(error) => {
                    tracing::warn!(client = %delivery.client_id, %error, "could not be told of a logout");
                }
            }
        }
        deliveries
    }
}
