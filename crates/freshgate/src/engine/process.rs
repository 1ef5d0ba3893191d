//! Which process this is, so that what it leaves behind is known to be of the dead.
//!
//! A process that was killed says so to nobody, and its lease is watched for ten seconds before another takes it. A gate that
//! starts again on the same machine need not wait: the system knows that the process is gone. It is asked only where a process
//! number means the same to both, and anything that cannot be told is taken for alive.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// A process, in a way that no other one ever has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Where its number names it: the boot of a kernel, a namespace of processes and a user, who sees his own whatever
    /// `/proc` hides of others'.
    realm: String,
    number: u32,
    /// In ticks since the kernel started. Numbers are given out again.
    started: u64,
}

/// What the system says of a process number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// A process that started then is there.
    Alive(u64),
    /// None is there, or one that is over.
    Gone,
    Unknown,
}

impl Process {
    /// This process. `None` where the system does not say: then nobody takes it for dead because of this.
    pub(crate) fn this() -> Option<Self> {
        let number = std::process::id();
        match look_up(number) {
            Seen::Alive(started) => Some(Self { realm: realm()?, number, started }),
            Seen::Gone | Seen::Unknown => None,
        }
    }

    /// Whether it is certain, as seen from the process `here`, that this one is over.
    pub(crate) fn has_died(&self, here: &Self) -> bool {
        self.seen_from(here) == Seen::Gone
    }

    /// Whether it is certain, as seen from the process `here`, that this one is not over.
    pub(crate) fn is_alive(&self, here: &Self) -> bool {
        self.seen_from(here) == Seen::Alive(self.started)
    }

    fn seen_from(&self, here: &Self) -> Seen {
        if self.realm != here.realm {
            return Seen::Unknown;
        }
        match look_up(self.number) {
            // Its number is another's.
            Seen::Alive(started) if started != self.started => Seen::Gone,
            seen => seen,
        }
    }
}

#[cfg(target_os = "linux")]
fn realm() -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let user = fs::metadata("/proc/self").ok()?.uid();
    Some(format!("{}/{}/{user}", boot.trim(), namespace.to_str()?))
}

#[cfg(not(target_os = "linux"))]
fn realm() -> Option<String> {
    None
}

/// proc_pid_stat(5).
fn look_up(number: u32) -> Seen {
    match fs::read_to_string(Path::new("/proc").join(number.to_string()).join("stat")) {
        Ok(stat) => read(&stat),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Gone,
        Err(_) => Seen::Unknown,
    }
}

/// The state is the third field, the start the 22nd. The second is a name in parentheses, which may hold anything.
fn read(stat: &str) -> Seen {
    let Some((_, rest)) = stat.rsplit_once(')') else { return Seen::Unknown };
    let mut fields = rest.split_ascii_whitespace();
    match fields.next() {
        Some("Z" | "X" | "x") => Seen::Gone,
        Some(_) => fields.nth(18).and_then(|started| started.parse().ok()).map_or(Seen::Unknown, Seen::Alive),
        None => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 99";
        for (line, expected) in [
            (format!("7 (freshgate) S {rest}"), Seen::Alive(4711)),
            (format!("7 (a ) S 1 (b) R {rest}"), Seen::Alive(4711)),
            (format!("7 (freshgate) Z {rest}"), Seen::Gone),
            ("7 (freshgate) S 1 2 3".to_owned(), Seen::Unknown),
            ("7 (freshgate)".to_owned(), Seen::Unknown),
            (String::new(), Seen::Unknown),
        ] {
            assert_eq!(read(&line), expected, "{line}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_was_killed_is_known_to_be_dead() {
        let here = Process::this().expect("Linux says who we are");
        assert!(!here.has_died(&here));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let Seen::Alive(started) = look_up(child.id()) else { panic!("it was started a moment ago") };
        let process = Process { realm: here.realm.clone(), number: child.id(), started };
        let elsewhere = Process { realm: "another machine".to_owned(), ..here.clone() };
        assert!(!process.has_died(&here));
        child.kill().unwrap();
        while !process.has_died(&here) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.has_died(&here));
        assert!(!process.has_died(&elsewhere), "a number means nothing there");
        let later = Process { started: here.started - 1, ..here.clone() };
        assert!(later.has_died(&here), "its number was given out again");
    }
}
