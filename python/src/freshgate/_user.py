"""What one Streamlit session holds as its user info: a dict that follows its gate session.

Streamlit reads it with `copy()` for every `st.user`, compares it when a dropped connection wants its session back, and
empties it at `st.logout()`. Those three are where this differs from a plain dict.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

from freshgate._document import Document
from freshgate._session import Ended, Open, Session, State, Unread
from freshgate._tokens import Tokens
from freshgate.errors import SignInAgain

ANONYMOUS: Final[Mapping[str, Any]] = {"is_logged_in": False}


class Tab(Protocol):
    """The page that shows a user."""

    def rerun_if_outdated(self, user: SessionUser) -> None:
        """Runs the script again, unless by then the page shows what there is to show."""


class SessionUser(dict[str, Any]):
    """The user info of one Streamlit session, for one session of the gate."""

    def __init__(self, session: Session, beside: Mapping[str, Any] | None = None) -> None:
        """`beside`: what Streamlit knows from elsewhere, shown where no claim has that name."""
        super().__init__()
        self.session: Final = session
        self.tab: Tab | None = None
        self._beside: Final = dict(beside or {})
        self._lock: Final = threading.Lock()
        self._signed_out = False
        self._refreshes = 0
        session.add(self)
        self._presented = session.appearance()

    # Streamlit resumes the session of a dropped connection only if the new connection's user info equals the old. That
    # must hold over a rotation of the tokens, and for no one else: same gate session (its handle is unique to one
    # login), and neither side over.
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SessionUser)
            and self.session is other.session
            and not self.is_over()
            and not other.is_over()
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def copy(self) -> dict[str, Any]:
        """A plain dict of the newest values: what `st.user` reads. Raises `TryLater` where they could never be had."""
        if not self._signed_out and isinstance(self.session.state, Unread):
            with suppress(SignInAgain):
                self.session.document()
            # The script that looks is the page's: it shows what it finds.
            self.mark_presented()
        with self._lock:
            values = dict(self) if not self._signed_out else dict(ANONYMOUS)
        # Also once it has ended: who reads a token then learns why there is none.
        values["tokens"] = Tokens(self)
        return values

    def clear(self) -> None:
        """What `st.logout()` does: signed out in this Streamlit session, and no later event undoes it."""
        with self._lock:
            self._signed_out = True
            super().clear()

    def is_over(self) -> bool:
        """Whether this user has signed out or the gate session has ended."""
        return self._signed_out or isinstance(self.session.state, Ended)

    def show(self, state: State) -> None:
        """Shows another state, in place: whoever holds this dict sees it."""
        if isinstance(state, Unread):
            return
        values = _values(state.document, self._beside) if isinstance(state, Open) else dict(ANONYMOUS)
        with self._lock:
            if self._signed_out:
                return
            # Never empty in between: others read this dict while it changes.
            self.update(values)
            for name in [name for name in self if name not in values]:
                del self[name]

    def tokens(self) -> Mapping[str, str]:
        """The exposed tokens, never expired. Raises `SignInAgain` or `TryLater`."""
        if self._signed_out:
            raise SignInAgain("logout")
        try:
            return self.session.tokens()
        except SignInAgain:
            # The script has its answer: another run of it would take that away.
            self.mark_presented()
            raise

    def authorization(self, method: str, url: str, nonce: str | None) -> dict[str, str]:
        """What a request of the app to an API carries. Raises `SignInAgain` or `TryLater`."""
        if self._signed_out:
            raise SignInAgain("logout")
        return self.session.authorization(method, url, nonce)

    def refresh(self, timeout: float) -> None:
        """Newest tokens and claims, in place, for the run that asks. The page is not run again for them."""
        if self._signed_out:
            raise SignInAgain("logout")
        with self._refreshing():
            self.session.refresh(timeout)

    def is_outdated(self) -> bool:
        """Whether the page shows claims that are no longer true, or a user whose session has ended."""
        appearance = self.session.appearance()
        with self._lock:
            # A script that is refreshing sees the outcome itself; `_refreshing` looks again where it failed.
            return not self._signed_out and self._refreshes == 0 and self._presented != appearance

    def mark_presented(self) -> None:
        """The page shows, or is about to show, what there is to show."""
        appearance = self.session.appearance()
        with self._lock:
            self._presented = appearance

    @contextmanager
    def _refreshing(self) -> Iterator[None]:
        with self._lock:
            self._refreshes += 1
        told = False
        try:
            yield
            told = True
        except SignInAgain:
            told = True
            raise
        finally:
            if told:
                self.mark_presented()
            with self._lock:
                self._refreshes -= 1
            if not told and self.tab is not None:
                self.tab.rerun_if_outdated(self)


def _values(document: Document, beside: Mapping[str, Any]) -> dict[str, Any]:
    """In Streamlit's own order: the flag, the claims, the provider. The claims are a copy that the app may change."""
    claims = copy.deepcopy(dict(document.claims))
    claims.pop("is_logged_in", None)
    values = {"is_logged_in": True, **claims, "provider": document.provider}
    return values | {name: value for name, value in beside.items() if name not in values}
