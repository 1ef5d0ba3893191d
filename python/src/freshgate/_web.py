"""The user of a web request, in any framework: `freshgate.user(request)` and `freshgate.async_user(request)`.

The gate names the session in a header of the request. Sessions that were used lately are kept, so that a request mostly
asks nobody: the stream of events keeps them as the gate has them, and while it is down they are read again each time.
"""

from __future__ import annotations

import asyncio
import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from freshgate import _environment
from freshgate._document import Document
from freshgate._events import Follower
from freshgate._session import Ended, Open, Session, Sessions
from freshgate._session_api import LONGEST_WAIT, is_handle
from freshgate.errors import FreshgateError, SignInAgain, TryLater

#: The request header by which the gate names the session.
HEADER: Final = "Freshgate-Session"

# How many sessions are kept, the latest used.
_KEPT: Final = 1000
# How many questions of coroutines can be under way; those of one session share one.
_THREADS: Final = 64

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


class _User:
    """What needs no question: both kinds of user have it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def claims(self) -> dict[str, Any]:
        """The newest claims known here, a copy. Raises `SignInAgain` once the session is over."""
        return copy.deepcopy(dict(self._document().claims))

    @property
    def provider(self) -> str:
        """The name of the provider that the user signed in with, as the gate's configuration has it."""
        return self._document().provider

    def _document(self) -> Document:
        # Read before there was a user: this asks nobody.
        return self._session.document()

    def __repr__(self) -> str:
        state = "over" if isinstance(self._session.state, Ended) else "signed in"
        return f"<{type(self).__name__}: {state}>"


class User(_User):
    """Who sent a request. For code that may wait; `AsyncUser` is for coroutines. Safe to use from any thread."""

    def access_token(self) -> str:
        """The access token, refreshed first if it is about to end; never one that is over.

        Raises `SignInAgain` where the session is over, `TryLater` where the token has ended and the provider cannot be
        asked now, and `FreshgateError` where the gate does not let this app see it (`expose_tokens`).
        """
        return _access(self._session.tokens())

    def refresh(self, timeout: float = 20.0) -> None:
        """Fetches new tokens and claims from the provider, now; `claims` are the new ones when it returns.

        Waits up to `timeout` seconds, at most 60. Raises `SignInAgain`, `TryLater` (nothing has changed) or
        `NoRefreshToken` (the provider gave none).
        """
        self._session.refresh(_positive(timeout))

    def authorization(self, method: str, url: str, nonce: str | None = None) -> dict[str, str]:
        """The headers of one request to an API: `Authorization`, and `DPoP` where the token is bound to a key.

        Where an API answers 401 with a header `DPoP-Nonce`, ask again with that `nonce`. Raises as `access_token` does.
        """
        return self._session.authorization(method, url, nonce)


class AsyncUser(_User):
    """Who sent a request, for coroutines: what may have to wait is awaited, and holds up nobody else meanwhile.

    A coroutine that is cancelled cancels nobody's refresh.
    """

    async def access_token(self) -> str:
        """As `User.access_token`."""
        at_hand = _fresh_tokens(self._session)
        return _access(at_hand if at_hand is not None else await _gate().in_thread(self._session.tokens))

    async def refresh(self, timeout: float = 20.0) -> None:
        """As `User.refresh`."""
        await _gate().in_thread(self._session.refresh, _positive(timeout))

    async def authorization(self, method: str, url: str, nonce: str | None = None) -> dict[str, str]:
        """As `User.authorization`."""
        return await _gate().in_thread(self._session.authorization, method, url, nonce)


def user(request: object) -> User | None:
    """Who sent this request. `None`: nobody who is signed in.

    `request` is what the framework has: a request of Flask, Django, Starlette, FastAPI or Gradio, a WSGI environ, an
    ASGI scope, or anything else with its headers. The gate is asked for a session that is not known here yet, over a
    local socket, so this may wait: in a coroutine, `await freshgate.async_user(request)` instead.

    Raises `TryLater` where the gate cannot be asked, `FreshgateError` in a process that was told of no gate, and
    `TypeError` for what is no request.
    """
    handle = _handle(request)
    session = None if handle is None else _gate().session(handle)
    return None if session is None else User(session)


async def async_user(request: object) -> AsyncUser | None:
    """`user` for coroutines of asyncio. Raises the same."""
    handle = _handle(request)
    if handle is None:
        return None
    gate = _gate()
    session = gate.session_at_hand(handle) or await gate.in_thread(gate.session, handle)
    return None if session is None else AsyncUser(session)


