//! What is wrong with a request before anyone asks what it is for.
//!
//! hyper has refused what it cannot parse by now. These checks refuse what different programs read differently: a gate
//! that matches its rules against one reading must not forward the other.

use freshgate_web::{Failure, Fault};
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::framing;

/// Why a request is refused unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// RFC 9112 section 3.2 demands one.
    #[error("the request has no Host header")]
    HostMissing,
    /// RFC 9112 section 3.2 forbids it.
    #[error("the request has more than one Host header")]
    HostRepeated,
    /// Not a host, with or without a port.
    #[error("the Host header is not a host")]
    HostInvalid,
    /// An absolute target and `Host` name different places.
    #[error("the request's target and its Host header disagree")]
    HostDisagrees,
    /// Neither a path nor an http address.
    #[error("the request's target is not a path")]
    TargetForm,
    /// Segments that lead upwards, backslashes or NUL, plain or percent-encoded.
    #[error("the path has segments that different programs read differently")]
    PathAmbiguous,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112 section 6.3).
    #[error("the request says its length in two ways")]
    AmbiguousLength,
    /// No number, or several (RFC 9110 section 8.6). Of HTTP/1.1 the parser knows as much.
    #[error("the request's Content-Length is no length")]
    ContentLength,
    /// Its head is longer than we take, or has more than a hundred headers (RFC 6585 section 5).
    #[error("the request's head is too large")]
    HeadTooLarge,
    /// Any transfer coding but `chunked`.
    #[error("the request's transfer coding is not chunked")]
    TransferCoding,
    /// HTTP/2 has no such headers (RFC 9113 section 8.2.2).
    #[error("the request has a header that is about the connection, which HTTP/2 does not know")]
    ConnectionHeader,
    /// `CONNECT` would turn the gate into a tunnel; `TRACE` would show what the gate adds to a request.
    #[error("the gate does not serve this method")]
    Method,
}

impl MalformedRequest {
    /// The status to refuse it with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<MalformedRequest> for Failure {
    fn from(malformed: MalformedRequest) -> Self {
        let (code, heading, message) = match malformed {
            MalformedRequest::HeadTooLarge => (
                "head_too_large",
                "Your browser sends too much",
                "Mostly it is the cookies of this site that have become too many. Delete the cookies of this site in your \
                 browser, then open the page again.",
            ),
            MalformedRequest::Method => (
                "method_not_allowed",
                "This cannot be done here",
                "This site does not answer requests of this kind.",
            ),
            _ => (
                "malformed_request",
                "This request cannot be read",
                "The address is malformed, or something between your browser and us changed the request.",
            ),
        };
        Self::new(Fault::Browser, malformed.status(), code, heading, message).caused_by(malformed)
    }
}

