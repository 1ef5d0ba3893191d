//! Who knows what of which refresh token, and what the store holds: the book that the checks are made on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use freshgate::{
    provider::LostAnswer,
    session::{EndReason, SessionKey},
};
use tokio::time::Instant;

use crate::{
    executor::Owner,
    world::{Rotation, Skew, World},
};

/// A rotated token that reached an engine is in the store by then.
const SAVED_WITHIN: Duration = Duration::from_secs(40);

/// A lease outlives so many failed renewals, however long each takes.
const FAILURES_BORNE: usize = 1;

/// A provider that refuses without a word means it if it does so this often, …
const REFUSED_TIMES: usize = 3;
/// … for this long, as far as the clocks of engines agree on it.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What an engine had decided to send before it was told to stop, or before a session ended, is on the wire by then.
const BEGUN: Duration = Duration::from_millis(250);

pub(crate) struct Book {
    world: Arc<World>,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    presentations: Vec<Presentation>,
    unsaved: Vec<Unsaved>,
    /// By refresh token.
    patience: BTreeMap<String, Patience>,
    rows: BTreeMap<SessionKey, Held>,
    families: BTreeMap<SessionKey, u64>,
    /// By the name of the flight: who meant to send what, and when that was written.
    intents: BTreeMap<String, Intent>,
    /// Since when the refresh token of a session may have been used without anybody knowing.
    in_doubt: BTreeMap<SessionKey, Instant>,
    /// Engines that the store failed while they stopped: what they could not write is lost with them.
    gave_up: BTreeSet<Owner>,
}

impl Pages {
    /// What the store holds of the session that a token is of.
    fn held_of(&self, token: &str) -> Option<&Held> {
        let (key, _) = self.families.iter().find(|(_, of)| **of == family(token))?;
        self.rows.get(key)
    }

    /// Whether the store still wants a token: it is good, and what it holds in its place is not.
    fn are_without(&self, unsaved: &Unsaved, good: impl Fn(&str) -> bool) -> bool {
        let wanted = match self.held_of(&unsaved.token) {
            Some(Held::Live(row)) => !good(&row.refresh_token),
            Some(Held::Ended(..)) | None => false,
        };
        wanted && good(&unsaved.token)
    }
}

struct Intent {
    token: String,
    by: Owner,
    at: Instant,
    /// How often any token had been sent before.
    sent_before: usize,
}

struct Presentation {
    token: String,
    by: Owner,
    /// When it was decided. Who stands still between that and sending is rightly taken for dead.
    decided: Instant,
    at: Instant,
    state: Fate,
}

/// What became of a request with a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Flying,
    /// An answer with a new refresh token reached the engine.
    Rotated,
    /// Nobody knows.
    Lost,
    /// The provider used it, and a gateway's failure is all that came back.
    Hidden,
    /// A bare 400: perhaps a refusal.
    WithoutWords,
    /// Whatever came, the token may be sent again.
    MaySendAgain,
}

/// A provider said when to come back with a token.
struct Patience {
    by: Owner,
    since: Instant,
    until: Instant,
}

struct Unsaved {
    token: String,
    by: Owner,
    /// When it was decided to ask for it.
    decided: Instant,
    at: Instant,
}

/// What the store holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Held {
    Live(Row),
    Ended(EndReason, Instant),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) refresh_token: String,
    pub(crate) access_token: String,
    pub(crate) generation: u64,
    /// When its time is over, in seconds.
    pub(crate) ends_at: i64,
    /// How many answers count as lost.
    pub(crate) answers_lost: u64,
    /// The flight that has a lease which is not settled.
    pub(crate) intent: Option<String>,
    /// Whether a request may have used the refresh token, and its answer be lost.
    pub(crate) may_be_lost: bool,
}

/// `rt-FAMILY-SERIAL`, perhaps with claims behind a full stop, and `at-FAMILY-SERIAL`.
pub(crate) fn serial(token: &str) -> u64 {
    let name = token.split('.').next().unwrap_or_default();
    name.rsplit('-').next().and_then(|serial| serial.parse().ok()).unwrap_or(0)
}

pub(crate) fn family(token: &str) -> u64 {
    token.split('-').nth(1).and_then(|family| family.parse().ok()).unwrap_or(0)
}

