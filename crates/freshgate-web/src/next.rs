//! Where a user goes after a login: a page of this app, and nothing else.

use percent_encoding::percent_decode_str;
use url::{Position, Url};

use crate::{config::Site, route::Route};

/// The longest path and query that is kept: it travels in a cookie, of which browsers keep 4096 bytes.
const LONGEST: usize = 1536;

/// A path of this app, with its query: safe to send a browser to.
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
        if text.len() > LONGEST || !is_local(text) {
            return None;
        }
        // The way a browser reads it: dots are resolved, what needs it is percent-encoded.
        let url = self.origins.public().join(text).ok()?;
        self.next_url(&url)
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
    use crate::config::GateConfig;

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
