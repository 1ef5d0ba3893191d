//! The hosts that one gate serves: the one of `redirect_uri`, and those that apps name.

use std::collections::BTreeSet;

use freshgate_oidc::is_loopback;
use url::{Host as UrlHost, Url};

use super::{
    Config, PublicAddress, Upstream,
    item::Item,
    report::{Problem, Report},
    setting::{COOKIE_DOMAIN, Given, Sources},
    upstream,
};

/// One host that browsers reach the gate by, and what is there.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name; `None`: it is the host of `redirect_uri`.
    pub name: Option<String>,
    /// The configuration as it is for this host: with its address and its rules.
    pub config: Config,
    /// The apps that are there.
    pub upstreams: Vec<Upstream>,
}

impl Config {
    /// The hosts that there are with these apps: that of `redirect_uri` first, then the others by name.
    pub fn hosts(&self, upstreams: &[Upstream]) -> Vec<Host> {
        let names: BTreeSet<&str> =
            upstreams.iter().filter_map(|upstream| upstream.host.as_deref()).collect();
        let names = std::iter::once(None).chain(names.into_iter().map(Some));
        names.map(|name| self.host(name, upstreams)).collect()
    }

    fn host(&self, name: Option<&str>, upstreams: &[Upstream]) -> Host {
        let here = |upstream: &&Upstream| upstream.host.as_deref() == name;
        let upstreams: Vec<Upstream> = upstreams.iter().filter(here).cloned().collect();
        let mut config = self.clone();
        if let Some(name) = name {
            config.public = self.public.at_host(name);
        }
        let own_name = name.or(self.public.host_name());
        let of_host = std::mem::take(&mut config.access.rules_of_hosts).into_iter();
        let of_host = of_host.filter(|(host, _)| Some(host.as_str()) == own_name).map(|(_, rule)| rule);
        config.access.rules.extend(of_host);
        upstream::require_logins(&mut config.access, &upstreams);
        Host { name: name.map(str::to_owned), config, upstreams }
    }
}

/// Where apps are that are no longer spoken to in the way they were, or whose users are held to other rules: those that are
/// gone, too.
pub fn changed_apps(
    (before, apps_before): (&Config, &[Upstream]),
    (now, apps_now): (&Config, &[Upstream]),
) -> BTreeSet<String> {
    let (hosts_before, hosts_now) = (before.hosts(apps_before), now.hosts(apps_now));
    let is_there_now = |host: &Host, app: &Upstream| {
        before.cookie_domain == now.cookie_domain
            && hosts_now.iter().any(|other| other.name == host.name && other.has_just(app, host))
    };
    let apps = hosts_before.iter().flat_map(|host| host.upstreams.iter().map(move |app| (host, app)));
    apps.filter(|(host, app)| !is_there_now(host, app)).map(|(_, app)| app.shown_place()).collect()
}

impl Host {
    /// Whether an app is here as it was at `before`, with the same rules.
    fn has_just(&self, app: &Upstream, before: &Self) -> bool {
        self.upstreams.contains(app) && self.facts_of(app) == before.facts_of(app)
    }

    /// What decides about who gets to an app: what is about its path, one above or one below; and which apps below take paths
    /// away from it.
    fn facts_of(&self, app: &Upstream) -> impl PartialEq + use<> {
        let access = &self.config.access;
        let about = |path: &str| upstream::covers(path, &app.path) || upstream::covers(&app.path, path);
        let rules: Vec<_> = access.rules.iter().filter(|rule| about(&rule.path)).cloned().collect();
        let open: Vec<_> = access.open_paths.iter().filter(|path| about(path)).cloned().collect();
        let below =
            self.upstreams.iter().map(|other| &other.path).filter(|path| upstream::covers(&app.path, path));
        let below: BTreeSet<String> = below.cloned().collect();
        (rules, open, below, access.require_login, access.unverified_email)
    }
}

/// What is known of hosts while apps and rules are read.
pub(super) struct Hosts<'a> {
    public: Option<&'a PublicAddress>,
    domain: Option<(String, Given)>,
}

impl<'a> Hosts<'a> {
    pub(super) fn read(
        sources: &Sources<'_>,
        public: Option<&'a PublicAddress>,
        report: &mut Report,
    ) -> Self {
        let domain = sources.find(COOKIE_DOMAIN, report);
        Self { public, domain: domain.and_then(|given| Some((domain_of(&given, public, report)?, given))) }
    }

