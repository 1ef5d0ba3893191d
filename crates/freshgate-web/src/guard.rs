//! Who is let through to the app.

use http::request::Parts;

use crate::{
    access::Permit,
    config::Site,
    failure::Failure,
    route::{Asked, Route},
    routes::Session,
};

/// Lets a request through, by these rules, or refuses it. A pure function of what the steps before found out.
pub(crate) fn decide(
    site: &Site,
    route: Route,
    asked: Asked,
    request: &Parts,
    session: &Session,
) -> Result<Permit, Failure> {
    if asked == Asked::Socket && !site.origins.may_open_socket(request) {
        return Err(Failure::cross_origin());
    }
    let permit = site.permit(route, request.uri.path()).map_err(Failure::bad_request)?;
    match session {
        Session::Open(session) => match permit.refusing_path(session.claims()) {
            None => Ok(permit),
            Some(path) => Err(Failure::not_allowed(session, &path)),
        },
        Session::Absent(absence) if site.needs_login(route, &permit) => Err((*absence).into()),
        Session::Absent(_) => Ok(permit),
    }
}
