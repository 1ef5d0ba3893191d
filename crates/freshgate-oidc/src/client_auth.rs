//! How we prove who we are at the token endpoint (RFC 6749 section 2.3, OpenID Connect Core section 9).

mod assertion;
mod key;

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::form_urlencoded;

pub use key::{ClientKey, ClientKeyError};

use crate::{
    discovery::ProviderMetadata, jws::SigningAlgorithm, operator_text::one_line, secret::Secret,
    time::Timestamp,
};

/// A method of proving who we are. One is used in a request, never two (RFC 6749 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthMethod {
    /// The secret in an `Authorization` header.
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// A token signed with a key of which the provider has the public part (RFC 7523).
    PrivateKeyJwt,
    /// No proof: a public client, of which PKCE shows that it is the one that asked.
    None,
}

impl ClientAuthMethod {
    const ALL: [Self; 4] = [Self::ClientSecretBasic, Self::ClientSecretPost, Self::PrivateKeyJwt, Self::None];

    /// Its name in metadata and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::None => "none",
        }
    }

    /// What it proves with.
    fn needs(self) -> &'static str {
        match self {
            Self::ClientSecretBasic | Self::ClientSecretPost => "a client secret",
            Self::PrivateKeyJwt => "a private key",
            Self::None => "that there is neither secret nor key",
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCredential {
    /// A secret shared with the provider.
    Secret(Secret),
    /// A private key of which the provider has the public part.
    Key(ClientKey),
    /// Nothing: we are a public client.
    Public,
}

/// Our id, and how we prove that it is ours. [`prove`](Self::prove) makes a proof for each request.
#[derive(Clone, Debug)]
pub struct ClientAuthentication {
    client_id: String,
    method: Method,
}

/// A method, and what it needs.
#[derive(Clone, Debug)]
enum Method {
    Basic(Secret),
    Post(Secret),
    /// The algorithm is one of the key's.
    PrivateKeyJwt(ClientKey, SigningAlgorithm),
    None,
}

/// What a proof says besides who we are, so that it is good for one request at one provider.
#[derive(Clone, Copy, Debug)]
pub struct ProofContext<'a> {
    /// To whom: the issuer, or the token endpoint for a provider that wants to be called that.
    pub audience: &'a str,
    /// The time.
    pub now: Timestamp,
    /// Random and new for every proof.
    pub id: &'a Secret,
}

/// Proves who we are in one request, which takes it.
#[derive(Debug)]
pub struct ClientProof {
    header: Option<(&'static str, Secret)>,
    form: Vec<(&'static str, Secret)>,
}

/// The provider accepts no proof that we can make.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoUsableClientAuthentication {
    /// It takes none of the methods that there are for what we have.
    #[error("the provider takes none of our methods of client authentication, it lists: {}", .listed.join(", "))]
    Method {
        /// Those that it lists.
        listed: Vec<String>,
    },
    /// The method that is set needs something else than what we have.
    #[error("the client authentication that is set, {method}, needs {needs}")]
    Credential {
        /// The method.
        method: ClientAuthMethod,
        /// What it needs.
        needs: &'static str,
    },
    /// It takes assertions, but not signed by our key.
    #[error("the provider takes no client assertion that our key can sign, it lists: {}", .listed.join(", "))]
    Algorithm {
        /// The algorithms that it lists.
        listed: Vec<String>,
    },
}

impl ClientAuthentication {
    /// Authenticates by this method, whatever the provider lists. Fails if the method and the credential do not go
    /// together: another method would be one that nobody has set.
    pub fn by(
        method: ClientAuthMethod,
        client_id: impl Into<String>,
        credential: &ClientCredential,
        metadata: &ProviderMetadata,
    ) -> Result<Self, NoUsableClientAuthentication> {
        let method = match (method, credential) {
            (ClientAuthMethod::ClientSecretBasic, ClientCredential::Secret(secret)) => {
                Method::Basic(secret.clone())
            }
            (ClientAuthMethod::ClientSecretPost, ClientCredential::Secret(secret)) => {
                Method::Post(secret.clone())
            }
            (ClientAuthMethod::PrivateKeyJwt, ClientCredential::Key(key)) => private_key_jwt(key, metadata)?,
            (ClientAuthMethod::None, ClientCredential::Public) => Method::None,
            (method, _) => {
                return Err(NoUsableClientAuthentication::Credential { method, needs: method.needs() });
            }
        };
        Ok(Self { client_id: client_id.into(), method })
    }

