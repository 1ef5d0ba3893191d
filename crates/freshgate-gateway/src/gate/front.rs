//! What serves browsers: for each host a guarded proxy, all of which a reload replaces.

use std::{
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use freshgate_web::{Arrival, Gate, GateBody, refuse_unseen};
use http::{Request, Response, header::HOST, request::Parts, uri::Authority};
use hyper::body::Incoming;
use tower::Service;

use crate::{
    config::is_loopback_name,
    upstream::{ResponseBody, ReverseProxy, UpstreamError},
};

/// The guard in front of the reverse proxy.
pub type GuardedProxy = Gate<ReverseProxy>;

/// The guarded proxies of this moment.
pub(super) struct Hosts {
    /// That of the host of `redirect_uri`. Where there are no others, it is for every host: what browsers use may be known
    /// to a proxy in front of us alone.
    pub(super) first: GuardedProxy,
    /// The name of that host.
    pub(super) first_name: String,
    /// The others, by their names in lower case.
    pub(super) others: HashMap<String, GuardedProxy>,
    /// Where proxies ask whether a request may pass that is for another host than theirs.
    pub(super) verify_path: String,
}

impl Hosts {
    /// The one that a request was sent to. `None`: none, or it names two.
    fn of<B>(&self, request: &Request<B>) -> Option<&GuardedProxy> {
        if self.others.is_empty() {
            return Some(&self.first);
        }
        // Of the listener each request has one `Host`.
        let host = request.headers().get(HOST);
        let asked = host.and_then(|host| self.named(&Authority::try_from(host.as_bytes()).ok()?));
        // A proxy in front of us knows best.
        match request.extensions().get::<Arrival>().and_then(|arrival| arrival.host.as_ref()) {
            None => asked,
            Some(by_proxy) => {
                let meant = self.named(by_proxy)?;
                // The rules of one host and the app of another: some proxies pass on what the client says of its host.
                let is_another = asked.is_some_and(|asked| !std::ptr::eq(asked, meant));
                (!is_another || request.uri().path() == self.verify_path).then_some(meant)
            }
        }
    }

    fn named(&self, authority: &Authority) -> Option<&GuardedProxy> {
        let name = match authority.host() {
            name if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(name.to_ascii_lowercase())
            }
            name => Cow::Borrowed(name),
        };
        if let Some(other) = self.others.get(&*name) {
            return Some(other);
        }
        // `localhost` and 127.0.0.1 are one.
        let is_first =
            *name == *self.first_name || (is_loopback_name(&name) && is_loopback_name(&self.first_name));
        is_first.then_some(&self.first)
    }
}

/// What serves browsers. Clones are one.
#[derive(Clone)]
pub(super) struct Front(Arc<RwLock<Arc<Hosts>>>);

type Answer = Response<GateBody<ResponseBody>>;

impl Front {
    pub(super) fn new(hosts: Hosts) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(hosts))))
    }

    pub(super) fn replace_by(&self, hosts: Hosts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let hosts = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let proxy = hosts.of(&request).cloned();
        Box::pin(async move {
            Ok(match proxy {
                Some(proxy) => proxy.serve(request).await,
                None => unknown(&request.into_parts().0),
            })
        })
    }
}

/// RFC 9110 section 15.5.20. To say more than that would tell strangers what there is.
fn unknown(request: &Parts) -> Answer {
    refuse_unseen(UpstreamError::UnknownHost, request).map(GateBody::of_server)
}
