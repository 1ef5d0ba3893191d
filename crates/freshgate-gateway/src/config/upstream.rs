//! `[[upstream]]`: the apps behind `freshgate serve`.

use std::{path::PathBuf, time::Duration};

use freshgate_web::AccessRule;
use http::HeaderName;
use url::{Host, Url};

use super::{
    access::Access,
    hosts::Hosts,
    item::{Item, Table, Value},
    report::{Problem, Report},
    setting::{FORWARD_AUTH_PROXY, Given, Sources, UPSTREAM},
    suggest,
};

/// An app behind the gate, as the gate is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The host that it is at; `None`: that of `redirect_uri`.
    pub host: Option<String>,
    /// Its path below the gate's base path, such as `/reports`; empty: every path that is no other app's.
    pub path: String,
    /// Where it listens: `HOST:PORT`, or the path of a unix socket.
    pub address: String,
    /// How it is reached there.
    pub scheme: AppScheme,
    /// The file with the certificates that vouch for its own; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether it takes itself to be at `/`.
    pub strip_path: bool,
    /// What it is made with, if that makes a difference.
    pub framework: Framework,
    /// What it is told of its users by headers.
    pub told: Told,
    /// Whether only signed-in users reach it; `None`: as `[access]` says.
    pub require_login: Option<bool>,
    /// Paths below its own that everybody reaches, to the byte.
    pub public_paths: Vec<String>,
    /// The file with the secret by which it proves itself to the session API. `None`: it asks nothing there.
    pub secret_file: Option<PathBuf>,
    /// Headers that it takes for who the user is, besides those that the gate knows: nobody may send them.
    pub identity_headers: Vec<HeaderName>,
    /// How long connecting to it may take.
    pub connect_timeout: Duration,
    /// How long it may take to the head of its answer; `None`: as long as it likes.
    pub answer_timeout: Option<Duration>,
}

/// How an app is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AppScheme {
    /// By TCP, in the clear.
    #[default]
    Http,
    /// By TLS, with a certificate for this name.
    Https(String),
    /// On a unix socket.
    Unix,
}

/// What an app is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framework {
    /// Anything.
    #[default]
    Any,
    /// Streamlit, with our module in its process: it has public paths of its own, and looks for the gate's routes below its
    /// own path.
    Streamlit,
}

/// What an app is told of its users by headers, besides the session's handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Who the user is, by `X-Forwarded-User` and so on.
    pub headers: bool,
    /// The access token, by `Authorization`.
    pub bearer: bool,
    /// Who the user is, by an assertion that we sign.
    pub assertion: bool,
}

impl Upstream {
    /// An app at this address that has every path.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            host: None,
            path: String::new(),
            address: address.into(),
            scheme: AppScheme::Http,
            ca_file: None,
            strip_path: false,
            framework: Framework::Any,
            told: Told::default(),
            require_login: None,
            public_paths: Vec::new(),
            secret_file: None,
            identity_headers: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: None,
        }
    }

    /// Its path as people write it.
    pub fn shown_path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// Where it is, as people write it: of all apps no two are there.
    pub fn shown_place(&self) -> String {
        format!("{}{}", self.host.as_deref().unwrap_or_default(), self.shown_path())
    }
}

/// What `[[upstream]]` may say.
const KEYS: [&str; 12] = [
    "host",
    "path",
    "address",
    "ca_file",
    "strip_path",
    "app",
    "hand_off",
    "require_login",
    "public_paths",
    "secret_file",
    "connect_timeout",
    "answer_timeout",
];

const EXAMPLE: &str = "\
[[upstream]]
path = \"/\"
address = \"http://127.0.0.1:8601\"";

/// Reads them all, and the domain of the cookie, if several hosts share it.
pub(super) fn read(
    sources: &Sources<'_>,
    hosts: Hosts<'_>,
    report: &mut Report,
) -> (Vec<Upstream>, Option<String>) {
    let (mut upstreams, mut first_host) = (Vec::new(), None);
    for (upstream, item) in read_each(sources, &hosts, report) {
        if upstream.host.is_some() {
            first_host = first_host.or_else(|| item.as_table()?.get("host").cloned());
        }
        upstreams.push(upstream);
    }
    let cookie_domain = hosts.cookie_domain(&upstreams, first_host.as_ref(), report);
    (upstreams, cookie_domain)
}

