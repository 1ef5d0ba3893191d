//! What is sent to the token endpoint, the revocation endpoint and the endpoint for pushed authorization requests.

use url::{Url, form_urlencoded};

use crate::{authorization::ResourceIndicator, client_auth::ClientProof, secret::Secret};

/// A request to POST: its headers and its body.
#[derive(Debug)]
pub struct TokenRequest {
    /// The headers, names in lower case. `Accept` and `Content-Type` are among them.
    pub headers: Vec<(&'static str, Secret)>,
    /// The form, encoded.
    pub body: Secret,
}

impl TokenRequest {
    /// Exchanges an authorization code (Core section 3.1.3.1, RFC 7636 section 4.5). `redirect_uri` and `resources` are
    /// those of the authorization request (RFC 8707 section 2.2).
    pub fn authorization_code(
        client: ClientProof,
        code: &Secret,
        redirect_uri: &Url,
        verifier: &Secret,
        resources: &[ResourceIndicator],
    ) -> Self {
        let form = vec![
            ("grant_type", Secret::new("authorization_code")),
            ("code", code.clone()),
            ("redirect_uri", Secret::new(redirect_uri.as_str())),
            ("code_verifier", verifier.clone()),
        ];
        Self::new(client, form.into_iter().chain(resource(resources)).collect())
    }

    /// Refreshes (Core section 12.1). No scope is sent, which asks for the same as before (RFC 6749 section 6); for an
    /// access token to be used where the last one was, the resources are (RFC 8707 section 2.2).
    pub fn refresh_token(
        client: ClientProof,
        refresh_token: &Secret,
        resources: &[ResourceIndicator],
    ) -> Self {
        let form =
            vec![("grant_type", Secret::new("refresh_token")), ("refresh_token", refresh_token.clone())];
        Self::new(client, form.into_iter().chain(resource(resources)).collect())
    }

    /// Revokes a refresh token, and with it what was issued on it (RFC 7009 section 2.1).
    pub fn revoke_refresh_token(client: ClientProof, refresh_token: &Secret) -> Self {
        Self::new(
            client,
            vec![("token", refresh_token.clone()), ("token_type_hint", Secret::new("refresh_token"))],
        )
    }

    fn new(client: ClientProof, form: Vec<(&'static str, Secret)>) -> Self {
        Self::with_parameters(client, form.iter().map(|(name, value)| (*name, value)))
    }

    /// A request with these parameters and our proof. What the proof says besides, such as `client_id`, is said once.
    pub(crate) fn with_parameters<'a>(
        client: ClientProof,
        parameters: impl Iterator<Item = (&'a str, &'a Secret)>,
    ) -> Self {
        let mut headers = vec![
            ("accept", Secret::new("application/json")),
            ("content-type", Secret::new("application/x-www-form-urlencoded")),
        ];
        let mut proof = Vec::new();
        client.apply(&mut headers, &mut proof);
        let of_the_proof = |name: &str| proof.iter().any(|(other, _)| *other == name);
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in parameters.filter(|(name, _)| !of_the_proof(name)) {
            body.append_pair(name, value.expose());
        }
        for (name, value) in &proof {
            body.append_pair(name, value.expose());
        }
        Self { headers, body: Secret::new(body.finish()) }
    }
}

/// Each resource is a parameter of its own (RFC 8707 section 2).
fn resource(resources: &[ResourceIndicator]) -> impl Iterator<Item = (&'static str, Secret)> {
    resources.iter().map(|resource| ("resource", Secret::new(resource.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client_auth::{ClientAuthMethod, ClientAuthentication, ClientCredential, ProofContext},
        test_provider::metadata,
        time::Timestamp,
    };

    fn client(method: ClientAuthMethod) -> ClientProof {
        let credential = match method {
            ClientAuthMethod::None => ClientCredential::Public,
            _ => ClientCredential::Secret(Secret::new("p&w")),
        };
        let client = ClientAuthentication::by(method, "client", &credential, &metadata()).unwrap();
        client.prove(&ProofContext {
            audience: "https://idp.example",
            now: Timestamp::from_unix_seconds(0),
            id: &Secret::new("once"),
        })
    }

    #[test]
    fn rfc_6749_4_1_3_and_6_bodies() {
        let redirect_uri = Url::parse("https://app.example/oauth2callback").unwrap();
        let token = Secret::new("t/+= &");
        let basic = || client(ClientAuthMethod::ClientSecretBasic);
        for (request, body) in [
            (
                TokenRequest::authorization_code(
                    basic(),
                    &Secret::new("c&c"),
                    &redirect_uri,
                    &Secret::new("v~v"),
                    &[],
                ),
                "grant_type=authorization_code&code=c%26c\
                 &redirect_uri=https%3A%2F%2Fapp.example%2Foauth2callback&code_verifier=v%7Ev",
            ),
            (
                TokenRequest::refresh_token(basic(), &token, &[]),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26",
            ),
            (
                TokenRequest::refresh_token(client(ClientAuthMethod::ClientSecretPost), &token, &[]),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26&client_id=client&client_secret=p%26w",
            ),
            (
                TokenRequest::refresh_token(client(ClientAuthMethod::None), &token, &[]),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26&client_id=client",
            ),
            (
                TokenRequest::refresh_token(
                    basic(),
                    &token,
                    &["https://a.example/?x=1", "urn:b"].map(|uri| ResourceIndicator::parse(uri).unwrap()),
                ),
                "grant_type=refresh_token&refresh_token=t%2F%2B%3D+%26\
                 &resource=https%3A%2F%2Fa.example%2F%3Fx%3D1&resource=urn%3Ab",
            ),
            (
                TokenRequest::revoke_refresh_token(basic(), &token),
                "token=t%2F%2B%3D+%26&token_type_hint=refresh_token",
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
    fn rfc_6749_2_3_1_headers() {
        let names = |method| {
            let request = TokenRequest::refresh_token(client(method), &Secret::new("t"), &[]);
            request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        assert_eq!(names(ClientAuthMethod::ClientSecretBasic), ["accept", "content-type", "authorization"]);
        assert_eq!(names(ClientAuthMethod::ClientSecretPost), ["accept", "content-type"]);
        assert_eq!(names(ClientAuthMethod::None), ["accept", "content-type"]);
    }
}
