//! What a user quotes and an operator searches for.

use std::fmt;

use freshgate::clock::Entropy;
use http::{HeaderName, HeaderValue};

/// The header that carries it, on our own answers alone.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("freshgate-request-id");

/// 96 random bits, as 16 characters of base64url. Made when one of our own answers needs it: the hot path has none.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0_u8; 12];
        entropy.fill(&mut bytes);
        Self(freshgate_oidc::base64url(&bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
