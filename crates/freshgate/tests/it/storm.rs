//! Many sessions of one provider, and a provider whose answers are lost: who asks it, when, and how often.

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use freshgate::{
    Engine, Timestamp,
    clock::Clock,
    engine::{Opened, RefreshError, RefreshOutcome, TryLater},
    provider::{
        Connection, LostAnswer, ProviderAnswer, ProviderRequest, Refreshing, Transport, TransportError,
    },
    session::{EndReason, FreshSession, SessionKey},
    store::{MemoryStore, Store},
};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use crate::{
    provider::ScriptedProvider,
    setting::{START, TestClock, engine_of, sign_in, until},
};

type Answer = Result<(FreshSession, RefreshOutcome), RefreshError>;

const PATIENCE: Duration = Duration::from_secs(600);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What happens to a refresh request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    /// Nothing reaches the provider.
    NotReached,
    /// This status and Retry-After.
    Status(u16, &'static str),
    /// Sent and used, and a gateway gives up waiting for the answer.
    UsedBehindGateway,
    /// The token was revoked.
    Revoked,
    /// Sent, and cut on the way there; nobody here can tell it from the next.
    LostOnTheWay,
    /// Sent and used, and its answer is cut.
    AnswerLost,
    /// Sent and used, and the answer holds nothing but the next refresh token.
    NoAccessToken,
}

/// The scripted provider, with a refresh token for each of many sessions.
struct Crowd {
    logins: Arc<ScriptedProvider>,
    state: Mutex<State>,
    /// Requests wait here while they are on the wire, if the test wants them to.
    wire: Semaphore,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

struct State {
    live: BTreeSet<String>,
    serial: u32,
    presented: Vec<String>,
    connections: Vec<Connection>,
    /// For the next requests, one after the other; then for all others.
    fates: VecDeque<Fate>,
    fate: Fate,
    latency: Duration,
    /// Whether a refresh token is spent when it is used.
    rotates: bool,
}

impl Crowd {
    fn new(clock: Arc<TestClock>) -> Arc<Self> {
        let state = State {
            live: BTreeSet::new(),
            serial: 1_000_000,
            presented: Vec::new(),
            connections: Vec::new(),
            fates: VecDeque::new(),
            fate: Fate::Answered,
            latency: Duration::from_millis(50),
            rotates: true,
        };
        Arc::new(Self {
            logins: ScriptedProvider::new(clock),
            state: Mutex::new(state),
            wire: Semaphore::new(Semaphore::MAX_PERMITS),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        })
    }

    fn set_fate(&self, fate: Fate) {
        self.state.lock().unwrap().fate = fate;
    }

    fn next(&self, fates: &[Fate]) {
        self.state.lock().unwrap().fates.extend(fates);
    }

    fn presented(&self) -> Vec<String> {
        self.state.lock().unwrap().presented.clone()
    }

    fn requests(&self) -> usize {
        self.state.lock().unwrap().presented.len()
    }

    async fn refresh(&self, token: String, connection: Connection) -> Result<ProviderAnswer, TransportError> {
        let (fate, latency) = {
            let mut state = self.state.lock().unwrap();
            state.presented.push(token.clone());
            state.connections.push(connection);
            (state.fates.pop_front().unwrap_or(state.fate), state.latency)
        };
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        self.wire.acquire().await.unwrap().forget();
        tokio::time::sleep(latency).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let (host, source) = ("provider.test".to_owned(), "as the test wants".into());
        match fate {
            Fate::NotReached => return Err(TransportError::NotSent { host, source }),
            Fate::LostOnTheWay => return Err(TransportError::AnswerLost { host, source }),
            Fate::Status(status, retry_after) => return Ok(answer(status, retry_after, &json!({}))),
            Fate::Answered
            | Fate::AnswerLost
            | Fate::NoAccessToken
            | Fate::UsedBehindGateway
            | Fate::Revoked => {}
        }
        let mut state = self.state.lock().unwrap();
        if let Fate::Revoked = fate {
            state.live.remove(&token);
        }
        if !state.live.contains(&token) {
            return Ok(answer(400, "", &json!({"error": "invalid_grant"})));
        }
        state.serial += 1;
        let next = format!("refresh-{}", state.serial);
        if state.rotates {
            state.live.remove(&token);
        }
        state.live.insert(next.clone());
        if let Fate::AnswerLost = fate {
            return Err(TransportError::AnswerLost { host, source });
        }
        if let Fate::UsedBehindGateway = fate {
            return Ok(answer(504, "", &json!({})));
        }
        if let Fate::NoAccessToken = fate {
            return Ok(answer(200, "", &json!({"token_type": "Bearer", "refresh_token": next})));
        }
        let tokens = json!({
            "access_token": format!("access-{}", state.serial), "token_type": "Bearer", "expires_in": 300,
            "refresh_token": next,
        });
        Ok(answer(200, "", &tokens))
    }
}

fn answer(status: u16, retry_after: &str, body: &Value) -> ProviderAnswer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    if !retry_after.is_empty() {
        headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
    }
    ProviderAnswer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_string().into() }
}

