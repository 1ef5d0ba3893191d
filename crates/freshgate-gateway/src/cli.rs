//! The command line: which commands and flags there are, and what they are for.
//!
//! Values are taken as they are written. [`crate::config`] reads them, together with the environment and the files, so
//! that every problem shows in one report instead of one per attempt.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

/// Sign in once, stay signed in: freshgate signs users in with OpenID Connect in front of a data app, keeps their tokens
/// on the server and refreshes them in the background.
#[derive(Parser)]
#[command(
    name = "freshgate",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "`freshgate COMMAND --help` explains a command, with examples."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `freshgate` can do.
#[derive(Subcommand)]
pub enum Command {
    /// Runs a Streamlit app behind the gate.
    ///
    /// Streamlit listens on a private port that only the gate knows; the gate listens on the public one. Users sign in with
    /// the providers in `[auth]` of `.streamlit/secrets.toml`, which is read as Streamlit reads it. `st.login()`,
    /// `st.logout()`, `st.user` and `st.user.tokens` work unchanged.
    ///
    /// Settings come from flags, then from FRESHGATE_* variables, then from freshgate.toml, then from secrets.toml.
    Run(Run),
    /// Runs a Streamlit app behind the gate with a development provider: nothing to register.
    ///
    /// The provider runs inside freshgate and knows the users you name. Its tokens are short-lived and its refresh tokens
    /// rotate, so that what happens after two hours in production happens here within minutes. It is for your own machine
    /// only: it asks for no password.
    Dev(Dev),
    /// Stands in front of any apps, which run by themselves.
    ///
    /// freshgate.toml says where the apps are, by path, and what each is told of its users; one login is for all of them.
    /// `[auth]` may stand there too, or in a secrets.toml that `--secrets` names. On SIGHUP the file is read again: apps and
    /// access rules change without a connection being dropped. On SIGTERM the gate lets requests finish and stops.
    Serve(Serve),
    /// Asks the provider and says what will and what won't work.
    ///
    /// It reads the configuration as `run` does, asks each provider, looks at this machine and at the gate that may be
    /// running, and tells line by line what is as it should be, what is not, and the mend. It changes nothing, and signs
    /// nobody in unless you say so with `--login`.
    ///
    /// The exit code is 0 if there is no problem (there may be warnings), 1 if there is one, and 2 if the configuration is bad.
    Check(Check),
    /// Shows the sessions of a gate, why they ended, and ends them.
    ///
    /// It reads the session store itself, so the gate may be running or not. What it changes, a running gate learns within
    /// a second: the sockets of a session that was ended close, and its pages return to the app's start. No command here
    /// shows a token.
    #[command(subcommand, arg_required_else_help = true)]
    Sessions(Sessions),
    /// Changes the keys that seal sessions, and signs nobody out.
    ///
    /// Sessions are sealed in the store with a key that is made from `cookie_secret`, or with keys of their own in a file.
    /// `new` makes a key, `rotate` seals every session with it, `remove` takes a key away that nothing needs any more. A
    /// running gate takes up the changed file by itself.
    #[command(subcommand, arg_required_else_help = true)]
    Keys(Keys),
    /// Asks a running gate whether it is well, and says it with the exit code.
    ///
    /// It is for supervisors that start a program to learn it, such as a container's health check: 0 if the gate answers, 1
    /// if it does not, and 2 if it is not said where to ask. That is the operators' listener, /health.
    Health(Health),
}

/// What `freshgate keys` can do.
#[derive(Subcommand)]
pub enum Keys {
    /// Lists the keys, what each does, and how many sessions are sealed with it.
    List(ListKeys),
    /// Makes a key that opens and does not seal yet.
    ///
    /// It seals from the next `freshgate keys rotate` on: when every gate on the store knows it. Gates that read the same key
    /// file learn it within a second; others are given a copy of the file in between.
    New(NewKey),
    /// Has the newest key seal, and seals all sessions anew with it.
    ///
    /// The gate may be running: nothing that it serves changes, and nobody is signed out. Broken off at any point, it leaves
    /// every session readable; started again, it goes on. Afterwards it says which keys are needed no more.
    ///
    /// Without a new key it seals anew what is sealed with other keys, such as that of a former cookie_secret.
    Rotate(RotateKeys),
    /// Removes a key that nothing needs any more.
    ///
    /// It refuses while sessions are sealed with the key, and for ten minutes after it sealed last, as long as a login may be
    /// under way.
    Remove(RemoveKey),
}

