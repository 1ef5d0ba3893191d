"""Ends the app when its gate has gone, even where the gate was killed and could not say so.

Without it a killed gate would leave an app behind that holds the port and that nobody guards. The gate starts the app
in a process group of its own, and that whole group ends: what the app has started does not outlive it either.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Final

_LOGGER: Final = logging.getLogger("freshgate")
_LOOK_EVERY: Final = 1.0
_GRACE: Final = 5.0


def watch(gate: int) -> None:
    """Starts looking after process `gate`, in a thread that ends with this process."""
    parent = os.getppid()
    whole_group = _has_a_group_of_its_own(gate)
    gone = threading.Event()

    def follow() -> None:
        while _is_there(gate, parent):
            time.sleep(_LOOK_EVERY)
        gone.set()
        _LOGGER.warning("The gate has gone. Stopping the app.")
        # Streamlit's own way out first: it closes sessions and lets resources go.
        if whole_group:
            os.killpg(0, signal.SIGTERM)
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        end()

    def end() -> None:
        if whole_group:
            # This process goes with the group: what it has still to say is said before.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    # Registered before the app runs, so it comes after whatever the app wants to do at its end.
    atexit.register(lambda: end() if gone.is_set() else None)
    threading.Thread(target=follow, name="freshgate-gate", daemon=True).start()


def _has_a_group_of_its_own(gate: int) -> bool:
    """Whether the process group is the app's alone, as a gate makes it, and not that of a shell or of a test."""
    try:
        return os.getpgrp() != os.getpgid(gate)
    except ProcessLookupError:
        return os.getpgrp() == os.getpid()


def _is_there(gate: int, parent: int) -> bool:
    if parent == gate:
        return os.getppid() == gate
    # Something stands between (a tool that runs Python as its own child), or the gate went before we looked.
    try:
        os.kill(gate, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return os.getppid() == parent
