//! GET `/auth/login`: sends the browser to the provider. POST, from a site that begins a login here (OpenID Connect Core
//! section 4): sends it to the same address by GET.

use freshgate::engine::{LoginError, LoginRequest, PreparedLogin};
use freshgate_oidc::{AuthorizationParameters, Issuer, is_unprintable, one_line};
use http::request::Parts;
use http_body::Body;
use url::{Url, form_urlencoded};

use super::{Routes, Session, form::form};
use crate::{
    admitted::Absence,
    cookies::Offered,
    failure::{Failure, WayOn},
    next::Next,
    origin::Referer,
    provider_token,
    respond::{Answer, SWITCH_ACCOUNT, redirect, with_cookies},
    route::Ours,
};

/// The query of `/auth/login`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    provider: Option<String>,
    next: Option<String>,
    /// A login that the app has prepared.
    prepared: Option<String>,
    /// Set by ourselves on the way to the public host, so that we go there once: a proxy in front of us that rewrites
    /// `Host` would have us go there forever.
    moved: bool,
    /// Whether the user wants to choose the account, though signed in with one.
    switch_account: bool,
    /// Of the provider, where another site begins the login (OpenID Connect Core section 4). Two more go with it.
    issuer: Option<String>,
    /// Who the user is there; for the provider's page, which asks for proof. Only what could be a name.
    login_hint: Option<String>,
    /// The page of this app to go to.
    target_link_uri: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "provider" => &mut parsed.provider,
                "next" => &mut parsed.next,
                "prepared" => &mut parsed.prepared,
                "iss" => &mut parsed.issuer,
                "login_hint" => &mut parsed.login_hint,
                "target_link_uri" => &mut parsed.target_link_uri,
                "moved" => {
                    parsed.moved = true;
                    continue;
                }
                SWITCH_ACCOUNT => {
                    parsed.switch_account = true;
                    continue;
                }
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err("a parameter comes twice");
            }
        }
        if parsed.issuer.is_some() && (parsed.provider.is_some() || parsed.prepared.is_some()) {
            return Err("the provider is named twice");
        }
        parsed.login_hint = parsed.login_hint.filter(|hint| is_hint(hint));
        if parsed.issuer.is_none() {
            (parsed.login_hint, parsed.target_link_uri) = (None, None);
        }
        Ok(parsed)
    }
}

/// Whether it is short enough, and plain enough, to say who somebody is. Anybody can have us send it on.
fn is_hint(text: &str) -> bool {
    const LONGEST: usize = 256;
    text.len() <= LONGEST && !text.chars().any(is_unprintable)
}

impl Routes {
    pub(super) async fn login(&self, request: &Parts) -> Result<Answer, Failure> {
        let query = Query::parse(request.uri.query().unwrap_or_default()).map_err(Failure::bad_request)?;
        let next = self.wanted_next(&query, request);
        if let Some(login_origin) = &self.site.login_origin {
            // The callback arrives there, and the flow's cookie is for that host alone.
            let next = next.unwrap_or_else(|| self.site.next_start_of(request.uri.path()));
            let next = self.site.origins.public().join(next.as_str()).ok();
            return Ok(self.move_to(login_origin, &query, next.as_ref().map(Url::as_str)));
        }
        if !query.moved && !self.site.origins.is_public(request) {
            return Ok(self.move_to(self.site.origins.public(), &query, next.as_ref().map(Next::as_str)));
        }
        if matches!(self.session(request).await?, Session::Absent(Absence::Conflicting)) {
            // Signing in would change nothing: the browser would go on to send both.
            return Err(Failure::conflicting_sessions());
        }
        let (provider, parameters) = match &query.prepared {
            Some(sealed) => {
                let prepared = self.prepared_login(sealed, request).await?;
                (prepared.provider, prepared.parameters)
            }
            None => {
                let provider = self.wanted_provider(&query)?;
                let known = self.engine.providers().find(|known| known.name() == provider);
                let prompt = match known.filter(|_| query.switch_account) {
                    Some(known) => Some(("prompt", known.account_prompt().await)),
                    None => None,
                };
                let hint = query.login_hint.as_deref().map(|hint| ("login_hint", hint));
                let parameters = AuthorizationParameters::of(prompt.into_iter().chain(hint))
                    .expect("the protocol does not need them for itself");
                (provider, parameters)
            }
        };
        let try_again = WayOn::SignIn { provider: Some(provider.clone()), next: next.clone() };
        let login = LoginRequest {
            provider,
            redirect_uri: self.site.redirect_uri.clone(),
            next: next.unwrap_or_else(|| self.site.next_start_of(request.uri.path())).as_str().to_owned(),
            parameters,
        };
        let started = self
            .engine
            .begin_login(login)
            .await
            .map_err(|error| Failure::from(error).offering_another_try(try_again))?;

        let cookies = &self.site.cookies;
        let now = self.engine.clock().now();
        let flow = started.flow.to_string();
        let cookie = cookies
            .set_flow(&flow, started.sealed_flow.expose(), now)
            .ok_or_else(Failure::too_large_for_a_cookie)?;
        let surplus = cookies.clear_surplus_flows(&request.headers, cookie.len(), now);
        Ok(with_cookies(redirect(started.authorize.expose()), std::iter::once(cookie).chain(surplus)))
    }

