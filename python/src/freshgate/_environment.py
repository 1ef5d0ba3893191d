"""What the app's process is told of its gate, by environment variables.

A gate that starts the app sets them all. An app that runs by itself, behind `freshgate serve`, is told where its
secret is (`FRESHGATE_UPSTREAM_SECRET_FILE`), and where the session API is if it is not at its usual place.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from freshgate._session_api import SessionApi

#: Where both sides look for the session API unless told otherwise.
_USUAL_SESSION_API: Final = "unix:/run/freshgate/session-api.sock"


class BadEnvironment(Exception):
    """The process is told too little of its gate, or something that cannot be."""


@dataclass(frozen=True)
class Environment:
    """The gate's side of the arrangement."""

    api: SessionApi = field(repr=False)
    #: The gate's process, if that has started this one.
    gate: int | None
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
    secret_file = variables.pop("FRESHGATE_UPSTREAM_SECRET_FILE", "")
    gate = variables.pop("FRESHGATE_GATE_PID", "")
    providers = variables.pop("FRESHGATE_PROVIDERS", None)
    signed_out = variables.pop("FRESHGATE_SIGNED_OUT", None)
    _leave_python_path(variables)

    if not any((address, secret, secret_file, gate)):
        raise BadEnvironment(
            "this is the part that runs inside an app behind the gate. Start the app with: freshgate run app.py. "
            "Behind freshgate serve, name the app's secret_file in FRESHGATE_UPSTREAM_SECRET_FILE"
        )
    problems = []
    source, unset = "FRESHGATE_UPSTREAM_SECRET", "is not set"
    if secret_file and not secret:
        source, unset = "FRESHGATE_UPSTREAM_SECRET_FILE", "names an empty file"
        try:
            secret = Path(secret_file).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            unset = f"cannot be read ({error})"
    api = None
    try:
        api = SessionApi(address or _USUAL_SESSION_API, secret)
    except ValueError as error:
        problems.append(f"FRESHGATE_SESSION_API is {error}")
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        problems.append(f"{source} is malformed")
    elif not secret:
        problems.append(f"{source} {unset}")
    if gate and not (gate.isascii() and gate.isdigit()):
        problems.append("FRESHGATE_GATE_PID is not the number of a process")
    if problems or api is None:
        raise BadEnvironment(
            "; ".join(problems) + ". freshgate run sets these itself; behind freshgate serve, "
            "FRESHGATE_UPSTREAM_SECRET_FILE names the app's secret_file"
        )
    names = None if providers is None else frozenset(name.strip() for name in providers.split(",") if name.strip())
    return Environment(api=api, gate=int(gate) if gate else None, providers=names, signed_out=signed_out)


def _leave_python_path(variables: MutableMapping[str, str]) -> None:
    """Takes the folder of this package off PYTHONPATH: it was put there for this process alone."""
    ours = Path(__file__).resolve().parent.parent
    entries = variables.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if entry and Path(entry).resolve() != ours]
    if kept:
        variables["PYTHONPATH"] = os.pathsep.join(kept)
    else:
        variables.pop("PYTHONPATH", None)
