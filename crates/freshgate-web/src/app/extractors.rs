//! For axum: a handler that takes a [`User`] is reached by signed-in users alone.

use std::{convert::Infallible, marker::PhantomData, net::SocketAddr, ops::Deref};

use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts, Request},
    middleware::map_request,
    response::{IntoResponse, Response},
};
use http::request::Parts;
use tower::Layer as _;

use super::{gate::AppGate, user::User};
use crate::{arrival::Arrival, failure::Failure};

impl AppGate {
    /// Puts the gate around all routes of an app. What the router gains afterwards is outside of it.
    pub fn protect(&self, app: Router) -> Router {
        let around = Router::new().fallback_service(self.layer().layer(app));
        if self.reached_directly { around.layer(map_request(tell_arrival)) } else { around }
    }
}

async fn tell_arrival(mut request: Request) -> Request {
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let arrival = Arrival::direct(peer.ip());
        request.extensions_mut().insert(arrival);
    }
    request
}

/// A handler may fail with a failure: the gate around the app makes a page or JSON of it.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        Failure::into_response(self)
    }
}

/// Who is not signed in does not reach the handler: a page is led to the login, and anything else gets 401.
impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::needed(&parts.extensions)
    }
}

/// Everybody reaches a handler that takes an `Option<User>`.
impl<S: Sync> OptionalFromRequestParts<S> for User {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

/// What a user may be: a type of the app's own, for [`UserWith`].
pub trait Role {
    /// Whether a user has it.
    fn is_held_by(user: &User) -> bool;
}

/// A user who has a role. Who is not signed in is treated as by [`User`], and who has not the role is told so with 403.
///
/// ```
/// # use freshgate_web::{Role, User, UserWith};
/// struct Analyst;
///
/// impl Role for Analyst {
///     fn is_held_by(user: &User) -> bool {
///         user.has("groups", "analysts")
///     }
/// }
///
/// async fn report(user: UserWith<Analyst>) -> String {
///     format!("for {} alone", user.claims()["sub"])
/// }
/// # axum::Router::<()>::new().route("/report", axum::routing::get(report));
/// ```
pub struct UserWith<R> {
    user: User,
    role: PhantomData<fn() -> R>,
}

impl<R> UserWith<R> {
    /// The user.
    pub fn into_user(self) -> User {
        self.user
    }
}

impl<R> Deref for UserWith<R> {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

impl<R: Role, S: Sync> FromRequestParts<S> for UserWith<R> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let user = User::needed(&parts.extensions)?;
        user.require(R::is_held_by(&user))?;
        Ok(Self { user, role: PhantomData })
    }
}
