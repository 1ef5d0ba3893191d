//! What a gate is told, and what follows from it.

use std::sync::Arc;

use bytes::Bytes;
use freshgate::Secret;
use url::{Host, Position, Url};

use crate::{
    access::{Access, AccessRule, AmbiguousPath, Permit},
    cookies::{self, Cookies},
    forward_auth::ForwardAuth,
    origin::Origins,
    rates::RateLimits,
    route::{Ours, Route},
};

/// How a gate is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GateConfig {
    /// The origin that browsers see: scheme, host and port, such as `https://app.example`. Cookies are `Secure` if it is
    /// https.
    pub public_origin: Url,
    /// The path that the app lives under, such as `/app`; empty for none.
    pub base_path: String,
    /// Where providers send browsers back to. `None`: `{base_path}/oauth2callback`.
    pub callback_path: Option<String>,
    /// The provider of `/auth/login` without a name.
    pub default_provider: String,
    /// Whether only signed-in users reach the app: a page leads to the login, anything else is refused.
    pub require_login: bool,
    /// Which of the signed-in users reach which paths of it; all of them, where no rule is.
    pub access: Vec<AccessRule>,
    /// Paths that everybody reaches with all that is below them, although a rule for a shorter path asks for a login: the
    /// same as for rules goes for how they are written. A rule for the same path or a longer one counts.
    pub open_paths: Vec<String>,
    /// Whether rules on e-mail addresses take an address that the provider does not call verified.
    pub unverified_email: bool,
    /// How many logins one browser may have under way; more push out the oldest.
    pub logins_in_flight: usize,
    /// How often one client may ask for what costs something. Needs an [`Arrival`](crate::Arrival) with each request.
    pub rate_limits: RateLimits,
    /// Paths below `base_path` that need no login, to the byte; such as `/_stcore/health`. No rule is asked for them.
    pub public_paths: Vec<String>,
    /// How proxies ask whether a request may pass, if they do: `/auth/verify` is then a route of ours.
    pub forward_auth: Option<ForwardAuth>,
    /// Paths below `base_path` at which apps live that look for the gate's routes below their own path, as Streamlit does:
    /// with `/reports`, `/reports/auth/login` is answered as `/auth/login` is, and leads back to `/reports/`.
    pub mounts: Vec<String>,
    /// The path below `base_path` at which users start, and to which a logout leads: `/` unless no app is there.
    pub start: String,
    /// What is answered here to everybody, as JSON: paths below `base_path`, to the byte, and what is there.
    pub documents: Vec<(String, Bytes)>,
    /// Further origins whose pages are this app's own and may open WebSockets.
    pub other_origins: Vec<Url>,
    /// Where a session's cookie is for several hosts, each with a gate of its own on the same engine, so that one login is for
    /// all of them. `None`: it is for this host alone.
    pub shared_login: Option<SharedLogin>,
    /// The key of Streamlit's signed provider names (its `cookie_secret`), if they are to be understood.
    pub provider_token_key: Option<Secret>,
}

impl GateConfig {
    /// The usual: the app at the root, the provider `default`, no login required and no rules.
    pub fn new(public_origin: Url) -> Self {
        Self {
            public_origin,
            base_path: String::new(),
            callback_path: None,
            default_provider: "default".to_owned(),
            require_login: false,
            access: Vec::new(),
            open_paths: Vec::new(),
            unverified_email: false,
            logins_in_flight: cookies::FLOWS_KEPT,
            rate_limits: RateLimits::default(),
            public_paths: Vec::new(),
            forward_auth: None,
            mounts: Vec::new(),
            start: "/".to_owned(),
            documents: Vec::new(),
            other_origins: Vec::new(),
            shared_login: None,
            provider_token_key: None,
        }
    }
}

/// One login for several hosts: the session's cookie has a `Domain`, and whoever signs in does so at one of them, whose
/// callback alone the providers know.
///
/// Each host keeps an origin of its own: a page of one cannot post to another's routes, nor open its WebSockets.
#[derive(Clone, Debug)]
pub struct SharedLogin {
    /// The domain that all of the hosts are, or are under, such as `apps.example`. Whoever is a host under it gets the cookie,
    /// and can set one of this name.
    pub cookie_domain: String,
    /// The origin at which users sign in.
    pub login_origin: Url,
    /// The origins of all hosts, this one's and that of the login among them. A login leads back to any of them.
    pub origins: Vec<Url>,
}

