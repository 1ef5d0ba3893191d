//! Where sessions are kept.

use std::path::{Path, PathBuf};

use super::{report::Report, setting::Given, suggest};

/// Where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// In memory: they are lost when freshgate stops.
    Memory,
    /// In a SQLite database.
    Sqlite(PathBuf),
}

impl StoreLocation {
    /// The folder that it is in; `None` if it is in memory.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Sqlite(path) => path.parent(),
        }
    }
}

/// Reads `memory:` or `sqlite:PATH`.
pub(super) fn read(given: &Given, report: &mut Report) -> Option<StoreLocation> {
    let text = given.text(report)?.trim();
    match parse(text, &given.folder) {
        Ok(location) => Some(location),
        Err((label, help)) => given.refuse(label, &help, report),
    }
}

fn parse(text: &str, folder: &Path) -> Result<StoreLocation, (&'static str, String)> {
    let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| !kind.is_empty()) else {
        return Err(match text {
            "memory" | ":memory:" => ("not a store", "did you mean `memory:`?".to_owned()),
            path => ("expected sqlite:PATH or memory:", format!("did you mean `sqlite:{path}`?")),
        });
    };
    match kind {
        "memory" if rest.is_empty() => Ok(StoreLocation::Memory),
        "memory" => Err(("nothing follows `memory:`", "write `memory:`".to_owned())),
        "sqlite" if rest == ":memory:" => Err(("not a file", "did you mean `memory:`?".to_owned())),
        "sqlite" => {
            let path = match rest.strip_prefix("//") {
                // `sqlite:///data/x.db`, as other programs write it. A host between the slashes has no meaning.
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err(("a file is on this machine", "write sqlite:PATH".to_owned())),
                None => rest,
            };
            match path {
                "" => Err((
                    "the path is missing",
                    "write sqlite:PATH, such as sqlite:.freshgate/sessions.db".to_owned(),
                )),
                path => Ok(StoreLocation::Sqlite(folder.join(path))),
            }
        }
        "redis" | "rediss" | "valkey" | "postgres" | "postgresql" => {
            Err(("this version has no such store", "use `sqlite:PATH` or `memory:`".to_owned()))
        }
        kind => Err(("unknown kind of store", suggest::choice(kind, &["sqlite", "memory"]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        for (text, expected) in [
            ("memory:", Ok(StoreLocation::Memory)),
            ("sqlite:x.db", Ok(StoreLocation::Sqlite("/srv/x.db".into()))),
            ("sqlite:/var/x.db", Ok(StoreLocation::Sqlite("/var/x.db".into()))),
            ("sqlite:///var/x.db", Ok(StoreLocation::Sqlite("/var/x.db".into()))),
            ("sqlite://host/x.db", Err("a file is on this machine")),
            ("sqlite:", Err("the path is missing")),
            ("sqlite::memory:", Err("not a file")),
            ("memory:x", Err("nothing follows `memory:`")),
            ("memory", Err("not a store")),
            (":memory:", Err("not a store")),
            ("x.db", Err("expected sqlite:PATH or memory:")),
            ("redis://host", Err("this version has no such store")),
            ("sqlit:x", Err("unknown kind of store")),
        ] {
            assert_eq!(parse(text, Path::new("/srv")).map_err(|(label, _)| label), expected, "{text}");
        }
    }
}
