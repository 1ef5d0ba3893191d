"""A storm's stage: two gates on one store, a provider, and many people whose tokens end in the same second."""

import asyncio
import json
import math
import resource
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from .app import Answer, App, Caller
from .figures import Figures, percentile
from .gate import FRESHGATE, Gate, Project, environment
from .leaks import leaks
from .people import sign_in_all
from .providers import DevProvider, HighWater, OidcProvider, Provider
from .waiting import PAUSE

Result = TypeVar("Result")

GATES = 2
AN_HOUR = 3600.0
# A story that takes longer hangs.
STORY_SECONDS = 300.0
# How many connections are opened at once: what waits to be accepted is no part of the story.
AT_ONCE = 100
# What one takes on two cores; if it takes longer, more time is given.
SECONDS_PER_REFRESH = 0.006


@dataclass(frozen=True)
class Reading:
    """What came of it that a caller wanted a token, and asked again whenever it was told to."""

    user: str
    answer: Answer | None = field(repr=False)
    """The last one; `None`: the gate went away."""
    seconds: float
    told_later: int
    """How often it was told to ask again later."""

    @property
    def is_gone(self) -> bool:
        return self.answer is None

    @property
    def token(self) -> str | None:
        return self.answer.token if self.answer else None

    @property
    def ended(self) -> str | None:
        """Why the session is over, if it is."""
        return self.answer.ended if self.answer else None

    @property
    def is_stale(self) -> bool:
        return self.answer is not None and self.answer.is_stale


