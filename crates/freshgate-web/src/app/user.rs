//! What an app can ask of its user.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use freshgate::{
    Secret,
    engine::{Opened, RefreshError, RefreshOutcome, ResourceAuthorization},
    session::{EndReason, FreshSession, OpenSession},
    store::StoreError,
};
use freshgate_oidc::{Claims, DpopNonce};
use http::{Extensions, Method, Response};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::sleep;
use url::Url;

use super::{gate::Shared, service::Sender};
use crate::{
    access::{Condition, Permit},
    failure::Failure,
};

/// How long a handler waits for a refresh, which goes on when it is over.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long to sleep at most until the session may be idle: the clock may be set meanwhile, and a machine that slept wakes up
/// late.
const LONGEST_NAP: Duration = Duration::from_secs(30);
/// When to look again after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Somebody who is signed in: who sent a request. Cheap to clone, and good for as long as the session is open.
#[derive(Clone)]
pub struct User {
    shared: Arc<Shared>,
    session: OpenSession,
    permit: Permit,
}

/// Why a user is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The session is over; `None`: nobody knows it any more.
    Over(Option<EndReason>),
    /// The session is open, but the rules for the path of the request do not let its user in any more: the claims changed.
    NotAllowed,
}

impl User {
    pub(super) fn new(shared: Arc<Shared>, session: OpenSession, permit: Permit) -> Self {
        Self { shared, session, permit }
    }