/// Why a gate cannot be set up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateConfigError {
    /// It must be `http(s)://HOST[:PORT]`.
    #[error("{0} is not an origin: it must be http(s)://HOST[:PORT]")]
    NotAnOrigin(Url),
    /// It must be empty, or start with "/" and not end with one, in plain ASCII without query.
    #[error("{0:?} is not a path as browsers send it")]
    NotAPath(String),
    /// Browsers keep no cookie for a domain that the host is not under.
    #[error("{origin} is not under the domain {domain:?} of the session's cookie")]
    NotUnderTheDomain {
        /// One of the origins that share the cookie.
        origin: Url,
        /// The cookie's.
        domain: String,
    },
    /// The app would lose a path, or we would.
    #[error("the callback path {0:?} is taken by another route of the gate")]
    CallbackPathTaken(String),
    /// It must start with "/", and hold nothing that programs read in several ways, such as "//", ";", "%" or "..".
    #[error("{0:?} is not a path that a rule can be about")]
    NotARulePath(String),
    /// It must have one "@", and something on both sides.
    #[error("{0:?} is not an e-mail address")]
    NotAnEmailAddress(String),
    /// It must be what follows the "@" of an e-mail address, such as `example.com`.
    #[error("{0:?} is not the domain of an e-mail address")]
    NotAnEmailDomain(String),
    /// It must name what it asks for: a rule without is a slip of the pen.
    #[error("an access rule asks for one of no values of {0}")]
    NothingToMeet(String),
}

/// A gate's configuration, checked, with what follows from it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) origins: Origins,
    pub(crate) cookies: Cookies,
    pub(crate) default_provider: String,
    require_login: bool,
    access: Arc<Access>,
    pub(crate) forward_auth: Option<ForwardAuth>,
    pub(crate) provider_token_key: Option<Secret>,
    /// Where the provider sends the browser back to, after a login and after a logout.
    pub(crate) redirect_uri: Url,
    /// The origin at which users sign in, if that is another.
    pub(crate) login_origin: Option<Url>,
    /// The other origins to which a login here may lead.
    pub(crate) sister_origins: Vec<Url>,
    base_path: String,
    callback_path: String,
    public_paths: Vec<String>,
    /// With the base path, the longest first.
    mounts: Vec<String>,
    start: String,
    documents: Vec<(String, Bytes)>,
}

