//! How users sign out there and here, and what has to be registered for it.

use freshgate_oidc::ProviderMetadata;
use url::Url;

use crate::{
    check::finding::{Finding, Registration},
    config::PublicAddress,
};

/// Where the gate is, for whoever is to send browsers and messages there.
pub(in crate::check) struct Site {
    pub(in crate::check) redirect_uri: Url,
    pub(in crate::check) start: Url,
    /// Whether it can be reached from this machine alone.
    pub(in crate::check) is_loopback: bool,
}

impl Site {
    pub(in crate::check) fn of(public: &PublicAddress) -> Self {
        let (redirect_uri, start) = (public.redirect_uri().clone(), public.start());
        Self { is_loopback: freshgate_oidc::is_loopback(&start), redirect_uri, start }
    }
}

pub(super) fn logout(metadata: &ProviderMetadata, site: &Site) -> Finding {
    let channels = [
        (metadata.backchannel_logout_supported, "the back channel"),
        (metadata.frontchannel_logout_supported, "the front channel"),
    ];
    let channels: Vec<&str> =
        channels.into_iter().filter_map(|(offered, name)| offered.then_some(name)).collect();
    let told = !channels.is_empty();
    let ours = match metadata.end_session_endpoint {
        Some(_) => "who signs out here is signed out there",
        None => "who signs out here stays signed in there, as the provider has no end_session_endpoint",
    };
    let theirs = match told {
        true => format!("who signs out there is signed out here, told by {}", channels.join(" and ")),
        false => {
            "who signs out there stays signed in here until the next refresh, as the provider tells nobody"
                .to_owned()
        }
    };
    let mut what = format!("{ours}; {theirs}");
    if metadata.backchannel_logout_supported && !metadata.backchannel_logout_session_supported {
        what += " (which may name the user alone, and then all sessions of that user end)";
    }
    let provider_is_elsewhere = !freshgate_oidc::is_loopback(&metadata.token_endpoint);
    if metadata.backchannel_logout_supported && site.is_loopback && provider_is_elsewhere {
        return Finding::warning("logout", format!("{what}; but from there {} is not reached", site.start))
            .mend(
                "where logouts at the provider matter, run the gate at an address that the provider reaches",
            );
    }
    if metadata.end_session_endpoint.is_some() && told {
        Finding::ok("logout", what)
    } else {
        Finding::warning("logout", what)
    }
}

/// What has to be registered at a provider. Without metadata: everything that may be.
pub(in crate::check) fn registration(
    provider: &str,
    metadata: Option<&ProviderMetadata>,
    site: &Site,
) -> Registration {
    let offers = |of: fn(&ProviderMetadata) -> bool| metadata.is_none_or(of);
    let below = |path: &str| site.start.join(path).ok();
    Registration {
        provider: provider.to_owned(),
        redirect_uri: site.redirect_uri.clone(),
        // As Streamlit has it: one address for both ways back.
        post_logout_redirect_uri: offers(|metadata| metadata.end_session_endpoint.is_some())
            .then(|| site.redirect_uri.clone()),
        backchannel_logout_uri: below("auth/backchannel-logout")
            .filter(|_| offers(|metadata| metadata.backchannel_logout_supported)),
        frontchannel_logout_uri: below("auth/frontchannel-logout")
            .filter(|_| offers(|metadata| metadata.frontchannel_logout_supported)),
    }
}
