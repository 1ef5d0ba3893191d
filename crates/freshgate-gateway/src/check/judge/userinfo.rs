//! Where claims come from besides the ID token.

use freshgate::provider::ProviderConfig;
use freshgate_oidc::ProviderMetadata;

use crate::check::finding::Finding;

pub(super) fn userinfo(config: &ProviderConfig, metadata: &ProviderMetadata) -> Finding {
    match (config.userinfo, &metadata.userinfo_endpoint) {
        (true, Some(_)) => Finding::ok("userinfo", "is there, and is asked at login and at each refresh"),
        (false, _) => Finding::ok("userinfo", "is not asked, as the configuration says"),
        (true, None) => Finding::warning(
            "userinfo",
            "the provider has none: claims come from ID tokens alone, and an edited profile shows only where a refresh \
             brings a new one",
        ),
    }
}
