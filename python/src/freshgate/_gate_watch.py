"""Ends the app when its gate has gone, even where the gate was killed and could not say so.

Without it a killed gate would leave an app behind that holds the port and that nobody guards.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Final

_LOGGER: Final = logging.getLogger("freshgate")
_LOOK_EVERY: Final = 1.0
_GRACE: Final = 5.0


def watch(gate: int) -> None:
    """Starts looking after process `gate`, in a thread that ends with this process."""
    parent = os.getppid()

    def follow() -> None:
        while _is_there(gate, parent):
            time.sleep(_LOOK_EVERY)
        _LOGGER.warning("The gate has gone. Stopping the app.")
        # Streamlit's own way out first: it closes sessions and lets resources go.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=follow, name="freshgate-gate", daemon=True).start()


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
