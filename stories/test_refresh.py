"""Refreshing: the same run, the same page, one request at a time, and nothing lost when it goes wrong."""

import signal

import pytest

from harness.stage import Stage
from harness.waiting import until

TABS = 12


@pytest.mark.apps("streamlit", "axum")
def test_refresh_in_the_same_run(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    tab.click("count").shows("clicks", 1)
    token = tab.text("token")
    tab.page.evaluate("window.sameDocument = true")
    sockets = tab.sockets()
    stage.provider.change_user("alice", name="Alice Renamed")

    assert tab.refresh() == "new token, Alice Example -> Alice Renamed"

    tab.shows("name", "Alice Renamed").shows_other("token", token).shows("clicks", 1)
    assert tab.page.evaluate("window.sameDocument"), "the page was loaded again"
    assert tab.sockets() == sockets, "the page's socket was opened again"
    assert tab.call_api() == "200"


def test_three_token_lifetimes_without_a_stale_read(stage: Stage) -> None:
    tab = stage.set_up(app="watch.py", token_seconds=6).tab().open().is_signed_out().sign_in()

    until(lambda: tab.number("tokens") >= 4, "three more tokens than the first", seconds=40)

    assert tab.number("refused") == 0
    assert tab.number("accepted") >= 12
    tab.shows("started", 1)  # new tokens alone rerun nothing
    assert stage.provider.most_at_once() == 1


@pytest.mark.apps("streamlit", "axum")
def test_twelve_tabs_refresh_at_once_with_one_request_on_the_wire(stage: Stage) -> None:
    stage.set_up()
    first = stage.tab().open().is_signed_out().sign_in()
    tabs = [first, *(stage.tab().open().is_signed_in() for _ in range(TABS - 1))]
    stage.provider.delay_refreshes(500)

    for tab in tabs:
        tab.click("refresh")
    for tab in tabs:
        tab.shows("refreshes", 1, seconds=60)

    outcomes = {tab.text("refreshed") for tab in tabs}
    assert outcomes == {"new token, Alice Example -> Alice Example"}
    assert stage.provider.most_at_once() == 1
    assert stage.provider.refreshes() <= TABS
    assert all(request.status == 200 for request in stage.provider.requests("token:refresh"))
    stage.provider.behave()
    assert first.call_api() == "200"


@pytest.mark.apps("streamlit", "axum")
def test_other_tabs_see_changed_claims(stage: Stage) -> None:
    stage.set_up()
    one = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in().click("count").shows("clicks", 1)
    stage.provider.change_user("alice", name="Alice Renamed")

    one.refresh()

    other.shows("name", "Alice Renamed").shows("token", one.text("token")).shows("clicks", 1)


@pytest.mark.providers("devidp")
def test_an_app_whose_stream_of_events_was_cut_learns_what_it_missed(stage: Stage) -> None:
    stage.prepare(app="deaf.py", redirect_uri="http://localhost:{port}/oauth2callback")
    stage.start_gate()
    tab = stage.tab().open().is_signed_out().sign_in().shows("name", "Alice Example")
    other = stage.tab()
    other.address = stage.start_neighbour().address
    other.open().is_signed_in()
    tab.click("be_deaf")
    until((stage.project.folder / "deaf").exists, "the app to have lost its stream")
    stage.provider.change_user("alice", name="Alice Renamed")

    other.click("refresh").shows("name", "Alice Renamed")

    # Both gates know by now; nobody told the first one's app.
    status, user = stage.gate.get("/auth/user", {"freshgate": tab.cookies()["freshgate"]["value"]})
    assert (status, b"Alice Renamed" in user) == (200, True)
    assert tab.text("name") == "Alice Example"
    (stage.project.folder / "hear").touch()
    tab.shows("name", "Alice Renamed")


def test_reconnect_after_rotation_keeps_the_state(stage: Stage) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in().click("count").shows("clicks", 1)
    other = stage.tab(tab.page.context).open().is_signed_in()
    sockets = tab.sockets()

    with tab.offline():
        assert other.refresh().startswith("new token")

    until(lambda: tab.sockets() > sockets and tab.is_connected(), "the page to connect again")
    tab.click("count").shows("clicks", 2)
    tab.shows("token", other.text("token"))
    assert tab.call_api() == "200"


def test_kill_9_and_restart(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    tab.click("count").shows("clicks", 1).click("count").shows("clicks", 2)
    token = tab.text("token")
    sockets = tab.sockets()
    cookie = tab.cookies()["freshgate"]["value"]

    stage.gate.process.send(signal.SIGKILL)
    stage.gate.process.wait_for_exit()
    stage.start_gate()

    # The page connects again by itself, and the new app runs for the same user at the next click.
    until(lambda: tab.sockets() > sockets and tab.is_connected(), "the page to connect again")
    tab.click("count").shows("clicks", 1).is_signed_in().shows("sub", "alice").shows("token", token)
    assert tab.cookies()["freshgate"]["value"] == cookie
    assert tab.refresh().startswith("new token")
    assert tab.call_api() == "200"


def test_kill_9_during_a_refresh_loses_no_token(stage: Stage) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    stage.provider.delay_refreshes(3000)
    tab.click("refresh")
    until(lambda: stage.provider.refreshes() == 1, "the refresh request to reach the provider")

    stage.gate.process.send(signal.SIGKILL)
    stage.gate.process.wait_for_exit()
    stage.provider.behave()
    stage.start_gate()

    # The answer is lost, and whether the token was spent is for the provider to say: either the session goes on
    # with a new token, or it is over and the app says so. A session that only looks alive would be neither.
    tab.open()
    until(lambda: tab.text("signed_in") in ("True", "False"), "the app to answer")
    if tab.text("signed_in") == "True":
        tab.click("refresh")
        until(
            lambda: tab.glimpse("signed_in") == "False" or tab.glimpse("refreshed").startswith("new token"),
            "an outcome",
        )
    if tab.text("signed_in") == "True":
        assert tab.call_api() == "200"
    else:
        tab.sign_in()


@pytest.mark.apps("streamlit", "axum")
def test_provider_answering_503_keeps_the_session_and_recovers(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    token = tab.text("token")
    stage.provider.fail_refreshes(503, retry_after=1)

    assert tab.refresh() == "TryLater"

    tab.is_signed_in().shows("token", token)
    assert tab.call_api() == "200", "the old token serves while it lives"
    stage.provider.behave()
    until(lambda: tab.refresh().startswith("new token"), "a refresh once the provider is well again")
    tab.shows_other("token", token)


def test_refused_refresh_says_sign_in_again(stage: Stage) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    stage.provider.revoke("alice")

    tab.click("refresh")

    tab.is_signed_out()
    other.is_signed_out()
    stage.gate.process.wait_for_line(r"refresh: SignInAgain")
    tab.sign_in()
    assert tab.refresh().startswith("new token")


def test_an_app_can_send_its_user_to_sign_in_again(stage: Stage) -> None:
    tab = stage.set_up(app="login_again.py").tab().open("/?report=42").is_signed_out().sign_in()
    stage.provider.revoke("alice")

    tab.click("refresh")

    # The session is over at once, and yet what the app does about it still reaches the page.
    tab.pass_the_providers_page("alice")
    assert tab.page.url == f"{stage.project.address}/?report=42"
