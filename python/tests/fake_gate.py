"""A gate's session API, as docs/session-api.md has it, on a unix socket, with faults on demand."""

from __future__ import annotations

import itertools
import json
import queue
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

SECRET: Final = "s" * 43

Answer = tuple[int, dict[str, Any]]

METHODS: Final = {
    "/v1/session": {"GET", "DELETE"},
    "/v1/session/token": {"GET"},
    "/v1/session/refresh": {"POST"},
    "/v1/session/authorization": {"POST"},
    "/v1/login": {"POST"},
    "/v1/events": {"GET"},
}


class Drop(Exception):
    """Raised by a scripted answer: the connection closes without one."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    handle: str | None
    timeout: str | None
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} {urlsplit(self.path).path}"


class FakeGate:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "session-api.sock"
        self.address = f"unix:{self.path}"
        self.lock = threading.RLock()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, str] = {}
        self.requests: list[Request] = []
        #: By "METHOD /path": what to answer instead.
        self.scripted: dict[str, Callable[[Request], Answer]] = {}
        #: What the provider would say at the next refresh, by handle.
        self.at_provider: dict[str, dict[str, Any]] = {}
        self.serial = itertools.count(1)
        self._streams: list[queue.SimpleQueue[str | None]] = []
        self._server: _Server | None = None

    # The gate's life

    def start(self) -> FakeGate:
        self._server = _Server(str(self.path), self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self.path.unlink()
        self.drop_streams()

    # What happens in it

    def sign_in(self, *, lives: float = 3600, fresh: float | None = None, **claims: Any) -> str:
        handle = secrets.token_urlsafe(32)
        self.sessions[handle] = {
            "session": handle,
            "provider": "default",
            "generation": 1,
            "claims": {"iss": "https://idp.example", "sub": f"sub-{handle[:6]}"} | claims,
            **self._new_tokens(lives, fresh),
            "token_type": "Bearer",
            "outcome": "not_needed",
            "reason": None,
        }
        return handle

    def rotate(self, handle: str, *, lives: float = 3600, fresh: float | None = None, **claims: Any) -> None:
        """New tokens, and claims; everyone is told."""
        with self.lock:
            session = self.sessions[handle]
            before = session["claims"]
            session |= self._new_tokens(lives, fresh)
            session["claims"] = before | claims
            session["generation"] += 1
            changed = session["claims"] != before
            generation = session["generation"]
        self.tell("changed", session=handle, generation=generation, claims_changed=changed)

    def end(self, handle: str, reason: str = "logout", *, tell: bool = True) -> None:
        with self.lock:
            self.sessions.pop(handle, None)
            self.ended[handle] = reason
        if tell:
            self.tell("ended", session=handle, reason=reason)

    def tell(self, event: str, **data: Any) -> None:
        for stream in self.streams():
            stream.put(f"event: {event}\ndata: {json.dumps(data)}\n\n")

    def streams(self) -> list[queue.SimpleQueue[str | None]]:
        with self.lock:
            return list(self._streams)

    def drop_streams(self) -> None:
        for stream in self.streams():
            stream.put(None)

    def asked(self, what: str, handle: str) -> int:
        with self.lock:
            return sum(str(request) == what and request.handle == handle for request in self.requests)

    def wait_for_stream(self) -> None:
        wait_until(lambda: bool(self.streams()))

    def _new_tokens(self, lives: float, fresh: float | None) -> dict[str, Any]:
        number, now = next(self.serial), time.time()
        return {
            "tokens": {"access": f"access-{number}", "id": f"id-{number}"},
            "expires_at": now + lives,
            "fresh_until": now + (lives - 30 if fresh is None else fresh),
        }

    # Its answers

    def answer(self, request: Request) -> Answer:
        with self.lock:
            self.requests.append(request)
        scripted = self.scripted.get(str(request))
        if scripted is not None:
            return scripted(request)
        if str(request) == "POST /v1/login":
            return 200, {"path": "/auth/login?prepared=sealed"}
        if not request.handle or not _is_seconds(request.timeout):
            return error(400, "bad_request")
        if request.method == "DELETE":
            self.end(request.handle)
            return 204, {}
        return self._answer_about(request.handle, request)

    def _answer_about(self, handle: str, request: Request) -> Answer:
        if handle in self.ended:
            return error(410, "sign_in_again", self.ended[handle])
        session = self.sessions.get(handle)
        if session is None:
            return error(404, "not_signed_in")
        if str(request) == "POST /v1/session/authorization":
            fields = {"Authorization": f"DPoP {session['tokens']['access']}", "DPoP": "proof"}
            return 200, {"headers": fields}
        if str(request) == "POST /v1/session/refresh" or (
            str(request) == "GET /v1/session/token" and time.time() >= session["fresh_until"]
        ):
            self.rotate(handle, **self.at_provider.get(handle, {}))
            return 200, session | {"outcome": "refreshed"}
        return 200, dict(session)


def error(status: int, code: str, reason: str | None = None, retry_after: float | None = None) -> Answer:
    return status, {"error": code, "reason": reason, "message": "A plain sentence.", "retry_after": retry_after}


def _is_seconds(timeout: str | None) -> bool:
    try:
        return timeout is None or float(timeout) >= 0
    except ValueError:
        return False


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, gate: FakeGate) -> None:
        super().__init__(path, _Handler)
        self.gate = gate

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is part of what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        if self.headers["Authorization"] != f"Bearer {SECRET}":
            self._send(*error(401, "unauthorized"))
            return
        methods = METHODS.get(urlsplit(self.path).path)
        if methods is None:
            self._send(*error(404, "not_found"))
            return
        if self.command not in methods:
            self._send(*error(405, "bad_request"))
            return
        if self.path == "/v1/events":
            self._stream()
            return
        handle, timeout = self.headers["Freshgate-Session"], self.headers["Freshgate-Timeout"]
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            self._send(*self.server.gate.answer(Request(self.command, self.path, handle, timeout, body)))
        except Drop:
            self.close_connection = True

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        self.send_response(status)
        if status == HTTPStatus.NO_CONTENT:
            self.end_headers()
            return
        body = json.dumps(answer).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        gate, stream = self.server.gate, queue.SimpleQueue[str | None]()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk("event: ready\ndata: {}\n\n: a comment\n\n")
        with gate.lock:
            gate._streams.append(stream)
        try:
            while (text := stream.get()) is not None:
                self._chunk(text)
        finally:
            with gate.lock:
                gate._streams.remove(stream)
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _chunk(self, text: str) -> None:
        body = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
