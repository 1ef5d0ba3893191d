//! The store, the keys that seal, the Python that runs the app.

use crate::check::{
    facts::{FolderFacts, PythonFacts, SealFacts, StoreFacts},
    finding::Finding,
};

pub(in crate::check) fn store(store: &StoreFacts) -> Finding {
    match store {
        StoreFacts::Memory => {
            Finding::warning("store", "is in memory: everybody is signed out whenever the gate stops")
                .mend("keep sessions in a file: `--store sqlite:PATH`")
        }
        StoreFacts::Absent { path, folder: FolderFacts::Writable | FolderFacts::IsMade } => {
            Finding::ok("store", format!("{} is made at the start", path.display()))
        }
        StoreFacts::Absent { path, folder } => {
            let what = if *folder == FolderFacts::Missing {
                "there is no folder for"
            } else {
                "nothing may be written beside"
            };
            Finding::problem("store", format!("{what} {}", path.display()))
                .mend("make the folder, or let freshgate's user write to it, or name another place: `--store sqlite:PATH`")
        }
        StoreFacts::There { path, inspection, open_to_others } => {
            let mut what = format!(
                "{} has {} and remembers {} that ended",
                path.display(),
                sessions(inspection.live),
                inspection.ended
            );
            if inspection.schema != inspection.known_schema {
                what += &format!(
                    "; it has schema {}, and is brought to {} at the start, which older versions cannot read",
                    inspection.schema, inspection.known_schema
                );
            }
            if *open_to_others {
                return Finding::warning(
                    "store",
                    format!("{what}; others on this machine can read the file"),
                )
                .mend(format!("chmod 600 {}", path.display()));
            }
            Finding::ok("store", what)
        }
        StoreFacts::Unusable { path, why } => Finding::problem("store", why.clone())
            .mend(format!("name another store than {}: `--store sqlite:PATH`", path.display())),
    }
}

pub(in crate::check) fn seal(seal: &SealFacts) -> Finding {
    let (seals, of_cookie_secret, looked_at, unreadable, open_to_others) = match seal {
        SealFacts::Unusable(why) => {
            return Finding::problem("keys", why.clone())
                .mend("put back the file as `freshgate keys` wrote it; see docs/keys.md");
        }
        SealFacts::Ring { seals, of_cookie_secret, looked_at, unreadable, open_to_others } => {
            (seals, of_cookie_secret, *looked_at, *unreadable, open_to_others)
        }
    };
    let from = if *of_cookie_secret { "made from cookie_secret" } else { "of the key file" };
    let mut what = format!("the key {seals}, {from}, seals sessions");
    if unreadable > 0 {
        what += &format!(
            "; but {unreadable} of {looked_at} sessions in the store are sealed with keys that are not here: to these users \
             it is as if they were signed out"
        );
        return Finding::warning("keys", what).mend(
            "if cookie_secret was changed, name the old one in [keys] former_cookie_secrets; `freshgate keys list` tells more",
        );
    }
    if looked_at > 0 {
        what += &format!("; those in the store can be read ({} looked at)", sessions(looked_at));
    }
    match open_to_others {
        Some(file) => {
            Finding::warning("keys", format!("{what}; others on this machine can read {}", file.display()))
                .mend(format!(
                    "chmod 600 {}; then `freshgate keys new` and `freshgate keys rotate`",
                    file.display()
                ))
        }
        None => Finding::ok("keys", what),
    }
}

pub(in crate::check) fn python(python: &PythonFacts) -> Finding {
    match python {
        PythonFacts::NotFound => Finding::problem("python", "there is no Python")
            .mend("activate the environment that has Streamlit, or name its interpreter: `--python .venv/bin/python`"),
        PythonFacts::Failed { path, why } => {
            Finding::problem("python", format!("{} cannot tell what it has: {why}", path.display()))
                .mend("name the interpreter that has Streamlit: `--python .venv/bin/python`")
        }
        PythonFacts::Told { problem: Some(problem), path, .. } => match problem.split_once(". ") {
            // The module says what is wrong and how to mend it.
            Some((what, mend)) => Finding::problem("python", what.to_owned()).mend(mend.to_owned()),
            None => Finding::problem("python", format!("{}: {problem}", path.display())),
        },
        PythonFacts::Told { path, python, streamlit, newest_known, problem: None } => {
            let streamlit = streamlit.as_deref().unwrap_or("of no known version");
            let what = format!("{} is Python {python}, with Streamlit {streamlit}", path.display());
            if numbers(streamlit) > numbers(newest_known) {
                return Finding::warning(
                    "python",
                    format!("{what}, which is newer than {newest_known}, the newest that this freshgate was tested with"),
                );
            }
            Finding::ok("python", what)
        }
    }
}

/// Major and minor: a newer patch is no reason for a word.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn sessions(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}
