//! Authorization requests that are left with the provider beforehand (RFC 9126): the browser carries a reference alone.

use serde_json::Value;
use url::Url;

use super::request::AuthorizationRequest;
use crate::{
    client_auth::ClientProof,
    json,
    secret::Secret,
    token::{TokenRefusal, refusal},
    token_request::TokenRequest,
};

/// More than this is no answer to a pushed request.
const MAX_BYTES: usize = 64 * 1024;
/// More than this is no reference: it travels in an address.
const MAX_REFERENCE_BYTES: usize = 2048;

/// The reference to a request that was left with the provider (`request_uri`). For one login, so it is moved into its
/// address.
#[derive(Debug)]
pub struct RequestUri(Secret);

/// What a provider answered to a pushed request, by what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum PushedAnswer {
    /// It keeps the request for a while.
    Accepted(RequestUri),
    /// It does not take this request, now or later (RFC 9126 section 2.3).
    Refused(TokenRefusal),
    /// It could not answer now.
    Unavailable {
        /// The HTTP status.
        status: u16,
    },
    /// It took the request, and its answer has no reference that could be used.
    Malformed,
}

impl AuthorizationRequest {
    /// The request that leaves this one with the provider (RFC 9126 section 2.1): the same parameters in a form, with our
    /// proof.
    pub fn to_pushed(&self, client: ClientProof) -> TokenRequest {
        let parameters = self.parameters.iter();
        TokenRequest::with_parameters(client, parameters.map(|(name, value)| (name.as_str(), value)))
    }

    /// Where to send the browser for a request that was left with the provider (RFC 9126 section 4). Good for one login;
    /// it belongs in a `Location` header, not in a log.
    pub fn to_pushed_url(self, request_uri: RequestUri) -> Url {
        let client_id = self.parameters.into_iter().filter(|(name, _)| name == "client_id");
        let parameters = client_id.chain([("request_uri".to_owned(), request_uri.0)]).collect();
        Self { endpoint: self.endpoint, parameters }.to_url()
    }
}

/// Reads what a provider answered to a pushed request. Never fails: whatever it answered is one of the outcomes.
pub fn parse_pushed_answer(status: u16, body: &[u8]) -> PushedAnswer {
    match status {
        200..=299 => match reference(body) {
            Some(reference) => PushedAnswer::Accepted(RequestUri(reference)),
            None => PushedAnswer::Malformed,
        },
        _ => refusal(status, body).map_or(PushedAnswer::Unavailable { status }, PushedAnswer::Refused),
    }
}

