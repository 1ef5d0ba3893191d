//! Claims as people type them.

use serde_json::Value;

use crate::config::{DevUser, NoSubject};

/// The text area for claims.
pub(super) struct ClaimsField {
    pub(super) text: String,
    pub(super) problem: Option<String>,
}

/// What was typed, and why it cannot be used. The page shows both again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClaimsProblem {
    text: String,
    message: String,
}

/// The user that the text describes.
pub(crate) fn claims_from_text(text: &str) -> Result<DevUser, ClaimsProblem> {
    let problem = |message: String| ClaimsProblem { text: text.to_owned(), message };
    let value: Value =
        serde_json::from_str(text).map_err(|error| problem(format!("This is not JSON: {error}.")))?;
    let Value::Object(claims) = value else {
        return Err(problem("Write one JSON object: { \"sub\": \"…\", … }.".to_owned()));
    };
    DevUser::from_claims(claims).map_err(|NoSubject| problem(format!("{NoSubject}.")))
}

impl ClaimsProblem {
    pub(super) fn new(text: &str, message: impl Into<String>) -> ClaimsProblem {
        ClaimsProblem { text: text.to_owned(), message: message.into() }
    }
}

impl ClaimsField {
    /// To start from: this user, nicely set.
    pub(super) fn of(user: &DevUser) -> ClaimsField {
        let text = serde_json::to_string_pretty(&user.all_claims()).unwrap_or_default();
        ClaimsField { text, problem: None }
    }

    /// What was typed, with the problem beneath it.
    pub(super) fn again(problem: ClaimsProblem) -> ClaimsField {
        ClaimsField { text: problem.text, problem: Some(problem.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::claims_from_text;

    #[test]
    fn what_is_typed_is_kept_with_the_problem() {
        for (text, message) in [
            ("{\n  \"sub\": \"x\",\n}", "This is not JSON: trailing comma at line 3 column 1."),
            ("[]", "Write one JSON object: { \"sub\": \"…\", … }."),
            ("{\"sub\": 5}", "\"sub\" must be a text of 1 to 255 plain characters."),
            ("{\"sub\": \"\"}", "\"sub\" must be a text of 1 to 255 plain characters."),
        ] {
            let problem = claims_from_text(text).unwrap_err();
            assert_eq!((problem.text.as_str(), problem.message.as_str()), (text, message));
        }
        let user = claims_from_text("{\"sub\": \"x\", \"groups\": [1]}").unwrap();
        assert_eq!((user.sub.as_str(), user.claims.len()), ("x", 1));
    }
}
