//! The commands on the store of gates that run.

use std::{
    cell::RefCell,
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    rc::Rc,
    sync::Mutex,
};

use clap::Parser as _;
use freshgate::{
    Engine,
    engine::Opened,
    keyring::{Key, Keyring, Keys as Ring, Purpose},
    session::{EndReason, SessionKey},
    store::{Found, Index, Row, SqliteStore},
};
use freshgate_oidc::{Secret, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    cli::{Cli, Command},
    config::{self, KeysConfig, Look},
    test_gate::{DEADLINE, TestGate},
};

/// A clock that is moved, for what takes ten minutes.
struct Moved(Mutex<Duration>);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock().unwrap()
    }
}

/// Commands in the folder of a gate.
struct World {
    gate: TestGate,
    clock: Arc<Moved>,
    /// What was said to the person at the terminal.
    told: Rc<RefCell<Vec<u8>>>,
    settling: Duration,
}

struct Told(Rc<RefCell<Vec<u8>>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(Moved(Mutex::default()));
        Self { gate: TestGate::new().await, clock, told: Rc::default(), settling: Duration::ZERO }
    }

    fn file(&self) -> &Path {
        &self.gate.config.keys.file
    }

    /// What a command says, or why it fails.
    async fn say(&self, arguments: &[&str]) -> Result<String, String> {
        let all = ["freshgate", "keys"].iter().chain(arguments).chain(&["--dev"]);
        let command = match Cli::try_parse_from(all) {
            Ok(Cli { command: Command::Keys(keys) }) => keys,
            Ok(_) => panic!("another command"),
            Err(error) => panic!("{error}"),
        };
        let (config, _) = config::load_sessions(command.which(), &self.gate.environment())
            .map_err(|report| format!("{report:?}"))?;
        let store = SqliteStore::open(&config.store).unwrap();
        let operator = Operator {
            config: &config,
            store: Arc::new(store.clone()),
            clock: self.clock.clone(),
            entropy: Arc::new(SystemEntropy),
            settling: self.settling,
        };
        let mut progress = Progress::to(Told(self.told.clone()));
        let mut out = Vec::new();
        let done = carry_out(&command, &operator, &mut progress, &mut out).await;
        store.close().await;
        let said = done.map(|()| String::from_utf8(out).unwrap());
        let said = said.map_err(|failed| failed.problem(&config).render(Look::Plain));
        let text = said.clone().unwrap_or_else(|error| error);
        for secret in self.secrets() {
            assert!(!text.contains(&secret), "a secret shows:\n{text}");
        }
        said
    }

    fn secrets(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let of_file = text
            .lines()
            .filter_map(|line| line.strip_prefix("secret = "))
            .map(|it| it.trim_matches('"').to_owned());
        of_file.chain([self.gate.config.cookie_secret.expose().to_owned()]).collect()
    }

    /// Makes a key, and gives its id.
    async fn new_key(&self) -> String {
        self.say(&["new"]).await.unwrap()[..16].to_owned()
    }

    async fn list(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.say(&["list", "--json"]).await.unwrap()).unwrap();
        assert_eq!(list["unknown_keys"], Value::Array(Vec::new()));
        list["keys"].as_array().unwrap().clone()
    }

    /// How many live sessions each key seals, and which of them seals now: `(id, state, live)`.
    async fn states(&self) -> Vec<(String, String, u64)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let keys = self.list().await;
        keys.iter()
            .map(|key| (text(&key["id"]), text(&key["state"]), key["live"].as_u64().unwrap()))
            .collect()
    }

    fn cookie_key(&self) -> String {
        Key::from_secret(&self.gate.config.cookie_secret).id().to_string()
    }

    async fn end(self) {
        self.gate.stop().await;
        self.gate.provider.shutdown().await;
    }
}

fn row(id: &str, state: &str, live: u64) -> (String, String, u64) {
    (id.to_owned(), state.to_owned(), live)
}

