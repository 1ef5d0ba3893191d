"""An app in Rust: what is its own. The stories that it shares with Streamlit have the mark `apps`."""

import json

import pytest

from harness.stage import Stage
from harness.waiting import until

pytestmark = [pytest.mark.apps("axum"), pytest.mark.providers("devidp")]


def test_a_page_for_one_group_leads_to_the_login_and_back(stage: Stage) -> None:
    tab = stage.set_up().tab()
    tab.page.goto(f"{stage.project.address}/analysts", wait_until="commit")

    tab.provider.fill_in_login(tab.page, "alice")

    tab.page.wait_for_url(f"{stage.project.address}/analysts")
    assert tab.page.inner_text("body") == "Only analysts read this, and Alice Example is one."
    bob = stage.tab(stage.profile()).open().is_signed_out().sign_in("bob")
    refused = bob.page.goto(f"{stage.project.address}/analysts")
    assert refused is not None and refused.status == 403
    assert "You are not allowed here" in bob.page.inner_text("body")
    assert stage.gate.get("/analysts")[0] == 401, "for a script there is no login to be led to"


def test_three_token_lifetimes_without_a_stale_token(stage: Stage) -> None:
    tab = stage.set_up(token_seconds=6).tab().open().is_signed_out().sign_in()
    answers: list[str] = []

    def refreshed_ahead() -> bool:
        answers.append(str(tab.page.evaluate("fetch('/quote').then(answer => answer.status)")))
        return stage.provider.refreshes() >= 3

    until(refreshed_ahead, "three refreshes", seconds=60)

    assert set(answers) == {"200"}
    assert stage.provider.most_at_once() == 1


def test_open_pages_alone_keep_the_session_fresh(stage: Stage) -> None:
    stage.set_up(token_seconds=12).tab().open().is_signed_out().sign_in()

    # Nobody asks for anything: the page's socket is open, and that is use enough.
    until(lambda: stage.provider.refreshes() >= 2, "two refreshes ahead", seconds=60)


def test_an_operator_ends_a_session(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    stage.remember_cookies()
    [session] = json.loads(stage.operator("sessions", "list", "--json"))["sessions"]

    stage.operator("sessions", "end", session["session"], "--yes")

    tab.is_signed_out(seconds=1.0)
    other.is_signed_out(seconds=1.0)


def test_a_restart_signs_nobody_out(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    stage.gate.stop()

    stage.start_gate()

    tab.open().is_signed_in()
    assert tab.refresh() == "new token, Alice Example -> Alice Example"
    assert tab.call_api() == "200"
