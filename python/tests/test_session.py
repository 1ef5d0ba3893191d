from __future__ import annotations

import gc
import json
import pickle
import threading
import time
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import pytest

from fake_gate import FakeGate, Request, error
from freshgate import NoRefreshToken, SignInAgain, TryLater
from freshgate._document import Document
from freshgate._session import Ended, Open, Session, Sessions
from freshgate._tokens import Tokens
from freshgate._user import SessionUser


def document_of(session: Session) -> Document:
    assert isinstance(session.state, Open)
    return session.state.document


class FakeTab:
    def __init__(self) -> None:
        self.reruns = 0

    def rerun_if_outdated(self, user: SessionUser) -> None:
        if user.is_outdated():
            user.mark_presented()
            self.reruns += 1


# One session, many askers


def test_an_older_answer_does_not_undo_a_newer(session: Session) -> None:
    old = document_of(session)
    session.apply(replace(old, generation=5, claims={**old.claims, "name": "Grace"}))
    assert session.apply(old).claims["name"] == "Grace"
    assert document_of(session).generation == 5


def test_one_users_claims_never_show_in_anothers_session(session: Session) -> None:
    user = SessionUser(session)
    known = document_of(session)
    with pytest.raises(SignInAgain) as caught:
        session.apply(replace(known, generation=5, claims={**known.claims, "sub": "eve"}))
    assert caught.value.reason == "identity_changed"
    assert user.copy() == {"is_logged_in": False, "tokens": {}}


def test_what_has_ended_stays_ended(session: Session) -> None:
    known = document_of(session)
    session.end("logout")
    session.end("idle")
    assert session.state == Ended("logout")
    with pytest.raises(SignInAgain, match="signed out"):
        session.apply(known)


def test_twelve_threads_with_a_stale_token_ask_once(gate: FakeGate, sessions: Sessions) -> None:
    handle = gate.sign_in(lives=-1)
    session = sessions.open(handle)
    session.read()
    stale = document_of(session).tokens["access"]
    everybody = threading.Barrier(12)
    answered = gate.answer

    def slow(request: Request) -> tuple[int, dict[str, object]]:
        time.sleep(0.2)  # so that all have asked before it is answered
        del gate.scripted["GET /v1/session/token"]
        return answered(request)

    gate.scripted["GET /v1/session/token"] = slow
    gate.requests.clear()
    seen: list[str] = []

    def read() -> None:
        everybody.wait()
        seen.append(session.tokens()["access"])

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    assert len(seen) == 12
    assert seen[0] != stale
    # The scripted answer passes through once more to the real one.
    assert gate.asked("GET /v1/session/token", handle) == 2


def test_a_shared_failure_reaches_everyone(gate: FakeGate, sessions: Sessions) -> None:
    session = sessions.open(gate.sign_in(lives=-1))
    session.read()
    everybody = threading.Barrier(3)

    def slow(_: Request) -> tuple[int, dict[str, object]]:
        time.sleep(0.2)
        return error(503, "try_later", "unreachable", 7)

    gate.scripted["GET /v1/session/token"] = slow
    caught: list[TryLater] = []

    def read() -> None:
        everybody.wait()
        try:
            session.tokens()
        except TryLater as error:
            caught.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(error.reason, error.retry_after) for error in caught] == [("unreachable", 7.0)] * 3
    assert len({id(error) for error in caught}) == 3
    assert len(gate.requests) == 2


# Tokens


def test_a_fresh_token_asks_nobody(gate: FakeGate, session: Session) -> None:
    gate.requests.clear()
    assert Tokens(SessionUser(session))["access"] == document_of(session).tokens["access"]
    assert gate.requests == []


def test_a_token_that_still_lives_is_given_while_the_provider_is_away(gate: FakeGate, sessions: Sessions) -> None:
    handle = gate.sign_in(lives=60, fresh=-1)
    session = sessions.open(handle)
    session.read()
    gate.scripted["GET /v1/session/token"] = lambda _: error(503, "try_later", "unreachable", 30)
    tokens = Tokens(SessionUser(session))
    for _ in range(5):
        assert tokens["access"] == gate.sessions[handle]["tokens"]["access"]
    # And it is not asked again for every read meanwhile.
    assert gate.asked("GET /v1/session/token", handle) == 1


def test_an_expired_token_is_never_given(gate: FakeGate, sessions: Sessions) -> None:
    handle = gate.sign_in(lives=-1)
    session = sessions.open(handle)
    session.read()
    user = SessionUser(session)
    tokens = Tokens(user)
    gate.scripted["GET /v1/session/token"] = lambda _: error(503, "try_later", "unreachable", 3)
    for read in (
        lambda: tokens["access"],
        lambda: tokens.access,
        lambda: tokens.get("access"),
        tokens.to_dict,
        tokens.items,
        tokens.values,
        tokens.copy,
        lambda: dict(tokens),
        lambda: {**tokens},
        lambda: tokens | {},
        lambda: {} | tokens,
        lambda: json.dumps(tokens),
        lambda: pickle.dumps(tokens),
        lambda: deepcopy(tokens),
        lambda: copy(tokens),
    ):
        with pytest.raises(TryLater):
            read()
    gate.scripted["GET /v1/session/token"] = lambda _: (200, gate.sessions[handle])
    with pytest.raises(TryLater) as caught:
        tokens["access"]
    assert caught.value.reason == "expired"
    del gate.scripted["GET /v1/session/token"]
    assert tokens["access"] == dict(tokens)["access"] == gate.sessions[handle]["tokens"]["access"]


