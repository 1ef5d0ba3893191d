//! From a click on "sign in" to a session: begun here, finished when the browser comes back.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use freshgate_oidc::{
    AuthenticationDemands, AuthorizationError, AuthorizationParameters, AuthorizationRequest, CallbackError,
    CallbackParameters, DpopKey, ExpectedCallback, IdTokenError, IssuerParameter, OriginalIdentity, Pkce,
    ResourceIndicator, Secret, Timestamp, base64url, merge_claims, one_line, sha256,
};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::{
    Engine,
    history::{HistoryEntry, HistoryEvent},
    record::{Record, RefreshState},
};
use crate::{
    counting,
    keyring::Purpose,
    provider::{
        MetadataUnavailable, NoDpopAlgorithm, Provider, PushError, TokenOutcome, UsableToken,
        UserInfoFailure, VerifyError, new_dpop_key,
    },
    sabotage::Sabotage,
    session::{EndReason, OpenSession, SessionId, TokenSet},
    store::StoreError,
};

/// How long a browser may take from leaving for the provider to coming back. What it carries meanwhile is sealed, so a key
/// that sealed is needed for this much longer.
pub const FLOW_LIFETIME: Duration = Duration::from_secs(600);

/// What a login is begun with.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// The provider's name in the configuration.
    pub provider: String,
    /// Where the provider sends the browser back to.
    pub redirect_uri: Url,
    /// Where the user goes after that: a path of ours with its query, checked by the caller.
    pub next: String,
    /// What this login asks for besides, on top of what is configured.
    pub parameters: AuthorizationParameters,
}

/// A login under way.
#[derive(Debug)]
pub struct LoginStarted {
    /// The address to send the browser to. It holds the state: for a `Location` header, not for a log.
    pub authorize: Secret,
    /// Names the flow among several in one browser.
    pub flow: FlowId,
    /// What the browser must bring back with the callback: sealed, so that it can be read by us alone.
    pub sealed_flow: Secret,
    /// For how long.
    pub lifetime: Duration,
}

/// A finished login.
#[derive(Debug)]
pub struct LoginCompleted {
    /// The id for the cookie. It exists nowhere else.
    pub id: SessionId,
    /// The session.
    pub session: OpenSession,
    /// Where the user wanted to go.
    pub next: String,
}

/// The name of a login flow: the first 128 bits of the SHA-256 of its `state`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(String);

