//! The provider's own address.

use url::Url;

/// The issuer identifier and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    identifier: String,
    base: String,
    base_path: String,
    origin: String,
}

impl Issuer {
    /// Takes an http(s) address without query or fragment (Discovery 3). Says what is wrong with any other.
    pub(crate) fn parse(identifier: &str) -> Result<Issuer, &'static str> {
        let url = Url::parse(identifier).map_err(|_| "not an address")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("neither http nor https");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("has a query or a fragment");
        }
        Ok(Issuer {
            identifier: identifier.to_owned(),
            base: identifier.trim_end_matches('/').to_owned(),
            base_path: url.path().trim_end_matches('/').to_owned(),
            origin: url.origin().ascii_serialization(),
        })
    }

    /// As relying parties compare it.
    pub(crate) fn as_str(&self) -> &str {
        &self.identifier
    }

    /// The address of an endpoint; `path` starts with a slash.
    pub(crate) fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What comes before every path: empty, or `/something`.
    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// What a browser sends as `Origin` from one of our pages.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::Issuer;

    #[test]
    fn endpoints_follow_the_issuer() {
        for (identifier, token, base_path) in [
            ("http://127.0.0.1:9400", "http://127.0.0.1:9400/token", ""),
            ("http://127.0.0.1:9400/", "http://127.0.0.1:9400/token", ""),
            ("https://id.localhost/tenant", "https://id.localhost/tenant/token", "/tenant"),
        ] {
            let issuer = Issuer::parse(identifier).unwrap();
            assert_eq!(issuer.as_str(), identifier);
            assert_eq!(issuer.endpoint("/token"), token);
            assert_eq!(issuer.base_path(), base_path);
        }
    }

    #[test]
    fn what_is_no_issuer() {
        for identifier in ["", "9400", "ftp://127.0.0.1", "http://127.0.0.1/?a", "http://127.0.0.1/#a"] {
            assert!(Issuer::parse(identifier).is_err(), "{identifier}");
        }
    }
}
