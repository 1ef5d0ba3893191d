"""An example app that runs by itself, and `freshgate serve` in front of it."""

import json
import socket
import sys
from pathlib import Path

from .gate import FRESHGATE, ROOT, environment
from .ports import free_port
from .process import Process
from .stage import Stage
from .waiting import until


class Example:
    """The Python app `examples/NAME`, at the address of the stage's project."""

    def __init__(self, stage: Stage, name: str, *arguments: str) -> None:
        """`arguments` start it; `{port}` among them is where it is to listen. The stage is prepared."""
        self._processes: list[Process] = []
        self.address = stage.project.address
        folder = stage.project.folder
        port, api = free_port(), f"http://127.0.0.1:{free_port()}"
        secret = folder / "app.secret"
        secret.write_text(f"secret-of-the-example-{name}-0123456789")
        stage.remember(secret.read_text())
        variables = environment(
            PYTHONPATH=str(ROOT / "python" / "src"),
            PYTHONDONTWRITEBYTECODE="1",
            FRESHGATE_UPSTREAM_SECRET_FILE=str(secret),
            FRESHGATE_SESSION_API=api,
            PORT=str(port),
            API_URL=stage.provider.api_url,
        )
        started = [sys.executable, *(argument.format(port=port) for argument in arguments)]
        app = Process(started, stage.logs / "app.log", cwd=ROOT / "examples" / name, env=variables)
        self._processes.append(app)
        try:
            self._serve(stage, app, port, api, secret)
        except BaseException:
            self.end()
            raise

    def _serve(self, stage: Stage, app: Process, port: int, api: str, secret: Path) -> None:
        folder = stage.project.folder

        def listens() -> bool:
            if not app.is_running():
                raise RuntimeError(f"the app ended:\n{app.output()[-4000:]}")
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return True

        until(listens, "the app to listen", seconds=120)
        upstream = {"path": "/", "address": f"http://127.0.0.1:{port}", "secret_file": str(secret)}
        lines = [
            f"session_api = {json.dumps(api)}",
            # Tokens are renewed because somebody reads them, and for no other reason.
            "[session]",
            "refresh_ahead = false",
            "[[upstream]]",
            *(f"{key} = {json.dumps(value)}" for key, value in upstream.items()),
        ]
        (folder / "freshgate.toml").write_text("\n".join(lines) + "\n")
        (stage.folder / "store").mkdir()
        command: list[str | Path] = [FRESHGATE, "serve", "--listen", f"127.0.0.1:{stage.project.port}"]
        command += ["--store", f"sqlite:{stage.folder / 'store' / 'sessions.db'}"]
        command += ["--secrets", folder / ".streamlit" / "secrets.toml"]
        gate = Process(command, stage.logs / "gate-1.log", cwd=folder, env=environment())
        self._processes.append(gate)
        gate.wait_for_line(r"\bready\b.*\bapps=")

    def end(self) -> None:
        for process in reversed(self._processes):
            process.stop()