fn read_each(sources: &Sources<'_>, hosts: &Hosts<'_>, report: &mut Report) -> Vec<(Upstream, Item)> {
    let Some(given) = sources.find(UPSTREAM, report) else {
        // With a proxy that asks, the apps may all be behind that.
        if sources.find(FORWARD_AUTH_PROXY, report).is_none() {
            report.add(
                Problem::error("there is no `[[upstream]]`, so there is no app to stand in front of")
                    .help(format!("put this into freshgate.toml, with where your app listens:\n{EXAMPLE}"))
                    .help("to have freshgate start a Streamlit app: `freshgate run app.py`")
                    .help("to have a proxy ask whether requests may pass: `proxy` in [forward_auth]"),
            );
        }
        return Vec::new();
    };
    let Value::List(items) = &given.item.value else {
        return given.expected("apps, each below its own [[upstream]]", report).unwrap_or_default();
    };
    let mut upstreams: Vec<(Upstream, Item)> = Vec::new();
    for item in items {
        let Some(table) = item.as_table() else {
            let one = Given { item: item.clone(), ..given.clone() };
            one.expected::<()>("an app: a table with an `address`", report);
            continue;
        };
        let Some(upstream) = read_one(&given, item, table, hosts, report) else { continue };
        let is_there =
            |other: &Upstream| other.host == upstream.host && other.path.eq_ignore_ascii_case(&upstream.path);
        match upstreams.iter().find(|(other, _)| is_there(other)) {
            Some((_, other)) => report.add(
                Problem::error(format!("two apps are at `{}`", upstream.shown_place()))
                    .at(&place(item).place, "this one")
                    .beside(&place(other).place, "and this one")
                    .help("give each a path of its own, or a host"),
            ),
            None => upstreams.push((upstream, item.clone())),
        }
    }
    upstreams
}

/// Where it is written where an app is, or the whole where that is the default.
fn place(item: &Item) -> &Item {
    item.as_table().and_then(|table| table.get("path").or_else(|| table.get("host"))).unwrap_or(item)
}

fn read_one(
    all: &Given,
    item: &Item,
    table: &Table,
    hosts: &Hosts<'_>,
    report: &mut Report,
) -> Option<Upstream> {
    check_keys(table, report);
    let given = |key: &str| {
        Some(Given { name: format!("{}.{key}", all.name), item: table.get(key)?.clone(), ..all.clone() })
    };
    let address = match given("address") {
        Some(given) => address(&given, report),
        None => {
            report.add(
                Problem::error("an app has no `address`")
                    .at(&item.place, "listens nowhere")
                    .help("say where it listens, such as `address = \"http://127.0.0.1:8601\"`"),
            );
            None
        }
    };
    let host = given("host").map_or(Some(None), |given| hosts.host(&given, report));
    let path = given("path").map_or(Some(String::new()), |given| path(&given, report));
    let frameworks = [("streamlit", Framework::Streamlit)];
    let framework = given("app").map(|given| (given.one_of(&frameworks, report), given));
    let secret_file = given("secret_file").and_then(|given| given.path(report));
    if let (Some((Some(Framework::Streamlit), app)), None) = (&framework, table.get("secret_file")) {
        report.add(
            Problem::error("an app with Streamlit has no `secret_file`")
                .at(&app.item.place, "asks the session API who its user is, and has no secret to prove itself by")
                .help("name a file that the app reads too, such as `secret_file = \"/etc/freshgate/reports.secret\"`; the gate makes it if it is not there"),
        );
    }
    let seconds = |seconds| Duration::from_secs(seconds);
    let mut yes_or_no = |key: &str| given(key).and_then(|given| given.yes_or_no(report));
    let (strip_path, require_login) = (yes_or_no("strip_path"), yes_or_no("require_login"));
    let mut timeout =
        |key: &str| given(key).and_then(|given| given.duration(seconds(1)..=seconds(24 * 3600), report));
    let (connect_timeout, answer_timeout) = (timeout("connect_timeout"), timeout("answer_timeout"));
    let told = given("hand_off").map(|given| told(&given, report)).unwrap_or_default();
    let public_paths = given("public_paths").map(|given| public_paths(&given, report)).unwrap_or_default();
    let ca_file = given("ca_file");
    let (address, scheme) = address?;
    if let (Some(ca_file), false) = (&ca_file, matches!(scheme, AppScheme::Https(_))) {
        report.add(
            Problem::warning(format!("`{}` has no effect", ca_file.name))
                .at(&ca_file.item.place, "the app shows no certificate")
                .help("write the app's address with https://"),
        );
    }
    let ca_file = ca_file.and_then(|given| given.path(report));
    let default = Upstream { scheme, ca_file, ..Upstream::new(address) };
    Some(Upstream {
        host: host?,
        path: path?,
        strip_path: strip_path.unwrap_or(false),
        framework: framework.and_then(|(framework, _)| framework).unwrap_or_default(),
        told,
        require_login,
        public_paths,
        secret_file,
        connect_timeout: connect_timeout.unwrap_or(default.connect_timeout),
        answer_timeout,
        ..default
    })
}

