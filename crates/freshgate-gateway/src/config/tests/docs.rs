//! docs/configuration.md has every key, flag and variable.

use clap::CommandFactory as _;

use super::{super::SETTINGS, Case};
use crate::cli::Cli;

const DOCS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md"));
const SERVE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/serve.md"));

#[test]
fn every_setting_is_documented() {
    for setting in SETTINGS {
        let flag = setting.flag.map(|flag| format!("--{flag}"));
        let key = setting.key.map(|key| key.rsplit_once('.').map_or(key, |(_, last)| last).to_owned());
        for name in [key, flag, setting.variable.map(str::to_owned)].into_iter().flatten() {
            assert!(DOCS.contains(&format!("`{name}`")), "docs/configuration.md does not have `{name}`");
        }
    }
}

#[test]
fn the_examples_are_good() {
    let mut listening = Vec::new();
    for example in DOCS.split("```toml\n").skip(1) {
        let (example, _) = example.split_once("```").expect("it ends");
        let example = example.replace("/etc/ssl/company.pem", "company.pem");
        let case = Case::with_freshgate_toml(&example).file("company.pem", "-----BEGIN CERTIFICATE-----\n");
        listening.push(case.config(&[]).listen.to_string());
    }
    assert_eq!(listening, ["127.0.0.1:8501", "0.0.0.0:8501"]);
}

/// The second is what is added to the first.
#[test]
fn the_examples_of_serve_are_good() {
    let examples =
        SERVE.split("```toml\n").skip(1).map(|example| example.split_once("```").expect("it ends").0);
    let [first, more, hosts] = examples.collect::<Vec<_>>()[..] else { panic!("there are three") };
    let auth = first.split_once("\n[[upstream]]").expect("it has an app").0;
    let at_a_host = auth.replace("http://localhost:8501", "https://apps.example.com");
    let (domain, hosts) = hosts.split_once('\n').expect("the domain comes first");
    let hosts = format!("{domain}\n{at_a_host}\n{hosts}");
    for (example, apps) in [(first.to_owned(), 1), (format!("{auth}\n{more}"), 2), (hosts, 2)] {
        let case = Case::new().file("freshgate.toml", &example);
        let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
        assert!(report.is_empty(), "{report:?}");
        assert_eq!(config.upstreams.len(), apps);
    }
}

#[test]
fn every_flag_is_a_setting_and_every_setting_with_a_flag_has_one() {
    let command = Cli::command();
    let flags: Vec<&str> = command
        .get_subcommands()
        .flat_map(|command| command.get_arguments())
        // What is asked of a command, once, is no setting.
        .filter(|argument| argument.get_help_heading() != Some("Check"))
        .filter_map(|argument| argument.get_long())
        .collect();
    for flag in &flags {
        assert!(SETTINGS.iter().any(|setting| setting.flag == Some(flag)), "--{flag}");
    }
    for flag in SETTINGS.iter().filter_map(|setting| setting.flag) {
        assert!(flags.contains(&flag), "--{flag}");
    }
}
