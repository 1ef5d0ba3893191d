//! Whether a refresh token can be expected (OpenID Connect Core, section 11).

use freshgate::provider::{OfflineAccess, ProviderConfig};
use freshgate_oidc::ProviderMetadata;

use crate::{check::finding::Finding, gate::section};

const OFFLINE_ACCESS: &str = "offline_access";

pub(super) fn refresh(config: &ProviderConfig, metadata: &ProviderMetadata, scopes: &[String]) -> Finding {
    let (at, name) = (section(&config.name), &config.name);
    let asked = scopes.iter().any(|scope| scope == OFFLINE_ACCESS);
    let listed = metadata.lists_scope(OFFLINE_ACCESS);
    let grants = metadata.grant_types_supported.as_deref();
    let is_for_sure = "`freshgate check --login` tells for sure";
    if grants.is_some_and(|grants| !grants.iter().any(|grant| grant == "refresh_token")) {
        return Finding::warning(
            "refresh",
            "the provider does not list the grant refresh_token: users may have to sign in again whenever their access \
             token is over",
        )
        .mend(format!("allow refresh tokens for this client there, if the provider can; {is_for_sure}"));
    }
    match (listed, asked) {
        (true, true) => Finding::ok("refresh", format!("offline_access is listed, and is asked for; {is_for_sure}")),
        (false, true) => Finding::ok(
            "refresh",
            format!("offline_access is asked for, though the provider does not list it; {is_for_sure}"),
        ),
        (true, false) => {
            let finding = Finding::warning("refresh", "offline_access is listed, and is not asked for");
            match config.offline_access {
                OfflineAccess::Never => finding.mend(format!(
                    "unless the provider issues refresh tokens without it, remove [provider.{name}] offline_access = \"never\""
                )),
                _ => finding.mend(format!("set [provider.{name}] offline_access = \"always\"")),
            }
        }
        (false, false) => Finding::warning(
            "refresh",
            "the provider does not list offline_access, so it is not asked for; some issue refresh tokens all the same, \
             some want to be asked in another way",
        )
        .mend(format!("sign in once: {is_for_sure}"))
        .mend(format!(
            "if there is none, look at the provider's pages: [provider.{name}] offline_access = \"always\", or {at} \
             client_kwargs = {{ access_type = \"offline\" }}, as Google has it"
        )),
    }
}
