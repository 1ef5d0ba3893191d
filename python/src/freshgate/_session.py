"""A gate session inside this process: one object for all tabs, threads and script runs of it.

It holds the newest document known and gives it to every `SessionUser` (one per Streamlit session, `_user.py`). What it
shows is decided here, by three states: not read yet, open, ended. It leaves reruns to `_streamlit_private.py`.
"""

from __future__ import annotations

import copy
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from freshgate._document import Document
from freshgate._session_api import LOCAL_TIMEOUT, SessionApi
from freshgate.errors import FreshgateError, NoRefreshToken, SignInAgain, TryLater

if TYPE_CHECKING:
    from freshgate._user import SessionUser

#: How long a read of tokens waits for the provider when the token at hand is over.
_WAIT_WITHOUT_TOKEN: Final = 20.0
#: The same while the token at hand still lives: leaving early cancels nothing, and the next read finds the result.
_WAIT_WITH_TOKEN: Final = 5.0
#: For how long a failed question is not asked again.
_PAUSE_AFTER_FAILURE: Final = 1.0
_LONGEST_PAUSE: Final = 5.0

# These change with every token and mean nothing to a page: alone they are no reason to run it again.
_OF_THE_TOKEN: Final = frozenset(
    {"iat", "exp", "nbf", "auth_time", "nonce", "jti", "at_hash", "c_hash", "s_hash", "aio", "uti", "rh"}
)


@dataclass(frozen=True)
class Unread:
    """The gate vouched for the session, but its document could not be had yet."""


@dataclass(frozen=True)
class Open:
    """The session lives."""

    document: Document


@dataclass(frozen=True)
class Ended:
    """The session is over, for good."""

    reason: str


State = Unread | Open | Ended


