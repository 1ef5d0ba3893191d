//! Signing in: from the relying party's request to the code sent back to it.
//!
//! Owns what a request must look like, who has to be asked what, and the answer to the relying party. The looks of the
//! pages are in `pages`, what a code turns into in `token`.
//!
//! A request passes the same three steps each time it comes back from a page: read it ([`AuthorizeRequest`]), decide
//! what is missing ([`decide`]), answer ([`callback`]).

mod answered_page;
mod callback;
mod consent;
mod decide;
mod endpoint;
mod pushed;
mod request;
mod sign_in;

pub(crate) use consent::consent;
pub(crate) use decide::{Ask, decide};
pub(crate) use endpoint::{get, post};
pub(crate) use pushed::push;
pub(crate) use request::{Asked, AuthorizeRequest, Refused, Unanswerable};
pub(crate) use sign_in::sign_in;
