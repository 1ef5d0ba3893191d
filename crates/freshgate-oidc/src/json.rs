//! JSON from outside, where it decides about trust: one object, no member twice.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads one JSON object in which, at any depth, no member appears twice.
///
/// Two parsers that disagree on which of two members counts disagree on what was signed (RFC 7515 section 4, RFC 7519
/// section 4). Nesting is bounded by `serde_json` (128 levels); the size is the caller's to bound.
pub(crate) fn object_without_duplicates(bytes: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice::<NoDuplicates>(bytes).ok()?;
    serde_json::from_slice(bytes).ok()
}

/// Any JSON value in which no object has a member twice. Holds nothing: it is a check.
struct NoDuplicates;

impl<'de> Deserialize<'de> for NoDuplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for NoDuplicates {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without duplicate members")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Self>()?;
            if !names.insert(name) {
                return Err(A::Error::custom("a member appears twice"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_and_nothing_else() {
        for (json, good) in [
            (&br#"{}"#[..], true),
            (br#" {"a": [1, -2, 2.5, "x", null, true, {"a": {}}], "b": {"a": 18446744073709551615}} "#, true),
            (br#"{"a": 1, "a": 1}"#, false),
            (br#"{"a": 1, "\u0061": 2}"#, false),
            (br#"{"x": [{"a": 1, "b": 2, "a": 3}]}"#, false),
            (br#"[]"#, false),
            (br#""x""#, false),
            (br#"{} {}"#, false),
            (br#"{"a":1,}"#, false),
            (b"", false),
            (b"{\"a\": \"\xff\"}", false),
            (b"\xef\xbb\xbf{}", false),
        ] {
            assert_eq!(object_without_duplicates(json).is_some(), good, "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        for opening in ["[", "{\"a\":"] {
            let bomb = format!("{{\"a\":{}", opening.repeat(1_000_000));
            assert!(object_without_duplicates(bomb.as_bytes()).is_none());
        }
    }
}
