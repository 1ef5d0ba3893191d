//! The key by which the gate proves itself at a provider (`private_key_jwt`).

use std::fs;

use freshgate::provider::AssertionAudience;
use freshgate_oidc::{ClientKey, ClientKeyError, Secret, SigningAlgorithm};

use super::{
    report::{Problem, Report},
    setting::Given,
};

/// What `[provider.NAME]` says of it.
#[derive(Default)]
pub(super) struct ClientKeySettings {
    pub(super) file: Option<Given>,
    pub(super) algorithm: Option<Given>,
    pub(super) id: Option<Given>,
    pub(super) audience: Option<Given>,
}

impl ClientKeySettings {
    /// Reads the key. `None` if there is none, or if it cannot be used, which is then in the report.
    pub(super) fn key(&self, report: &mut Report) -> Option<ClientKey> {
        let Some(file) = &self.file else {
            for given in [&self.algorithm, &self.id, &self.audience].into_iter().flatten() {
                report.add(
                    Problem::error(format!("`{}` has no effect", given.name))
                        .at(&given.item.place, "says something of a key, and there is none")
                        .help("name the key's file in `client_key_file`, or remove this"),
                );
            }
            return None;
        };
        let mut key = read(file, report)?;
        if let Some(id) = self.id.as_ref().and_then(|given| given.text(report)) {
            key = key.with_key_id(id);
        }
        if let Some(given) = &self.algorithm {
            let names = SigningAlgorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
            let algorithm = given.one_of(&names, report)?;
            key = match key.with_algorithm(algorithm) {
                Ok(key) => key,
                Err(_) => {
                    let problem =
                        given.unusable("is not for this key").beside(&file.item.place, "is the key");
                    report.add(problem.help(
                        "RS and PS are for RSA keys, ES for keys on a curve, EdDSA for Ed25519; or leave it out",
                    ));
                    return None;
                }
            };
        }
        Some(key)
    }

    /// What client assertions call the provider.
    pub(super) fn audience(&self, report: &mut Report) -> Option<AssertionAudience> {
        let choices = [
            ("auto", None),
            ("issuer", Some(AssertionAudience::Issuer)),
            ("token_endpoint", Some(AssertionAudience::TokenEndpoint)),
        ];
        self.audience.as_ref()?.one_of(&choices, report)?
    }
}

fn read(given: &Given, report: &mut Report) -> Option<ClientKey> {
    let path = given.path(report)?;
    let read = fs::read(&path).map_err(|error| {
        given.unusable("cannot be read").note(error.to_string()).help("name a file that freshgate may read")
    });
    let key = read.and_then(|bytes| {
        // What is no text is no key in a form that is read.
        let text = String::from_utf8(bytes).unwrap_or_default();
        ClientKey::parse(&Secret::new(text)).map_err(|error| {
            given.unusable("holds no key that can be used").note(error.to_string()).help(mend(&error))
        })
    });
    match key {
        Ok(key) => Some(key),
        Err(problem) => {
            report.add(problem);
            None
        }
    }
}

fn mend(error: &ClientKeyError) -> &'static str {
    match error {
        ClientKeyError::Encrypted => {
            "write it without the password into a file that only freshgate may read: openssl pkey -in KEY.pem -out NEW.pem"
        }
        ClientKeyError::Several => "leave one private key in it",
        ClientKeyError::Certificate => {
            "put the certificate of this key first; with none, the provider must know the key otherwise"
        }
        ClientKeyError::UnsupportedType
        | ClientKeyError::Algorithm { .. }
        | ClientKeyError::NotForSigning => {
            "make one for it: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out client-key.pem"
        }
        _ => "name the file of the private key, in PEM form or as a JWK",
    }
}
