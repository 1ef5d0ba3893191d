//! Signing in: the request that sends a browser to the provider, and the callback that brings it back.

mod callback;
mod demands;
mod parameters;
mod pushed;
mod request;

pub use callback::{
    AuthorizationError, AuthorizedCode, CallbackError, CallbackParameters, ExpectedCallback, IssuerParameter,
    MalformedCallback,
};
pub use demands::AuthenticationDemands;
pub use parameters::{AuthorizationParameters, ParameterError, ResourceIndicator};
pub use pushed::{PushedAnswer, RequestUri, parse_pushed_answer};
pub use request::{AuthorizationRequest, Pkce};
