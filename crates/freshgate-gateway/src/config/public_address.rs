//! The address that browsers use: read off `redirect_uri`, which the provider knows too.

use std::net::{IpAddr, SocketAddr};

use freshgate_oidc::is_loopback;
use http::HeaderValue;
use url::{Position, Url};

use super::{
    report::{Problem, Report},
    setting::Given,
    streamlit_options::BasePath,
};

const CALLBACK: &str = "/oauth2callback";
const PORT: &str = "{port}";

/// The address that browsers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress {
    redirect_uri: Url,
    base_path: String,
    /// Whether the port was `{port}`, and so is that of the listener.
    port_is_listeners: bool,
}

impl PublicAddress {
    /// The origin: scheme, host and port, with `/` for a path.
    pub fn origin(&self) -> Url {
        let mut origin = self.redirect_uri.clone();
        origin.set_path("/");
        origin
    }

    /// The host, with its port if that is not the scheme's own.
    pub fn host(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.redirect_uri[Position::BeforeHost..Position::AfterPort]).ok()
    }

    /// The host alone, as browsers send it.
    pub fn host_name(&self) -> Option<&str> {
        self.redirect_uri.host_str()
    }

    /// The same address at another host.
    pub fn at_host(&self, host: &str) -> Self {
        let mut other = self.clone();
        // Fails for what is no host alone, and those were refused.
        let _ = other.redirect_uri.set_host(Some(host));
        other
    }

    /// The path that the app lives under, such as `/reports`; empty for none.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Where providers send browsers back to: origin, base path and `/oauth2callback`.
    pub fn redirect_uri(&self) -> &Url {
        &self.redirect_uri
    }

    /// The app's start, for people to open.
    pub fn start(&self) -> Url {
        let mut start = self.redirect_uri.clone();
        start.set_path(&format!("{}/", self.base_path));
        start
    }

    /// Whether cookies can be `Secure`: they can over https.
    pub fn is_https(&self) -> bool {
        self.redirect_uri.scheme() == "https"
    }

    /// The same with the port that the listener really has, where `redirect_uri` said `{port}`.
    pub(super) fn bound_to(&mut self, listener: SocketAddr) {
        if self.port_is_listeners {
            // Fails for addresses without a host alone, and this one has one.
            let _ = self.redirect_uri.set_port(Some(listener.port()));
        }
    }

    /// The address of a gate on this machine, for `freshgate dev`.
    pub(super) fn on_this_machine(listen: SocketAddr, https: bool, base_path: &BasePath) -> Self {
        let scheme = if https { "https" } else { "http" };
        let redirect_uri = format!("{scheme}://localhost:{}{}{CALLBACK}", listen.port(), base_path.as_str());
        Self {
            redirect_uri: Url::parse(&redirect_uri).expect("a base path is a path as browsers send it"),
            base_path: base_path.as_str().to_owned(),
            port_is_listeners: true,
        }
    }
}

/// Where the gate listens, and what says so.
pub(super) struct Listening<'a> {
    pub(super) address: SocketAddr,
    /// `None`: it is the default.
    pub(super) given: Option<&'a Given>,
    /// The certificate, if the listener speaks TLS.
    pub(super) tls: Option<&'a Given>,
}

/// Reads `redirect_uri`, and holds it against where the gate listens, where Streamlit lives and `public_url`. Without a base
/// path, what is before `/oauth2callback` is it.
pub(super) fn read(
    given: &Given,
    listening: &Listening<'_>,
    base_path: Option<&BasePath>,
    public_url: Option<&Given>,
    report: &mut Report,
) -> Option<PublicAddress> {
    let text = given.text(report)?;
    let port_is_listeners = text.contains(PORT);
    if port_is_listeners && listening.address.port() == 0 && public_url.is_some() {
        return given.refuse(
            "a port that is chosen at the start has no public address",
            "choose a port",
            report,
        );
    }
    let redirect_uri = parse(given, &text.replace(PORT, &listening.address.port().to_string()), report)?;
    let problems_before = report.count(super::Severity::Error);
    check_scheme(given, &redirect_uri, listening, report);
    let of_redirect_uri;
    let base_path = match base_path {
        Some(base_path) => base_path,
        None => {
            let path = redirect_uri.path();
            of_redirect_uri = BasePath::of(path.strip_suffix(CALLBACK).unwrap_or_default());
            &of_redirect_uri
        }
    };
    check_path(given, &redirect_uri, base_path, report);
    match public_url {
        Some(public_url) => check_public_url(given, &redirect_uri, base_path, public_url, report),
        None if !port_is_listeners => check_port(given, &redirect_uri, listening, report),
        None => {}
    }
    let base_path = base_path.as_str().to_owned();
    (report.count(super::Severity::Error) == problems_before).then_some(PublicAddress {
        redirect_uri,
        base_path,
        port_is_listeners,
    })
}

