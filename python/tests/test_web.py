from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import freshgate
from fake_gate import SECRET, Answer, FakeGate, Request, error, wait_until
from freshgate import FreshgateError, NoRefreshToken, SignInAgain, TryLater, User, _web

HANDLE = "kQ0aBu3yq8mJtV5cXoZl1Rr2sWnE7hDgPfI6wYbTzM4"


@pytest.fixture(autouse=True)
def told(gate: FakeGate, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is told of the gate, as an app's is."""
    monkeypatch.setenv("FRESHGATE_SESSION_API", gate.address)
    monkeypatch.setenv("FRESHGATE_UPSTREAM_SECRET", SECRET)
    monkeypatch.setenv("FRESHGATE_GATE_PID", str(os.getpid()))
    monkeypatch.setattr(_web, "_environment_of_this_process", None)
    monkeypatch.setattr(_web, "_gate_of_this_process", None)
    yield
    if _web._gate_of_this_process is not None:
        _web._gate_of_this_process._threads.shutdown()


def environ(handle: str) -> dict[str, str]:
    return {"REQUEST_METHOD": "GET", "HTTP_FRESHGATE_SESSION": handle}


def scope(handle: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(b"host", b"x"), (b"freshgate-session", handle.encode())]}


def signed_in(handle: str) -> User:
    user = freshgate.user(environ(handle))
    assert user is not None
    return user


def follows(gate: FakeGate) -> None:
    """Waits until events are heard, and what was missed until then has been read."""
    follower = _web._gate()._follower
    wait_until(lambda: follower.stream is not None and bool(gate.streams()))


# What a request is


class Headers:
    """Several values for a name, as frameworks have them."""

    def __init__(self, method: str, values: list[str]) -> None:
        setattr(self, method, lambda name, *_: values if name.lower() == "freshgate-session" else [])


class Having:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "request_",
    [
        {"REQUEST_METHOD": "GET", "HTTP_FRESHGATE_SESSION": HANDLE},
        {"type": "http", "headers": [(b"freshgate-session", HANDLE.encode())]},
        {"type": "websocket", "headers": [(b"Freshgate-Session", HANDLE.encode())]},
        {"freshgate-session": HANDLE},
        Having(headers={"Freshgate-Session": HANDLE}),
        Having(headers=Headers("getlist", [HANDLE])),
        Having(headers=Headers("getall", [HANDLE])),
        Having(headers=Headers("get_list", [HANDLE])),
        Having(headers=Having(get=lambda name: HANDLE if name == "Freshgate-Session" else None)),
        Having(scope=scope(HANDLE)),
        Having(environ=environ(HANDLE)),
        Having(META=environ(HANDLE)),
    ],
)
def test_the_session_is_found_wherever_the_header_is(request_: object) -> None:
    assert _web._handle(request_) == HANDLE


def of_starlette() -> object:
    return pytest.importorskip("starlette.requests").Request(scope(HANDLE))


def of_werkzeug() -> object:
    # What Flask and Dash have.
    return pytest.importorskip("werkzeug.wrappers").Request(environ(HANDLE))


def of_django() -> object:
    pytest.importorskip("django.conf").settings.configure()
    return pytest.importorskip("django.test").RequestFactory().get("/", HTTP_FRESHGATE_SESSION=HANDLE)


def of_aiohttp() -> object:
    headers = pytest.importorskip("multidict").CIMultiDict({"Freshgate-Session": HANDLE})
    return Having(headers=headers)


@pytest.mark.parametrize("made", [of_starlette, of_werkzeug, of_django, of_aiohttp])
def test_the_requests_of_frameworks_are_such(made: Callable[[], object]) -> None:
    assert _web._handle(made()) == HANDLE


