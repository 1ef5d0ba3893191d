//! The whole gate with a signed-in session, for `bench/run`: what `freshgate dev` puts together, in front of any app.
//!
//! `bench_gate LISTEN UPSTREAM COOKIE [CERTIFICATE KEY]`: the first two as ADDR:PORT; the session's cookie is written to the
//! file COOKIE. With a certificate and its key, both PEM files, it speaks TLS.

use std::{env, error::Error, fs, path::PathBuf};

use bytes::Bytes;
use freshgate::{
    Engine,
    clock::{Entropy, SystemEntropy},
    engine::LoginRequest,
    provider::{Connection, HttpTransport, ProviderRequest, Transport, TransportOptions},
};
use freshgate_devidp::{DevProvider, Scripting};
use freshgate_gateway::{
    cli::{AppOptions, Common, Dev},
    config::{self, Environment, Framework, Upstream},
    gate::{self, GateParts, SessionApiListener},
    session_api::UpstreamSecrets,
};
use freshgate_oidc::{AuthorizationParameters, CallbackParameters, Secret};
use http::{HeaderMap, Method, header};
use tokio::net::UnixListener;
use url::Url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let listen = arguments.next().ok_or("where to listen?")?;
    let upstream = arguments.next().ok_or("where is the app?")?;
    let cookie_file = PathBuf::from(arguments.next().ok_or("where to write the cookie?")?);

    let (tls_certificate, tls_key) =
        (arguments.next().map(PathBuf::from), arguments.next().map(PathBuf::from));
    let cookie_name = if tls_key.is_some() { "__Host-freshgate" } else { "freshgate" };

    let folder = tempfile::tempdir()?;
    let app = folder.path().join("app.py");
    fs::write(&app, "")?;
    let dev = Dev {
        app: Some(app),
        common: Common { listen: Some(listen), tls_certificate, tls_key, ..Common::default() },
        token_lifetime: Some("1d".to_owned()),
        rotation: None,
        grace: None,
        users: Vec::new(),
        provider_listen: Some("127.0.0.1:0".to_owned()),
        app_options: AppOptions::default(),
    };
    let (dev, _) = config::load_dev(&dev, &Environment::new(folder.path().to_owned(), None, []))
        .map_err(|report| format!("{report:?}"))?;
    let mut provider = dev.provider(&SystemEntropy)?;
    provider.scripting = Scripting::On;
    let provider = DevProvider::bind(provider).await?;

    let mut config = dev.gate(provider.issuer(), &SystemEntropy)?;
    // All sockets that are measured are of one session.
    config.limits.sockets_per_session = usize::MAX;
    let providers = gate::providers(&config).map_err(|problems| format!("{problems:?}"))?;
    let engine = gate::engine(&config, gate::open_store(&config)?, gate::keyring(&config)?, providers);
    let cookie = sign_in(&engine, config.public.redirect_uri()).await?;
    fs::write(cookie_file, format!("{cookie_name}={}", cookie.expose()))?;

    let private = UnixListener::bind(folder.path().join("session-api.sock"))?;
    let public = gate::bind(config.listen, "LISTEN").await?;
    let upstreams = vec![Upstream { framework: Framework::Streamlit, ..Upstream::new(upstream) }];
    let upstream_secrets = UpstreamSecrets::new([SystemEntropy.token()]);
    let gate = GateParts { engine, config, upstreams, upstream_secrets, operator: None }.open(
        public,
        Some(SessionApiListener::Unix(private)),
        std::future::ready(()),
    )?;
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    gate.close().await;
    provider.shutdown().await;
    Ok(())
}

/// Goes through a login as a browser would, and yields the id for its cookie.
async fn sign_in(engine: &Engine, redirect_uri: &Url) -> Result<Secret, Box<dyn Error>> {
    let started = engine
        .begin_login(LoginRequest {
            provider: "default".to_owned(),
            redirect_uri: redirect_uri.clone(),
            next: "/".to_owned(),
            parameters: AuthorizationParameters::of([("auto_login", "ada")])?,
        })
        .await?;
    let request = ProviderRequest {
        method: Method::GET,
        url: Url::parse(started.authorize.expose())?,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        answer_limit: 64 * 1024,
        connection: Connection::Kept,
    };
    let answer = HttpTransport::new(&TransportOptions::default())?.send(request).await?;
    let callback = Url::parse(answer.header(header::LOCATION).ok_or("the provider sends nobody back")?)?;
    let callback = CallbackParameters::parse(callback.query().unwrap_or_default())?;
    let completed = engine.complete_login(&callback, Some(started.sealed_flow.expose())).await?;
    Ok(completed.id.as_secret().clone())
}
