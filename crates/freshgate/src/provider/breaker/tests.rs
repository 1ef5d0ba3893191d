use super::*;

const UP: Verdict = Verdict::Answered;
const DOWN: Verdict = Verdict::FAILED;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A breaker and a clock.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new(cap: usize) -> Self {
        Self { breaker: Breaker::new(cap), now: Instant::now() }
    }

    fn admit(&mut self) -> Admission {
        self.breaker.admit(self.now)
    }

    /// As many as may go now.
    fn all(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| match self.admit() {
            Admission::Go(ticket) => Some(ticket),
            _ => None,
        })
        .collect()
    }

    fn one(&mut self) -> Ticket {
        match self.admit() {
            Admission::Go(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, ticket: Ticket, verdict: Verdict) -> Option<Turned> {
        self.breaker.settle(ticket, verdict, self.now, 1.0)
    }

    fn ask(&mut self, verdict: Verdict) -> Option<Turned> {
        let ticket = self.one();
        self.settle(ticket, verdict)
    }

    fn rest(&mut self) -> Duration {
        match self.admit() {
            Admission::Rest(rest) => rest,
            other => panic!("{other:?}"),
        }
    }

    /// Fails until it is given up.
    fn given_up() -> Self {
        let mut bench = Self::new(64);
        for _ in 0..FAILURES_TO_OPEN {
            bench.ask(DOWN);
        }
        bench
    }
}

#[test]
fn opens_after_failures_in_a_row() {
    let later = |wanted, everyone| Verdict::Failed { wanted: Some(seconds(wanted)), everyone };
    // (what happened, one after the other, how long it is left alone)
    let table: [(&str, &[Verdict], Option<u64>); 8] = [
        ("four", &[DOWN, DOWN, DOWN, DOWN], None),
        ("five", &[DOWN, DOWN, DOWN, DOWN, DOWN], Some(1)),
        ("not in a row", &[DOWN, DOWN, DOWN, DOWN, UP, DOWN, DOWN, DOWN, DOWN], None),
        ("one who did not ask is none", &[DOWN, DOWN, DOWN, DOWN, Verdict::NotAsked, DOWN], Some(1)),
        ("come back later, everyone", &[UP, later(20, true)], Some(20)),
        ("come back later, not before tomorrow", &[later(86400, true)], Some(120)),
        ("come back later, you", &[later(20, false)], None),
        ("come back later, you, and you", &[DOWN, DOWN, DOWN, DOWN, later(20, false)], Some(20)),
    ];
    for (what, verdicts, expected) in table {
        let mut bench = Bench::new(64);
        let turned = verdicts.iter().map(|verdict| bench.ask(*verdict)).last().flatten();
        assert_eq!(turned, expected.map(|rest| Turned::Open(seconds(rest))), "{what}");
        match expected {
            Some(rest) => assert_eq!(bench.rest(), seconds(rest), "{what}"),
            None => assert!(matches!(bench.admit(), Admission::Go(_)), "{what}"),
        }
    }
}

#[test]
fn one_asks_whether_it_is_back_and_each_failure_doubles_the_rest() {
    let mut bench = Bench::given_up();
    for rest in [1, 2, 4, 8, 16, 16, 16] {
        assert_eq!(bench.rest(), seconds(rest));
        bench.now += seconds(rest) - Duration::from_millis(1);
        assert_eq!(bench.rest(), Duration::from_millis(1));
        bench.now += Duration::from_millis(1);
        let probe = bench.one();
        assert_eq!(bench.rest(), PROBE_PAUSE, "one at a time");
        bench.settle(probe, DOWN);
    }
    // Some of the rest is left to chance, and half of it is not.
    bench.now += seconds(16);
    let probe = bench.one();
    bench.breaker.settle(probe, DOWN, bench.now, 0.0);
    assert_eq!(bench.rest(), seconds(8));
}

#[test]
fn one_who_did_not_ask_leaves_the_probe_to_the_next() {
    let mut bench = Bench::given_up();
    bench.now += seconds(1);
    let probe = bench.one();
    assert_eq!(bench.settle(probe, Verdict::NotAsked), None);
    assert_eq!(bench.ask(UP), Some(Turned::Closed));
}

#[test]
fn after_it_is_back_the_requests_double_with_every_round_up_to_the_cap() {
    let mut bench = Bench::given_up();
    bench.now += seconds(1);
    let mut round = bench.all();
    let mut rounds = vec![round.len()];
    for _ in 0..8 {
        // One after the other is answered, and the next go as soon as they may.
        let mut next = Vec::new();
        for ticket in round {
            bench.settle(ticket, UP);
            next.extend(bench.all());
        }
        rounds.push(next.len());
        round = next;
    }
    assert_eq!(rounds, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
}

#[test]
fn a_failure_halves_what_may_be_in_flight() {
    let mut bench = Bench::new(64);
    let mut round = bench.all();
    assert_eq!(round.len(), FIRST_LIMIT, "a provider that went away unnoticed costs few requests");
    bench.settle(round.pop().unwrap(), DOWN);
    assert_eq!(bench.admit(), Admission::Wait);
    while round.len() > 3 {
        bench.settle(round.pop().unwrap(), Verdict::NotAsked);
    }
    assert_eq!(bench.all().len(), 1);
}

#[test]
fn the_first_storm_reaches_a_provider_that_is_down_with_a_handful() {
    let mut bench = Bench::new(64);
    let mut reached = 0;
    // Everyone who may go does, in all the time of a long outage.
    for _ in 0..3600 {
        for ticket in bench.all() {
            reached += 1;
            bench.settle(ticket, DOWN);
        }
        bench.now += seconds(1);
    }
    assert!(reached <= 8 + 5 + 3600 / 16, "{reached}");
}

#[test]
fn what_was_in_flight_when_it_was_given_up_changes_nothing_later() {
    let mut bench = Bench::new(64);
    let mut round = bench.all();
    let late = round.split_off(5);
    for ticket in round {
        bench.settle(ticket, DOWN);
    }
    assert_eq!(bench.rest(), seconds(1));
    bench.settle(late[0], DOWN);
    bench.settle(late[1], UP);
    assert_eq!(bench.rest(), seconds(1), "neither longer nor over");
    bench.now += seconds(1);
    assert_eq!(bench.ask(UP), Some(Turned::Closed));
    bench.settle(late[2], DOWN);
    assert_eq!(bench.all().len(), 2, "nor does it slow down what is new");
}

#[test]
fn requests_that_hang_since_it_was_given_up_count_for_the_cap() {
    let mut bench = Bench::new(8);
    let mut round = bench.all();
    for ticket in round.drain(..5) {
        bench.settle(ticket, DOWN);
    }
    bench.now += seconds(1);
    assert_eq!(bench.ask(UP), Some(Turned::Closed));
    let mut in_flight = bench.all();
    for _ in 0..20 {
        bench.settle(in_flight.pop().unwrap(), UP);
        in_flight.extend(bench.all());
    }
    assert_eq!((in_flight.len(), bench.admit()), (5, Admission::Wait), "three hang yet");
    bench.settle(round.pop().unwrap(), UP);
    assert_eq!(bench.all().len(), 1);
}

#[test]
fn a_relapse_goes_on_where_the_last_rest_ended_until_it_is_well() {
    let mut bench = Bench::given_up();
    bench.now += seconds(1);
    bench.ask(UP);
    let relapse = |bench: &mut Bench| (0..FAILURES_TO_OPEN).filter_map(|_| bench.ask(DOWN)).last();
    assert_eq!(relapse(&mut bench), Some(Turned::Open(seconds(2))));
    bench.now += seconds(2);
    for _ in 0..FIRST_LIMIT {
        bench.ask(UP);
    }
    assert_eq!(relapse(&mut bench), Some(Turned::Open(seconds(1))), "well again between");
}

#[test]
fn a_lost_answer_may_be_asked_for_again_in_its_place_unless_it_is_given_up() {
    let mut bench = Bench::new(64);
    let ticket = bench.one();
    assert_eq!(bench.breaker.repeat(ticket, bench.now, 1.0), (true, None));
    bench.settle(ticket, UP);
    assert_eq!(bench.breaker.in_flight, 0);
    let mut bench = Bench::new(64);
    let tickets = bench.all();
    for ticket in &tickets[..4] {
        assert!(bench.breaker.repeat(*ticket, bench.now, 1.0).0);
    }
    let (may, turned) = bench.breaker.repeat(tickets[4], bench.now, 1.0);
    assert_eq!((may, turned), (false, Some(Turned::Open(seconds(1)))));
    assert!(!bench.breaker.repeat(tickets[5], bench.now, 1.0).0, "after that nobody's");
    assert_eq!(bench.breaker.left_over, tickets.len() - 2);
}

#[test]
fn a_login_that_went_well_lets_the_next_refresh_ask() {
    let mut bench = Bench::given_up();
    bench.breaker.heard_of(bench.now);
    let probe = bench.one();
    assert_eq!(bench.rest(), PROBE_PAUSE, "but one alone");
    bench.settle(probe, UP);
}

#[tokio::test]
async fn turns_are_taken_in_order_and_those_who_leave_are_passed_over() {
    let turns = Turns::new("provider", 1);
    let first = turns.take().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for number in 0..5 {
        let (turns, order) = (turns.clone(), order.clone());
        waiters.push(tokio::spawn(async move {
            let turn = turns.take().await.unwrap();
            order.lock().unwrap().push(number);
            turn.settle(UP, 0.0);
        }));
        tokio::task::yield_now().await;
    }
    waiters.remove(2).abort();
    tokio::task::yield_now().await;
    drop(first);
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
    assert_eq!(turns.lock().breaker.in_flight, 0);
}

#[tokio::test]
async fn those_who_wait_are_sent_away_when_it_is_given_up() {
    let turns = Turns::new("provider", 1);
    let first = turns.take().await.unwrap();
    let waiter = tokio::spawn({
        let turns = turns.clone();
        async move { turns.take().await.err() }
    });
    tokio::task::yield_now().await;
    first.settle(Verdict::Failed { wanted: Some(seconds(9)), everyone: true }, 0.0);
    let left_alone = waiter.await.unwrap().expect("sent away");
    assert!(left_alone.rest > seconds(8), "{left_alone:?}");
    assert!(turns.take().await.is_err());
}
