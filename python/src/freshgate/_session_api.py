"""The client of the gate's session API (docs/session-api.md): one call per method, no state, no retry.

Whatever goes wrong comes back as one of the package's errors. Answers are read under a deadline and a size limit, so a
gate that hangs holds no caller longer than it agreed to.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from freshgate._document import Document, parse
from freshgate.errors import FreshgateError, NoRefreshToken, SignInAgain, TryLater

#: How long an answer may take that the gate gives without asking anybody.
LOCAL_TIMEOUT: Final = 2.0
#: The longest that the gate lets a caller wait for the provider.
LONGEST_WAIT: Final = 60.0

_LARGEST_ANSWER: Final = 16 * 1024 * 1024
_LONGEST_EVENT_LINE: Final = 64 * 1024
# The stream sends a comment every 15 seconds: after two missing ones the gate is gone.
_SILENCE_LIMIT: Final = 40.0
_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def is_handle(text: str) -> bool:
    """Whether `text` can be the handle of a session. Anything else must not get into a header."""
    return _HANDLE.fullmatch(text) is not None


@dataclass(frozen=True)
class Event:
    """One event of the stream: its name and its data."""

    name: str
    data: dict[str, Any]


class SessionApi:
    """The session API at one address. Safe to use from any thread."""

    def __init__(self, address: str, secret: str) -> None:
        """`address` is `unix:/path` or `http://127.0.0.1:PORT`. Raises `ValueError` for anything else."""
        self._secret = secret
        self._unix_path: str | None = None
        self._host, self._port = "localhost", 80
        if address.startswith("unix:"):
            self._unix_path = address.removeprefix("unix:")
            if not self._unix_path:
                raise ValueError("the path after unix: is missing")
            return
        parts = urlsplit(address)
        # The secret and the tokens travel in the clear here: they must not leave the machine.
        if parts.scheme != "http" or parts.hostname not in {"127.0.0.1", "::1", "localhost"} or parts.port is None:
            raise ValueError("neither unix:/path nor http://127.0.0.1:PORT")
        self._host, self._port = parts.hostname, parts.port

    def session(self, handle: str, timeout: float = LOCAL_TIMEOUT) -> Document:
        """The session as it stands. Never asks the provider."""
        return self._document("GET", "/v1/session", handle, wait=None, timeout=timeout)

    def fresh(self, handle: str, wait: float) -> Document:
        """The session with tokens that live on for a while, refreshed first if they would not."""
        return self._document("GET", "/v1/session/token", handle, wait=wait, timeout=wait + LOCAL_TIMEOUT)

    def refresh(self, handle: str, wait: float) -> Document:
        """The session with tokens and claims no older than this call."""
        return self._document("POST", "/v1/session/refresh", handle, wait=wait, timeout=wait + LOCAL_TIMEOUT)

    def prepare_login(self, handle: str | None, provider: str, parameters: Mapping[str, Any]) -> str:
        """The path of a login that asks for these parameters, for the browser with this session, or for one without.

        Raises `FreshgateError` for what cannot be asked for.
        """
        headers = {"Content-Type": "application/json"} | ({} if handle is None else {"Freshgate-Session": handle})
        body = json.dumps({"provider": provider, "parameters": dict(parameters)}).encode()
        with _unreachable_as_try_later():
            status, answer = self._exchange("POST", "/v1/login", headers, body, LOCAL_TIMEOUT)
            if status != HTTPStatus.OK:
                raise _error(status, answer)
            document = json.loads(answer)
            path = document.get("path") if isinstance(document, dict) else None
            if not isinstance(path, str):
                raise ValueError("there is no path")
            return path

    def authorization(self, handle: str, method: str, url: str, nonce: str | None, wait: float) -> dict[str, str]:
        """The header fields of one request to an API, with a token that lives on for a while.

        Raises `FreshgateError` where the app may not see the access token.
        """
        headers = {
            "Freshgate-Session": handle,
            "Freshgate-Timeout": f"{wait:g}",
            "Content-Type": "application/json",
        }
        body = json.dumps({"method": method, "url": url, "nonce": nonce}).encode()
        with _unreachable_as_try_later():
            status, answer = self._exchange("POST", "/v1/session/authorization", headers, body, wait + LOCAL_TIMEOUT)
            if status != HTTPStatus.OK:
                raise _error(status, answer)
            document = json.loads(answer)
            fields = document.get("headers") if isinstance(document, dict) else None
            if not isinstance(fields, dict):
                raise ValueError("there are no headers")
            return {str(name): str(value) for name, value in fields.items()}

    def events(self) -> Iterator[Event]:
        """What happens to sessions, until the stream drops: then it raises `TryLater`."""
        with _unreachable_as_try_later():
            connection = self._connect(LOCAL_TIMEOUT)
            try:
                connection.request("GET", "/v1/events", headers=self._headers())
                sock = _socket_of(connection)
                response = connection.getresponse()
                if response.status != HTTPStatus.OK:
                    raise _error(response.status, _read(response, sock, time.monotonic() + LOCAL_TIMEOUT))
                sock.settimeout(_SILENCE_LIMIT)
                yield from _events(response)
            finally:
                connection.close()

    def _document(self, method: str, path: str, handle: str, *, wait: float | None, timeout: float) -> Document:
        headers = {"Freshgate-Session": handle}
        if wait is not None:
            headers["Freshgate-Timeout"] = f"{wait:g}"
        with _unreachable_as_try_later():
            status, body = self._exchange(method, path, headers, None, timeout)
            if status != HTTPStatus.OK:
                raise _error(status, body)
            return parse(body, handle)

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + timeout
        connection = self._connect(timeout)
        try:
            connection.request(method, path, body, headers=self._headers() | {"Connection": "close"} | dict(headers))
            sock = _socket_of(connection)
            response = connection.getresponse()
            return response.status, _read(response, sock, deadline)
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secret}", "User-Agent": "freshgate-python"}

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._unix_path is not None:
            connection: http.client.HTTPConnection = _UnixConnection(self._unix_path, timeout)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        connection.connect()
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _unreachable_as_try_later:  # noqa: N801 - reads as a statement at its `with`
    """Turns a failed conversation into `TryLater`. What the gate itself answered passes through."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, FreshgateError):
            return
        if isinstance(error, TimeoutError):
            raise TryLater("timeout") from error
        if isinstance(error, OSError | http.client.HTTPException):
            raise TryLater("unreachable") from error
        if isinstance(error, ValueError):
            # The cause is left out: a decoder's error carries the document, and with it the tokens.
            raise TryLater("unexpected_answer") from None


