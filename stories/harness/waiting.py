"""Waiting for conditions, each with a deadline; no story sleeps for a fixed time and hopes."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PAUSE = 0.05


def until(condition: Callable[[], Found | None], what: str, seconds: float = 15.0) -> Found:
    """The first true answer of `condition`; an AssertionError naming `what` after `seconds`.

    An exception of the condition counts as "not yet", and is told if it was the last word.
    """
    deadline = time.monotonic() + seconds
    last: BaseException | Found | None = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, AssertionError, LookupError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {seconds:g} s for: {what} (last: {last!r})")
        time.sleep(PAUSE)
