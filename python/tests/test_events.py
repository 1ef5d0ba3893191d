from __future__ import annotations

import pytest

from fake_gate import FakeGate, error, wait_until
from freshgate._events import Follower
from freshgate._session import Ended, Open, Session, Sessions
from freshgate._session_api import Event
from freshgate._user import SessionUser


class FakeTab:
    def __init__(self, user: SessionUser) -> None:
        self.reruns = 0
        user.tab = self

    def rerun_if_outdated(self, user: SessionUser) -> None:
        if user.is_outdated():
            user.mark_presented()
            self.reruns += 1


def generation(session: Session) -> int:
    assert isinstance(session.state, Open)
    return session.state.document.generation


def test_what_a_refresh_has_brought_is_not_read_again(gate: FakeGate, sessions: Sessions, session: Session) -> None:
    mine, other = SessionUser(session), SessionUser(session)
    my_tab, other_tab = FakeTab(mine), FakeTab(other)
    gate.at_provider[session.handle] = {"name": "Grace"}
    mine.refresh(5)
    follower = Follower(sessions)
    follower.take(Event("changed", {"session": session.handle, "generation": 2, "claims_changed": True}))
    assert follower._queue.empty()
    assert (my_tab.reruns, other_tab.reruns) == (0, 1)


@pytest.mark.parametrize(("claims_changed", "reruns"), [(True, 1), (False, 0)])
def test_many_events_make_one_question(
    gate: FakeGate, sessions: Sessions, session: Session, claims_changed: bool, reruns: int
) -> None:
    tab = FakeTab(user := SessionUser(session))
    gate.rotate(session.handle, name="Grace")
    gate.requests.clear()
    follower = Follower(sessions)
    for _ in range(5):
        follower.take(Event("changed", {"session": session.handle, "generation": 2, "claims_changed": claims_changed}))
    assert follower._queue.qsize() == 1
    follower._catch_up_with(follower._queue.get(), claims_changed=follower._due[session.handle])
    assert gate.asked("GET /v1/session", session.handle) == 1
    assert user["name"] == "Grace"
    assert tab.reruns == reruns


@pytest.mark.parametrize(
    "event",
    [
        Event("changed", {"session": "somebody's", "generation": 2}),
        Event("changed", {}),
        Event("ended", {"session": None}),
        Event("of a later version", {"session": "x"}),
        Event("message", {}),
    ],
)
def test_what_concerns_nobody_here_is_nothing(sessions: Sessions, event: Event) -> None:
    follower = Follower(sessions)
    follower.take(event)
    assert follower._queue.empty()


def test_ended(sessions: Sessions, session: Session) -> None:
    tab = FakeTab(user := SessionUser(session))
    Follower(sessions).take(Event("ended", {"session": session.handle, "reason": "operator"}))
    assert session.state == Ended("operator")
    assert dict(user) == {"is_logged_in": False}
    assert tab.reruns == 1


def test_a_change_that_cannot_be_read_is_read_later(gate: FakeGate, sessions: Sessions, session: Session) -> None:
    other = sessions.open(gate.sign_in(name="Bob"))
    other.read()
    Follower(sessions).start()
    gate.wait_for_stream()
    wait_until(lambda: gate.asked("GET /v1/session", session.handle) >= 2)  # read anew as the stream opened
    tab = FakeTab(user := SessionUser(session))
    gate.scripted["GET /v1/session"] = lambda _: error(500, "internal")
    gate.rotate(session.handle, name="Grace")
    gate.rotate(other.handle)
    wait_until(lambda: gate.asked("GET /v1/session", session.handle) >= 4)
    assert tab.reruns == 0
    gate.scripted.clear()
    # No further event, and the stream stays.
    wait_until(lambda: (generation(session), generation(other)) == (2, 2))
    wait_until(lambda: tab.reruns == 1)
    assert user["name"] == "Grace"


def test_a_gate_that_comes_back_is_followed_again(gate: FakeGate, sessions: Sessions, session: Session) -> None:
    Follower(sessions).start()
    gate.wait_for_stream()
    gate.stop()
    gate.scripted["GET /v1/session"] = lambda _: error(500, "internal")  # the first question after it fails
    gate.start()
    gate.wait_for_stream()
    gate.scripted.clear()
    gate.rotate(session.handle)
    wait_until(lambda: generation(session) == 2)