impl Site {
    pub(crate) fn new(config: GateConfig) -> Result<Self, GateConfigError> {
        let GateConfig { public_origin, base_path, callback_path, default_provider, .. } = config;
        for origin in std::iter::once(&public_origin).chain(&config.other_origins) {
            if !is_origin(origin) {
                return Err(GateConfigError::NotAnOrigin(origin.clone()));
            }
        }
        let base_path = if base_path == "/" { String::new() } else { base_path };
        if !base_path.is_empty() && (!is_path(&public_origin, &base_path) || base_path.ends_with('/')) {
            return Err(GateConfigError::NotAPath(base_path));
        }
        let callback_path = callback_path.unwrap_or_else(|| format!("{base_path}/oauth2callback"));
        let public_paths = config.public_paths.iter().map(|path| format!("{base_path}{path}"));
        let public_paths: Vec<String> = public_paths.collect();
        let mut mounts: Vec<String> = config
            .mounts
            .iter()
            .map(|path| format!("{base_path}{path}"))
            .filter(|path| *path != base_path)
            .collect();
        mounts.sort_by_key(|path| std::cmp::Reverse(path.len()));
        let start = format!("{base_path}{}", config.start);
        let documents: Vec<_> = config
            .documents
            .into_iter()
            .map(|(path, document)| (format!("{base_path}{path}"), document))
            .collect();
        let ends_badly = |path: &&String| path.ends_with('/');
        if let Some(bad) = mounts.iter().find(ends_badly) {
            return Err(GateConfigError::NotAPath(bad.clone()));
        }
        let all = [&callback_path, &start].into_iter().chain(&public_paths).chain(&mounts);
        let all = all.chain(documents.iter().map(|(path, _)| path));
        if let Some(bad) = all.into_iter().find(|path| !is_path(&public_origin, path)) {
            return Err(GateConfigError::NotAPath(bad.clone()));
        }
        let access = Access::new(
            config.access,
            config.open_paths,
            config.unverified_email,
            &public_origin,
            &base_path,
        )?;
        let is_other = |origin: &Url| origin.origin() != public_origin.origin();
        let (cookie_domain, login_origin, sister_origins) = match config.shared_login {
            Some(shared) => {
                shared.check(&public_origin)?;
                let sisters = shared.origins.into_iter().filter(is_other).collect();
                (Some(shared.cookie_domain), Some(shared.login_origin).filter(is_other), sisters)
            }
            None => (None, None, Vec::new()),
        };
        let mut redirect_uri = login_origin.as_ref().unwrap_or(&public_origin).clone();
        redirect_uri.set_path(&callback_path);
        let site = Self {
            cookies: Cookies::new(public_origin.scheme() == "https", cookie_domain)
                .keeping_flows(config.logins_in_flight),
            login_origin,
            sister_origins,
            origins: Origins::new(public_origin, &config.other_origins),
            default_provider,
            require_login: config.require_login,
            access: Arc::new(access),
            forward_auth: config.forward_auth,
            provider_token_key: config.provider_token_key,
            redirect_uri,
            base_path,
            callback_path,
            public_paths,
            mounts,
            start,
            documents,
        };
        match site.route(&site.callback_path) {
            Route::Ours(Ours::Callback) => Ok(site),
            _ => Err(GateConfigError::CallbackPathTaken(site.callback_path)),
        }
    }

    /// Whose a path is. Compared to the byte: a path that means the same and is written otherwise is the app's, and the
    /// guard is asked before it gets there.
    pub(crate) fn route(&self, path: &str) -> Route {
        let below_base = path.strip_prefix(self.base_path.as_str());
        let is_there = |ours: &Ours| *ours != Ours::Verify || self.forward_auth.is_some();
        if let Some(ours) = below_base.and_then(Ours::of_path).filter(is_there) {
            Route::Ours(ours)
        } else if let Some(ours) =
            self.mount_of(path).and_then(|mount| Ours::of_path(&path[mount.len()..]).filter(is_there))
        {
            Route::Ours(ours)
        } else if path == self.callback_path {
            Route::Ours(Ours::Callback)
        } else if self.public_paths.iter().any(|public| public == path) {
            Route::Public
        } else {
            Route::Protected
        }
    }

    /// Whether an e-mail address counts that the provider does not call verified.
    pub(crate) fn unverified_email(&self) -> bool {
        self.access.unverified_email()
    }

    /// What is at a path that is answered to everybody.
    pub(crate) fn document(&self, path: &str) -> Option<&Bytes> {
        self.documents.iter().find(|(known, _)| known == path).map(|(_, document)| document)
    }

    /// The rules for a path that is not ours.
    pub(crate) fn permit(&self, route: Route, path: &str) -> Result<Permit, AmbiguousPath> {
        if route == Route::Public { Ok(Permit::unconditional()) } else { self.access.permit(path) }
    }

    /// Whether only signed-in users get there.
    pub(crate) fn needs_login(&self, route: Route, permit: &Permit) -> bool {
        permit.is_for_users() || (self.require_login && route != Route::Public)
    }

    /// Whether only signed-in users get to the app's start.
    pub(crate) fn start_needs_login(&self) -> bool {
        let start = self.start();
        let route = self.route(&start);
        self.permit(route, &start).is_ok_and(|permit| self.needs_login(route, &permit))
    }

    /// Where users start.
    pub(crate) fn start(&self) -> String {
        self.start.clone()
    }

    /// Where users of the app start that a path belongs to, as far as is known here.
    pub(crate) fn start_of(&self, path: &str) -> String {
        self.mount_of(path).map_or_else(|| self.start(), |mount| format!("{mount}/"))
    }

