"""One story's stage: a provider, the gate with an app behind it, and browser tabs that look at it."""

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, BrowserContext

from .gate import FRESHGATE, Gate, Project, environment
from .leaks import leaks
from .providers import Provider
from .tabs import Tab

MakeProvider = Callable[..., Provider]
"""Called with the client, the log, the lifetime of access tokens in seconds, and what a story has set."""


class Stage:
    """What a story plays on. `set_up` first; whatever was started ends with the story."""

    provider: Provider
    project: Project
    gate: Gate
    tab_type = Tab

    def __init__(self, folder: Path, browser: Browser | None, make_provider: MakeProvider) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self._browser = browser
        self._make_provider = make_provider
        self._profiles: list[BrowserContext] = []
        self._gates: list[Gate] = []
        self._seen: set[str] = set()

    def provider_with(self, **settings: Any) -> "Stage":
        """Before `set_up`: settings of a provider that not every one has."""
        self._make_provider = partial(self._make_provider, **settings)
        return self

    def set_up(
        self,
        app: str = "session.py",
        token_seconds: float = 60.0,
        base_path: str = "",
        channels: Sequence[str] = ("back",),
        **auth: Any,
    ) -> "Stage":
        """Starts a provider whose access tokens live so long, and the gate with an app that uses it.

        `auth` replaces keys of `[auth]`.
        """
        self.prepare(app, token_seconds, base_path, channels, **auth)
        self.start_gate()
        return self

    def prepare(
        self,
        app: str = "session.py",
        token_seconds: float = 60.0,
        base_path: str = "",
        channels: Sequence[str] = ("back",),
        host: str = "localhost",
        **auth: Any,
    ) -> "Stage":
        """The same without starting the gate."""
        self.project = Project(self.folder / "project", app, base_path, channels, host)
        self.provider = self._make_provider(self.project.client, self.logs / "provider.log", token_seconds)
        self.project.write_secrets(auth=self.project.auth(self.provider) | auth, api={"url": self.provider.api_url})
        return self

    def start_gate(self, *arguments: str) -> Gate:
        """Starts the gate (again): the same project, the same port, the same store."""
        log = self.logs / f"gate-{len(self._gates) + 1}.log"
        (self.folder / "store").mkdir(exist_ok=True)
        self.gate = Gate.start(self.project, log, "--store", self.store, *arguments)
        self._gates.append(self.gate)
        return self.gate

    def start_neighbour(self) -> Gate:
        """Starts a second gate beside the first: the same folder and the same store, another port."""
        log = self.logs / f"gate-{len(self._gates) + 1}.log"
        neighbour = Gate.start(self.project.neighbour(), log, "--store", self.store)
        self._gates.append(neighbour)
        return neighbour

    def operator(self, *arguments: str) -> str:
        """What an operator's command says of the gate's sessions, such as `freshgate sessions list`."""
        done = subprocess.run(
            [FRESHGATE, *arguments, "--store", self.store],
            cwd=self.project.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def profile(self) -> BrowserContext:
        """A browser profile of its own: another person, or another machine."""
        assert self._browser is not None, "this stage has no browser"
        made = self._browser.new_context(viewport={"width": 1100, "height": 900})
        made.set_default_timeout(20_000)
        made.on("request", lambda request: self._remember_address(request.url))
        self._profiles.append(made)
        return made

    @property
    def store(self) -> str:
        """Where the gate keeps its sessions."""
        return f"sqlite:{self.folder / 'store' / 'sessions.db'}"

    def tab(self, profile: BrowserContext | None = None) -> Tab:
        """A tab, in the given profile or in the first."""
        if profile is None:
            profile = self._profiles[0] if self._profiles else self.profile()
        return self.tab_type(profile.new_page(), self.project.address, self.provider)

    def pictures(self, folder: Path) -> None:
        """Saves what every tab shows."""
        pages = [page for profile in self._profiles for page in profile.pages]
        for number, page in enumerate(pages, 1):
            page.screenshot(path=folder / f"tab-{number}.png")

    def end(self) -> list[str]:
        """Ends everything; what leaked, if anything did."""
        secrets = self._secrets() if hasattr(self, "provider") else set()
        for profile in self._profiles:
            profile.close()
        for gate in self._gates:
            gate.stop()
        if hasattr(self, "provider"):
            self.provider.stop()
        written = [*self.logs.glob("gate-*.log"), *(self.folder / "store").glob("*")]
        return leaks(secrets, [path for path in written if path.is_file()])

    def remember_cookies(self) -> None:
        """Keeps the cookies of this moment for the search at the end; those of the end are searched for anyway."""
        for profile in self._profiles:
            for cookie in profile.cookies(self.project.address):
                if cookie["name"].startswith(("freshgate", "__Host-freshgate", "__Secure-freshgate")):
                    self._seen.add(cookie["value"])

    def remember(self, *secrets: str) -> None:
        """Has these searched for at the end."""
        self._seen.update(secrets)

    def _remember_address(self, url: str) -> None:
        for name, values in parse_qs(urlsplit(url).query).items():
            if name in ("code", "state", "nonce", "id_token_hint"):
                self._seen.update(values)

    def _secrets(self) -> set[str]:
        self.remember_cookies()
        of_provider: set[str] = set()
        if self.provider.process.is_running():
            of_provider = self.provider.secrets()
        return (
            of_provider
            | self._seen
            | {self.project.client_secret, self.project.cookie_secret, self.provider.client.client_secret}
        )
