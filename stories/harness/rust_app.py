"""The app in Rust, `examples/axum`: with the gate in its own process, and otherwise on the same stage as any app."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, expect

from .gate import ROOT, Gate, Project, environment
from .process import Process
from .providers import Provider
from .stage import Stage
from .tabs import PATIENCE, Tab
from .waiting import until

EXAMPLE = Path(os.environ.get("FRESHGATE_EXAMPLE_AXUM", ROOT / "target" / "debug" / "freshgate-example-axum"))


class RustTab(Tab):
    """A tab with the example's page: values by the id of the element that shows them."""

    def part(self, key: str) -> Locator:
        return self.page.locator(f"#{key}")

    def click(self, key: str) -> "RustTab":
        self.part(key).click(timeout=PATIENCE)
        return self

    def is_signed_in(self, seconds: float = 20.0) -> "RustTab":
        expect(self.part("log_out")).to_be_visible(timeout=seconds * 1000)
        return self

    def is_signed_out(self, seconds: float = 20.0) -> "RustTab":
        expect(self.part("log_in")).to_be_visible(timeout=seconds * 1000)
        return self

    def refresh(self) -> str:
        # What the app's handler says is the gate's code.
        said = super().refresh()
        return {"try_later": "TryLater", "sign_in_again": "SignInAgain"}.get(said, said)


class RustGate(Gate):
    """The running example."""

    @classmethod
    def open(cls, project: Project, provider: Provider, log: Path, sessions: Path) -> "RustGate":
        settings = environment(
            PUBLIC_ADDRESS=project.address,
            LISTEN=f"127.0.0.1:{project.port}",
            ISSUER=provider.issuer,
            CLIENT_ID=provider.client.client_id,
            CLIENT_SECRET=provider.client.client_secret,
            SESSIONS=str(sessions),
            SESSION_SECRET=project.cookie_secret,
            API=provider.api_url,
        )
        gate = cls(project, Process([EXAMPLE], log, cwd=project.folder, env=settings))
        try:
            gate.wait_until_ready()
        except BaseException:
            gate.stop()
            raise
        return gate

    def wait_until_ready(self) -> None:
        def answers() -> bool:
            if not self.process.is_running():
                raise RuntimeError(f"the app ended:\n{self.process.output()[-4000:]}")
            try:
                return self.get("/")[0] == 200
            except OSError:
                return False

        until(answers, "the app to answer", seconds=60)


class RustStage(Stage):
    """The stage with the example in place of a gate and a Streamlit."""

    tab_type = RustTab

    def prepare(
        self,
        app: str = "session.py",
        token_seconds: float = 60.0,
        base_path: str = "",
        channels: Sequence[str] = ("back",),
        host: str = "localhost",
        **auth: Any,
    ) -> "Stage":
        is_usual = app == "session.py" and not base_path and host == "localhost" and not auth
        assert is_usual, "the example is one app with one configuration"
        return super().prepare(app, token_seconds, base_path, channels)

    def start_gate(self, *arguments: str) -> Gate:
        assert not arguments, "the example has no arguments"
        log = self.logs / f"gate-{len(self._gates) + 1}.log"
        store = self.folder / "store"
        store.mkdir(exist_ok=True)
        self.gate = RustGate.open(self.project, self.provider, log, store / "sessions.db")
        self._gates.append(self.gate)
        return self.gate
