//! Which headers reach the app, and which come back. Pure functions over header maps.
//!
//! The rule: what the app reads as the gate's word is the gate's word. A client can neither say it (by a header of the
//! same name, however spelt) nor unsay it (by naming it in `Connection`).

use freshgate::session::SessionKey;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, HOST, ORIGIN, PROXY_AUTHORIZATION, SET_COOKIE, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

use super::cookies;

/// The header by which an app learns the handle of the visitor's session.
pub const FRESHGATE_SESSION: HeaderName = HeaderName::from_static("freshgate-session");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The path that an app is at which takes itself to be at `/`.
pub(super) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the gate tells the app about a request.
#[derive(Clone, Copy, Debug)]
pub struct GateFacts<'a> {
    /// The visitor's session; `None` for an anonymous visitor.
    pub session: Option<&'a SessionKey>,
    /// The client's address; `None` if the server in front did not say.
    pub client: Option<&'a HeaderValue>,
    /// The host of the public address, with its port if that is not the scheme's; `None`: as `Host` has it.
    pub host: Option<&'a HeaderValue>,
    /// The scheme of the public address.
    pub scheme: &'static str,
    /// Further headers that only the gate may set, such as those an app was told to trust.
    pub identity_headers: &'a [HeaderName],
}

/// Makes a client's headers fit for the app: takes out what belongs to the connection, what speaks of identity and our
/// cookies, then adds what the gate says. `Host` and all else stays as it came.
///
/// A WebSocket handshake (`websocket`) keeps its `Connection` and `Upgrade`, in their plainest form.
pub fn prepare_request(headers: &mut HeaderMap, facts: &GateFacts<'_>, websocket: bool) {
    let wants_trailers = accepts_trailers(headers);
    let doomed = doomed_request_headers(headers, facts.identity_headers);
    for name in doomed {
        headers.remove(name);
    }
    cookies::keep_from_app(headers);

    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else if wants_trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(host) = facts.host.or(headers.get(HOST)).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(facts.scheme));
    if let Some(address) = facts.client {
        headers.insert(X_FORWARDED_FOR, address.clone());
    }
    if let Some(value) = facts.session.and_then(|key| HeaderValue::try_from(key.to_string()).ok()) {
        headers.insert(FRESHGATE_SESSION, value);
    }
}

/// Makes the app's answer fit for the client: takes out what belongs to the connection to the app, and cookies that
/// bear the gate's names.
pub fn prepare_response(headers: &mut HeaderMap, status: StatusCode) {
    let upgrade = match status {
        // 426 must say which protocol it wants (RFC 9110 section 15.5.22).
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED => headers.remove(UPGRADE),
        _ => None,
    };
    for name in doomed_response_headers(headers) {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    cookies::keep_from_browser(headers);
}

/// Removes from trailers what a client may not say in headers either: some servers merge the two.
pub fn prepare_request_trailers(trailers: &mut HeaderMap, identity_headers: &[HeaderName]) {
    for name in doomed_request_headers(trailers, identity_headers) {
        trailers.remove(name);
    }
    trailers.remove(COOKIE);
    trailers.remove(HOST);
}

/// Whether a header of this name is the gate's to set: it says who the user is, where the request came from, or which path
/// it is for. Some servers cut `SCRIPT_NAME` off the path, or take `PATH_INFO` for it, from whoever speaks from loopback: they
/// would serve another path than the one whose rules were asked.
///
/// CGI and WSGI turn `-` into `_` before an app sees a name, and some servers do so with any odd character: a name
/// counts as ours if it is so after that mapping.
pub fn speaks_of_identity(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'f') => starts_like(name, "freshgate-") || reads_like(name, "forwarded"),
        // `Proxy` becomes the variable HTTP_PROXY, which HTTP libraries obey.
        Some(b'p') => name == "proxy" || reads_like(name, "path-info"),
        Some(b'r') => reads_like(name, "remote-user"),
        Some(b's') => reads_like(name, "script-name"),
        Some(b't') => reads_like(name, "true-client-ip"),
        Some(b'x') => {
            starts_like(name, "x-forwarded-")
                || starts_like(name, "x-auth-request-")
                || X_NAMES.iter().any(|ours| reads_like(name, ours))
        }
        _ => false,
    }
}

const X_NAMES: [&str; 8] = [
    "x-real-ip",
    "x-client-ip",
    "x-remote-user",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-script-name",
    "x-envoy-original-path",
];

/// RFC 9110 section 7.6.1, and those that clients still send in their spirit.
static HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS];

/// What naming it in `Connection` does not remove: without these the request would be another one.
static NOT_TO_BE_NOMINATED: [HeaderName; 5] =
    [CONTENT_LENGTH, COOKIE, HOST, http::header::AUTHORIZATION, ORIGIN];

