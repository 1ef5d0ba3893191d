//! What is sent to the token endpoint and the revocation endpoint.

use url::{Url, form_urlencoded};

use crate::{client_auth::ClientAuthentication, secret::Secret};

/// A request to POST: its headers and its body.
#[derive(Debug)]
pub struct TokenRequest {
    /// The headers, names in lower case. `Accept` and `Content-Type` are among them.
    pub headers: Vec<(&'static str, Secret)>,
    /// The form, encoded.
    pub body: Secret,
}

impl TokenRequest {
    /// Exchanges an authorization code (Core section 3.1.3.1, RFC 7636 section 4.5). `redirect_uri` is the one of the
    /// authorization request.
    pub fn authorization_code(
        client: &ClientAuthentication,
        code: &Secret,
        redirect_uri: &Url,
        verifier: &Secret,
    ) -> Self {
        Self::new(
            client,
            vec![
                ("grant_type", Secret::new("authorization_code")),
                ("code", code.clone()),
                ("redirect_uri", Secret::new(redirect_uri.as_str())),
                ("code_verifier", verifier.clone()),
            ],
        )
    }

    /// Refreshes (Core section 12.1). No scope is sent, which asks for the same as before (RFC 6749 section 6).
    pub fn refresh_token(client: &ClientAuthentication, refresh_token: &Secret) -> Self {
        Self::new(
            client,
            vec![("grant_type", Secret::new("refresh_token")), ("refresh_token", refresh_token.clone())],
        )
    }

    /// Revokes a refresh token, and with it what was issued on it (RFC 7009 section 2.1).
    pub fn revoke_refresh_token(client: &ClientAuthentication, refresh_token: &Secret) -> Self {
        Self::new(
            client,
            vec![("token", refresh_token.clone()), ("token_type_hint", Secret::new("refresh_token"))],
        )
    }

    /// Revokes an access token (RFC 7009 section 2.1).
    pub fn revoke_access_token(client: &ClientAuthentication, access_token: &Secret) -> Self {
        Self::new(
            client,
            vec![("token", access_token.clone()), ("token_type_hint", Secret::new("access_token"))],
        )
    }

    fn new(client: &ClientAuthentication, mut form: Vec<(&'static str, Secret)>) -> Self {
        let mut headers = vec![
            ("accept", Secret::new("application/json")),
            ("content-type", Secret::new("application/x-www-form-urlencoded")),
        ];
        client.apply(&mut headers, &mut form);
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &form {
            body.append_pair(name, value.expose());
        }
        Self { headers, body: Secret::new(body.finish()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_auth::{ClientAuthMethod, ClientSecret};

    fn client(method: ClientAuthMethod) -> ClientAuthentication {
        let secret = match method {
            ClientAuthMethod::None => ClientSecret::Public,
            _ => ClientSecret::Shared(Secret::new("p&w")),
        };
        ClientAuthentication::by(method, "client", secret).unwrap()
    }

    #[test]
    fn bodies() {
        let redirect_uri = Url::parse("https://app.example/oauth2callback").unwrap();
        let token = Secret::new("t/+= &");
        let basic = client(ClientAuthMethod::ClientSecretBasic);
        for (request, body) in [
            (
                TokenRequest::authorization_code(
                    &basic,
                    &Secret::new("c&c"),
                    &redirect_uri,
                    &Secret::new("v~v"),
                ),
                "grant_type=authorization_code&code=c%26c\
                 &redirect_uri=https%3A%2F%2Fapp.example%2Foauth2callback&code_verifier=v%7Ev",
            ),
            (
                TokenRequest::refresh_token(&basic, &token),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26",
            ),
            (
                TokenRequest::refresh_token(&client(ClientAuthMethod::ClientSecretPost), &token),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26&client_id=client&client_secret=p%26w",
            ),
            (
                TokenRequest::refresh_token(&client(ClientAuthMethod::None), &token),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26&client_id=client",
            ),
            (
                TokenRequest::revoke_refresh_token(&basic, &token),
                "token=t%2F%2B%3D+%26&token_type_hint=refresh_token",
            ),
            (
                TokenRequest::revoke_access_token(&basic, &token),
                "token=t%2F%2B%3D+%26&token_type_hint=access_token",
            ),
        ] {
            assert_eq!(request.body.expose(), body);
            let shown = format!("{request:?}");
            assert!(
                !shown.contains("t%2F") && !shown.contains("c%26c") && !shown.contains("Basic "),
                "{shown}"
            );
        }
    }

    #[test]
    fn headers() {
        let names = |method| {
            let request = TokenRequest::refresh_token(&client(method), &Secret::new("t"));
            request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        assert_eq!(names(ClientAuthMethod::ClientSecretBasic), ["accept", "content-type", "authorization"]);
        assert_eq!(names(ClientAuthMethod::ClientSecretPost), ["accept", "content-type"]);
        assert_eq!(names(ClientAuthMethod::None), ["accept", "content-type"]);
    }
}
