//! The end-session endpoint (RP-Initiated Logout 2).

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::backchannel::{notices, tell};
use super::frontchannel::frames;
use crate::config::DevClient;
use crate::parameters::{Parameters, ParametersError};
use crate::provider::{Provider, SharedProvider};
use crate::{browser, pages};

/// What a relying party asks for.
pub(crate) struct EndSessionRequest<'a> {
    hint: Option<Hint>,
    return_to: Option<ReturnTo<'a>>,
}

/// Which session is meant, by an ID token of ours.
struct Hint {
    sub: String,
    sid: Option<String>,
}

struct ReturnTo<'a> {
    uri: &'a str,
    state: Option<&'a str>,
}

/// Why nobody is signed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndSessionError<'a> {
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    #[error("id_token_hint is not an ID token of this provider")]
    BadHint,
    #[error("client_id is not the client that id_token_hint was issued to")]
    AnotherClient,
    #[error("a post_logout_redirect_uri needs an id_token_hint or a client_id")]
    WhoseAddress,
    #[error("the request names no client that is registered here")]
    UnknownClient,
    #[error("the request's post_logout_redirect_uri is not registered for the client {:?}", client.id)]
    AddressNotRegistered { client: &'a DevClient },
}

/// GET `/end_session`.
pub(crate) async fn get(
    State(provider): State<SharedProvider>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    asked(&provider, &headers, Parameters::parse(query.unwrap_or_default().as_bytes())).await
}

/// POST `/end_session`: the same with the parameters in a form.
pub(crate) async fn post(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    asked(&provider, &headers, Parameters::from_form(&headers, &body)).await
}

/// POST `/end_session/confirm`: the answer from our own page. `request` holds the original parameters as a query.
pub(crate) async fn confirm(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !browser::posts_from_our_page(&provider, &headers) {
        return pages::not_from_our_page(&provider);
    }
    let read = || {
        let form = Parameters::from_form(&headers, &body)?;
        let parameters = Parameters::parse(form.get("request").unwrap_or_default().as_bytes())?;
        Ok((form, parameters))
    };
    let (form, parameters) = match read() {
        Ok(read) => read,
        Err(error) => return pages::cannot_end_session(&provider, &EndSessionError::Parameters(error)),
    };
    if form.get("decision") != Some("sign_out") {
        return pages::still_signed_in(&provider);
    }
    match EndSessionRequest::read(&provider, &parameters) {
        Ok(request) => end(&provider, &headers, &request).await,
        Err(error) => pages::cannot_end_session(&provider, &error),
    }
}

async fn asked(
    provider: &Provider,
    headers: &HeaderMap,
    parameters: Result<Parameters, ParametersError>,
) -> Response {
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(error) => return pages::cannot_end_session(provider, &error.into()),
    };
    let request = match EndSessionRequest::read(provider, &parameters) {
        Ok(request) => request,
        Err(error) => return pages::cannot_end_session(provider, &error),
    };
    match browser::session(provider, headers) {
        // Not what the relying party vouches for: any site could have sent the browser here.
        Some(session) if request.hint.as_ref().is_none_or(|hint| hint.sub != session.sub) => {
            pages::confirm_sign_out(provider, &parameters, &session)
        }
        _ => end(provider, headers, &request).await,
    }
}

/// Ends the browser's session and the one that the hint names, tells the clients, and sends the browser back.
async fn end(provider: &Provider, headers: &HeaderMap, request: &EndSessionRequest<'_>) -> Response {
    let here = browser::session(provider, headers).map(|session| session.sid);
    let hinted = request.hint.as_ref().and_then(|hint| hint.sid.clone());
    let (sessions, grants) = provider.ledger.change(|state| {
        let sids: Vec<String> = here.into_iter().chain(hinted).collect();
        let sessions: Vec<_> = sids.iter().filter_map(|sid| state.end_session(sid)).collect();
        (sessions, state.revoke_online_grants(&sids))
    });
    tracing::info!(sessions = sessions.len(), "signed out at the provider");
    tell(provider, notices(provider, &sessions, &grants)).await;
    let next = request.return_to.as_ref().map(location);
    let frames = frames(provider, &sessions);
    let mut response = match next {
        next if !frames.is_empty() => pages::signing_out(&frames, next.as_ref()),
        Some(next) => redirect(&next),
        None => pages::signed_out(provider),
    };
    browser::forget(provider, &mut response);
    response
}

/// RP-Initiated Logout 3.
fn location(return_to: &ReturnTo<'_>) -> Url {
    let mut location = Url::parse(return_to.uri).expect("a registered address is one");
    if let Some(state) = return_to.state {
        location.query_pairs_mut().append_pair("state", state);
    }
    location
}

fn redirect(location: &Url) -> Response {
    let headers = [(header::LOCATION, location.as_str()), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

impl<'a> EndSessionRequest<'a> {
    fn read(
        provider: &'a Provider,
        parameters: &'a Parameters,
    ) -> Result<EndSessionRequest<'a>, EndSessionError<'a>> {
        let mut client_id = parameters.get("client_id").map(str::to_owned);
        let hint = match parameters.get("id_token_hint") {
            None => None,
            Some(token) => {
                // Expired ones are welcome: a logout may come long after the login.
                let claims = provider.keyring.claims_of_own(token).ok_or(EndSessionError::BadHint)?;
                let (Some(sub), Some(audience)) = (claims["sub"].as_str(), claims["aud"].as_str()) else {
                    return Err(EndSessionError::BadHint);
                };
                if client_id.is_some_and(|id| id != audience) {
                    return Err(EndSessionError::AnotherClient);
                }
                client_id = Some(audience.to_owned());
                Some(Hint { sub: sub.to_owned(), sid: claims["sid"].as_str().map(str::to_owned) })
            }
        };
        let return_to = match parameters.get("post_logout_redirect_uri") {
            None => None,
            Some(wanted) => {
                let id = client_id.ok_or(EndSessionError::WhoseAddress)?;
                let client = provider.client(&id).ok_or(EndSessionError::UnknownClient)?;
                let registered = client.post_logout_redirect_uris.iter().find(|uri| *uri == wanted);
                let uri = registered.ok_or(EndSessionError::AddressNotRegistered { client })?;
                Some(ReturnTo { uri, state: parameters.get("state") })
            }
        };
        Ok(EndSessionRequest { hint, return_to })
    }
}
