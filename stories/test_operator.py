"""What an operator asks a gate that runs."""

import urllib.request

import pytest

from harness.ports import free_port
from harness.stage import Stage

pytestmark = pytest.mark.providers("devidp")


def test_the_operators_listener_tells_how_the_gate_is(stage: Stage) -> None:
    address = f"127.0.0.1:{free_port()}"
    stage.prepare().start_gate("--operator-listen", address)

    def ask(path: str) -> list[str]:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return [line.decode().rstrip("\n") for line in answer]

    assert ask("/health") == ["alive"]
    assert ask("/ready") == ["ready"]
    assert 'freshgate_provider_left_alone{provider="default"} 0' in ask("/metrics")
    tab = stage.tab().open().is_signed_out().sign_in()
    assert tab.refresh().startswith("new token")

    figures = ask("/metrics")

    assert 'freshgate_sessions_started_total{provider="default"} 1' in figures
    assert 'freshgate_refresh_answers_total{wanted="refresh",outcome="refreshed",reason=""} 1' in figures
    assert "freshgate_sockets_open 1" in figures
    assert "alice" not in "\n".join(figures)
    # Never on the listener that browsers reach: there the path is the app's.
    status, body = stage.gate.get("/metrics")
    assert (status, b"freshgate_" in body) == (200, False)
