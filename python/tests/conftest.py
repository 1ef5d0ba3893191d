from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_gate import SECRET, FakeGate
from freshgate._session import Session, Sessions
from freshgate._session_api import SessionApi


@pytest.fixture
def gate() -> Iterator[FakeGate]:
    # Not tmp_path: the path of a unix socket has room for about 100 characters.
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        gate = FakeGate(Path(folder)).start()
        yield gate
        gate.stop()


@pytest.fixture
def api(gate: FakeGate) -> SessionApi:
    return SessionApi(gate.address, SECRET)


@pytest.fixture
def sessions(api: SessionApi) -> Sessions:
    return Sessions(api)


@pytest.fixture
def session(gate: FakeGate, sessions: Sessions) -> Session:
    """A session of Ada's that has been read."""
    session = sessions.open(gate.sign_in(name="Ada"))
    session.read()
    return session