/// RFC 9126 section 2.2: a `request_uri`. Its lifetime does not matter to a browser that is sent there at once.
fn reference(body: &[u8]) -> Option<Secret> {
    if body.len() > MAX_BYTES {
        return None;
    }
    let mut members = json::object_without_duplicates(body)?;
    let Value::String(reference) = members.remove("request_uri")? else { return None };
    let fits = (1..=MAX_REFERENCE_BYTES).contains(&reference.len())
        && reference.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| Secret::new(reference))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use url::form_urlencoded;

    use super::*;
    use crate::{
        authorization::{AuthorizationParameters, Pkce},
        client_auth::{ClientAuthMethod, ClientAuthentication, ClientCredential, ProofContext},
        test_provider::metadata,
        time::Timestamp,
        token::RefusalKind,
    };

    fn request() -> AuthorizationRequest {
        let besides = AuthorizationParameters::of([("login_hint", "a&b")]).unwrap();
        AuthorizationRequest::new(
            &metadata(),
            "client",
            &Url::parse("https://app.example/oauth2callback").unwrap(),
            &["email".to_owned()],
            &Secret::new("the state"),
            &Secret::new("the nonce"),
            &Pkce::from_verifier(Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")),
        )
        .with_parameters(&besides)
    }

    fn proof(method: ClientAuthMethod) -> ClientProof {
        let credential = match method {
            ClientAuthMethod::None => ClientCredential::Public,
            _ => ClientCredential::Secret(Secret::new("s3cret")),
        };
        let client = ClientAuthentication::by(method, "client", &credential, &metadata()).unwrap();
        client.prove(&ProofContext {
            audience: "https://idp.example",
            now: Timestamp::from_unix_seconds(0),
            id: &Secret::new("once"),
        })
    }

    #[test]
    fn the_form_holds_what_the_address_would_and_the_proof() {
        for (method, proof_parameters) in [
            (ClientAuthMethod::ClientSecretBasic, &[][..]),
            (ClientAuthMethod::ClientSecretPost, &["client_secret"]),
            (ClientAuthMethod::None, &[]),
        ] {
            let pushed = request().to_pushed(proof(method));
            let sent: Vec<(String, String)> =
                form_urlencoded::parse(pushed.body.expose().as_bytes()).into_owned().collect();
            let form: BTreeMap<_, _> = sent.iter().cloned().collect();
            assert_eq!(form.len(), sent.len(), "{method}: a parameter is there twice");
            let url = request().to_url();
            let mut expected: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
            expected.extend(proof_parameters.iter().map(|name| ((*name).to_owned(), "s3cret".to_owned())));
            assert_eq!(form, expected, "{method}");
            let basic = pushed.headers.iter().any(|(name, _)| *name == "authorization");
            assert_eq!(basic, method == ClientAuthMethod::ClientSecretBasic);
            assert!(!format!("{pushed:?}").contains("the nonce"));
        }
    }

    #[test]
    fn the_address_holds_a_reference_and_nothing_that_was_pushed() {
        let PushedAnswer::Accepted(reference) =
            parse_pushed_answer(201, br#"{"request_uri":"urn:example:a&b","expires_in":60}"#)
        else {
            panic!("it is accepted");
        };
        assert!(!format!("{reference:?}").contains("urn:"));
        let mut request = request();
        request.endpoint = Url::parse("https://idp.example/authorize?policy=a&state=evil").unwrap();
        let url = request.to_pushed_url(reference);
        let mut pairs: Vec<_> = url.query_pairs().into_owned().collect();
        pairs.sort();
        let expected =
            [("client_id", "client"), ("policy", "a"), ("request_uri", "urn:example:a&b"), ("state", "evil")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_a_provider_answers() {
        let accepted = |status, body: &str| match parse_pushed_answer(status, body.as_bytes()) {
            PushedAnswer::Accepted(RequestUri(reference)) => Some(reference.expose().to_owned()),
            PushedAnswer::Malformed => None,
            other => panic!("{other:?}"),
        };
        let long = format!(r#"{{"request_uri":"urn:{}"}}"#, "x".repeat(MAX_REFERENCE_BYTES));
        for (status, body, reference) in [
            (201, r#"{"request_uri":"urn:x","expires_in":60}"#, Some("urn:x")),
            (
                200,
                r#"{"request_uri":"https://idp.example/r?1","unknown":[]}"#,
                Some("https://idp.example/r?1"),
            ),
            (201, r#"{"expires_in":60}"#, None),
            (201, r#"{"request_uri":"","expires_in":60}"#, None),
            (201, r#"{"request_uri":5}"#, None),
            (201, r#"{"request_uri":"urn:x y"}"#, None),
            (201, r#"{"request_uri":"urn:\u00e9"}"#, None),
            (201, r#"{"request_uri":"urn:a","request_uri":"urn:b"}"#, None),
            (201, &long, None),
            (201, "<html>", None),
            (201, "", None),
            (201, &" ".repeat(MAX_BYTES + 1), None),
        ] {
            assert_eq!(accepted(status, body).as_deref(), reference, "{}", &body[..body.len().min(60)]);
        }
        for (status, body, refused) in [
            (400, r#"{"error":"invalid_request"}"#, Some((Some("invalid_request"), RefusalKind::Other))),
            (
                401,
                r#"{"error":"invalid_client"}"#,
                Some((Some("invalid_client"), RefusalKind::InvalidClient)),
            ),
            (403, "", Some((None, RefusalKind::Other))),
            (405, "<html>", Some((None, RefusalKind::Other))),
            (413, "", Some((None, RefusalKind::Other))),
            (429, "", None),
            (400, r#"{"error":"temporarily_unavailable"}"#, None),
            (302, "", None),
            (500, r#"{"error":"server_error"}"#, None),
            (503, "", None),
        ] {
            let found = match parse_pushed_answer(status, body.as_bytes()) {
                PushedAnswer::Refused(refusal) => Some((refusal.code, refusal.kind)),
                PushedAnswer::Unavailable { status: found } if found == status => None,
                other => panic!("{other:?}"),
            };
            let refused = refused.map(|(code, kind)| (code.map(str::to_owned), kind));
            assert_eq!(found, refused, "{status} {body}");
        }
    }
}
