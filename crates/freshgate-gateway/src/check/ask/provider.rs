//! A provider, as far as it can be asked without anybody signing in.

use std::time::{Duration, UNIX_EPOCH};

use freshgate::{
    Engine,
    engine::LoginRequest,
    provider::{HttpTransport, Provider, ProviderAnswer, Transport},
};
use freshgate_oidc::{AuthorizationParameters, JwkSet, ProviderMetadata, Timestamp};
use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;
use url::Url;

use super::{Asker, certificate, chain};
use crate::{
    check::facts::{
        Asked, ClientFacts, DocumentFacts, KeyFacts, KnownProvider, LoginRequestFacts, ProviderFacts, Skew,
    },
    words::printable,
};

/// Asks a provider of the engine everything that it answers without anybody signing in.
pub(in crate::check) async fn provider(
    asker: &mut Asker,
    engine: &Engine,
    provider: &Provider,
    transport: &HttpTransport,
    redirect_uri: &Url,
) -> ProviderFacts {
    let config = provider.config();
    let started = (asker.clock.now(), Instant::now());
    let answer = asker.get(transport, &config.metadata_url, HeaderMap::new()).await;
    let took = started.1.elapsed();
    let answer = match answer {
        Asked::Answered(answer) => answer,
        Asked::Unreached(unreached) => {
            return ProviderFacts { document: Asked::Unreached(unreached), known: None };
        }
    };
    let parsed =
        (answer.status == StatusCode::OK).then(|| ProviderMetadata::parse(&answer.body, &config.issuer));
    let header = |name| answer.header(name).map(printable);
    let (metadata, known) = match parsed {
        None => (None, None),
        Some(Err(error)) => (Some(Err(error)), None),
        Some(Ok(metadata)) => {
            (Some(Ok(())), Some(known(asker, engine, provider, transport, redirect_uri, metadata).await))
        }
    };
    let shown = match config.metadata_url.scheme() {
        "https" => transport.certificate(&config.metadata_url).await,
        _ => None,
    };
    let document = DocumentFacts {
        status: answer.status,
        location: header(header::LOCATION),
        content_type: header(header::CONTENT_TYPE),
        took,
        skew: skew(&answer, started.0, took),
        certificate: shown.map(|shown| certificate(&[shown.into()], &config.metadata_url)),
        metadata,
    };
    ProviderFacts { document: Asked::Answered(document), known }
}

async fn known(
    asker: &mut Asker,
    engine: &Engine,
    provider: &Provider,
    transport: &dyn Transport,
    redirect_uri: &Url,
    metadata: ProviderMetadata,
) -> KnownProvider {
    let keys = match asker.get(transport, &metadata.jwks_uri, HeaderMap::new()).await {
        Asked::Unreached(unreached) => Asked::Unreached(unreached),
        Asked::Answered(answer) if answer.status != StatusCode::OK => {
            Asked::Answered(KeyFacts::Status(answer.status))
        }
        Asked::Answered(answer) => Asked::Answered(match JwkSet::parse(&answer.body) {
            Ok(set) => KeyFacts::Set(set),
            Err(error) => KeyFacts::Unusable(chain(&error)),
        }),
    };
    let client = match provider.client_auth_method(&metadata) {
        Err(error) => ClientFacts::NoMethod(chain(&error)),
        Ok(method) => {
            asker.tell(&format!("asking {} whether it takes this client", metadata.token_endpoint));
            match provider.check_client(redirect_uri, &engine.entropy().token()).await {
                Ok(()) => ClientFacts::NotRefused { method },
                Err(error) => {
                    let wants_proof = error.wants_proof();
                    ClientFacts::Refused { method, why: chain(&error), wants_proof }
                }
            }
        }
    };
    let login = login_request(asker, engine, provider.name(), transport, redirect_uri).await;
    let config = provider.config();
    KnownProvider {
        scopes: config.scopes_for(&metadata, config.authorize_parameters.scope()),
        metadata,
        keys,
        client,
        login,
    }
}