#[async_trait]
impl Transport for Crowd {
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
        let form: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
        if let Some((_, token)) = form.into_iter().find(|(name, _)| name == "refresh_token") {
            return self.refresh(token, request.connection).await;
        }
        let is_login = request.method == Method::POST && request.url.path() == "/token";
        let answer = self.logins.send(request).await?;
        if is_login {
            let tokens: Value = serde_json::from_slice(&answer.body).unwrap();
            self.state.lock().unwrap().live.insert(tokens["refresh_token"].as_str().unwrap().to_owned());
        }
        Ok(answer)
    }
}

/// The wall clock of a test whose time is virtual.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(START) + self.0.elapsed()
    }
}

/// An engine in virtual time, and its crowd.
struct World {
    crowd: Arc<Crowd>,
    clock: Arc<VirtualClock>,
    store: Arc<dyn Store>,
    refreshing: Refreshing,
    engine: Engine,
}

impl World {
    fn new(refreshing: Refreshing) -> Self {
        let clock = Arc::new(VirtualClock(Instant::now()));
        let crowd = Crowd::new(TestClock::new());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let engine = engine_of(clock.clone(), crowd.clone(), store.clone(), refreshing);
        Self { crowd, clock, store, refreshing, engine }
    }

    fn with(lost_answer: LostAnswer) -> Self {
        Self::new(Refreshing { lost_answer: Some(lost_answer), ..Refreshing::default() })
    }

    /// Another engine on the same store, as in another process.
    fn another_engine(&self) -> Engine {
        engine_of(self.clock.clone(), self.crowd.clone(), self.store.clone(), self.refreshing)
    }

    async fn signed_in(&self) -> SessionKey {
        sign_in(&self.engine, &self.crowd.logins).await.key()
    }

    async fn refresh(&self, key: SessionKey) -> Answer {
        self.engine.refresh(key, PATIENCE).await
    }
}

