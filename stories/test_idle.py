"""Sessions that nobody uses end, whatever is open."""

import time

import pytest

from harness.providers import DevProvider
from harness.stage import Stage
from harness.visitor import Visitor

pytestmark = pytest.mark.providers("devidp")

IDLE = 10.0
# A tenth of it, after which a use is written anew.
LATE = 1.0


def set_up(stage: Stage) -> Stage:
    stage.prepare()
    (stage.project.folder / "freshgate.toml").write_text(f'[session]\nidle_timeout = "{IDLE:g}s"\n')
    stage.start_gate()
    return stage


def test_an_untouched_page_is_signed_out_and_one_in_use_is_not(stage: Stage) -> None:
    tab = set_up(stage).tab().open().is_signed_out().sign_in()
    untouched = stage.tab().open().is_signed_in()

    # Clicks go over the socket alone: to the gate they are frames among others.
    started = time.monotonic()
    clicks = tab.number("clicks")
    while time.monotonic() - started < 2 * IDLE:
        clicks += 1
        tab.click("count").shows("clicks", clicks)
        tab.page.wait_for_timeout(1_000)
    untouched.is_signed_in(seconds=1.0)  # one session, two tabs: it is in use

    last_used = time.monotonic()
    tab.click("count").shows("clicks", clicks + 1)
    tab.is_signed_out(seconds=IDLE + LATE + 3.0)
    waited = time.monotonic() - last_used
    assert waited > IDLE, f"too early: {waited:.1f} s"
    untouched.is_signed_out(seconds=1.0)
    assert 'reason="idle"' in stage.gate.process.output()


def test_a_socket_that_only_answers_pings_is_closed_and_one_with_data_is_not(stage: Stage) -> None:
    set_up(stage)
    assert isinstance(stage.provider, DevProvider)
    address = stage.project.address

    def signed_in(user: str) -> Visitor:
        visitor = Visitor(address)
        to_provider = visitor.navigate(f"{address}/auth/login").location
        back = visitor.navigate(f"{to_provider}&auto_login={user}", "cross-site").location
        assert visitor.navigate(back, "cross-site").status == 303
        stage.remember(visitor.cookie("freshgate") or "")
        return visitor

    pong, binary = 0xA, 0x2
    heartbeat = b"\x88\x01\x01"  # Streamlit's BackMsg.app_heartbeat, to which it does nothing
    idle, busy = signed_in("alice"), signed_in("bob")
    with idle.open_socket() as answering, busy.open_socket() as sending:
        started = time.monotonic()
        closed: float | None = None
        while closed is None and time.monotonic() - started < IDLE + LATE + 3.0:
            answering.send(pong, b"ping")
            sending.send(binary, heartbeat)
            closed = answering.seconds_until_closed(1.0)
        waited = time.monotonic() - started
        assert closed is not None and waited > IDLE, f"{waited:.1f} s"
        assert idle.send("GET", f"{address}/auth/user", {}).status == 401
        assert sending.seconds_until_closed(0.2) is None
        assert busy.send("GET", f"{address}/auth/user", {}).status == 200
