//! This machine: the store, the keys that seal, the Python that runs the app.

use std::{path::Path, sync::Arc, time::Duration};

use freshgate::{
    keyring::{Key, Keyring, Resealing},
    store::SqliteStore,
};
use serde::Deserialize;

use super::{Asker, chain};
use crate::{
    check::facts::{FolderFacts, PythonFacts, SealFacts, StoreFacts},
    config::{Config, StoreLocation},
    keys::{self, is_open_to_others},
    streamlit::{ModuleDirectory, Python},
    words::{printable, printable_up_to},
};

/// How many sessions are looked at for the keys that seal them.
const LOOK_AT: usize = 2_000;
/// What the module says in one sentence, with paths in it.
const LONGEST_PROBLEM: usize = 1_000;
/// How long a Python may take to load Streamlit.
const PYTHON_PATIENCE: Duration = Duration::from_secs(60);

/// Looks at the store, and changes nothing.
pub(in crate::check) fn store(asker: &mut Asker, config: &Config) -> StoreFacts {
    let StoreLocation::Sqlite(path) = &config.store else { return StoreFacts::Memory };
    asker.tell(&format!("looking into {}", path.display()));
    if !path.exists() {
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = match (folder.is_dir(), config.makes_folder(folder)) {
            (true, _) if tempfile::tempfile_in(folder).is_ok() => FolderFacts::Writable,
            (true, _) => FolderFacts::NotWritable,
            (false, true) => FolderFacts::IsMade,
            (false, false) => FolderFacts::Missing,
        };
        return StoreFacts::Absent { path: path.clone(), folder };
    }
    match SqliteStore::inspect(path) {
        Ok(inspection) => {
            StoreFacts::There { path: path.clone(), inspection, open_to_others: is_open_to_others(path) }
        }
        Err(error) => StoreFacts::Unusable { path: path.clone(), why: chain(&error) },
    }
}

/// Looks whether the keys that we have open what is in the store. `store` is what was found of it.
pub(in crate::check) async fn seal(asker: &mut Asker, config: &Config, store: &StoreFacts) -> SealFacts {
    let ring = match keys::keyring(&config.keys, &config.cookie_secret) {
        Ok(ring) => ring,
        Err(problem) => return SealFacts::Unusable(problem.in_one_line()),
    };
    let file = &config.keys.file;
    let (looked_at, unreadable) = match store {
        // Only a store that is up to date: to open an older one is to change it.
        StoreFacts::There { path, inspection, .. } if inspection.schema == inspection.known_schema => {
            asker.tell("looking at what seals the sessions");
            unreadable(path, &ring).await.unwrap_or_default()
        }
        _ => (0, 0),
    };
    SealFacts::Ring {
        seals: ring.seals().to_string(),
        of_cookie_secret: ring.seals() == Key::from_secret(&config.cookie_secret).id(),
        looked_at,
        unreadable,
        open_to_others: is_open_to_others(file).then(|| file.clone()),
    }
}

/// How many of the first sessions there are, and how many of them were sealed with a key that we do not have.
async fn unreadable(path: &Path, ring: &Keyring) -> Option<(u64, u64)> {
    let store = SqliteStore::open(path).ok()?;
    let mut way = Resealing::counting(Arc::new(store.clone()));
    let counted = way.step(LOOK_AT).await;
    store.close().await;
    counted.ok()?;
    let counts = way.counts().by_key.iter();
    let all = |(_, count): (_, &freshgate::keyring::SealCount)| count.all();
    let unknown = counts.clone().filter(|(id, _)| !ring.opens(**id));
    Some((counts.map(all).sum(), unknown.map(all).sum()))
}

/// What `python -m freshgate --describe` says.
#[derive(Deserialize)]
struct Told {
    python: String,
    streamlit: Option<String>,
    newest_known_streamlit: String,
    problem: Option<String>,
}

/// Asks the Python that would run the app.
pub(in crate::check) async fn python(asker: &mut Asker, named: Option<&Path>) -> PythonFacts {
    let Ok(python) = Python::find(named) else { return PythonFacts::NotFound };
    let path = python.path.clone();
    asker.tell(&format!("asking {} for its Streamlit", path.display()));
    match ask_python(&python).await {
        Ok(Told { python, streamlit, newest_known_streamlit, problem }) => PythonFacts::Told {
            path,
            python: printable(&python),
            streamlit: streamlit.as_deref().map(printable),
            newest_known: printable(&newest_known_streamlit),
            problem: problem.map(|problem| printable_up_to(LONGEST_PROBLEM, &problem)),
        },
        Err(why) => PythonFacts::Failed { path, why },
    }
}

async fn ask_python(python: &Python) -> Result<Told, String> {
    let module = ModuleDirectory::create().map_err(|error| chain(&error))?;
    let mut asked = python.with_module(&module).map_err(|error| chain(&error))?;
    let asked = asked.arg("--describe").kill_on_drop(true).output();
    let output = match tokio::time::timeout(PYTHON_PATIENCE, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(chain(&error)),
        Err(_) => return Err(format!("it did not answer within {} s", PYTHON_PATIENCE.as_secs())),
    };
    // What it says last is the most telling.
    let last_line = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
    };
    let told = last_line(&output.stdout);
    match told.as_deref().map(serde_json::from_str) {
        Some(Ok(told)) => Ok(told),
        _ => {
            let said = last_line(&output.stderr).or(told);
            Err(said.map_or_else(|| format!("it ended with {}", output.status), |said| printable(&said)))
        }
    }
}