async fn is_open(engine: &Engine, key: SessionKey) -> bool {
    matches!(engine.open(key).await.unwrap(), Opened::Open(_))
}

#[tokio::test]
async fn two_gates_and_a_rotation_sign_nobody_out() {
    let mut world = World { settling: SETTLING, ..World::new().await };
    let stop = CancellationToken::new();
    let (other, other_store) = world.gate.another();
    let mut watching = Vec::new();
    for engine in [&world.gate.engine, &other] {
        watching.push(tokio::spawn(watch(engine.keyring().clone(), stop.clone())));
        watching.push(tokio::spawn(engine.clone().watch_neighbours(stop.clone())));
    }
    let (ada, grace) = (world.gate.sign_in("ada").await.key(), world.gate.sign_in("grace").await.key());
    let over = world.gate.sign_in("ada").await.key();
    world.gate.engine.end(over, EndReason::Logout).await.unwrap();
    let cookie = world.cookie_key();
    assert_eq!(world.states().await, [row(&cookie, "seals", 2)]);

    // A login is under way all the while: what its browser carries is sealed with the key of before.
    let under_way = world.gate.begin_login("ada").await;
    let new = world.new_key().await;
    assert_eq!(world.states().await, [row(&new, "new", 0), row(&cookie, "seals", 2)]);

    // Both gates refresh as fast as they can while the keys are rotated.
    let rotated = CancellationToken::new();
    let busy: Vec<_> = [(world.gate.engine.clone(), ada), (other.clone(), grace)]
        .map(|(engine, key)| {
            let rotated = rotated.clone();
            tokio::spawn(async move {
                let mut refreshed = 0;
                while !rotated.is_cancelled() || refreshed == 0 {
                    engine.refresh(key, DEADLINE).await.expect("refreshes go on");
                    refreshed += 1;
                }
            })
        })
        .into();
    let said = world.say(&["rotate"]).await.unwrap();
    rotated.cancel();
    for busy in busy {
        busy.await.unwrap();
    }
    assert!(said.starts_with(&format!("{new} seals from now on.\n")), "{said}");

    // Whatever the gates wrote with the former key before they took up the new one, a further run finds.
    for engine in [&world.gate.engine, &other] {
        engine.keyring().take_up_changes();
        assert_eq!(engine.keyring().seals().to_string(), new);
    }
    world.say(&["rotate"]).await.unwrap();
    assert_eq!(world.states().await, [row(&new, "seals", 2), row(&cookie, "opens", 0)]);
    let ended = world.list().await.iter().map(|key| key["ended"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ended, [1, 0], "what is left of the ended one, too");

    world.gate.complete_login(&under_way, "ada").await;
    // A third gate, as after a restart, reads all from the store.
    let (third, third_store) = world.gate.another();
    for engine in [&world.gate.engine, &other, &third] {
        for key in [ada, grace] {
            assert!(is_open(engine, key).await);
            engine.refresh(key, DEADLINE).await.unwrap();
        }
        assert!(matches!(engine.open(over).await.unwrap(), Opened::Ended(EndReason::Logout)));
    }
    stop.cancel();
    for watching in watching {
        watching.await.unwrap();
    }
    other_store.close().await;
    third_store.close().await;
    world.end().await;
}

#[tokio::test]
async fn a_gate_that_has_not_looked_yet_opens_what_the_new_key_sealed() {
    let mut world = World::new().await;
    let ada = world.gate.sign_in("ada").await.key();
    // It has not even seen that there is a key file, and nobody tells it: no `watch` runs.
    let (late, late_store) = world.gate.another();
    world.new_key().await;
    world.say(&["rotate"]).await.unwrap();
    assert!(is_open(&late, ada).await);
    late_store.close().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_goes_once_nothing_needs_it() {
    let mut world = World::new().await;
    world.gate.sign_in("ada").await;
    let first = world.new_key().await;
    world.say(&["rotate"]).await.unwrap();
    let second = world.new_key().await;
    let cookie = world.cookie_key();
    for (id, expected) in [
        (first.as_str(), "seals: without it nothing can be sealed"),
        (&cookie, "is not in the file: it comes from cookie_secret"),
        ("xyz", "there is no key that begins with xyz"),
        ("", "more than one key begins with"),
    ] {
        let refused = world.say(&["remove", id]).await.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }

    // Sealed with the first by a gate that has not taken up the second: it is needed.
    world.say(&["rotate"]).await.unwrap();
    world.gate.engine.keyring().take_up_changes();
    let former = Keyring::new(Ring { seals: of_file(&world, &first), opens: Vec::new() });
    keep(&world.gate.store, 1, &former).await;
    let refused = world.say(&["remove", &first]).await.unwrap_err();
    assert!(refused.contains("is needed for 1 session") && refused.contains("keys rotate"), "{refused}");
    let said = world.say(&["rotate", "--drop-old"]).await.unwrap();
    assert!(said.contains("1 session was sealed anew"), "{said}");
    assert!(said.contains(&format!("{first} may go in ten minutes")), "{said}");

    // It sealed a moment ago: a browser may come back from the provider with what it sealed.
    let refused = world.say(&["remove", &first[..6]]).await.unwrap_err();
    assert!(refused.contains("sealed until a moment ago") && refused.contains("--now"), "{refused}");
    *world.clock.0.lock().unwrap() = Duration::from_secs(601);
    let said = world.say(&["rotate", "--drop-old"]).await.unwrap();
    assert!(said.contains(&format!("{first} is removed")), "{said}");
    assert_eq!(world.states().await, [row(&second, "seals", 2), row(&cookie, "opens", 0)]);
    // A gate drops it as well.
    assert!(world.gate.engine.keyring().take_up_changes());
    assert!(!format!("{:?}", world.gate.engine.keyring()).contains(&first));

    let third = world.new_key().await;
    world.say(&["rotate"]).await.unwrap();
    assert!(world.say(&["remove", &second, "--now"]).await.unwrap().contains("is removed"));
    let unused = world.new_key().await;
    world.say(&["remove", &unused]).await.unwrap();
    assert_eq!(world.states().await, [row(&third, "seals", 2), row(&cookie, "opens", 0)]);
    world.end().await;
}

#[tokio::test]
async fn what_no_key_here_sealed_is_told_and_stays() {
    let mut world = World::new().await;
    world.gate.sign_in("ada").await;
    let stranger = Keyring::from_secret(&Secret::new("the cookie secret of another time"));
    keep(&world.gate.store, 1, &stranger).await;
    let id = stranger.seals().to_string();
    let listed = world.say(&["list"]).await.unwrap();
    assert!(
        listed.contains(&format!("{id} is not here, so what it sealed cannot be read: 1 session.")),
        "{listed}"
    );
    world.new_key().await;
    let said = world.say(&["rotate"]).await.unwrap();
    assert!(
        said.contains(&format!("{id} is not here, so what it sealed stays as it is: 1 session.")),
        "{said}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_new_cookie_secret_keeps_sessions_where_the_former_is_named() {
    let mut world = World::new().await;
    let ada = world.gate.sign_in("ada").await.key();
    let former = world.gate.config.cookie_secret.clone();
    let cookie_file = world.file().parent().unwrap().join("cookie-secret");
    fs::write(cookie_file, "quite another cookie secret, and long enough too").unwrap();
    world.gate.config.cookie_secret = Secret::new("quite another cookie secret, and long enough too");
    let (forgetful, forgetful_store) = world.gate.another();
    assert!(!is_open(&forgetful, ada).await, "the former one is needed");

    let toml = format!("[keys]\nformer_cookie_secrets = [\"{}\"]\n", former.expose());
    fs::write(world.gate.folder.path().join("freshgate.toml"), toml).unwrap();
    world.gate.config.keys.former_cookie_secrets = vec![former];
    let (gate, store) = world.gate.another();
    assert!(is_open(&gate, ada).await);
    let said = world.say(&["rotate"]).await.unwrap();
    assert!(said.contains("1 session was sealed anew"), "no key file is needed for that: {said}");
    assert!(!world.file().exists());
    let (forgetful_again, forgetful_again_store) = {
        world.gate.config.keys.former_cookie_secrets.clear();
        world.gate.another()
    };
    assert!(is_open(&forgetful_again, ada).await, "and it may go from the configuration then");
    for store in [store, forgetful_store, forgetful_again_store] {
        store.close().await;
    }
    world.end().await;
}

#[tokio::test]
async fn twenty_thousand_sessions_are_sealed_anew_with_progress() {
    let world = World::new().await;
    let cookie = Keyring::from_secret(&world.gate.config.cookie_secret);
    let each = (0..20_000_u32).collect::<Vec<_>>();
    for some in each.chunks(500) {
        futures_util::future::join_all(some.iter().map(|number| keep(&world.gate.store, *number, &cookie)))
            .await;
    }
    let new = world.new_key().await;
    world.told.borrow_mut().clear();
    let started = std::time::Instant::now();
    let said = world.say(&["rotate"]).await.unwrap();
    eprintln!("20,000 sessions of 4 KiB were sealed anew within {:?}", started.elapsed());
    assert!(said.contains("20000 sessions were sealed anew"), "{said}");
    assert_eq!(world.states().await, [row(&new, "seals", 20_000), row(&world.cookie_key(), "opens", 0)]);

    let told = String::from_utf8(world.told.borrow().clone()).unwrap();
    let steps: Vec<&str> = told.split("\r\x1b[K").filter(|text| text.contains("sealed anew")).collect();
    assert!(steps.len() >= 3, "{told:?}");
    assert!(
        steps.iter().all(|step| step.contains(" sessions sealed anew, ") && step.ends_with(" %")),
        "{steps:?}"
    );
    assert!(told.ends_with("\r\x1b[K"), "it goes when it is over");

    let ring = keyring(&world.gate.config.keys, &world.gate.config.cookie_secret).unwrap();
    for number in [0, 7, 19_999] {
        let Found::Live(row, 1) = world.gate.store.read(session(number)).await.unwrap() else {
            panic!("at 1")
        };
        assert_eq!(
            *ring.open(Purpose::SessionRecord, session(number).as_bytes(), &row.sealed).unwrap(),
            plain(number)
        );
    }
    world.end().await;
}

#[tokio::test]
async fn a_list_for_people() {
    let world = World::new().await;
    let id = world.new_key().await;
    let listed = world.say(&["list"]).await.unwrap();
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("KEY               FROM"), "{listed}");
    assert!(lines[1].starts_with(&id) && lines[1].contains("opens, seals after a rotation"), "{listed}");
    assert!(lines[2].contains("cookie_secret") && lines[2].contains("seals "), "{listed}");
    assert_eq!(lines.len(), 3);
    fs::set_permissions(world.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let listed = world.say(&["list"]).await.unwrap();
    assert!(listed.contains("Others can read") && listed.contains("chmod 600"), "{listed}");
    world.end().await;
}

#[test]
fn many_may_change_the_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let key = file::FileKey::new(SystemEntropy.token(), SystemClock.now());
                    file::KeyFile::change(&path, |file| {
                        file.keys.push(key);
                        Ok::<_, KeyFileError>(())
                    })
                    .unwrap();
                }
            });
        }
    });
    let (file, _) = file::KeyFile::read(&path).unwrap().unwrap();
    assert_eq!(file.keys.len(), 80);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    let debug = format!("{file:?}");
    let text = fs::read_to_string(&path).unwrap();
    let secrets = text.lines().filter_map(|line| line.strip_prefix("secret = "));
    assert!(secrets.map(|secret| secret.trim_matches('"')).all(|secret| !debug.contains(secret)));
}

