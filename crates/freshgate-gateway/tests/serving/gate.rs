//! `freshgate serve` beside development providers, and the browsers that sign in there.

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Stdio, id},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use freshgate_devidp::{
    DevClient, DevProvider, DevProviderConfig, DevUser, RunningProvider, SigningAlgorithm,
};
use freshgate_oidc::Secret;
use reqwest::{
    Client, Response,
    header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE},
    redirect::Policy,
};
use serde_json::Value;
use url::Url;

use crate::{Ended, PATIENCE, freshgate, until};

const SESSION: &str = "freshgate";
const CLIENT_SECRET: &str = "secret-of-the-client";

/// A gate that runs.
pub(crate) struct Gate {
    process: Ended,
    log: PathBuf,
    address: String,
    providers: Vec<RunningProvider>,
    client: Client,
}

/// A browser that is signed in: what its cookie holds.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) id: String,
}

impl Gate {
    /// Starts it in this folder, and waits until it serves. No app is behind it: none is asked.
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[("default", SigningAlgorithm::Rs256)]).await
    }

    /// The same with a provider for each name, which signs so.
    pub(crate) async fn start_with(folder: &Path, named: &[(&str, SigningAlgorithm)]) -> Self {
        let address = format!("http://localhost:{}", free_port());
        let redirect_uri = format!("{address}/oauth2callback");
        let providers = named.iter().map(|(_, algorithm)| provider(&redirect_uri, *algorithm));
        let providers = futures_util::future::join_all(providers).await;
        let mut settings = format!("[auth]\nredirect_uri = \"{redirect_uri}\"\n");
        for ((name, _), provider) in named.iter().zip(&providers) {
            if *name != "default" {
                writeln!(settings, "[auth.{name}]").unwrap();
            }
            let (secret, metadata) = (CLIENT_SECRET, provider.metadata_url());
            writeln!(settings, "client_id = \"app\"\nclient_secret = \"{secret}\"").unwrap();
            writeln!(settings, "server_metadata_url = \"{metadata}\"").unwrap();
        }
        settings.push_str("\n[[upstream]]\npath = \"/\"\naddress = \"http://127.0.0.1:9\"\n");
        fs::write(folder.join("freshgate.toml"), settings).unwrap();
        let log = folder.join("gate.log");
        let to = fs::File::create(&log).unwrap();
        let listen = address.replace("http://localhost", "127.0.0.1");
        let mut command = freshgate(folder);
        command.args(["serve", "--listen", &listen, "--store", "sqlite:sessions.db"]);
        let process = Ended(command.stdout(Stdio::from(to.try_clone().unwrap())).stderr(to).spawn().unwrap());
        let client = Client::builder().redirect(Policy::none()).no_proxy().timeout(PATIENCE).build().unwrap();
        let gate = Self { process, log, address, providers, client };
        until("it serves", async || gate.log().contains("ready")).await;
        gate
    }

    /// Signs a user in.
    pub(crate) async fn sign_in(&self, user: &str) -> Browser {
        self.sign_in_at("default", user).await
    }

    /// Signs a user in at the provider of this name.
    pub(crate) async fn sign_in_at(&self, provider: &str, user: &str) -> Browser {
        let login = format!("{}/auth/login?provider={provider}", self.address);
        let to_provider = self.client.get(login).send().await.unwrap();
        let flow = cookies(&to_provider).find(|cookie| !cookie.ends_with('=')).unwrap();
        let authorize = Url::parse(location(&to_provider)).unwrap();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("request", authorize.query().unwrap())
            .append_pair("user", user)
            .finish();
        let sign_in = self.client.post(authorize.join("/sign-in").unwrap());
        let sign_in = sign_in.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let back = sign_in.send().await.unwrap();
        let signed_in = self.client.get(location(&back)).header(COOKIE, flow).send().await.unwrap();
        let id = cookies(&signed_in).find_map(|cookie| {
            cookie.strip_prefix(SESSION).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned)
        });
        Browser { id: id.unwrap_or_else(|| panic!("not signed in: {}\n{}", signed_in.status(), self.log())) }
    }

    /// Who is signed in with this browser; nobody, if it is signed out.
    pub(crate) async fn user(&self, browser: &Browser) -> Option<String> {
        let user = self.client.get(format!("{}/auth/user", self.address)).header(COOKIE, browser.cookie());
        let answer = user.send().await.unwrap();
        match answer.status().as_u16() {
            200 => {
                let claims: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                Some(claims["sub"].as_str().unwrap().to_owned())
            }
            401 => None,
            status => panic!("status {status}:\n{}", self.log()),
        }
    }

    /// Has the gate refresh this browser's session. Panics if that fails.
    pub(crate) async fn refresh(&self, browser: &Browser) {
        let refresh = self.client.post(format!("{}/auth/refresh", self.address));
        let refresh = refresh.header(COOKIE, browser.cookie()).header("origin", &self.address);
        let answer = refresh.send().await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(status, 200, "{}\n{}", answer.text().await.unwrap(), self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) async fn end(self) {
        drop(self.process);
        for provider in self.providers {
            provider.shutdown().await;
        }
    }
}

impl Browser {
    fn cookie(&self) -> String {
        format!("{SESSION}={}", self.id)
    }
}

async fn provider(redirect_uri: &str, signing_algorithm: SigningAlgorithm) -> RunningProvider {
    let hour = Duration::from_secs(3600);
    let provider = DevProvider::bind(DevProviderConfig {
        clients: vec![DevClient::confidential("app", Secret::new(CLIENT_SECRET), redirect_uri)],
        users: vec![DevUser::named("ada"), DevUser::named("grace")],
        access_token_lifetime: hour,
        id_token_lifetime: hour,
        signing_algorithm,
        ..DevProviderConfig::new("127.0.0.1:0".parse().unwrap())
    });
    provider.await.unwrap()
}

fn location(answer: &Response) -> &str {
    let location = answer.headers().get(LOCATION);
    location.unwrap_or_else(|| panic!("no redirect: {}", answer.status())).to_str().unwrap()
}

/// The cookies that an answer sets: names and values.
fn cookies(answer: &Response) -> impl Iterator<Item = String> {
    let set = answer.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    set.map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned())
}

/// A port below the range of those for outgoing connections: none of these takes it before the gate listens.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