    /// Authenticates by a method that the provider lists: with a secret `client_secret_basic`, which is also what a
    /// provider takes that lists nothing (Discovery section 3), else `client_secret_post`. With a key there is
    /// `private_key_jwt` alone, and whoever has one was given it for a provider that takes it, listed or not at all.
    /// Without either there is nothing to choose; providers often leave `none` out of the list.
    pub fn choose(
        client_id: impl Into<String>,
        credential: &ClientCredential,
        metadata: &ProviderMetadata,
    ) -> Result<Self, NoUsableClientAuthentication> {
        let listed = metadata.token_endpoint_auth_methods_supported.as_deref();
        let takes =
            |method: ClientAuthMethod| listed.is_some_and(|all| all.iter().any(|one| one == method.name()));
        let method = match credential {
            ClientCredential::Public => Method::None,
            ClientCredential::Secret(secret)
                if listed.is_none() || takes(ClientAuthMethod::ClientSecretBasic) =>
            {
                Method::Basic(secret.clone())
            }
            ClientCredential::Secret(secret) if takes(ClientAuthMethod::ClientSecretPost) => {
                Method::Post(secret.clone())
            }
            ClientCredential::Key(key) if listed.is_none() || takes(ClientAuthMethod::PrivateKeyJwt) => {
                private_key_jwt(key, metadata)?
            }
            ClientCredential::Secret(_) | ClientCredential::Key(_) => {
                return Err(NoUsableClientAuthentication::Method { listed: for_operators(listed) });
            }
        };
        Ok(Self { client_id: client_id.into(), method })
    }

    /// Our id at the provider.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The method in use.
    pub fn method(&self) -> ClientAuthMethod {
        match self.method {
            Method::Basic(_) => ClientAuthMethod::ClientSecretBasic,
            Method::Post(_) => ClientAuthMethod::ClientSecretPost,
            Method::PrivateKeyJwt(..) => ClientAuthMethod::PrivateKeyJwt,
            Method::None => ClientAuthMethod::None,
        }
    }

    /// A proof for one request. An assertion is signed for it, which keeps the thread busy for a moment.
    pub fn prove(&self, context: &ProofContext<'_>) -> ClientProof {
        let client_id = || ("client_id", Secret::new(self.client_id.as_str()));
        match &self.method {
            Method::Basic(secret) => ClientProof {
                header: Some(("authorization", basic(&self.client_id, secret))),
                form: Vec::new(),
            },
            Method::Post(secret) => {
                ClientProof { header: None, form: vec![client_id(), ("client_secret", secret.clone())] }
            }
            Method::PrivateKeyJwt(key, algorithm) => {
                let assertion = assertion::client_assertion(key, *algorithm, &self.client_id, context);
                ClientProof {
                    header: None,
                    form: vec![
                        client_id(),
                        ("client_assertion_type", Secret::new(assertion::ASSERTION_TYPE)),
                        ("client_assertion", assertion),
                    ],
                }
            }
            Method::None => ClientProof { header: None, form: vec![client_id()] },
        }
    }
}

impl ClientProof {
    /// Adds the proof to a request.
    pub(crate) fn apply(
        self,
        headers: &mut Vec<(&'static str, Secret)>,
        form: &mut Vec<(&'static str, Secret)>,
    ) {
        headers.extend(self.header);
        form.extend(self.form);
    }
}

fn private_key_jwt(
    key: &ClientKey,
    metadata: &ProviderMetadata,
) -> Result<Method, NoUsableClientAuthentication> {
    let listed = metadata.token_endpoint_auth_signing_alg_values_supported.as_deref();
    match key.algorithm_for(listed) {
        Some(algorithm) => Ok(Method::PrivateKeyJwt(key.clone(), algorithm)),
        None => Err(NoUsableClientAuthentication::Algorithm { listed: for_operators(listed) }),
    }
}

fn for_operators(listed: Option<&[String]>) -> Vec<String> {
    listed.unwrap_or_default().iter().take(20).map(|name| one_line(name, 60)).collect()
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

    fn metadata(methods: Option<&[&str]>, algorithms: Option<&[&str]>) -> ProviderMetadata {
        let document = serde_json::json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": "https://idp.example/authorize",
            "token_endpoint": "https://idp.example/token",
            "jwks_uri": "https://idp.example/jwks",
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
        });
        let expected = ExpectedIssuer::Exactly(Issuer::new("https://idp.example"));
        ProviderMetadata::parse(document.to_string().as_bytes(), &expected).unwrap()
    }

    fn secret() -> ClientCredential {
        ClientCredential::Secret(Secret::new("p: +ä"))
    }

    fn key() -> ClientCredential {
        ClientCredential::Key(key::tests::parse(key::tests::P256).unwrap())
    }

    const PUBLIC: ClientCredential = ClientCredential::Public;