fn doomed_request_headers(headers: &HeaderMap, identity_headers: &[HeaderName]) -> Vec<HeaderName> {
    let is_doomed = |name: &HeaderName| {
        HOP_BY_HOP.contains(name)
            || *name == PROXY_AUTHORIZATION
            || speaks_of_identity(name.as_str())
            || identity_headers.iter().any(|ours| reads_like(name.as_str(), ours.as_str()))
    };
    let mut doomed: Vec<_> = headers.keys().filter(|name| is_doomed(name)).cloned().collect();
    if doomed.contains(&CONNECTION) {
        doomed.extend(nominated(headers).filter(|name| {
            !NOT_TO_BE_NOMINATED.contains(name) && !name.as_str().starts_with("sec-websocket-")
        }));
    }
    doomed
}

fn doomed_response_headers(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut doomed: Vec<_> = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned().collect();
    if doomed.contains(&CONNECTION) {
        doomed.extend(nominated(headers).filter(|name| *name != CONTENT_LENGTH && *name != SET_COOKIE));
    }
    doomed
}

/// The names that `Connection` lists.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        // The three that nearly every message carries name no header, or one that goes anyway.
        .filter(|token| {
            !token.eq_ignore_ascii_case(b"keep-alive")
                && !token.eq_ignore_ascii_case(b"close")
                && !token.eq_ignore_ascii_case(b"upgrade")
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn reads_like(name: &str, ours: &str) -> bool {
    name.len() == ours.len() && starts_like(name, ours)
}

fn starts_like(name: &str, ours: &str) -> bool {
    name.len() >= ours.len()
        && name.bytes().zip(ours.bytes()).all(|(theirs, ours)| plain(theirs) == plain(ours))
}

fn plain(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sent<'a> = &'a [(&'a str, &'a str)];

    fn map(lines: Sent<'_>) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        lines.sort();
        lines
    }

    fn key() -> SessionKey {
        SessionKey::from_bytes([7; 32])
    }

    const SIGNED_IN: [&str; 4] = [
        "host: app.test",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: app.test",
        "x-forwarded-proto: https",
    ];

    fn prepared(sent: Sent<'_>, session: Option<&SessionKey>) -> Vec<String> {
        let mut headers = map(sent);
        headers.insert(HOST, HeaderValue::from_static("app.test"));
        let identity_headers = [HeaderName::from_static("x-app-user")];
        let facts = GateFacts {
            session,
            client: Some(&HeaderValue::from_static("192.0.2.7")),
            host: None,
            scheme: "https",
            identity_headers: &identity_headers,
        };
        prepare_request(&mut headers, &facts, false);
        lines(&headers)
    }

    /// What a client sends beside `Host`, and what is left of it beside what the gate says.
    #[test]
    fn hygiene_of_request_headers() {
        let table: &[(Sent<'_>, &[&str])] = &[
            (&[], &[]),
            (&[("accept", "*/*"), ("x-app", "1")], &["accept: */*", "x-app: 1"]),
            (&[("authorization", "Basic Zm9v")], &["authorization: Basic Zm9v"]),
            // Ours, however spelt.
            (&[("freshgate-session", "forged")], &[]),
            (&[("Freshgate_Session", "forged")], &[]),
            (&[("freshgate.session", "forged")], &[]),
            (&[("freshgate-anything-later", "forged")], &[]),
            (
                &[("x-forwarded-user", "root"), ("X_Forwarded_User", "root"), ("x-forwarded_user", "root")],
                &[],
            ),
            (&[("x-forwarded-email", "a@b"), ("x-forwarded-groups", "admin")], &[]),
            (&[("x-forwarded-preferred-username", "root")], &[]),
            (
                &[
                    ("x-forwarded-for", "127.0.0.1"),
                    ("x-forwarded-proto", "ftp"),
                    ("x-forwarded-host", "evil"),
                ],
                &[],
            ),
            (
                &[
                    ("x_forwarded_for", "127.0.0.1"),
                    ("forwarded", "for=127.0.0.1"),
                    ("x-real-ip", "127.0.0.1"),
                ],
                &[],
            ),
            (
                &[("x-forwarded-uri", "/public"), ("x-original-url", "/admin"), ("x-rewrite-url", "/admin")],
                &[],
            ),
            (&[("x-auth-request-user", "root"), ("remote-user", "root"), ("remote_user", "root")], &[]),
            (&[("proxy", "http://evil")], &[]),
            (
                &[
                    ("script_name", "/x"),
                    ("Script-Name", "/x"),
                    ("x-script-name", "/x"),
                    ("path_info", "/admin"),
                ],
                &[],
            ),
            (&[("x-envoy-original-path", "/admin"), ("x-client-ip", "::1"), ("true-client-ip", "::1")], &[]),
            (&[("x-app-user", "root"), ("x_app_user", "root")], &[]),
            // Near misses stay.
            (&[("x-forward", "1"), ("freshgated", "1")], &["freshgated: 1", "x-forward: 1"]),
            // Hop by hop.
            (&[("connection", "keep-alive"), ("keep-alive", "timeout=5")], &[]),
            (&[("connection", "close, x-mine"), ("x-mine", "1"), ("x-other", "2")], &["x-other: 2"]),
            (&[("connection", "X-Mine"), ("connection", "x-yours"), ("x-mine", "1"), ("x-yours", "2")], &[]),
            (&[("proxy-connection", "keep-alive"), ("proxy-authorization", "Basic Zm9v")], &[]),
            (
                &[("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "AAAA")],
                &[],
            ),
            (&[("te", "gzip")], &[]),
            (&[("te", "gzip, Trailers"), ("connection", "te")], &["connection: te", "te: trailers"]),
            (&[("trailer", "x-sum")], &["trailer: x-sum"]),
            (&[("connection", "n\u{f6}nsense, , ,"), ("accept", "*/*")], &["accept: */*"]),
            // Naming these in `Connection` takes nothing away.
            (
                &[("connection", "cookie, authorization, host, origin, content-length"), ("cookie", "a=1")],
                &["cookie: a=1"],
            ),
            (
                &[
                    ("connection", "authorization"),
                    ("authorization", "Bearer x"),
                    ("origin", "https://app.test"),
                ],
                &["authorization: Bearer x", "origin: https://app.test"],
            ),
            (
                &[("connection", "x-forwarded-for, freshgate-session, x-forwarded-proto, x-forwarded-host")],
                &[],
            ),
            // Cookies.
            (&[("cookie", "freshgate=secret; a=1")], &["cookie: a=1"]),
        ];
        for (sent, left) in table {
            let mut expected: Vec<String> = left.iter().chain(&SIGNED_IN).map(ToString::to_string).collect();
            expected.sort();
            assert_eq!(prepared(sent, None), expected, "anonymous: {sent:?}");

            expected.push(format!("freshgate-session: {}", key()));
            expected.sort();
            assert_eq!(prepared(sent, Some(&key())), expected, "signed in: {sent:?}");
        }
    }

    #[test]
    fn a_websocket_handshake_keeps_its_positional_headers() {
        let mut headers = map(&[
            ("host", "app.test"),
            ("connection", "keep-alive, Upgrade, sec-websocket-protocol"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "streamlit, 2|abc|def|1, session-1"),
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
            ("sec-websocket-version", "13"),
        ]);
        let public = HeaderValue::from_static("public.test");
        let facts = GateFacts {
            session: None,
            client: None,
            host: Some(&public),
            scheme: "http",
            identity_headers: &[],
        };
        prepare_request(&mut headers, &facts, true);
        assert_eq!(
            lines(&headers),
            [
                "connection: upgrade",
                "host: app.test",
                "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-protocol: streamlit, 2|abc|def|1, session-1",
                "sec-websocket-version: 13",
                "upgrade: websocket",
                "x-forwarded-host: public.test",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn hygiene_of_response_headers() {
        let table: &[(u16, Sent<'_>, &[&str])] = &[
            (200, &[("content-type", "text/html")], &["content-type: text/html"]),
            (
                200,
                &[
                    ("connection", "close, x-hop"),
                    ("x-hop", "1"),
                    ("keep-alive", "timeout=5"),
                    ("server", "app"),
                ],
                &["server: app"],
            ),
            (200, &[("transfer-encoding", "chunked"), ("upgrade", "h2")], &[]),
            (200, &[("connection", "set-cookie"), ("set-cookie", "a=1")], &["set-cookie: a=1"]),
            (200, &[("set-cookie", "freshgate=fixed; Path=/"), ("set-cookie", "a=1")], &["set-cookie: a=1"]),
            (
                426,
                &[("connection", "upgrade"), ("upgrade", "websocket")],
                &["connection: upgrade", "upgrade: websocket"],
            ),
            (
                101,
                &[
                    ("connection", "Upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-protocol", "streamlit"),
                ],
                &["connection: upgrade", "sec-websocket-protocol: streamlit", "upgrade: websocket"],
            ),
        ];
        for (status, sent, expected) in table {
            let mut headers = map(sent);
            prepare_response(&mut headers, StatusCode::from_u16(*status).expect("a status"));
            assert_eq!(lines(&headers), *expected, "{status} {sent:?}");
        }
    }

    #[test]
    fn trailers_carry_no_identity() {
        let mut trailers = map(&[
            ("x-sum", "1"),
            ("freshgate_session", "forged"),
            ("x-forwarded-user", "root"),
            ("cookie", "freshgate=x"),
            ("host", "evil"),
        ]);
        prepare_request_trailers(&mut trailers, &[]);
        assert_eq!(lines(&trailers), ["x-sum: 1"]);
    }
}
