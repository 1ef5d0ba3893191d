"""Runs a real Streamlit behind a fake gate, and is the browser: as much of Streamlit's protocol as it takes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from fake_gate import SECRET, FakeGate

PACKAGE: Final = Path(__file__).parent.parent / "src"
APP: Final = Path(__file__).parent / "app.py"


@dataclass
class App:
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    base: str = ""

    def open(self, handle: str | None = None, session: str | None = None, **headers: str) -> Page:
        """A page connects; `session` is the Streamlit session that it had before."""
        if handle is not None:
            headers["Freshgate-Session"] = handle
        protocols = ["streamlit", "PLACEHOLDER_AUTH_TOKEN", *filter(None, [session])]
        connecting = connect(
            f"ws://127.0.0.1:{self.port}{self.base}/_stcore/stream",
            subprotocols=protocols,  # type: ignore[arg-type]
            additional_headers=headers,
            max_size=None,
            close_timeout=1,
        )
        return Page(connecting)


@dataclass
class Run:
    """What one run of the script sent to the page."""

    session: str
    said: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    redirect: str | None = None
    elements: list[Any] = field(default_factory=list)


class Page:
    def __init__(self, connecting: AbstractContextManager[ClientConnection]) -> None:
        self._open = ExitStack()
        self.socket = self._open.enter_context(connecting)
        self.session = ""

    def run(self, do: str = "look", *, url: str = "", page: str = "", **query: str) -> Run:
        """Runs the script, as a page does at its start and at every click."""
        self.start(do, url=url, page=page, **query)
        return self.next_run()

    def start(self, do: str, *, url: str = "", page: str = "", **query: str) -> None:
        """The same, without waiting for what comes of it."""
        message = BackMsg()
        message.rerun_script.query_string = urlencode({"do": do, **query})
        message.rerun_script.page_name = page
        if url:
            message.rerun_script.context_info.url = url
        self.socket.send(message.SerializeToString())

    def next_run(self, seconds: float = 15) -> Run:
        """The next run that comes to an end."""
        run: Run | None = None
        deadline = time.monotonic() + seconds
        while True:
            frame = self.socket.recv(timeout=max(0.01, deadline - time.monotonic()))
            message = ForwardMsg()
            message.ParseFromString(frame if isinstance(frame, bytes) else frame.encode())
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.session = message.new_session.initialize.session_id
                run = Run(self.session)
            elif run is None:
                continue
            elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
                element = message.delta.new_element
                if element.WhichOneof("type") == "text":
                    run.said |= json.loads(element.text.body)
                elif element.WhichOneof("type") == "exception":
                    run.errors.append(f"{element.exception.type}: {element.exception.message}")
                else:
                    run.elements.append(element)
            elif kind == "auth_redirect":
                run.redirect = message.auth_redirect.url
            elif kind == "script_finished" and message.script_finished in {
                ForwardMsg.FINISHED_SUCCESSFULLY,
                ForwardMsg.FINISHED_WITH_COMPILE_ERROR,
            }:
                return run

    def sent_to(self, seconds: float = 15) -> str:
        """Where the page is sent, whatever else it is told."""
        deadline = time.monotonic() + seconds
        while True:
            frame = self.socket.recv(timeout=max(0.01, deadline - time.monotonic()))
            message = ForwardMsg()
            message.ParseFromString(frame if isinstance(frame, bytes) else frame.encode())
            if message.WhichOneof("type") == "auth_redirect":
                return str(message.auth_redirect.url)

    def stays_quiet(self, seconds: float = 0.5) -> bool:
        """Whether no run comes on its own. To be used where one would have come by now."""
        try:
            self.next_run(seconds)
        except TimeoutError:
            return True
        return False

    def drop(self) -> None:
        """The connection breaks, without a goodbye."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)
        self._open.close()
        # As a page does before it connects again. Streamlit up to 1.57 takes one that is faster for its predecessor.
        time.sleep(0.5)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def environment(gate: FakeGate, **more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("STREAMLIT_", "PYTHONWARN"))},
        "PYTHONPATH": str(PACKAGE),
        "PYTHONUNBUFFERED": "1",
        "FRESHGATE_SESSION_API": gate.address,
        "FRESHGATE_UPSTREAM_SECRET": SECRET,
        "FRESHGATE_GATE_PID": str(os.getpid()),
        **more,
    }


def arguments(port: int, script: Path, *more: str) -> list[str]:
    options = {
        "server.port": port,
        "server.address": "127.0.0.1",
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    return [str(script), *(f"--{name}={value}" for name, value in options.items()), *more]


@contextmanager
def running(
    gate: FakeGate, folder: Path, *more: str, script: Path = APP, base: str = "", variables: Mapping[str, str] = {}
) -> Iterator[App]:
    port, log = free_port(), folder / "app.log"
    command = [sys.executable, "-m", "freshgate", *arguments(port, script, *more)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(gate, **variables), stdout=output, stderr=subprocess.STDOUT
        )
    app = App(process, port, log, base)
    try:
        wait_until_healthy(app)
        gate.wait_for_stream()
        yield app
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_healthy(app: App) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{app.port}{app.base}/_stcore/health", timeout=2):
                return
        except OSError:
            assert app.process.poll() is None, app.log.read_text()
            assert time.monotonic() < deadline, app.log.read_text()
            time.sleep(0.05)


def wait_until_gone(port: int, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        assert time.monotonic() < deadline, "it still listens"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
