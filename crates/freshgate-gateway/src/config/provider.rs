//! A provider, from `[auth]` in secrets.toml, the environment and `[provider.NAME]` in freshgate.toml.

use std::{fs, num::NonZeroUsize, path::Path, time::Duration};

use freshgate::provider::{
    DpopUse, LostAnswer, OfflineAccess, ProviderConfig, PushedRequests, Refreshing, TransportOptions,
};
use freshgate_oidc::{ClientAuthMethod, ClientCredential, ExpectedIssuer, Issuer, Secret};
use url::Url;

use super::{
    client_key::ClientKeySettings,
    client_kwargs::{AuthMethod, ClientKwargs},
    report::{Problem, Report},
    setting::Given,
};

/// A provider, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredProvider {
    /// The provider, for the engine.
    pub provider: ProviderConfig,
    /// How requests to it are made.
    pub transport: TransportOptions,
}

/// What was given of a provider.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) client_id: Option<Given>,
    pub(super) client_secret: Option<Given>,
    pub(super) server_metadata_url: Option<Given>,
    pub(super) client_kwargs: ClientKwargs,
    pub(super) overrides: Overrides,
}

/// What `[provider.NAME]` says, all of it optional.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) client_key: ClientKeySettings,
    pub(super) par: Option<Given>,
    pub(super) dpop: Option<Given>,
    pub(super) issuer: Option<Given>,
    pub(super) ca_file: Option<Given>,
    pub(super) timeout: Option<Given>,
    pub(super) clock_leeway: Option<Given>,
    pub(super) trusted_audiences: Option<Given>,
    pub(super) offline_access: Option<Given>,
    pub(super) userinfo: Option<Given>,
    pub(super) lost_answer: Option<Given>,
    pub(super) grace: Option<Given>,
    pub(super) refreshes_in_flight: Option<Given>,
}

/// How far a provider's clock may be off unless told otherwise.
pub(super) const DEFAULT_CLOCK_LEEWAY: Duration = Duration::from_secs(30);

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Checks what was given. `None` if something is missing (which its caller reported) or wrong.
pub(super) fn finish(draft: Draft, report: &mut Report) -> Option<ConfiguredProvider> {
    let overrides = &draft.overrides;
    let client_id = draft.client_id.as_ref().and_then(|given| Some(given.text(report)?.trim().to_owned()));
    let credential = credential(&draft, report);
    let assertion_audience = overrides.client_key.audience(report);
    let issuer = overrides.issuer.as_ref().and_then(|given| issuer(given, report));
    let metadata_url =
        draft.server_metadata_url.as_ref().and_then(|given| metadata_url(given, issuer.is_some(), report));
    let transport = transport(&draft.client_kwargs, overrides, report);
    let offline_access = overrides.offline_access.as_ref().and_then(|given| {
        let choices = [
            ("auto", OfflineAccess::IfListed),
            ("always", OfflineAccess::Always),
            ("never", OfflineAccess::Never),
        ];
        given.one_of(&choices, report)
    });
    let pushed_requests = overrides.par.as_ref().and_then(|given| {
        let choices = [
            ("auto", PushedRequests::IfRequired),
            ("always", PushedRequests::Always),
            ("never", PushedRequests::Never),
        ];
        given.one_of(&choices, report)
    });
    let dpop = overrides.dpop.as_ref().and_then(|given| {
        let choices = [("auto", DpopUse::IfListed), ("always", DpopUse::Always), ("never", DpopUse::Never)];
        given.one_of(&choices, report)
    });
    let userinfo = overrides.userinfo.as_ref().and_then(|given| given.yes_or_no(report));
    let leeway = Duration::ZERO..=Duration::from_secs(300);
    let clock_leeway = overrides.clock_leeway.as_ref().and_then(|given| given.duration(leeway, report));
    let trusted_audiences = overrides.trusted_audiences.as_ref().and_then(|given| given.texts(report));
    let refreshing = refreshing(overrides, report);
    let metadata_url = metadata_url?;
    Some(ConfiguredProvider {
        provider: ProviderConfig {
            name: draft.name,
            issuer: issuer.unwrap_or_else(|| ExpectedIssuer::OfMetadataUrl(metadata_url.clone())),
            metadata_url,
            client_id: client_id?,
            credential: credential?,
            assertion_audience,
            pushed_requests: pushed_requests.unwrap_or_default(),
            dpop: dpop.unwrap_or_default(),
            client_auth_method: match draft.client_kwargs.auth_method {
                AuthMethod::Secret(method) => Some(method),
                AuthMethod::Key => Some(ClientAuthMethod::PrivateKeyJwt),
                AuthMethod::Automatic | AuthMethod::Public => None,
            },
            scope: draft.client_kwargs.scope,
            offline_access: offline_access.unwrap_or_default(),
            authorize_parameters: draft.client_kwargs.authorize_parameters,
            prompt_is_default: draft.client_kwargs.prompt_is_default,
            userinfo: userinfo.unwrap_or(true),
            trusted_audiences: trusted_audiences.unwrap_or_default(),
            clock_leeway: clock_leeway.unwrap_or(DEFAULT_CLOCK_LEEWAY),
            refreshing,
        },
        transport,
    })
}