@pytest.mark.parametrize(
    "request_",
    [
        {"REQUEST_METHOD": "GET"},
        {"REQUEST_METHOD": "GET", "HTTP_FRESHGATE_SESSION": ""},
        {"REQUEST_METHOD": "GET", "HTTP_FRESHGATE_SESSION": f"{HANDLE},{HANDLE}"},
        {"REQUEST_METHOD": "GET", "HTTP_FRESHGATE_SESSION": f"{HANDLE}\r\nX: y"},
        {"type": "http", "headers": []},
        {"type": "http", "headers": [(b"freshgate-session", HANDLE.encode()), (b"freshgate-session", b"x")]},
        {"type": "http", "headers": [(b"freshgate-session", b"\xff")]},
        {},
        Having(headers=Headers("getlist", [])),
        Having(headers=Headers("getlist", [HANDLE, HANDLE])),
        Having(headers=Having(get=lambda name: None)),
    ],
)
def test_without_the_gates_header_nobody_is_signed_in(gate: FakeGate, request_: object) -> None:
    assert freshgate.user(request_) is None
    assert asyncio.run(freshgate.async_user(request_)) is None
    assert gate.requests == []
    assert _web._gate_of_this_process is None, "a process without a gate can run the app, too"


@pytest.mark.parametrize("request_", [None, "text", 1, object(), Having(scope="x")])
def test_what_is_no_request_is_said(request_: object) -> None:
    with pytest.raises(TypeError, match="is no request"):
        freshgate.user(request_)


# Who it is


