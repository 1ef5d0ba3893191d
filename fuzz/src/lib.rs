//! Whatever reads bytes from outside, called with bytes that no one would think of.
//!
//! A target is one function: it gives the bytes to ours, and asserts what must hold whatever they are. `scripts/fuzz` has
//! libFuzzer look for bytes with which one does not hold; `cargo test` calls each target with its seeds, to which every
//! finding is added. `docs/decisions/0005-fuzzing.md` says why it is done so.

mod callback_query;
mod configuration;
mod cookie_header;
mod forwarded;
mod gate;
mod id_token;
mod key_set;
mod logout_token;
mod metadata;
mod provider_token;
mod signing;
mod token_answer;

/// Something that reads bytes from outside.
pub struct Target {
    /// Its name; `seeds/NAME` and `dictionaries/NAME` are its own.
    pub name: &'static str,
    /// Gives it the bytes. Panics if something does not hold that must.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    Target { name: "callback_query", run: callback_query::run },
    Target { name: "configuration", run: configuration::run },
    Target { name: "cookie_header", run: cookie_header::run },
    Target { name: "forwarded", run: forwarded::run },
    Target { name: "id_token", run: id_token::run },
    Target { name: "key_set", run: key_set::run },
    Target { name: "logout_token", run: logout_token::run },
    Target { name: "metadata", run: metadata::run },
    Target { name: "provider_token", run: provider_token::run },
    Target { name: "token_answer", run: token_answer::run },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn names_in(folder: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_target_holds_with_each_of_its_seeds() {
        let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(names_in("seeds"), names);
        for target in &TARGETS {
            let seeds = names_in(&format!("seeds/{}", target.name));
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name).join(&seed);
                println!("{} {seed}", target.name);
                (target.run)(&fs::read(path).unwrap());
            }
        }
    }
}
