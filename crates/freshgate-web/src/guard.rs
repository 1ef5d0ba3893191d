//! Who is let through to the app.

use http::{Method, request::Parts};

use crate::{
    access::Permit,
    admitted::Visitor,
    config::Site,
    failure::{Failure, WayOn},
    next::Next,
    route::{Asked, Route},
    routes::Session,
};

/// What the guard decides.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let through, as this visitor and by these rules.
    Admit(Visitor, Permit),
    /// Sent to the login first, and then to where it was going.
    SignIn(Option<Next>),
    /// Refused.
    Refuse(Failure),
}

/// Decides who goes to the app. A pure function of what the steps before found out.
pub(crate) fn decide(site: &Site, route: Route, asked: Asked, request: &Parts, session: Session) -> Decision {
    if asked == Asked::Socket && !site.origins.may_open_socket(request) {
        return Decision::Refuse(Failure::cross_origin());
    }
    let permit = match site.permit(route, request.uri.path()) {
        Ok(permit) => permit,
        Err(ambiguous) => return Decision::Refuse(Failure::bad_request(ambiguous)),
    };
    let needs_login = site.needs_login(route, &permit);
    match session {
        Session::Open(session) => match permit.refusing_path(session.claims()) {
            None => Decision::Admit(Visitor::SignedIn(session), permit),
            Some(path) => Decision::Refuse(Failure::not_allowed(&session, &path)),
        },
        _ if !needs_login => Decision::Admit(Visitor::Anonymous, permit),
        // The login could not mend this, and would send the browser round in circles.
        Session::Conflicting => Decision::Refuse(Failure::conflicting_sessions()),
        Session::None | Session::Over(_) if asked == Asked::Page => {
            let next = request.uri.path_and_query().and_then(|here| site.next(here.as_str()));
            if request.method == Method::GET || request.method == Method::HEAD {
                Decision::SignIn(next)
            } else {
                Decision::Refuse(
                    Failure::not_signed_in().offering(WayOn::SignIn { provider: None, next: None }),
                )
            }
        }
        Session::Over(Some(reason)) => Decision::Refuse(Failure::session_over(reason)),
        Session::Over(None) | Session::None => Decision::Refuse(Failure::not_signed_in()),
    }
}