    /// The nearest app above a path, of those that look for our routes below their own.
    fn mount_of(&self, path: &str) -> Option<&str> {
        let is_above =
            |mount: &&String| path.strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.mounts.iter().find(is_above).map(String::as_str)
    }

    /// The path of a route of ours.
    pub(crate) fn path_of(&self, ours: Ours) -> String {
        match ours {
            Ours::Callback => self.callback_path.clone(),
            _ => format!("{}{}", self.base_path, ours.path()),
        }
    }

    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }
}

impl SharedLogin {
    /// Whether browsers keep a cookie of this domain for each of the origins, and this one is one of them.
    fn check(&self, public_origin: &Url) -> Result<(), GateConfigError> {
        for origin in [public_origin, &self.login_origin].into_iter().chain(&self.origins) {
            if !is_origin(origin) || origin.scheme() != public_origin.scheme() {
                return Err(GateConfigError::NotAnOrigin(origin.clone()));
            }
            if !is_under(origin, &self.cookie_domain) {
                let domain = self.cookie_domain.clone();
                return Err(GateConfigError::NotUnderTheDomain { origin: origin.clone(), domain });
            }
        }
        Ok(())
    }
}

/// Whether a host is this domain, or under it (RFC 6265 section 5.1.3). Addresses are under no domain.
fn is_under(origin: &Url, domain: &str) -> bool {
    let Some(Host::Domain(host)) = origin.host() else { return false };
    !domain.is_empty()
        && host.strip_suffix(domain).is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

fn is_origin(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && &url[Position::BeforePath..] == "/"
}

/// Whether browsers send this path just as it is written here.
fn is_path(origin: &Url, path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && origin.join(path).is_ok_and(|url| &url[Position::BeforePath..] == path && url.path() == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GateConfig {
        GateConfig::new(Url::parse("https://app.example").unwrap())
    }

    #[test]
    fn the_callback_is_below_the_base_path_unless_told_otherwise() {
        let site = Site::new(config()).unwrap();
        assert_eq!(site.redirect_uri.as_str(), "https://app.example/oauth2callback");
        let site = Site::new(GateConfig { base_path: "/app".into(), ..config() }).unwrap();
        assert_eq!(site.redirect_uri.as_str(), "https://app.example/app/oauth2callback");
        let callback_path = Some("/signed-in".into());
        let site = Site::new(GateConfig { base_path: "/app".into(), callback_path, ..config() }).unwrap();
        assert_eq!(site.redirect_uri.as_str(), "https://app.example/signed-in");
        assert_eq!(site.route("/signed-in"), Route::Ours(Ours::Callback));
    }

    #[test]
    fn routes_are_found_below_the_apps_that_look_for_them_there() {
        let mounts = vec!["/reports".to_owned(), "/reports/old".to_owned(), String::new()];
        let start = "/reports/".to_owned();
        let site = Site::new(GateConfig { base_path: "/apps".into(), mounts, start, ..config() }).unwrap();
        for (path, expected, start) in [
            ("/apps/auth/login", Route::Ours(Ours::Login), "/apps/reports/"),
            ("/apps/reports/auth/login", Route::Ours(Ours::Login), "/apps/reports/"),
            ("/apps/reports/old/auth/logout", Route::Ours(Ours::Logout), "/apps/reports/old/"),
            ("/apps/reports/x/auth/logout", Route::Protected, "/apps/reports/"),
            ("/apps/reportsx/auth/login", Route::Protected, "/apps/reports/"),
            // One address alone is registered at the provider.
            ("/apps/reports/oauth2callback", Route::Protected, "/apps/reports/"),
            ("/reports/auth/login", Route::Protected, "/apps/reports/"),
        ] {
            assert_eq!((site.route(path), site.start_of(path).as_str()), (expected, start), "{path}");
        }
        let bad = Site::new(GateConfig { mounts: vec!["/reports/".into()], ..config() }).unwrap_err();
        assert_eq!(bad, GateConfigError::NotAPath("/reports/".into()));
    }

    #[test]
    fn who_signs_in_elsewhere_comes_back_there() {
        let url = |text: &str| Url::parse(text).unwrap();
        let shared = |domain: &str, login: &str| SharedLogin {
            cookie_domain: domain.into(),
            login_origin: url(login),
            origins: vec![url("https://app.example"), url("https://wiki.app.example")],
        };
        let of = |shared| Site::new(GateConfig { shared_login: Some(shared), ..config() });
        let site = of(shared("app.example", "https://app.example")).unwrap();
        assert_eq!((site.login_origin, site.sister_origins.len()), (None, 1));
        let site = of(shared("app.example", "https://wiki.app.example")).unwrap();
        assert_eq!(site.redirect_uri.as_str(), "https://wiki.app.example/oauth2callback");
        for (domain, login) in [
            ("wiki.app.example", "https://wiki.app.example"),
            ("p.example", "https://app.example"),
            (".example", "https://app.example"),
            ("", "https://app.example"),
            ("app.example", "https://login.example"),
        ] {
            let error = of(shared(domain, login)).unwrap_err();
            assert!(matches!(error, GateConfigError::NotUnderTheDomain { .. }), "{domain} {error}");
        }
        let error = of(shared("app.example", "http://app.example")).unwrap_err();
        assert!(matches!(error, GateConfigError::NotAnOrigin(_)), "{error}");
    }

    #[test]
    fn refuses_what_it_cannot_serve() {
        for origin in [
            "https://app.example/path",
            "https://user@app.example",
            "https://app.example/?q",
            "ftp://app.example",
            "data:x",
        ] {
            let public_origin = Url::parse(origin).unwrap();
            let error =
                Site::new(GateConfig { public_origin: public_origin.clone(), ..config() }).unwrap_err();
            assert_eq!(error, GateConfigError::NotAnOrigin(public_origin));
        }
        for path in [
            "app",
            "/app/",
            "//app",
            "/a/../b",
            "/a b",
            "/a?b",
            "/a#b",
            "/ä",
            "/a\\b",
            "https://evil.example/",
        ] {
            let error = Site::new(GateConfig { base_path: path.into(), ..config() }).unwrap_err();
            assert_eq!(error, GateConfigError::NotAPath(path.to_owned()));
        }
        let error =
            Site::new(GateConfig { callback_path: Some("/auth/login".into()), ..config() }).unwrap_err();
        assert_eq!(error, GateConfigError::CallbackPathTaken("/auth/login".into()));
        let error = Site::new(GateConfig { public_paths: vec!["health".into()], ..config() }).unwrap_err();
        assert_eq!(error, GateConfigError::NotAPath("health".into()));
    }

    #[test]
    fn routes_to_the_byte() {
        use Route::{Protected, Public};
        let public_paths = vec!["/health".to_owned()];
        let site = Site::new(GateConfig { base_path: "/app".into(), public_paths, ..config() }).unwrap();
        let table = [
            ("/app/auth/login", Route::Ours(Ours::Login)),
            ("/app/auth/logout", Route::Ours(Ours::Logout)),
            ("/app/auth/refresh", Route::Ours(Ours::Refresh)),
            ("/app/auth/user", Route::Ours(Ours::User)),
            ("/app/oauth2callback", Route::Ours(Ours::Callback)),
            ("/app/auth/backchannel-logout", Route::Ours(Ours::BackChannelLogout)),
            ("/app/auth/frontchannel-logout", Route::Ours(Ours::FrontChannelLogout)),
            ("/app/health", Public),
            // Where no proxy asks.
            ("/app/auth/verify", Protected),
            // Everything else is the app's, and guarded.
            ("/", Protected),
            ("/app", Protected),
            ("/app/", Protected),
            ("/auth/login", Protected),
            ("/app/auth", Protected),
            ("/app/auth/login/", Protected),
            ("/app/auth/Login", Protected),
            ("/app/auth/%6cogin", Protected),
            ("/app//auth/login", Protected),
            ("/app/auth/login;x", Protected),
            ("/app/x/../auth/login", Protected),
            ("/app/health/", Protected),
            ("/app//health", Protected),
            ("/app/x/../health", Protected),
            ("/app/health%00", Protected),
            ("/health", Protected),
            ("*", Protected),
            ("", Protected),
        ];
        for (path, expected) in table {
            assert_eq!(site.route(path), expected, "{path}");
        }
    }
}
