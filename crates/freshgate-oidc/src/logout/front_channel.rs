//! A logout at the provider, brought by a browser (OpenID Connect Front-Channel Logout 1.0).

use url::form_urlencoded;

use crate::discovery::Issuer;

/// A browser, sent by the provider, says that a session there has ended (Front-Channel Logout section 2).
///
/// It is not signed: it may end sessions here, and nothing more. Tokens are not revoked on its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontChannelLogout {
    /// Those that come from this session at the provider.
    Session {
        /// The provider.
        issuer: Issuer,
        /// The provider's session.
        session_id: String,
    },
    /// It names none: only that of the browser which brings it can be meant.
    Unnamed,
}

impl FrontChannelLogout {
    /// Reads the query of such a request, without the `?`. `None` unless `iss` and `sid` are both there, once each, or
    /// neither is.
    pub fn parse(query: &str) -> Option<Self> {
        let values = |name: &str| {
            let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
            pairs.map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
        };
        match (&values("iss")[..], &values("sid")[..]) {
            ([], []) => Some(Self::Unnamed),
            ([issuer], [session_id]) if !issuer.is_empty() && !session_id.is_empty() => {
                Some(Self::Session { issuer: Issuer::new(issuer), session_id: session_id.clone() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_and_session_come_together() {
        let both = FrontChannelLogout::Session {
            issuer: Issuer::new("https://idp.example"),
            session_id: "s 1".to_owned(),
        };
        for (query, found) in [
            ("iss=https%3A%2F%2Fidp.example&sid=s+1", Some(both.clone())),
            ("x=y&sid=s%201&iss=https://idp.example", Some(both)),
            ("", Some(FrontChannelLogout::Unnamed)),
            ("x=y", Some(FrontChannelLogout::Unnamed)),
            ("iss=https://idp.example", None),
            ("sid=s", None),
            ("iss=https://idp.example&sid=", None),
            ("iss=&sid=s", None),
            ("iss=&sid=", None),
            ("iss=https://idp.example&sid=s&sid=t", None),
            ("iss=a&iss=b&sid=s", None),
            ("sid=s&sid=t", None),
        ] {
            assert_eq!(FrontChannelLogout::parse(query), found, "{query}");
        }
    }
}