/// Checks a request, and turns an absolute target into the path that it names.
pub(super) fn check<B>(request: &mut Request<B>) -> Result<(), MalformedRequest> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(MalformedRequest::Method);
    }
    if request.version() == Version::HTTP_2 {
        as_http1(request)?;
    }
    let host = the_host(request)?;
    if let Some(named) = request.uri().authority() {
        let host = read_host(host.as_bytes()).ok_or(MalformedRequest::HostInvalid)?;
        let scheme = request.uri().scheme().ok_or(MalformedRequest::TargetForm)?;
        if !is_same_host(named, &host, default_port(scheme).ok_or(MalformedRequest::TargetForm)?) {
            return Err(MalformedRequest::HostDisagrees);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    if !request.uri().path().starts_with('/') {
        return Err(MalformedRequest::TargetForm);
    }
    if !is_unambiguous(request.uri().path()) {
        return Err(MalformedRequest::PathAmbiguous);
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(MalformedRequest::TransferCoding),
    }
}

/// Has a request of HTTP/2 say what one of HTTP/1.1 does: the rules, and the apps, know that alone.
fn as_http1<B>(request: &mut Request<B>) -> Result<(), MalformedRequest> {
    let authority = request.uri().authority().cloned();
    let headers = request.headers_mut();
    // Sent in pieces, to be compressed better (RFC 9113 section 8.2.3). They are one header.
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let whole = HeaderValue::from_bytes(&pieces.join(&b"; "[..]));
        headers.insert(COOKIE, whole.map_err(|_| MalformedRequest::ConnectionHeader)?);
    }
    if headers.len() > framing::MOST_HEADERS as usize {
        return Err(MalformedRequest::HeadTooLarge);
    }
    let of_a_connection = [&CONNECTION, &UPGRADE, &TRANSFER_ENCODING, &KEEP_ALIVE, &PROXY_CONNECTION];
    let is_te_malformed = headers.get_all(TE).iter().any(|te| te != "trailers");
    if is_te_malformed || of_a_connection.iter().any(|name| headers.contains_key(*name)) {
        return Err(MalformedRequest::ConnectionHeader);
    }
    if let (Some(authority), false) = (authority, headers.contains_key(HOST)) {
        // With both, they are held against each other as an absolute target is against `Host` (RFC 9113 section 8.3.1).
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| MalformedRequest::HostInvalid)?;
        headers.insert(HOST, host);
    }
    // The frames have said how long the body is, and this was held against them. The app is told in the one way that all read.
    let lengths: Vec<&HeaderValue> = headers.get_all(CONTENT_LENGTH).iter().collect();
    match lengths[..] {
        [] => {}
        [length, ref others @ ..]
            if is_digits(length.as_bytes()) && others.iter().all(|other| *other == length) =>
        {
            let length = length.clone();
            headers.insert(CONTENT_LENGTH, length);
        }
        _ => return Err(MalformedRequest::ContentLength),
    }
    Ok(())
}

fn is_digits(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

fn the_host<B>(request: &Request<B>) -> Result<&HeaderValue, MalformedRequest> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Err(MalformedRequest::HostMissing),
        (Some(_), Some(_)) => Err(MalformedRequest::HostRepeated),
        (Some(host), None) if is_plain_host(host.as_bytes()) || read_host(host.as_bytes()).is_some() => {
            Ok(host)
        }
        (Some(_), None) => Err(MalformedRequest::HostInvalid),
    }
}

/// Whether this is a name or an IPv4 address, perhaps with a port. Nearly every host is, and `read_host` costs more.
fn is_plain_host(host: &[u8]) -> bool {
    let mut parts = host.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default();
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty() && name.iter().all(is_name_byte) && parts.next().is_none_or(is_port)
}

