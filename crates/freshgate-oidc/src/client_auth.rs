//! How we prove who we are at the token endpoint (RFC 6749 section 2.3, OpenID Connect Core section 9).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::form_urlencoded;

use crate::{discovery::ProviderMetadata, secret::Secret};

/// A method of proving who we are. One is used in a request, never two (RFC 6749 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthMethod {
    /// The secret in an `Authorization` header.
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// No proof: a public client, of which PKCE shows that it is the one that asked.
    None,
}

impl ClientAuthMethod {
    const ALL: [Self; 3] = [Self::ClientSecretBasic, Self::ClientSecretPost, Self::None];

    /// Its name in metadata and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::None => "none",
        }
    }

    /// The method of this name, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl fmt::Display for ClientAuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What we can prove ourselves with.
#[derive(Clone, Debug)]
pub enum ClientSecret {
    /// A secret shared with the provider.
    Shared(Secret),
    /// Nothing: we are a public client.
    Public,
}

/// Our id, and how we prove that it is ours.
#[derive(Clone, Debug)]
pub struct ClientAuthentication {
    client_id: String,
    proof: Proof,
}

/// What goes into a request. A signed assertion (`private_key_jwt`) would be one more of these: like the post method it
/// adds to the form, and [`ClientAuthentication::apply`] would take the time and an id for it.
#[derive(Clone, Debug)]
enum Proof {
    Basic(Secret),
    Post(Secret),
    None,
}

/// The provider accepts no method that we have.
#[derive(Debug, thiserror::Error)]
#[error("the provider takes none of our methods of client authentication, it lists: {}", .listed.join(", "))]
pub struct NoUsableClientAuthentication {
    /// Those that it lists.
    pub listed: Vec<String>,
}

impl ClientAuthentication {
    /// Authenticates by this method, whatever the provider lists. `None` if the method and the secret do not go together.
    pub fn by(method: ClientAuthMethod, client_id: impl Into<String>, secret: ClientSecret) -> Option<Self> {
        let proof = match (method, secret) {
            (ClientAuthMethod::ClientSecretBasic, ClientSecret::Shared(secret)) => Proof::Basic(secret),
            (ClientAuthMethod::ClientSecretPost, ClientSecret::Shared(secret)) => Proof::Post(secret),
            (ClientAuthMethod::None, ClientSecret::Public) => Proof::None,
            _ => return None,
        };
        Some(Self { client_id: client_id.into(), proof })
    }

    /// Authenticates by a method that the provider lists: with a secret `client_secret_basic`, which is also what a
    /// provider takes that lists nothing (Discovery section 3), else `client_secret_post`. Without a secret there is
    /// nothing to choose; providers often leave `none` out of the list.
    pub fn choose(
        client_id: impl Into<String>,
        secret: ClientSecret,
        metadata: &ProviderMetadata,
    ) -> Result<Self, NoUsableClientAuthentication> {
        let listed = metadata.token_endpoint_auth_methods_supported.as_deref();
        let takes =
            |method: ClientAuthMethod| listed.is_some_and(|all| all.iter().any(|one| one == method.name()));
        let proof = match secret {
            ClientSecret::Public => Proof::None,
            ClientSecret::Shared(secret)
                if listed.is_none() || takes(ClientAuthMethod::ClientSecretBasic) =>
            {
                Proof::Basic(secret)
            }
            ClientSecret::Shared(secret) if takes(ClientAuthMethod::ClientSecretPost) => Proof::Post(secret),
            ClientSecret::Shared(_) => {
                let listed = listed.unwrap_or_default();
                let listed = listed.iter().take(20).map(|name| crate::operator_text::one_line(name, 60));
                return Err(NoUsableClientAuthentication { listed: listed.collect() });
            }
        };
        Ok(Self { client_id: client_id.into(), proof })
    }

    /// Our id at the provider.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The method in use.
    pub fn method(&self) -> ClientAuthMethod {
        match self.proof {
            Proof::Basic(_) => ClientAuthMethod::ClientSecretBasic,
            Proof::Post(_) => ClientAuthMethod::ClientSecretPost,
            Proof::None => ClientAuthMethod::None,
        }
    }

