"""What the gate tells the app's process, by environment variables."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from freshgate._session_api import SessionApi


class BadEnvironment(Exception):
    """The process was not started by a gate, or by one of another version."""


@dataclass(frozen=True)
class Environment:
    """The gate's side of the arrangement."""

    api: SessionApi = field(repr=False)
    #: The gate's process.
    gate: int
    #: The providers one can sign in with. `None`: not said.
    providers: frozenset[str] | None
    #: Where pages go whose session has ended. `None`: they stay, and run as those of nobody.
    signed_out: str | None = None


def take(variables: MutableMapping[str, str]) -> Environment:
    """Reads the gate's variables and removes them: the app's script and its children have no use for the secret.

    Raises `BadEnvironment` with every problem at once.
    """
    address = variables.pop("FRESHGATE_SESSION_API", "")
    secret = variables.pop("FRESHGATE_UPSTREAM_SECRET", "")
    gate = variables.pop("FRESHGATE_GATE_PID", "")
    providers = variables.pop("FRESHGATE_PROVIDERS", None)
    signed_out = variables.pop("FRESHGATE_SIGNED_OUT", None)
    _leave_python_path(variables)

    if not address and not secret and not gate:
        raise BadEnvironment(
            "this is the part that runs inside an app behind the gate. Start the app with: freshgate run app.py"
        )
    problems = []
    api = None
    try:
        api = SessionApi(address, secret)
    except ValueError as error:
        problems.append(f"FRESHGATE_SESSION_API is {error}" if address else "FRESHGATE_SESSION_API is not set")
    if not secret:
        problems.append("FRESHGATE_UPSTREAM_SECRET is not set")
    elif not (secret.isascii() and secret.isprintable() and " " not in secret):
        problems.append("FRESHGATE_UPSTREAM_SECRET is malformed")
    if not gate.isascii() or not gate.isdigit():
        problems.append("FRESHGATE_GATE_PID is not the number of a process")
    if problems or api is None:
        raise BadEnvironment("; ".join(problems) + ". The gate sets these: start the app with freshgate run")
    names = None if providers is None else frozenset(name.strip() for name in providers.split(",") if name.strip())
    return Environment(api=api, gate=int(gate), providers=names, signed_out=signed_out)


def _leave_python_path(variables: MutableMapping[str, str]) -> None:
    """Takes the folder of this package off PYTHONPATH: it was put there for this process alone."""
    ours = Path(__file__).resolve().parent.parent
    entries = variables.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if entry and Path(entry).resolve() != ours]
    if kept:
        variables["PYTHONPATH"] = os.pathsep.join(kept)
    else:
        variables.pop("PYTHONPATH", None)
