//! A provider, as the engine asks it: metadata, keys, tokens, userinfo. What its answers mean is `freshgate-oidc`'s.

mod assertion_audience;
mod breaker;
mod config;
mod dpop;
mod keys;
mod metadata;
mod policy;
mod prompt;
mod pushed;
mod revocation;
mod single;
mod token_outcome;
mod transport;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use freshgate_oidc::{
    AccessTokenBinding, AllowedAlgorithms, AuthenticationDemands, AuthorizedCode, ClientAuthMethod,
    ClientAuthentication, ClientProof, DpopKey, ExpectedNonce, IdTokenError, IdTokenExpectations, JwkSet,
    LogoutTokenError, LogoutTokenExpectations, MaxAuthenticationAge, NoUsableClientAuthentication,
    OriginalIdentity, ProofContext, ProviderMetadata, RawIdToken, RawLogoutToken, RefreshExpectations,
    RefreshedIdTokenError, ResourceIndicator, Secret, SignedUserInfoExpectations, SigningAlgorithm,
    Timestamp, TokenAnswer, TokenRefusal, TokenRequest, UserInfo, UserInfoError, VerifiedIdToken,
    VerifiedLogoutToken, parse_token_answer, parse_userinfo, verify_refreshed, verify_signed_userinfo,
};
use http::{HeaderValue, Method, StatusCode, header};
use url::Url;

pub use assertion_audience::AssertionAudience;
pub use config::{DpopUse, OfflineAccess, ProviderConfig, PushedRequests, Refreshing};
pub use keys::KeysUnavailable;
pub use metadata::MetadataUnavailable;
pub use policy::LostAnswer;
pub use transport::{
    Connection, ConnectionTrouble, HttpTransport, ProviderAnswer, ProviderRequest, Transport, TransportError,
    TransportOptions,
};

use crate::{
    clock::{Clock, Entropy, SystemEntropy},
    counting,
    tasks::{Tasks, TokioTasks},
};
pub(crate) use breaker::Turn;
use breaker::{LeftAlone, Turns, Verdict};
pub(crate) use dpop::{NoDpopAlgorithm, new_key as new_dpop_key};
use dpop::{Nonces, Server};
use keys::{Keys, Wanted};
use metadata::Metadata;
pub(crate) use pushed::PushError;
pub(crate) use revocation::Revocation;
pub(crate) use token_outcome::TokenOutcome;

/// One provider and what is known of it.
pub struct Provider {
    config: Arc<ProviderConfig>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metadata: Metadata,
    keys: Keys,
    nonces: Nonces,
    turns: Arc<Turns>,
    runner: Arc<dyn Tasks>,
    /// How our last ID token was signed: as we are registered there.
    signs_with: Mutex<Option<SigningAlgorithm>>,
}

/// What came of a request to the token endpoint.
pub(crate) enum Asked {
    /// An answer.
    Answered(TokenAnswer),
    /// The request was not looked at: its proof lacks the nonce that came with this refusal (RFC 9449, section 8). The next
    /// one carries it.
    NonceWanted(TokenRefusal),
}

impl Asked {
    /// The answer, where a second nonce in a row would be no better than the first.
    pub(crate) fn finally(self) -> TokenAnswer {
        match self {
            Self::Answered(answer) => answer,
            Self::NonceWanted(refusal) => TokenAnswer::Refused(refusal),
        }
    }
}

/// An access token, and what it takes to use it.
#[derive(Clone, Copy)]
pub(crate) struct UsableToken<'a> {
    pub(crate) access_token: &'a Secret,
    /// `Bearer` or `DPoP`.
    pub(crate) token_type: &'a str,
    /// The session's key, if it has one.
    pub(crate) key: Option<&'a DpopKey>,
}

