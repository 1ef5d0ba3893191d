"""The gate and its Streamlit live and die together."""

import signal

import pytest

from harness.process import is_alive
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
