"""The app behind a gate, as the gate sees it: what asks the session API (docs/session-api.md)."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from .gate import Gate

# The longest that the session API allows.
PATIENCE = 60


@dataclass(frozen=True)
class Answer:
    """What the session API says to a caller."""

    status: int
    document: Mapping[str, Any] = field(repr=False)
    answered_at: float
    """Unix seconds."""
    seconds: float
    """How long it took."""

    @property
    def token(self) -> str | None:
        """The access token, if there is one."""
        return self.document["tokens"]["access"] if self.status == 200 else None

    @property
    def is_stale(self) -> bool:
        """Whether it brought a token that was over when it came."""
        return self.status == 200 and float(self.document["expires_at"]) <= self.answered_at

    @property
    def ended(self) -> str | None:
        """Why the session is over, if it is."""
        return str(self.document["reason"]) if self.status == 410 else None

    @property
    def retry_after(self) -> float:
        """After which time one is to ask again; `math.inf`: never."""
        return float(self.document["retry_after"]) if self.status == 503 else math.inf


class App:
    """The process behind a gate: where its session API is, and by what the app proves itself."""

    def __init__(self, gate: Gate) -> None:
        environment = Path(f"/proc/{gate.streamlit()}/environ").read_bytes().decode().split("\0")
        variables = dict(line.split("=", 1) for line in environment if "=" in line)
        self.socket = variables["FRESHGATE_SESSION_API"].removeprefix("unix:")
        self.secret = variables["FRESHGATE_UPSTREAM_SECRET"]

    def caller(self, handle: str) -> "Caller":
        return Caller(self.socket, self.secret, handle)


class Caller:
    """A thread of the app that serves one session, with a connection of its own."""

    def __init__(self, socket: str, secret: str, handle: str) -> None:
        self.handle = handle
        self._http = aiohttp.ClientSession(
            "http://gate",
            connector=aiohttp.UnixConnector(socket, limit=1, keepalive_timeout=3600),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Authorization": f"Bearer {secret}",
                "Freshgate-Session": handle,
                "Freshgate-Timeout": str(PATIENCE),
            },
            timeout=aiohttp.ClientTimeout(PATIENCE + 10),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        await self._http.close()

    async def session(self) -> Answer:
        """The session as it stands; connects, if that has not happened yet."""
        return await self._ask("GET", "/v1/session")

    async def token(self) -> Answer:
        """The session with a token that lives."""
        return await self._ask("GET", "/v1/session/token")

    async def refresh(self) -> Answer:
        """The session with new tokens and claims."""
        return await self._ask("POST", "/v1/session/refresh")

    async def _ask(self, method: str, path: str) -> Answer:
        asked = time.monotonic()
        async with self._http.request(method, path) as answer:
            document = await answer.json()
            return Answer(answer.status, document, time.time(), time.monotonic() - asked)
