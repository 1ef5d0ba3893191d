//! The pages on which users are added, edited and signed out while apps use them.

use std::collections::HashMap;
use std::time::Duration;

use askama::Template;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::claims::{ClaimsField, ClaimsProblem, claims_from_text};
use super::messages::not_from_our_page;
use super::page;
use super::person::{Person, edit_address};
use crate::browser;
use crate::config::{DevUser, Rotation};
use crate::logout::everywhere;
use crate::parameters::Parameters;
use crate::provider::{Provider, SharedProvider};
use crate::state::Whose;

#[derive(Template)]
#[template(path = "users.html")]
struct Users<'a> {
    base: &'a str,
    done: Option<String>,
    people: Vec<Person>,
    claims: ClaimsField,
    total: String,
    issuer: &'a str,
    metadata_url: String,
    access_token_lifetime: String,
    rotation: String,
    clients: Vec<&'a str>,
}

#[derive(Template)]
#[template(path = "user.html")]
struct User<'a> {
    base: &'a str,
    sub: &'a str,
    edit: String,
    claims: ClaimsField,
}

/// GET `/users`.
pub(crate) async fn list_users(
    State(provider): State<SharedProvider>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let done = match (query.get("saved"), query.get("signed_out")) {
        (Some(sub), _) => Some(format!("Saved {sub}.")),
        (None, Some("")) | (None, None) => None,
        (None, Some(whom)) => Some(format!("Signed out: {whom}.")),
    };
    users_page(&provider, done, ClaimsField::of(&DevUser::named("carol")))
}

fn users_page(provider: &Provider, done: Option<String>, claims: ClaimsField) -> Response {
    let now = provider.now();
    let (people, sessions, grants) = provider.ledger.read(|state| {
        let mut sessions: HashMap<&str, usize> = HashMap::new();
        state
            .sessions_of(&Whose::Everyone, now)
            .for_each(|session| *sessions.entry(&session.sub).or_default() += 1);
        let mut grants: HashMap<&str, usize> = HashMap::new();
        state.grants_of(&Whose::Everyone, now).for_each(|grant| *grants.entry(&grant.sub).or_default() += 1);
        let of = |counts: &HashMap<&str, usize>, sub: &str| counts.get(sub).copied().unwrap_or(0);
        let people: Vec<Person> = state
            .users()
            .map(|user| Person {
                presence: match presence(of(&sessions, &user.sub), of(&grants, &user.sub)) {
                    Some(presence) => format!("signed in: {presence}"),
                    None => "not signed in".to_owned(),
                },
                ..Person::of(provider, user)
            })
            .collect();
        (people, sessions.values().sum(), grants.values().sum())
    });
    let status = if claims.problem.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    page(
        status,
        &Users {
            base: provider.issuer.base_path(),
            done,
            people,
            claims,
            total: match presence(sessions, grants) {
                Some(presence) => format!("This signs everyone out: {presence}."),
                None => "Nobody is signed in.".to_owned(),
            },
            issuer: provider.issuer.as_str(),
            metadata_url: provider.metadata_url(),
            access_token_lifetime: in_words(provider.config.access_token_lifetime),
            rotation: match provider.config.rotation {
                Rotation::Off => "stay the same".to_owned(),
                Rotation::On { grace: Duration::ZERO } => "are replaced at every use".to_owned(),
                Rotation::On { grace } => {
                    format!("are replaced at every use, with a grace of {}", in_words(grace))
                }
            },
            clients: provider.config.clients.iter().map(|client| client.id.as_str()).collect(),
        },
    )
}

/// GET `/users/edit?sub=…`.
pub(crate) async fn edit_user(State(provider): State<SharedProvider>, RawQuery(query): RawQuery) -> Response {
    match user_named(&provider, query) {
        Some(user) => user_page(&provider, &user.sub, ClaimsField::of(&user)),
        None => to_users(&provider, ""),
    }
}

/// POST `/users/edit?sub=…` with `claims`.
pub(crate) async fn save_user(
    State(provider): State<SharedProvider>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !browser::posts_from_our_page(&provider, &headers) {
        return not_from_our_page(&provider);
    }
    let Some(before) = user_named(&provider, query) else { return to_users(&provider, "") };
    let text = claims_text(&headers, &body);
    let edited = claims_from_text(&text).and_then(|user| {
        if user.sub == before.sub {
            return Ok(user);
        }
        let message = format!("\"sub\" must stay \"{}\". To have another user, add one.", before.sub);
        Err(ClaimsProblem::new(&text, message))
    });
    match edited {
        Ok(user) => put(&provider, user),
        Err(problem) => user_page(&provider, &before.sub, ClaimsField::again(problem)),
    }
}

/// POST `/users/add` with `claims`.
pub(crate) async fn add_user(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !browser::posts_from_our_page(&provider, &headers) {
        return not_from_our_page(&provider);
    }
    let text = claims_text(&headers, &body);
    let is_known = |sub: &str| provider.ledger.read(|state| state.user(sub).is_some());
    let added = claims_from_text(&text).and_then(|user| {
        if !is_known(&user.sub) {
            return Ok(user);
        }
        Err(ClaimsProblem::new(&text, format!("There already is a user \"{}\".", user.sub)))
    });
    match added {
        Ok(user) => put(&provider, user),
        Err(problem) => users_page(&provider, None, ClaimsField::again(problem)),
    }
}

/// POST `/users/sign-out` with `sub`, or with `everyone`.
pub(crate) async fn sign_out(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !browser::posts_from_our_page(&provider, &headers) {
        return not_from_our_page(&provider);
    }
    let form = Parameters::from_form(&headers, &body).unwrap_or_default();
    let (whose, name) = match (form.get("sub"), form.get("everyone")) {
        (Some(sub), None) => (Whose::User(sub.to_owned()), sub),
        (None, Some(_)) => (Whose::Everyone, "everyone"),
        _ => return to_users(&provider, ""),
    };
    everywhere(&provider, &whose).await;
    to_users(&provider, &query("signed_out", name))
}

fn put(provider: &Provider, user: DevUser) -> Response {
    let to = query("saved", &user.sub);
    tracing::info!(sub = %user.sub, "saved a user");
    provider.ledger.change(|state| state.put_user(user));
    to_users(provider, &to)
}

fn user_page(provider: &Provider, sub: &str, claims: ClaimsField) -> Response {
    let status = if claims.problem.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let edit = edit_address(provider, sub);
    page(status, &User { base: provider.issuer.base_path(), sub, edit, claims })
}

fn user_named(provider: &Provider, query: Option<String>) -> Option<DevUser> {
    let query = Parameters::parse(query?.as_bytes()).ok()?;
    provider.ledger.read(|state| state.user(query.get("sub")?).cloned())
}

fn claims_text(headers: &HeaderMap, body: &[u8]) -> String {
    let form = Parameters::from_form(headers, body).unwrap_or_default();
    form.get("claims").unwrap_or_default().to_owned()
}

fn query(name: &str, value: &str) -> String {
    format!("?{}", url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish())
}

fn to_users(provider: &Provider, query: &str) -> Response {
    let location = format!("{}/users{query}", provider.issuer.base_path());
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// Where someone is signed in; `None`: nowhere.
fn presence(sessions: usize, grants: usize) -> Option<String> {
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    (sessions + grants > 0).then(|| format!("{}, {}", count(sessions, "browser"), count(grants, "app")))
}

fn in_words(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1000 != 0 => format!("{millis} ms"),
        millis => format!("{} s", millis / 1000),
    }
}
