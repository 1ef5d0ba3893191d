//! Signing out at the provider (OpenID Connect RP-Initiated Logout 1.0).

use std::{borrow::Cow, collections::HashSet};

use url::Url;

use crate::secret::Secret;

/// A request to end the user's session at the provider (RP-Initiated Logout section 2).
#[derive(Clone, Debug)]
pub struct EndSessionRequest<'a> {
    /// The provider's `end_session_endpoint`.
    pub endpoint: &'a Url,
    /// The session's last ID token, by which the provider knows whose session it is. It may have expired.
    pub id_token_hint: Option<&'a Secret>,
    /// Our id at the provider.
    pub client_id: &'a str,
    /// Where the browser comes back to; registered at the provider.
    pub post_logout_redirect_uri: Option<&'a Url>,
    /// What it brings back, to be compared (section 3).
    pub state: Option<&'a Secret>,
}

/// A longer ID token is not sent along: servers take addresses of 8 KiB at best, and refuse the whole request otherwise.
/// Without it the provider goes by its own cookie, and may ask the user first (section 2: the hint is recommended).
const LONGEST_HINT: usize = 4096;

impl EndSessionRequest<'_> {
    /// Where to send the browser. The address holds the ID token, unless that is too long for an address: it belongs in a
    /// `Location` header, not in a log.
    pub fn to_url(&self) -> Url {
        let hint = self.id_token_hint.map(Secret::expose).filter(|hint| hint.len() <= LONGEST_HINT);
        let ours = [
            ("id_token_hint", hint),
            ("client_id", Some(self.client_id)),
            ("post_logout_redirect_uri", self.post_logout_redirect_uri.map(Url::as_str)),
            ("state", self.state.map(Secret::expose)),
        ];
        let ours: Vec<_> = ours.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        // What the endpoint's own query holds stays, but no parameter is sent twice (RFC 6749 section 3.1).
        let mut names: HashSet<Cow<'_, str>> = ours.iter().map(|(name, _)| Cow::Borrowed(*name)).collect();
        let kept: Vec<_> =
            self.endpoint.query_pairs().filter(|(name, _)| names.insert(name.clone())).collect();
        let mut url = self.endpoint.clone();
        url.set_fragment(None);
        url.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(ours);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let endpoint = Url::parse("https://idp.example/logout?policy=p#x").unwrap();
        let back = Url::parse("https://app.example/?a=b").unwrap();
        let (hint, state) = (Secret::new("ey.J+"), Secret::new("s&s"));
        let least = EndSessionRequest {
            endpoint: &endpoint,
            id_token_hint: None,
            client_id: "the client",
            post_logout_redirect_uri: None,
            state: None,
        };
        assert_eq!(least.to_url().as_str(), "https://idp.example/logout?policy=p&client_id=the+client");
        let all = EndSessionRequest {
            id_token_hint: Some(&hint),
            post_logout_redirect_uri: Some(&back),
            state: Some(&state),
            ..least
        };
        assert_eq!(
            all.to_url().as_str(),
            "https://idp.example/logout?policy=p&id_token_hint=ey.J%2B&client_id=the+client\
             &post_logout_redirect_uri=https%3A%2F%2Fapp.example%2F%3Fa%3Db&state=s%26s"
        );
        assert!(!format!("{all:?}").contains("ey.J"));

        // What the address itself holds gives way where it is ours.
        let endpoint = Url::parse("https://idp.example/logout?client_id=other&p=a%20b&state=x&p=2").unwrap();
        let url = EndSessionRequest { endpoint: &endpoint, ..all.clone() }.to_url();
        let pairs: Vec<_> = url.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(pairs[..2], ["p=a b", "id_token_hint=ey.J+"]);
        assert_eq!(
            pairs[2..],
            ["client_id=the client", "post_logout_redirect_uri=https://app.example/?a=b", "state=s&s"]
        );
        let endpoint = Url::parse("https://idp.example/logout?state=x").unwrap();
        let url = EndSessionRequest { endpoint: &endpoint, ..least.clone() }.to_url();
        assert_eq!(url.as_str(), "https://idp.example/logout?state=x&client_id=the+client");

        for (length, sent) in [(LONGEST_HINT, true), (LONGEST_HINT + 1, false)] {
            let hint = Secret::new("x".repeat(length));
            let url = EndSessionRequest { id_token_hint: Some(&hint), ..all.clone() }.to_url();
            assert_eq!(url.query_pairs().any(|(name, _)| name == "id_token_hint"), sent, "{length}");
            assert_eq!(url.query_pairs().filter(|(name, _)| name == "state").count(), 1);
        }
    }
}
