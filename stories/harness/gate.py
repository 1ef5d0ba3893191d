"""The gate under test: `freshgate run APP` in a project folder of its own, as a user would have it."""

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from .ports import free_port
from .process import Process, command_line, descendants
from .providers import Client, Provider
from .waiting import until

ROOT = Path(__file__).parent.parent.parent
APPS = ROOT / "stories" / "apps"
FRESHGATE = Path(os.environ.get("FRESHGATE", ROOT / "target" / "debug" / "freshgate"))


class Project:
    """A folder with an app and its `.streamlit/secrets.toml`, and the port that its gate is to listen on.

    `channels` are those by which the provider tells the gate of logouts.
    """

    def __init__(
        self,
        folder: Path,
        app: str,
        base_path: str = "",
        channels: Sequence[str] = ("back",),
        host: str = "localhost",
    ) -> None:
        self.folder = folder
        self.host = host
        self.channels = channels
        self.base_path = base_path
        self._listen_at(free_port())
        self.client_secret = "client-secret-of-the-stories-0123456789"
        self.cookie_secret = "cookie-secret-of-the-stories-0123456789"
        source = APPS / app
        if source.is_dir():
            shutil.copytree(source, folder, dirs_exist_ok=True)
            self.script = folder / "app.py"
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self.script = Path(shutil.copy(source, folder))

    def _listen_at(self, port: int) -> None:
        self.port = port
        self.address = f"http://{self.host}:{port}{self.base_path}"

    def neighbour(self) -> "Project":
        """The same folder, for another gate beside the first."""
        beside = copy(self)
        beside._listen_at(free_port())
        return beside

    @property
    def client(self) -> Client:
        """What this project's gate is to be registered as."""
        return Client(
            client_id="stories",
            client_secret=self.client_secret,
            redirect_uris=(f"{self.address}/oauth2callback",),
            # As Streamlit has it: one address for both ways back.
            post_logout_redirect_uri=f"{self.address}/oauth2callback",
            backchannel_logout_uri=f"{self.address}/auth/backchannel-logout" if "back" in self.channels else None,
            frontchannel_logout_uri=f"{self.address}/auth/frontchannel-logout" if "front" in self.channels else None,
        )

    def auth(self, provider: Provider) -> dict[str, Any]:
        """A complete `[auth]` for a provider."""
        return {
            "redirect_uri": self.client.redirect_uris[0],
            "cookie_secret": self.cookie_secret,
            "client_id": provider.client.client_id,
            "client_secret": provider.client.client_secret,
            "server_metadata_url": provider.metadata_url,
            "client_kwargs": {"scope": "openid profile email groups", "prompt": "login"},
            "expose_tokens": ["access", "id"],
        }

    def write_settings(self, **tables: Mapping[str, Any]) -> Path:
        """Writes `freshgate.toml` with these tables below `provider`."""
        path = self.folder / "freshgate.toml"
        path.write_text("\n".join(_toml(f"provider.{name}", table) for name, table in tables.items()))
        return path

    def write_secrets(self, **tables: Mapping[str, Any]) -> Path:
        """Writes `.streamlit/secrets.toml` with these tables."""
        path = self.folder / ".streamlit" / "secrets.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(_toml(name, table) for name, table in tables.items()))
        return path


class Gate:
    """A running gate."""

    def __init__(self, project: Project, process: Process) -> None:
        self.project = project
        self.process = process
        self.address = project.address

    @classmethod
    def start(cls, project: Project, log: Path, *arguments: str, **variables: str) -> "Gate":
        """Starts `freshgate run` and waits until the app answers through it."""
        process = Process(command(project, *arguments), log, cwd=project.folder, env=environment(**variables))
        gate = cls(project, process)
        try:
            gate.wait_until_ready()
        except BaseException:
            process.stop()
            raise
        return gate

    def wait_until_ready(self) -> None:
        def healthy() -> bool:
            if not self.process.is_running():
                raise RuntimeError(f"the gate ended:\n{self.process.output()[-4000:]}")
            status, _ = self.get("/_stcore/health")
            return status == 200

        until(healthy, "the app to answer through the gate", seconds=60)

    def get(self, path: str, cookies: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """A plain GET without following redirects: status and body."""
        return _fetch("GET", self.address + path, cookies or {})

    def streamlit(self) -> int:
        """The process id of the Streamlit behind the gate."""

        def found() -> int | None:
            ours = [pid for pid in descendants(self.process.pid) if "--server.port" in command_line(pid)]
            return ours[0] if ours else None

        return until(found, "a Streamlit among the gate's processes")

    def stop(self) -> None:
        self.process.stop()


def command(project: Project, *arguments: str) -> Sequence[str]:
    """`freshgate run` for a project."""
    started = [str(FRESHGATE), "run", str(project.script), "--listen", f"127.0.0.1:{project.port}", *arguments]
    return started + (["--", f"--server.baseUrlPath={project.base_path}"] if project.base_path else [])


def environment(**more: str) -> dict[str, str]:
    """The environment of a user with this Python's virtual environment active, and nothing set for the gate."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FRESHGATE", "STREAMLIT"))}
    programs = Path(sys.executable).parent
    kept |= {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(programs.parent),
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    }
    return kept | more


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(method: str, url: str, cookies: Mapping[str, str]) -> tuple[int, bytes]:
    request = urllib.request.Request(url, method=method)
    if cookies:
        request.add_header("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def _toml(name: str, table: Mapping[str, Any]) -> str:
    """A table of strings, lists and inline tables as TOML; JSON's strings and lists are TOML's too."""

    def value(of: Any) -> str:
        if isinstance(of, Mapping):
            return "{ " + ", ".join(f"{key} = {value(one)}" for key, one in of.items()) + " }"
        return json.dumps(of)

    lines = [f"{key} = {value(one)}" for key, one in table.items()]
    return "\n".join([f"[{name}]", *lines, ""])