def test_without_a_refresh_token_it_lasts_as_long_as_the_token(gate: FakeGate, sessions: Sessions) -> None:
    gate.scripted["GET /v1/session/token"] = lambda _: error(409, "no_refresh_token")
    living, over = sessions.open(gate.sign_in(lives=60, fresh=-1)), sessions.open(gate.sign_in(lives=-1))
    for session in (living, over):
        session.read()
    assert living.tokens()["access"]
    with pytest.raises(SignInAgain) as caught:
        over.tokens()
    assert caught.value.reason == "no_refresh_token"


def test_tokens_are_a_dict_that_cannot_be_changed(session: Session) -> None:
    tokens = Tokens(SessionUser(session))
    known = document_of(session).tokens
    assert isinstance(tokens, dict)
    assert list(tokens) == ["access", "id"]
    assert len(tokens) == 2
    assert "access" in tokens
    assert dict(tokens) == tokens.to_dict() == dict(tokens.items()) == deepcopy(tokens) == known
    assert json.loads(json.dumps(tokens)) == pickle.loads(pickle.dumps(tokens)) == known
    assert tokens.access == known["access"]
    assert tokens.get("refresh", "none") == "none"
    with pytest.raises(KeyError):
        tokens["refresh"]
    with pytest.raises(AttributeError, match="not exposed"):
        _ = tokens.refresh
    changes: list[Callable[[], object]] = [
        lambda: tokens.update(access="x"),
        lambda: tokens.pop("access"),
        lambda: tokens.__setitem__("access", "x"),
        lambda: setattr(tokens, "access", "x"),
    ]
    for change in changes:
        with pytest.raises(TypeError):
            change()
    assert "access-" not in repr(tokens)
    assert "access-" not in repr(session.state)


def test_a_read_learns_that_the_session_is_over(gate: FakeGate, sessions: Sessions) -> None:
    handle = gate.sign_in(lives=-1, name="Ada")
    session = sessions.open(handle)
    session.read()
    user, other = SessionUser(session), SessionUser(session)
    user.tab, other.tab = FakeTab(), FakeTab()
    tokens = Tokens(user)
    gate.end(handle, "refused")
    with pytest.raises(SignInAgain) as caught:
        tokens["access"]
    assert caught.value.reason == "refused"
    assert user["is_logged_in"] is other["is_logged_in"] is False
    assert "name" not in user
    # The script that asked has its answer; the other page does not know yet.
    assert not user.is_outdated()
    assert other.is_outdated()
    with pytest.raises(SignInAgain):
        user.copy()["tokens"]["access"]


# What Streamlit holds


def test_shows_the_claims_in_streamlits_order(gate: FakeGate, sessions: Sessions) -> None:
    claims: dict[str, Any] = {"name": "Ada", "is_logged_in": False, "provider": "evil", "tokens": "evil"}
    claims["groups"] = ["a"]
    session = sessions.open(gate.sign_in(**claims))
    session.read()
    user = SessionUser(session, {"team": "x", "name": "from a header"})
    shown = user.copy()
    assert list(shown) == ["is_logged_in", "iss", "sub", "name", "provider", "tokens", "groups", "team"]
    assert type(shown) is dict
    assert shown["is_logged_in"] is True
    assert shown["provider"] == "default"
    assert shown["name"] == "Ada"
    assert shown["team"] == "x"
    assert isinstance(shown["tokens"], Tokens)
    shown["groups"].append("b")
    assert SessionUser(session)["groups"] == ["a"]


def test_changes_show_in_place_and_never_as_nothing(session: Session) -> None:
    user = SessionUser(session)
    known = document_of(session)
    session.apply(replace(known, generation=2, claims={**known.claims, "name": "Grace", "email": "g@x"}))
    assert (user["name"], user["email"]) == ("Grace", "g@x")
    session.apply(replace(known, generation=3, claims={"iss": known.claims["iss"], "sub": known.claims["sub"]}))
    assert "name" not in user
    assert user["is_logged_in"] is True


def test_equality_is_the_session_alone(gate: FakeGate, sessions: Sessions) -> None:
    ada = sessions.open(gate.sign_in(name="Ada", sub="ada"))
    ada_elsewhere = sessions.open(gate.sign_in(name="Ada", sub="ada"))
    for session in (ada, ada_elsewhere):
        session.read()
    first, second = SessionUser(ada), SessionUser(ada, {"team": "x"})
    assert first == second
    assert dict(first) == dict(SessionUser(ada_elsewhere))
    assert first != SessionUser(ada_elsewhere), "another sign-in, to the letter the same claims"
    gate.rotate(ada.handle, name="Ada L.")
    ada.read()
    assert first == second
    assert not first != second  # noqa: SIM202 - dict has its own
    assert first != SessionUser(ada_elsewhere)
    for anonymous in ({}, {"is_logged_in": False}, dict(first)):
        assert first != anonymous
        assert anonymous != first
    second.clear()
    assert first != second
    assert second != first
    assert second != second  # noqa: PLR0124 - that is the point
    ada.end("logout")
    assert first != SessionUser(ada)


