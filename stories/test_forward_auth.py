"""Forward auth: the real nginx and the real Caddy ask the gate, with the configurations of docs/forward-auth.md."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.gate import ROOT, Gate, Project
from harness.ports import free_port
from harness.process import Process
from harness.providers import DevProvider
from harness.visitor import Answer, Visitor
from harness.waiting import until

FETCH = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}


class App(BaseHTTPRequestHandler):
    """An app that knows nothing of any of this: tells which headers reached it."""

    def do_GET(self) -> None:
        told = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"path": self.path, "headers": told}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


def configuration(language: str, public: int, gate: int, app: int) -> str:
    """What docs/forward-auth.md says, with the addresses of this story."""
    [written] = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / "forward-auth.md").read_text(), re.M | re.S)
    for ours, theirs in [
        ("listen 80;", f"listen 127.0.0.1:{public};"),
        ("server_name app.example;", "server_name localhost;"),
        ("http://app.example {", f"http://localhost:{public} {{\n    bind 127.0.0.1"),
        ("127.0.0.1:8501", f"127.0.0.1:{gate}"),
        ("127.0.0.1:8000", f"127.0.0.1:{app}"),
    ]:
        written = written.replace(ours, theirs)
    return str(written)


def nginx(folder: Path, server: str) -> Process:
    for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (folder / name).mkdir(parents=True)
    paths = "".join(
        f"{kind}_temp_path {folder / name};\n"
        for kind, name in [
            ("client_body", "body"),
            ("proxy", "proxy"),
            ("fastcgi", "fastcgi"),
            ("uwsgi", "uwsgi"),
            ("scgi", "scgi"),
        ]
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nworker_processes 1;\npid {folder / 'pid'};\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return Process([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "log", cwd=folder)


def caddy(folder: Path, site: str) -> Process:
    folder.mkdir(parents=True)
    (folder / "Caddyfile").write_text(f"{{\n    admin off\n    auto_https off\n}}\n{site}")
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    variables = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    return Process(command, folder / "log", cwd=folder, env=variables)


@dataclass
class Proxied:
    """An app behind a proxy that asks the gate."""

    name: str
    address: str
    provider: DevProvider

    def sign_in(self, visitor: Visitor, user: str, path: str = "/") -> Answer:
        """From a page of the app over the login, and back to that page."""
        login = visitor.navigate(self.address + path, "none")
        assert login.location.startswith(f"{self.address}/auth/login?"), login.location
        authorize = visitor.navigate(login.location, "none")
        at_provider = visitor.navigate(f"{authorize.location}&auto_login={user}", "same-site")
        back = visitor.navigate(at_provider.location, "same-site")
        return visitor.navigate(back.location, "same-site")


@pytest.fixture(params=["nginx", "caddy"])
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxied]:
    start: Callable[[Path, str], Process] = {"nginx": nginx, "caddy": caddy}[request.param]
    public = free_port()
    address = f"http://localhost:{public}"
    app = ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    project = Project(tmp_path / "project", "session.py")
    client = project.client
    redirect_uri = f"{address}/oauth2callback"
    registered = type(client)(client.client_id, client.client_secret, (redirect_uri,), redirect_uri)
    provider = DevProvider(registered, tmp_path / "provider.log", 60.0)
    auth = project.auth(provider) | {"redirect_uri": redirect_uri}
    project.write_secrets(auth=auth, api={"url": provider.api_url})
    (project.folder / "freshgate.toml").write_text(
        f'public_url = "{address}"\ntrusted_proxies = ["127.0.0.1"]\n'
        f'[forward_auth]\nproxy = "{request.param}"\n'
        '[access]\nrequire_login = true\n[[access.rule]]\npath = "/analysts"\ngroups = ["analysts"]\n'
    )
    gate = proxy = None
    try:
        gate = Gate.start(project, tmp_path / "gate.log", "--store", "memory:")
        proxy = start(tmp_path / "proxy", configuration(request.param, public, project.port, app.server_address[1]))
        visitor = Visitor(address)

        def answers() -> bool:
            assert proxy is not None and proxy.is_running(), proxy and proxy.output()[-2000:]
            try:
                return visitor.send("GET", address, FETCH).status == 401
            except OSError:
                return False

        until(answers, "the proxy to ask the gate")
        yield Proxied(request.param, address, provider)
    finally:
        for one in (proxy, gate, provider):
            if one is not None:
                one.stop()
        app.shutdown()
        app.server_close()


def told(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.body
    headers = json.loads(answer.body)["headers"]
    return {name: value for name, value in headers.items() if name.startswith("x-auth-request-") and value}


def test_a_page_is_led_to_the_login_and_the_app_is_told_who_came(proxied: Proxied) -> None:
    visitor = Visitor(proxied.address)

    page = proxied.sign_in(visitor, "alice", "/report?a=1&b=c%20d")

    assert json.loads(page.body)["path"] == "/report?a=1&b=c%20d"
    assert told(page) == {"x-auth-request-user": "alice", "x-auth-request-groups": "analysts,staff"}
    fetched = visitor.send("GET", f"{proxied.address}/data", FETCH)
    assert told(fetched)["x-auth-request-user"] == "alice"


def test_a_fetch_is_refused_and_led_nowhere(proxied: Proxied) -> None:
    answer = Visitor(proxied.address).send("GET", f"{proxied.address}/data", FETCH)

    assert (answer.status, answer.headers["Location"]) == (401, None)


def test_what_a_client_makes_up_counts_for_nothing(proxied: Proxied) -> None:
    forged = {
        "X-Auth-Request-User": "alice",
        "X-Auth-Request-Groups": "analysts",
        "X-Auth-Request-Access-Token": "somebody's",
        "X-Original-URI": "/auth/login",
        "X-Original-Method": "GET",
        "X-Forwarded-Uri": "/auth/login",
        "X-Forwarded-Method": "GET",
    }
    nobody, bob = Visitor(proxied.address), Visitor(proxied.address)
    assert nobody.send("GET", f"{proxied.address}/data", FETCH | forged).status == 401

    page = proxied.sign_in(bob, "bob")

    assert told(page)["x-auth-request-groups"] == "staff"
    spoken = bob.send("GET", f"{proxied.address}/data", FETCH | forged)
    assert told(spoken) == {"x-auth-request-user": "bob", "x-auth-request-groups": "staff"}
    assert bob.navigate(f"{proxied.address}/analysts/1").status == 403
    assert bob.send("GET", f"{proxied.address}/analysts/1", FETCH | forged).status == 403
    # Its answer is for the proxy alone.
    assert bob.send("GET", f"{proxied.address}/auth/verify", FETCH | forged).status == 404


def test_a_logout_counts_for_the_next_request(proxied: Proxied) -> None:
    visitor = Visitor(proxied.address)
    proxied.sign_in(visitor, "alice")
    cookie = visitor.cookie("freshgate")

    assert visitor.navigate(f"{proxied.address}/auth/logout").status == 303

    old = FETCH | {"Cookie": f"freshgate={cookie}"}
    assert Visitor(proxied.address).send("GET", f"{proxied.address}/data", old).status == 401
