//! Who calls the token endpoint (RFC 6749 2.3).

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshgate_oidc::Secret;

use super::assertion;
use super::error::TokenError;
use crate::config::DevClient;
use crate::parameters::Parameters;
use crate::provider::Provider;

/// How a client proves itself.
enum Credentials {
    /// `client_secret_basic` or `client_secret_post`.
    Secret { id: String, secret: Secret },
    /// `private_key_jwt`.
    Assertion(Secret),
    /// `none`: a public client names itself.
    None { id: String },
}

/// The client that makes a request.
pub(crate) fn authenticate<'p>(
    provider: &'p Provider,
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<&'p DevClient, TokenError> {
    let (id, presented) = match credentials(headers, form)? {
        Credentials::Secret { id, secret } => (id, Some(secret)),
        Credentials::Assertion(assertion) => {
            return assertion::client_of(provider, assertion.expose(), form);
        }
        Credentials::None { id } => (id, None),
    };
    // Who has keys here proves itself with one of them.
    let client = provider.client(&id).filter(|client| client.jwks.is_none());
    client.filter(|client| client.secret == presented).ok_or(TokenError::Client)
}

fn credentials(headers: &HeaderMap, form: &Parameters) -> Result<Credentials, TokenError> {
    let in_form = form.get("client_id").map(str::to_owned);
    let secret_in_form = form.get("client_secret").map(Secret::new);
    if let Some(assertion) = form.get("client_assertion") {
        let alone = secret_in_form.is_none() && !headers.contains_key(header::AUTHORIZATION);
        return if alone {
            Ok(Credentials::Assertion(Secret::new(assertion)))
        } else {
            Err(TokenError::TwoAuthentications)
        };
    }
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        let id = in_form.ok_or(TokenError::Client)?;
        return Ok(match secret_in_form {
            Some(secret) => Credentials::Secret { id, secret },
            None => Credentials::None { id },
        });
    };
    if secret_in_form.is_some() {
        return Err(TokenError::TwoAuthentications);
    }
    let authorization = authorization.to_str().map_err(|_| TokenError::Client)?;
    let (id, secret) = basic(authorization).ok_or(TokenError::Client)?;
    if in_form.is_some_and(|in_form| in_form != id) {
        return Err(TokenError::TwoAuthentications);
    }
    Ok(Credentials::Secret { id, secret })
}

/// Id and secret, each form-encoded before they were joined (RFC 6749 2.3.1).
fn basic(authorization: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = Secret::new(String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?);
    let (id, secret) = decoded.expose().split_once(':')?;
    Some((form_decoded(id)?, Secret::new(form_decoded(secret)?)))
}

fn form_decoded(text: &str) -> Option<String> {
    // A name without `=` is decoded like any other; a `&` or `=` in it was not encoded as it had to be.
    if text.contains(['&', '=']) {
        return None;
    }
    url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map_or(Some(String::new()), |(name, _)| Some(name.into_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{Credentials, TokenError, credentials};
    use crate::parameters::Parameters;

    fn read(basic: Option<&str>, form: &str) -> Result<(String, Option<String>), TokenError> {
        let mut headers = HeaderMap::new();
        if let Some(basic) = basic {
            let value = format!("bAsIc {}", STANDARD.encode(basic));
            headers.insert(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap());
        }
        credentials(&headers, &Parameters::parse(form.as_bytes()).unwrap()).map(|credentials| {
            match credentials {
                Credentials::Secret { id, secret } => (id, Some(secret.expose().to_owned())),
                Credentials::Assertion(assertion) => (assertion.expose().to_owned(), None),
                Credentials::None { id } => (id, None),
            }
        })
    }

    #[test]
    fn one_way_at_a_time() {
        let secret = |id: &str, secret: &str| Ok((id.to_owned(), Some(secret.to_owned())));
        for (basic, form, expected) in [
            (Some("app:s3cret"), "", secret("app", "s3cret")),
            (Some("a%3Ap+p:p%25%2B"), "client_id=a:p p", secret("a:p p", "p%+")),
            (None, "client_id=app&client_secret=s3cret", secret("app", "s3cret")),
            (None, "client_id=app", Ok(("app".to_owned(), None))),
            (None, "client_assertion=a.b.c", Ok(("a.b.c".to_owned(), None))),
            (None, "client_assertion=a.b.c&client_secret=s3cret", Err(TokenError::TwoAuthentications)),
            (Some("app:s3cret"), "client_assertion=a.b.c", Err(TokenError::TwoAuthentications)),
            (Some("app:s3cret"), "client_secret=s3cret", Err(TokenError::TwoAuthentications)),
            (Some("app:s3cret"), "client_id=other", Err(TokenError::TwoAuthentications)),
            (Some("app"), "", Err(TokenError::Client)),
            (None, "", Err(TokenError::Client)),
        ] {
            assert_eq!(read(basic, form), expected, "{basic:?} {form}");
        }
    }
}
