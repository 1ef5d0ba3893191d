"""`python -m freshgate app.py [STREAMLIT ARGS]`: `streamlit run`, behind the gate.

`freshgate run` starts it. Behind `freshgate serve` people do, with the variables that `_environment` reads.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Final

from freshgate import __version__

OLDEST_PYTHON: Final = (3, 10)
OLDEST_STREAMLIT: Final = (1, 50)
NEWEST_KNOWN_STREAMLIT: Final = "1.67.0"


class CannotStart(Exception):
    """Something is missing that the app cannot run without: what, and how to mend it."""

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what}. {mend}" if mend else what)
        self.what = what
        self.mend = mend


def main() -> None:
    """Prepares this process and becomes Streamlit: output, signals and exit code are its own from then on.

    With `--check`, only says on two lines what stands in the way and how to mend it. The gate asks before it starts
    anything: it does not load Streamlit, which takes a second.
    """
    if sys.argv[1:] == ["--version"]:
        print(f"freshgate {__version__}")
        return
    if sys.argv[1:] == ["--describe"]:
        print(json.dumps(describe()))
        return
    check_only = sys.argv[1:] == ["--check"]
    try:
        _check_python(sys.version_info[:2])
        _make_room_for_the_app()
        _find_streamlit()
        if check_only:
            return
        _check_streamlit()
        _install()
    except CannotStart as problem:
        if check_only:
            print(problem.what, problem.mend, sep="\n")
        else:
            print(f"freshgate: {problem}", file=sys.stderr)
        sys.exit(2)

    import streamlit.web.cli

    sys.argv = ["streamlit", "run", *sys.argv[1:]]
    # The name makes it the same command line for Streamlit as `streamlit run` gives.
    streamlit.web.cli.main(prog_name="streamlit")


def describe() -> dict[str, str | None]:
    """What `freshgate check` tells of this Python and its Streamlit. `problem` says why an app could not run."""
    problem = None
    try:
        _check_python(sys.version_info[:2])
        _make_room_for_the_app()
        _find_streamlit()
        _check_streamlit()
    except CannotStart as cannot:
        problem = str(cannot)
    return {
        "python": platform.python_version(),
        "streamlit": getattr(sys.modules.get("streamlit"), "__version__", None),
        "newest_known_streamlit": NEWEST_KNOWN_STREAMLIT,
        "problem": problem,
    }


def _make_room_for_the_app() -> None:
    """Puts the current folder last on the module path, where `python -m` had put it first.

    As with `streamlit run`, a file of the app named like a standard module must not take its place in Streamlit.
    """
    here = str(Path.cwd())
    if sys.path and sys.path[0] in {"", here}:
        sys.path.append(sys.path.pop(0) or here)


def _check_python(version: tuple[int, ...]) -> None:
    if version < OLDEST_PYTHON:
        raise CannotStart(
            f"Python {'.'.join(map(str, version))} is too old: {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed",
            "Name one that has Streamlit: freshgate run app.py --python PATH",
        )


def _find_streamlit() -> None:
    """Looks for Streamlit, and at its version, without loading it."""
    import importlib.metadata
    import importlib.util

    try:
        found = importlib.util.find_spec("streamlit") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise CannotStart(
            f"Streamlit is not installed for {sys.executable}",
            f"Install it: {sys.executable} -m pip install streamlit, or name the Python that has it",
        )
    try:
        version = importlib.metadata.version("streamlit")
    except importlib.metadata.PackageNotFoundError:
        # Not installed by a package manager: it says its version itself once it is loaded.
        return
    _check_version(version)


def _check_version(version: str) -> None:
    if _numbers(version) < OLDEST_STREAMLIT:
        raise CannotStart(
            f"Streamlit {version} is too old: {'.'.join(map(str, OLDEST_STREAMLIT))} or newer is needed",
            f"Update it: {sys.executable} -m pip install --upgrade streamlit",
        )


def _check_streamlit() -> None:
    try:
        import streamlit
    except ImportError as error:
        raise CannotStart(
            f"Streamlit is installed for {sys.executable}, but cannot be loaded ({error})",
            f"Install it again: {sys.executable} -m pip install --force-reinstall streamlit",
        ) from None
    version = str(getattr(streamlit, "__version__", "0"))
    _check_version(version)
    from freshgate import _streamlit_private

    lacking = _streamlit_private.missing()
    if lacking:
        raise CannotStart(
            f"Streamlit {version} lacks what freshgate {__version__} builds on: {', '.join(lacking)}",
            "Update freshgate, or install a Streamlit that it knows: "
            f"{sys.executable} -m pip install streamlit=={NEWEST_KNOWN_STREAMLIT}",
        )


def _install() -> None:
    # Only now: these need Streamlit, and all of freshgate is loaded before the app can change the module path.
    from freshgate import _environment, _events, _gate_watch, _identity, _session

    try:
        environment = _environment.take(os.environ)
    except _environment.BadEnvironment as problem:
        raise CannotStart(str(problem)) from None
    if environment.gate is not None:
        _gate_watch.watch(environment.gate)
    sessions = _session.Sessions(environment.api)
    _identity.Identity(sessions, environment.providers, environment.signed_out).install()
    _events.Follower(sessions).start()


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split(".")[:2]:
        digits = "".join(character for character in part if character.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


if __name__ == "__main__":
    main()