    /// A login that another site begins by POST: the same again by GET.
    ///
    /// A POST that comes from elsewhere brings no cookie of ours (`SameSite=Lax`), so nothing can be decided here; the GET that
    /// follows brings them, and is held to all that it is held to when it comes by itself. Of the form it takes what section 4
    /// names and nothing else, so such a site can do here what it can do by a link, and no more.
    pub(super) async fn posted_login(&self, request: &Parts, body: impl Body) -> Result<Answer, Failure> {
        let form = form(&request.headers, body).await.map_err(Failure::bad_request)?;
        let form = std::str::from_utf8(&form).map_err(Failure::bad_request)?;
        let form = Query::parse(form).map_err(Failure::bad_request)?;
        let Some(issuer) = &form.issuer else {
            return Err(Failure::bad_request("the form does not name the provider (iss)"));
        };
        let mut url = self.site.origins.public().clone();
        // Which app's login this is, the path says.
        url.set_path(request.uri.path());
        let named = [("iss", Some(issuer)), ("login_hint", form.login_hint.as_ref())];
        let named = named.into_iter().chain([("target_link_uri", form.target_link_uri.as_ref())]);
        url.query_pairs_mut().extend_pairs(named.filter_map(|(name, value)| Some((name, value?))));
        Ok(redirect(url.as_str()))
    }

    /// The same login once more.
    pub(super) fn same_login(&self, request: &Parts) -> WayOn {
        let query = Query::parse(request.uri.query().unwrap_or_default()).unwrap_or_default();
        let next = self.wanted_next(&query, request);
        WayOn::SignIn { provider: self.wanted_provider(&query).ok(), next }
    }

    /// Where the user wants to go: as `next` says, or the site that began the login, else back to the page that led here.
    fn wanted_next(&self, query: &Query, request: &Parts) -> Option<Next> {
        match (&query.next, &query.target_link_uri) {
            (Some(next), _) => self.site.next(next),
            (None, Some(target)) => match Url::parse(target).ok()? {
                url if url.origin() == self.site.origins.public().origin() => self.site.next_url(&url),
                url => self.site.next(url.as_str()),
            },
            (None, None) => match self.site.origins.referer(request) {
                Referer::ThisSite(url) => self.site.next_url(&url),
                Referer::None | Referer::Elsewhere => None,
            },
        }
    }