impl Book {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, pages: Mutex::default() })
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An engine sends a refresh token, as it had `decided`. Yields the number of the presentation.
    pub(crate) fn sent(&self, token: &str, by: Owner, decided: Instant) -> usize {
        let mut pages = self.pages();
        // Nothing keeps a process that was suspended in between from sending what others have used meanwhile.
        let asleep = self.world.stood_still_since(by, decided);
        if self.world.dealt.rotation != Rotation::None && self.world.dealt.skew != Skew::Beyond && !asleep {
            for earlier in pages.presentations.iter().filter(|earlier| earlier.token == token) {
                if !self.is_excused(earlier.by, earlier.at)
                    && matches!(earlier.state, Fate::Flying | Fate::Rotated)
                {
                    let what = format!(
                        "engine {by} sends {token}; engine {} sent it {:.3} s ago and lives: {:?}",
                        earlier.by,
                        earlier.at.elapsed().as_secs_f64(),
                        earlier.state
                    );
                    self.world.broken("a refresh token is not sent twice", what);
                }
            }
        }
        if !asleep {
            self.check_policy(&pages, token, by);
            self.check_patience(&pages, token, by, decided);
        }
        self.check_sent_to_the_end(&pages, token, by, decided);
        pages.presentations.push(Presentation {
            token: token.to_owned(),
            by,
            decided,
            at: Instant::now(),
            state: Fate::Flying,
        });
        pages.presentations.len() - 1
    }

    /// A token whose answers were lost is sent again only as the provider's policy has it.
    fn check_policy(&self, pages: &Pages, token: &str, by: Owner) {
        let unknown: Vec<_> = pages
            .presentations
            .iter()
            .filter(|earlier| earlier.token == token && self.is_unknown(earlier))
            .collect();
        let sent_in_vain = |earlier: &Presentation| earlier.token == token && earlier.state == Fate::Hidden;
        if self.world.dealt.lost_answer == LostAnswer::SignInAgain
            && pages
                .presentations
                .iter()
                .any(|earlier| sent_in_vain(earlier) && !self.is_excused(earlier.by, earlier.at))
        {
            let what = format!("engine {by} sends {token} again, which may have been used");
            self.world.broken("lost answers are dealt with as the policy says", what);
        }
        let Some(first) = unknown.first() else { return };
        let since_first = match self.world.dealt.skew {
            // Whoever reads the time of the first loss has another clock than who wrote it.
            Skew::Within | Skew::Beyond => Duration::ZERO,
            Skew::None => first.at.elapsed().saturating_sub(Duration::from_millis(50)),
        };
        let excused = unknown.iter().any(|earlier| {
            self.world.store_failures(earlier.by, earlier.at) > 0
                || self.world.stood_still_since(earlier.by, earlier.at)
        });
        if !excused && !self.world.dealt.lost_answer.allows(unknown.len() as u32, since_first) {
            let what = format!("engine {by} sends {token}, {} answers to which were lost", unknown.len());
            self.world.broken("lost answers are dealt with as the policy says", what);
        }
    }

    /// A provider that says when to come back is left alone until then.
    fn check_patience(&self, pages: &Pages, token: &str, by: Owner, decided: Instant) {
        let Some(patience) = pages.patience.get(token).filter(|patience| decided > patience.since) else {
            return;
        };
        // Clocks that differ have their own idea of when that is. And who died, or could not write it down, told nobody.
        let is_known = self.world.dealt.skew == Skew::None && !self.is_excused(patience.by, patience.since);
        let early = patience.until.saturating_duration_since(Instant::now());
        if is_known && !early.is_zero() {
            let what = format!("engine {by} sends {token} {early:?} earlier than the provider wants");
            self.world.broken("a provider that wants patience gets it", what);
        }
    }

    /// Nothing is sent for a session that ended before it was decided to.
    fn check_sent_to_the_end(&self, pages: &Pages, token: &str, by: Owner, decided: Instant) {
        if let Some(Held::Ended(reason, at)) = pages.held_of(token)
            && decided > *at + BEGUN
            && !self.world.stood_still_since(by, *at)
        {
            let what = format!(
                "engine {by} sends {token}, and the session ended ({}) {:?} before that was decided",
                reason.code(),
                decided - *at
            );
            self.world.broken("nothing is sent for a session that ended", what);
        }
    }

    fn is_unknown(&self, presentation: &Presentation) -> bool {
        presentation.state == Fate::Lost
            || presentation.state == Fate::Flying && self.world.is_dead(presentation.by)
    }

    /// The engine knows what became of its request.
    pub(crate) fn settled(
        &self,
        presentation: usize,
        fate: Fate,
        rotated: Option<&str>,
        patience: Option<Duration>,
    ) {
        let mut pages = self.pages();
        let pages = &mut *pages;
        let presentation = &mut pages.presentations[presentation];
        presentation.state = fate;
        if let Some(patience) = patience {
            let (by, since) = (presentation.by, Instant::now());
            let patience = Patience { by, since, until: since + patience };
            pages.patience.insert(presentation.token.clone(), patience);
        }
        if let Some(rotated) = rotated {
            let (by, decided) = (presentation.by, presentation.decided);
            pages.unsaved.push(Unsaved { token: rotated.to_owned(), by, decided, at: Instant::now() });
        }
    }

    /// An engine that was told to stop at `told` says that it has finished.
    pub(crate) fn finished(&self, engine: Owner, told: Instant, good: impl Fn(&str) -> bool) {
        let mut pages = self.pages();
        if self.world.stood_still_since(engine, told) || self.world.store_failures(engine, told) > 0 {
            pages.gave_up.insert(engine);
            return;
        }
        let flying = pages.presentations.iter().find(|sent| sent.by == engine && sent.state == Fate::Flying);
        let is_lost = |unsaved: &&Unsaved| unsaved.by == engine && pages.are_without(unsaved, &good);
        let unsaved = pages.unsaved.iter().find(is_lost);
        if let Some(token) = flying.map(|sent| &sent.token).or(unsaved.map(|unsaved| &unsaved.token)) {
            let what = format!("engine {engine} has finished, and {token} is under way");
            self.world.broken("what is on the wire lands before an engine stops", what);
        }
        let late = |sent: &&Presentation| sent.by == engine && sent.at > told + BEGUN;
        if let Some(sent) = pages.presentations.iter().find(late) {
            let is_repeated = |earlier: &&Presentation| {
                earlier.token == sent.token && earlier.by == engine && earlier.at <= told + BEGUN
            };
            if !pages.presentations.iter().any(|earlier| is_repeated(&earlier)) {
                let what = format!("engine {engine} sent {} after it was told to stop", sent.token);
                self.world.broken("an engine that stops begins nothing", what);
            }
        }
    }

    /// An engine dropped a request while it lives.
    pub(crate) fn abandoned(&self, token: &str, by: Owner) {
        if !self.world.is_dead(by) {
            let what = format!("engine {by} lives, and dropped its request with {token}");
            self.world.broken("a request under way is not cancelled", what);
        }
    }

    /// For how long the refresh token of a session has been one that may have been used.
    pub(crate) fn in_doubt_for(&self, key: SessionKey) -> Duration {
        self.pages().in_doubt.get(&key).map_or(Duration::ZERO, Instant::elapsed)
    }

    pub(crate) fn row(&self, key: SessionKey) -> Option<Held> {
        self.pages().rows.get(&key).cloned()
    }

    /// A row was written.
    pub(crate) fn written(&self, key: SessionKey, row: Row, by: Owner, tainted: bool) {
        let mut pages = self.pages();
        let intent_before = match pages.rows.get(&key) {
            Some(Held::Live(before)) => before.intent.clone(),
            Some(Held::Ended(..)) | None => None,
        };
        if tainted {
            let what = format!("the store got {} of an answer that a check must refuse", row.access_token);
            self.world.broken("nothing of a rejected answer is kept", what);
        }
        let of = *pages.families.entry(key).or_insert_with(|| family(&row.refresh_token));
        if family(&row.refresh_token) != of || family(&row.access_token) != of {
            self.world.broken("a session keeps its user", format!("{row:?} in the session of family {of}"));
        }
        self.check_lost(&pages, &row);
        if let Some(Held::Live(before)) = pages.rows.get(&key) {
            self.check_intent(&pages, before, &row, by);
        }
        match pages.rows.get(&key) {
            Some(Held::Live(before)) if serial(&row.refresh_token) < serial(&before.refresh_token) => {
                let what = format!("{} was written over {}", row.refresh_token, before.refresh_token);
                self.world.broken("a newer refresh token is not overwritten", what);
            }
            Some(Held::Live(before)) if serial(&row.access_token) < serial(&before.access_token) => {
                let what = format!("{} was written over {}", row.access_token, before.access_token);
                self.world.broken("an answer is not put over a newer one", what);
            }
            Some(Held::Live(before)) if row.generation < before.generation => {
                let what = format!("generation {} after {}", row.generation, before.generation);
                self.world.broken("generations grow", what);
            }
            Some(Held::Ended(reason, _)) => {
                let what = format!("it ended ({}) and is written again", reason.code());
                self.world.broken("what ended stays ended", what);
            }
            _ => {}
        }
        if matches!(pages.rows.get(&key), Some(Held::Live(before)) if before.generation < row.generation) {
            // Who was taken for dead had an answer all the same: the provider is up.
            pages.patience.remove(&row.refresh_token);
        }
        if let Some(holder) = &row.intent
            && row.intent != intent_before
        {
            let intent = Intent {
                token: row.refresh_token.clone(),
                by,
                at: Instant::now(),
                sent_before: pages.presentations.len(),
            };
            pages.intents.insert(holder.clone(), intent);
        }
        pages.unsaved.retain(|unsaved| unsaved.token != row.refresh_token);
        if row.may_be_lost {
            pages.in_doubt.entry(key).or_insert_with(Instant::now);
        } else {
            pages.in_doubt.remove(&key);
        }
        pages.rows.insert(key, Held::Live(row));
    }

    /// An intent is over when it is known what came of it, or when that counts as lost.
    fn check_intent(&self, pages: &Pages, before: &Row, after: &Row, by: Owner) {
        let Some(intent) = before.intent.as_ref().and_then(|holder| pages.intents.get(holder)) else {
            return;
        };
        if before.intent == after.intent
            || before.refresh_token != after.refresh_token
            || before.answers_lost < after.answers_lost
            || self.world.dealt.rotation == Rotation::None
        {
            return;
        }
        if intent.by != by {
            let what = format!("engine {by} settled what engine {} is at: {after:?}", intent.by);
            self.world.broken("nobody settles what another is about to send", what);
        }
        let is_open = |sent: &&Presentation| {
            sent.by == by && sent.token == intent.token && matches!(sent.state, Fate::Flying | Fate::Lost)
        };
        if let Some(sent) = pages.presentations[intent.sent_before..].iter().find(is_open) {
            let what = format!("engine {by} counts {} as not sent: {:?}", sent.token, sent.state);
            self.world.broken("what may have been used counts as used", what);
        }
    }

    /// What is known counts as known, whatever the store does. Who dies or stands still takes what it knows along, and so does
    /// who stops while the store fails.
    fn check_lost(&self, pages: &Pages, row: &Row) {
        if self.world.dealt.crashes > 0
            || self.world.dealt.freezes > 0
            || self.world.dealt.skew == Skew::Beyond
        {
            return;
        }
        let was_away = |engine: Owner, since: Instant| self.world.store_came_back(engine) >= Some(since);
        let is_open = |sent: &&Presentation| {
            let is_known = !matches!(sent.state, Fate::Lost | Fate::Flying);
            // An engine tells the store for some seconds, and then gives up.
            let is_told = !pages.gave_up.contains(&sent.by) && !was_away(sent.by, sent.at);
            sent.token == row.refresh_token && !(is_known && is_told)
        };
        // An engine that cannot say that it sent nothing leaves that to be found out.
        let is_left = |intent: &&Intent| {
            let sent = |sent: &Presentation| {
                sent.token == intent.token && sent.by == intent.by && sent.at >= intent.at
            };
            intent.token == row.refresh_token
                && was_away(intent.by, intent.at)
                && !pages.presentations.iter().any(sent)
        };
        let open = pages.presentations.iter().filter(is_open).count() as u64
            + pages.intents.values().filter(is_left).count() as u64;
        if row.answers_lost > open {
            let what = format!("{} answers count as lost, and {open} are: {row:?}", row.answers_lost);
            self.world.broken("no known outcome counts as lost", what);
        }
    }

    /// A session ended in the store. `good`: whether the provider would have taken the refresh token that was there.
    pub(crate) fn ended(&self, key: SessionKey, reason: EndReason, by: Owner, good: impl Fn(&str) -> bool) {
        let mut pages = self.pages();
        if let (Some(Held::Live(row)), EndReason::Refused | EndReason::OutcomeUnknown) =
            (pages.rows.get(&key), reason)
        {
            let excused = match reason {
                EndReason::Refused => self.was_refused_without_words(&pages, &row.refresh_token),
                _ => row.may_be_lost,
            };
            if good(&row.refresh_token) && !excused {
                let what = format!("ended as {}, and {} is good", reason.code(), row.refresh_token);
                self.world.broken("nobody with a good refresh token is signed out", what);
            }
            self.check_reason(&pages, &row.refresh_token, reason);
            self.check_others(&pages, &row.refresh_token, by, good);
        }
        pages.rows.insert(key, Held::Ended(reason, Instant::now()));
    }

    /// Whether the provider seemed to refuse a token for long enough, though it said nothing.
    fn was_refused_without_words(&self, pages: &Pages, token: &str) -> bool {
        let mut refusals = pages
            .presentations
            .iter()
            .filter(|sent| sent.token == token && sent.state == Fate::WithoutWords)
            .map(|sent| sent.at.elapsed());
        let for_long = |first| first >= REFUSED_FOR || self.world.dealt.skew == Skew::Beyond;
        refusals.next().is_some_and(for_long) && refusals.count() + 1 >= REFUSED_TIMES
    }

    /// A refusal of what may have been used says nothing, and is not called a refusal.
    fn check_reason(&self, pages: &Pages, token: &str, reason: EndReason) {
        let in_doubt = pages
            .presentations
            .iter()
            .find(|sent| sent.token == token && matches!(sent.state, Fate::Lost | Fate::Hidden));
        if let (Some(sent), EndReason::Refused) = (in_doubt, reason)
            && self.world.dealt.rotation != Rotation::None
            && self.world.dealt.skew != Skew::Beyond
        {
            let what = format!("engine {} sent {token} and had no answer, and it ended as refused", sent.by);
            self.world.broken("an outcome that is not known is called so", what);
        }
    }

    /// Nobody ends a session whose refresh token another engine has on the wire, or whose next one that holds already.
    fn check_others(&self, pages: &Pages, token: &str, by: Owner, good: impl Fn(&str) -> bool) {
        if self.world.dealt.skew == Skew::Beyond {
            return;
        }
        let at_work = |other: Owner, since: Instant| other != by && !self.is_excused(other, since);
        let flying = pages
            .presentations
            .iter()
            .find(|sent| sent.token == token && sent.state == Fate::Flying && at_work(sent.by, sent.decided));
        let in_hand = pages.unsaved.iter().find(|held| {
            family(&held.token) == family(token) && good(&held.token) && at_work(held.by, held.decided)
        });
        let other = flying.map(|sent| sent.by).or(in_hand.map(|held| held.by));
        if let Some(other) = other {
            let what = format!("engine {by} ends it while engine {other} is about to refresh it");
            self.world.broken("nobody ends what another is about to refresh", what);
        }
    }

    /// Whether an engine may have been taken for dead since then, though it lives.
    fn is_excused(&self, engine: Owner, since: Instant) -> bool {
        self.world.is_dead(engine)
            || self.world.stood_still_since(engine, since)
            || self.world.store_failures(engine, since) > FAILURES_BORNE
    }

    /// Rotated tokens that reached an engine some time ago and never reached the store.
    pub(crate) fn check_unsaved(&self, good: impl Fn(&str) -> bool) {
        let mut pages = self.pages();
        // While the store is away nothing is saved.
        let since = |unsaved: &Unsaved| {
            self.world.store_came_back(unsaved.by).map_or(unsaved.at, |back| unsaved.at.max(back))
        };
        if pages.unsaved.iter().all(|unsaved| since(unsaved).elapsed() < SAVED_WITHIN) {
            return;
        }
        let unsaved = std::mem::take(&mut pages.unsaved);
        for unsaved in unsaved {
            if !pages.are_without(&unsaved, &good) || self.world.is_dead(unsaved.by) {
                continue;
            }
            if since(&unsaved).elapsed() < SAVED_WITHIN
                || self.world.stood_still_since(unsaved.by, unsaved.at)
            {
                pages.unsaved.push(unsaved);
                continue;
            }
            let what = format!(
                "{} reached engine {} {:.0} s ago; the store has {:?}",
                unsaved.token,
                unsaved.by,
                unsaved.at.elapsed().as_secs_f64(),
                pages.held_of(&unsaved.token)
            );
            self.world.broken("no rotated token that reached us is lost", what);
        }
    }
}
