//! Whose a request is, and how it was asked.

use http::{Method, header, request::Parts};

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Answered here.
    Ours(Ours),
    /// The app's, for everyone.
    Public,
    /// The app's, for whom the guard lets through.
    Protected,
}

/// The routes that are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ours {
    Login,
    Callback,
    Logout,
    Refresh,
    User,
    BackChannelLogout,
    FrontChannelLogout,
    Verify,
}

impl Ours {
    /// The route of a path below the base path. The callback's path is configured; see `Site::route`.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let all = [
            Self::Login,
            Self::Logout,
            Self::Refresh,
            Self::User,
            Self::BackChannelLogout,
            Self::FrontChannelLogout,
            Self::Verify,
        ];
        // Most paths of an app fail here at once.
        path.starts_with("/auth/").then(|| all.into_iter().find(|ours| ours.path() == path))?
    }

    /// The path below the base path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Login => "/auth/login",
            Self::Callback => "/oauth2callback",
            Self::Logout => "/auth/logout",
            Self::Refresh => "/auth/refresh",
            Self::User => "/auth/user",
            Self::BackChannelLogout => "/auth/backchannel-logout",
            Self::FrontChannelLogout => "/auth/frontchannel-logout",
            Self::Verify => "/auth/verify",
        }
    }

    /// The methods it answers, as in `Allow`.
    pub(crate) fn allowed(self) -> &'static str {
        match self {
            Self::Callback | Self::User | Self::FrontChannelLogout => "GET",
            Self::Login | Self::Logout => "GET, POST",
            Self::Refresh | Self::BackChannelLogout => "POST",
            Self::Verify => "GET, HEAD",
        }
    }
}

/// How a request was asked, which decides what a refusal looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// By a tab: the answer becomes the page.
    Page,
    /// By a script, or a program.
    Data,
    /// To be upgraded, in practice to a WebSocket.
    Socket,
}

impl Asked {
    pub(crate) fn of(request: &Parts) -> Self {
        let headers = &request.headers;
        let header = |name| headers.get(name).map(http::HeaderValue::as_bytes);
        // Whatever may become a socket is held to the rules of one. `CONNECT` is how HTTP/2 asks (RFC 8441).
        if headers.contains_key(header::UPGRADE) || request.method == Method::CONNECT {
            return Self::Socket;
        }
        match header("sec-fetch-mode") {
            Some(b"navigate" | b"nested-navigate") => Self::Page,
            Some(_) => Self::Data,
            // Before Fetch Metadata, or on plain http.
            None => match header("accept") {
                Some(accept) if accept.windows(9).any(|window| window.eq_ignore_ascii_case(b"text/html")) => {
                    Self::Page
                }
                _ => Self::Data,
            },
        }
    }
}

/// Whether the browser asks ahead of the user (prefetch, prerender). Such a request must change nothing.
pub(crate) fn is_speculative(request: &Parts) -> bool {
    ["sec-purpose", "purpose", "x-moz"].into_iter().any(|name| {
        let values = request.headers.get_all(name).iter();
        values.into_iter().any(|value| {
            let value = value.as_bytes();
            value.windows(8).any(|window| window.eq_ignore_ascii_case(b"prefetch"))
        })
    })
}

/// Whether the tab itself navigates, rather than a frame in it.
pub(crate) fn is_top_level(request: &Parts) -> bool {
    request.headers.get("sec-fetch-dest").is_none_or(|destination| destination == "document")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn tells_how_a_request_was_asked() {
        use Asked::{Data, Page, Socket};
        const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        type Headers = &'static [(&'static str, &'static str)];
        let table: &[(&str, Headers, Asked)] = &[
            ("GET", &[], Data),
            ("GET", &[("accept", "*/*")], Data),
            ("GET", &[("accept", BROWSER)], Page),
            ("GET", &[("accept", "Text/HTML")], Page),
            ("GET", &[("accept", BROWSER), ("sec-fetch-mode", "cors")], Data),
            ("GET", &[("accept", "*/*"), ("sec-fetch-mode", "navigate")], Page),
            ("GET", &[("accept", "image/avif,image/webp,*/*"), ("sec-fetch-mode", "no-cors")], Data),
            ("POST", &[("accept", BROWSER), ("sec-fetch-mode", "navigate")], Page),
            ("GET", &[("upgrade", "websocket"), ("connection", "Upgrade")], Socket),
            ("GET", &[("upgrade", "websocket"), ("accept", BROWSER)], Socket),
            ("GET", &[("upgrade", "h2c")], Socket),
            ("CONNECT", &[], Socket),
        ];
        for (method, headers, expected) in table {
            assert_eq!(Asked::of(&request(method, headers)), *expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn knows_what_is_asked_ahead() {
        for (name, value, expected) in [
            ("sec-purpose", "prefetch", true),
            ("sec-purpose", "prefetch;prerender", true),
            ("purpose", "prefetch", true),
            ("x-moz", "prefetch", true),
            ("sec-purpose", "something", false),
            ("accept", "prefetch", false),
        ] {
            assert_eq!(is_speculative(&request("GET", &[(name, value)])), expected, "{name}: {value}");
        }
    }
}
