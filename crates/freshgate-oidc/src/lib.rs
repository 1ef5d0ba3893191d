//! The rules of OpenID Connect and OAuth for a relying party.
//!
//! This crate owns what the specifications say: what a request must hold, what an answer must prove, and when to refuse
//! it. It leaves to others whatever touches the world: it has no I/O, no runtime and no clock. Bytes and the time come in
//! as arguments, decisions go out as types; a type with a private constructor ([`VerifiedIdToken`], [`AuthorizedCode`],
//! [`VerifiedLogoutToken`], [`UserInfo`]) is proof that the rules of its section held.

mod assertion;
mod authorization;
mod claims;
mod client_auth;
mod discovery;
mod dpop;
mod json;
mod jwk;
mod jws;
mod logout;
mod operator_text;
mod secret;
#[cfg(test)]
mod test_provider;
mod time;
mod token;
mod token_request;
mod userinfo;

pub use assertion::AssertionKey;
pub use authorization::{
    AuthenticationDemands, AuthorizationError, AuthorizationParameters, AuthorizationRequest, AuthorizedCode,
    CallbackError, CallbackParameters, ExpectedCallback, IssuerParameter, MalformedCallback, ParameterError,
    Pkce, PushedAnswer, RequestUri, ResourceIndicator, parse_pushed_answer,
};
pub use claims::Claims;
pub use client_auth::{
    ClientAuthMethod, ClientAuthentication, ClientCredential, ClientKey, ClientKeyError, ClientProof,
    NoUsableClientAuthentication, ProofContext,
};
pub use discovery::{ExpectedIssuer, Issuer, MetadataError, ProviderMetadata, is_loopback};
pub use dpop::{DpopKey, DpopNonce, DpopProof, ExpectedTokenType};
pub use jwk::{Jwk, JwkSet, JwkSetError, SkippedKey, WhySkipped};
pub use jws::{AllowedAlgorithms, JwsError, SigningAlgorithm};
pub use logout::{
    EndSessionRequest, FrontChannelLogout, LogoutTokenError, LogoutTokenExpectations, LogoutWho,
    RawLogoutToken, VerifiedLogoutToken,
};
pub use operator_text::{is_unprintable, one_line};
pub use secret::{Secret, base64url, from_base64url, sha256};
pub use time::Timestamp;
pub use token::{
    AccessTokenBinding, ExpectedNonce, IdTokenError, IdTokenExpectations, MaxAuthenticationAge,
    OriginalIdentity, RawIdToken, RefreshExpectations, RefreshedIdTokenError, RefusalKind, TokenAnswer,
    TokenGrant, TokenRefusal, VerifiedIdToken, WhyMalformed, parse_token_answer, verify_refreshed,
};
pub use token_request::TokenRequest;
pub use userinfo::{
    SignedUserInfoExpectations, UserInfo, UserInfoError, merge_claims, parse_userinfo, verify_signed_userinfo,
};