    /// The user who sent the request with these extensions; `None` if nobody is signed in, or if the request did not come
    /// through an [`AppGate`](super::AppGate).
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Sender>()?.0.clone().ok()
    }

    /// The same for who needs a user. A handler answers with the failure: a page is led to the login, and anything else gets
    /// 401.
    pub fn needed(extensions: &Extensions) -> Result<Self, Failure> {
        match extensions.get::<Sender>() {
            Some(Sender(Ok(user))) => Ok(user.clone()),
            Some(Sender(Err(absence))) => Err((*absence).into()),
            None => {
                // Nobody else would tell: there is no gate that could.
                tracing::error!(
                    "a request reached a handler that needs a user, and no gate is around the app"
                );
                Err(Failure::not_signed_in())
            }
        }
    }

    /// The claims, as of the request or of the last [`User::refresh`].
    pub fn claims(&self) -> &Claims {
        self.session.claims()
    }

    /// Whether a claim is this text, or an array that holds it: `user.has("groups", "admins")`. The claim's name, or a JSON
    /// Pointer such as `/realm_access/roles`.
    pub fn has(&self, claim: &str, value: &str) -> bool {
        self.meets(&Condition::Claim { name: claim.to_owned(), one_of: vec![Value::from(value)] })
    }

    /// Whether the user meets a condition, as a rule of the gate would have it.
    pub fn meets(&self, condition: &Condition) -> bool {
        condition.is_met(self.claims(), self.shared.unverified_email)
    }

    /// Goes on only with a user who may: `user.require(user.has("groups", "admins"))?`. Anybody else is told so by the
    /// gate's page or JSON, with 403.
    pub fn require(&self, is_allowed: bool) -> Result<(), Failure> {
        if is_allowed {
            return Ok(());
        }
        let cause = format!("the app refuses the account of session {}", self.session.key().short());
        Err(Failure::not_for(&self.session).caused_by(cause))
    }

    /// The session, as of the request or of the last [`User::refresh`].
    pub fn session(&self) -> &OpenSession {
        &self.session
    }

    /// The access token: one that is about to expire is refreshed first, so it is never stale. Ask for it where it is used,
    /// and do not keep it.
    ///
    /// # Errors
    /// `SignInAgain` if the session is over. `TryLater` if the token has expired and the provider cannot be asked now. Dropping
    /// the future cancels no refresh.
    pub async fn access_token(&self) -> Result<Secret, RefreshError> {
        Ok(self.fresh().await?.access_token().clone())
    }

    /// What a request of this method to this address of an API carries: `Authorization` and, where the provider binds tokens
    /// to a key (RFC 9449), `DPoP`. For this one request, at once.
    ///
    /// # Errors
    /// As [`User::access_token`].
    pub async fn authorization(
        &self,
        method: &Method,
        url: &Url,
    ) -> Result<ResourceAuthorization, RefreshError> {
        let fresh = self.fresh().await?;
        Ok(self.shared.engine().authorization(&fresh, method.as_str(), url, None))
    }

    /// The same for an API that has answered with a `DPoP-Nonce` (RFC 9449, section 9).
    ///
    /// # Errors
    /// As [`User::access_token`].
    pub async fn authorization_with(
        &self,
        method: &Method,
        url: &Url,
        nonce: &DpopNonce,
    ) -> Result<ResourceAuthorization, RefreshError> {
        let fresh = self.fresh().await?;
        Ok(self.shared.engine().authorization(&fresh, method.as_str(), url, Some(nonce)))
    }

    async fn fresh(&self) -> Result<FreshSession, RefreshError> {
        Ok(self.shared.engine().fresh(self.session.key(), None, DEADLINE).await?.0)
    }

    /// Asks the provider for new tokens and claims now. What this user then shows is no older than the call, but for the claims
    /// where the outcome is [`RefreshOutcome::TokensOnly`].
    ///
    /// # Errors
    /// `SignInAgain` if the session is over, `TryLater` if the provider cannot be asked now, `NoRefreshToken` if it gave
    /// none. The user stays as it was. Dropping the future cancels no refresh.
    pub async fn refresh(&mut self) -> Result<RefreshOutcome, RefreshError> {
        let (fresh, outcome) = self.shared.engine().refresh(self.session.key(), DEADLINE).await?;
        self.session = fresh.session().clone();
        Ok(outcome)
    }

    /// Notes that the user does something, where no request tells: on a socket. Puts off the idle timeout.
    pub fn is_active(&self) {
        self.shared.engine().used(self.session.key());
    }

    /// Waits until the session is over, or the claims are such that the user may be here no longer: for sockets and streams,
    /// which are to end then. Meanwhile the session counts as in use, so its tokens are refreshed ahead; it may become idle
    /// all the same, see [`User::is_active`].
    ///
    /// Dropping the future is safe.
    pub async fn ended(&self) -> Ended {
        self.clone().watch(|_, _| false).await.expect_err("no change of an open session is waited for")
    }

    /// Waits until the claims differ from those that this user shows, and shows the new ones: for pages that show them over a
    /// socket. A change that came before the call is not missed.
    ///
    /// # Errors
    /// Why the user is not there any more, as [`User::ended`]. Dropping the future is safe.
    pub async fn changed(&mut self) -> Result<(), Ended> {
        self.session = self.clone().watch(|before, now| before.claims() != now.claims()).await?;
        Ok(())
    }

    /// Waits until `is_enough` of the session as it was and as it is now.
    async fn watch(
        self,
        is_enough: impl Fn(&OpenSession, &OpenSession) -> bool,
    ) -> Result<OpenSession, Ended> {
        let (engine, key) = (self.shared.engine(), self.session.key());
        let _in_use = engine.hold(key);
        // Before the first look, so that nothing happens in between.
        let mut watching = self.shared.watched.watch(key);
        loop {
            let look_again = match engine.open(key).await {
                Ok(Opened::Open(now)) => {
                    if !self.permit.still_holds(&now) {
                        return Err(Ended::NotAllowed);
                    }
                    if is_enough(&self.session, &now) {
                        return Ok(now);
                    }
                    let idle_at = engine.over_unused_at(&now).unwrap_or_else(|| now.ends_at());
                    idle_at.saturating_since(engine.clock().now()).min(LONGEST_NAP)
                }
                Ok(Opened::Ended(reason)) => return Err(Ended::Over(Some(reason))),
                Ok(Opened::Unknown) => return Err(Ended::Over(None)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(session = %key.short(), error, "cannot see whether a session is open");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = watching.told() => {}
                () = sleep(look_again) => {}
            }
        }
    }

    /// Signs the user out: here at once and everywhere, and at the provider by the answer, which sends the browser there.
    ///
    /// Pages need not ask for this: a form that posts to `/auth/logout`, or a link there, does the same. Dropping the future
    /// midway is safe: the session ends or it does not.
    ///
    /// # Errors
    /// The store failed, and the session may be open still.
    pub async fn sign_out(self) -> Result<Response<Full<Bytes>>, StoreError> {
        let routes = &self.shared.routes;
        let ended = routes.engine.end(self.session.key(), EndReason::Logout).await?;
        let answer = routes.leave(ended.as_ref(), Vec::new()).await;
        Ok(routes.finish(answer).map(Full::new))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("session", &self.session).finish_non_exhaustive()
    }
}
