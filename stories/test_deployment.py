"""The container and the service: their files hold together, and what they start works as they start it.

There is no docker and no systemd here. The container's last stage is laid out in a folder, and started there as the
first process of a namespace of its own, as its user. The service is started with the variables and the arguments of its
file.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.gate import FRESHGATE, ROOT, environment
from harness.ports import free_port
from harness.process import Process, descendants
from harness.providers import Client, DevProvider
from harness.visitor import Visitor
from harness.waiting import until

HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
DOCKERFILE = ROOT / "Dockerfile"
UNIT = ROOT / "packaging" / "freshgate.service"
COOKIE_SECRET, CLIENT_SECRET = "cookie-secret-of-the-stories-0123456789", "client-secret-of-the-stories-0123456789"


def program(name: str) -> str:
    """Where a program of the system is."""
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return found


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program of the system, to its end."""
    return subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True, check=False)


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: each name, and what follows it."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


def last_stage() -> list[tuple[str, str]]:
    all_of_them = instructions(DOCKERFILE.read_text())
    begins = max(index for index, (name, _) in enumerate(all_of_them) if name == "FROM")
    return all_of_them[begins:]


def only(name: str) -> str:
    (found,) = (rest for one, rest in last_stage() if one == name)
    return found


def variables_of_the_image() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))


def sources_and_target(rest: str) -> tuple[dict[str, str], list[str], str]:
    words = rest.split()
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    return flags, sources, target


def test_dockerfile_passes_its_linter() -> None:
    checked = subprocess.run([HADOLINT, "--format", "json", DOCKERFILE], capture_output=True, text=True, check=False)
    assert json.loads(checked.stdout) == [], checked.stdout
    assert checked.returncode == 0
    spoilt = DOCKERFILE.read_text().replace("debian:bookworm-slim", "debian")
    checked = subprocess.run([HADOLINT, "-"], input=spoilt, capture_output=True, text=True, check=False)
    assert "DL3006" in checked.stdout


