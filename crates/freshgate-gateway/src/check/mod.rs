//! `freshgate check`: asks the configured provider, this machine and the gate that may be running, and says what will and
//! what won't work.
//!
//! - `ask/` learns facts (`facts.rs`), and judges nothing
//! - `judge/` makes findings of them (`finding.rs`), and asks nothing
//! - `text.rs`, `json.rs`: how the outcome is said

mod ask;
mod facts;
mod finding;
mod json;
mod judge;
#[cfg(test)]
mod tests;
mod text;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use freshgate::{
    Engine,
    clock::{Entropy as _, SystemClock, SystemEntropy},
    keyring::Keyring,
    provider::{HttpTransport, Provider, TransportOptions},
    store::MemoryStore,
};
use tokio::net::TcpSocket;
use url::Url;

use self::{
    ask::{
        Asker,
        login::{NoLogin, Wanted},
    },
    facts::GateProbe,
    finding::{About, Finding, Outcome, Section, Verdict},
    judge::{Addresses, Site},
};
use crate::{
    cli::Check,
    config::{ConfiguredProvider, Look, MORE_RESOURCES, Report, RunConfig, Severity, StartupProblem},
    gate,
    not_started::NotStarted,
    progress::Progress,
};

/// The exit code where there are problems.
const EXIT_PROBLEMS: u8 = 1;

/// Checks, tells, and yields the exit code: 0 without problems, 1 with some, 2 if the check could not begin.
pub fn run(command: &Check, config: RunConfig, notes: &Report) -> ExitCode {
    let refused = |problems| NotStarted::from(problems).report();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = StartupProblem::new("the runtime cannot start").because(&error);
            return refused(vec![problem.mend(MORE_RESOURCES)]);
        }
    };
    let asker = Asker { progress: Progress::after(Duration::ZERO), clock: Arc::new(SystemClock) };
    let outcome = match runtime.block_on(Checking { command, config, asker }.check(notes, &mut Terminal)) {
        Ok(outcome) => outcome,
        Err(problems) => return refused(problems),
    };
    let written = if command.json {
        writeln!(io::stdout().lock(), "{:#}", json::document(&outcome))
    } else {
        let mut out = anstream::stdout().lock();
        write!(out, "{}", text::render(&outcome, Look::Coloured)).and_then(|()| out.flush())
    };
    match written {
        // Who reads our output has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let problem = StartupProblem::new("the output cannot be written").because(&error);
            refused(vec![problem.mend("look whether there is room where it goes")])
        }
        _ if outcome.verdict() == Verdict::Problem => ExitCode::from(EXIT_PROBLEMS),
        _ => ExitCode::SUCCESS,
    }
}

/// Who is asked to sign in.
trait Person {
    /// A socket at the gate's address, from who has bound one.
    fn socket(&mut self) -> Option<TcpSocket> {
        None
    }

    /// Is told where.
    fn sign_in_at(&mut self, start: &Url, provider: &str);
}

/// The person at the terminal.
struct Terminal;

impl Person for Terminal {
    fn sign_in_at(&mut self, start: &Url, provider: &str) {
        anstream::eprintln!(
            "\n  Open {start} in your browser, and sign in with `{provider}`. Ctrl-C stops.\n"
        );
    }
}

struct Checking<'a> {
    command: &'a Check,
    config: RunConfig,
    asker: Asker,
}

