//! Signing in: the request that sends a browser to the provider, and the callback that brings it back.

mod callback;
mod request;

pub use callback::{
    AuthorizationError, AuthorizedCode, CallbackError, CallbackParameters, ExpectedCallback, IssuerParameter,
    MalformedCallback,
};
pub use request::{AuthorizationRequest, Pkce, ReservedParameter};
