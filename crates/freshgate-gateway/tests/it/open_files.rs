//! The soft limit on open files, with which most systems start programs, is for others.

use rustix::process::Signal;

use crate::program::Program;

#[test]
fn as_many_files_may_be_open_as_the_system_allows() {
    for (limits, connections, said) in [
        ("ulimit -Sn 256", "400", None),
        ("ulimit -Sn 256; ulimit -Hn 512", "400", Some("open_files=512 connections=400 fitting=224")),
    ] {
        let mut gate =
            Program::new("").after(limits).variable("FRESHGATE_LIMITS_CONNECTIONS", connections).start();
        let allowed = gate.read(&format!("/proc/{}/limits", gate.pid()));
        let line = allowed.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let [soft, hard] = [3, 4].map(|column| line.split_whitespace().nth(column).unwrap());
        assert_eq!(soft, hard, "{limits}: {line}");
        gate.send(Signal::TERM);
        gate.wait();
        let log = gate.read("log");
        assert_eq!(log.contains("too few open files"), said.is_some(), "{limits}: {log}");
        assert!(said.is_none_or(|said| log.contains(said)), "{limits}: {log}");
    }
}