/// A request to the token endpoint brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenRequestError {
    /// Where the token endpoint is cannot be learnt. Nothing was sent.
    #[error("where its token endpoint is cannot be learnt")]
    Metadata(#[source] MetadataUnavailable),
    /// It takes no client authentication that we have. Nothing was sent.
    #[error("we cannot prove to it who we are")]
    ClientAuthentication(#[source] NoUsableClientAuthentication),
    /// On the way there or back.
    #[error("its token endpoint did not answer")]
    Transport(#[source] TransportError),
}

/// A refresh cannot be asked for now. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTurn {
    /// It failed others, and is asked again after this long.
    #[error("it failed others and is left alone")]
    LeftAlone(Duration),
    /// Where the token endpoint is cannot be learnt.
    #[error("where its token endpoint is cannot be learnt")]
    Metadata(#[source] MetadataUnavailable),
}

/// The provider refuses this client, whatever it asks for: its id, its secret or how it proves itself is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the provider refuses this client")]
pub struct ClientRefused {
    #[source]
    why: Box<dyn std::error::Error + Send + Sync>,
    wants_proof: bool,
}

impl ClientRefused {
    /// Whether it is refused because tokens are not bound to a key (DPoP, RFC 9449), or not so that the provider is content.
    pub fn wants_proof(&self) -> bool {
        self.wants_proof
    }
}

/// A signed token was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError<E: std::error::Error + 'static> {
    /// A rule refused it.
    #[error("its token was refused")]
    Rejected(#[source] E),
    /// The keys to check it with cannot be had.
    #[error("its token cannot be checked")]
    KeysUnavailable(#[source] KeysUnavailable),
}

/// There are no claims from userinfo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserInfoFailure {
    /// It could not be asked now.
    #[error("its userinfo endpoint did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not take this token.
    #[error("its userinfo endpoint answered with status {0}")]
    Status(StatusCode),
    /// A check refused the answer.
    #[error("its userinfo was refused")]
    Rejected(#[source] UserInfoError),
}

impl Provider {
    /// Takes a description. The provider is not asked until it is needed.
    pub fn new(config: ProviderConfig, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        let config = Arc::new(config);
        let turns = Turns::new(&config.name, config.refreshing.requests_in_flight.get());
        let (metadata, keys, runner) = (Metadata::new(), Keys::default(), TokioTasks::shared());
        let (entropy, nonces) = (Arc::new(SystemEntropy), Nonces::default());
        let signs_with = Mutex::default();
        Self { config, transport, clock, entropy, metadata, keys, nonces, turns, runner, signs_with }
    }

    /// Takes randomness from `entropy`, and has the fetches that nobody may cancel done by `runner`.
    pub(crate) fn run_on(&mut self, runner: &Arc<dyn Tasks>, entropy: &Arc<dyn Entropy>) {
        self.runner = runner.clone();
        self.entropy = entropy.clone();
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What is configured of it.
    pub fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// What it says of itself; asked at first use, then renewed in the background.
    pub async fn metadata(&self) -> Result<Arc<ProviderMetadata>, MetadataUnavailable> {
        self.metadata.get(&self.config, &self.transport, &self.clock, &self.runner).await
    }

    /// The value of `prompt` by which it lets the user choose the account. Where its metadata cannot be had, a guess: the
    /// login itself will tell.
    pub async fn account_prompt(&self) -> &'static str {
        self.metadata().await.map_or("login", |metadata| prompt::account_prompt(&metadata))
    }

    /// What becomes of a refresh token of `issuer` whose answer was lost.
    pub(crate) fn lost_answer(&self, issuer: &str) -> LostAnswer {
        self.config.refreshing.lost_answer.unwrap_or_else(|| LostAnswer::of_issuer(issuer))
    }

    /// Waits for the turn to ask for a refresh, and until it is known whom to ask: from then on nothing stands between
    /// the decision to send a refresh token and its sending. `spread` is a random number from 0 to 1.
    pub(crate) async fn take_turn(&self, spread: f64) -> Result<Turn, NoTurn> {
        let turn = self.turns.take().await.map_err(|LeftAlone { rest }| NoTurn::LeftAlone(rest))?;
        match self.metadata().await {
            Ok(_) => Ok(turn),
            Err(error) => {
                turn.settle(Verdict::FAILED, spread);
                Err(NoTurn::Metadata(error))
            }
        }
    }

    /// How we prove to a provider that says this of itself who we are.
    pub fn client_auth_method(
        &self,
        metadata: &ProviderMetadata,
    ) -> Result<ClientAuthMethod, NoUsableClientAuthentication> {
        self.client_authentication(metadata).map(|client| client.method())
    }

    /// Asks whether the provider takes us for the client that we say we are, by an authorization code that cannot be good:
    /// a client that is refused is refused before its code (RFC 6749, section 5.2, `invalid_client`).
    ///
    /// A provider that is away, or that answers anything else, has not refused us. Dropping the future is safe.
    pub async fn check_client(&self, redirect_uri: &Url, no_code: &Secret) -> Result<(), ClientRefused> {
        // Who wants proofs may look at them first of all. The key is for this request alone.
        let algorithm = match self.metadata().await {
            Ok(metadata) => self.dpop_algorithm(&metadata).ok().flatten(),
            Err(_) => None,
        };
        let key = algorithm.map(|algorithm| new_dpop_key(&*self.entropy, algorithm));
        let ask = |client| TokenRequest::authorization_code(client, no_code, redirect_uri, no_code, &[]);
        let answer = match self.ask_for_tokens(Connection::Kept, key.as_ref(), ask).await {
            Ok(Asked::NonceWanted(_)) => self.ask_for_tokens(Connection::Kept, key.as_ref(), ask).await,
            asked => asked,
        };
        let answer = answer.map(Asked::finally);
        let wants_proof =
            matches!(&answer, Ok(TokenAnswer::Refused(refusal)) if refusal.is_about_dpop_proofs());
        match TokenOutcome::of(answer) {
            TokenOutcome::Misconfigured(why) => Err(ClientRefused { why, wants_proof }),
            _ => Ok(()),
        }
    }

    /// Redeems an authorization code. It waits for no turn, even while refreshes are held back: a user waits for it, and
    /// logins are as many as users make. One that goes well tells the refreshes that the provider is back; one that
    /// fails does not count against it, as nobody is to be kept from refreshing by others' logins.
    pub(crate) async fn redeem_code(
        &self,
        code: &AuthorizedCode,
        verifier: &Secret,
        redirect_uri: &Url,
        resources: &[ResourceIndicator],
        key: Option<&DpopKey>,
    ) -> Result<TokenAnswer, TokenRequestError> {
        let request = |client| {
            TokenRequest::authorization_code(client, code.as_secret(), redirect_uri, verifier, resources)
        };
        // A code is good for one request.
        let answer = match self.ask_for_tokens(Connection::New, key, request).await {
            Ok(Asked::NonceWanted(_)) => self.ask_for_tokens(Connection::New, key, request).await,
            asked => asked,
        };
        counting::token_answer(self.name(), "authorization_code", outcome_code(&answer));
        let answer = answer.map(Asked::finally);
        if let Ok(TokenAnswer::Granted(_)) = &answer {
            self.turns.heard_of();
        }
        answer
    }

    /// Spends a refresh token. Unless it fails with something that says that nothing was sent, or a nonce is wanted, the token
    /// may be used up.
    pub(crate) async fn refresh(
        &self,
        refresh_token: &Secret,
        resources: &[ResourceIndicator],
        key: Option<&DpopKey>,
        connection: Connection,
    ) -> Result<Asked, TokenRequestError> {
        let request = |client| TokenRequest::refresh_token(client, refresh_token, resources);
        let answer = self.ask_for_tokens(connection, key, request).await;
        counting::token_answer(self.name(), "refresh_token", outcome_code(&answer));
        answer
    }

    async fn ask_for_tokens(
        &self,
        connection: Connection,
        key: Option<&DpopKey>,
        request: impl FnOnce(ClientProof) -> TokenRequest,
    ) -> Result<Asked, TokenRequestError> {
        let metadata = self.metadata().await.map_err(TokenRequestError::Metadata)?;
        let proof = self.client_proof(&metadata).map_err(TokenRequestError::ClientAuthentication)?;
        let endpoint = &metadata.token_endpoint;
        let mut request = request(proof);
        let nonce = key.and_then(|_| self.nonces.of(Server::Token));
        if let Some(key) = key {
            let proof = self.dpop_proof(key, "POST", endpoint, None, nonce.as_ref());
            request.headers.push((dpop::PROOF, proof));
        }
        let request = form(endpoint, &request, TokenAnswer::MAX_BYTES, connection);
        let answer = self.transport.send(request).await.map_err(TokenRequestError::Transport)?;
        let has_another_nonce = key.is_some() && self.nonces.learn(Server::Token, &answer, nonce.as_ref());
        let parsed = parse_token_answer(
            answer.status.as_u16(),
            answer.header(header::CONTENT_TYPE),
            answer.header(header::RETRY_AFTER),
            &answer.body,
            self.clock.now(),
        );
        Ok(match parsed {
            TokenAnswer::Refused(refusal) if refusal.wants_dpop_nonce() && has_another_nonce => {
                Asked::NonceWanted(refusal)
            }
            answer => Asked::Answered(answer.expecting(self.expected_token_type(key))),
        })
    }

    fn client_authentication(
        &self,
        metadata: &ProviderMetadata,
    ) -> Result<ClientAuthentication, NoUsableClientAuthentication> {
        let (client_id, credential) = (self.config.client_id.as_str(), &self.config.credential);
        match self.config.client_auth_method {
            Some(method) => ClientAuthentication::by(method, client_id, credential, metadata),
            None => ClientAuthentication::choose(client_id, credential, metadata),
        }
    }

    /// Proves who we are, for one request.
    fn client_proof(&self, metadata: &ProviderMetadata) -> Result<ClientProof, NoUsableClientAuthentication> {
        let client = self.client_authentication(metadata)?;
        let audience = self
            .config
            .assertion_audience
            .unwrap_or_else(|| AssertionAudience::of_issuer(metadata.issuer.as_str()));
        Ok(client.prove(&ProofContext {
            audience: audience.of(metadata),
            now: self.clock.now(),
            id: &self.entropy.token(),
        }))
    }

    /// Verifies the ID token of a login whose request was sent at `sent_at` (OpenID Connect Core, section 3.1.3.7).
    pub(crate) async fn verify_login(
        &self,
        token: &RawIdToken,
        nonce: &Secret,
        access_token: &Secret,
        demands: &AuthenticationDemands,
        sent_at: Timestamp,
    ) -> Result<VerifiedIdToken, VerifyError<IdTokenError>> {
        let metadata = self.metadata_for_keys().await.map_err(VerifyError::KeysUnavailable)?;
        let algorithms = AllowedAlgorithms::of_provider(&metadata);
        let expect = IdTokenExpectations {
            leeway: self.config.clock_leeway,
            trusted_audiences: &self.config.trusted_audiences,
            acr: &demands.acr,
            max_age: match demands.max_age() {
                Some(age) => MaxAuthenticationAge::AtMost { age, sent_at },
                None => MaxAuthenticationAge::Unlimited,
            },
            ..IdTokenExpectations::new(
                &metadata.issuer,
                &self.config.client_id,
                &algorithms,
                ExpectedNonce::Exactly(nonce),
                AccessTokenBinding::IssuedWith(access_token),
                self.clock.now(),
            )
        };
        let verified = self
            .with_keys(&metadata, |keys| token.verify(keys, &expect), IdTokenError::wants_newer_keys)
            .await?;
        self.signs_with(verified.algorithm());
        Ok(verified)
    }

    /// Verifies the ID token of a refresh (OpenID Connect Core, section 12.2).
    pub(crate) async fn verify_refreshed(
        &self,
        token: &RawIdToken,
        original: &OriginalIdentity,
        access_token: &Secret,
    ) -> Result<VerifiedIdToken, VerifyError<RefreshedIdTokenError>> {
        let metadata = self.metadata_for_keys().await.map_err(VerifyError::KeysUnavailable)?;
        let algorithms = AllowedAlgorithms::of_provider(&metadata);
        let expect = RefreshExpectations {
            client_id: &self.config.client_id,
            trusted_audiences: &self.config.trusted_audiences,
            algorithms: &algorithms,
            access_token: AccessTokenBinding::IssuedWith(access_token),
            now: self.clock.now(),
            leeway: self.config.clock_leeway,
        };
        let verify = |keys: &JwkSet| verify_refreshed(token, keys, original, &expect);
        let verified = self.with_keys(&metadata, verify, RefreshedIdTokenError::wants_newer_keys).await?;
        self.signs_with(verified.algorithm());
        Ok(verified)
    }

    fn signs_with(&self, algorithm: SigningAlgorithm) {
        *self.signs_with.lock().unwrap_or_else(PoisonError::into_inner) = Some(algorithm);
    }

    /// How the provider signs what it sends to this client, once an ID token has shown it.
    pub(crate) fn registered_algorithm(&self) -> Option<SigningAlgorithm> {
        *self.signs_with.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies a logout token (OpenID Connect Back-Channel Logout, section 2.6). It must be signed as this client's ID
    /// tokens are; as long as none was seen, as the provider lists it.
    pub(crate) async fn verify_logout(
        &self,
        token: &RawLogoutToken,
    ) -> Result<VerifiedLogoutToken, VerifyError<LogoutTokenError>> {
        let metadata = self.metadata_for_keys().await.map_err(VerifyError::KeysUnavailable)?;
        let algorithms = match self.registered_algorithm() {
            Some(algorithm) => AllowedAlgorithms::only([algorithm]),
            None => AllowedAlgorithms::of_provider(&metadata),
        };
        let expect = LogoutTokenExpectations {
            issuer: &metadata.issuer,
            client_id: &self.config.client_id,
            algorithms: &algorithms,
            now: self.clock.now(),
            leeway: self.config.clock_leeway,
        };
        let verify = |keys: &JwkSet| token.verify(keys, &expect);
        self.with_keys(&metadata, verify, LogoutTokenError::wants_newer_keys).await
    }

    /// Asks for the claims of the user whom the access token is of. `None` where there is nothing to ask.
    pub(crate) async fn userinfo(
        &self,
        token: UsableToken<'_>,
        subject: &str,
    ) -> Result<Option<UserInfo>, UserInfoFailure> {
        if !self.config.userinfo {
            return Ok(None);
        }
        let unavailable =
            |error: Box<dyn std::error::Error + Send + Sync>| UserInfoFailure::Unavailable(error);
        let metadata = self.metadata().await.map_err(|error| unavailable(error.into()))?;
        let Some(endpoint) = &metadata.userinfo_endpoint else { return Ok(None) };
        let ask = async || {
            let answer = self.ask_userinfo(endpoint, token).await;
            answer.map_err(|error| unavailable(error.into()))
        };
        let answer = match ask().await? {
            (_, true) => ask().await?.0,
            (answer, false) => answer,
        };
        if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(unavailable(format!("it answers with status {}", answer.status).into()));
        }
        if answer.status != StatusCode::OK {
            return Err(UserInfoFailure::Status(answer.status));
        }
        match parse_userinfo(answer.header(header::CONTENT_TYPE), &answer.body, subject) {
            Ok(userinfo) => Ok(Some(userinfo)),
            Err(UserInfoError::Signed) => {
                self.signed_userinfo(&metadata, &answer.body, subject).await.map(Some)
            }
            Err(error) => Err(UserInfoFailure::Rejected(error)),
        }
    }

    /// Sends one request to userinfo. The flag says that it was refused for the want of a nonce that we have now (RFC 9449,
    /// section 9).
    async fn ask_userinfo(
        &self,
        endpoint: &Url,
        token: UsableToken<'_>,
    ) -> Result<(ProviderAnswer, bool), TransportError> {
        let UsableToken { access_token, token_type, key } = token;
        let key = key.filter(|_| token_type == "DPoP");
        let scheme = if key.is_some() { "DPoP" } else { "Bearer" };
        let authorization = Secret::new(format!("{scheme} {}", access_token.expose()));
        let nonce = key.and_then(|_| self.nonces.of(Server::UserInfo));
        let proof = key.map(|key| self.dpop_proof(key, "GET", endpoint, Some(access_token), nonce.as_ref()));
        let headers =
            [Some(("authorization", &authorization)), proof.as_ref().map(|proof| (dpop::PROOF, proof))];
        let request = ProviderRequest {
            method: Method::GET,
            url: endpoint.clone(),
            headers: headers
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| sensitive(name, value))
                .collect(),
            body: Bytes::new(),
            answer_limit: UserInfo::MAX_BYTES,
            connection: Connection::Kept,
        };
        let answer = self.transport.send(request).await?;
        let has_another_nonce = key.is_some() && self.nonces.learn(Server::UserInfo, &answer, nonce.as_ref());
        let wants_it = has_another_nonce && answer.status == StatusCode::UNAUTHORIZED;
        Ok((answer, wants_it))
    }

    async fn signed_userinfo(
        &self,
        metadata: &ProviderMetadata,
        body: &[u8],
        subject: &str,
    ) -> Result<UserInfo, UserInfoFailure> {
        let algorithms = AllowedAlgorithms::of_userinfo(metadata);
        let expect = SignedUserInfoExpectations {
            issuer: &metadata.issuer,
            client_id: &self.config.client_id,
            algorithms: &algorithms,
            subject,
            now: self.clock.now(),
            leeway: self.config.clock_leeway,
        };
        let verify = |keys: &JwkSet| verify_signed_userinfo(body, keys, &expect);
        self.with_keys(metadata, verify, UserInfoError::wants_newer_keys).await.map_err(|error| match error {
            VerifyError::Rejected(error) => UserInfoFailure::Rejected(error),
            VerifyError::KeysUnavailable(error) => UserInfoFailure::Unavailable(error.into()),
        })
    }

    async fn metadata_for_keys(&self) -> Result<Arc<ProviderMetadata>, KeysUnavailable> {
        self.metadata().await.map_err(KeysUnavailable::NoMetadata)
    }

    /// Verifies with the keys at hand, and once more with new ones if the token names a key that is not among them
    /// (OpenID Connect Core, section 10.1.1).
    async fn with_keys<T, E: std::error::Error + 'static>(
        &self,
        metadata: &ProviderMetadata,
        verify: impl Fn(&JwkSet) -> Result<T, E>,
        wants_newer_keys: impl Fn(&E) -> bool,
    ) -> Result<T, VerifyError<E>> {
        let get = async |wanted: Wanted<'_>| {
            self.keys
                .get(wanted, &metadata.jwks_uri, &self.transport, &self.clock, &self.runner)
                .await
                .map_err(VerifyError::KeysUnavailable)
        };
        let keys = get(Wanted::Known).await?;
        match verify(&keys) {
            Err(error) if wants_newer_keys(&error) => {
                let newer = get(Wanted::OtherThan(&keys)).await?;
                if Arc::ptr_eq(&keys, &newer) {
                    return Err(VerifyError::Rejected(error));
                }
                verify(&newer).map_err(VerifyError::Rejected)
            }
            verified => verified.map_err(VerifyError::Rejected),
        }
    }
}

