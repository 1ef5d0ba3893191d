//! What a relying party asks for at the authorization endpoint (Core 3.1.2.1).

use std::time::Duration;

use crate::config::{DevClient, PushedRequests};
use crate::parameters::{Parameters, ParametersError};
use crate::provider::Provider;
use crate::token::Thumbprint;

/// The parameters of an authorization request that are not read yet, and how they came.
pub(crate) struct Asked {
    pub(crate) parameters: Parameters,
    pub(crate) way: Way,
}

/// How a client's request reaches us.
pub(crate) enum Way {
    /// With the browser.
    WithTheBrowser,
    /// From the client itself: it is being left here.
    ToBePushed,
    /// It was left here, under this name.
    Pushed(String),
}

impl Asked {
    /// What a browser asks for: what it brings, or what was left here under the name that it brings. Of the rest that it
    /// brings then nothing counts (RFC 9126 4, RFC 9101 5).
    pub(crate) fn by_browser(provider: &Provider, brought: &Parameters) -> Result<Asked, Refused<'static>> {
        let Some(reference) = brought.get("request_uri") else {
            return Ok(Asked { parameters: brought.clone(), way: Way::WithTheBrowser });
        };
        let unknown = || Refused::Page(Unanswerable::UnknownRequestUri);
        let client_id = brought.get("client_id").ok_or_else(unknown)?;
        let now = provider.now();
        let kept = provider
            .ledger
            .read(|state| state.kept_request(reference, client_id, now).map(str::to_owned))
            .ok_or_else(unknown)?;
        let parameters = Parameters::parse(kept.as_bytes())?;
        Ok(Asked { parameters, way: Way::Pushed(reference.to_owned()) })
    }
}

/// A request that may be answered: the client is known, the redirect URI is its own, all the rest is as it must be.
pub(crate) struct AuthorizeRequest<'a> {
    pub(crate) client: &'a DevClient,
    pub(crate) redirect_uri: &'a str,
    pub(crate) state: Option<&'a str>,
    /// The name under which it was left here.
    pub(crate) pushed: Option<&'a str>,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) code_challenge: &'a str,
    /// The key that the code is to be bound to (RFC 9449 10).
    pub(crate) dpop_jkt: Option<Thumbprint>,
    pub(crate) scope: Vec<String>,
    pub(crate) prompt: Prompt,
    pub(crate) max_age: Option<Duration>,
    pub(crate) login_hint: Option<&'a str>,
    /// Whom the relying party expects, by the ID token it sent along.
    pub(crate) expected_sub: Option<String>,
}

/// What `prompt` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// Show no page at all.
    pub(crate) none: bool,
    /// Have the user sign in even if signed in: `login` or `select_account`.
    pub(crate) sign_in: bool,
    /// Ask for consent.
    pub(crate) consent: bool,
}

/// Why a request is not answered with a code.
pub(crate) enum Refused<'a> {
    /// Nobody can be told but the person in front of the browser (RFC 6749 4.1.2.1).
    Page(Unanswerable<'a>),
    /// The relying party is told.
    Redirect { to: ReturnAddress<'a>, error: &'static str, description: &'static str },
}

/// A request that must not be answered by a redirect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswerable<'a> {
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    #[error("the request names no client that is registered here")]
    UnknownClient,
    #[error("the request's request_uri is unknown, has expired or was used before")]
    UnknownRequestUri,
    #[error("the request's redirect_uri is not registered for the client {:?}", client.id)]
    RedirectUriNotRegistered { client: &'a DevClient },
}

/// Where an answer goes.
#[derive(Clone, Copy)]
pub(crate) struct ReturnAddress<'a> {
    pub(crate) redirect_uri: &'a str,
    pub(crate) state: Option<&'a str>,
    /// The name under which the request was left here: it is good for one answer.
    pub(crate) pushed: Option<&'a str>,
}

