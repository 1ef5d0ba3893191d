//! The compact serialization of a signed token (RFC 7515 7.1).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::key::SigningKey;
use crate::random::{base64url, from_base64url};

/// The header members that we write and read by name, and all others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JwsHeader {
    pub(crate) alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) typ: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    #[serde(flatten)]
    pub(crate) others: Map<String, Value>,
}

/// Signs `claims` with `key`.
pub(crate) fn signed(key: &SigningKey, typ: &str, claims: &Value) -> String {
    let header = JwsHeader {
        alg: key.algorithm().name().to_owned(),
        typ: Some(typ.to_owned()),
        kid: Some(key.kid().to_owned()),
        others: Map::new(),
    };
    compact(&header, claims, |message| key.sign(message))
}

/// Puts a token together, whatever its signature is made of.
pub(crate) fn compact(header: &JwsHeader, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let header = serde_json::to_vec(header).expect("strings can be written as JSON");
    let message = format!("{}.{}", base64url(&header), base64url(claims.to_string().as_bytes()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature))
}

/// A token taken apart. Nothing in it is verified.
pub(crate) struct Parts<'t> {
    pub(crate) header: JwsHeader,
    pub(crate) claims: Vec<u8>,
    pub(crate) message: &'t [u8],
    pub(crate) signature: Vec<u8>,
}

impl Parts<'_> {
    pub(crate) fn of(token: &str) -> Option<Parts<'_>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        Some(Parts {
            header: serde_json::from_slice(&from_base64url(header)?).ok()?,
            claims: from_base64url(claims)?,
            message: message.as_bytes(),
            signature: from_base64url(signature)?,
        })
    }
}