impl Checking<'_> {
    async fn check(
        mut self,
        notes: &Report,
        person: &mut dyn Person,
    ) -> Result<Outcome, Vec<StartupProblem>> {
        // Sealed with a secret of its own and in memory: nothing of this is a session of the gate.
        let keyring = Keyring::from_secret(&SystemEntropy.token());
        let providers = gate::providers(&self.config.gate)?;
        let wanted = self.wanted_provider().map_err(|problem| vec![problem])?;
        let engine = gate::engine(&self.config.gate, Arc::new(MemoryStore::new()), keyring, providers);
        let site = Site::of(&self.config.gate.public);
        let mut outcome = Outcome::default();
        let findings = self.gate(notes).await.map_err(|problem| vec![problem])?;
        outcome.sections.push(Section { about: About::Gate, findings });
        for configured in self.config.gate.providers.clone() {
            let config = &configured.provider;
            let Some(provider) = engine.providers().find(|provider| provider.name() == config.name) else {
                continue;
            };
            let transport =
                transport(&configured.transport, &config.name).map_err(|problem| vec![problem])?;
            let facts =
                ask::provider(&mut self.asker, &engine, provider, &transport, &site.redirect_uri).await;
            let metadata = facts.known.as_ref().map(|known| &known.metadata);
            outcome.register.push(judge::registration(&config.name, metadata, &site));
            let about = About::Provider { name: config.name.clone(), at: config.metadata_url.clone() };
            let now = self.asker.clock.now();
            outcome.sections.push(Section { about, findings: judge::provider(config, &facts, &site, now) });
            if self.command.login && wanted.as_ref() == Some(&config.name) && facts.known.is_some() {
                let findings = self.login(&engine, provider, &configured, &site, person).await;
                outcome
                    .sections
                    .push(Section { about: About::Login { provider: config.name.clone() }, findings });
            }
        }
        self.asker.progress.clear();
        Ok(outcome)
    }

    /// The name of the provider to sign in with.
    fn wanted_provider(&self) -> Result<Option<String>, StartupProblem> {
        let names: Vec<&str> =
            self.config.gate.providers.iter().map(|configured| configured.provider.name.as_str()).collect();
        let Some(wanted) = self.command.provider.as_deref() else {
            return Ok(names.first().map(|name| (*name).to_owned()));
        };
        match names.iter().find(|name| **name == wanted) {
            Some(name) => Ok(Some((*name).to_owned())),
            None => Err(StartupProblem::new(format!(
                "there is no provider `{}`",
                crate::words::printable(wanted)
            ))
            .at("--provider")
            .mend(format!("choose from {}", names.join(", ")))),
        }
    }

    /// The gate and the machine that it runs on.
    async fn gate(&mut self, notes: &Report) -> Result<Vec<Finding>, StartupProblem> {
        let Self { config: RunConfig { gate: config, app }, asker, .. } = self;
        let start = config.public.start();
        let as_anybody = transport(&TransportOptions::default(), "default")?;
        // What is on this machine is reached by no detour.
        let on_this_machine = TransportOptions { past_proxies: true, ..TransportOptions::default() };
        let on_this_machine = transport(&on_this_machine, "default")?;
        let host = start.host_str().map(|host| match start.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        });
        let here = here(&start, config.listen);
        let here = ask::probe(asker, &on_this_machine, &here, host.as_deref()).await;
        let public = match start.scheme() {
            "https" => Some(ask::probe(asker, &as_anybody, &start, None).await),
            _ => None,
        };
        let certificate = match (&config.tls, &public) {
            (Some(tls), _) => Some(ask::certificate(&tls.chain(), &start)),
            (None, Some(GateProbe::Gate { .. } | GateProbe::SomethingElse(_))) => {
                as_anybody.certificate(&start).await.map(|shown| ask::certificate(&[shown.into()], &start))
            }
            (None, _) => None,
        };
        let mut findings = vec![settings(notes)];
        findings.extend(judge::gate(&Addresses {
            is_loopback: freshgate_oidc::is_loopback(&start),
            start: &start,
            listen: config.listen,
            tls: config.tls.is_some(),
            here,
            public,
            certificate,
            now: asker.clock.now(),
        }));
        let store = ask::store(asker, config);
        findings.push(judge::store(&store));
        findings.push(judge::seal(&ask::seal(asker, config, &store).await));
        findings.push(judge::python(&ask::python(asker, app.python.as_deref()).await));
        Ok(findings)
    }

    /// A login that the person makes.
    async fn login(
        &mut self,
        engine: &Engine,
        provider: &Arc<Provider>,
        configured: &ConfiguredProvider,
        site: &Site,
        person: &mut dyn Person,
    ) -> Vec<Finding> {
        let listen = self.config.gate.listen;
        let listener = match person.socket() {
            Some(socket) => {
                socket.listen(1024).map_err(|error| gate::bind_problem(listen, "--listen", &error))
            }
            None => gate::bind(listen, "--listen").await,
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(problem) => {
                return vec![
                    Finding::problem("sign-in", problem.in_one_line())
                        .mend("stop the gate while you check, as the provider sends browsers to its address"),
                ];
            }
        };
        self.asker.progress.clear();
        person.sign_in_at(&site.start, &configured.provider.name);
        let wanted = Wanted {
            provider,
            start: site.start.clone(),
            redirect_uri: site.redirect_uri.clone(),
            tls: self.config.gate.tls.clone(),
            probe_grace: self.command.probe_grace,
        };
        match ask::login::login(&mut self.asker, engine, &wanted, listener).await {
            Ok(facts) => judge::login(&configured.provider, &facts),
            Err(error) => vec![no_login(&error)],
        }
    }
}

fn no_login(error: &NoLogin) -> Finding {
    let finding = Finding::problem("sign-in", ask::chain(error));
    match error {
        NoLogin::Nobody => finding.mend("run it again, open the address, and sign in"),
        NoLogin::Failed(_) => finding.mend("see docs/check.md, which has what can go wrong at a login"),
    }
}

/// What there was to say of the configuration.
fn settings(notes: &Report) -> Finding {
    match notes.count(Severity::Warning) {
        0 => Finding::ok("settings", "read, and nothing is wrong with them"),
        1 => Finding::warning("settings", "read, with the warning above"),
        several => Finding::warning("settings", format!("read, with the {several} warnings above")),
    }
}

/// The app's start by the address that the gate listens on.
fn here(start: &Url, listen: SocketAddr) -> Url {
    let mut here = start.clone();
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    // Fail for addresses without a host alone, and this one has one.
    let _ = here.set_scheme("http");
    let _ = here.set_ip_host(ip);
    let _ = here.set_port(Some(listen.port()));
    here
}

fn transport(options: &TransportOptions, provider: &str) -> Result<HttpTransport, StartupProblem> {
    HttpTransport::new(options).map_err(|error| {
        StartupProblem::new("connections cannot be set up").at(gate::section(provider)).because(&error)
    })
}