    /// Adds the proof to a request.
    pub(crate) fn apply(
        &self,
        headers: &mut Vec<(&'static str, Secret)>,
        form: &mut Vec<(&'static str, Secret)>,
    ) {
        match &self.proof {
            Proof::Basic(secret) => headers.push(("authorization", basic(&self.client_id, secret))),
            Proof::Post(secret) => {
                form.push(("client_id", Secret::new(self.client_id.as_str())));
                form.push(("client_secret", secret.clone()));
            }
            Proof::None => form.push(("client_id", Secret::new(self.client_id.as_str()))),
        }
    }
}

/// RFC 6749 section 2.3.1: both are form-encoded first, so a colon in one does not end it.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encoded(client_id), encoded(secret.expose())));
    Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{ExpectedIssuer, Issuer};

    fn metadata(methods: Option<&[&str]>) -> ProviderMetadata {
        let document = serde_json::json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": "https://idp.example/authorize",
            "token_endpoint": "https://idp.example/token",
            "jwks_uri": "https://idp.example/jwks",
            "token_endpoint_auth_methods_supported": methods,
        });
        let expected = ExpectedIssuer::Exactly(Issuer::new("https://idp.example"));
        ProviderMetadata::parse(document.to_string().as_bytes(), &expected).unwrap()
    }

    fn shared() -> ClientSecret {
        ClientSecret::Shared(Secret::new("p: +ä"))
    }

    #[test]
    fn which_method_is_chosen() {
        use ClientAuthMethod::{ClientSecretBasic, ClientSecretPost, None as Nothing};
        for (methods, secret, method) in [
            (None, shared(), Some(ClientSecretBasic)),
            (Some(&["client_secret_basic", "client_secret_post"][..]), shared(), Some(ClientSecretBasic)),
            (Some(&["client_secret_post", "client_secret_basic"]), shared(), Some(ClientSecretBasic)),
            (Some(&["private_key_jwt", "client_secret_post"]), shared(), Some(ClientSecretPost)),
            (Some(&["private_key_jwt", "tls_client_auth"]), shared(), None),
            (Some(&[]), shared(), None),
            (None, ClientSecret::Public, Some(Nothing)),
            (Some(&["client_secret_basic"]), ClientSecret::Public, Some(Nothing)),
        ] {
            let chosen = ClientAuthentication::choose("client", secret, &metadata(methods));
            assert_eq!(chosen.as_ref().map(ClientAuthentication::method).ok(), method, "{methods:?}");
        }
        let error = ClientAuthentication::choose("client", shared(), &metadata(Some(&["private_key_jwt"])));
        assert!(error.unwrap_err().to_string().ends_with("it lists: private_key_jwt"));
    }

    #[test]
    fn a_method_and_a_secret_go_together_or_not() {
        for method in ClientAuthMethod::ALL {
            let public = method == ClientAuthMethod::None;
            assert_eq!(ClientAuthentication::by(method, "client", ClientSecret::Public).is_some(), public);
            assert_eq!(ClientAuthentication::by(method, "client", shared()).is_some(), !public);
            assert_eq!(ClientAuthMethod::from_name(method.name()), Some(method));
        }
        assert_eq!(ClientAuthMethod::from_name("private_key_jwt"), None);
    }

    #[test]
    fn one_proof_is_sent() {
        for (method, secret, headers, form) in [
            (
                ClientAuthMethod::ClientSecretBasic,
                shared(),
                // base64 of `a%3Ab:p%3A+%2B%C3%A4`
                vec![("authorization", "Basic YSUzQWI6cCUzQSslMkIlQzMlQTQ=")],
                vec![],
            ),
            (
                ClientAuthMethod::ClientSecretPost,
                shared(),
                vec![],
                vec![("client_id", "a:b"), ("client_secret", "p: +ä")],
            ),
            (ClientAuthMethod::None, ClientSecret::Public, vec![], vec![("client_id", "a:b")]),
        ] {
            let (mut found_headers, mut found_form) = (vec![], vec![]);
            let client = ClientAuthentication::by(method, "a:b", secret).unwrap();
            client.apply(&mut found_headers, &mut found_form);
            let exposed = |pairs: &[(&'static str, Secret)]| {
                pairs.iter().map(|(name, value)| (*name, value.expose().to_owned())).collect::<Vec<_>>()
            };
            let owned = |pairs: Vec<(&'static str, &str)>| {
                pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>()
            };
            assert_eq!(exposed(&found_headers), owned(headers), "{method}");
            assert_eq!(exposed(&found_form), owned(form), "{method}");
            assert!(!format!("{client:?}").contains("p: +"), "{method}");
        }
    }
}