class Gate:
    """The gate in front of this process, and the sessions of it that are in use here."""

    def __init__(self, environment: _environment.Environment) -> None:
        self._sessions: Final = Sessions(environment.api)
        self._follower: Final = Follower(self._sessions)
        self._lock: Final = threading.Lock()
        # Each with the stream of events that has kept it as it is since it was read.
        self._kept: OrderedDict[str, tuple[Session, int | None]] = OrderedDict()
        self._threads: Final = ThreadPoolExecutor(_THREADS, thread_name_prefix="freshgate")
        self._follower.start()

    def session_at_hand(self, handle: str) -> Session | None:
        """The session, if it is known to be as the gate has it."""
        with self._lock:
            session, stream = self._kept.get(handle, (None, None))
            if session is None or stream is None or stream != self._follower.stream:
                return None
            if not isinstance(session.state, Open):
                return None
            self._kept.move_to_end(handle)
            return session

    def session(self, handle: str) -> Session | None:
        """The session as the gate has it. `None` if it is over. Raises `TryLater` where it cannot be read at all."""
        at_hand = self.session_at_hand(handle)
        if at_hand is not None:
            return at_hand
        session = self._sessions.open(handle)
        # Looked at first: what happens while the session is read is told by this stream, or by none.
        stream = self._follower.stream
        try:
            if isinstance(session.state, Open):
                # The gate has just passed a request of it on: where it cannot be asked, what is at hand will do.
                with suppress(TryLater):
                    session.read()
                    self._keep(session, stream)
            else:
                session.document()
                self._keep(session, stream)
        except SignInAgain:
            return None
        return session

    def _keep(self, session: Session, stream: int | None) -> None:
        with self._lock:
            self._kept[session.handle] = session, stream
            self._kept.move_to_end(session.handle)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    async def in_thread(
        self, function: Callable[_Given, _Found], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> _Found:
        """Calls what may wait, in a thread that is kept for that: those of the app are not used up."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))


_environment_of_this_process: _environment.Environment | None = None
_gate_of_this_process: Gate | None = None
_starting: threading.Lock = threading.Lock()


def _gate() -> Gate:
    """The gate, from the first use on: servers fork before they serve, and a forked process has no threads."""
    global _environment_of_this_process, _gate_of_this_process  # noqa: PLW0603 - one process, one gate
    if _gate_of_this_process is not None:
        return _gate_of_this_process
    with _starting:
        if _gate_of_this_process is None:
            if _environment_of_this_process is None:
                try:
                    _environment_of_this_process = _environment.take(os.environ)
                except _environment.BadEnvironment as problem:
                    error = FreshgateError(f"A session was named, but this process knows no gate: {problem}")
                    error.reason = "no_gate"
                    raise error from None
            _gate_of_this_process = Gate(_environment_of_this_process)
        return _gate_of_this_process


def _forget_gate() -> None:
    global _gate_of_this_process, _starting
    _gate_of_this_process, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_gate)


def _handle(request: object) -> str | None:
    """The handle that the gate gave the request. `None`: none, or what is no handle of a gate."""
    named = _header(request)
    return named[0] if len(named) == 1 and is_handle(named[0]) else None


def _header(request: object) -> list[str]:
    """The values of the header, wherever the request keeps it."""
    if isinstance(request, Mapping):
        if isinstance(request.get("type"), str) and "headers" in request:  # an ASGI scope
            return _of_pairs(request["headers"])
        if "REQUEST_METHOD" in request:  # a WSGI environ
            value = request.get("HTTP_FRESHGATE_SESSION")
            return [] if value is None else [str(value)]
        return _of_headers(request)
    headers = getattr(request, "headers", None)
    if headers is not None:
        return _of_headers(headers)
    for kept in ("scope", "environ", "META"):
        inner = getattr(request, kept, None)
        if isinstance(inner, Mapping):
            return _header(inner)
    raise TypeError(f"{type(request).__name__} is no request: it has neither headers nor a scope nor an environ")


def _of_headers(headers: Any) -> list[str]:
    # The names that frameworks have for "all values": Starlette and Werkzeug, aiohttp, Tornado.
    for name in ("getlist", "getall", "get_list"):
        values = getattr(headers, name, None)
        if callable(values):
            return [str(value) for value in values(HEADER, [])] if name == "getall" else list(map(str, values(HEADER)))
    if isinstance(headers, Mapping):
        return [str(value) for name, value in headers.items() if str(name).lower() == HEADER.lower()]
    value = headers.get(HEADER)
    return [] if value is None else [str(value)]


def _of_pairs(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == HEADER.lower().encode()]


def _fresh_tokens(session: Session) -> Mapping[str, str] | None:
    """The tokens, if nobody has to be asked for them."""
    state = session.state
    return state.document.tokens if isinstance(state, Open) and state.document.is_fresh(time.time()) else None


def _access(tokens: Mapping[str, str]) -> str:
    if "access" in tokens:
        return tokens["access"]
    error = FreshgateError("The gate does not let this app see the access token: add it to `expose_tokens`.")
    error.reason = "not_exposed"
    raise error


def _positive(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError("timeout must be a positive number of seconds")
    return min(timeout, LONGEST_WAIT)