impl FlowId {
    /// The flow that has this `state`.
    pub fn of_state(state: &Secret) -> Self {
        Self(base64url(&sha256(state.expose().as_bytes())[..16]))
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No provider of this name, or issuer, is configured. Cut to what fits a log: it is a stranger's word.
    #[error("no provider is called {0:?}")]
    UnknownProvider(String),
    /// The provider cannot be asked now.
    #[error("the provider {provider:?} cannot be asked")]
    ProviderUnavailable {
        /// Its name.
        provider: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The provider cannot be used as it is configured, here or there: the operator must act.
    #[error("the provider {provider:?} cannot be used as it is configured")]
    ProviderMisconfigured {
        /// Its name.
        provider: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The callback belongs to no login of this browser, or to one that took too long.
    #[error("the callback belongs to no login of this browser")]
    FlowUnknown,
    /// The provider signed nobody in and said so (RFC 6749, section 4.1.2.1).
    #[error("the provider answered {0}")]
    Denied(AuthorizationError),
    /// While the user signed in, the provider said that the user, or the session there, is signed out.
    #[error("the provider told of a logout while the user signed in")]
    SignedOutMeanwhile,
    /// The user did not authenticate as it was asked for (`acr_values`, `max_age`), or the provider does not say so.
    #[error("the user did not authenticate at the provider {provider:?} as it was asked for")]
    UnmetAuthenticationRequirements {
        /// Its name.
        provider: String,
        /// The check.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer was refused by a check.
    #[error("the answer of the provider {provider:?} was refused")]
    Rejected {
        /// Its name.
        provider: String,
        /// The check.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The session could not be kept.
    #[error("the session could not be kept")]
    Store(#[from] StoreError),
}

/// What the browser carries, sealed, while it is at the provider.
#[derive(Deserialize)]
struct Flow {
    provider: String,
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    redirect_uri: Url,
    next: String,
    #[serde(default)]
    demands: AuthenticationDemands,
    #[serde(default)]
    resources: Vec<ResourceIndicator>,
    /// The key that the tokens are to be bound to.
    #[serde(default)]
    dpop_key: Option<Secret>,
    expires_at: Timestamp,
}

impl Flow {
    fn begun_at(&self) -> Timestamp {
        self.expires_at - FLOW_LIFETIME
    }
}

/// How a [`Flow`] is written.
#[derive(Serialize)]
struct FlowForm<'a> {
    provider: &'a str,
    state: &'a str,
    nonce: &'a str,
    verifier: &'a str,
    redirect_uri: &'a Url,
    next: &'a str,
    demands: &'a AuthenticationDemands,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resources: &'a [ResourceIndicator],
    #[serde(skip_serializing_if = "Option::is_none")]
    dpop_key: Option<&'a str>,
    expires_at: Timestamp,
}

impl Engine {
    /// Begins a login. Nothing is kept here: the flow travels with the browser, sealed.
    ///
    /// Fails if the provider is not configured, if its metadata cannot be had, or if the request must be left with it
    /// beforehand and cannot be. Dropping the future is safe.
    pub async fn begin_login(&self, request: LoginRequest) -> Result<LoginStarted, LoginError> {
        let provider = self.provider(&request.provider)?;
        let metadata = provider.metadata().await.map_err(|error| provider_trouble(provider.name(), error))?;
        let config = provider.config();
        let parameters = config.authorize_parameters_for(&metadata).and(&request.parameters);
        let dpop_key = match provider.dpop_algorithm(&metadata) {
            Ok(algorithm) => algorithm.map(|algorithm| new_dpop_key(&*self.0.entropy, algorithm)),
            Err(error) => return Err(no_dpop(provider.name(), error)),
        };
        let mut flow = Flow {
            provider: request.provider,
            state: self.0.entropy.token(),
            nonce: self.0.entropy.token(),
            verifier: self.0.entropy.token(),
            redirect_uri: request.redirect_uri,
            next: request.next,
            demands: AuthenticationDemands::default(),
            resources: parameters.resources().to_vec(),
            dpop_key: dpop_key.as_ref().map(DpopKey::to_secret),
            expires_at: self.0.clock.now() + FLOW_LIFETIME,
        };
        let mut authorize = AuthorizationRequest::new(
            &metadata,
            &config.client_id,
            &flow.redirect_uri,
            &config.scopes_for(&metadata, parameters.scope()),
            &flow.state,
            &flow.nonce,
            &Pkce::from_verifier(flow.verifier.clone()),
        )
        .with_parameters(&parameters);
        if let Some(key) = &dpop_key {
            authorize = authorize.bound_to(key);
        }
        flow.demands = authorize.demands();
        let authorize = match config.pushes_requests(&metadata) {
            false => authorize.to_url(),
            true => {
                let pushed = provider.push_authorization(&metadata, &authorize).await;
                authorize.to_pushed_url(pushed.map_err(|error| push_trouble(provider.name(), error))?)
            }
        };
        let authorize = Secret::new(authorize);
        let id = FlowId::of_state(&flow.state);
        let sealed_flow = self.seal_flow(&id, &flow);
        Ok(LoginStarted { authorize, flow: id, sealed_flow, lifetime: FLOW_LIFETIME })
    }

    /// Finishes a login: checks that the callback belongs to this browser's flow, redeems the code, verifies the ID token
    /// (OpenID Connect Core, section 3.1.3.7), asks for userinfo, and keeps the session.
    ///
    /// If the provider has told of a logout of this user, or of the session there, since the login was begun, nobody is
    /// signed in: the one who signed out last has the last word.
    ///
    /// `sealed_flow` is what the browser brought back for the flow that `callback` names. Dropping the future midway may
    /// leave a session that nobody has the id of; it is swept when its lifetime is over.
    pub async fn complete_login(
        &self,
        callback: &CallbackParameters,
        sealed_flow: Option<&str>,
    ) -> Result<LoginCompleted, LoginError> {
        let started = tokio::time::Instant::now();
        let flow = sealed_flow
            .and_then(|sealed| self.open_flow(&FlowId::of_state(callback.state()), sealed))
            .filter(|flow| flow.state == *callback.state() && self.0.clock.now() < flow.expires_at)
            .ok_or(LoginError::FlowUnknown)?;
        let provider = self.provider(&flow.provider)?;
        let name = provider.name();
        let rejected = |source| LoginError::Rejected { provider: name.to_owned(), source };
        let unavailable = |source| LoginError::ProviderUnavailable { provider: name.to_owned(), source };
        let metadata = provider.metadata().await.map_err(|error| provider_trouble(name, error))?;
        let expect = ExpectedCallback {
            state: &flow.state,
            issuer: &metadata.issuer,
            issuer_parameter: IssuerParameter::of(&metadata),
        };
        let code = callback.check(&expect).map_err(|error| match error {
            CallbackError::Provider(error) => LoginError::Denied(error),
            error => rejected(Box::new(error)),
        })?;

        let dpop_key = match &flow.dpop_key {
            Some(key) => Some(DpopKey::parse(key).ok_or(LoginError::FlowUnknown)?),
            None => None,
        };
        let sent_at = self.0.clock.now();
        let answer = provider
            .redeem_code(&code, &flow.verifier, &flow.redirect_uri, &flow.resources, dpop_key.as_ref())
            .await;
        let grant = match TokenOutcome::of(answer) {
            TokenOutcome::Granted(grant) => grant,
            TokenOutcome::Misconfigured(source) => {
                return Err(LoginError::ProviderMisconfigured { provider: name.to_owned(), source });
            }
            TokenOutcome::Refused(source)
            | TokenOutcome::RefusedWithoutWords(source)
            | TokenOutcome::Malformed(source, _) => return Err(rejected(source)),
            TokenOutcome::NotSent(source)
            | TokenOutcome::Lost(source)
            | TokenOutcome::Unavailable { why: source, .. } => {
                return Err(unavailable(source));
            }
        };
        let raw = grant.id_token.as_ref().ok_or_else(|| rejected("it holds no ID token".into()))?;
        let asked_at = flow.begun_at();
        let id_token = provider
            .verify_login(raw, &flow.nonce, &grant.access_token, &flow.demands, asked_at)
            .await
            .map_err(|error| match error {
                VerifyError::Rejected(
                    error @ (IdTokenError::AuthenticationContext | IdTokenError::AuthenticationTooOld),
                ) => LoginError::UnmetAuthenticationRequirements {
                    provider: name.to_owned(),
                    source: Box::new(error),
                },
                VerifyError::Rejected(error) => rejected(Box::new(error)),
                error @ VerifyError::KeysUnavailable(_) => unavailable(Box::new(error)),
            })?;
        let token = UsableToken {
            access_token: &grant.access_token,
            token_type: &grant.token_type,
            key: dpop_key.as_ref(),
        };
        let userinfo = match provider.userinfo(token, id_token.subject()).await {
            Ok(userinfo) => userinfo,
            Err(error @ UserInfoFailure::Rejected(_)) => return Err(rejected(Box::new(error))),
            Err(error) => {
                // The ID token alone says who this is; what userinfo would add comes with the next refresh.
                tracing::warn!(
                    provider = name,
                    error = &error as &dyn std::error::Error,
                    "signed in without userinfo"
                );
                None
            }
        };
        if grant.refresh_token.is_none() {
            tracing::warn!(
                provider = name,
                "the provider issued no refresh token: tokens will not be refreshed \
                 (does the scope need offline_access, or the prompt consent?)"
            );
        }

        let id = SessionId::generate(&*self.0.entropy);
        let now = self.0.clock.now();
        let mut record = Record {
            key: id.key(),
            provider: name.to_owned(),
            identity: OriginalIdentity::of(&id_token),
            sid: id_token.session_id().map(str::to_owned),
            claims: merge_claims(id_token.claims(), userinfo.as_ref()),
            id_token_claims: id_token.claims().clone(),
            userinfo,
            tokens: TokenSet::granted(&grant, Some(id_token.raw().clone()), sent_at),
            refresh_token: grant.refresh_token,
            resources: flow.resources,
            dpop_key,
            generation: 1,
            signed_in_at: now,
            ends_at: now + self.0.policy.absolute_lifetime,
            last_used: self.0.policy.idle_timeout.map(|_| now),
            refresh: RefreshState::default(),
            history: VecDeque::new(),
            size: 0,
        };
        record.remember(HistoryEntry {
            at: now,
            what: HistoryEvent::SignedIn,
            millis: started.elapsed().as_millis() as u64,
            attempts: 1,
        });
        let record = self.0.sessions.insert(record).await?.ok_or(LoginError::FlowUnknown)?;
        // First kept, then looked up: a logout either finds the session or has left its mark.
        let signed_out = self.signed_out_since(&record, provider, asked_at).await;
        if !matches!(signed_out, Ok(false)) && !self.sabotaged(Sabotage::LogoutOvertaken) {
            self.end(record.key, EndReason::ProviderLogout).await?;
            return Err(signed_out.map_or_else(LoginError::Store, |_| LoginError::SignedOutMeanwhile));
        }
        counting::session_started(name);
        tracing::info!(session = %record.key.short(), provider = name, "signed in");
        Ok(LoginCompleted { id, session: OpenSession(record), next: flow.next })
    }

    fn provider(&self, name: &str) -> Result<&Arc<Provider>, LoginError> {
        self.0.providers.get(name).ok_or_else(|| LoginError::UnknownProvider(one_line(name, 200)))
    }

    fn seal_flow(&self, id: &FlowId, flow: &Flow) -> Secret {
        let form = FlowForm {
            provider: &flow.provider,
            state: flow.state.expose(),
            nonce: flow.nonce.expose(),
            verifier: flow.verifier.expose(),
            redirect_uri: &flow.redirect_uri,
            next: &flow.next,
            demands: &flow.demands,
            resources: &flow.resources,
            dpop_key: flow.dpop_key.as_ref().map(Secret::expose),
            expires_at: flow.expires_at,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&form).expect("a flow has only string keys"));
        Secret::new(base64url(&self.0.keyring.seal(
            &*self.0.entropy,
            Purpose::LoginFlow,
            id.0.as_bytes(),
            &plain,
        )))
    }

    fn open_flow(&self, id: &FlowId, sealed: &str) -> Option<Flow> {
        let sealed = freshgate_oidc::from_base64url(sealed)?;
        let plain = self.0.keyring.open(Purpose::LoginFlow, id.0.as_bytes(), &sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}

/// Whether metadata that cannot be had is the provider's fault or the configuration's.
fn provider_trouble(provider: &str, error: MetadataUnavailable) -> LoginError {
    let provider = provider.to_owned();
    if error.is_misconfiguration() {
        LoginError::ProviderMisconfigured { provider, source: Box::new(error) }
    } else {
        LoginError::ProviderUnavailable { provider, source: Box::new(error) }
    }
}

/// The same for a provider that takes no proofs that we can make.
fn no_dpop(provider: &str, error: NoDpopAlgorithm) -> LoginError {
    LoginError::ProviderMisconfigured { provider: provider.to_owned(), source: Box::new(error) }
}

/// The same for a request that could not be left with the provider.
fn push_trouble(provider: &str, error: PushError) -> LoginError {
    let provider = provider.to_owned();
    if error.is_of_the_moment() {
        LoginError::ProviderUnavailable { provider, source: Box::new(error) }
    } else {
        LoginError::ProviderMisconfigured { provider, source: Box::new(error) }
    }
}