fn address(given: &Given, report: &mut Report) -> Option<(String, AppScheme)> {
    let text = given.text(report)?.trim();
    if let Some(path) = text.strip_prefix("unix:") {
        // As for the session API: one may write `unix:///run/app.sock`.
        let path = path.strip_prefix("//").unwrap_or(path);
        return match given.folder.join(path).to_str() {
            Some(path) if path.ends_with(".sock") || !path.ends_with('/') => {
                Some((path.to_owned(), AppScheme::Unix))
            }
            _ => given.refuse("not the path of a socket", "write it such as unix:/run/app.sock", report),
        };
    }
    let example = "write where the app listens, such as http://127.0.0.1:8601";
    let Ok(url) = Url::parse(text) else { return given.refuse("not an address", example, report) };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    match (url.scheme(), url.host(), url.port_or_known_default()) {
        ("http" | "https", Some(_), _) if !url.username().is_empty() || url.password().is_some() => given
            .refuse(
                "a user name or a password does not belong here",
                "remove what is before the `@`",
                report,
            ),
        ("http" | "https", Some(_), _) if !bare => given.refuse(
            "nothing may follow the port",
            "write the app's path as `path`; with `strip_path = true` the app does not see it",
            report,
        ),
        (scheme @ ("http" | "https"), Some(host), Some(port)) => {
            let name = match host {
                Host::Domain(name) => name.to_owned(),
                Host::Ipv4(ip) => ip.to_string(),
                Host::Ipv6(ip) => format!("[{ip}]"),
            };
            let address = format!("{name}:{port}");
            Some((address, if scheme == "https" { AppScheme::Https(name) } else { AppScheme::Http }))
        }
        _ => given.refuse("not an http or https address", example, report),
    }
}

/// An app's path. What a rule can be about is plain enough for it, too.
fn path(given: &Given, report: &mut Report) -> Option<String> {
    let text = given.text(report)?;
    let is_plain = AccessRule { path: text.to_owned(), conditions: Vec::new() }.check().is_ok();
    if !is_plain {
        let help = "write it as it is below the base path, such as `/reports`; all that follows after a `/` is the app's too";
        return given.refuse("not a path that an app can be at", help, report);
    }
    let path = text.trim_end_matches('/');
    let lower = path.to_ascii_lowercase();
    if ["/auth", "/oauth2callback"]
        .iter()
        .any(|ours| lower == *ours || lower.starts_with(&format!("{ours}/")))
    {
        return given.refuse("the gate's own routes are there", "choose another path", report);
    }
    Some(path.to_owned())
}

fn told(given: &Given, report: &mut Report) -> Told {
    let mut told = Told::default();
    let one = Told::default;
    let ways = [
        ("headers", Told { headers: true, ..one() }),
        ("bearer", Told { bearer: true, ..one() }),
        ("assertion", Told { assertion: true, ..one() }),
    ];
    for given in given.each(report).unwrap_or_default() {
        if let Some(way) = given.one_of(&ways, report) {
            told = Told {
                headers: told.headers || way.headers,
                bearer: told.bearer || way.bearer,
                assertion: told.assertion || way.assertion,
            };
        }
    }
    told
}