impl Keys {
    /// Which sessions it is about.
    pub fn which(&self) -> &WhichStore {
        match self {
            Self::List(list) => &list.which,
            Self::New(new) => &new.which,
            Self::Rotate(rotate) => &rotate.which,
            Self::Remove(remove) => &remove.which,
        }
    }
}

/// The arguments of `freshgate keys list`.
#[derive(Args)]
pub struct ListKeys {
    /// Prints one JSON document. Times are seconds since 1970.
    #[arg(long)]
    pub json: bool,

    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// The arguments of `freshgate keys new`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Change the key that seals, with a gate that runs:
      freshgate keys new
      freshgate keys rotate")]
pub struct NewKey {
    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// The arguments of `freshgate keys rotate`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Seal with the key that `freshgate keys new` made, and remove those of earlier rotations:
      freshgate keys rotate --drop-old")]
pub struct RotateKeys {
    /// Also removes the keys that nothing needs any more. One that sealed until now may go ten minutes later.
    #[arg(long)]
    pub drop_old: bool,

    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// The arguments of `freshgate keys remove`.
#[derive(Args)]
pub struct RemoveKey {
    /// The key's id, or as much of its start as no other key shares.
    #[arg(value_name = "ID")]
    pub id: String,

    /// Does not wait until the logins under way are over: who is just signing in must begin again.
    #[arg(long)]
    pub now: bool,

    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// What `freshgate sessions` can do.
#[derive(Subcommand)]
pub enum Sessions {
    /// Lists the sessions, one a line.
    ///
    /// Of each session it shows the handle, who it is, which provider signed the user in and when, when the access token
    /// expires, how the last refresh went, and whether the session is live. A handle is shortened, but never to what two
    /// sessions share.
    List(ListSessions),
    /// Shows everything that is known of a session, and why it ended.
    ///
    /// What happened to the session is shown as a list: sign-in, refreshes and how they went, the end and its reason. What
    /// is known of an ended session stays for a week, unless `[session] ended_kept` says otherwise.
    Show(ShowSession),
    /// Ends sessions, for good.
    ///
    /// Who had such a session must sign in again. Nobody is signed out at the provider.
    End(EndSessions),
}

impl Sessions {
    /// Which sessions it is about.
    pub fn which(&self) -> &WhichStore {
        match self {
            Self::List(list) => &list.which,
            Self::Show(show) => &show.which,
            Self::End(end) => &end.which,
        }
    }
}

/// Which sessions: where they are kept, and what opens them.
#[derive(Args, Default)]
pub struct WhichStore {
    /// Where the gate keeps its sessions: `sqlite:PATH`.
    ///
    /// [default: sqlite:.freshgate/sessions.db; with --dev: sqlite:.freshgate/dev/sessions.db]
    /// [env: FRESHGATE_STORE]
    #[arg(long, value_name = "URL", help_heading = "Which gate")]
    pub store: Option<String>,

    /// The file with Streamlit's secrets: what seals the sessions is made from its `cookie_secret`.
    ///
    /// [default: where Streamlit looks, such as .streamlit/secrets.toml]
    /// [env: FRESHGATE_SECRETS]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Which gate")]
    pub secrets: Option<PathBuf>,

    /// The file with freshgate's own settings.
    ///
    /// [default: freshgate.toml, if there is one]
    /// [env: FRESHGATE_CONFIG]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Which gate")]
    pub config: Option<PathBuf>,

    /// The sessions of `freshgate dev`.
    #[arg(long, help_heading = "Which gate")]
    pub dev: bool,
}

/// The arguments of `freshgate sessions list`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Who is signed in:
      freshgate sessions list

  Why ada was signed out; `show` tells more of one session:
      freshgate sessions list --ended --user ada

  For a program:
      freshgate sessions list --json | jq -r '.sessions[].user'")]
pub struct ListSessions {
    /// Only sessions of users whose email, name, user name or subject contains this.
    #[arg(long, value_name = "TEXT")]
    pub user: Option<String>,

    /// Only sessions of the provider with this name.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,

    /// Also sessions that ended, for as long as they are remembered.
    #[arg(long)]
    pub ended: bool,

    /// No more than this many.
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<usize>,

    /// Prints one JSON document. Times are seconds since 1970.
    #[arg(long)]
    pub json: bool,

    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// The arguments of `freshgate sessions show`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  What happened to a session, by the first characters of its handle:
      freshgate sessions show kQ0aB

  With what the provider says of the user:
      freshgate sessions show kQ0aB --claims")]
pub struct ShowSession {
    /// The session's handle, or as much of its start as no other session shares.
    #[arg(value_name = "HANDLE", allow_hyphen_values = true)]
    pub handle: String,

    /// Shows the values of the claims, and not their names alone.
    #[arg(long)]
    pub claims: bool,

