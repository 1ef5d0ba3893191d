"""The gate and its Streamlit live and die together."""

import signal

import pytest

from harness.process import end_by_force, is_alive
from harness.stage import Stage
from harness.waiting import until

pytestmark = pytest.mark.providers("devidp")


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"], ids=["ctrl_c", "sigterm", "kill_9"])
def test_when_the_gate_stops_streamlit_stops(stage: Stage, how: str) -> None:
    stage.set_up()
    streamlit = stage.gate.streamlit()

    stage.gate.process.send(signal.Signals[how])

    code = stage.gate.process.wait_for_exit()
    until(lambda: not is_alive(streamlit), "Streamlit to end too", seconds=10)
    if how != "SIGKILL":
        assert code == 0, stage.gate.process.output()


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"], ids=["ctrl_c", "sigterm", "kill_9"])
def test_what_the_app_started_ends_with_the_gate(stage: Stage, how: str) -> None:
    started = [int(pid) for pid in stage.set_up(app="starts.py").tab().open().text("started").split()]
    assert all(map(is_alive, started)), started

    stage.gate.process.send(signal.Signals[how])

    stage.gate.process.wait_for_exit()
    try:
        until(lambda: not any(map(is_alive, started)), "the app's own processes to end too", seconds=10)
    finally:
        for pid in started:
            end_by_force(pid)


def test_open_pages_do_not_hold_up_the_end(stage: Stage) -> None:
    stage.set_up()
    stage.tab().open().is_signed_out().sign_in()

    stage.gate.process.send(signal.SIGTERM)

    assert stage.gate.process.wait_for_exit(seconds=10) == 0


def test_when_streamlit_ends_the_gate_ends_with_its_code(stage: Stage) -> None:
    tab = stage.set_up(app="ends.py").tab().open()

    tab.click("end")

    assert stage.gate.process.wait_for_exit() == 7
    assert "Streamlit" in stage.gate.process.output()
