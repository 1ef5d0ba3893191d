//! The parameters of a request, from a query or a form.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};

/// Request parameters of which none came twice.
#[derive(Clone, Default)]
pub(crate) struct Parameters(BTreeMap<String, String>);

/// Why there are no [`Parameters`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParametersError {
    #[error("the parameter {0} came twice")]
    Repeated(String),
    #[error("the body must be application/x-www-form-urlencoded")]
    NotAForm,
}

impl Parameters {
    /// Reads `application/x-www-form-urlencoded` text.
    ///
    /// A parameter that comes twice is an error and one without a value counts as absent (RFC 6749 3.1), whether or
    /// not we know it, except for `resource`, which may come several times (RFC 8707 2) and which we ignore.
    pub(crate) fn parse(encoded: &[u8]) -> Result<Parameters, ParametersError> {
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            let before = parameters.insert(name.clone().into_owned(), value.into_owned());
            if before.is_some() && name != "resource" {
                // It ends up in error_description, which takes neither quotes nor letters beyond ASCII (RFC 6749 5.2).
                let plain = name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_');
                return Err(ParametersError::Repeated(plain.collect()));
            }
        }
        Ok(Parameters(parameters))
    }

    /// Reads the body of a POST.
    pub(crate) fn from_form(headers: &HeaderMap, body: &[u8]) -> Result<Parameters, ParametersError> {
        let content_type =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(ParametersError::NotAForm);
        }
        Parameters::parse(body)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Sets one.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The same without these.
    pub(crate) fn without(&self, names: &[&str]) -> Parameters {
        let kept = self.0.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        Parameters(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The words of a space-separated parameter.
    pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or_default().split(' ').filter(|word| !word.is_empty())
    }

    /// As a query again, in the order of the names.
    pub(crate) fn encoded(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Parameters, ParametersError};

    #[test]
    fn repeated_parameters_are_refused() {
        let repeated = Parameters::parse(b"code=a&state=b&code=a").err();
        assert_eq!(repeated, Some(ParametersError::Repeated("code".to_owned())));
        let hostile = Parameters::parse(b"%22%C3%A9a=&%22%C3%A9a=").err();
        assert_eq!(hostile, Some(ParametersError::Repeated("a".to_owned())));
        assert!(Parameters::parse(b"resource=a&resource=b").is_ok());
    }

    #[test]
    fn an_empty_parameter_is_absent() {
        let parameters = Parameters::parse(b"state=&scope=openid++email%20x").unwrap();
        assert_eq!(parameters.get("state"), None);
        assert_eq!(parameters.words("scope").collect::<Vec<_>>(), ["openid", "email", "x"]);
    }
}