/// What came of a token request, for metrics.
fn outcome_code(answer: &Result<Asked, TokenRequestError>) -> &'static str {
    match answer {
        Ok(Asked::Answered(TokenAnswer::Granted(_))) => "granted",
        Ok(Asked::Answered(TokenAnswer::Refused(_)) | Asked::NonceWanted(_)) => "refused",
        Ok(Asked::Answered(TokenAnswer::Unavailable { .. })) => "unavailable",
        Ok(_) => "malformed",
        Err(TokenRequestError::Transport(TransportError::AnswerLost { .. })) => "lost",
        Err(_) => "not_sent",
    }
}

/// The request that carries a form.
fn form(
    endpoint: &Url,
    request: &TokenRequest,
    answer_limit: usize,
    connection: Connection,
) -> ProviderRequest {
    ProviderRequest {
        method: Method::POST,
        url: endpoint.clone(),
        headers: request.headers.iter().filter_map(|(name, value)| sensitive(name, value)).collect(),
        body: Bytes::copy_from_slice(request.body.expose().as_bytes()),
        answer_limit,
        connection,
    }
}

/// A header field that carries, or may carry, a credential. `None` if the value cannot stand in one.
fn sensitive(name: &'static str, value: &Secret) -> Option<(header::HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some((header::HeaderName::from_static(name), value))
}