    /// Sends a browser that came by another name of this host (127.0.0.1 for localhost), or over http where https is
    /// public, to the public one, and one that came to another host to that of the login: the callback
    /// arrives there, and the flow's cookie must be there when it does.
    fn move_to(&self, origin: &Url, query: &Query, next: Option<&str>) -> Answer {
        let mut url = origin.clone();
        url.set_path(&self.site.path_of(Ours::Login));
        let mut pairs = url.query_pairs_mut();
        if let Some(provider) = &query.provider {
            pairs.append_pair("provider", provider);
        }
        if let Some(prepared) = &query.prepared {
            pairs.append_pair("prepared", prepared);
        }
        if let Some(next) = next {
            pairs.append_pair("next", next);
        }
        if query.switch_account {
            pairs.append_pair(SWITCH_ACCOUNT, "1");
        }
        for (name, value) in [("iss", &query.issuer), ("login_hint", &query.login_hint)] {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
        pairs.append_pair("moved", "1");
        drop(pairs);
        redirect(url.as_str())
    }

    /// What the app has prepared, if it was for this browser: the one with the session that it was prepared in, however that
    /// stands by now, or, if it was prepared for somebody who is not signed in, one without an open session.
    async fn prepared_login(&self, sealed: &str, request: &Parts) -> Result<PreparedLogin, Failure> {
        let prepared = self.engine.open_prepared_login(sealed).ok_or_else(Failure::prepared_login_over)?;
        let is_this_browsers = match prepared.session {
            Some(key) => match self.site.cookies.session(&request.headers) {
                Offered::WellFormed(id) => id.key() == key,
                Offered::Nothing | Offered::Malformed | Offered::Conflicting => false,
            },
            None => !matches!(self.session(request).await?, Session::Open(_)),
        };
        if is_this_browsers { Ok(prepared) } else { Err(Failure::prepared_for_another()) }
    }

    /// The provider's name: as it is, or in a token that Streamlit signed, or by its issuer. If several names are one
    /// issuer's, the default one comes first.
    fn wanted_provider(&self, query: &Query) -> Result<String, Failure> {
        let default = &self.site.default_provider;
        if let Some(issuer) = &query.issuer {
            let issuer = Issuer::new(issuer.as_str());
            let mut names = self
                .engine
                .providers()
                .filter(|known| known.config().issuer.may_be(&issuer))
                .map(|known| known.name())
                .collect::<Vec<_>>();
            names.sort_by_key(|name| (name != default, *name));
            let name = names.first().copied().map(str::to_owned);
            return name.ok_or_else(|| LoginError::UnknownProvider(one_line(issuer.as_str(), 200)).into());
        }
        match (&query.provider, &self.site.provider_token_key) {
            (None, _) => Ok(default.clone()),
            (Some(token), Some(key)) if provider_token::looks_like_token(token) => {
                provider_token::verify(token, key, self.engine.clock().now())
                    .map_err(|error| Failure::bad_request(error).offering(WayOn::Start))
            }
            (Some(name), _) => Ok(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read_once_each() {
        let query = |provider: Option<&str>, next: Option<&str>, moved| Query {
            provider: provider.map(str::to_owned),
            next: next.map(str::to_owned),
            moved,
            ..Query::default()
        };
        let switching = Query { switch_account: true, ..query(Some("google"), None, false) };
        let third_party = Query {
            issuer: Some("https://a.example".into()),
            login_hint: Some("ada".into()),
            target_link_uri: Some("https://b.example/c".into()),
            ..Query::default()
        };
        let table = [
            ("", Ok(query(None, None, false))),
            ("provider=google", Ok(query(Some("google"), None, false))),
            ("next=%2Fa%3Fb&provider=google", Ok(query(Some("google"), Some("/a?b"), false))),
            ("provider=google&switch_account=1", Ok(switching)),
            ("moved=1&x=y", Ok(query(None, None, true))),
            ("next=%ff", Ok(query(None, Some("\u{fffd}"), false))),
            ("prepared=s", Ok(Query { prepared: Some("s".into()), ..Query::default() })),
            ("prepared=s&prepared=s", Err("a parameter comes twice")),
            // What is asked of the provider is not for the address to say.
            ("acr_values=x&scope=x&prompt=none&max_age=0&resource=x&login_hint=x", Ok(Query::default())),
            ("iss=https://a.example&login_hint=ada&target_link_uri=https://b.example/c", Ok(third_party)),
            ("iss=https://a.example&iss=https://b.example", Err("a parameter comes twice")),
            ("iss=https://a.example&provider=a", Err("the provider is named twice")),
            ("iss=https://a.example&prepared=s", Err("the provider is named twice")),
            ("provider=a&provider=b", Err("a parameter comes twice")),
            ("next=/a&n%65xt=/b", Err("a parameter comes twice")),
        ];
        for (text, expected) in table {
            assert_eq!(Query::parse(text), expected, "{text}");
        }
    }
}
