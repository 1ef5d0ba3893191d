"""`freshgate sessions`: an operator looks at sessions and ends them, whether or not the gate runs."""

import json
import signal
from typing import Any

import pytest

from harness.stage import Stage
from harness.waiting import until

pytestmark = pytest.mark.providers("devidp")

# For so long a lease is watched whose holder may be alive (`LEASE` in the engine).
LEASE_SECONDS = 10.0


def listed(stage: Stage, *arguments: str) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = json.loads(stage.operator("sessions", "list", "--json", *arguments))["sessions"]
    return sessions


def events(stage: Stage, handle: str) -> list[str]:
    """What happened to a session, oldest first."""
    return [one["what"] for one in json.loads(stage.operator("sessions", "show", handle, "--json"))["history"]]


def test_an_operator_ends_a_session_of_a_running_gate(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    bystander = stage.tab(stage.profile()).open().is_signed_out().sign_in("bob")
    assert tab.refresh().startswith("new token")
    [alice] = listed(stage, "--user", "alice")
    handle = alice["session"]
    assert events(stage, handle) == ["signed_in", "refreshed"]
    connected = tab.sockets()

    said = stage.operator("sessions", "end", handle, "--yes")

    tab.is_signed_out(seconds=1.0)
    other.is_signed_out(seconds=1.0)
    until(lambda: tab.sockets() > connected, "the page to have lost its socket")
    bystander.is_signed_in()
    assert "revoked" in said
    shown = json.loads(stage.operator("sessions", "show", handle, "--json"))
    assert shown["ended"]["reason"] == "operator"
    assert [one["sub"] for one in listed(stage)] == ["bob"]


def test_an_operator_reads_and_ends_sessions_of_a_stopped_gate(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    stage.remember_cookies()
    stage.gate.stop()
    [alice] = listed(stage)

    stage.operator("sessions", "end", "--user", "alice", "--yes")

    assert not listed(stage)
    assert [one["session"] for one in listed(stage, "--ended")] == [alice["session"]]
    stage.start_gate()
    tab.open().is_signed_out()


def test_the_refresh_of_a_killed_gate_is_taken_over_at_once(stage: Stage) -> None:
    stage.provider_with(grace_seconds=60).prepare(redirect_uri="http://localhost:{port}/oauth2callback")
    (stage.project.folder / "freshgate.toml").write_text('[provider.default]\ngrace = "60s"\n')
    killed = stage.start_gate()
    neighbour = stage.start_neighbour()
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab()
    other.address = neighbour.address
    other.open().is_signed_in()
    stage.provider.delay_refreshes(60_000)
    tab.click("refresh")
    until(lambda: stage.provider.refreshes() == 1, "the refresh request to reach the provider")

    killed.process.send(signal.SIGKILL)
    killed.process.wait_for_exit()
    stage.provider.behave()
    other.click("refresh")

    # Whoever waits for the lease of a process that may be alive gets nothing for longer than this.
    other.shows("refreshed", "new token, Alice Example -> Alice Example", seconds=LEASE_SECONDS - 2.0)
    assert other.call_api() == "200"
