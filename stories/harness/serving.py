"""`freshgate serve` with apps that run by themselves, on a story's stage."""

import json
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .gate import APPS, FRESHGATE, ROOT, environment
from .ports import free_port
from .process import Process
from .stage import Stage
from .tabs import Tab
from .waiting import until


class Serving:
    """A gate in front of several apps, and their freshgate.toml."""

    gate: Process

    def __init__(self, stage: Stage) -> None:
        """The stage is prepared: it has a provider, and a project whose port is the gate's."""
        self.stage = stage
        self.folder = stage.folder / "serving"
        self.folder.mkdir()
        self.api = f"http://127.0.0.1:{free_port()}"
        self._upstreams: list[Mapping[str, Any]] = []
        self._apps: list[Process] = []
        self.cookie_domain: str | None = None

    @property
    def address(self) -> str:
        return self.stage.project.address

    def streamlit(self, path: str, **settings: Any) -> None:
        """Starts a Streamlit app with the module, and adds it."""
        name = settings.get("host") or path.strip("/")
        port, folder = free_port(), self.folder / name
        (folder / ".streamlit").mkdir(parents=True)
        shutil.copy(APPS / "session.py", folder)
        api = f'[api]\nurl = "{self.stage.provider.api_url}"\n'
        (folder / ".streamlit" / "secrets.toml").write_text(api)
        secret = folder / "secret"
        secret.write_text(f"secret-of-the-app-at-{name}-0123456789")
        self.stage.remember(secret.read_text())
        command = [sys.executable, "-m", "freshgate", "session.py", "--server.headless=true"]
        command += [f"--server.port={port}", "--server.address=127.0.0.1", f"--server.baseUrlPath={path.strip('/')}"]
        variables = environment(
            PYTHONPATH=str(ROOT / "python" / "src"),
            FRESHGATE_UPSTREAM_SECRET_FILE=str(secret),
            FRESHGATE_SESSION_API=self.api,
        )
        self._start(command, folder, port, variables)
        self.add(path=path, address=f"http://127.0.0.1:{port}", app="streamlit", secret_file=str(secret), **settings)

    def plain(self, path: str, **settings: Any) -> None:
        """Starts an app that tells what it was told, and adds it."""
        port = free_port()
        self._start([sys.executable, str(APPS / "headers.py"), str(port)], self.folder, port, environment())
        self.add(path=path, address=f"http://127.0.0.1:{port}", **settings)

    def add(self, **upstream: Any) -> None:
        self._upstreams.append(upstream)

    def forget_apps(self) -> None:
        """The next freshgate.toml is written without the apps so far. They run on."""
        self._upstreams.clear()

    def write(self, **settings: Mapping[str, Any]) -> Path:
        """Writes freshgate.toml with the apps so far, and these tables."""
        tables = {"auth": self.stage.project.auth(self.stage.provider)} | settings
        parts = [f"session_api = {json.dumps(self.api)}\n"] if any("app" in one for one in self._upstreams) else []
        parts += [f"cookie_domain = {json.dumps(self.cookie_domain)}\n"] if self.cookie_domain else []
        parts += [table(f"[{name}]", values) for name, values in tables.items()]
        parts += [table("[[upstream]]", one) for one in self._upstreams]
        path = self.folder / "freshgate.toml"
        path.write_text("\n".join(parts))
        return path

    def start(self, variables: Mapping[str, str] | None = None, **settings: Mapping[str, Any]) -> "Serving":
        """Starts the gate, and waits until it serves."""
        config = self.write(**settings)
        port = self.stage.project.port
        command: list[str | Path] = [FRESHGATE, "serve", "--config", config, "--listen", f"127.0.0.1:{port}"]
        store = f"sqlite:{self.stage.folder / 'store' / 'sessions.db'}"
        (self.stage.folder / "store").mkdir()
        log = self.stage.logs / "gate-1.log"
        self.gate = Process([*command, "--store", store], log, cwd=self.folder, env=environment(**(variables or {})))
        self.gate.wait_for_line(r"\bready\b.*\bapps=")
        return self

    def reload(self) -> None:
        self.gate.send(signal.SIGHUP)

    def tab(self, path: str, host: str | None = None) -> Tab:
        """A tab at an app, in the first profile."""
        tab = self.stage.tab()
        tab.address = tab.address.replace(self.stage.project.host, host or self.stage.project.host)
        return tab.open(path)

    def end(self) -> None:
        for process in [*self._apps, *([self.gate] if hasattr(self, "gate") else [])]:
            process.stop()

    def _start(self, command: list[str], folder: Path, port: int, variables: Mapping[str, str]) -> None:
        log = self.stage.logs / f"app-{len(self._apps) + 1}.log"
        app = Process(command, log, cwd=folder, env=variables)
        self._apps.append(app)

        def listens() -> bool:
            if not app.is_running():
                raise RuntimeError(f"the app ended:\n{app.output()[-4000:]}")
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return True

        until(listens, "the app to listen", seconds=60)


def table(header: str, values: Mapping[str, Any]) -> str:
    """A table of TOML."""
    return "\n".join([header, *(f"{key} = {_value(one)}" for key, one in values.items()), ""])


def _value(of: Any) -> str:
    if isinstance(of, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in of.items()) + " }"
    return json.dumps(of)
