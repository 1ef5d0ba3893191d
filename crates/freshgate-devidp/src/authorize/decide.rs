//! Who has to be asked what before a code may be given (Core 3.1.2.3).

use super::AuthorizeRequest;
use crate::clock::UnixTime;
use crate::state::Session;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who it is.
    Who,
    /// Whether it is all right.
    Consent,
    /// Nothing any more.
    Nothing,
    /// Somebody would have to be asked, but the relying party wants no page: this error (Core 3.1.2.6).
    NotAllowedTo(&'static str),
}

/// Decides for a browser with this session, or with none.
pub(crate) fn decide(request: &AuthorizeRequest<'_>, session: Option<&Session>, now: UnixTime) -> Ask {
    let prompt = request.prompt;
    let recent_enough = |session: &&Session| {
        // In whole seconds, as the relying party will see auth_time.
        request.max_age.is_none_or(|max_age| {
            let age = now.seconds().saturating_sub(session.auth_time.seconds());
            u64::try_from(age).unwrap_or(0) <= max_age.as_secs()
        })
    };
    let expected = |session: &&Session| request.expected_sub.as_ref().is_none_or(|sub| *sub == session.sub);
    match session.filter(recent_enough).filter(expected) {
        None if prompt.none => Ask::NotAllowedTo("login_required"),
        None => Ask::Who,
        Some(_) if prompt.sign_in => Ask::Who,
        Some(_) if prompt.consent => Ask::Consent,
        Some(_) => Ask::Nothing,
    }
}
