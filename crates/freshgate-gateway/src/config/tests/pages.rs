//! What is written in the documentation can be done: its configurations are good ones, its commands are understood.

use std::{fs, path::PathBuf};

use clap::{CommandFactory as _, Parser as _};

use super::{Case, GOOD};
use crate::cli::Cli;

/// Each page of the documentation with its text.
fn pages() -> Vec<(String, String)> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut folders = vec!["docs".to_owned()];
    let mut names = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned(), "python/README.md".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else if entry.path().extension().is_some_and(|extension| extension == "md") {
                names.push(name);
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| (name.clone(), fs::read_to_string(root.join(&name)).unwrap())).collect()
}

/// The examples of a page that are in this language.
fn examples<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begins = format!("```{language}\n");
    let after = |begin: &'a str| begin.split_once("```").expect("the example ends").0;
    text.split(begins.as_str()).skip(1).map(after).collect()
}

/// The example with something in place of what is everybody's own, and files where it names some.
fn filled_in(example: &str) -> (String, Vec<String>) {
    let mut text = example.replace("\"…\"", "\"0123456789abcdef0123456789abcdef\"");
    let files: Vec<String> = text
        .split('"')
        .filter(|word| word.starts_with('/') && word.ends_with(".pem"))
        .map(str::to_owned)
        .collect();
    for file in &files {
        text = text.replace(file.as_str(), file.trim_start_matches('/'));
    }
    (text, files)
}

#[test]
fn every_configuration_is_good() {
    let mut read = 0;
    for (page, text) in pages() {
        for example in examples(&text, "toml") {
            let (text, files) = filled_in(example);
            let has = |start: &str| text.lines().any(|line| line.starts_with(start));
            let (is_auth, is_serve) = (has("[auth"), has("[[upstream]]"));
            let mut case = match (is_auth, is_serve) {
                (true, false) => Case::with_secrets(&text),
                // All in one file.
                (true, true) => Case::new().file("freshgate.toml", &text),
                // What is about several hosts cannot be at localhost.
                (false, true) if has("cookie_domain") => {
                    let auth = GOOD.replace("http://localhost:8501", "https://apps.example.com");
                    Case::new().file("freshgate.toml", &format!("{text}\n{auth}"))
                }
                (false, true) => Case::new().file("freshgate.toml", &format!("{text}\n{GOOD}")),
                (false, false) => Case::with_freshgate_toml(&text),
            };
            for file in files {
                case = case.file(file.trim_start_matches('/'), "-----BEGIN CERTIFICATE-----\n");
            }
            for name in text.lines().filter_map(|line| line.strip_prefix("secret_file = ")) {
                case = case.file(name.trim_matches('"'), "0123456789abcdef0123456789abcdef\n");
            }
            let report = if is_serve { case.report_of_serve(&[]) } else { case.report(&[]) };
            assert_eq!(report, "", "{page}:\n{example}");
            read += 1;
        }
    }
    assert!(read > 15, "only {read} examples were found");
    // The fixture of this test itself would not do as an example that is refused.
    assert_ne!(Case::with_secrets(&GOOD.replace("client_id", "client_idd")).report(&[]), "");
}

#[test]
fn every_command_is_understood() {
    let mut understood = 0;
    for (page, text) in pages() {
        for line in examples(&text, "sh").iter().flat_map(|example| example.lines()) {
            let command = line.split(" #").next().unwrap_or_default().trim();
            let words: Vec<&str> = command.split_whitespace().skip_while(|word| word.contains('=')).collect();
            if words.first() != Some(&"freshgate") {
                continue;
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                // `--help` and `--version` are no mistakes.
                assert!(!error.use_stderr(), "{page}: {command}\n{error}");
            }
            understood += 1;
        }
    }
    assert!(understood > 15, "only {understood} commands were found");
    assert!(Cli::try_parse_from(["freshgate", "run", "app.py", "--listne", "127.0.0.1:1"]).is_err());
}

#[test]
fn every_flag_in_a_sentence_exists() {
    let mut flags = vec!["--help".to_owned(), "--version".to_owned()];
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        flags.extend(command.get_arguments().filter_map(|it| it.get_long()).map(|long| format!("--{long}")));
        commands.extend(command.get_subcommands().cloned());
    }
    let mut found = 0;
    for (page, text) in pages() {
        // Between backquotes, outside of examples: every second piece.
        let prose = text.split("```").step_by(2).collect::<String>();
        for span in prose.split('`').skip(1).step_by(2).filter(|span| span.starts_with("freshgate ")) {
            let ours = span.split(" -- ").next().unwrap_or_default();
            for flag in ours.split_whitespace().filter(|word| word.starts_with("--")) {
                let name = flag.split('=').next().unwrap_or_default();
                assert!(flags.iter().any(|known| known == name), "{page}: `{span}`");
                found += 1;
            }
        }
    }
    assert!(found >= 3, "only {found} flags were found");
}