def test_signed_out_by_the_app_no_event_brings_it_back(session: Session) -> None:
    user = SessionUser(session)
    tokens = Tokens(user)
    user.clear()
    known = document_of(session)
    session.apply(replace(known, generation=9))
    assert dict(user) == {}
    assert user.copy() == {"is_logged_in": False, "tokens": {}}
    assert not user.is_outdated()
    for ask in (lambda: tokens["access"], lambda: user.refresh(1)):
        with pytest.raises(SignInAgain) as caught:
            ask()
        assert caught.value.reason == "logout"


def test_unread_sessions_are_read_at_the_first_look(gate: FakeGate, sessions: Sessions) -> None:
    handle = gate.sign_in(name="Ada")
    user = SessionUser(sessions.open(handle))
    gate.scripted["GET /v1/session"] = lambda _: error(500, "internal")
    with pytest.raises(TryLater):
        user.copy()
    del gate.scripted["GET /v1/session"]
    gate.requests.clear()
    with pytest.raises(TryLater):
        user.copy()
    assert gate.requests == [], "asked again at once"
    user.session._ask_again_at = 0.0
    assert user.copy()["name"] == "Ada"
    assert not user.is_outdated(), "the page that looks shows what it finds"


def test_unread_sessions_may_turn_out_to_be_over(gate: FakeGate, sessions: Sessions) -> None:
    user = SessionUser(sessions.open("unknown"))
    assert user.copy() == {"is_logged_in": False, "tokens": {}}


# Refresh, and which pages run again


def test_refresh_shows_in_place_and_leaves_the_own_page_alone(gate: FakeGate, session: Session) -> None:
    mine, other = SessionUser(session), SessionUser(session)
    gate.at_provider[session.handle] = {"name": "Grace"}
    mine.refresh(5)
    assert mine["name"] == other["name"] == "Grace"
    assert not mine.is_outdated()
    assert other.is_outdated()


def test_an_event_during_a_refresh_waits_for_its_outcome(gate: FakeGate, session: Session) -> None:
    user, tab = SessionUser(session), FakeTab()
    user.tab = tab
    during: list[bool] = []

    def fails(request: Request) -> tuple[int, dict[str, object]]:
        known = document_of(session)
        session.apply(replace(known, generation=2, claims={**known.claims, "name": "Grace"}))
        during.append(user.is_outdated())
        return error(503, "try_later", "unreachable", 3)

    gate.scripted["POST /v1/session/refresh"] = fails
    with pytest.raises(TryLater) as caught:
        user.refresh(5)
    assert caught.value.retry_after == 3
    assert during == [False]
    assert tab.reruns == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(410, "sign_in_again", "refused"), SignInAgain),
        (error(409, "no_refresh_token"), NoRefreshToken),
    ],
)
def test_refresh_says_what_became_of_it(
    gate: FakeGate, session: Session, answer: tuple[int, dict[str, object]], kind: type[Exception]
) -> None:
    user = SessionUser(session)
    gate.scripted["POST /v1/session/refresh"] = lambda _: answer
    with pytest.raises(kind):
        user.refresh(5)
    assert user["is_logged_in"] is (kind is NoRefreshToken)
    assert not user.is_outdated()


def test_what_only_the_token_carries_runs_no_page_again(session: Session) -> None:
    user = SessionUser(session)
    known = document_of(session)
    session.apply(replace(known, generation=2, claims={**known.claims, "iat": 1, "exp": 2, "at_hash": "x"}))
    assert not user.is_outdated()
    assert user["iat"] == 1


def test_nothing_is_kept_that_streamlit_has_dropped(gate: FakeGate, sessions: Sessions) -> None:
    handle = gate.sign_in()
    kept = SessionUser(sessions.open(handle))
    kept.session.read()
    for _ in range(100):
        SessionUser(sessions.open(handle))
        SessionUser(sessions.open(gate.sign_in())).session.read()
    gc.collect()
    assert len(sessions) == 1
    assert kept.session.users() == [kept]
    assert len(kept.session._users) <= 2
    del kept
    gc.collect()
    assert len(sessions) == 0


@pytest.mark.parametrize("made", [SignInAgain("refused"), TryLater("timeout", 4), NoRefreshToken()])
def test_errors_copy_and_pickle_as_they_are(made: SignInAgain | TryLater | NoRefreshToken) -> None:
    for twin in (copy(made), pickle.loads(pickle.dumps(made))):
        assert type(twin) is type(made)
        assert (str(twin), twin.reason, twin.retry_after) == (str(made), made.reason, made.retry_after)
