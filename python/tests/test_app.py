"""A real Streamlit, with the package loaded as the gate loads it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import streamlit

import streamlit_app
from fake_gate import Answer, FakeGate, Request, error, wait_until
from streamlit_app import App

VERSION = tuple(int(part) for part in streamlit.__version__.split(".")[:3])


@pytest.fixture(scope="module")
def gate() -> Iterator[FakeGate]:
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        gate = FakeGate(Path(folder)).start()
        yield gate
        gate.stop()


@pytest.fixture(scope="module")
def app(gate: FakeGate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with streamlit_app.running(
        gate,
        tmp_path_factory.mktemp("app"),
        "--",
        "own",
        "arguments",
        variables={"FRESHGATE_PROVIDERS": "default,okta"},
    ) as app:
        yield app


@pytest.fixture(autouse=True)
def _no_faults(gate: FakeGate) -> Iterator[None]:
    yield
    gate.scripted.clear()


def test_the_process_is_streamlits_own(app: App) -> None:
    with app.open() as page:
        said = page.run("process").said
    assert said["environment"] == []
    assert said["python_path"] is None
    assert said["argv"] == [str(streamlit_app.APP), "own", "arguments"]
    assert said["here_last"] is True
    assert said["authlib"] is False


def test_a_signed_in_user_with_tokens(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada", groups=["a", "b"])
    claims, tokens = gate.sessions[handle]["claims"], gate.sessions[handle]["tokens"]
    with app.open(handle) as page:
        user = page.run().said["user"]
    assert user == {"is_logged_in": True, **claims, "provider": "default", "tokens": tokens}
    assert list(user) == ["is_logged_in", "iss", "sub", "name", "groups", "provider", "tokens"]


@pytest.mark.parametrize("handle", [None, "unknown", "not a handle"])
def test_an_anonymous_user(app: App, handle: str | None) -> None:
    with app.open(handle) as page:
        run = page.run()
    assert run.said["user"] == {"is_logged_in": False}
    assert run.errors == []


def test_showing_the_user_shows_no_token(gate: FakeGate, app: App) -> None:
    with app.open(gate.sign_in(name="Ada")) as page:
        run = page.run("json")
    assert run.errors == []
    if VERSION >= (1, 67):  # Streamlit masks them itself in new versions only
        assert "access-" not in str(run.elements)
    assert "Ada" in str(run.elements)


# Refresh


def test_refresh_shows_in_the_same_run(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    old = gate.sessions[handle]["tokens"]["access"]
    gate.at_provider[handle] = {"name": "Grace"}
    with app.open(handle) as page:
        page.run("name")
        said = page.run("refresh").said
        assert said["before"] == ["Ada", old]
        assert said["after"] == ["Grace", gate.sessions[handle]["tokens"]["access"]]
        assert said["after"][1] != old
        assert (said["answer"], said["outcome"]) == (None, "refreshed")
        assert said["run"] == 2, "st.session_state is kept"
        assert page.stays_quiet(), "the page that asked is not run again"


def test_refresh_runs_the_other_tabs_again(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    with app.open(handle) as mine, app.open(handle) as other, app.open(gate.sign_in(name="Eve")) as stranger:
        for page in (mine, other, stranger):
            page.run("name")
        gate.at_provider[handle] = {"name": "Grace"}
        mine.run("refresh")
        rerun = other.next_run().said
        assert (rerun["run"], rerun["name"]) == (2, "Grace")
        assert mine.stays_quiet()
        assert stranger.stays_quiet(0.1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            error(503, "try_later", "unreachable", 7),
            {"error": "TryLater", "reason": "unreachable", "retry_after": 7, "signed_in": True},
        ),
        (
            error(409, "no_refresh_token"),
            {"error": "NoRefreshToken", "reason": "no_refresh_token", "retry_after": None, "signed_in": True},
        ),
        (
            error(410, "sign_in_again", "refused"),
            {"error": "SignInAgain", "reason": "refused", "retry_after": None, "signed_in": False},
        ),
    ],
)
def test_refresh_that_fails(gate: FakeGate, app: App, answer: tuple[int, dict[str, object]], said: object) -> None:
    handle = gate.sign_in(name="Ada")

    def fails(_: Request) -> tuple[int, dict[str, object]]:
        if answer[0] == 410:
            gate.end(handle, "refused")
        return answer

    gate.scripted["POST /v1/session/refresh"] = fails
    with app.open(handle) as page:
        run = page.run("refresh-and-catch")
        outcome = answer[1]["error"]
        expected = {"run": 1, "do": "refresh-and-catch", "auth_error": True, "outcome": outcome} | said  # type: ignore[operator]
        assert run.said == expected
        assert page.stays_quiet(), "the script has its answer"
    assert gate.requests[-1].timeout == "3"


def test_refresh_without_a_user(app: App) -> None:
    with app.open() as page:
        said = page.run("refresh-and-catch").said
        assert (said["error"], said["outcome"]) == ("NotSignedIn", None)


def test_an_unhandled_error_is_a_plain_sentence(gate: FakeGate, app: App) -> None:
    gate.scripted["POST /v1/session/refresh"] = lambda _: error(503, "try_later", "unreachable", 7)
    with app.open(gate.sign_in(name="Ada")) as page:
        assert page.run("refresh").errors == [
            "freshgate.TryLater: Your sign-in cannot be checked right now. Try again in a moment."
        ]


def test_the_module_path_is_the_apps_to_change(gate: FakeGate, app: App) -> None:
    with app.open(gate.sign_in(name="Ada")) as page:
        assert page.run("path", package=str(streamlit_app.PACKAGE)).said["name"] == "Ada"


# Tokens


def test_a_stale_token_is_refreshed_when_it_is_read(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(lives=-1)
    with app.open(handle) as page:
        said = page.run("token").said
    now = gate.sessions[handle]["tokens"]
    assert said["item"] == said["attribute"] == now["access"]
    assert said["all"] == now
    assert said["names"] == ["access", "id"]
    assert said["has"] is True
    assert gate.asked("GET /v1/session/token", handle) == 1


def test_twelve_threads_with_a_stale_token_ask_once(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(lives=-1)
    with app.open(handle) as page:
        said = page.run("twelve").said
    assert said["seen"] == [gate.sessions[handle]["tokens"]["access"]] * 12
    assert gate.asked("GET /v1/session/token", handle) == 1


def test_a_stale_token_that_cannot_be_refreshed_is_not_given(gate: FakeGate, app: App) -> None:
    gate.scripted["GET /v1/session/token"] = lambda _: error(503, "try_later", "unreachable", 7)
    with app.open(gate.sign_in(lives=-1)) as expired, app.open(gate.sign_in(lives=60, fresh=-1)) as living:
        run = expired.run("token")
        assert "item" not in run.said
        assert run.errors[0].startswith("freshgate.TryLater")
        assert living.run("token").said["item"].startswith("access-")


# Changes and ends from elsewhere


def test_changed_claims_run_every_tab_again(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    with app.open(handle) as one, app.open(handle) as two:
        for page in (one, two):
            page.run("name")
        asked = gate.asked("GET /v1/session", handle)
        gate.rotate(handle, name="Grace")
        for page in (one, two):
            assert page.next_run().said == {"run": 2, "do": "name", "name": "Grace", "signed_in": True}
        assert gate.asked("GET /v1/session", handle) == asked + 1, "once for all tabs"


def test_a_rerun_waits_for_the_run_that_is_under_way(gate: FakeGate, app: App, tmp_path: Path) -> None:
    handle = gate.sign_in(name="Ada")
    with app.open(handle) as page:
        page.start("work", ready=str(tmp_path / "ready"))
        wait_until((tmp_path / "ready").exists)
        gate.rotate(handle, name="Grace")
        # Streamlit does not send what the first run has left, if the second starts before that is sent.
        said = page.next_run().said
        while said["run"] == 1:
            said = page.next_run().said
    expected = {"run": 2, "do": "work", "before": "Grace", "done_before": [["Ada", "Grace"]]}
    assert said == expected, "the first run came to its end, and the second has the page's own query"


def test_new_tokens_alone_run_nothing_but_show(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    with app.open(handle) as page:
        page.run("name")
        gate.rotate(handle)
        assert page.stays_quiet()
        asked = gate.asked("GET /v1/session/token", handle)
        assert page.run("token").said["item"] == gate.sessions[handle]["tokens"]["access"]
        assert gate.asked("GET /v1/session/token", handle) == asked


def test_a_long_run_and_its_threads_see_changes(gate: FakeGate, app: App, tmp_path: Path) -> None:
    handle = gate.sign_in(name="Ada")
    ready, changed = tmp_path / "ready", tmp_path / "changed"
    with app.open(handle) as page:
        old = ["Ada", gate.sessions[handle]["tokens"]["access"]]
        page.run("name")
        asked = gate.asked("GET /v1/session", handle)
        page.start("watch", ready=str(ready), changed=str(changed))
        wait_until(ready.exists)
        gate.rotate(handle)
        wait_until(lambda: gate.asked("GET /v1/session", handle) > asked)
        changed.touch()
        said = page.next_run().said
    new = ["Ada", gate.sessions[handle]["tokens"]["access"]]
    assert said["before"] == old
    # The event's document may arrive a moment after the file; reads are never older than that.
    assert said["after"] == new
    assert said["in_thread"] in (old, new)


def test_an_ended_session_is_over_in_every_tab(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    with app.open(handle) as one, app.open(handle) as two:
        for page in (one, two):
            page.run("name")
        gate.end(handle)
        for page in (one, two):
            said = page.next_run().said
            assert (said["name"], said["signed_in"]) == (None, False)
        run = one.run("token")
        assert run.errors == ["freshgate.SignInAgain: Your sign-in has ended: you signed out. Sign in again."]
        one.drop()
        # Nobody gets its state any more, not even with the handle.
        for handle_then in (None, handle):
            with app.open(handle_then, session=one.session) as later:
                # What the page still shows is over, and the page asks for nothing: it is told.
                said = later.next_run().said
                assert (said["run"], said["user"]["is_logged_in"]) == (1, False)


def test_what_happened_during_a_gap_in_the_events(gate: FakeGate, app: App) -> None:
    changed, ended = gate.sign_in(name="Ada"), gate.sign_in(name="Bob")
    with app.open(changed) as one, app.open(ended) as two:
        for page in (one, two):
            page.run("name")
        gate.drop_streams()
        wait_until(lambda: not gate.streams())
        gate.rotate(changed, name="Grace")
        gate.end(ended, tell=False)
        assert one.next_run().said["name"] == "Grace"
        assert two.next_run().said["signed_in"] is False
    gate.wait_for_stream()


# Reconnecting


def test_a_dropped_connection_resumes_after_a_rotation(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    page = app.open(handle)
    page.run("name")
    page.drop()
    gate.rotate(handle)
    with app.open(handle, session=page.session) as again:
        said = again.run("look").said
        assert said["run"] == 2, "st.session_state is kept"
        assert said["user"]["tokens"] == gate.sessions[handle]["tokens"]
        assert again.session == page.session


def test_a_page_that_was_away_is_run_again_if_claims_changed(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    page = app.open(handle)
    page.run("name")
    page.drop()
    gate.rotate(handle, name="Grace")
    with app.open(handle, session=page.session) as again:
        said = again.next_run().said
        assert (said["run"], said["name"]) == (2, "Grace")


@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_nobody_else_resumes_a_session(gate: FakeGate, app: App, mine: bool, theirs: bool) -> None:
    page = app.open(gate.sign_in(name="Ada") if mine else None)
    page.run("name")
    page.drop()
    # Another sign-in of the same person is somebody else, too.
    with app.open(gate.sign_in(name="Ada") if theirs else None, session=page.session) as other:
        resumed = mine is theirs is False
        said = (other.run() if resumed else other.next_run()).said
        assert said["user"]["is_logged_in"] is theirs
        assert said["run"] == (2 if resumed else 1), "anonymous pages resume, as ever"


def test_nobody_else_takes_over_a_connected_session(gate: FakeGate, app: App) -> None:
    with app.open(gate.sign_in(name="Ada")) as page:
        page.run("name")
        with app.open(gate.sign_in(name="Eve"), session=page.session) as other:
            said = other.next_run().said
            assert (said["run"], said["user"]["name"]) == (1, "Eve")
        assert page.run("name").said["run"] == 2


def test_a_gate_that_cannot_be_asked_signs_nobody_out(gate: FakeGate, app: App) -> None:
    gate.scripted["GET /v1/session"] = lambda _: error(500, "internal")
    with app.open(gate.sign_in(name="Ada")) as page:
        run = page.run("name")
        assert run.errors == ["freshgate.TryLater: Your sign-in cannot be checked right now. Try again in a moment."]
        gate.scripted.clear()
        gate.drop_streams()
        # It heals by itself.
        assert page.next_run().said["name"] == "Ada"
    gate.wait_for_stream()


# Signing in and out


@pytest.mark.parametrize(
    ("query", "url", "redirect"),
    [
        ({}, "", "/auth/login?provider=default"),
        ({"provider": "okta"}, "", "/auth/login?provider=okta"),
        ({}, "http://localhost/", "/auth/login?provider=default&next=/%3Fdo%3Dlogin"),
        (
            {"x": "a b&c"},
            "https://apps.example/team/report",
            "/auth/login?provider=default&next=/team/report%3Fdo%3Dlogin%26x%3Da%2Bb%2526c",
        ),
    ],
)
def test_login_without_authlib_and_without_secrets(app: App, query: dict[str, str], url: str, redirect: str) -> None:
    with app.open() as page:
        run = page.run("login", url=url, **query)
    assert run.errors == []
    assert run.redirect == redirect


def test_login_with_a_provider_that_is_not_configured(app: App) -> None:
    with app.open() as page:
        run = page.run("login", provider="github")
    assert run.errors == [
        'freshgate.FreshgateError: The provider "github" is not configured. Configured: default, okta.'
    ]
    assert run.redirect is None


def _answered(answer: Answer, _request: Request) -> Answer:
    return answer


def test_a_request_to_an_api(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    access = gate.sessions[handle]["tokens"]["access"]
    with app.open(handle) as page:
        assert page.run("authorization", nonce="n").said["headers"] == {
            "Authorization": f"DPoP {access}",
            "DPoP": "proof",
        }
        asked = [request for request in gate.requests if str(request) == "POST /v1/session/authorization"][-1]
        assert (asked.handle, asked.body["method"], asked.body["nonce"]) == (handle, "GET", "n")
        for answer, said in (
            (error(403, "not_exposed"), {"error": "FreshgateError", "reason": "not_exposed", "signed_in": True}),
            (error(503, "try_later", "store"), {"error": "TryLater", "reason": "store", "signed_in": True}),
            (error(410, "sign_in_again", "refused"), {"error": "SignInAgain", "reason": "refused", "signed_in": False}),
        ):
            gate.scripted["POST /v1/session/authorization"] = partial(_answered, answer)
            run = page.run("authorization").said
            assert {name: run[name] for name in said} == said
    with app.open() as page:
        assert page.run("authorization").said["error"] == "NotSignedIn"


def test_login_that_asks_for_more(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    parameters = {"acr_values": ["phr", "mfa"], "max_age": 0, "prompt": None}
    for named, provider in ((handle, "okta"), (None, None)):
        query = {"parameters": json.dumps(parameters)} | ({"provider": provider} if provider else {})
        with app.open(named) as page:
            run = page.run("login-with", url="http://localhost:8501/page", **query)
            assert run.errors == []
            assert run.redirect is not None
            assert run.redirect.startswith("/auth/login?prepared=sealed&next=/page")
            # The next login is an ordinary one again.
            assert (
                page.run("login", url="http://localhost:8501/").redirect
                == "/auth/login?provider=default&next=/%3Fdo%3Dlogin"
            )
        asked = [request for request in gate.requests if str(request) == "POST /v1/login"][-1]
        assert asked.handle == named
        assert asked.body == {"provider": provider or "default", "parameters": parameters}


def test_login_that_asks_for_what_cannot_be(gate: FakeGate, app: App) -> None:
    gate.scripted["POST /v1/login"] = lambda _: error(400, "bad_parameter")
    with app.open() as page:
        run = page.run("login-with", parameters='{"state": "x"}')
        assert run.redirect is None
        assert (run.said["error"], run.said["reason"]) == ("FreshgateError", "bad_parameter")
        assert run.said["message"] == "A plain sentence."
        run = page.run("login-with", parameters="{}", provider="github")
        assert run.said["reason"] == "unknown_provider"


def test_logout(gate: FakeGate, app: App) -> None:
    handle = gate.sign_in(name="Ada")
    with app.open(handle) as page:
        run = page.run("logout")
        assert run.redirect == "/auth/logout"
        assert run.said == {"run": 1, "do": "logout", "signed_in": False, "user": None}
        gate.rotate(handle, name="Grace")
        assert page.stays_quiet(), "an event brings nobody back"
        gate.end(handle)
        assert page.stays_quiet(0.2), "nor does it take the redirect away"
    with app.open(handle, session=page.session) as again:
        assert again.run("name").said["run"] == 1