    /// Reads the host of an app. `Ok(None)`: it is that of `redirect_uri`.
    pub(super) fn host(&self, given: &Given, report: &mut Report) -> Option<Option<String>> {
        let name = name(given, report)?;
        let Some(public) = self.public else { return Some(Some(name)) };
        if public.host_name() == Some(&name) {
            return Some(None);
        }
        let url = public.at_host(&name).start();
        if !public.is_https() && !is_loopback(&url) {
            return given.refuse(
                "over http, everyone on the way can read the session cookie and use it",
                "let `redirect_uri` be an https address: all hosts of a gate are reached alike",
                report,
            );
        }
        if let Some((domain, cookie)) = &self.domain
            && !is_under(&url, domain)
        {
            report.add(
                given
                    .unusable(&format!("is not under {domain}, so that browsers keep no session there"))
                    .beside(&cookie.item.place, "the session's cookie is for this domain")
                    .help("give it a name under the domain, or a gate of its own"),
            );
            return None;
        }
        Some(Some(name))
    }

    /// The domain of the cookie, where it matters. Tells what follows from there being several hosts.
    pub(super) fn cookie_domain(
        self,
        upstreams: &[Upstream],
        first: Option<&Item>,
        report: &mut Report,
    ) -> Option<String> {
        let others = upstreams.iter().any(|upstream| upstream.host.is_some());
        match (self.domain, others) {
            // What follows from a mistake would not help to mend it.
            _ if report.has_errors() => None,
            (Some((domain, _)), true) => Some(domain),
            (Some((_, given)), false) => {
                report.add(
                    Problem::warning(format!("`{}` has no effect", given.name))
                        .at(&given.item.place, "there is one host alone")
                        .help("give an app a `host` of its own in its [[upstream]]"),
                );
                None
            }
            (None, true) => {
                let problem = Problem::worth_knowing("users sign in at each host by itself");
                let problem = match first {
                    Some(item) => problem.at(&item.place, "the session's cookie is for one host"),
                    None => problem,
                };
                report.add(
                    problem
                        .help("for one login: set `cookie_domain` to the domain that all hosts are under, such as \"apps.example.com\"")
                        .help("else register the address of each at the provider: https://HOST/oauth2callback"),
                );
                None
            }
            (None, false) => None,
        }
    }
}

/// Reads the host of a rule: one that an app, or `redirect_uri`, has.
pub(super) fn check_rule_hosts(
    rules: &[(String, Given)],
    public: Option<&PublicAddress>,
    upstreams: &[Upstream],
    report: &mut Report,
) {
    let Some(public) = public else { return };
    for (host, given) in rules {
        let is_there = public.host_name() == Some(host)
            || upstreams.iter().any(|upstream| upstream.host.as_deref() == Some(host));
        if !is_there {
            given.refuse::<()>(
                "no app is at this host",
                "write it as in [[upstream]], or leave it out, so that the rule holds at every host",
                report,
            );
        }
    }
}

/// A host's name, as browsers send it.
pub(super) fn name(given: &Given, report: &mut Report) -> Option<String> {
    let text = given.text(report)?.trim();
    let url = Url::parse(&format!("https://{text}/")).ok();
    let parsed = url.as_ref().and_then(Url::host_str).map(|host| host.trim_end_matches('.'));
    match (url.as_ref(), parsed) {
        (Some(url), Some(host))
            if url.as_str() == format!("https://{}/", text.to_ascii_lowercase())
                && !host.contains('*')
                && host == text.to_ascii_lowercase() =>
        {
            Some(host.to_owned())
        }
        _ => given.refuse(
            "not the name of a host",
            "write it alone, without scheme, port and path, such as \"reports.example.com\"",
            report,
        ),
    }
}

fn domain_of(given: &Given, public: Option<&PublicAddress>, report: &mut Report) -> Option<String> {
    let text = given.text(report)?.trim();
    let text = text.strip_prefix('.').unwrap_or(text);
    let named = Given { item: Item::text(text, given.item.place.clone()), ..given.clone() };
    let domain = name(&named, report)?;
    let is_domain = Url::parse(&format!("https://{domain}/"))
        .is_ok_and(|url| matches!(url.host(), Some(UrlHost::Domain(name)) if name.contains('.')));
    if !is_domain {
        return given.refuse(
            "browsers keep no cookie for it",
            "write the domain that all hosts are under, with a dot in it, such as \"apps.example.com\"",
            report,
        );
    }
    if let Some(public) = public
        && !is_under(&public.origin(), &domain)
    {
        let host = public.host_name().unwrap_or_default();
        return given.refuse(
            &format!("`redirect_uri` is at {host}, which is not under it"),
            "write the domain that all hosts are under, that of `redirect_uri` too",
            report,
        );
    }
    Some(domain)
}

/// Whether browsers keep a cookie of this domain for a host.
fn is_under(url: &Url, domain: &str) -> bool {
    match url.host() {
        Some(UrlHost::Domain(host)) => {
            host.strip_suffix(domain).is_some_and(|above| above.is_empty() || above.ends_with('.'))
        }
        _ => false,
    }
}
