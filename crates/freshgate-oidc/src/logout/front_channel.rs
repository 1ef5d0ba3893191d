//! A logout at the provider, brought by a browser (OpenID Connect Front-Channel Logout 1.0).

use url::form_urlencoded;

use crate::discovery::Issuer;

/// A browser, sent by the provider, says that a session there has ended (Front-Channel Logout section 2).
///
/// It is not signed: it may end the session of the browser that brings it, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontChannelLogout {
    /// The provider.
    pub issuer: Issuer,
    /// The provider's session.
    pub session_id: String,
}

impl FrontChannelLogout {
    /// Reads the query of such a request, without the `?`. `None` unless `iss` and `sid` are both there, once each.
    pub fn parse(query: &str) -> Option<Self> {
        let one = |name: &str| {
            let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
            match (values.next(), values.next()) {
                (Some((_, value)), None) if !value.is_empty() => Some(value.into_owned()),
                _ => None,
            }
        };
        Some(Self { issuer: Issuer::new(one("iss")?), session_id: one("sid")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_and_session_come_together() {
        let both =
            FrontChannelLogout { issuer: Issuer::new("https://idp.example"), session_id: "s 1".to_owned() };
        for (query, found) in [
            ("iss=https%3A%2F%2Fidp.example&sid=s+1", Some(both.clone())),
            ("x=y&sid=s%201&iss=https://idp.example", Some(both)),
            ("iss=https://idp.example", None),
            ("sid=s", None),
            ("iss=https://idp.example&sid=", None),
            ("iss=&sid=s", None),
            ("iss=https://idp.example&sid=s&sid=t", None),
            ("iss=a&iss=b&sid=s", None),
            ("", None),
        ] {
            assert_eq!(FrontChannelLogout::parse(query), found, "{query}");
        }
    }
}
