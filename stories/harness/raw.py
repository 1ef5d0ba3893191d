"""HTTP without a library that would mend it: bytes as an attacker sends them, and servers that answer as one would."""

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

PATIENCE = 20.0


@dataclass(frozen=True)
class RawAnswer:
    """What came back, until the other side closed the connection or had answered."""

    data: bytes

    @property
    def status(self) -> int | None:
        """`None`: the connection was closed without an answer."""
        return int(self.data.split(b" ", 2)[1]) if self.data.startswith(b"HTTP/1.1 ") else None

    @property
    def answers(self) -> int:
        return self.data.count(b"HTTP/1.1 ")

    @property
    def body(self) -> str:
        return self.data.partition(b"\r\n\r\n")[2].decode(errors="replace")

    def header(self, name: str) -> str | None:
        for line in self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        return None

    def is_whole(self) -> bool:
        """Whether one answer is there to its end."""
        length = self.header("Content-Length")
        body = self.data.partition(b"\r\n\r\n")[2]
        return self.status == 101 or (length is not None and len(body) >= int(length))


def send(address: str, data: bytes, until_closed: bool = True) -> RawAnswer:
    """Sends these bytes and no more, and reads until the gate closes the connection, or one answer only.

    It closes if `Connection: close` tells it to, and by itself where it cannot read on.
    """
    gate = urlsplit(address)
    received = b""
    with socket.create_connection((gate.hostname or "localhost", gate.port or 80), timeout=PATIENCE) as connection:
        # What is refused early is not read to its end.
        with suppress(ConnectionError):
            connection.sendall(data)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                received += part
                if not until_closed and RawAnswer(received).is_whole():
                    break
    return RawAnswer(received)


def head(address: str, target: str, *lines: str, method: str = "GET", close: bool = True) -> bytes:
    """A request's head."""
    host = () if any(line.lower().startswith("host:") for line in lines) else (f"Host: {urlsplit(address).netloc}",)
    all_lines = [f"{method} {target} HTTP/1.1", *host, *lines, *(("Connection: close",) if close else ())]
    return ("\r\n".join(all_lines) + "\r\n\r\n").encode("latin-1")


# A gigabyte of nothing, in a megabyte.
BOMB = gzip.compress(bytes(1024 * 1024 * 1024 // 8), 9) * 8


@contextmanager
def hostile_server() -> Iterator[str]:
    """What answers in a provider's place; its address. `/bomb` unpacks to a gigabyte, `/endless` never ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(PATIENCE)
            request = connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            if request.split(b" ")[1] == b"/bomb":
                connection.sendall(head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB)
                return
            connection.sendall(head + b'\r\n{"sub": "')
            while not stopped.is_set():
                connection.sendall(b"x" * 65536)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopped.set()
        listener.close()