    /// Prints one JSON document. Times are seconds since 1970.
    #[arg(long)]
    pub json: bool,

    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// The arguments of `freshgate sessions end`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  End two sessions:
      freshgate sessions end kQ0aB 9xZ_1

  Sign a user out everywhere, and ask nothing:
      freshgate sessions end --user ada@example.com --yes")]
pub struct EndSessions {
    /// The sessions' handles, or as much of their starts as no other session shares.
    ///
    /// Handles that begin with a dash follow two of them: `end --yes -- -Q0aB`.
    #[arg(value_name = "HANDLE", required_unless_present = "user", conflicts_with = "user")]
    pub handles: Vec<String>,

    /// All sessions of the user whose email, name, user name or subject is this, in full.
    #[arg(long, value_name = "TEXT")]
    pub user: Option<String>,

    /// Does not ask first. Needed where there is no terminal to ask at.
    #[arg(long)]
    pub yes: bool,

    /// Which sessions.
    #[command(flatten)]
    pub which: WhichStore,
}

/// The arguments of `freshgate run`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Run an app whose .streamlit/secrets.toml has an [auth] section:
      freshgate run app.py

  Listen on every interface, and keep the sessions elsewhere:
      freshgate run app.py --listen 0.0.0.0:8501 --store sqlite:/var/lib/freshgate/sessions.db

  Hand arguments to Streamlit:
      freshgate run app.py -- --server.baseUrlPath=reports --server.maxUploadSize=50

  Take the provider from the environment instead of secrets.toml:
      FRESHGATE_REDIRECT_URI=https://app.example.com/oauth2callback \\
      FRESHGATE_SERVER_METADATA_URL=https://id.example.com/.well-known/openid-configuration \\
      FRESHGATE_CLIENT_ID=reports \\
      FRESHGATE_CLIENT_SECRET_FILE=/run/secrets/client-secret \\
      FRESHGATE_COOKIE_SECRET_FILE=/run/secrets/cookie-secret \\
      freshgate run app.py")]
pub struct Run {
    /// The app: a Streamlit script, or a folder with a `streamlit_app.py`.
    #[arg(value_name = "APP.PY", value_hint = ValueHint::FilePath)]
    pub app: PathBuf,

    /// The flags that `run`, `dev` and `serve` share.
    #[command(flatten)]
    pub common: Common,

    /// The flags that are about Streamlit.
    #[command(flatten)]
    pub app_options: AppOptions,
}

/// The arguments of `freshgate serve`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  One login for a Streamlit app at /reports and any other web app at /wiki, with this freshgate.toml:
      [auth]
      redirect_uri = \"https://apps.example.com/oauth2callback\"
      # …

      [[upstream]]
      path = \"/reports\"
      address = \"http://127.0.0.1:8601\"
      app = \"streamlit\"

