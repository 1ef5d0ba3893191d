//! Which app a request is for.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION, request::Parts, uri::PathAndQuery};

use super::{
    Entrant, UpstreamError, UpstreamOptions, hand_off::ToldHeaders, headers::X_FORWARDED_PREFIX, pool::Pool,
};

/// The apps behind the proxy.
pub(super) struct Upstreams {
    /// Those with the longest path first.
    all: Vec<Upstream>,
}

/// One app, and the connections to it.
pub(super) struct Upstream {
    pub(super) options: UpstreamOptions,
    pub(super) identity_headers: Arc<[HeaderName]>,
    pub(super) pool: Arc<Pool>,
    /// What an app is told that takes itself to be at `/`.
    prefix: Option<HeaderValue>,
}

impl Upstreams {
    pub(super) fn new(all: Vec<UpstreamOptions>) -> Self {
        let mut all: Vec<Upstream> = all.into_iter().map(Upstream::new).collect();
        all.sort_by_key(|upstream| std::cmp::Reverse(upstream.options.path.len()));
        Self { all }
    }

    /// The app with the longest path that the request's is, or is below. Compared to the byte, as the guard's own routes are:
    /// a path that means the same and is written otherwise is another app's, and the guard was asked in any case.
    pub(super) fn of<B>(&self, request: &Request<B>) -> Option<&Upstream> {
        let path = request.uri().path();
        self.all.iter().find(|upstream| {
            let rest = path.strip_prefix(upstream.options.path.as_str());
            upstream.options.path.is_empty()
                || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Upstream {
    fn new(options: UpstreamOptions) -> Self {
        let mut identity_headers = options.identity_headers.clone();
        if options.hand_off.as_ref().is_some_and(|hand_off| hand_off.bearer) {
            // The app takes it for the gate's word, so a visitor who is not signed in may not say it either.
            identity_headers.push(AUTHORIZATION);
        }
        let prefix = match options.strip_path && !options.path.is_empty() {
            true => HeaderValue::from_str(&options.path).ok(),
            false => None,
        };
        Self { identity_headers: identity_headers.into(), pool: Pool::start(&options), prefix, options }
    }

    /// What the app is told of the visitor. It may have to wait for a refresh.
    pub(super) async fn told(&self, entrant: Option<&Entrant>) -> Result<ToldHeaders, UpstreamError> {
        match (entrant, &self.options.hand_off) {
            // Boxed: most requests don't come this way, and should not make room for it.
            (Some(entrant), Some(hand_off)) => Box::pin(hand_off.tell(entrant.session)).await,
            _ => Ok(ToldHeaders::new()),
        }
    }

    /// Takes the app's path off the request's, if the app is not to see it.
    pub(super) fn strip_path(&self, request: &mut Parts) {
        let Some(prefix) = &self.prefix else { return };
        let whole = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let rest = whole.strip_prefix(self.options.path.as_str()).unwrap_or(whole);
        let rest = if rest.starts_with('/') { rest.parse() } else { format!("/{rest}").parse() };
        // What is left of a path that was parsed can be parsed.
        if let Ok(rest) = rest {
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(rest);
            request.uri = Uri::from_parts(parts).unwrap_or_default();
            request.headers.insert(X_FORWARDED_PREFIX, prefix.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(paths: &[&str]) -> Upstreams {
        let options =
            |path: &&str| UpstreamOptions { path: (*path).to_owned(), ..UpstreamOptions::new(*path) };
        Upstreams::new(paths.iter().map(options).collect())
    }

    #[tokio::test]
    async fn the_longest_path_wins_to_the_byte() {
        let several = upstreams(&["/reports", "", "/reports/old"]);
        for (path, expected) in [
            ("/", ""),
            ("/x", ""),
            ("/reports", "/reports"),
            ("/reports/", "/reports"),
            ("/reports?x=/reports/old", "/reports"),
            ("/reports/older", "/reports"),
            ("/reports/old", "/reports/old"),
            ("/reports/old/1", "/reports/old"),
            ("/reportsx", ""),
            ("/Reports", ""),
            ("/%72eports", ""),
            ("//reports", ""),
            ("*", ""),
        ] {
            let request = Request::builder().uri(path).body(()).unwrap();
            let found = several.of(&request).map(|found| found.options.path.as_str());
            assert_eq!(found, Some(expected), "{path}");
        }
        let request = Request::builder().uri("/elsewhere").body(()).unwrap();
        assert!(upstreams(&["/reports"]).of(&request).is_none());
    }

    #[tokio::test]
    async fn a_path_that_the_app_does_not_see_is_taken_off() {
        let options =
            UpstreamOptions { path: "/reports".into(), strip_path: true, ..UpstreamOptions::new("app") };
        let upstream = Upstream::new(options);
        for (uri, expected) in [
            ("/reports", "/"),
            ("/reports/", "/"),
            ("/reports?a=/b", "/?a=/b"),
            ("/reports/reports/x?y", "/reports/x?y"),
            ("/reports/%2e%2e/x", "/%2e%2e/x"),
        ] {
            let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            upstream.strip_path(&mut parts);
            assert_eq!(parts.uri.to_string(), expected, "{uri}");
            assert_eq!(parts.headers["x-forwarded-prefix"], "/reports");
        }
    }
}
