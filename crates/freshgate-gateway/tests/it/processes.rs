//! Nothing that the app has started outlives the gate.

use std::fs;

use rustix::process::Signal;

use crate::program::{Program, Running, is_alive};

#[track_caller]
fn assert_alone(gate: &Running) {
    let children = gate.children();
    assert_eq!(children.len(), 2);
    gate.until("the app's own processes end", || !children.iter().any(|child| is_alive(*child)));
}

#[test]
fn what_the_app_started_ends_when_the_gate_is_told_to_stop() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut gate = Program::new("starting").start();
        assert!(gate.children().into_iter().all(is_alive));
        gate.send(signal);
        assert_eq!(gate.wait().code(), Some(0), "{signal:?}: {}", gate.read("log"));
        assert_alone(&gate);
    }
}

#[test]
fn what_the_app_started_ends_with_streamlit() {
    let mut gate = Program::new("ending").start();
    fs::write(gate.file("end"), "").unwrap();
    assert_eq!(gate.wait().code(), Some(7), "{}", gate.read("log"));
    assert_alone(&gate);
}

#[test]
fn a_second_signal_leaves_nothing_behind_either() {
    let mut gate = Program::new("stubborn").start();
    gate.send(Signal::INT);
    gate.until("it begins to stop", || gate.read("log").contains("stopping"));
    gate.send(Signal::INT);
    assert_eq!(gate.wait().code(), Some(1), "{}", gate.read("log"));
    assert_alone(&gate);
}
