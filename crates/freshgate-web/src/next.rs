//! Where a user goes after a login: a page of this app, and nothing else.

use percent_encoding::percent_decode_str;
use url::{Position, Url};

use crate::{
    config::Site,
    route::{Ours, Route},
};

/// The longest path and query that is kept: it travels in a cookie, of which browsers keep 4096 bytes.
const LONGEST: usize = 1536;

/// A path of this app, with its query, or the whole address of one at another host that shares the login: safe to send a
/// browser to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next(String);

impl Next {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Site {
    /// The start of the app.
    pub(crate) fn next_start(&self) -> Next {
        Next(self.start())
    }

    /// The start of the app that a path belongs to.
    pub(crate) fn next_start_of(&self, path: &str) -> Next {
        Next(self.start_of(path))
    }

    /// Takes where a request asks to go next. `None` for whatever leaves this app, or might in some browser, or is a
    /// route of ours: who signs in must not be signed out by it.
    pub(crate) fn next(&self, text: &str) -> Option<Next> {
        if text.len() > LONGEST {
            return None;
        }
        if !is_local(text) {
            return self.next_at_sister(text);
        }
        // The way a browser reads it: dots are resolved, what needs it is percent-encoded.
        let url = self.origins.public().join(text).ok()?;
        self.next_url(&url)
    }

    /// A page at another host that shares the login, as a whole address. It was written by that host's gate: any other way
    /// to write it is somebody else's.
    fn next_at_sister(&self, text: &str) -> Option<Next> {
        let url = Url::parse(text).ok().filter(|url| &url[..Position::AfterQuery] == text)?;
        let is_sister = self.sister_origins.iter().any(|sister| sister.origin() == url.origin());
        let bare = url.username().is_empty() && url.password().is_none();
        // At what paths its apps look for its routes is not known here: nowhere is one safe to be sent to.
        let path = url.path();
        let ours = path.match_indices('/').any(|(at, _)| Ours::of_path(&path[at..]).is_some());
        (is_sister && bare && !ours && self.next_url(&url).is_some()).then(|| Next(text.to_owned()))
    }

