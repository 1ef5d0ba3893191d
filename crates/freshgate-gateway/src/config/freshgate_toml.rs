//! freshgate.toml: which keys there are, and what to say of others.

use std::path::Path;

use super::{
    environment::Environment,
    item::{Entry, Table},
    report::{Problem, Report},
    secrets,
    setting::{Given, SETTINGS},
    suggest,
    toml_file::{self, NoTomlFile},
};

/// The name of the file.
pub(super) const NAME: &str = "freshgate.toml";

/// Reads the file that was named, or the one in the current folder if there is one. Unknown keys are errors.
pub(super) fn read(named: Option<&Given>, environment: &Environment, report: &mut Report) -> Table {
    let path = match named {
        Some(given) => match given.path(report) {
            Some(path) => path,
            None => return Table::default(),
        },
        None => environment.absolute(Path::new(NAME)),
    };
    match (toml_file::read(&path, &environment.shown(&path), may_show, Problem::error, report), named) {
        (Ok(table), _) => {
            check_keys(&table, "", report);
            table
        }
        (Err(NoTomlFile::Missing), Some(given)) => {
            report.add(
                Problem::error(format!("there is no `{}`", environment.shown(&path)))
                    .at(&given.item.place, "is not there")
                    .help("create it, or name another file"),
            );
            Table::default()
        }
        (Err(NoTomlFile::Missing | NoTomlFile::Reported), _) => Table::default(),
    }
}

/// Every key that there is, dotted, `NAME` standing for a provider's name.
fn keys() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|setting| setting.key)
}

fn is_key(path: &[&str]) -> bool {
    keys().any(|key| {
        let parts: Vec<&str> = key.split('.').collect();
        parts.len() == path.len()
            && parts.iter().zip(path).all(|(part, here)| part == here || *part == "NAME")
    })
}

fn may_show(path: &[&str]) -> bool {
    match path.first() {
        Some(&"auth") => secrets::may_show(path),
        // Rules and the claims in them have keys of their own, and so have apps. In a file that is damaged what seems to be
        // theirs may be another table's.
        Some(&("access" | "upstream")) => {
            path.iter().all(|key| *key == "secret_file" || !key.contains("secret"))
        }
        _ => is_key(path) && path != ["keys", "former_cookie_secrets"],
    }
}

/// Whether keys go on below this path.
fn is_table(path: &[&str]) -> bool {
    keys().any(|key| {
        let parts: Vec<&str> = key.split('.').collect();
        parts.len() > path.len() && parts.iter().zip(path).all(|(part, here)| part == here || *part == "NAME")
    })
}

fn check_keys(table: &Table, prefix: &str, report: &mut Report) {
    // `[auth]` is read with that of Streamlit's secrets.
    for entry in table.entries.iter().filter(|entry| !(prefix.is_empty() && entry.key == secrets::AUTH)) {
        let dotted = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        // Keys are counted by their dots: one with a dot in it is no key of ours.
        let path: Vec<&str> = dotted.split('.').collect();
        match entry.item.as_table() {
            Some(inner) if is_table(&path) => check_keys(inner, &dotted, report),
            None if is_table(&path) => {
                let label = format!("expected a table, found {}", entry.item.kind());
                let problem =
                    Problem::error(format!("`{dotted}` has the wrong type")).at(&entry.item.place, label);
                report.add(problem.help(format!("write its keys below [{dotted}]")));
            }
            _ if is_key(&path) => {}
            _ => report.add(unknown(entry, &dotted)),
        }
    }
}

fn unknown(entry: &Entry, dotted: &str) -> Problem {
    let problem = Problem::error(format!("there is no setting `{dotted}`")).at(&entry.key_place, "unknown");
    if OF_STREAMLIT.contains(&entry.key.as_str()) {
        return problem.help(
            "write it below `[auth]`, here or in .streamlit/secrets.toml, or set its FRESHGATE_* variable",
        );
    }
    let table = dotted.rsplit_once('.').map_or("", |(table, _)| table);
    let here = keys().filter_map(|key| match table {
        "" => Some(key.split_once('.').map_or(key, |(table, _)| table)),
        table if table.starts_with("provider.") => key.strip_prefix("provider.NAME."),
        table => key.strip_prefix(table)?.strip_prefix('.'),
    });
    if let Some(meant) = suggest::nearest(&entry.key, here) {
        return problem.help(format!("did you mean `{meant}`?"));
    }
    let elsewhere = keys().find(|key| key.rsplit_once('.').is_some_and(|(_, last)| last == entry.key));
    match elsewhere {
        Some(key) => problem.help(format!("did you mean `{key}`?")),
        None => problem.help("remove it; docs/configuration.md has all settings"),
    }
}

/// Keys that people look for here and that belong to `[auth]`.
const OF_STREAMLIT: &[&str] = &[
    "client_id",
    "client_secret",
    "cookie_secret",
    "redirect_uri",
    "server_metadata_url",
    "client_kwargs",
    "expose_tokens",
];

#[cfg(test)]
mod tests {
    use super::{super::redact::mask_lines, *};

    /// What follows it seems to be of the table above, whose values are shown.
    #[test]
    fn a_table_that_lost_its_bracket_shows_no_secret() {
        for above in ["[access]\nrequire_login = true", "[[upstream]]\nsecret_file = \"a\""] {
            for key in ["cookie_secret", "client_secret", "former_cookie_secrets"] {
                let damaged = format!("{above}\nauth]\n{key} = \"hunter2\"\n");
                let shown = mask_lines(&damaged, may_show).text;
                assert_eq!(shown, format!("{above}\n***\n{key} = ***\n"));
            }
        }
    }
}
