//! The algorithms that tokens may be signed with (RFC 7518 section 3.1, RFC 8037 section 3.1).

use crate::discovery::ProviderMetadata;

/// How a token may be signed. There is no `none` and no HMAC here, so no configuration can allow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// EdDSA on Ed25519.
    EdDsa,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// Its name in JOSE.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name. `None` for any other, `none` and HMAC among them.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            // RFC 9864 section 2.2 names what EdDSA left open; with our keys the two are the same.
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The algorithms that a verifier accepts. Decided before a token is seen, never by the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedAlgorithms(Vec<SigningAlgorithm>);

impl AllowedAlgorithms {
    /// These and no others.
    pub fn only(algorithms: impl IntoIterator<Item = SigningAlgorithm>) -> Self {
        Self(algorithms.into_iter().collect())
    }

    /// Those that the provider lists for ID tokens and that we know; RS256 where it lists none (Core section 3.1.3.7,
    /// rule 7). Empty if it lists none that we know: then no token of it can be accepted, and the operator must be told.
    pub fn of_provider(metadata: &ProviderMetadata) -> Self {
        Self::listed(metadata.id_token_signing_alg_values_supported.as_deref())
    }

    /// Those that the provider lists for signed userinfo; those for ID tokens where it lists none.
    pub fn of_userinfo(metadata: &ProviderMetadata) -> Self {
        match &metadata.userinfo_signing_alg_values_supported {
            Some(names) => Self::listed(Some(names)),
            None => Self::of_provider(metadata),
        }
    }

    /// The same for a list of names.
    pub fn listed(names: Option<&[String]>) -> Self {
        match names {
            None => Self(vec![SigningAlgorithm::Rs256]),
            Some(names) => Self(names.iter().filter_map(|name| SigningAlgorithm::from_name(name)).collect()),
        }
    }

    /// Whether this one is allowed.
    pub fn contains(&self, algorithm: SigningAlgorithm) -> bool {
        self.0.contains(&algorithm)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Them.
    pub fn iter(&self) -> impl Iterator<Item = SigningAlgorithm> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_algorithms() {
        for algorithm in SigningAlgorithm::ALL {
            assert_eq!(SigningAlgorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(SigningAlgorithm::from_name("Ed25519"), Some(SigningAlgorithm::EdDsa));
        for other in [
            "none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "rs256", "RS1", "RSA1_5", "ES256K",
        ] {
            assert_eq!(SigningAlgorithm::from_name(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_provider_lists() {
        let listed = |names: &[&str]| {
            AllowedAlgorithms::listed(Some(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()))
        };
        assert_eq!(AllowedAlgorithms::listed(None), AllowedAlgorithms::only([SigningAlgorithm::Rs256]));
        assert_eq!(listed(&["none", "HS256", "ES256"]), AllowedAlgorithms::only([SigningAlgorithm::Es256]));
        assert!(listed(&["none", "HS256"]).is_empty());
    }
}
