//! A browser: a cookie jar, Fetch Metadata, and nothing that follows redirects behind a story's back.

use std::collections::BTreeMap;

use bytes::Bytes;
use freshgate::session::{SessionId, SessionKey};
use freshgate_web::{Arrival, Gate};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use tower::Service;
use url::Url;

use crate::world::{App, infallible};

#[derive(Clone)]
pub(crate) struct Browser {
    gate: Gate<App>,
    host: String,
    origin: String,
    arrival: Option<Arrival>,
    pub(crate) jar: BTreeMap<String, String>,
}

/// A request that is about to be sent.
pub(crate) struct Sending<'a> {
    browser: &'a mut Browser,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Debug)]
pub(crate) struct Answered {
    status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Browser {
    pub(crate) fn new(gate: Gate<App>, origin: &Url) -> Self {
        let origin = origin.origin().ascii_serialization();
        let host = origin.split_once("://").unwrap().1.to_owned();
        Self { gate, host, origin, arrival: None, jar: BTreeMap::new() }
    }

    /// The same browser, at an address that the server around the gate tells.
    pub(crate) fn at(mut self, address: &str) -> Self {
        self.arrival = Some(Arrival::direct(address.parse().unwrap()));
        self
    }

    /// The same browser, behind a proxy that is trusted.
    pub(crate) fn behind_a_proxy(self) -> Self {
        self.behind_a_proxy_for("198.51.100.7")
    }

    /// The same, where the proxy names this client; or names none, and has this address.
    pub(crate) fn behind_a_proxy_for(mut self, client: &str) -> Self {
        let client = client.parse().unwrap();
        self.arrival = Some(Arrival { by_trusted_proxy: true, ..Arrival::direct(client) });
        self
    }

    /// A tab goes to an address, by a link on a page of the same site.
    pub(crate) async fn navigate(&mut self, target: &str) -> Answered {
        self.tab(target, "same-origin").send().await
    }

    /// A tab goes to an address; `site` is what the browser says of who sent it there.
    pub(crate) fn tab(&mut self, target: &str, site: &str) -> Sending<'_> {
        self.sending(Method::GET, target)
            .with("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .with("sec-fetch-mode", "navigate")
            .with("sec-fetch-dest", "document")
            .with("sec-fetch-site", site)
    }

    /// A script of the app's own page asks.
    pub(crate) fn fetch(&mut self, method: Method, target: &str) -> Sending<'_> {
        let origin = self.origin.clone();
        self.sending(method, target)
            .with("accept", "*/*")
            .with("sec-fetch-mode", "cors")
            .with("sec-fetch-dest", "empty")
            .with("sec-fetch-site", "same-origin")
            .with("origin", &origin)
    }

    /// A form of the app's own page is sent.
    pub(crate) fn post_form(&mut self, target: &str) -> Sending<'_> {
        let origin = self.origin.clone();
        let mut sending = self.tab(target, "same-origin").with("origin", &origin);
        sending.method = Method::POST;
        sending
    }

    /// The app's own page opens a WebSocket.
    pub(crate) fn socket(&mut self, target: &str) -> Sending<'_> {
        let origin = self.origin.clone();
        self.sending(Method::GET, target)
            .with("connection", "Upgrade")
            .with("upgrade", "websocket")
            .with("sec-fetch-mode", "websocket")
            .with("origin", &origin)
    }

    pub(crate) fn sending(&mut self, method: Method, target: &str) -> Sending<'_> {
        let target = target.strip_prefix(self.origin.as_str()).unwrap_or(target).to_owned();
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(&self.host).unwrap())]);
        Sending { browser: self, method, target, headers, body: Bytes::new() }
    }

    /// The name of the session that the browser is in.
    pub(crate) fn session_key(&self) -> Option<SessionKey> {
        let value = self.jar.get("__Host-freshgate").or_else(|| self.jar.get("freshgate"))?;
        SessionId::parse(value).map(|id| id.key())
    }

    /// The names of the logins under way.
    pub(crate) fn flows(&self) -> Vec<&str> {
        self.jar.keys().map(String::as_str).filter(|name| name.contains("freshgate-login-")).collect()
    }

    fn keep(&mut self, answered: &HeaderMap) {
        for cookie in answered.get_all(header::SET_COOKIE) {
            let mut parts = cookie.to_str().unwrap().split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let attributes: Vec<&str> = parts.collect();
            for wanted in ["Path=/", "HttpOnly", "SameSite=Lax"] {
                assert!(attributes.contains(&wanted), "{name} lacks {wanted}");
            }
            let https = self.origin.starts_with("https:");
            assert_eq!(attributes.contains(&"Secure"), https, "{name}");
            assert_eq!(name.starts_with("__Host-"), https, "{name}");
            assert!(name.len() + value.len() <= 4096, "{name} is too large for a browser");
            if attributes.contains(&"Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Sending<'_> {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn with_body(mut self, body: &str) -> Self {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    pub(crate) async fn send(mut self) -> Answered {
        let browser = self.browser;
        // Cookies are for the host that set them.
        if self.headers[header::HOST] == *browser.host && !self.headers.contains_key(header::COOKIE) {
            let cookies: Vec<String> =
                browser.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if !cookies.is_empty() {
                self.headers.insert(header::COOKIE, HeaderValue::from_str(&cookies.join("; ")).unwrap());
            }
        }
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target.parse::<Uri>().unwrap();
        *request.headers_mut() = self.headers;
        if let Some(arrival) = &browser.arrival {
            request.extensions_mut().insert(arrival.clone());
        }
        let response = infallible(browser.gate.call(request).await);
        let (parts, body) = response.into_parts();
        browser.keep(&parts.headers);
        let body = infallible(body.collect().await).to_bytes();
        Answered { status: parts.status, headers: parts.headers, body }
    }
}

impl Answered {
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn location(&self) -> String {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text());
        self.headers[header::LOCATION].to_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether it is a page of ours with this code.
    pub(crate) fn is_page_of(&self, code: &str) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
            && self.text().contains(&format!("<code>{code}</code>"))
    }

    /// The page without what is another each time (the request's id) or the same on all (the style).
    pub(crate) fn page(&self) -> String {
        let id = self.header("freshgate-request-id").expect("our answers carry a request id");
        let (before, style) = self.text().split_once("<style>").unwrap();
        let (_, after) = style.split_once("</style>").unwrap();
        format!("{before}<style>…</style>{after}").replace(id, "REQUEST-ID")
    }
}