    /// The same for a whole URL, such as a `Referer`, whose origin the caller has checked.
    pub(crate) fn next_url(&self, url: &Url) -> Option<Next> {
        let next = &url[Position::BeforePath..Position::AfterQuery];
        let path = url.path();
        let below_base =
            path.strip_prefix(self.base_path()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let ours = matches!(self.route(path), Route::Ours(_));
        // Checked again: resolving `/a/..//evil.example` yields `//evil.example`.
        (below_base && !ours && next.len() <= LONGEST && is_local(next) && is_local_when_decoded(path))
            .then(|| Next(next.to_owned()))
    }
}

/// Whether every browser takes this for a path on the same host.
///
/// Browsers take `\` for `/` and drop tabs and line breaks wherever they are, so `/\evil.example` and
/// `/<tab>/evil.example` are addresses of another host.
fn is_local(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next() == Some('/')
        && !matches!(characters.next(), Some('/' | '\\'))
        && !text.chars().any(|character| character.is_control() || character == '\\')
}

/// The same for the path as a server behind us may read it, which may redirect to what it decoded.
fn is_local_when_decoded(path: &str) -> bool {
    percent_decode_str(path).decode_utf8().is_ok_and(|decoded| is_local(&decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GateConfig, SharedLogin};

    fn site(base_path: &str) -> Site {
        let public_origin = Url::parse("https://app.example").unwrap();
        Site::new(GateConfig { base_path: base_path.into(), ..GateConfig::new(public_origin) }).unwrap()
    }

    #[test]
    fn leads_to_this_app_alone() {
        let long = format!("/{}", "x".repeat(LONGEST));
        let long_when_encoded = format!("/{}", "ü".repeat(LONGEST / 2 - 1));
        let table: &[(&str, Option<&str>)] = &[
            ("/", Some("/")),
            ("/page", Some("/page")),
            ("/page?a=b&c=d%20e", Some("/page?a=b&c=d%20e")),
            ("/page?next=//evil.example", Some("/page?next=//evil.example")),
            ("/page?next=https://evil.example/", Some("/page?next=https://evil.example/")),
            ("/page#fragment", Some("/page")),
            ("/Größe?ü=ö", Some("/Gr%C3%B6%C3%9Fe?%C3%BC=%C3%B6")),
            ("/a b", Some("/a%20b")),
            ("/a/../b", Some("/b")),
            ("/a//b", Some("/a//b")),
            ("/@evil.example", Some("/@evil.example")),
            ("/:80", Some("/:80")),
            ("/.evil.example", Some("/.evil.example")),
            ("/authentic", Some("/authentic")),
            // Other hosts, in all the ways they are written.
            ("", None),
            ("page", None),
            ("//evil.example", None),
            ("///evil.example", None),
            ("/\\evil.example", None),
            ("\\\\evil.example", None),
            ("/a\\b", None),
            ("/\t/evil.example", None),
            ("/\n/evil.example", None),
            ("\t//evil.example", None),
            (" //evil.example", None),
            ("/\u{0}/evil.example", None),
            ("/\u{85}/evil.example", None),
            ("/\u{7f}", None),
            ("/a/..//evil.example", None),
            ("/.//evil.example", None),
            ("/./\\evil.example", None),
            ("/%2e//evil.example", None),
            ("/%2e%2e//evil.example", None),
            ("/%2F/evil.example", None),
            ("/%2fevil.example", None),
            ("/%5cevil.example", None),
            ("/%5C%5Cevil.example", None),
            ("/%09/evil.example", None),
            ("/%0d%0aLocation:%20https://evil.example", None),
            ("/%00", None),
            ("/%ff", None),
            ("https://evil.example/", None),
            ("https://app.example/", None),
            ("https:/evil.example", None),
            ("https:evil.example", None),
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("@evil.example", None),
            (".evil.example", None),
            ("?x", None),
            // Our own routes.
            ("/auth/login", None),
            ("/auth/logout", None),
            ("/auth/logout?x", None),
            ("/x/../auth/logout", None),
            ("/auth/./logout", None),
            ("/auth/%2e/logout", None),
            ("/oauth2callback?code=x", None),
            ("/auth/user", None),
            (&long, None),
            (&long_when_encoded, None),
        ];
        for (text, expected) in table {
            assert_eq!(site("").next(text).as_ref().map(Next::as_str), *expected, "{text:?}");
        }
    }

    #[test]
    fn leads_to_hosts_that_share_the_login_and_to_no_other() {
        let url = |text: &str| Url::parse(text).unwrap();
        let shared = SharedLogin {
            cookie_domain: "apps.example".into(),
            login_origin: url("https://apps.example"),
            origins: vec![url("https://apps.example"), url("https://wiki.apps.example")],
        };
        let site = Site::new(GateConfig {
            shared_login: Some(shared),
            ..GateConfig::new(url("https://apps.example"))
        })
        .unwrap();
        for (text, expected) in [
            ("/page", true),
            ("https://wiki.apps.example/", true),
            ("https://wiki.apps.example/page?next=https://evil.example/", true),
            ("https://wiki.apps.example/wiki/authentic", true),
            // Not as our gate writes it.
            ("https://wiki.apps.example", false),
            ("https://wiki.apps.example:443/", false),
            ("https://WIKI.apps.example/", false),
            ("https:/wiki.apps.example/", false),
            (" https://wiki.apps.example/", false),
            ("https://wiki.apps.example/a/../b", false),
            ("https://wiki.apps.example/#x", false),
            ("https://wiki.apps.example\\@evil.example/", false),
            // Not one of the hosts.
            ("https://apps.example/", false),
            ("http://wiki.apps.example/", false),
            ("https://wiki.apps.example:444/", false),
            ("https://other.apps.example/", false),
            ("https://wiki.apps.example.evil.example/", false),
            ("https://wiki.apps.example@evil.example/", false),
            ("https://evil.example@wiki.apps.example/", false),
            ("https://evil.example/https://wiki.apps.example/", false),
            ("//wiki.apps.example/", false),
            // What leads elsewhere on a host leads elsewhere on that one.
            ("https://wiki.apps.example//evil.example", false),
            ("https://wiki.apps.example/%2fevil.example", false),
            ("https://wiki.apps.example/auth/logout", false),
            ("https://wiki.apps.example/reports/auth/logout?x", false),
            ("https://wiki.apps.example/oauth2callback?code=x", false),
        ] {
            assert_eq!(site.next(text).as_ref().map(Next::as_str), expected.then_some(text), "{text}");
        }
    }

    #[test]
    fn stays_below_the_base_path() {
        for (text, expected) in [
            ("/app", true),
            ("/app?x", true),
            ("/app/page", true),
            ("/application", false),
            ("/", false),
            ("/other", false),
            ("/app/../other", false),
            ("/app/auth/logout", false),
            ("/app/oauth2callback", false),
        ] {
            assert_eq!(site("/app").next(text).is_some(), expected, "{text}");
        }
        assert_eq!(site("/app").next_start().as_str(), "/app/");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_taken_leads_to_this_app(text in "(/app)?([/\\\\.%@:?#a-f0-9\t\n ]|//|%2[ef]|%5c|https?:|evil\\.example|/app){0,12}") {
            let site = site("/app");
            if let Some(next) = site.next(&text) {
                // As a browser reads `Location` on any page of ours.
                for page in ["https://app.example/", "https://app.example/app/auth/login", "https://app.example/a/b/c"] {
                    let there = Url::parse(page).unwrap().join(next.as_str()).unwrap();
                    proptest::prop_assert_eq!(there.origin(), site.origins.public().origin());
                    proptest::prop_assert!(there.path() == "/app" || there.path().starts_with("/app/"));
                }
                // Taken once, taken again: the callback checks what the login sealed.
                proptest::prop_assert_eq!(site.next(next.as_str()), Some(next));
            }
        }
    }
}