def _socket_of(connection: http.client.HTTPConnection) -> socket.socket:
    # Asked for before the response is read: http.client lets go of the socket when the answer closes the connection.
    sock = connection.sock
    if not isinstance(sock, socket.socket):
        raise ConnectionError("the connection has no socket")
    return sock


def _read(response: http.client.HTTPResponse, sock: socket.socket, deadline: float) -> bytes:
    body = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        # Without the socket (all of the answer is here already) there is nothing to wait for.
        with suppress(OSError):
            sock.settimeout(left)
        chunk = response.read1(64 * 1024)
        if not chunk:
            return bytes(body)
        body += chunk
        if len(body) > _LARGEST_ANSWER:
            raise ValueError("the answer is too large")


def _error(status: int, body: bytes) -> FreshgateError:
    """The error that an answer other than 200 stands for."""
    try:
        raw = json.loads(body)
    except ValueError:
        raw = None
    answer: dict[str, Any] = raw if isinstance(raw, dict) else {}
    code = answer.get("error")
    reason = answer.get("reason") if isinstance(answer.get("reason"), str) else None
    if status == HTTPStatus.GONE:
        return SignInAgain(reason or "ended")
    if status == HTTPStatus.NOT_FOUND and code == "not_signed_in":
        return SignInAgain("not_signed_in")
    if code in {"bad_parameter", "not_exposed", "unknown_provider"}:
        refused = FreshgateError(str(answer.get("message") or "This cannot be asked for."))
        refused.reason = code
        return refused
    if status == HTTPStatus.CONFLICT:
        return NoRefreshToken()
    retry_after = answer.get("retry_after")
    seconds = min(float(retry_after), 3600.0) if isinstance(retry_after, int | float) and retry_after >= 0 else 1.0
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return TryLater(reason or "try_later", seconds)
    # Not a matter of this session (the secret is wrong, the gate is another version, it failed): nobody is signed out.
    return TryLater(code if isinstance(code, str) else f"status_{status}", seconds)


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Server-sent events: fields until an empty line. Ends by raising: a stream that ends has dropped."""
    name, data = "message", ""
    while True:
        line = response.readline(_LONGEST_EVENT_LINE + 1)
        if not line:
            raise ConnectionError("the stream of events ended")
        if len(line) > _LONGEST_EVENT_LINE:
            raise ValueError("a line of the stream is too long")
        text = line.decode("utf-8").rstrip("\r\n")
        if not text:
            if data:
                parsed = json.loads(data)
                yield Event(name, parsed if isinstance(parsed, dict) else {})
            name, data = "message", ""
        elif text.startswith("event:"):
            name = text.removeprefix("event:").strip()
        elif text.startswith("data:"):
            data += text.removeprefix("data:").strip()
            if len(data) > _LONGEST_EVENT_LINE:
                raise ValueError("an event of the stream is too long")
