//! A provider that runs for one test, and a relying party that talks to it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use freshgate_devidp::{DevClient, DevProvider, DevProviderConfig, DevUser, RunningProvider, Scripting};
use freshgate_oidc::Secret;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::browser::Browser;

pub(crate) const CLIENT: &str = "app";
pub(crate) const SECRET: &str = "s3cret:%+ä";
pub(crate) const CALLBACK: &str = "http://localhost:8501/oauth2callback";
pub(crate) const SIGNED_OUT: &str = "http://localhost:8501";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) struct Setting {
    pub(crate) provider: RunningProvider,
    http: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Answer {
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Where a redirect goes: the address without its query, and the query.
    pub(crate) fn redirect(&self) -> (String, BTreeMap<String, String>) {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        let mut location = Url::parse(self.header("location")).unwrap();
        let query = location.query_pairs().into_owned().collect();
        location.set_query(None);
        (location.to_string(), query)
    }
}

pub(crate) fn config() -> DevProviderConfig {
    let mut config = DevProviderConfig::new("127.0.0.1:0".parse().unwrap());
    let mut app = DevClient::confidential(CLIENT, Secret::new(SECRET), CALLBACK);
    app.post_logout_redirect_uris.push(SIGNED_OUT.to_owned());
    config.clients = vec![app, DevClient::public("public", CALLBACK)];
    config.users = vec![DevUser::named("alice"), DevUser::named("bob")];
    config
}

impl Setting {
    pub(crate) async fn start() -> Setting {
        Setting::with(|_| ()).await
    }

    pub(crate) async fn scripted() -> Setting {
        Setting::with(|config| config.scripting = Scripting::On).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut DevProviderConfig)) -> Setting {
        let mut config = config();
        change(&mut config);
        let provider = DevProvider::bind(config).await.unwrap();
        Setting { provider, http: http() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.provider.issuer())
    }

    /// The machine's time, in seconds.
    #[expect(clippy::disallowed_methods, reason = "what a relying party's clock says")]
    pub(crate) fn now(&self) -> i64 {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since_epoch.as_secs().try_into().unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(self.url(path)).send().await.unwrap()).await
    }

    /// With these headers, and a form if there is one.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: &[(&str, &str)],
    ) -> Answer {
        let request = match form {
            [] => self.http.request(method, self.url(path)),
            form => self.post(path, form),
        };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.send().await.unwrap()).await
    }

    /// With an access token.
    pub(crate) async fn get_as(&self, path: &str, access_token: &str) -> Answer {
        Answer::of(self.try_get_as(path, access_token).await.unwrap()).await
    }

    pub(crate) async fn try_get_as(
        &self,
        path: &str,
        access_token: &str,
    ) -> reqwest::Result<reqwest::Response> {
        self.http.get(self.url(path)).header("authorization", format!("Bearer {access_token}")).send().await
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = self.http.request(method, self.url(path)).header("content-type", "application/json");
        Answer::of(request.body(body.to_string()).send().await.unwrap()).await
    }

    /// Adds a rule to the script.
    pub(crate) async fn script(&self, rule: Value) {
        let answer = self.json(Method::POST, "/_script", rule).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    }

    pub(crate) async fn log(&self) -> Value {
        self.get("/_log").await.json()
    }

    /// A form, authenticated as the confidential client by `client_secret_basic`.
    pub(crate) async fn form(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Answer::of(self.try_form(path, form).await.unwrap()).await
    }

    pub(crate) async fn try_form(
        &self,
        path: &str,
        form: &[(&str, &str)],
    ) -> reqwest::Result<reqwest::Response> {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let basic = STANDARD.encode(format!("{}:{}", encode(CLIENT), encode(SECRET)));
        self.post(path, form).header("authorization", format!("Basic {basic}")).send().await
    }

    /// A form without authentication but for what is in it.
    pub(crate) async fn bare_form(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Answer::of(self.post(path, form).send().await.unwrap()).await
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.http.post(self.url(path)).header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// The path and query of an authorization request; `more` replaces or, if empty, removes parameters.
    pub(crate) fn authorize(&self, more: &[(&str, &str)]) -> String {
        let mut parameters = BTreeMap::from([
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid profile email offline_access"),
            ("state", "the-state"),
            ("nonce", "the-nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        parameters.extend(more.iter().copied());
        parameters.retain(|_, value| !value.is_empty());
        format!(
            "/authorize?{}",
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
        )
    }

    /// Goes through the sign-in page in a fresh browser; yields the code.
    pub(crate) async fn code(&self, user: &str, more: &[(&str, &str)]) -> String {
        let browser = Browser::new(self);
        let (_, query) = browser.sign_in(&self.authorize(more), user).await.redirect();
        query["code"].clone()
    }

    pub(crate) async fn redeem(&self, code: &str) -> Answer {
        self.form(
            "/token",
            &[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", CALLBACK),
                ("code_verifier", VERIFIER),
            ],
        )
        .await
    }

    /// Signs in and yields the whole token answer.
    pub(crate) async fn tokens(&self, user: &str) -> Value {
        let answer = self.redeem(&self.code(user, &[]).await).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Answer {
        self.form("/token", &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

pub(crate) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn from_base64url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