/// What the gate proves itself with.
fn credential(draft: &Draft, report: &mut Report) -> Option<ClientCredential> {
    let method = draft.client_kwargs.auth_method;
    if let Some(file) = &draft.overrides.client_key.file
        && let AuthMethod::Secret(_) | AuthMethod::Public = method
    {
        report.add(
            Problem::error(format!("`{}` has no effect", file.name))
                .at(&file.item.place, "is a key")
                .note("`token_endpoint_auth_method` of client_kwargs says that none is used")
                .help("write private_key_jwt there, or remove one of them"),
        );
        return None;
    }
    let key = draft.overrides.client_key.key(report);
    match method {
        AuthMethod::Public => return Some(ClientCredential::Public),
        AuthMethod::Automatic | AuthMethod::Secret(_) if draft.overrides.client_key.file.is_none() => {
            let text = draft.client_secret.as_ref()?.text(report)?;
            return Some(ClientCredential::Secret(Secret::new(text)));
        }
        _ => {}
    }
    if let (Some(_), Some(key), Some(secret)) = (&key, &draft.overrides.client_key.file, &draft.client_secret)
    {
        report.add(
            Problem::worth_knowing(format!("`{}` is used instead of `{}`", key.name, secret.name))
                .at(&key.item.place, "is used")
                .beside(&secret.item.place, "is not used"),
        );
    }
    key.map(ClientCredential::Key)
}

/// How tokens are refreshed: whether a refresh token is sent again after its answer was lost, and how many may ask at once.
fn refreshing(overrides: &Overrides, report: &mut Report) -> Refreshing {
    let choices = [
        ("auto", None),
        ("retry", Some(LostAnswer::RetryOnce)),
        ("retry_always", Some(LostAnswer::RetryAlways)),
        ("sign_in_again", Some(LostAnswer::SignInAgain)),
    ];
    let mut lost_answer =
        overrides.lost_answer.as_ref().and_then(|given| given.one_of(&choices, report)).flatten();
    if let Some(given) = &overrides.grace {
        let limits = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
        let grace = given.duration(limits, report);
        match (lost_answer, &overrides.lost_answer) {
            (Some(LostAnswer::RetryAlways | LostAnswer::SignInAgain), Some(chosen)) => report.add(
                Problem::error(format!("`{}` has no effect", given.name))
                    .at(&given.item.place, "limits how long a token may be sent again")
                    .beside(&chosen.item.place, "says that it always may, or never")
                    .help("remove one of them, or write lost_answer = \"retry\""),
            ),
            _ => lost_answer = grace.map(LostAnswer::RetryWithin).or(lost_answer),
        }
    }
    let requests_in_flight = overrides
        .refreshes_in_flight
        .as_ref()
        .and_then(|given| given.number(1..=1024, report))
        .and_then(|number| NonZeroUsize::new(usize::try_from(number).ok()?));
    Refreshing {
        lost_answer,
        requests_in_flight: requests_in_flight.unwrap_or(Refreshing::REQUESTS_IN_FLIGHT),
    }
}

