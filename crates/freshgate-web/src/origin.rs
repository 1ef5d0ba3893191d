//! Where a request comes from: this site, a sibling of it, somewhere else.
//!
//! Browsers say it in `Origin` and in Fetch Metadata (`Sec-Fetch-Site`), which no page can forge. This is the one place
//! that reads them.

use freshgate_oidc::is_loopback;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use url::Url;

use crate::arrival::Arrival;

/// Who made the browser send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A page of this site.
    SameOrigin,
    /// A page of a sibling: another host under the same registrable domain, or another port.
    SameSite,
    /// The user: typed, bookmarked, or a link in another program.
    User,
    /// A page of another site, or one that hides where it is from.
    Foreign,
    /// Nothing says so: not a browser, or one from before Fetch Metadata that was told to send no `Referer`.
    Unknown,
}

/// The origins under which this site is reached.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    public: Url,
    /// As browsers write them in `Origin`: the public one first.
    serialized: Vec<String>,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Origins {
    pub(crate) fn new(public: Url, others: &[Url]) -> Self {
        let serialized = std::iter::once(&public).chain(others).map(|url| url.origin().ascii_serialization());
        Self { serialized: serialized.collect(), public }
    }

    /// The public origin as a URL.
    pub(crate) fn public(&self) -> &Url {
        &self.public
    }

    /// Who made the browser send this request.
    ///
    /// Of several headers that say so, all must agree: one that says "foreign" is believed.
    pub(crate) fn sender(&self, request: &Parts) -> Sender {
        let headers = &request.headers;
        let by_fetch_metadata = match single(headers, &SEC_FETCH_SITE) {
            Single::None => None,
            Single::One(b"same-origin") => Some(Sender::SameOrigin),
            Single::One(b"same-site") => Some(Sender::SameSite),
            Single::One(b"none") => Some(Sender::User),
            Single::One(_) | Single::Several => return Sender::Foreign,
        };
        match single(headers, &header::ORIGIN) {
            Single::None => {}
            // What a page under `Referrer-Policy: no-referrer` sends with its own forms, but also any sandboxed frame.
            Single::One(b"null") => return by_fetch_metadata.unwrap_or(Sender::Foreign),
            Single::One(origin) if self.is_this_site(origin, request) => {
                return by_fetch_metadata.unwrap_or(Sender::SameOrigin);
            }
            Single::One(_) if by_fetch_metadata == Some(Sender::SameSite) => return Sender::SameSite,
            Single::One(_) | Single::Several => return Sender::Foreign,
        }
        if let Some(sender) = by_fetch_metadata {
            return sender;
        }
        match self.referer(request) {
            Referer::None => Sender::Unknown,
            Referer::ThisSite(_) => Sender::SameOrigin,
            Referer::Elsewhere => Sender::Foreign,
        }
    }

    /// Whether a WebSocket may be opened: `Origin`, if there is one, is this site's.
    ///
    /// Browsers always send it with a WebSocket, and no other rule of theirs keeps a foreign page from opening one
    /// (RFC 6455 section 10.2). Who sends none is no browser and has no user's cookies to abuse.
    pub(crate) fn may_open_socket(&self, request: &Parts) -> bool {
        match single(&request.headers, &header::ORIGIN) {
            Single::None => true,
            Single::One(origin) => self.is_this_site(origin, request),
            Single::Several => false,
        }
    }

    /// The page that the browser names in `Referer`.
    pub(crate) fn referer(&self, request: &Parts) -> Referer {
        let referer = match single(&request.headers, &header::REFERER) {
            Single::None => return Referer::None,
            Single::One(referer) => std::str::from_utf8(referer).ok().and_then(|text| Url::parse(text).ok()),
            Single::Several => None,
        };
        match referer {
            Some(url) if self.is_this_site(url.origin().ascii_serialization().as_bytes(), request) => {
                Referer::ThisSite(url)
            }
            _ => Referer::Elsewhere,
        }
    }

    /// Whether the request was sent to the public origin, as far as `Host` and the proxies in front of us tell.
    pub(crate) fn is_public(&self, request: &Parts) -> bool {
        let Some(authority) = authority(request) else { return false };
        let scheme = Arrival::of(request).and_then(|arrival| arrival.scheme.as_ref());
        let scheme = scheme.map_or(self.public.scheme(), http::uri::Scheme::as_str);
        // A scheme's own port may be spelled out.
        let Ok(asked) = Url::parse(&format!("{scheme}://{authority}")) else { return false };
        asked.origin() == self.public.origin()
    }

    fn is_this_site(&self, origin: &[u8], request: &Parts) -> bool {
        self.serialized.iter().any(|ours| ours.as_bytes() == origin)
            || self.is_loopback_alias(origin, request)
    }

    /// A site on `localhost` is the same as on `127.0.0.1`, for a page that talks to the host it came from.
    ///
    /// Loopback names only: any other name that resolves to this machine may be a foreign site's (DNS rebinding).
    fn is_loopback_alias(&self, origin: &[u8], request: &Parts) -> bool {
        if !is_loopback(&self.public) {
            return false;
        }
        let Some(url) = std::str::from_utf8(origin).ok().and_then(|text| Url::parse(text).ok()) else {
            return false;
        };
        let asked =
            authority(request).and_then(|host| Url::parse(&format!("{}://{host}", url.scheme())).ok());
        is_loopback(&url)
            && url.scheme() == self.public.scheme()
            && url.port_or_known_default() == self.public.port_or_known_default()
            && asked.is_some_and(|asked| asked.origin() == url.origin())
    }
}