impl<'a> AuthorizeRequest<'a> {
    /// Reads a request, in the order that decides who may be told what is wrong with it.
    pub(crate) fn read(
        provider: &'a Provider,
        asked: &'a Asked,
    ) -> Result<AuthorizeRequest<'a>, Refused<'a>> {
        let Asked { parameters, way } = asked;
        let pushed = match way {
            Way::Pushed(reference) => Some(reference.as_str()),
            Way::WithTheBrowser | Way::ToBePushed => None,
        };
        let client = parameters.get("client_id").and_then(|id| provider.client(id));
        let client = client.ok_or(Refused::Page(Unanswerable::UnknownClient))?;
        let redirect_uri = parameters
            .get("redirect_uri")
            .filter(|uri| client.redirect_uris.iter().any(|registered| registered == uri))
            .ok_or(Refused::Page(Unanswerable::RedirectUriNotRegistered { client }))?;

        let state = parameters.get("state");
        let refuse = |error, description| Refused::Redirect {
            to: ReturnAddress { redirect_uri, state, pushed },
            error,
            description,
        };
        let invalid = |description| refuse("invalid_request", description);

        let must_be_pushed = provider.config.pushed_requests == PushedRequests::Required;
        if must_be_pushed && matches!(way, Way::WithTheBrowser) {
            return Err(invalid("requests must be pushed"));
        }
        if parameters.get("request").is_some() {
            return Err(refuse("request_not_supported", "request objects are not supported"));
        }
        match parameters.get("response_type") {
            Some("code") => {}
            Some(_) => return Err(refuse("unsupported_response_type", "response_type must be code")),
            None => return Err(invalid("response_type is missing")),
        }
        if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(invalid("response_mode must be query"));
        }
        let scope: Vec<String> = parameters.words("scope").map(str::to_owned).collect();
        if !scope.iter().any(|word| word == "openid") {
            return Err(refuse("invalid_scope", "scope must contain openid"));
        }
        let code_challenge = match (parameters.get("code_challenge_method"), parameters.get("code_challenge"))
        {
            (Some("S256"), Some(challenge)) if is_s256_challenge(challenge) => challenge,
            (_, None) => return Err(invalid("code_challenge is missing")),
            (Some("S256"), Some(_)) => {
                return Err(invalid("code_challenge is not a SHA-256 hash in base64url"));
            }
            _ => return Err(invalid("code_challenge_method must be S256")),
        };
        let dpop_jkt = match parameters.get("dpop_jkt").map(Thumbprint::parse) {
            None => None,
            Some(Some(key)) => Some(key),
            Some(None) => return Err(invalid("dpop_jkt is not a SHA-256 thumbprint")),
        };
        let prompt = Prompt::read(parameters).map_err(invalid)?;
        let max_age = match parameters.get("max_age").map(str::parse) {
            None => None,
            Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
            Some(Err(_)) => return Err(invalid("max_age must be a number of seconds")),
        };
        let expected_sub = match parameters.get("id_token_hint") {
            None => None,
            Some(hint) => {
                let claims = provider.keyring.claims_of_own(hint);
                let sub = claims.as_ref().and_then(|claims| claims["sub"].as_str());
                Some(sub.ok_or(invalid("id_token_hint is not an ID token of this provider"))?.to_owned())
            }
        };
        Ok(AuthorizeRequest {
            client,
            redirect_uri,
            state,
            pushed,
            nonce: parameters.get("nonce"),
            code_challenge,
            dpop_jkt,
            scope,
            prompt,
            max_age,
            login_hint: parameters.get("login_hint"),
            expected_sub,
        })
    }

    pub(crate) fn return_address(&self) -> ReturnAddress<'a> {
        ReturnAddress { redirect_uri: self.redirect_uri, state: self.state, pushed: self.pushed }
    }
}

impl Prompt {
    fn read(parameters: &Parameters) -> Result<Prompt, &'static str> {
        let mut prompt = Prompt::default();
        for word in parameters.words("prompt") {
            match word {
                "none" => prompt.none = true,
                "login" | "select_account" => prompt.sign_in = true,
                "consent" => prompt.consent = true,
                _ => return Err("prompt may hold none, login, select_account and consent"),
            }
        }
        if prompt.none && (prompt.sign_in || prompt.consent) {
            return Err("prompt=none cannot be combined");
        }
        Ok(prompt)
    }
}

/// 32 bytes in base64url (RFC 7636 4.2).
fn is_s256_challenge(text: &str) -> bool {
    crate::random::from_base64url(text).is_some_and(|bytes| bytes.len() == 32)
}

impl<'a> From<ParametersError> for Refused<'a> {
    fn from(error: ParametersError) -> Refused<'a> {
        Refused::Page(Unanswerable::Parameters(error))
    }
}