class Storm:
    """`set_up` first. Whatever was started ends with the story."""

    provider: Provider
    has_grace: bool
    """Whether the provider takes a refresh token again for a while after its use."""
    gates: list[Gate]
    people: Mapping[str, str]
    """User by session."""

    def __init__(self, folder: Path, provider_type: type[Provider]) -> None:
        self.provider_type = provider_type
        self.logs = folder / "logs"
        self.gates = []
        self._folder = folder
        self._projects: list[Project] = []
        self._cookies: list[str] = []
        self._logs_of_gates = 0
        self._high_water = HighWater(0, 0)
        self._told_later = 0

    def set_up(self, grace_seconds: int = 0) -> "Storm":
        """Starts a provider, and two gates on one store. `grace_seconds`: if the provider can have such a window."""
        _allow_many_files()
        first = Project(self._folder / "project", "session.py")
        self._projects = [first, *(first.neighbour() for _ in range(GATES - 1))]
        uris = tuple(uri for project in self._projects for uri in project.client.redirect_uris)
        client = replace(first.client, redirect_uris=uris)
        log, state = self.logs / "provider.log", self._folder / "provider.json"
        self.has_grace = grace_seconds > 0 and self.provider_type is DevProvider
        if self.provider_type is DevProvider:
            self.provider = DevProvider(client, log, AN_HOUR, state, grace_seconds)
        else:
            self.provider = OidcProvider(client, log, AN_HOUR, state)
        auth = first.auth(self.provider) | {"redirect_uri": "http://localhost:{port}/oauth2callback"}
        first.write_secrets(auth=auth, api={"url": self.provider.api_url})
        if self.has_grace:
            (first.folder / "freshgate.toml").write_text(f'[provider.default]\ngrace = "{grace_seconds}s"\n')
        (self._folder / "store").mkdir()
        with ThreadPoolExecutor() as threads:
            self.gates = list(threads.map(self._start_gate, range(GATES)))
        return self

    def play(self, story: Callable[[AsyncExitStack], Awaitable[Sequence[Reading]]]) -> tuple[Sequence[Reading], float]:
        """Plays a story, which ends with what callers read; and how long that took since all tokens ended."""

        async def whole() -> tuple[Sequence[Reading], float]:
            async with asyncio.timeout(STORY_SECONDS), AsyncExitStack() as stack:
                readings = await story(stack)
                return readings, time.monotonic() - self._expired_at

        return _run(whole())

    async def expired(self, stack: AsyncExitStack, sessions: int) -> list[Caller]:
        """People sign in, and all their tokens end in the same second, which is now. For each a caller at each gate."""
        await self._sign_in(sessions)
        callers = [await self.callers(stack, gate) for gate in range(GATES)]
        await self._until_all_tokens_end(callers[0])
        self._expired_at = time.monotonic()
        return [caller for of_gate in callers for caller in of_gate]

    async def _sign_in(self, count: int) -> None:
        """Signs people in, half of them at each gate."""
        users = [f"person-{number:05}" for number in range(count)]
        self._cookies = await sign_in_all([gate.address for gate in self.gates], self.provider, users)
        self.people = {one["session"]: one["sub"] for one in self._list()}
        assert sorted(self.people.values()) == users

    async def callers(self, stack: AsyncExitStack, gate: int) -> list[Caller]:
        """For each session a caller at a gate, connected."""
        app = App(self.gates[gate])
        turns = asyncio.Semaphore(AT_ONCE)

        async def connected(handle: str) -> Caller:
            caller = await stack.enter_async_context(app.caller(handle))
            async with turns:
                answer = await caller.session()
            assert answer.status in (200, 410), answer
            return caller

        return list(await asyncio.gather(*map(connected, self.people)))

    async def _until_all_tokens_end(self, callers: Sequence[Caller]) -> None:
        """Has all tokens renewed, by a caller for each session, so that they end in the same second, and waits for it.

        What the provider counts begins anew then.
        """
        seconds = 2.0 + len(callers) * SECONDS_PER_REFRESH
        while True:
            end = math.ceil(time.time() + seconds)
            self.provider.end_tokens_at(end)
            answers = await asyncio.gather(*(caller.refresh() for caller in callers))
            assert all(answer.status == 200 for answer in answers)
            if time.time() < end:
                break
            seconds *= 2  # a slow machine
        # Providers and gates round to seconds, each in its way: now it is over for everybody.
        over = max(end, *(answer.document["expires_at"] for answer in answers))
        assert over < end + 2
        self.provider.forget_figures()
        self._requests_before, self._reuse_before = self._requests(), self._reuse()
        await asyncio.sleep(over - time.time())

    async def read_all(self, callers: Sequence[Caller]) -> list[Reading]:
        """All ask for a token at once, as apps do: again, when they are told to."""
        return list(await asyncio.gather(*map(self._read, callers)))

    async def _read(self, caller: Caller) -> Reading:
        started = time.monotonic()
        told_later = 0
        answer: Answer | None = None
        while True:
            try:
                answer = await caller.token()
            except aiohttp.ClientConnectionError:
                answer = None
            if answer is None or answer.status != 503:
                break
            told_later += 1
            self._told_later += 1
            await asyncio.sleep(answer.retry_after)
        assert answer is None or answer.status in (200, 410), answer
        return Reading(self.people[caller.handle], answer, time.monotonic() - started, told_later)

    async def until_refreshed(self, sessions: int, reading: "asyncio.Task[list[Reading]]") -> None:
        """Waits until the provider has handled so many refreshes, while callers read."""
        while self._requests() - self._requests_before < sessions:
            assert not reading.done(), f"all is read before {sessions} refreshes: {reading}"
            await asyncio.sleep(PAUSE)

    async def until_told_later(self, times: int, reading: "asyncio.Task[list[Reading]]") -> None:
        """Waits until callers were told so often to ask again later, or all is read.

        A provider that ends in order may yet serve all who have a connection to it.
        """
        while self._told_later < times and not reading.done():
            await asyncio.sleep(PAUSE)

    def refused_by_api(self, tokens: Sequence[str]) -> int:
        """How many of these access tokens the provider's API does not take."""

        async def refused(http: aiohttp.ClientSession, token: str) -> bool:
            async with http.get(self.provider.api_url, headers={"Authorization": f"Bearer {token}"}) as answer:
                return answer.status != 200

        async def count() -> int:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as http:
                return sum(await asyncio.gather(*(refused(http, token) for token in tokens)))

        return _run(count())

    def start_gate_again(self, gate: int) -> None:
        """The same port, the same store; its app is a new process."""
        self.gates[gate] = self._start_gate(gate)

    def note_high_water(self) -> None:
        """Before the provider goes: its figures go with it."""
        self._high_water = self._most()

    def lost(self) -> dict[str, str]:
        """The users whose session ended, and why, as the operator's command says."""
        ended = {one["session"]: one["ended"]["reason"] for one in self._list() if one["ended"]}
        return {self.people[handle]: reason for handle, reason in ended.items() if handle in self.people}

    def abandoned(self) -> set[str]:
        """The users whose session ended because a gate died in the middle of its refresh, as its history says."""
        ended = [one["session"] for one in self._list() if one["ended"] and one["session"] in self.people]
        shown = [self._operator("show", handle) for handle in ended]
        return {
            self.people[one["session"]] for one in shown if "abandoned" in {entry["what"] for entry in one["history"]}
        }

    def figures(self, story: str, readings: Sequence[Reading], seconds: float) -> Figures:
        """The story's line in the table."""
        waits = [reading.seconds for reading in readings if reading.token]
        most = self._most()
        return Figures(
            story,
            f"{self.provider.name}{', grace' if self.has_grace else ''}",
            sessions=len(self.people),
            token_requests=self._requests() - self._requests_before,
            reuse_detected=self._reuse() - self._reuse_before,
            lost_sessions=len(self.lost()),
            p50=percentile(waits, 0.5),
            p99=percentile(waits, 0.99),
            time=seconds,
            in_flight=most.token_requests,
            peak_connections=most.connections,
        )

    def end(self) -> list[str]:
        """Ends everything; what leaked, if anything did."""
        secrets = set(self._cookies[:50])
        if hasattr(self, "provider"):
            if self.provider.process.is_running():
                # Each of thousands would be looked for in megabytes.
                secrets |= set(islice(self.provider.secrets(), 100))
            secrets |= {self.provider.client.client_secret, *(one.cookie_secret for one in self._projects)}
        for gate in self.gates:
            gate.stop()
        if hasattr(self, "provider"):
            self.provider.stop()
        written = [*self.logs.glob("gate-*.log"), *(self._folder / "store").glob("*")]
        return leaks(secrets, [path for path in written if path.is_file()])

    @property
    def _store(self) -> str:
        return f"sqlite:{self._folder / 'store' / 'sessions.db'}"

    def _start_gate(self, number: int) -> Gate:
        self._logs_of_gates += 1
        log = self.logs / f"gate-{self._logs_of_gates}.log"
        # The worst case: nobody refreshes ahead of time.
        variables = {"FRESHGATE_SESSION_REFRESH_AHEAD": "false"}
        return Gate.start(self._projects[number], log, "--store", self._store, **variables)

    def _list(self) -> list[dict[str, Any]]:
        """All sessions, also those that ended, as the operator's command tells them of running gates."""
        sessions: list[dict[str, Any]] = self._operator("list", "--ended")["sessions"]
        return sessions

    def _operator(self, *arguments: str) -> dict[str, Any]:
        command = [str(FRESHGATE), "sessions", *arguments, "--json", "--store", self._store]
        told = subprocess.run(
            command, cwd=self._projects[0].folder, env=environment(), capture_output=True, text=True, check=True
        )
        answer: dict[str, Any] = json.loads(told.stdout)
        return answer

    def _requests(self) -> int:
        return self.provider.printed(self.provider.printed_per_token_request)

    def _reuse(self) -> int:
        return self.provider.printed(self.provider.printed_per_reuse)

    def _most(self) -> HighWater:
        now, before = self.provider.high_water(), self._high_water
        return HighWater(max(now.token_requests, before.token_requests), max(now.connections, before.connections))


def _run(story: Coroutine[Any, Any, Result]) -> Result:
    """In a thread of its own: the browser of other stories has this one's event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, story).result()


def _allow_many_files() -> None:
    """A connection is an open file, here and in the programs that are started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