/// What `Referer` says.
#[derive(Debug)]
pub(crate) enum Referer {
    /// Nothing.
    None,
    /// A page of this site.
    ThisSite(Url),
    /// A page of another site, or no URL.
    Elsewhere,
}

/// The host and port that the request was sent to: a proxy in front of us knows best, and the absolute form of the target
/// wins over `Host` (RFC 9112 section 3.2.2).
fn authority(request: &Parts) -> Option<&str> {
    if let Some(host) = Arrival::of(request).and_then(|arrival| arrival.host.as_ref()) {
        return Some(host.as_str());
    }
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => match single(&request.headers, &header::HOST) {
            Single::One(host) => std::str::from_utf8(host).ok(),
            Single::None | Single::Several => None,
        },
    }
}

enum Single<'a> {
    None,
    One(&'a [u8]),
    Several,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    match (values.next(), values.next()) {
        (None, _) => Single::None,
        (Some(value), None) => Single::One(value),
        (Some(_), Some(_)) => Single::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "https://app.example";
    const LOCAL: &str = "http://localhost:8501";

    type Headers = &'static [(&'static str, &'static str)];

    fn origins(public: &str) -> Origins {
        Origins::new(Url::parse(public).unwrap(), &[Url::parse("https://alias.example:444").unwrap()])
    }

    fn request(headers: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn tells_who_sent_a_request() {
        use Sender::{Foreign, SameOrigin, SameSite, Unknown, User};
        let table: &[(Headers, Sender)] = &[
            (&[], Unknown),
            (&[("origin", "https://app.example")], SameOrigin),
            (&[("origin", "https://alias.example:444")], SameOrigin),
            (&[("origin", "https://app.example"), ("sec-fetch-site", "same-origin")], SameOrigin),
            (&[("sec-fetch-site", "same-origin")], SameOrigin),
            (&[("sec-fetch-site", "same-site")], SameSite),
            (&[("origin", "https://sibling.example"), ("sec-fetch-site", "same-site")], SameSite),
            (&[("sec-fetch-site", "none")], User),
            (&[("sec-fetch-site", "cross-site")], Foreign),
            (&[("sec-fetch-site", "something-new")], Foreign),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")], Foreign),
            // All must agree.
            (&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], Foreign),
            (&[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")], Foreign),
            (&[("origin", "https://app.example"), ("origin", "https://app.example")], Foreign),
            // Near misses.
            (&[("origin", "https://app.example:443")], Foreign),
            (&[("origin", "https://app.example:8443")], Foreign),
            (&[("origin", "http://app.example")], Foreign),
            (&[("origin", "https://app.example.evil.example")], Foreign),
            (&[("origin", "https://evilapp.example")], Foreign),
            (&[("origin", "https://app.example/")], Foreign),
            (&[("origin", "")], Foreign),
            (&[("origin", "null")], Foreign),
            (&[("origin", "null"), ("sec-fetch-site", "same-origin")], SameOrigin),
            (&[("origin", "null"), ("sec-fetch-site", "cross-site")], Foreign),
            // `Host` proves nothing where the public name is known.
            (&[("origin", "https://evil.example"), ("host", "evil.example")], Foreign),
            // Browsers without Fetch Metadata.
            (&[("referer", "https://app.example/page?x=1")], SameOrigin),
            (&[("referer", "https://app.example@evil.example/")], Foreign),
            (&[("referer", "https://evil.example/https://app.example/")], Foreign),
            (&[("referer", "nonsense")], Foreign),
            (&[("referer", "https://app.example/"), ("sec-fetch-site", "cross-site")], Foreign),
        ];
        for (headers, expected) in table {
            assert_eq!(origins(PUBLIC).sender(&request(headers)), *expected, "{headers:?}");
        }
    }

    #[test]
    fn a_socket_needs_an_origin_of_this_site_or_none() {
        let table: &[(&str, Headers, bool)] = &[
            (PUBLIC, &[], true),
            (PUBLIC, &[("origin", "https://app.example")], true),
            (PUBLIC, &[("origin", "https://alias.example:444")], true),
            (PUBLIC, &[("origin", "https://evil.example")], false),
            (PUBLIC, &[("origin", "https://evil.example"), ("host", "evil.example")], false),
            (PUBLIC, &[("origin", "http://127.0.0.1"), ("host", "127.0.0.1")], false),
            (PUBLIC, &[("origin", "null")], false),
            (PUBLIC, &[("origin", "https://app.example"), ("origin", "https://evil.example")], false),
            (LOCAL, &[("origin", "http://localhost:8501"), ("host", "localhost:8501")], true),
            // The same site under its other loopback names, if the page talks to where it came from.
            (LOCAL, &[("origin", "http://127.0.0.1:8501"), ("host", "127.0.0.1:8501")], true),
            (LOCAL, &[("origin", "http://[::1]:8501"), ("host", "[::1]:8501")], true),
            (LOCAL, &[("origin", "http://127.0.0.1:8501"), ("host", "localhost:8501")], false),
            (LOCAL, &[("origin", "http://127.0.0.1:8501")], false),
            (LOCAL, &[("origin", "http://localhost:3000"), ("host", "localhost:3000")], false),
            (LOCAL, &[("origin", "https://localhost:8501"), ("host", "localhost:8501")], false),
            // DNS rebinding: a foreign name that resolves to this machine.
            (LOCAL, &[("origin", "http://evil.example:8501"), ("host", "evil.example:8501")], false),
            (
                LOCAL,
                &[("origin", "http://localhost.evil.example:8501"), ("host", "localhost.evil.example:8501")],
                false,
            ),
        ];
        for (public, headers, expected) in table {
            assert_eq!(origins(public).may_open_socket(&request(headers)), *expected, "{public} {headers:?}");
        }
    }

    #[test]
    fn knows_its_own_host() {
        let table = [
            (PUBLIC, "app.example", true),
            (PUBLIC, "app.example:443", true),
            (PUBLIC, "APP.example", true),
            (PUBLIC, "app.example:8443", false),
            (PUBLIC, "alias.example:444", false),
            (PUBLIC, "app.example@evil.example", false),
            (PUBLIC, "", false),
            (LOCAL, "localhost:8501", true),
            (LOCAL, "localhost", false),
            (LOCAL, "127.0.0.1:8501", false),
        ];
        for (public, host, expected) in table {
            assert_eq!(origins(public).is_public(&request(&[("host", host)])), expected, "{public} {host}");
        }
        let two = request(&[("host", "app.example"), ("host", "evil.example")]);
        assert!(!origins(PUBLIC).is_public(&two));
    }

    #[test]
    fn the_absolute_form_wins_over_host() {
        let mut request = request(&[("host", "app.example")]);
        request.uri = "https://evil.example/x".parse().unwrap();
        assert!(!origins(PUBLIC).is_public(&request));
    }

    /// The public origin, the scheme and the host that a proxy tells of, and whether that is it.
    #[test]
    fn a_proxy_knows_best_where_a_request_was_sent() {
        let table = [
            (PUBLIC, None, None, false),
            (PUBLIC, Some("https"), Some("app.example"), true),
            (PUBLIC, None, Some("app.example"), true),
            (PUBLIC, Some("http"), Some("app.example"), false),
            (PUBLIC, Some("https"), Some("evil.example"), false),
            (LOCAL, Some("http"), Some("localhost:8501"), true),
            (LOCAL, Some("https"), Some("localhost:8501"), false),
        ];
        for (public, scheme, host, expected) in table {
            let mut request = request(&[("host", "10.0.0.5:8501")]);
            request.extensions.insert(Arrival {
                scheme: scheme.map(|scheme| scheme.parse().unwrap()),
                host: host.map(|host| host.parse().unwrap()),
                ..Arrival::direct([192, 0, 2, 7].into())
            });
            assert_eq!(origins(public).is_public(&request), expected, "{public} {scheme:?} {host:?}");
        }
    }
}