#[test]
fn a_file_that_cannot_be_used_is_refused_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = KeysConfig { file: folder.path().join("keys.toml"), former_cookie_secrets: Vec::new() };
    let cookie_secret = Secret::new("a cookie secret that is long enough");
    let made =
        |secret: &str| file::FileKey::new(Secret::new(secret), Timestamp::from_unix_seconds(1_800_000_000));
    for key in ["hunter2-one", "hunter2-two"] {
        file::KeyFile::change(&config.file, |file| {
            file.keys.push(made(key));
            Ok::<_, KeyFileError>(())
        })
        .unwrap();
    }
    let good = fs::read_to_string(&config.file).unwrap();
    let first = made("hunter2-one").id.to_string();
    let cases = [
        ("version = 1", "version = 2", "it has version 2"),
        ("hunter2-one", "hunter2-three", "it was edited"),
        (first.as_str(), "hunter2", "it was edited"),
        ("state = \"new\"", "state = \"seals\"", "two keys are said to seal"),
        ("state = \"new\"", "state = \"other\"", "line 10 is not what"),
        ("2027-01-15T08:00:00Z", "hunter", "is no time"),
        ("secret = \"hunter2-one\"", "secret = hunter2", "line 12"),
        ("secret = \"hunter2-one\"\n", "", "is not what"),
        ("[[key]]", "[key]", "line "),
    ];
    for (from, to, expected) in cases {
        assert!(good.contains(from), "{from} in {good}");
        fs::write(&config.file, good.replace(from, to)).unwrap();
        let problem = keyring(&config, &cookie_secret).unwrap_err().render(Look::Plain);
        assert!(problem.contains(expected), "{expected} in:\n{problem}");
        assert!(!problem.contains("hunter"), "{problem}");
    }
    let second = good.find("[[key]]").map(|start| &good[start..]).unwrap();
    fs::write(&config.file, format!("{good}\n{second}")).unwrap();
    let problem = keyring(&config, &cookie_secret).unwrap_err().render(Look::Plain);
    assert!(problem.contains("is in it twice"), "{problem}");

    fs::write(&config.file, &good).unwrap();
    let ring = keyring(&config, &cookie_secret).unwrap();
    assert_eq!(ring.seals(), Key::from_secret(&cookie_secret).id(), "new keys seal nothing");
    // A gate that runs keeps what it has.
    for broken in ["", "version = 2", "nonsense"] {
        fs::write(&config.file, broken).unwrap();
        assert!(!ring.take_up_changes());
    }
    fs::remove_file(&config.file).unwrap();
    assert!(!ring.take_up_changes());
    let new = made("hunter2-one").key();
    assert!(ring.opens(new.id()));

    // What could not be read is read later, although its stamp is the same: somebody gave the right to, perhaps.
    let unreadable = vec![0xff; good.len()];
    fs::write(&config.file, &unreadable).unwrap();
    let modified = fs::metadata(&config.file).unwrap().modified().unwrap();
    assert!(!ring.take_up_changes());
    fs::write(&config.file, &good).unwrap();
    File::options().write(true).open(&config.file).unwrap().set_modified(modified).unwrap();
    assert!(ring.take_up_changes());
    assert!(!ring.take_up_changes());
}

fn session(number: u32) -> SessionKey {
    SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()))
}

fn plain(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(1024)
}

async fn keep(store: &SqliteStore, number: u32, ring: &Keyring) {
    let sealed =
        ring.seal(&SystemEntropy, Purpose::SessionRecord, session(number).as_bytes(), &plain(number));
    let ends_at = SystemClock.now() + Duration::from_secs(3600);
    let index = Index { subject: [1; 32], provider_session: None, ends_at };
    store.insert(session(number), Row { sealed, index }).await.unwrap();
}

fn of_file(world: &World, id: &str) -> Key {
    let (file, _) = file::KeyFile::read(world.file()).unwrap().unwrap();
    file.keys.iter().find(|key| key.id.to_string() == id).unwrap().key()
}