    #[test]
    fn which_method_is_chosen() {
        use ClientAuthMethod::{ClientSecretBasic, ClientSecretPost, None as Nothing, PrivateKeyJwt};
        for (methods, algorithms, credential, method) in [
            (None, None, secret(), Some(ClientSecretBasic)),
            (
                Some(&["client_secret_basic", "client_secret_post"][..]),
                None,
                secret(),
                Some(ClientSecretBasic),
            ),
            (Some(&["client_secret_post", "client_secret_basic"]), None, secret(), Some(ClientSecretBasic)),
            (Some(&["private_key_jwt", "client_secret_post"]), None, secret(), Some(ClientSecretPost)),
            (Some(&["private_key_jwt", "tls_client_auth"]), None, secret(), None),
            (Some(&[]), None, secret(), None),
            (None, None, PUBLIC, Some(Nothing)),
            (Some(&["client_secret_basic"]), None, PUBLIC, Some(Nothing)),
            (None, None, key(), Some(PrivateKeyJwt)),
            (Some(&["client_secret_basic", "private_key_jwt"]), None, key(), Some(PrivateKeyJwt)),
            (Some(&["private_key_jwt"]), Some(&["RS256", "ES256"][..]), key(), Some(PrivateKeyJwt)),
            (Some(&["private_key_jwt"]), Some(&["RS256"]), key(), None),
            (Some(&["client_secret_basic", "client_secret_post"]), None, key(), None),
        ] {
            let chosen = ClientAuthentication::choose("client", &credential, &metadata(methods, algorithms));
            assert_eq!(chosen.as_ref().map(ClientAuthentication::method).ok(), method, "{methods:?}");
        }
        for (methods, algorithms, credential, said) in [
            (
                &["private_key_jwt"],
                None,
                secret(),
                "none of our methods of client authentication, it lists: private_key_jwt",
            ),
            (
                &["private_key_jwt"],
                Some(&["RS256", "PS256"][..]),
                key(),
                "that our key can sign, it lists: RS256, PS256",
            ),
        ] {
            let error =
                ClientAuthentication::choose("client", &credential, &metadata(Some(methods), algorithms));
            let error = error.unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
        }
    }

    #[test]
    fn a_method_and_a_credential_go_together_or_not() {
        use ClientAuthMethod::{ClientSecretBasic, ClientSecretPost, None as Nothing, PrivateKeyJwt};
        // What the provider lists does not count.
        let metadata = metadata(Some(&[]), None);
        for (credential, methods) in [
            (secret(), &[ClientSecretBasic, ClientSecretPost][..]),
            (key(), &[PrivateKeyJwt]),
            (PUBLIC, &[Nothing]),
        ] {
            for method in ClientAuthMethod::ALL {
                match ClientAuthentication::by(method, "client", &credential, &metadata) {
                    Ok(by) => assert!(by.method() == method && methods.contains(&method), "{method}"),
                    Err(NoUsableClientAuthentication::Credential { method: set, .. }) => {
                        assert!(set == method && !methods.contains(&method), "{method} {credential:?}");
                    }
                    Err(other) => panic!("{method} {credential:?}: {other}"),
                }
            }
        }
        let error = ClientAuthentication::by(PrivateKeyJwt, "client", &secret(), &metadata).unwrap_err();
        let said = "the client authentication that is set, private_key_jwt, needs a private key";
        assert_eq!(error.to_string(), said);
        for method in ClientAuthMethod::ALL {
            assert_eq!(ClientAuthMethod::from_name(method.name()), Some(method));
        }
        assert_eq!(ClientAuthMethod::from_name("client_secret_jwt"), None);
    }

    #[test]
    fn one_proof_is_sent() {
        let assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        for (method, credential, header, form) in [
            (
                ClientAuthMethod::ClientSecretBasic,
                secret(),
                // base64 of `a%3Ab:p%3A+%2B%C3%A4`
                Some(("authorization", "Basic YSUzQWI6cCUzQSslMkIlQzMlQTQ=")),
                vec![],
            ),
            (
                ClientAuthMethod::ClientSecretPost,
                secret(),
                None,
                vec![("client_id", "a:b"), ("client_secret", "p: +ä")],
            ),
            (
                ClientAuthMethod::PrivateKeyJwt,
                key(),
                None,
                vec![
                    ("client_id", "a:b"),
                    ("client_assertion_type", assertion_type),
                    ("client_assertion", "…"),
                ],
            ),
            (ClientAuthMethod::None, PUBLIC, None, vec![("client_id", "a:b")]),
        ] {
            let client = ClientAuthentication::by(method, "a:b", &credential, &metadata(None, None));
            let client = client.unwrap();
            let context = ProofContext {
                audience: "https://idp.example",
                now: Timestamp::from_unix_seconds(1_795_435_200),
                id: &Secret::new("once"),
            };
            let proof = client.prove(&context);
            let shown = format!("{client:?} {proof:?} {credential:?}");
            assert!(!shown.contains("p: +") && !shown.contains("Basic "), "{shown}");

            let (mut headers, mut sent) = (vec![], vec![]);
            proof.apply(&mut headers, &mut sent);
            let exposed = |pairs: &[(&'static str, Secret)]| -> Vec<(&'static str, String)> {
                pairs.iter().map(|(name, value)| (*name, value.expose().to_owned())).collect()
            };
            let owned = |pairs: Vec<(&'static str, &str)>| -> Vec<(&'static str, String)> {
                pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
            };
            assert_eq!(exposed(&headers), owned(header.into_iter().collect()), "{method}");
            let mut sent = exposed(&sent);
            for (_, value) in sent.iter_mut().filter(|(name, _)| *name == "client_assertion") {
                assert_eq!(value.split('.').count(), 3, "a token: {value}");
                "…".clone_into(value);
            }
            assert_eq!(sent, owned(form), "{method}");
        }
    }
}
