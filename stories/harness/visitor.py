"""A browser without a window: cookies, redirects, Fetch Metadata and a WebSocket, over plain HTTP and step by step."""

import base64
import http.client
import json
import os
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.cookies import SimpleCookie
from typing import Any, Self
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


@dataclass(frozen=True)
class Answer:
    """What came back, and from where."""

    url: str
    status: int
    headers: Message
    body: str

    @property
    def location(self) -> str:
        assert self.status in (302, 303), f"{self.status} from {self.url.split('?')[0]}: {self.body[:300]}"
        return str(urljoin(self.url, self.headers["Location"]))

    def json(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """Somebody with cookies of her own. Cookies are by host: ports share them, as in a browser."""

    def __init__(self, gate: str) -> None:
        self.gate = gate
        self._jar: dict[str, dict[str, str]] = {}

    def navigate(self, url: str, site: str = "same-origin", **headers: str) -> Answer:
        """A tab goes to an address; `site` is what the browser says of who sent it there."""
        return self.send("GET", url, {**NAVIGATION, "Sec-Fetch-Site": site, **headers})

    def follow(self, answer: Answer, while_at: str) -> Answer:
        """Follows redirects as long as they lead to addresses that begin so."""
        while answer.status in (302, 303) and answer.location.startswith(while_at):
            answer = self.navigate(answer.location, "cross-site")
        return answer

    def send(self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None) -> Answer:
        """One request, with this visitor's cookies. Redirects are not followed."""
        target = urlsplit(url)
        sent = dict(headers)
        if cookies := self._cookies(target):
            sent["Cookie"] = cookies
        body = None
        if form is not None:
            body = urlencode(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(target.netloc, timeout=20)
        try:
            connection.request(method, target.path + (f"?{target.query}" if target.query else ""), body, sent)
            response = connection.getresponse()
            answer = Answer(url, response.status, response.headers, response.read().decode(errors="replace"))
        finally:
            connection.close()
        self._keep(target, answer.headers)
        return answer

    def cookie(self, name: str) -> str | None:
        """A cookie of the gate."""
        return self._jar.get(urlsplit(self.gate).hostname or "", {}).get(name)

    def cookies(self) -> list[str]:
        """The names of the gate's cookies."""
        return list(self._jar.get(urlsplit(self.gate).hostname or "", {}))

    def plant(self, name: str, value: str) -> None:
        """Puts a cookie of the gate into the jar, as somebody with a page on a sibling site can."""
        self._jar.setdefault(urlsplit(self.gate).hostname or "", {})[name] = value

    def open_socket(self) -> "Socket":
        """Opens the app's WebSocket, as its page does."""
        return Socket(urlsplit(self.gate), self._cookies(urlsplit(self.gate)))

    def _cookies(self, target: SplitResult) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._jar.get(target.hostname or "", {}).items())

    def _keep(self, target: SplitResult, headers: Message) -> None:
        jar = self._jar.setdefault(target.hostname or "", {})
        for line in headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value


class Socket:
    """An open WebSocket to the app. It sends what it is told to, and answers nothing by itself."""

    def __init__(self, gate: SplitResult, cookies: str) -> None:
        self._socket = socket.create_connection((gate.hostname or "localhost", gate.port or 80), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {gate.path}/_stcore/stream HTTP/1.1",
            f"Host: {gate.netloc}",
            f"Origin: {gate.scheme}://{gate.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Protocol: streamlit, PLACEHOLDER_AUTH_TOKEN",
            *([f"Cookie: {cookies}"] if cookies else []),
        ]
        try:
            self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = b""
            while b"\r\n\r\n" not in head:
                part = self._socket.recv(4096)
                assert part, f"the socket was refused: {head[:200]!r}"
                head += part
            assert head.startswith(b"HTTP/1.1 101 "), head[:200]
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, opcode: int, payload: bytes) -> None:
        """A short frame, masked as clients do (RFC 6455 section 5.2)."""
        assert len(payload) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def seconds_until_closed(self, patience: float) -> float | None:
        """How long it takes until the other side closes it; `None`: it is open still."""
        started = time.monotonic()
        while (left := started + patience - time.monotonic()) > 0:
            readable, _, _ = select.select([self._socket], [], [], left)
            if not readable:
                break
            try:
                ended = self._socket.recv(65536) == b""
            except ConnectionError:
                ended = True
            if ended:
                return time.monotonic() - started
        return None
