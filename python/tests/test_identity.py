from __future__ import annotations

import time

import pytest

from fake_gate import Answer, FakeGate, Request, error
from freshgate import FreshgateError, TryLater
from freshgate import _identity as identity
from freshgate._identity import Identity
from freshgate._session import Open, Sessions, Unread
from freshgate._user import SessionUser


@pytest.fixture
def users(sessions: Sessions) -> Identity:
    return Identity(sessions, None)


def test_a_named_session_is_a_user(gate: FakeGate, users: Identity) -> None:
    user = users.of_connection([gate.sign_in(name="Ada")], {"is_logged_in": True, "name": "from an old cookie"})
    assert isinstance(user, SessionUser)
    assert user["name"] == "Ada"
    assert not user.is_outdated()


@pytest.mark.parametrize("handles", [[], [""], ["unknown"], ["not a handle"], ["a", "b"]])
def test_everybody_else_is_anonymous(users: Identity, handles: list[str]) -> None:
    assert users.of_connection(handles, {"is_logged_in": True, "name": "from an old cookie"}) == {"is_logged_in": False}


def test_an_ended_session_is_anonymous(gate: FakeGate, users: Identity) -> None:
    handle = gate.sign_in()
    before = users.of_connection([handle], {})
    gate.end(handle, tell=False)
    assert users.of_connection([handle], {}) == {"is_logged_in": False}
    assert dict(before) == {"is_logged_in": False}, "and so is who had it before"


def test_trusted_headers_stay_beside_the_claims(
    gate: FakeGate, users: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_trusted_names", lambda: ["team", "name", "is_logged_in"])
    known = {"team": "x", "name": None, "is_logged_in": "yes", "sub": "from an old cookie"}
    user = users.of_connection([gate.sign_in(name="Ada")], known)
    assert (user["team"], user["name"], user["is_logged_in"]) == ("x", "Ada", True)
    assert users.of_connection([], known) == {"team": "x", "name": None, "is_logged_in": False}


def test_a_gate_that_hangs_holds_the_event_loop_once(gate: FakeGate, users: Identity) -> None:
    def hang(_: Request) -> Answer:
        time.sleep(3)
        return 500, {}

    gate.scripted["GET /v1/session"] = hang
    first, second = gate.sign_in(name="Ada"), gate.sign_in(name="Bob")
    user = users.of_connection([first], {})
    asked = len(gate.requests)
    other = users.of_connection([second], {})
    assert len(gate.requests) == asked, "the second was not asked about"
    gate.scripted.clear()
    for unread, name in ((user, "Ada"), (other, "Bob")):
        assert isinstance(unread, SessionUser)
        assert isinstance(unread.session.state, Unread)
        assert unread.copy()["name"] == name, "the script asks"
        assert isinstance(unread.session.state, Open)


def test_a_gate_that_fails_signs_nobody_out(gate: FakeGate, users: Identity) -> None:
    gate.scripted["GET /v1/session"] = lambda _: error(401, "unauthorized")
    user = users.of_connection([gate.sign_in()], {})
    with pytest.raises(TryLater):
        user.copy()


@pytest.mark.parametrize(
    ("providers", "name", "good"),
    [
        (frozenset({"default"}), "default", True),
        (frozenset({"default"}), "okta", False),
        (frozenset({"okta"}), "default", False),
        (frozenset[str](), "default", False),
        (None, "anything", True),
    ],
)
def test_providers(sessions: Sessions, providers: frozenset[str] | None, name: str, good: bool) -> None:
    users = Identity(sessions, providers)
    if good:
        users.validate_provider(name)
        return
    with pytest.raises(FreshgateError, match="provider") as caught:
        users.validate_provider(name)
    assert caught.value.reason == "unknown_provider"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_refresh_waits_for_some_time(timeout: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        identity.refresh(None, timeout=timeout)
