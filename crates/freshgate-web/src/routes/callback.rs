//! GET `/oauth2callback`: the browser comes back from the provider, signed in or signed out.

use freshgate::{
    Secret,
    engine::{FlowId, LoginCompleted, LoginError},
    session::EndReason,
};
use freshgate_oidc::CallbackParameters;
use http::request::Parts;
use url::form_urlencoded;

use super::{Routes, Session, logout::SignedOutElsewhere};
use crate::{
    failure::{Failure, WayOn},
    respond::{Answer, redirect, with_cookies},
};

impl Routes {
    pub(super) async fn callback(&self, request: &Parts) -> Result<Answer, Failure> {
        let query = request.uri.query().unwrap_or_default();
        if is_return_from_logout(query) {
            return self.return_from_logout(query, request);
        }
        let callback = CallbackParameters::parse(query).map_err(Failure::bad_request)?;
        let cookies = &self.site.cookies;
        let flow = FlowId::of_state(callback.state()).to_string();
        let sealed_flow = cookies.flow(&request.headers, &flow);
        // A flow is for one callback, however that ends.
        let spent = sealed_flow.and_then(|_| cookies.clear_flow(&flow));

        match self.engine.complete_login(&callback, sealed_flow).await {
            Ok(completed) => {
                self.end_replaced(&completed, request).await;
                let lifetime = completed.session.ends_at().saturating_since(self.engine.clock().now());
                let session = cookies.set_session(&completed.id, lifetime);
                // It was checked before it was sealed. Once more, as what is right may have changed with an upgrade.
                let next = self.site.next(&completed.next).unwrap_or_else(|| self.site.next_start());
                Ok(with_cookies(redirect(next.as_str()), session.into_iter().chain(spent)))
            }
            // The back button, or the same callback twice: whoever is signed in is where he wanted to be.
            Err(LoginError::FlowUnknown) if matches!(self.session(request).await?, Session::Open(_)) => {
                Ok(with_cookies(redirect(&self.site.start()), spent))
            }
            // Never "the same address once more": its code is spent.
            Err(error) => {
                let try_again = WayOn::SignIn { provider: None, next: None };
                Err(Failure::from(error).offering_another_try(try_again).setting(spent))
            }
        }
    }

    /// Ends the session that the browser had before: its cookie is written over, so nobody could end it later.
    async fn end_replaced(&self, completed: &LoginCompleted, request: &Parts) {
        let replaced = match self.session(request).await {
            Ok(Session::Open(session)) if session.key() != completed.session.key() => session.key(),
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a replaced session was not ended");
                return;
            }
        };
        if let Err(error) = self.engine.end(replaced, EndReason::Replaced).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(session = %replaced.short(), error, "a replaced session was not ended");
        }
    }

    /// The browser comes back from the provider's logout (OpenID Connect RP-Initiated Logout 1.0, section 3).
    fn return_from_logout(&self, query: &str, request: &Parts) -> Result<Answer, Failure> {
        let cookies = &self.site.cookies;
        let Some((expected, elsewhere)) = cookies.logout_state(&request.headers) else {
            // Nothing under way that could be confirmed: the back button, or a provider that came by itself.
            return Ok(redirect(&self.site.start()));
        };
        let expected = Secret::new(expected);
        let cleared = cookies.clear_logout_state();
        let mut states = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "state");
        match (states.next(), states.next()) {
            (Some((_, state)), None) if Secret::new(&*state) == expected => {
                let elsewhere = elsewhere.map(SignedOutElsewhere::of_text);
                // Another host under the domain can set the cookie: it leads to our hosts alone.
                let there = elsewhere.as_ref().and_then(|there| Some((self.site.next(&there.start)?, there)));
                let answer = match there {
                    Some((start, there)) => self.signed_out_to(start.as_str(), there.needs_login),
                    None => self.signed_out(),
                };
                Ok(with_cookies(answer, cleared))
            }
            _ => Err(Failure::logout_unconfirmed().setting(cleared)),
        }
    }
}

/// Whether a callback answers a logout rather than a login: Streamlit has one address for both.
fn is_return_from_logout(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).all(|(name, _)| !matches!(&*name, "code" | "error" | "response"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_logout_from_a_login() {
        for (query, expected) in [
            ("", true),
            ("state=x", true),
            ("state=x&iss=https://provider.example", true),
            ("code=x&state=y", false),
            ("error=access_denied&state=y", false),
            ("%63ode=x", false),
        ] {
            assert_eq!(is_return_from_logout(query), expected, "{query}");
        }
    }
}
