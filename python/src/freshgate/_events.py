"""Follows the gate's stream of events: what changes or ends elsewhere shows here, in every tab, within moments.

Two threads. One reads the stream and never waits for anything else, so the gate's side never fills up; the other reads
changed sessions again, each once however many events named it meanwhile.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from typing import Final

from freshgate._session import Ended, Open, Session, Sessions
from freshgate._session_api import Event
from freshgate.errors import FreshgateError, SignInAgain

_LOGGER: Final = logging.getLogger("freshgate")
_SHORTEST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


class Follower:
    """Keeps the sessions of this process as the gate has them."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # Handles that wait to be read again, and whether claims changed: then pages run again.
        self._due: dict[str, bool] = {}
        self._streams = 0
        #: Which stream tells of changes now, by number. `None`: none does.
        self.stream: int | None = None

    def start(self) -> None:
        """Starts both threads. They end with the process."""
        threading.Thread(target=self._follow, name="freshgate-events", daemon=True).start()
        threading.Thread(target=self._catch_up, name="freshgate-sessions", daemon=True).start()

    def _follow(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            try:
                for event in self._sessions.api.events():
                    if event.name == "ready":
                        pause = _SHORTEST_PAUSE
                    self.take(event)
            except FreshgateError as error:
                _LOGGER.log(
                    # A drop is part of life; an answer that is no stream needs somebody's attention.
                    logging.DEBUG if error.reason in {"unreachable", "timeout"} else logging.WARNING,
                    "The gate's events cannot be followed (%s). Trying again.",
                    error.reason,
                )
            except Exception:
                _LOGGER.exception("An event of the gate could not be handled.")
            self.stream = None
            # Jitter: the processes of a restarted gate must not all come back in the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    def take(self, event: Event) -> None:
        """Acts on one event. Never waits."""
        if event.name == "ready":
            self._streams += 1
            self.stream = self._streams
            # Whatever happened before this moment went unheard.
            for live in self._sessions.all():
                self._read_again(live.handle, claims_changed=True)
            return
        session = self._sessions.get(str(event.data.get("session")))
        if session is None:
            return
        if event.name == "changed":
            claims_changed = event.data.get("claims_changed") is not False
            if not _is_known(session, event.data.get("generation")):
                self._read_again(session.handle, claims_changed=claims_changed)
            elif claims_changed:
                # A refresh by one of the pages has brought it; the others have not been told.
                _show(session)
        elif event.name == "ended":
            session.end(str(event.data.get("reason")))
            _show(session)

    def _read_again(self, handle: str, *, claims_changed: bool) -> None:
        with self._lock:
            queued = handle in self._due
            self._due[handle] = claims_changed or self._due.get(handle, False)
        if not queued:
            self._queue.put(handle)

    def _catch_up(self) -> None:
        failed = _Failed()
        while True:
            try:
                handle = self._queue.get(timeout=failed.wait())
            except queue.Empty:
                for handle, claims_changed in failed.take().items():
                    self._read_again(handle, claims_changed=claims_changed)
                continue
            with self._lock:
                claims_changed = self._due.pop(handle)
            if self._catch_up_with(handle, claims_changed=claims_changed):
                failed.recovered()
            else:
                failed.add(handle, claims_changed=claims_changed)

    def _catch_up_with(self, handle: str, *, claims_changed: bool) -> bool:
        """Whether the session is as the gate has it, as far as anybody here uses it."""
        session = self._sessions.get(handle)
        if session is None:
            return True
        try:
            session.read()
        except SignInAgain:
            _show(session)
        except FreshgateError as error:
            _LOGGER.debug("A changed session could not be read (%s). Trying again.", error.reason)
            return False
        except Exception:
            _LOGGER.exception("A changed session could not be read. Trying again.")
            return False
        else:
            if claims_changed:
                _show(session)
        return True


class _Failed:
    """Sessions that could not be read: all of them are tried again after a pause, which grows while that fails, too."""

    def __init__(self) -> None:
        self._handles: dict[str, bool] = {}
        self._pause = _SHORTEST_PAUSE
        self._again_at = 0.0

    def add(self, handle: str, *, claims_changed: bool) -> None:
        if not self._handles:
            self._again_at = time.monotonic() + self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self._handles[handle] = claims_changed or self._handles.get(handle, False)

    def wait(self) -> float | None:
        """For how long others may come first. `None`: for ever."""
        return max(0.0, self._again_at - time.monotonic()) if self._handles else None

    def take(self) -> dict[str, bool]:
        taken, self._handles = self._handles, {}
        return taken

    def recovered(self) -> None:
        """A session could be read: the gate answers again."""
        if not self._handles:
            self._pause = _SHORTEST_PAUSE


def _is_known(session: Session, generation: object) -> bool:
    state = session.state
    return isinstance(state, Open) and isinstance(generation, int) and generation <= state.document.generation


def _show(session: Session) -> None:
    """Runs the pages again that show something else than the session as it stands."""
    if isinstance(session.state, Open | Ended):
        for user in session.users():
            if user.tab is not None:
                user.tab.rerun_if_outdated(user)
