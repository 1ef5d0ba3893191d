//! What the app's process inherits.

use rustix::process::Signal;

use crate::program::{CLIENT_SECRET, COOKIE_SECRET, Program};

#[test]
fn the_gates_own_settings_stay_with_the_gate() {
    let mut gate = Program::new("").start();
    let environment = gate.read("environment");
    gate.send(Signal::TERM);
    gate.wait();

    let mut ours: Vec<_> =
        environment.lines().filter_map(|line| line.split_once('=')?.0.strip_prefix("FRESHGATE_")).collect();
    ours.sort_unstable();
    assert_eq!(ours, ["GATE_PID", "PROVIDERS", "SESSION_API", "UPSTREAM_SECRET"]);
    for secret in [CLIENT_SECRET, COOKIE_SECRET] {
        assert!(!environment.contains(secret), "a secret is in the app's environment");
    }
    assert!(environment.contains("PRETEND="), "what is not the gate's is inherited");
}
