//! The pages between a relying party's request and its answer.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::claims::{ClaimsField, ClaimsProblem};
use super::page;
use super::person::{Person, is_meant};
use crate::authorize::AuthorizeRequest;
use crate::config::DevUser;
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::state::Session;

/// More than anyone would scroll through; the others can still be typed.
const PEOPLE_SHOWN: usize = 100;

/// What stands in the way of signing in as the one who was chosen.
pub(crate) enum PickProblem {
    /// The chosen user is not there.
    NoSuchUser(String),
    /// The typed claims cannot be used.
    Claims(ClaimsProblem),
}

#[derive(Template)]
#[template(path = "pick.html")]
struct Pick<'a> {
    base: &'a str,
    client: &'a str,
    returns_to: &'a str,
    scope: String,
    request: String,
    signed_in_as: Option<String>,
    lost_user: Option<String>,
    people: Vec<Person>,
    more: usize,
    typing: bool,
    claims: ClaimsField,
}

/// Asks who it is.
pub(crate) fn pick(
    provider: &Provider,
    request: &AuthorizeRequest<'_>,
    parameters: &Parameters,
    session: Option<&Session>,
    problem: Option<PickProblem>,
) -> Response {
    let hint = request.login_hint.or(request.expected_sub.as_deref());
    let (mut people, total, signed_in_as) = provider.ledger.read(|state| {
        let people: Vec<Person> = state
            .users()
            .take(PEOPLE_SHOWN)
            .map(|user| Person {
                hinted: hint.is_some_and(|hint| is_meant(user, hint)),
                ..Person::of(provider, user)
            })
            .collect();
        let name =
            session.and_then(|session| state.user(&session.sub)).map(|user| user.display_name().to_owned());
        (people, state.users().count(), name)
    });
    people.sort_by_key(|person| !person.hinted);
    let (lost_user, typed) = match problem {
        Some(PickProblem::NoSuchUser(sub)) => {
            (Some(format!("There is no user {sub} here (any more).")), None)
        }
        Some(PickProblem::Claims(problem)) => (None, Some(problem)),
        None => (None, None),
    };
    let hint_is_new = hint.is_some() && people.iter().all(|person| !person.hinted);
    let status =
        if lost_user.is_some() || typed.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    page(
        status,
        &Pick {
            base: provider.issuer.base_path(),
            client: &request.client.id,
            returns_to: request.redirect_uri,
            scope: request.scope.join(" "),
            request: parameters.encoded(),
            signed_in_as,
            lost_user,
            more: total - people.len(),
            typing: typed.is_some() || hint_is_new || people.is_empty(),
            people,
            claims: typed.map_or_else(
                || ClaimsField::of(&suggested_user(hint.filter(|_| hint_is_new))),
                ClaimsField::again,
            ),
        },
    )
}

/// A start for whoever types claims; `login_hint` may name the one to be.
fn suggested_user(hint: Option<&str>) -> DevUser {
    let name =
        hint.and_then(|hint| hint.split('@').next()).filter(|name| !name.is_empty()).unwrap_or("carol");
    let mut user = DevUser::named(name);
    if let Some(email) = hint.filter(|hint| hint.contains('@')) {
        user.claims.insert("email".to_owned(), email.into());
    }
    user
}

#[derive(Template)]
#[template(path = "consent.html")]
struct Consent<'a> {
    base: &'a str,
    client: &'a str,
    returns_to: &'a str,
    request: String,
    name: String,
    sub: &'a str,
    scope: Vec<&'a str>,
}

/// Asks whether it is all right.
pub(crate) fn consent(
    provider: &Provider,
    request: &AuthorizeRequest<'_>,
    parameters: &Parameters,
    session: &Session,
) -> Response {
    let sub = session.sub.as_str();
    let name = provider.ledger.read(|state| state.user(sub).map(|user| user.display_name().to_owned()));
    page(
        StatusCode::OK,
        &Consent {
            base: provider.issuer.base_path(),
            client: &request.client.id,
            returns_to: request.redirect_uri,
            request: parameters.encoded(),
            name: name.unwrap_or_else(|| sub.to_owned()),
            sub,
            scope: request.scope.iter().map(|word| in_plain_words(word)).collect(),
        },
    )
}

fn in_plain_words(scope: &str) -> &str {
    match scope {
        "openid" => "know who you are",
        "profile" => "see your name and profile",
        "email" => "see your e-mail address",
        "address" => "see your postal address",
        "phone" => "see your telephone number",
        "offline_access" => "keep its access while you are away",
        other => other,
    }
}
