//! The queries of browsers that come back from a provider: from a login, and to sign out.

use freshgate_oidc::{
    CallbackError, CallbackParameters, ExpectedCallback, FrontChannelLogout, Issuer, IssuerParameter,
};
use url::form_urlencoded;

use crate::{
    gate::{self, HTTPS},
    signing::ISSUER,
};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(query) = str::from_utf8(bytes) else { return };
    if let Ok(callback) = CallbackParameters::parse(query) {
        answers_alike(&callback);
    }
    let _ = FrontChannelLogout::parse(query);
    // Nobody began a login, so nobody is signed in.
    for path in ["/oauth2callback", "/auth/frontchannel-logout"] {
        if let Some(answered) = gate::ask(HTTPS, &format!("{path}?{query}"), &[]) {
            answered.is_harmless();
            assert!(answered.app_saw.is_none(), "the app does not learn of it");
        }
    }
}

/// A callback that is read, and written anew, is read as the same.
fn answers_alike(callback: &CallbackParameters) {
    let issuer = Issuer::new(ISSUER);
    let expect = ExpectedCallback {
        state: callback.state(),
        issuer: &issuer,
        issuer_parameter: IssuerParameter::NotAdvertised,
    };
    let (name, value) = match callback.check(&expect) {
        Ok(code) => ("code", code.as_secret().expose().to_owned()),
        Err(CallbackError::Provider(error)) => {
            let told = error.to_string();
            assert!(!told.contains(char::is_control) && told.len() < 2000, "fit for a log: {told:?}");
            return;
        }
        Err(CallbackError::Issuer { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let mut written = form_urlencoded::Serializer::new(String::new());
    written.append_pair("state", callback.state().expose()).append_pair(name, &value);
    let again = CallbackParameters::parse(&written.finish()).expect("it is a callback");
    let code = again.check(&expect).expect("it answers the same request");
    assert!(code.as_secret().expose() == value, "another code");
}
