//! From an admitted request to one that any service takes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{gate::Shared, user::User};
use crate::{
    admitted::{Absence, Admitted, Visitor},
    failure::Failure,
};

/// The app behind the gate: takes a request of an [`Admitted`] one, with the [`User`] among its extensions, and turns a
/// [`Failure`] that the app answers with (see [`Failure::into_response`]) into one of the gate's own.
#[derive(Clone)]
pub struct AppService<S> {
    app: S,
    shared: Arc<Shared>,
}

impl<S> AppService<S> {
    pub(super) fn new(app: S, shared: Arc<Shared>) -> Self {
        Self { app, shared }
    }
}

/// Who sent a request, among its extensions.
#[derive(Clone)]
pub(crate) struct Sender(pub(crate) Result<User, Absence>);

impl<S, B, R> Service<Admitted<B>> for AppService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<Failure>,
{
    type Response = Response<R>;
    type Error = Failure;
    type Future = AppFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.app.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, admitted: Admitted<B>) -> Self::Future {
        let (absence, permit) = (admitted.absence(), admitted.permit().clone());
        let (mut request, visitor) = admitted.into_parts();
        let sender = match visitor {
            Visitor::SignedIn(session) => Ok(User::new(self.shared.clone(), session, permit)),
            Visitor::Anonymous => Err(absence),
        };
        request.extensions_mut().insert(Sender(sender));
        AppFuture { answering: self.app.call(request) }
    }
}

pin_project! {
    /// An app that answers.
    pub struct AppFuture<F> {
        #[pin]
        answering: F,
    }
}

impl<F, R, E> Future for AppFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<Failure>,
{
    type Output = Result<Response<R>, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.project().answering.poll(context)).map_err(Into::into)?;
        Poll::Ready(match Failure::carried_by(&mut response) {
            Some(failure) => Err(failure),
            None => Ok(response),
        })
    }
}