fn parse(given: &Given, text: &str, report: &mut Report) -> Option<Url> {
    let example = "write the whole address that browsers use, such as http://localhost:8501/oauth2callback";
    let Ok(url) = Url::parse(text) else {
        return given.refuse("not an absolute address", example, report);
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return given.refuse("not an http or https address", example, report);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return given.refuse(
            "a user name or a password does not belong here",
            "remove what is before the `@`",
            report,
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return given.refuse(
            "nothing may follow /oauth2callback",
            "remove what starts at `?` or `#`",
            report,
        );
    }
    if url.as_str() != text {
        report.add(
            Problem::warning(format!("`{}` is sent to the provider in its normal form", given.name))
                .at(&given.item.place, format!("is sent as {url}"))
                .help("write it so here, and register it so at the provider, which compares it letter by letter"),
        );
    }
    Some(url)
}

fn check_scheme(given: &Given, redirect_uri: &Url, listening: &Listening<'_>, report: &mut Report) {
    if let ("http", Some(tls)) = (redirect_uri.scheme(), listening.tls) {
        let https = redirect_uri.as_str().replacen("http", "https", 1);
        report.add(
            given
                .unusable("sends browsers there over http")
                .beside(&tls.item.place, "with this the gate speaks https alone")
                .help(format!("write {https}, and register it so at the provider")),
        );
    } else if redirect_uri.scheme() == "http" && !is_loopback(redirect_uri) {
        report.add(
            given
                .unusable("over http, everyone on the way can read the session cookie and use it")
                .note("plain http is for localhost alone")
                .help("use https: give freshgate a certificate (`--tls-certificate`, `--tls-key`), or let a proxy in front of it end TLS"),
        );
    }
}

fn check_path(given: &Given, redirect_uri: &Url, base_path: &BasePath, report: &mut Report) {
    let path = redirect_uri.path();
    if path == format!("{}{CALLBACK}", base_path.as_str()) {
        return;
    }
    let Some(base_here) = path.strip_suffix(CALLBACK) else {
        let mut mended = redirect_uri.clone();
        mended.set_path(&format!("{}{CALLBACK}", base_path.as_str()));
        let help = format!("write {mended}, and register it so at the provider");
        given.refuse::<()>("does not end in /oauth2callback", &help, report);
        return;
    };
    let problem = given.unusable(&format!("the callback is at {}{CALLBACK}", base_path.as_str()));
    let problem = match base_path.given() {
        Some(base) => problem.beside(&base.item.place, "the app lives here"),
        None => problem.note("the app lives at /, as `server.baseUrlPath` is not set"),
    };
    let base_here = base_here.trim_start_matches('/');
    report.add(problem.help(match base_here {
        "" => format!("write the base path before {CALLBACK}, or remove `server.baseUrlPath`"),
        base => format!("set Streamlit's base path: `freshgate run app.py -- --server.baseUrlPath={base}`"),
    }));
}

fn check_port(given: &Given, redirect_uri: &Url, listening: &Listening<'_>, report: &mut Report) {
    // With https and no certificate there is a proxy in front, and only it knows our port.
    let scheme = if listening.tls.is_some() { "https" } else { "http" };
    let Some(port) = redirect_uri.port_or_known_default().filter(|port| {
        redirect_uri.scheme() == scheme && is_loopback(redirect_uri) && *port != listening.address.port()
    }) else {
        return;
    };
    let mut mended = redirect_uri.clone();
    let _ = mended.set_port(Some(listening.address.port()));
    let there = SocketAddr::new(listening.address.ip(), port);
    let label = format!("sends browsers to port {port}");
    let title = format!("`{}` and the listener have different ports", given.name);
    // Whoever listens on every interface is often in a container, whose ports have other numbers outside.
    let problem =
        if listening.address.ip().is_loopback() { Problem::error(title) } else { Problem::warning(title) };
    let problem = problem.at(&given.item.place, label);
    let problem = match listening.given {
        Some(listen) => problem.beside(&listen.item.place, "the gate listens here"),
        None => problem.note(format!("the gate listens on {}, the default", listening.address)),
    };
    report.add(
        problem
            .help(format!("let the gate listen there: `--listen {there}`"))
            .help(format!("or write {mended}, or `{{port}}` for the port, and register it so at the provider"))
            .help("or, if something else passes browsers on to the listener, set `public_url` in freshgate.toml"),
    );
}

fn check_public_url(
    given: &Given,
    redirect_uri: &Url,
    base_path: &BasePath,
    public_url: &Given,
    report: &mut Report,
) {
    let Some(text) = public_url.text(report) else { return };
    let mut expected = redirect_uri.clone();
    expected.set_path(&format!("{}/", base_path.as_str()));
    if Url::parse(text)
        .is_ok_and(|url| url.as_str().trim_end_matches('/') == expected.as_str().trim_end_matches('/'))
    {
        return;
    }
    report.add(
        public_url
            .unusable("is not where the provider sends browsers back to")
            .beside(&given.item.place, "sends them here")
            .help(format!("write {expected}, or change `{}`", given.name)),
    );
}

/// Whether a host's name is one of those by which a machine calls itself.
pub(crate) fn is_loopback_name(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