fn is_port(digits: &[u8]) -> bool {
    // `parse` alone would take a sign.
    digits.iter().all(u8::is_ascii_digit)
        && str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

/// A host, perhaps with a port, and nothing else.
pub(super) fn read_host(host: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(host).ok()?;
    let rest = authority.as_str().strip_prefix(authority.host())?;
    let port_is_good = match rest.strip_prefix(':') {
        Some(digits) => is_port(digits.as_bytes()),
        None => rest.is_empty(),
    };
    (!authority.host().is_empty() && port_is_good).then_some(authority)
}

fn is_same_host(named: &Authority, host: &Authority, default_port: u16) -> bool {
    !named.as_str().contains('@')
        && named.host().eq_ignore_ascii_case(host.host())
        && named.port_u16().unwrap_or(default_port) == host.port_u16().unwrap_or(default_port)
}

fn default_port(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Whether every program reads the same segments in this path: no `.` or `..`, with spaces or without, no backslash, no NUL,
/// in plain text or percent-encoded once. An encoded slash counts as a slash, and `;` ends a segment's name, as some programs have it.
fn is_unambiguous(path: &str) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Segment {
        Empty,
        Dot,
        DotDot,
        Name,
        Parameters { of_dots: bool },
    }
    let leads_elsewhere =
        |segment| matches!(segment, Segment::Dot | Segment::DotDot | Segment::Parameters { of_dots: true });
    let mut segment = Segment::Empty;
    let mut rest = path.as_bytes();
    while let Some((&first, mut after)) = rest.split_first() {
        let byte = match (first, percent_decoded(after)) {
            (b'%', Some(decoded)) => {
                after = &after[2..];
                decoded
            }
            _ => first,
        };
        segment = match (byte, segment) {
            (b'\\' | 0, _) => return false,
            (b'/', ended) if leads_elsewhere(ended) => return false,
            (b'/', _) => Segment::Empty,
            (_, parameters @ Segment::Parameters { .. }) => parameters,
            (b';', name) => Segment::Parameters { of_dots: leads_elsewhere(name) },
            (b' ', dots @ (Segment::Empty | Segment::Dot | Segment::DotDot)) => dots,
            (b'.', Segment::Empty) => Segment::Dot,
            (b'.', Segment::Dot) => Segment::DotDot,
            _ => Segment::Name,
        };
        rest = after;
    }
    !leads_elsewhere(segment)
}

fn percent_decoded(after: &[u8]) -> Option<u8> {
    let digit = |at: usize| after.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let good = [
            "/",
            "/a",
            "/a/",
            "//a",
            "/a.b/c..d/...",
            "/.well-known/x",
            "/..a",
            "/a%20b",
            "/a/%20/.b%20",
            "/a/%20..b",
            "/a%2fb",
            "/%",
            "/%zz",
            "/a;b=..",
            "/a;..",
            "/100%/x",
            "/_stcore/stream",
            "/%252e%252e/",
        ];
        for path in good {
            assert!(is_unambiguous(path), "{path}");
        }
        let bad = [
            "/..",
            "/../",
            "/a/../b",
            "/a/..",
            "/.",
            "/./a",
            "/a/./b",
            "/%2e%2e/",
            "/%2E%2e",
            "/.%2e/a",
            "/%2e./a",
            "/%2e",
            "/a%2f../b",
            "/a%2f..%2fb",
            "/a/..%2fb",
            "/..;/a",
            "/..;x=1",
            "/%2e%2e%3b/a",
            "/.;/a",
            "/a\\b",
            "/..\\a",
            "/a%5cb",
            "/a%5C..%5Cb",
            "/a/..%20/b",
            "/a/%20../b",
            "/a/.%20./b",
            "/a/%20.;x/b",
            "/a%00",
            "/%00",
        ];
        for path in bad {
            assert!(!is_unambiguous(path), "{path}");
        }
    }

    /// The headers of a request of HTTP/2 as the rules and the app get them, or why it is refused.
    #[test]
    fn requests_of_http_2_say_what_those_of_http_1_do() {
        use MalformedRequest as No;
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let table: &[(&str, Headers<'_>, Result<Headers<'_>, No>)] = &[
            ("https://app.test/", &[], Ok(&[("host", "app.test")])),
            ("https://app.test:8443/", &[], Ok(&[("host", "app.test:8443")])),
            ("https://app.test/", &[("host", "app.test")], Ok(&[("host", "app.test")])),
            ("https://app.test/", &[("host", "evil.test")], Err(No::HostDisagrees)),
            ("https://app.test/", &[("host", "app.test"), ("host", "app.test")], Err(No::HostRepeated)),
            ("https://user@app.test/", &[], Err(No::HostInvalid)),
            ("/", &[], Err(No::HostMissing)),
            ("/", &[("host", "app.test")], Ok(&[("host", "app.test")])),
            ("https://app.test/a/../b", &[], Err(No::PathAmbiguous)),
            (
                "https://app.test/",
                &[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")],
                Ok(&[("cookie", "a=1; b=2; c=3; d=4"), ("host", "app.test")]),
            ),
            ("https://app.test/", &[("te", "trailers")], Ok(&[("host", "app.test"), ("te", "trailers")])),
            ("https://app.test/", &[("te", "gzip")], Err(No::ConnectionHeader)),
            ("https://app.test/", &[("connection", "x-forwarded-user")], Err(No::ConnectionHeader)),
            ("https://app.test/", &[("transfer-encoding", "chunked")], Err(No::ConnectionHeader)),
            ("https://app.test/", &[("upgrade", "websocket")], Err(No::ConnectionHeader)),
            ("https://app.test/", &[("keep-alive", "timeout=5")], Err(No::ConnectionHeader)),
            ("https://app.test/", &[("proxy-connection", "close")], Err(No::ConnectionHeader)),
        ];
        for (uri, headers, expected) in table {
            let mut request = Request::builder().version(Version::HTTP_2).uri(*uri);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let mut request = request.body(()).expect("a request");
            let checked = check(&mut request).map(|()| {
                let headers = request.headers().iter();
                let mut headers: Vec<_> =
                    headers.map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
                headers.sort_unstable();
                headers
            });
            assert_eq!(checked, expected.map(<[_]>::to_vec), "{uri} {headers:?}");
        }
    }

    fn checked(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<String, MalformedRequest> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).expect("a request");
        check(&mut request).map(|()| request.uri().to_string())
    }

    #[test]
    fn requests() {
        use MalformedRequest as No;
        type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Result<&'a str, No>);
        const HOST: (&str, &str) = ("host", "app.test");
        let table: &[Row<'_>] = &[
            ("GET", "/a?b=c", &[HOST], Ok("/a?b=c")),
            ("GET", "/", &[("host", "app.test:8501")], Ok("/")),
            ("GET", "/", &[("host", "[::1]:8501")], Ok("/")),
            ("GET", "/?x=/../%00\\", &[HOST], Ok("/?x=/../%00\\")),
            ("GET", "/", &[], Err(No::HostMissing)),
            ("GET", "/", &[HOST, HOST], Err(No::HostRepeated)),
            ("GET", "/", &[("host", "")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", ":80")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "user@app.test")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "app.test/x")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "app.test, evil.test")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "app.test:")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "app.test:+80")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "[::1]:+80")], Err(No::HostInvalid)),
            ("GET", "/", &[("host", "app_1.test")], Ok("/")),
            ("GET", "/", &[("host", "app.test:99999")], Err(No::HostInvalid)),
            ("GET", "http://app.test/a?b", &[HOST], Ok("/a?b")),
            ("GET", "http://APP.test:80/a", &[HOST], Ok("/a")),
            ("GET", "http://app.test", &[HOST], Ok("/")),
            ("GET", "https://app.test/a", &[("host", "app.test:443")], Ok("/a")),
            ("GET", "http://evil.test/a", &[HOST], Err(No::HostDisagrees)),
            ("GET", "http://app.test:8080/a", &[HOST], Err(No::HostDisagrees)),
            ("GET", "http://user@app.test/a", &[HOST], Err(No::HostDisagrees)),
            ("GET", "ftp://app.test/a", &[HOST], Err(No::TargetForm)),
            ("OPTIONS", "*", &[HOST], Err(No::TargetForm)),
            ("GET", "app.test:80", &[HOST], Err(No::TargetForm)),
            ("GET", "/a/../b", &[HOST], Err(No::PathAmbiguous)),
            ("GET", "http://app.test/%2e%2e/b", &[HOST], Err(No::PathAmbiguous)),
            ("CONNECT", "app.test:80", &[HOST], Err(No::Method)),
            ("TRACE", "/", &[HOST], Err(No::Method)),
            ("POST", "/", &[HOST, ("transfer-encoding", "Chunked")], Ok("/")),
            ("POST", "/", &[HOST, ("transfer-encoding", "gzip, chunked")], Err(No::TransferCoding)),
            (
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(No::TransferCoding),
            ),
        ];
        for (method, target, headers, expected) in table {
            let expected = expected.map(str::to_owned);
            assert_eq!(checked(method, target, headers), expected, "{method} {target} {headers:?}");
        }
    }
}