fn failure(answer: Answer) -> (&'static str, Duration) {
    match answer {
        Err(RefreshError::TryLater(TryLater { failure, retry_after })) => (failure.code(), retry_after),
        other => panic!("not `TryLater`: {other:?}"),
    }
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown)))
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_for_hundreds_is_asked_by_a_handful_and_comes_back_without_a_stampede() {
    for (down, many) in [(Fate::NotReached, 500), (Fate::Status(503, ""), 100)] {
        let world = World::new(Refreshing::default());
        let mut keys = Vec::new();
        for _ in 0..many {
            keys.push(world.signed_in().await);
        }
        tokio::time::sleep(seconds(400)).await;
        world.crowd.set_fate(down);

        let mut sessions = JoinSet::new();
        for key in keys.iter().copied() {
            let engine = world.engine.clone();
            // As an app that asks again when it is told to.
            sessions.spawn(async move {
                loop {
                    match engine.fresh(key, None, PATIENCE).await {
                        Ok((session, _)) => return session.access_token().expose().to_owned(),
                        Err(RefreshError::TryLater(try_later)) => {
                            tokio::time::sleep(try_later.retry_after).await;
                        }
                        Err(error) => panic!("{down:?}: {error:?}"),
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        let at_once = world.crowd.requests();
        assert!(at_once <= 8, "{down:?}: {at_once} of {many} asked at once");
        tokio::time::sleep(seconds(300)).await;
        let while_down = world.crowd.requests();
        // 1, 2, 4, 8 and then 16 seconds apart, or half of it.
        assert!((8 + 20..=8 + 45).contains(&while_down), "{down:?}: {while_down} in five minutes");
        for key in &keys {
            assert!(matches!(world.engine.open(*key).await.unwrap(), Opened::Open(_)), "{down:?}");
        }

        world.crowd.set_fate(Fate::Answered);
        world.crowd.most_in_flight.store(0, Ordering::SeqCst);
        let back = Instant::now();
        let mut access_tokens = BTreeSet::new();
        let mut first = None;
        while let Some(token) = sessions.join_next().await {
            first.get_or_insert_with(|| back.elapsed());
            access_tokens.insert(token.unwrap());
        }
        assert!(first.unwrap() <= seconds(17), "{down:?}: asked again {first:?} after it was back");
        assert!(back.elapsed() <= seconds(70), "{down:?}: all are well after {:?}", back.elapsed());
        assert_eq!(access_tokens.len(), many, "{down:?}: each has a new token of its own");
        let most = world.crowd.most_in_flight.load(Ordering::SeqCst);
        assert!((9..=64).contains(&most), "{down:?}: {most} at once");
        let answered = world.crowd.requests() - while_down;
        assert!((many..=many + 1).contains(&answered), "{down:?}: {answered} requests for {many} sessions");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_says_when_it_is_back_is_left_alone_by_everyone() {
    let world = World::new(Refreshing::default());
    let (one, other) = (world.signed_in().await, world.signed_in().await);
    world.crowd.next(&[Fate::Status(503, "20")]);
    assert_eq!(failure(world.refresh(one).await), ("provider_unavailable", seconds(20)));
    let (code, retry_after) = failure(world.refresh(other).await);
    assert_eq!(code, "provider_down");
    assert!(retry_after > seconds(19) && retry_after <= seconds(20), "{retry_after:?}");
    assert_eq!(world.crowd.requests(), 1);
    tokio::time::sleep(retry_after).await;
    world.refresh(other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_many_is_up() {
    let world = World::new(Refreshing::default());
    let mut keys = Vec::new();
    for _ in 0..20 {
        keys.push(world.signed_in().await);
    }
    world.crowd.state.lock().unwrap().live.clear();
    for key in keys {
        let answer = world.refresh(key).await;
        assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Refused))), "{answer:?}");
    }
    assert_eq!(world.crowd.requests(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_goes_well_ends_the_rest() {
    let world = World::new(Refreshing::default());
    let key = world.signed_in().await;
    let other = world.signed_in().await;
    world.crowd.next(&[Fate::Status(503, "100")]);
    failure(world.refresh(other).await);
    assert_eq!(failure(world.refresh(key).await).0, "provider_down");
    world.signed_in().await;
    world.refresh(key).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_turn_waits_no_longer_than_it_wants_and_holds_no_lease() {
    let world = World::new(Refreshing { requests_in_flight: NonZeroUsize::MIN, ..Refreshing::default() });
    let (one, other) = (world.signed_in().await, world.signed_in().await);
    world.crowd.wire.forget_permits(Semaphore::MAX_PERMITS);
    let first = tokio::spawn({
        let engine = world.engine.clone();
        async move { engine.refresh(one, PATIENCE).await }
    });
    while world.crowd.requests() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(failure(world.engine.refresh(other, seconds(5)).await).0, "deadline");
    assert_eq!(world.crowd.requests(), 1, "it waits for its turn yet");
    // Another gate, which has turns of its own, need not wait for it: there is no lease.
    let asked = Instant::now();
    world.crowd.wire.add_permits(1);
    first.await.unwrap().unwrap();
    world.crowd.wire.add_permits(100);
    world.engine.finish().await;
    world.another_engine().refresh(other, PATIENCE).await.unwrap();
    assert!(asked.elapsed() < seconds(1), "{:?}", asked.elapsed());
    let presented = world.crowd.presented();
    assert_eq!(presented.iter().collect::<BTreeSet<_>>().len(), presented.len(), "{presented:?}");
}

#[tokio::test(start_paused = true)]
async fn another_gate_takes_the_lease_that_one_who_waits_for_a_turn_does_not_hold() {
    let world = World::new(Refreshing { requests_in_flight: NonZeroUsize::MIN, ..Refreshing::default() });
    let (one, other) = (world.signed_in().await, world.signed_in().await);
    world.crowd.wire.forget_permits(Semaphore::MAX_PERMITS);
    let spawn = |engine: Engine, key| tokio::spawn(async move { engine.refresh(key, PATIENCE).await });
    let first = spawn(world.engine.clone(), one);
    while world.crowd.requests() == 0 {
        tokio::task::yield_now().await;
    }
    let waits = spawn(world.engine.clone(), other);
    tokio::time::sleep(seconds(1)).await;
    let goes = spawn(world.another_engine(), other);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(world.crowd.requests(), 2, "the other gate asks for the second session at once");
    world.crowd.wire.add_permits(100);
    for caller in [first, waits, goes] {
        caller.await.unwrap().unwrap();
    }
    let presented = world.crowd.presented();
    assert_eq!(presented.iter().collect::<BTreeSet<_>>().len(), presented.len(), "{presented:?}");
}

#[tokio::test(start_paused = true)]
async fn one_retry_at_once_and_no_more() {
    let world = World::with(LostAnswer::RetryOnce);
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay]);
    world.refresh(key).await.unwrap();
    assert_eq!(world.crowd.presented(), ["refresh-1", "refresh-1"], "it never arrived");

    world.crowd.next(&[Fate::AnswerLost]);
    assert!(is_unknown(&world.refresh(key).await), "it arrived, and is refused now");

    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay, Fate::LostOnTheWay]);
    let before = world.crowd.requests();
    assert!(is_unknown(&world.refresh(key).await), "lost twice");
    assert_eq!(world.crowd.requests(), before + 2);
    assert!(is_unknown(&world.refresh(key).await));
    assert_eq!(world.crowd.requests(), before + 2, "and never sent again");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_again_has_a_connection_of_its_own() {
    use Connection::{Kept, New};
    let table = [
        (LostAnswer::RetryOnce, vec![Kept, New]),
        (LostAnswer::RetryWithin(seconds(30)), vec![Kept, Kept]),
        (LostAnswer::RetryAlways, vec![Kept, Kept]),
        (LostAnswer::SignInAgain, vec![New]),
    ];
    for (policy, expected) in table {
        let world = World::with(policy);
        let key = world.signed_in().await;
        world.crowd.next(&[Fate::LostOnTheWay]);
        let _ = world.refresh(key).await;
        assert_eq!(world.crowd.state.lock().unwrap().connections, expected, "{policy:?}");
    }
    // As soon as an answer has come, it may be lost again.
    let world = World::with(LostAnswer::RetryOnce);
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay, Fate::NotReached]);
    assert_eq!(failure(world.refresh(key).await).0, "provider_unreachable");
    world.refresh(key).await.unwrap();
    world.refresh(key).await.unwrap();
    assert_eq!(world.crowd.state.lock().unwrap().connections, [Kept, New, New, Kept]);
}

#[tokio::test(start_paused = true)]
async fn the_retry_is_kept_for_later_if_it_cannot_be_sent_at_once() {
    let world = World::with(LostAnswer::RetryOnce);
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay, Fate::NotReached, Fate::Status(503, "")]);
    assert_eq!(failure(world.refresh(key).await).0, "provider_unreachable");
    assert_eq!(failure(world.refresh(key).await).0, "provider_unavailable");
    tokio::time::sleep(seconds(7200)).await;
    world.refresh(key).await.unwrap();
    assert_eq!(world.crowd.presented(), ["refresh-1"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_others_too_is_not_asked_again_at_once() {
    let world = World::with(LostAnswer::RetryOnce);
    let key = world.signed_in().await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(world.signed_in().await);
    }
    world.crowd.next(&[Fate::Status(500, ""); 4]);
    for other in others {
        assert_eq!(failure(world.refresh(other).await).0, "provider_unavailable");
    }
    world.crowd.next(&[Fate::LostOnTheWay]);
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost");
    assert_eq!(world.crowd.requests(), 5, "the retry is kept");
    let (code, rest) = failure(world.refresh(key).await);
    assert_eq!(code, "provider_down");
    tokio::time::sleep(rest).await;
    world.refresh(key).await.unwrap();
    assert_eq!(world.crowd.presented()[4..], ["refresh-1", "refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn within_the_window_a_token_is_sent_as_often_as_it_takes() {
    let world = World::with(LostAnswer::RetryWithin(seconds(30)));
    world.crowd.state.lock().unwrap().rotates = false;
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::AnswerLost; 3]);
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost", "and again at once");
    assert_eq!(world.crowd.requests(), 2);
    let (session, outcome) = world.engine.fresh(key, None, PATIENCE).await.unwrap();
    assert_eq!(
        (session.access_token().expose(), outcome),
        ("access-1", RefreshOutcome::NotNeeded),
        "it serves yet"
    );
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost", "once this time");
    assert_eq!(world.crowd.requests(), 3);
    tokio::time::sleep(seconds(20)).await;
    world.refresh(key).await.unwrap();
    assert_eq!(world.crowd.presented(), ["refresh-1"; 4]);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_used_although_nobody_asks() {
    let world = World::with(LostAnswer::RetryWithin(seconds(30)));
    tokio::spawn(world.engine.clone().refresh_ahead(CancellationToken::new()));
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay; 4]);
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost");
    assert_eq!(world.crowd.requests(), 2);
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(world.crowd.requests(), 5, "as soon as it may be, each time");
    match world.engine.open(key).await.unwrap() {
        Opened::Open(session) => assert_eq!(session.generation(), 2),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_token_has_a_window_of_its_own() {
    let world = World::with(LostAnswer::RetryWithin(seconds(30)));
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay, Fate::NoAccessToken]);
    assert_eq!(failure(world.refresh(key).await).0, "answer_rejected");
    tokio::time::sleep(seconds(3600)).await;
    world.crowd.next(&[Fate::LostOnTheWay]);
    world.refresh(key).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_window_a_token_is_not_sent_again() {
    let world = World::with(LostAnswer::RetryWithin(seconds(30)));
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay, Fate::LostOnTheWay]);
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost");
    tokio::time::sleep(seconds(30)).await;
    assert!(is_unknown(&world.refresh(key).await));
    assert_eq!(world.crowd.requests(), 2);

    // An answer that was waited for until the window closed.
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::LostOnTheWay]);
    world.crowd.state.lock().unwrap().latency = seconds(31);
    assert!(is_unknown(&world.refresh(key).await));
    assert_eq!(world.crowd.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_spends_no_tokens_is_asked_whenever_it_is_there() {
    let world = World::with(LostAnswer::RetryAlways);
    world.crowd.state.lock().unwrap().rotates = false;
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::AnswerLost, Fate::AnswerLost, Fate::LostOnTheWay]);
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost");
    assert_eq!(failure(world.refresh(key).await).0, "answer_lost");
    tokio::time::sleep(seconds(24 * 3600)).await;
    world.refresh(key).await.unwrap();

    // A refusal is not due to an answer that was lost.
    world.crowd.next(&[Fate::LostOnTheWay]);
    world.crowd.state.lock().unwrap().live.clear();
    let answer = world.refresh(key).await;
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Refused))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_forbids_it_is_never_sent_a_token_twice() {
    let world = World::with(LostAnswer::SignInAgain);
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::NotReached]);
    assert_eq!(failure(world.refresh(key).await).0, "provider_unreachable");
    world.crowd.next(&[Fate::LostOnTheWay]);
    assert!(is_unknown(&world.refresh(key).await));
    assert_eq!(world.crowd.requests(), 2, "what was not sent does not count");
}