def test_a_user(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada", groups=["a"])
    user = signed_in(handle)
    assert (user.claims["name"], user.provider) == ("Ada", "default")
    user.claims["groups"].append("b")
    assert signed_in(handle).claims["groups"] == ["a"], "an app's changes are its own"
    assert user.access_token() == gate.sessions[handle]["tokens"]["access"]
    assert user.authorization("GET", "https://api.example.com")["DPoP"] == "proof"
    assert "access-" not in repr(user)
    assert "Ada" not in repr(user)


def test_a_session_that_is_over_is_nobodys(gate: FakeGate) -> None:
    handle = gate.sign_in()
    gate.end(handle)
    assert freshgate.user(environ(handle)) is None
    assert freshgate.user(environ("unknown")) is None


def test_requests_of_one_session_ask_once(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada")
    signed_in(handle)
    follows(gate)
    signed_in(handle)
    gate.requests.clear()
    for _ in range(5):
        assert signed_in(handle).access_token()
        assert asyncio.run(freshgate.async_user(scope(handle))) is not None
    assert gate.requests == []


def test_events_keep_it_as_it_is(gate: FakeGate) -> None:
    handle, other = gate.sign_in(name="Ada"), gate.sign_in()
    signed_in(handle)
    follows(gate)
    signed_in(handle), signed_in(other)
    gate.rotate(handle, name="Grace")
    wait_until(lambda: signed_in(handle).claims["name"] == "Grace")
    user = signed_in(other)
    gate.end(other)
    wait_until(lambda: freshgate.user(environ(other)) is None)
    for ask in (lambda: user.claims, user.access_token, user.refresh):
        with pytest.raises(SignInAgain) as caught:
            ask()
        assert caught.value.reason == "logout"


def test_without_events_each_request_reads_anew(gate: FakeGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freshgate._events.Follower.start", lambda _: None)
    handle = gate.sign_in(name="Ada")
    assert signed_in(handle).claims["name"] == "Ada"
    gate.rotate(handle, name="Grace")
    assert signed_in(handle).claims["name"] == "Grace"
    gate.end(handle)
    assert freshgate.user(environ(handle)) is None


def test_a_new_stream_is_no_proof_for_what_was_read_before_it(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada")
    signed_in(handle)
    follows(gate)
    signed_in(handle)
    kept = _web._gate()
    assert kept.session_at_hand(handle) is not None
    first = kept._follower.stream
    gate.drop_streams()
    wait_until(lambda: kept._follower.stream not in {None, first})
    assert kept.session_at_hand(handle) is None
    signed_in(handle)
    assert kept.session_at_hand(handle) is not None


def test_a_gate_that_fails_signs_nobody_out(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada")
    gate.scripted["GET /v1/session"] = lambda _: error(503, "try_later", "store", 1)
    with pytest.raises(TryLater):
        freshgate.user(environ(handle))
    del gate.scripted["GET /v1/session"]

    def is_signed_in() -> bool:
        with suppress(TryLater):  # the gate is left alone for a moment
            return freshgate.user(environ(handle)) is not None
        return False

    wait_until(is_signed_in)
    user = signed_in(handle)
    gate.drop_streams()
    gate.scripted["GET /v1/session"] = lambda _: error(503, "try_later", "store", 1)
    assert signed_in(handle).claims == user.claims, "what is at hand will do"


def test_only_the_latest_sessions_are_kept(gate: FakeGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web, "_KEPT", 3)
    handles = [gate.sign_in() for _ in range(5)]
    for handle in handles:
        signed_in(handle)
    assert list(_web._gate()._kept) == handles[2:]


# Tokens


def test_refresh_shows_in_place(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada")
    user, elsewhere = signed_in(handle), signed_in(handle)
    before = user.access_token()
    gate.at_provider[handle] = {"name": "Grace"}
    user.refresh()
    assert user.claims["name"] == elsewhere.claims["name"] == "Grace"
    assert user.access_token() == elsewhere.access_token() != before


def test_a_token_that_is_over_is_never_given(gate: FakeGate) -> None:
    handle = gate.sign_in(lives=-1)
    user = signed_in(handle)
    gate.scripted["GET /v1/session/token"] = lambda _: error(503, "try_later", "provider_unreachable", 3)
    with pytest.raises(TryLater) as caught:
        user.access_token()
    assert caught.value.retry_after == 3
    with pytest.raises(TryLater):
        asyncio.run(token_of(handle))
    gate.scripted.clear()
    user._session._ask_again_at = 0.0
    assert user.access_token() == gate.sessions[handle]["tokens"]["access"]


def test_what_goes_wrong_has_its_type(gate: FakeGate) -> None:
    user = signed_in(gate.sign_in())
    gate.scripted["POST /v1/session/refresh"] = lambda _: error(409, "no_refresh_token")
    with pytest.raises(NoRefreshToken):
        user.refresh()
    with pytest.raises(ValueError, match="positive"):
        user.refresh(timeout=0)
    handle = gate.sign_in()
    del gate.sessions[handle]["tokens"]["access"]
    with pytest.raises(FreshgateError) as caught:
        signed_in(handle).access_token()
    assert caught.value.reason == "not_exposed"


# Coroutines


async def token_of(handle: str) -> str:
    user = await freshgate.async_user(scope(handle))
    assert user is not None
    return await user.access_token()


def test_the_event_loop_runs_on_while_the_provider_takes_its_time(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada", lives=-1)
    let_go = threading.Event()

    def slow(request: Request) -> Answer:
        assert let_go.wait(30)
        gate.scripted.clear()
        return gate.answer(request)

    gate.scripted["GET /v1/session/token"] = slow

    async def story() -> list[str]:
        asked = [asyncio.create_task(token_of(handle)) for _ in range(12)]
        while gate.asked("GET /v1/session/token", handle) == 0:  # noqa: ASYNC110 - the gate runs in threads
            await asyncio.sleep(0)
        asked[0].cancel()
        await asyncio.sleep(0)
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await asked[0]
        return await asyncio.gather(*asked[1:])

    tokens = asyncio.run(story())
    assert set(tokens) == {gate.sessions[handle]["tokens"]["access"]}
    # The scripted answer passes through once more to the real one.
    assert gate.asked("GET /v1/session/token", handle) == 2


def test_an_async_user_does_what_a_user_does(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada")
    gate.at_provider[handle] = {"name": "Grace"}

    async def story() -> None:
        user = await freshgate.async_user(scope(handle))
        assert user is not None
        before = await user.access_token()
        await user.refresh()
        assert user.claims["name"] == "Grace"
        assert await user.access_token() != before
        assert (await user.authorization("GET", "https://api.example.com"))["DPoP"] == "proof"
        gate.end(handle, tell=False)
        with pytest.raises(SignInAgain):
            await user.refresh()
        assert await freshgate.async_user(scope(handle)) is None

    asyncio.run(story())


# The process


def test_a_process_that_was_told_of_no_gate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRESHGATE_SESSION_API", "FRESHGATE_UPSTREAM_SECRET", "FRESHGATE_GATE_PID"):
        monkeypatch.delenv(name)
    with pytest.raises(FreshgateError, match="knows no gate") as caught:
        freshgate.user(environ(HANDLE))
    assert caught.value.reason == "no_gate"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_anew(gate: FakeGate) -> None:
    handle = gate.sign_in(name="Ada")
    signed_in(handle)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            gate_there = _web._gate()
            deadline = time.monotonic() + 30
            while gate_there._follower.stream is None and time.monotonic() < deadline:
                time.sleep(0.01)
            good = gate_there._follower.stream is not None and signed_in(handle).claims["name"] == "Ada"
            code = 0 if good else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