/// Begins a login, and looks at what the browser would see first.
async fn login_request(
    asker: &mut Asker,
    engine: &Engine,
    provider: &str,
    transport: &dyn Transport,
    redirect_uri: &Url,
) -> LoginRequestFacts {
    let request = LoginRequest {
        provider: provider.to_owned(),
        redirect_uri: redirect_uri.clone(),
        next: "/".to_owned(),
        parameters: AuthorizationParameters::default(),
    };
    let started = match engine.begin_login(request).await {
        Ok(started) => started,
        Err(error) => return LoginRequestFacts::NotMade(chain(&error)),
    };
    let Ok(address) = Url::parse(started.authorize.expose()) else {
        return LoginRequestFacts::NotMade("the authorization endpoint is no address".to_owned());
    };
    match asker.get(transport, &address, HeaderMap::new()).await {
        Asked::Unreached(unreached) => LoginRequestFacts::Unreached(unreached),
        Asked::Answered(answer) => match sent_back(&answer, redirect_uri) {
            Some(error) => LoginRequestFacts::SentBack(error),
            None => LoginRequestFacts::Answered(answer.status),
        },
    }
}

/// The error with which the browser would be sent back to us, if it would be.
fn sent_back(answer: &ProviderAnswer, redirect_uri: &Url) -> Option<String> {
    let location = Url::parse(answer.header(header::LOCATION)?).ok()?;
    let is_ours = location.origin() == redirect_uri.origin() && location.path() == redirect_uri.path();
    let parameter = |name: &str| {
        let found = location.query_pairs().find(|(found, _)| found == name);
        found.map(|(_, value)| printable(&value))
    };
    let error = parameter("error").filter(|_| is_ours)?;
    Some(match parameter("error_description") {
        Some(description) => format!("{error}: {description}"),
        None => error,
    })
}

/// What `Date` says of the provider's clock, and `Age` of an answer that was made earlier (RFC 9110 section 6.6.1, RFC 9111
/// section 5.1).
fn skew(answer: &ProviderAnswer, asked_at: Timestamp, took: Duration) -> Option<Skew> {
    let date = httpdate::parse_http_date(answer.header(header::DATE)?).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let age: f64 = answer.header(header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0.0);
    // It was written somewhere between the question and the answer, and its second had begun up to a second before.
    let half = took.as_secs_f64() / 2.0;
    let theirs = date + age + 0.5;
    let ours = asked_at.as_unix_seconds_f64() + half;
    Some(Skew { seconds: theirs - ours, give_or_take: half + 0.5 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_tells_of_a_clock() {
        // 1994-11-15 12:45:26
        let sent = Timestamp::from_unix_seconds(784_903_526);
        let took = Duration::from_secs(2);
        let skew = |headers: &[(http::HeaderName, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value)));
            let answer = ProviderAnswer {
                status: StatusCode::OK,
                headers: headers.collect(),
                body: bytes::Bytes::new(),
            };
            skew(&answer, sent, took).map(|skew| (skew.seconds, skew.give_or_take))
        };
        let date = |date| (header::DATE, date);
        assert_eq!(skew(&[date("Tue, 15 Nov 1994 12:45:27 GMT")]), Some((0.5, 1.5)));
        assert_eq!(skew(&[date("Tue, 15 Nov 1994 12:46:27 GMT")]), Some((60.5, 1.5)));
        assert_eq!(skew(&[date("Tue, 15 Nov 1994 12:44:27 GMT")]), Some((-59.5, 1.5)));
        let cached = [date("Tue, 15 Nov 1994 12:35:27 GMT"), (header::AGE, "600")];
        assert_eq!(skew(&cached), Some((0.5, 1.5)), "it was made ten minutes ago");
        assert_eq!(skew(&[date("yesterday")]), None);
        assert_eq!(skew(&[]), None);
    }
}