      [[upstream]]
      path = \"/wiki\"
      address = \"http://127.0.0.1:9000\"
      hand_off = [\"headers\", \"bearer\"]

      freshgate serve

  Read freshgate.toml again:
      kill -HUP PID")]
pub struct Serve {
    /// The flags that `run`, `dev` and `serve` share.
    #[command(flatten)]
    pub common: Common,

    /// Where apps ask about their sessions: `unix:PATH`, or a loopback address and port.
    ///
    /// [default: unix:/run/freshgate/session-api.sock, if an app has a `secret_file`]
    /// [env: FRESHGATE_SESSION_API]
    #[arg(long, value_name = "ADDRESS")]
    pub session_api: Option<String>,
}

/// The arguments of `freshgate check`.
#[derive(Args, Default)]
#[command(after_long_help = "\
Examples:
  Before the first start, or when something does not work:
      freshgate check

  Sign in once, and see whether tokens are refreshed:
      freshgate check --login

  In a script:
      freshgate check --json | jq '.sections[].findings[] | select(.verdict != \"ok\")'")]
pub struct Check {
    /// The app that `run` is given; needed only if settings are beside it. Without it: this folder.
    #[arg(value_name = "APP.PY", value_hint = ValueHint::FilePath)]
    pub app: Option<PathBuf>,

    /// Also makes one real login: you open an address in a browser and sign in.
    ///
    /// It listens where the gate would, so stop the gate meanwhile. Afterwards it tells whether a refresh token was issued,
    /// what a refresh brings, whether userinfo agrees, and how large tokens are and how long they live. It shows no token,
    /// and keeps no session.
    #[arg(long, help_heading = "Check")]
    pub login: bool,

    /// With `--login`: also sends the refresh token of before once more after a refresh.
    ///
    /// It tells whether an answer that is lost on its way can be asked for again. Many providers take a second use for theft
    /// and revoke every token of this login, which is then over. Other sessions are not touched.
    #[arg(long, requires = "login", help_heading = "Check")]
    pub probe_grace: bool,

    /// With `--login`: the provider to sign in with.
    ///
    /// [default: the default one]
    #[arg(long, value_name = "NAME", requires = "login", help_heading = "Check")]
    pub provider: Option<String>,

    /// Prints one JSON document.
    #[arg(long, help_heading = "Check")]
    pub json: bool,

    /// The flags that `run` has.
    #[command(flatten)]
    pub common: Common,

    /// The flags that are about Streamlit.
    #[command(flatten)]
    pub app_options: AppOptions,
}

/// The arguments of `freshgate health`.
#[derive(Args)]
pub struct Health {
    /// Where the gate listens for operators.
    ///
    /// [env: FRESHGATE_OPERATOR_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    pub operator_listen: Option<String>,

    /// The file with freshgate's own settings.
    ///
    /// [default: freshgate.toml, if there is one]
    /// [env: FRESHGATE_CONFIG]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// The arguments of `freshgate dev`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Try an app with sign-in, without registering it anywhere:
      freshgate dev app.py

  See what the app does when its tokens live for ten seconds:
      freshgate dev app.py --token-lifetime 10s

  Sign in as one of two users:
      freshgate dev app.py --user ada --user grace")]
pub struct Dev {
    /// The app: a Streamlit script, or a folder with a `streamlit_app.py`. Without it: `streamlit_app.py` in this folder.
    #[arg(value_name = "APP.PY", value_hint = ValueHint::FilePath)]
    pub app: Option<PathBuf>,

    /// The flags that `run`, `dev` and `serve` share.
    #[command(flatten)]
    pub common: Common,

    /// How long the provider's access tokens live, such as 30s or 5m.
    ///
    /// [default: 300s]
    /// [env: FRESHGATE_DEV_TOKEN_LIFETIME]
    #[arg(long, value_name = "DURATION", help_heading = "Development provider")]
    pub token_lifetime: Option<String>,

    /// Whether each refresh replaces the refresh token: on or off.
    ///
    /// [default: on]
    /// [env: FRESHGATE_DEV_ROTATION]
    #[arg(long, value_name = "on|off", help_heading = "Development provider")]
    pub rotation: Option<String>,

    /// How long a replaced refresh token still works.
    ///
    /// [default: 0s]
    /// [env: FRESHGATE_DEV_GRACE]
    #[arg(long, value_name = "DURATION", help_heading = "Development provider")]
    pub grace: Option<String>,

    /// A user who can sign in; may be given several times.
    ///
    /// [default: ada, grace]
    /// [env: FRESHGATE_DEV_USERS, separated by commas]
    #[arg(long = "user", value_name = "NAME", help_heading = "Development provider")]
    pub users: Vec<String>,

    /// Where the provider listens; a loopback address.
    ///
    /// [default: 127.0.0.1:8510]
    /// [env: FRESHGATE_DEV_PROVIDER_LISTEN]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Development provider")]
    pub provider_listen: Option<String>,

    /// The flags that are about Streamlit.
    #[command(flatten)]
    pub app_options: AppOptions,
}

/// The flags that are about the Streamlit that the gate starts.
#[derive(Args, Default)]
pub struct AppOptions {
    /// The Python interpreter that has Streamlit.
    ///
    /// [default: the one of the active environment]
    /// [env: FRESHGATE_PYTHON]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    pub python: Option<PathBuf>,

    /// Arguments for Streamlit, as after `streamlit run app.py`.
    #[arg(last = true, value_name = "STREAMLIT ARGS")]
    pub streamlit: Vec<String>,
}

impl AppOptions {
    /// Those of them that are flags, by name.
    pub(crate) fn flags(&self) -> Vec<(&'static str, PathBuf)> {
        self.python.iter().map(|path| ("python", path.clone())).collect()
    }
}

/// The flags that `run`, `dev` and `serve` share.
#[derive(Args, Default)]
pub struct Common {
    /// Where browsers reach the gate.
    ///
    /// [default: 127.0.0.1:8501]
    /// [env: FRESHGATE_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// Where operators ask how the gate is: /health, /ready, and /metrics for Prometheus. It asks for no password: choose
    /// an address that operators alone can reach.
    ///
    /// [default: nowhere]
    /// [env: FRESHGATE_OPERATOR_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    pub operator_listen: Option<String>,

    /// The certificate that the gate shows to browsers, in PEM form, with those that vouch for it: it speaks https then. The
    /// file is looked at every few seconds, and a new certificate taken up.
    ///
    /// [default: that of Streamlit's server.sslCertFile; else none, and plain http]
    /// [env: FRESHGATE_TLS_CERTIFICATE]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub tls_certificate: Option<PathBuf>,

    /// The private key of the certificate, in PEM form.
    ///
    /// [default: that of Streamlit's server.sslKeyFile]
    /// [env: FRESHGATE_TLS_KEY]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub tls_key: Option<PathBuf>,

    /// Lets only signed-in users in: pages lead to the login, and everything else is refused, sockets, uploads and
    /// static files among it. Who of them may enter is said in freshgate.toml.
    ///
    /// [default: not set]
    /// [env: FRESHGATE_ACCESS_REQUIRE_LOGIN]
    #[arg(long)]
    pub require_login: bool,

    /// Where sessions are kept: `sqlite:PATH`, or `memory:` to lose them at every stop.
    ///
    /// [default: sqlite:.freshgate/sessions.db; with dev: sqlite:.freshgate/dev/sessions.db]
    /// [env: FRESHGATE_STORE]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,

    /// The file with Streamlit's secrets, `[auth]` among them.
    ///
    /// [default: where Streamlit looks, such as .streamlit/secrets.toml; with serve: nowhere]
    /// [env: FRESHGATE_SECRETS]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub secrets: Option<PathBuf>,

    /// The file with freshgate's own settings.
    ///
    /// [default: freshgate.toml, if there is one]
    /// [env: FRESHGATE_CONFIG]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// What is logged: error, warn, info, debug or trace, or a filter such as info,freshgate=debug.
    ///
    /// [default: info]
    /// [env: FRESHGATE_LOG]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// How log lines look: text or json.
    ///
    /// [default: text]
    /// [env: FRESHGATE_LOG_FORMAT]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn help_of(path: &[&str]) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut command = &mut command;
        for name in path {
            command = command.find_subcommand_mut(name).expect("the command exists");
        }
        command.render_long_help().to_string()
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help() {
        insta::assert_snapshot!("help", help_of(&[]));
        insta::assert_snapshot!("help_run", help_of(&["run"]));
        insta::assert_snapshot!("help_dev", help_of(&["dev"]));
        insta::assert_snapshot!("help_serve", help_of(&["serve"]));
        insta::assert_snapshot!("help_check", help_of(&["check"]));
        insta::assert_snapshot!("help_sessions", help_of(&["sessions"]));
        insta::assert_snapshot!("help_sessions_list", help_of(&["sessions", "list"]));
        insta::assert_snapshot!("help_sessions_show", help_of(&["sessions", "show"]));
        insta::assert_snapshot!("help_sessions_end", help_of(&["sessions", "end"]));
        insta::assert_snapshot!("help_keys", help_of(&["keys"]));
        insta::assert_snapshot!("help_keys_list", help_of(&["keys", "list"]));
        insta::assert_snapshot!("help_keys_new", help_of(&["keys", "new"]));
        insta::assert_snapshot!("help_keys_rotate", help_of(&["keys", "rotate"]));
        insta::assert_snapshot!("help_health", help_of(&["health"]));
        insta::assert_snapshot!("help_keys_remove", help_of(&["keys", "remove"]));
    }

    #[test]
    fn every_flag_names_its_variable() {
        for name in ["run", "dev", "serve"] {
            let mut command = Cli::command();
            let command = command.find_subcommand_mut(name).expect("the command exists");
            for flag in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let help = flag.get_long_help().expect("every flag is explained").to_string();
                assert!(help.contains("[env: FRESHGATE_"), "{name} --{}: {help}", flag.get_id());
                assert!(help.contains("[default: "), "{name} --{}: {help}", flag.get_id());
            }
        }
    }

    #[test]
    fn what_follows_the_dashes_is_for_streamlit() {
        let Ok(Cli { command: Command::Run(run) }) = Cli::try_parse_from([
            "freshgate",
            "run",
            "app.py",
            "--listen",
            "127.0.0.1:9000",
            "--",
            "--server.baseUrlPath",
            "reports",
            "--",
            "--own-flag",
        ]) else {
            panic!("the arguments are good")
        };
        assert_eq!(run.common.listen.as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(run.app_options.streamlit, ["--server.baseUrlPath", "reports", "--", "--own-flag"]);
    }

    #[test]
    fn a_flag_of_streamlit_before_the_dashes_is_refused() {
        assert!(Cli::try_parse_from(["freshgate", "run", "app.py", "--server.port", "9"]).is_err());
    }
}