/// A process dies while a refresh is on the wire; another starts on its store, when the lease is dead by any clock.
/// What a gateway answers while the provider is away, and when it did not see the provider's answer.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_in_the_providers_place_is_no_answer_of_the_provider() {
    for policy in [LostAnswer::RetryOnce, LostAnswer::RetryWithin(seconds(30)), LostAnswer::RetryAlways] {
        // (what comes of each request, how the session ends)
        let table: [(&[Fate], Option<EndReason>); 3] = [
            // An outage, however long: nobody is signed out by it.
            (&[Fate::Status(504, ""), Fate::Status(502, ""), Fate::Status(500, ""), Fate::Answered], None),
            // Used behind the gateway's back: the refusal says no more than that, where tokens are spent.
            (&[Fate::UsedBehindGateway, Fate::Answered], Some(EndReason::OutcomeUnknown)),
            // Known to be good again after that: a refusal is one.
            (&[Fate::Status(504, ""), Fate::Answered, Fate::Revoked], Some(EndReason::Refused)),
        ];
        for (fates, expected) in table {
            let world = World::with(policy);
            let key = world.signed_in().await;
            world.crowd.next(fates);
            let mut ended = None;
            for _ in fates {
                tokio::time::sleep(seconds(40)).await;
                if let Err(RefreshError::SignInAgain(reason)) = world.refresh(key).await {
                    ended = Some(reason);
                }
            }
            let expected = match expected {
                Some(_) if policy == LostAnswer::RetryAlways => Some(EndReason::Refused),
                expected => expected,
            };
            assert_eq!(ended, expected, "{policy:?} {fates:?}");
        }
    }
    // Where it raises an alarm to be sent twice, it is not.
    for status in [500, 502, 504] {
        let world = World::with(LostAnswer::SignInAgain);
        let key = world.signed_in().await;
        world.crowd.next(&[Fate::Status(status, "")]);
        assert!(is_unknown(&world.refresh(key).await), "{status}");
        assert_eq!(world.crowd.requests(), 1);
    }
    let world = World::with(LostAnswer::SignInAgain);
    let key = world.signed_in().await;
    world.crowd.next(&[Fate::Status(503, "")]);
    assert_eq!(failure(world.refresh(key).await).0, "provider_unavailable", "503 says that nothing was done");
    world.refresh(key).await.unwrap();
}