fn public_paths(given: &Given, report: &mut Report) -> Vec<String> {
    let mut paths = Vec::new();
    for given in given.each(report).unwrap_or_default() {
        let Some(path) = given.text(report) else { continue };
        if path.starts_with('/')
            && !path.starts_with("//")
            && !path.contains(['?', '#'])
            && as_sent(path) == path
        {
            paths.push(path.to_owned());
        } else {
            given.refuse::<()>(
                "not a path as browsers send it",
                "write it as it is below the app's own path, such as `/health`",
                report,
            );
        }
    }
    paths
}

/// A path as browsers send it.
pub(crate) fn as_sent(path: &str) -> String {
    let mut url = Url::parse("http://app.invalid").expect("it is an address");
    url.set_path(path);
    if path.is_empty() { String::new() } else { url.path().to_owned() }
}

fn check_keys(table: &Table, report: &mut Report) {
    for entry in table.entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
        report.add(
            Problem::error(format!("there is no setting `upstream.{}`", entry.key))
                .at(&entry.key_place, "unknown")
                .help(suggest::choice(&entry.key, &KEYS)),
        );
    }
}

/// Says by paths where only signed-in users get to, if an app says so itself: `[access]` speaks for the others.
pub(super) fn require_logins(access: &mut Access, upstreams: &[Upstream]) {
    if upstreams.iter().all(|upstream| upstream.require_login.is_none()) {
        return;
    }
    let everywhere = std::mem::take(&mut access.require_login);
    let given: Vec<String> = access.rules.iter().map(|rule| rule.path.clone()).collect();
    let is_ruled = |path: &str| given.iter().any(|rule| covers(rule, path));
    for upstream in upstreams {
        let path = upstream.shown_path();
        match upstream.require_login {
            // A rule more, where one asks for more, would count instead of it.
            Some(false) => access.open_paths.push(path.to_owned()),
            // A rule more, where one asks for more, would count instead of it.
            Some(true) | None if is_ruled(path) => {}
            required if required.unwrap_or(everywhere) => {
                access.rules.push(AccessRule { path: path.to_owned(), conditions: Vec::new() });
            }
            // What the app above asks for is not asked for here.
            _ => access.open_paths.push(path.to_owned()),
        }
    }
}

/// Whether a path is this one, or below it.
pub(super) fn covers(above: &str, path: &str) -> bool {
    let (above, path) = (above.trim_end_matches('/').to_ascii_lowercase(), path.to_ascii_lowercase());
    path.strip_prefix(&*above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `[access]` says, its rules, and what the apps at these paths say: the rules and the open paths that follow.
    #[test]
    fn logins_that_apps_require() {
        type Case<'a> =
            (bool, &'a [&'a str], &'a [(&'a str, Option<bool>)], bool, &'a [&'a str], &'a [&'a str]);
        let table: &[Case<'_>] = &[
            (true, &["/x"], &[("", None), ("/a", None)], true, &["/x"], &[]),
            (false, &[], &[("", None), ("/a", Some(true))], false, &["/a"], &["/"]),
            (false, &[], &[("", Some(true)), ("/a", None)], false, &["/"], &["/a"]),
            (true, &[], &[("", None), ("/a", Some(false))], false, &["/"], &["/a"]),
            // A rule that asks for more stays what counts.
            (false, &["/"], &[("", None), ("/a", Some(true))], false, &["/"], &[]),
            (false, &["/A"], &[("/a", Some(true)), ("/ab", Some(true))], false, &["/A", "/ab"], &[]),
            (false, &["/"], &[("/a", Some(false))], false, &["/"], &["/a"]),
        ];
        for (require_login, rules, apps, still, expected, open) in table {
            let rule = |path: &&str| AccessRule { path: (*path).to_owned(), conditions: Vec::new() };
            let rules = rules.iter().map(rule).collect();
            let mut access = Access { require_login: *require_login, rules, ..Access::default() };
            let app = |(path, require_login): &(&str, Option<bool>)| Upstream {
                path: (*path).to_owned(),
                require_login: *require_login,
                ..Upstream::new("127.0.0.1:1")
            };
            require_logins(&mut access, &apps.iter().map(app).collect::<Vec<_>>());
            let rules: Vec<&str> = access.rules.iter().map(|rule| rule.path.as_str()).collect();
            assert_eq!((access.require_login, &rules[..]), (*still, *expected), "{apps:?}");
            assert_eq!(access.open_paths, *open, "{apps:?}");
        }
    }
}