class Session:
    """One session of the gate. Safe to use from any thread."""

    def __init__(self, handle: str, api: SessionApi) -> None:
        self.handle: Final = handle
        self._api: Final = api
        self._lock: Final = threading.RLock()
        self._state: State = Unread()
        # Weak: what Streamlit has dropped must not be kept here.
        self._users: list[weakref.ref[SessionUser]] = []
        self._flights: dict[str, _Flight] = {}
        self._ask_again_at = 0.0
        self._last_refresh: str | None = None

    @property
    def last_refresh(self) -> str | None:
        """What came of the last question for fresh tokens. `None`: none has been asked yet."""
        return self._last_refresh

    @property
    def state(self) -> State:
        """What is known of the session now."""
        with self._lock:
            return self._state

    def add(self, user: SessionUser) -> None:
        """From now on `user` shows this session."""
        with self._lock:
            self._users = [known for known in self._users if known() is not None]
            self._users.append(weakref.ref(user))
            user.show(self._state)

    def users(self) -> list[SessionUser]:
        """Those that show this session and are still in use."""
        with self._lock:
            return [user for known in self._users if (user := known()) is not None]

    def appearance(self) -> object:
        """What a page can tell the session by: it compares unequal when a page should run again."""
        state = self.state
        if isinstance(state, Open):
            return {name: value for name, value in state.document.claims.items() if name not in _OF_THE_TOKEN}
        return state

    def apply(self, document: Document) -> Document:
        """Takes a document that the gate gave; returns the newest known. Answers may overtake each other.

        Raises `SignInAgain` where the session is over.
        """
        with self._lock:
            if isinstance(self._state, Ended):
                raise SignInAgain(self._state.reason)
            if isinstance(self._state, Open):
                known = self._state.document
                if document.subject != known.subject:
                    # The gate ends such a session itself; here it must never show one user's claims to another.
                    self.end("identity_changed")
                    raise SignInAgain("identity_changed")
                if document.generation < known.generation:
                    return known
            self._state = Open(document)
            self._ask_again_at = 0.0
            for user in self.users():
                user.show(self._state)
            return document

    def end(self, reason: str) -> None:
        """The session is over: nobody gets a claim or a token of it any more. The first reason stays."""
        with self._lock:
            if isinstance(self._state, Ended):
                return
            self._state = Ended(reason)
            for user in self.users():
                user.show(self._state)

    def read(self, timeout: float = LOCAL_TIMEOUT) -> Document:
        """Asks the gate how the session stands."""
        return self._ask(lambda: self._api.session(self.handle, timeout))

    def document(self) -> Document:
        """The document at hand, read from the gate if it has not been yet. Raises `SignInAgain` or `TryLater`."""
        state = self.state
        if isinstance(state, Ended):
            raise SignInAgain(state.reason)
        if isinstance(state, Open):
            return state.document
        if time.monotonic() < self._ask_again_at:
            raise TryLater("unreachable", _PAUSE_AFTER_FAILURE)
        try:
            return self._shared("read", self.read, LOCAL_TIMEOUT)
        except TryLater as error:
            self._pause(error)
            raise

    def tokens(self) -> Mapping[str, str]:
        """The exposed tokens, refreshed first if they are about to expire; never expired ones.

        Threads that ask at the same time share one question. Raises `SignInAgain` or `TryLater`.
        """
        document = self.document()
        now = time.time()
        if document.is_fresh(now):
            return document.tokens
        alive = not document.has_expired(now)
        if alive and time.monotonic() < self._ask_again_at:
            return document.tokens
        wait = _WAIT_WITH_TOKEN if alive else _WAIT_WITHOUT_TOKEN

        def ask() -> Document:
            # The answer to another's question may have come since the look above.
            known = self.document()
            if known is not document and known.is_fresh(time.time()):
                return known
            return self._ask_for_fresh(lambda: self._api.fresh(self.handle, wait))

        try:
            newest = self._shared("tokens", ask, wait)
        except (TryLater, NoRefreshToken) as error:
            # The session lives on. What is at hand may have changed meanwhile: another thread's refresh, an event.
            self._pause(error)
            newest = self.document()
            if newest.has_expired(time.time()):
                if isinstance(error, NoRefreshToken):
                    raise SignInAgain("no_refresh_token") from None
                raise
            return newest.tokens
        if newest.has_expired(time.time()):
            raise TryLater("expired")
        return newest.tokens

    def authorization(self, method: str, url: str, nonce: str | None) -> dict[str, str]:
        """The header fields of one request to an API. Raises an error of the package."""
        state = self.state
        if isinstance(state, Ended):
            raise SignInAgain(state.reason)
        try:
            return self._api.authorization(self.handle, method, url, nonce, _WAIT_WITHOUT_TOKEN)
        except SignInAgain as error:
            self.end(error.reason or "ended")
            raise

    def refresh(self, timeout: float) -> Document:
        """Tokens and claims no older than this call. Raises an error of the package."""
        state = self.state
        if isinstance(state, Ended):
            raise SignInAgain(state.reason)
        return self._ask_for_fresh(lambda: self._api.refresh(self.handle, timeout))

    def _ask_for_fresh(self, question: Callable[[], Document]) -> Document:
        def ask() -> Document:
            try:
                document = question()
            except FreshgateError as error:
                self._last_refresh = error.outcome
                raise
            self._last_refresh = document.outcome
            return document

        return self._ask(ask)

    def _ask(self, question: Callable[[], Document]) -> Document:
        try:
            return self.apply(question())
        except SignInAgain as error:
            self.end(error.reason or "ended")
            raise

    def _pause(self, error: FreshgateError) -> None:
        """Lets the next readers do with what is at hand for a while: a script may read in a tight loop."""
        pause = _LONGEST_PAUSE if error.retry_after is None else max(error.retry_after, _PAUSE_AFTER_FAILURE)
        self._ask_again_at = time.monotonic() + min(pause, _LONGEST_PAUSE)

    def _shared(self, kind: str, question: Callable[[], Document], wait: float) -> Document:
        """One question at a time, in the thread of the first who asks; the others get its answer."""
        with self._lock:
            flight = self._flights.get(kind)
            leads = flight is None
            if flight is None:
                flight = self._flights[kind] = _Flight()
        if not leads:
            return flight.wait(wait + 2 * LOCAL_TIMEOUT)
        try:
            flight.document = document = question()
        except FreshgateError as error:
            # A copy: a raised exception grows a traceback, and each thread raises its own.
            flight.error = copy.copy(error)
            raise
        else:
            return document
        finally:
            with self._lock:
                del self._flights[kind]
            flight.landed.set()


class _Flight:
    def __init__(self) -> None:
        self.landed: Final = threading.Event()
        self.document: Document | None = None
        self.error: FreshgateError | None = None

    def wait(self, timeout: float) -> Document:
        if not self.landed.wait(timeout):
            raise TryLater("timeout")
        if self.document is not None:
            return self.document
        raise copy.copy(self.error) if self.error is not None else TryLater("unreachable")


class Sessions:
    """The sessions in use in this process, by handle. A session is dropped with its last user."""

    def __init__(self, api: SessionApi) -> None:
        self.api: Final = api
        self._lock: Final = threading.Lock()
        self._by_handle: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()

    def get(self, handle: str) -> Session | None:
        """The session, if anybody here uses it."""
        with self._lock:
            return self._by_handle.get(handle)

    def open(self, handle: str) -> Session:
        """The session of this handle, the same object for all who ask."""
        with self._lock:
            session = self._by_handle.get(handle)
            # An ended one stays ended for those who hold it; a handle that the gate vouches for again is read anew.
            if session is None or isinstance(session.state, Ended):
                session = self._by_handle[handle] = Session(handle, self.api)
            return session

    def all(self) -> list[Session]:
        """Every session in use now."""
        with self._lock:
            return list(self._by_handle.values())

    def __len__(self) -> int:
        return len(self._by_handle)
