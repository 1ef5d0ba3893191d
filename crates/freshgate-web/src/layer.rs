//! The layer: from a browser's request to the inner service, or to an answer of our own.
//!
//! ```text
//! route -> session -> guard -> Admitted -> inner service
//!    \-> our own routes            \-> respond, if a step fails
//! ```

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use freshgate::Engine;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower::{Layer, Service};

use crate::{
    access::Permit,
    admitted::Admitted,
    body::GateBody,
    config::{GateConfig, GateConfigError, Site},
    cookies,
    failure::Failure,
    guard,
    rates::Rates,
    request_id::RequestId,
    respond::{self, Answer, Asker},
    route::{Asked, Ours, Route},
    routes::{Routes, Session},
};

/// Puts a [`Gate`] in front of a service. Cheap to clone; all clones are one gate.
#[derive(Clone)]
pub struct GateLayer {
    pub(crate) routes: Arc<Routes>,
}

impl GateLayer {
    /// Sets a gate up. Fails if the configuration contradicts itself.
    pub fn new(engine: Engine, config: GateConfig) -> Result<Self, GateConfigError> {
        let rates = Arc::new(Rates::new(config.rate_limits));
        Ok(Self { routes: Arc::new(Routes { engine, site: Site::new(config)?, rates }) })
    }

    /// A gate for another host on the same engine. What a client asked of one counts for both: the limits are this one's.
    pub fn for_another_host(&self, config: GateConfig) -> Result<Self, GateConfigError> {
        let (engine, rates) = (self.routes.engine.clone(), Arc::clone(&self.routes.rates));
        Ok(Self { routes: Arc::new(Routes { engine, site: Site::new(config)?, rates }) })
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { routes: self.routes.clone(), inner }
    }
}

/// Answers `/auth/*` and the callback itself, and hands every other request that passes the guard to the inner service.
///
/// The inner service is cloned for each request, so cloning must be cheap. It is always ready: whether the inner service
/// is, is waited for in the request. Dropping a response's future midway drops the inner service's, and leaves no session
/// half changed.
#[derive(Clone)]
pub struct Gate<S> {
    routes: Arc<Routes>,
    inner: S,
}

impl<S> Gate<S> {
    /// Serves one request: what [`Service::call`] does, without boxing the future.
    pub async fn serve<B, R>(&self, request: Request<B>) -> Response<GateBody<R>>
    where
        B: Body,
        S: Service<Admitted<B>, Response = Response<R>> + Clone,
        S::Error: Into<Failure>,
    {
        let (mut parts, body) = request.into_parts();
        let asked = Asked::of(&parts);
        if let Some(document) = self.routes.site.document(parts.uri.path()) {
            return self.routes.finish(respond::document(document)).map(GateBody::ours);
        }
        let route = self.routes.site.route(parts.uri.path());
        if let Route::Ours(ours) = route {
            // Boxed, so that every request to the app does not carry the room that a login needs.
            return Box::pin(self.routes.answer_ours(ours, &parts, body, asked)).await.map(GateBody::ours);
        }
        let (session, permit) = match self.routes.admit(route, &parts, asked).await {
            Ok(admitted) => admitted,
            Err(answer) => return answer.map(GateBody::ours),
        };
        // Cheap to clone, and all that is needed of the request should the inner service fail.
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        cookies::take_out_ours(&mut parts.headers);
        let admitted = Admitted::new(Request::from_parts(parts, body), session, permit);

        let mut inner = self.inner.clone();
        let answered = match poll_fn(|context| inner.poll_ready(context)).await {
            Ok(()) => inner.call(admitted).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(response) => response.map(GateBody::inner),
            Err(error) => {
                let asker = Asker { site: &self.routes.site, method: &method, uri: &uri };
                self.routes.refuse(error.into(), asked, &asker).map(GateBody::ours)
            }
        }
    }
}

impl<S, B, R> Service<Request<B>> for Gate<S>
where
    S: Service<Admitted<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Error: Into<Failure> + Send,
    S::Future: Send,
    B: Body<Data: Send> + Send + 'static,
{
    type Response = Response<GateBody<R>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move { Ok(gate.serve(request).await) })
    }
}

impl Routes {
    /// Lets a request for the app through, or answers it here.
    async fn admit(&self, route: Route, request: &Parts, asked: Asked) -> Result<(Session, Permit), Answer> {
        let asker = Asker::new(&self.site, request);
        let admitted = async {
            let session = self.session(request).await?;
            let permit = guard::decide(&self.site, route, asked, request, &session)?;
            Ok((session, permit))
        };
        admitted.await.map_err(|failure| self.refuse(failure, asked, &asker))
    }

    async fn answer_ours(&self, ours: Ours, request: &Parts, body: impl Body, asked: Asked) -> Answer {
        if let (Ours::Verify, Some(forward_auth)) = (ours, self.site.forward_auth) {
            return self.verify(request, forward_auth).await;
        }
        // These are asked by programs, whatever they accept.
        let by_programs = matches!(ours, Ours::Refresh | Ours::User | Ours::BackChannelLogout);
        let asked = if by_programs { Asked::Data } else { asked };
        match self.answer(ours, request, body).await {
            Ok(answer) => self.finish(answer),
            Err(failure) => self.refuse(failure, asked, &Asker::new(&self.site, request)),
        }
    }

    pub(crate) fn finish(&self, answer: Answer) -> Answer {
        respond::finish(answer, &RequestId::generate(&**self.engine.entropy()))
    }

    fn refuse(&self, failure: Failure, asked: Asked, asker: &Asker<'_>) -> Answer {
        let request_id = RequestId::generate(&**self.engine.entropy());
        respond::finish(respond::refuse(failure, asked, asker, &request_id), &request_id)
    }
}