fn restarted(policy: LostAnswer, after: Duration) -> (Answer, usize) {
    let refreshing = Refreshing { lost_answer: Some(policy), ..Refreshing::default() };
    let clock = TestClock::new();
    let crowd = Crowd::new(clock.clone());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let process = tokio::runtime::Runtime::new().unwrap();
    let key = process.block_on(async {
        let engine = engine_of(clock.clone(), crowd.clone(), store.clone(), refreshing);
        let key = sign_in(&engine, &crowd.logins).await.key();
        crowd.wire.forget_permits(Semaphore::MAX_PERMITS);
        tokio::spawn(async move { engine.refresh(key, PATIENCE).await });
        until("the request is on the wire", || crowd.requests() == 1).await;
        key
    });
    process.shutdown_timeout(seconds(10));
    crowd.wire.add_permits(100);
    clock.advance(after);
    let engine = engine_of(clock, crowd.clone(), store, refreshing);
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(engine.refresh(key, PATIENCE));
    (answer, crowd.requests())
}

#[test]
fn an_intent_that_a_dead_process_left_is_settled_by_the_policy() {
    // (policy, when it is found, whether the token is sent again)
    let table = [
        (LostAnswer::RetryOnce, seconds(71), true),
        (LostAnswer::RetryOnce, seconds(86400), true),
        (LostAnswer::RetryWithin(seconds(30)), seconds(71), false),
        (LostAnswer::RetryWithin(seconds(120)), seconds(71), true),
        (LostAnswer::RetryAlways, seconds(86400), true),
        (LostAnswer::SignInAgain, seconds(71), false),
    ];
    for (policy, after, sent_again) in table {
        let (answer, requests) = restarted(policy, after);
        assert_eq!(requests, if sent_again { 2 } else { 1 }, "{policy:?} after {after:?}");
        match sent_again {
            true => assert!(answer.is_ok(), "{policy:?} after {after:?}: {answer:?}"),
            false => assert!(is_unknown(&answer), "{policy:?} after {after:?}: {answer:?}"),
        }
    }
}
