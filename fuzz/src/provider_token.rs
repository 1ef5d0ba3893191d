//! The provider that an app names in `st.login("name")`, in the clear or signed.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use freshgate_oidc::base64url;
use url::form_urlencoded;

use crate::{
    gate::{self, COOKIE_SECRET, HTTPS},
    signing::two_parts,
};

static KEY: LazyLock<hmac::Key> =
    LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, COOKIE_SECRET.as_bytes()));

/// Those that start with `!` are a header and a payload with a line break between, which are signed here; others are what
/// a browser sends.
pub(crate) fn run(bytes: &[u8]) {
    let query = match bytes.strip_prefix(b"!") {
        Some(parts) => {
            let (header, payload) = two_parts(parts);
            let signed = format!("{}.{}", base64url(header), base64url(payload));
            let signature = base64url(hmac::sign(&KEY, signed.as_bytes()).as_ref());
            format!("provider={signed}.{signature}")
        }
        None => {
            let encoded: String = form_urlencoded::byte_serialize(bytes).collect();
            format!("provider={encoded}")
        }
    };
    let Some(answered) = gate::ask(HTTPS, &format!("/auth/login?{query}"), &[]) else { return };
    answered.is_harmless();
    assert!(answered.app_saw.is_none(), "the app does not learn of it");
    if answered.status.is_redirection() {
        let to = answered.headers["location"].to_str().expect("an address is text");
        assert!(to.starts_with("https://id.example/authorize?"), "it leads to the provider: {to}");
    }
}
