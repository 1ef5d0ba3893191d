//! The authorization request (OpenID Connect Core section 3.1.2.1, RFC 7636).

use url::Url;

use super::{AuthenticationDemands, AuthorizationParameters};
use crate::{
    discovery::ProviderMetadata,
    dpop::DpopKey,
    secret::{Secret, base64url, sha256},
};

/// A proof key (RFC 7636): the verifier stays here until the code is exchanged, its hash goes ahead.
#[derive(Clone, Debug)]
pub struct Pkce {
    verifier: Secret,
}

impl Pkce {
    /// The proof key of this verifier: 43 to 128 of `A-Z a-z 0-9 - . _ ~`, new for every request (section 4.1).
    pub fn from_verifier(verifier: Secret) -> Self {
        Self { verifier }
    }

    /// What the token request reveals.
    pub fn verifier(&self) -> &Secret {
        &self.verifier
    }

    /// What the authorization request shows: the verifier's hash (section 4.2, `S256`).
    pub fn challenge(&self) -> String {
        base64url(&sha256(self.verifier.expose().as_bytes()))
    }
}

/// A request for a user to sign in: code flow, with state, nonce and a proof key, always.
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    pub(super) endpoint: Url,
    pub(super) parameters: Vec<(String, Secret)>,
}

impl AuthorizationRequest {
    /// A request to this provider. The scopes are asked for as they stand, with `openid` put before them if it is not
    /// among them.
    pub fn new(
        metadata: &ProviderMetadata,
        client_id: &str,
        redirect_uri: &Url,
        scopes: &[String],
        state: &Secret,
        nonce: &Secret,
        pkce: &Pkce,
    ) -> Self {
        let mut scope: Vec<&str> = scopes.iter().map(String::as_str).collect();
        if !scope.contains(&"openid") {
            scope.insert(0, "openid");
        }
        let parameters = [
            ("response_type", Secret::new("code")),
            ("client_id", Secret::new(client_id)),
            ("redirect_uri", Secret::new(redirect_uri.as_str())),
            ("scope", Secret::new(scope.join(" "))),
            ("state", state.clone()),
            ("nonce", nonce.clone()),
            ("code_challenge", Secret::new(pkce.challenge())),
            ("code_challenge_method", Secret::new("S256")),
        ];
        Self {
            endpoint: metadata.authorization_endpoint.clone(),
            parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    /// Adds what is asked for besides. (Its scope is the caller's to put among the scopes.)
    #[must_use]
    pub fn with_parameters(mut self, parameters: &AuthorizationParameters) -> Self {
        for resource in parameters.resources() {
            self.parameters.push(("resource".to_owned(), Secret::new(resource.as_str())));
        }
        for (name, value) in parameters.others() {
            self.parameters.push((name.to_owned(), Secret::new(value)));
        }
        self
    }

    /// Has the code, and what it is exchanged for, bound to this key (RFC 9449 section 10).
    #[must_use]
    pub fn bound_to(mut self, key: &DpopKey) -> Self {
        self.parameters.push(("dpop_jkt".to_owned(), Secret::new(key.thumbprint())));
        self
    }

    /// What it demands of the user's authentication.
    pub fn demands(&self) -> AuthenticationDemands {
        AuthenticationDemands::of(&self.parameters)
    }

    /// Where to send the browser. The address holds state and nonce: it belongs in a `Location` header, not in a log.
    pub fn to_url(&self) -> Url {
        // What the endpoint's own query holds stays (RFC 6749 section 3.1), but no parameter is sent twice.
        let ours = |name: &str| self.parameters.iter().any(|(own, _)| own == name);
        let kept: Vec<(String, String)> = self
            .endpoint
            .query_pairs()
            .filter(|(name, _)| !ours(name))
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        let mut url = self.endpoint.clone();
        url.set_fragment(None);
        url.query_pairs_mut()
            .clear()
            .extend_pairs(kept)
            .extend_pairs(self.parameters.iter().map(|(name, value)| (name, value.expose())));
        url
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::discovery::{ExpectedIssuer, Issuer};

    fn metadata(authorization_endpoint: &str) -> ProviderMetadata {
        let document = serde_json::json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": authorization_endpoint,
            "token_endpoint": "https://idp.example/token",
            "jwks_uri": "https://idp.example/jwks",
        });
        let expected = ExpectedIssuer::Exactly(Issuer::new("https://idp.example"));
        ProviderMetadata::parse(document.to_string().as_bytes(), &expected).unwrap()
    }

    fn request(endpoint: &str, scopes: &[&str]) -> AuthorizationRequest {
        AuthorizationRequest::new(
            &metadata(endpoint),
            "client id",
            &Url::parse("http://localhost:8501/oauth2callback?x=1").unwrap(),
            &scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>(),
            &Secret::new("the state"),
            &Secret::new("the nonce"),
            &Pkce::from_verifier(Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")),
        )
    }

    fn parameters(pairs: &[(&str, &str)]) -> AuthorizationParameters {
        AuthorizationParameters::of(pairs.iter().copied()).unwrap()
    }

    fn pairs(url: &Url) -> BTreeMap<String, String> {
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        let map: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(pairs.len(), map.len(), "a parameter is there twice: {url}");
        map
    }

    #[test]
    fn rfc_7636_4_3_a_request_holds_everything_that_protects_the_callback() {
        let url = request("https://idp.example/authorize", &["profile", "email"]).to_url();
        let expected = [
            ("client_id", "client id"),
            // The example of RFC 7636, appendix B.
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
            ("nonce", "the nonce"),
            ("redirect_uri", "http://localhost:8501/oauth2callback?x=1"),
            ("response_type", "code"),
            ("scope", "openid profile email"),
            ("state", "the state"),
        ];
        assert_eq!(pairs(&url), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(url.as_str().starts_with("https://idp.example/authorize?"));
        assert!(!url.as_str().contains("dBjft"), "the verifier stays here");
    }

    #[test]
    fn openid_is_asked_for_once() {
        for (scopes, scope) in [
            (&[][..], "openid"),
            (&["openid"], "openid"),
            (&["email", "openid"], "email openid"),
            (&["offline_access"], "openid offline_access"),
        ] {
            assert_eq!(pairs(&request("https://idp.example/authorize", scopes).to_url())["scope"], scope);
        }
    }

    #[test]
    fn the_endpoints_own_query_stays_but_overrides_nothing() {
        let endpoint = "https://idp.example/authorize?policy=a%20b&state=evil&prompt=none#fragment";
        let url = request(endpoint, &[]).with_parameters(&parameters(&[("prompt", "login")])).to_url();
        let pairs = pairs(&url);
        assert_eq!(pairs["policy"], "a b");
        assert_eq!(pairs["state"], "the state");
        assert_eq!(pairs["prompt"], "login");
        assert_eq!(url.fragment(), None);
    }

    #[test]
    fn what_is_asked_for_besides_is_sent_and_demanded() {
        let besides = parameters(&[
            ("audience", "https://api.example/?a=1&b=2"),
            ("acr_values", "mfa"),
            ("max_age", "0"),
            ("prompt", ""),
            ("scope", "ignored here"),
        ]);
        let request = request("https://idp.example/authorize", &["email"]).with_parameters(&besides);
        let pairs = pairs(&request.to_url());
        assert_eq!(pairs["audience"], "https://api.example/?a=1&b=2");
        assert_eq!(pairs["scope"], "openid email");
        assert!(!pairs.contains_key("prompt"));
        let demands = AuthenticationDemands { acr: vec!["mfa".to_owned()], max_age: Some(0) };
        assert_eq!(request.demands(), demands);
    }

    #[test]
    fn a_request_is_bound_to_a_key_by_its_thumbprint() {
        let key = DpopKey::from_seed(crate::jws::SigningAlgorithm::Es256, &[7; 32]).unwrap();
        let url = request("https://idp.example/authorize", &[]).bound_to(&key).to_url();
        assert_eq!(pairs(&url)["dpop_jkt"], key.thumbprint());
    }

    #[test]
    fn each_resource_is_a_parameter_of_its_own() {
        let resources = parameters(&[("resource", "https://a.example urn:b")]);
        let request = request("https://idp.example/authorize?resource=x", &[]).with_parameters(&resources);
        let url = request.to_url();
        let sent: Vec<_> = url.query_pairs().filter(|(name, _)| name == "resource").collect();
        let values: Vec<&str> = sent.iter().map(|(_, value)| &**value).collect();
        assert_eq!(values, ["https://a.example", "urn:b"]);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let request = request("https://idp.example/authorize", &[]);
        let pkce = Pkce::from_verifier(Secret::new("the verifier"));
        let shown = format!("{request:?} {pkce:?}");
        assert!(
            !shown.contains("the state") && !shown.contains("the nonce") && !shown.contains("the verifier")
        );
    }
}