def test_what_the_dockerfile_takes_is_there() -> None:
    built = " ".join(rest for name, rest in instructions(DOCKERFILE.read_text()) if name == "RUN")
    taken = []
    for name, rest in instructions(DOCKERFILE.read_text()):
        if name != "COPY":
            continue
        flags, sources, _ = sources_and_target(rest)
        for source in sources:
            taken.append(source)
            if flags.get("from") is None:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in (ROOT / ".dockerignore").read_text().split(), f"{source} is ignored"
            elif source != "/etc/ssl/certs/ca-certificates.crt":
                # Debian's image of Rust has the certificates; the rest is made here.
                assert source in built, f"nothing makes {source}"
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    assert {member.removesuffix("/*") for member in members} <= set(taken), "cargo wants every crate that it knows of"
    wanted = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())
    assert wanted
    assert f"FROM rust:{wanted[1]}-" in DOCKERFILE.read_text(), "the oldest Rust that is supported builds the image"
    user = only("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "root"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[DevProvider]:
    started = DevProvider(
        Client("stories", CLIENT_SECRET, ("http://localhost/oauth2callback",), "http://localhost/oauth2callback"),
        tmp_path / "provider.log",
        60.0,
    )
    yield started
    started.stop()


def configuration(provider: DevProvider) -> str:
    """What one would mount, or write into /etc: no secret in it."""
    return f"""
[auth]
redirect_uri = "http://localhost:{{port}}/oauth2callback"
client_id = "stories"
server_metadata_url = "{provider.metadata_url}"

[[upstream]]
path = "/"
address = "http://127.0.0.1:{free_port()}"
require_login = true
"""


def status(port: int) -> int:
    """What a visitor gets who comes to the app's start."""
    address = f"http://127.0.0.1:{port}"
    return Visitor(address).navigate(f"{address}/").status


def answers(port: int) -> bool:
    """The gate sends a visitor to the login."""
    return status(port) in (302, 303)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root")
def test_container_starts_is_healthy_and_stops(provider: DevProvider, tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root)
    secrets = root / "run" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "cookie").write_text(COOKIE_SECRET)
    (secrets / "client").write_text(CLIENT_SECRET)
    (root / "etc" / "freshgate").mkdir()
    (root / "etc" / "freshgate" / "freshgate.toml").write_text(configuration(provider))
    port, operators = free_port(), free_port()
    variables = variables_of_the_image() | {
        # What `docker run --env` and `--publish` would be for.
        "FRESHGATE_LISTEN": f"127.0.0.1:{port}",
        "FRESHGATE_OPERATOR_LISTEN": f"127.0.0.1:{operators}",
        "FRESHGATE_COOKIE_SECRET_FILE": "/run/secrets/cookie",
        "FRESHGATE_CLIENT_SECRET_FILE": "/run/secrets/client",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    inside = [program("chroot"), f"--userspec={only('USER')}", str(root)]
    started = json.loads(only("ENTRYPOINT")) + json.loads(only("CMD"))
    check = json.loads(only("HEALTHCHECK").partition("CMD ")[2])

    def healthy() -> bool:
        return subprocess.run([*inside, *check], env=variables, capture_output=True, check=False).returncode == 0

    assert not healthy(), "healthy before it runs"
    gate = Process([program("unshare"), "--pid", "--fork", *inside, *started], tmp_path / "gate.log", env=variables)
    try:
        until(healthy, "the health check to pass", 60)
        until(lambda: answers(port), "the gate to answer", 30)
        store = root / "var" / "lib" / "freshgate" / "sessions.db"
        assert f"{store.stat().st_uid}:{store.stat().st_gid}" == only("USER")
        (first,) = descendants(gate.pid)
        os.kill(first, signal.SIGTERM)
        assert gate.wait_for_exit(30) == 0, gate.output()
        assert not healthy()
    except BaseException:
        print(gate.output())
        raise
    finally:
        gate.stop()


def lay_out(root: Path) -> None:
    """The files of the last stage, without those of its base but the program's libraries."""
    libraries = re.findall(r"(/\S+) \(0x", run("ldd", FRESHGATE).stdout)
    assert libraries
    for library in libraries:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    for name, rest in last_stage():
        if name != "COPY":
            continue
        flags, (source,), target = sources_and_target(rest)
        path = root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if source == "/image/bin/freshgate":
            shutil.copy(FRESHGATE, path)
        elif source == "/image/state":
            path.mkdir(mode=0o700)
        else:
            shutil.copy(source, path)
        if owner := flags.get("chown"):
            os.chown(path, *map(int, owner.split(":")))


def lines_of_the_unit() -> list[tuple[str, str]]:
    lines = [line for line in UNIT.read_text().splitlines() if re.match(r"\w+=", line)]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def value(of: str) -> str:
    (found,) = (value for name, value in lines_of_the_unit() if name == of)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_is_understood_and_locked_down(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    started = value("ExecStart").split()[0]
    # It looks whether the program is there.
    unit.write_text(UNIT.read_text().replace(started, str(FRESHGATE)))
    verified = run("systemd-analyze", "verify", unit)
    ours = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert (verified.returncode, ours) == (0, [])
    # In tenths: 1.5 of 10.
    rated = run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit)
    assert rated.returncode == 0, rated.stdout[-2000:]


def test_service_starts_reloads_and_stops_as_its_unit_says(provider: DevProvider, tmp_path: Path) -> None:
    state, credentials, settings = tmp_path / "state", tmp_path / "credentials", tmp_path / "etc"
    for folder in (state / "freshgate", credentials, settings):
        folder.mkdir(parents=True)
    handed = dict(value.split(":", 1) for name, value in lines_of_the_unit() if name == "LoadCredential")
    assert set(handed) == {"client-secret", "cookie-secret"}
    (credentials / "client-secret").write_text(f"{CLIENT_SECRET}\n")
    (credentials / "cookie-secret").write_text(f"{COOKIE_SECRET}\n")
    (settings / "freshgate.toml").write_text(configuration(provider))
    stands_for = {"%S": str(state), "%d": str(credentials), "/etc/freshgate": str(settings)}
    port = free_port()
    given = [filled_in(value, stands_for).split("=", 1) for name, value in lines_of_the_unit() if name == "Environment"]
    variables = environment(**dict(given), FRESHGATE_LISTEN=f"127.0.0.1:{port}")
    started, *arguments = value("ExecStart").split()
    assert Path(started).name == "freshgate"
    folder = Path(filled_in(value("WorkingDirectory"), stands_for))
    assert value("ExecReload") == "/bin/kill -HUP $MAINPID"
    assert value("Type") == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        variables["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        gate = Process([FRESHGATE, *arguments], tmp_path / "gate.log", cwd=folder, env=variables)
        try:
            assert manager.recv(100).strip() == b"READY=1"
        except BaseException:
            print(gate.output())
            gate.stop()
            raise
    try:
        assert answers(port)
        assert (state / "freshgate" / "sessions.db").is_file()
        # Open to everybody from now on: what answers is the app, which is not there.
        changed = (settings / "freshgate.toml").read_text().replace("require_login = true\n", "")
        (settings / "freshgate.toml").write_text(changed)
        gate.send(signal.SIGHUP)
        until(lambda: status(port) in (502, 503), "the changed configuration to count", 30)
        gate.send(signal.SIGTERM)
        assert gate.wait_for_exit(30) == 0, gate.output()
    except BaseException:
        print(gate.output())
        raise
    finally:
        gate.stop()


def filled_in(text: str, stands_for: Mapping[str, str]) -> str:
    for name, meant in stands_for.items():
        text = text.replace(name, meant)
    return text