fn metadata_url(given: &Given, issuer_is_named: bool, report: &mut Report) -> Option<Url> {
    let text = given.text(report)?.trim();
    if let Some((_, rest)) = text.split_once('{')
        && let Some((placeholder, _)) = rest.split_once('}')
    {
        let label = format!("`{{{placeholder}}}` stands for something of yours");
        return given.refuse(&label, "put it there: your provider's pages show the whole address", report);
    }
    let url = provider_address(given, text, report)?;
    // Metadata for "any tenant" names an issuer with a placeholder in it, which no ID token has.
    let tenant = url.path_segments().and_then(|mut segments| segments.next()).unwrap_or_default();
    if url.host_str() == Some("login.microsoftonline.com")
        && ["common", "organizations", "consumers"].contains(&tenant)
        && !issuer_is_named
    {
        let label = format!("`{tenant}` is no tenant, so no ID token comes from it");
        return given.refuse(&label, "put the id of your tenant in its place", report);
    }
    if url.query().is_none() && !url.path().contains("/.well-known/") {
        let mut likely = url.clone();
        likely.set_path(&format!("{}{WELL_KNOWN}", url.path().trim_end_matches('/')));
        report.add(
            Problem::warning(format!("`{}` is not where providers keep their metadata", given.name))
                .at(&given.item.place, format!("does not end in {WELL_KNOWN}"))
                .help(format!("it is most likely at {likely}")),
        );
    }
    Some(url)
}

fn issuer(given: &Given, report: &mut Report) -> Option<ExpectedIssuer> {
    let text = given.text(report)?;
    if text.contains(['?', '#']) {
        return given.refuse(
            "an issuer has no query and no fragment",
            "remove what starts at `?` or `#`",
            report,
        );
    }
    provider_address(given, text, report)?;
    // The text and not the URL: issuers are compared letter by letter.
    Some(ExpectedIssuer::Exactly(Issuer::new(text)))
}

fn provider_address(given: &Given, text: &str, report: &mut Report) -> Option<Url> {
    let example = "write the whole address, such as https://id.example.com/.well-known/openid-configuration";
    let Ok(url) = Url::parse(text) else {
        return given.refuse("not an absolute address", example, report);
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return given.refuse("not an https address", example, report);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return given.refuse(
            "a user name or a password does not belong here",
            "remove what is before the `@`",
            report,
        );
    }
    if url.scheme() == "http" && !freshgate_oidc::is_loopback(&url) {
        report.add(
            given
                .unusable("over http, everyone on the way can pretend to be the provider")
                .note("plain http is for a provider on this machine alone")
                .help("use https"),
        );
        return None;
    }
    Some(url)
}

fn transport(kwargs: &ClientKwargs, overrides: &Overrides, report: &mut Report) -> TransportOptions {
    let mut transport = TransportOptions::default();
    let limits = Duration::from_secs(1)..=Duration::from_secs(120);
    if let Some(timeout) =
        overrides.timeout.as_ref().and_then(|given| given.duration(limits, report)).or(kwargs.timeout)
    {
        transport.timeout = timeout;
        transport.connect_timeout = transport.connect_timeout.min(timeout);
    }
    let certificates = match &overrides.ca_file {
        Some(given) => given.path(report).and_then(|path| certificates(given, &path, report)),
        None => kwargs.ca_file.as_ref().and_then(|(given, path)| certificates(given, path, report)),
    };
    transport.extra_roots.extend(certificates);
    transport
}

fn certificates(given: &Given, path: &Path, report: &mut Report) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(pem) if String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") => Some(pem),
        Ok(_) => given.refuse("holds no certificate", "name a file with certificates in PEM form", report),
        Err(error) => {
            report.add(
                given
                    .unusable("cannot be read")
                    .note(error.to_string())
                    .help("name a file that freshgate may read"),
            );
            None
        }
    }
}
