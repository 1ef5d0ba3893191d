"""What `pip install freshgate` brings: the command, the module, and nothing else that is needed."""

import csv
import filecmp
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from conftest import OUTPUT
from harness.gate import ROOT, environment
from harness.ports import free_port
from harness.process import Process, command_line, descendants
from harness.providers import choose_dev_user
from harness.waiting import until

MATURIN = Path(sysconfig.get_path("scripts")) / "maturin"


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """Runs a command to its end and returns what it printed; fails with all of it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, with the program as `make stories` builds it: not optimized, not stripped, hardly compressed."""
    folder = tmp_path_factory.mktemp("wheel")
    run(MATURIN, "build", "--profile", "dev", "--strip", "false", "--compression-level", "1", "--out", folder)
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel and Streamlit, and no more than they bring."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def freshgate(self) -> Path:
        return self.folder / "bin" / "freshgate"

    def environment(self) -> Mapping[str, str]:
        """Of somebody who has not activated it: its programs are found by nobody but themselves."""
        ours = {str(Path(sys.executable).parent), str(Path(sys.executable).resolve().parent)}
        kept = environment()
        del kept["VIRTUAL_ENV"]
        folders = [one for one in kept["PATH"].split(os.pathsep) if one not in ours]
        return kept | {"PATH": os.pathsep.join(folders), "PYTHONNOUSERSITE": "1"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    made = Installed(tmp_path_factory.mktemp("installed") / "venv")
    venv.create(made.folder, with_pip=True)
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(made.python, *quiet, "--no-deps", "--no-index", wheel)
    wanted: list[str | Path] = ["--requirement", ROOT / "examples" / "streamlit" / "requirements.txt"]
    run(made.python, *quiet, *wanted, "--constraint", ROOT / "scripts" / "constraints.txt")
    return made


def test_wheel_has_the_program_the_module_and_what_belongs_to_them(wheel: Path) -> None:
    version = version_of_the_program()
    system = r"(manylinux_\d+_\d+|linux|macosx_\d+_\d+)_\w+"
    assert re.fullmatch(rf"freshgate-{version}-py3-none-{system}\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        info = f"freshgate-{version}.dist-info"
        metadata = HeaderParser().parsestr(opened.read(f"{info}/METADATA").decode())
        listed = {row[0] for row in csv.reader(io.StringIO(opened.read(f"{info}/RECORD").decode()))}
    source = ROOT / "python" / "src"
    module = {str(file.relative_to(source)) for file in source.rglob("*") if file.suffix in {".py", ".typed"}}
    assert "freshgate/py.typed" in module
    licences = {f"{info}/licenses/{name}" for name in ("LICENSE-MIT", "LICENSE-APACHE")}
    needed = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
    # And the bill of materials, which says what the program is made of.
    materials = {name for name in names if name.startswith(f"{info}/sboms/")}
    program = {f"freshgate-{version}.data/scripts/freshgate"}
    assert materials
    assert names == module | licences | needed | materials | program
    assert listed == names

    assert metadata["Version"] == version
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert "Requires-Dist" not in metadata, "the wheel needs something"
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert "pip install freshgate" in page
    # A package index shows this page without the files around it.
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith(("https://", "#"))]


def test_source_distribution_is_all_that_a_build_needs(tmp_path: Path) -> None:
    run(MATURIN, "sdist", "--out", tmp_path)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = (entry for entry in tmp_path.iterdir() if entry.is_dir())
    # The same folder every time, and only what changed is written: cargo need not start anew.
    folder = ROOT / "target" / "sdist"
    mirror(unpacked, folder)
    # All but the linking, which is the same as ever. `include_str!` and the embedded module are read by now.
    check = ["cargo", "check", "--quiet", "--package", "freshgate-gateway"]
    run(*check, cwd=folder, CARGO_TARGET_DIR=str(ROOT / "target"))
    # The crates that are left out leave the lock file, and nothing else changes in it.
    assert locked_in(folder) < locked_in(unpacked)
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "pyproject.toml", "python/README.md"):
        assert (folder / name).is_file(), f"{name} is missing"


def locked_in(folder: Path) -> set[str]:
    return set((folder / "Cargo.lock").read_text().split("\n\n"))


def test_every_crate_can_be_packaged(tmp_path: Path) -> None:
    described = json.loads(run("cargo", "metadata", "--no-deps", "--locked", "--format-version", "1"))
    ours = [crate for crate in described["packages"] if crate["publish"] == []]
    crates = [crate for crate in described["packages"] if crate not in ours]
    assert len(crates) >= 5
    for crate in crates:
        for key in ("description", "license", "repository", "readme", "rust_version", "keywords", "categories"):
            assert crate[key], f"{crate['name']}: no {key}"
        assert len(crate["keywords"]) <= 5, f"{crate['name']}: a registry takes five keywords"
    package = ["cargo", "package", "--workspace", *(f"--exclude={crate['name']}" for crate in ours)]
    run(*package, "--no-verify", "--allow-dirty", "--locked", "--target-dir", tmp_path)
    for crate in crates:
        name = f"{crate['name']}-{crate['version']}"
        with tarfile.open(tmp_path / "package" / f"{name}.crate") as opened:
            inside = set(opened.getnames())
        wanted = {f"{name}/{file}" for file in ("Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE")}
        assert wanted <= inside, f"{name} lacks {wanted - inside}"
        assert not [file for file in inside if "__pycache__" in file]
        if crate["name"] == "freshgate-gateway":
            module = (ROOT / "python" / "src").rglob("*.py")
            carried = {f"{name}/python/{file.relative_to(ROOT / 'python' / 'src')}" for file in module}
            assert carried <= inside, f"{name} lacks {carried - inside}"


def test_cargo_installs_the_program(tmp_path: Path) -> None:
    # Not optimized: it is built already.
    path = ["--path", "crates/freshgate-gateway", "--root", str(tmp_path)]
    run("cargo", "install", "--locked", "--quiet", "--debug", "--no-track", *path)
    assert [file.name for file in (tmp_path / "bin").iterdir()] == ["freshgate"]
    assert run(tmp_path / "bin" / "freshgate", "--version").split() == ["freshgate", version_of_the_program()]


def test_version_is_the_same_whoever_is_asked(installed: Installed) -> None:
    version = version_of_the_program()
    assert run(installed.freshgate, "--version").split() == ["freshgate", version]
    assert run(installed.python, "-m", "freshgate", "--version").split() == ["freshgate", version]
    metadata = "import freshgate, importlib.metadata as m; print(freshgate.__version__, m.version('freshgate'))"
    assert run(installed.python, "-c", metadata).split() == [version, version]


def test_module_without_a_gate_says_how_it_is_started(installed: Installed) -> None:
    started = subprocess.run(
        [installed.python, "-m", "freshgate", "app.py"],
        env=dict(installed.environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 2
    assert "freshgate run app.py" in started.stderr
    assert len(started.stderr.splitlines()) == 1


def test_installed_alone_runs_the_example(installed: Installed, page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "streamlit" / "app.py", folder)
    port, provider_port = free_port(), free_port()
    address = f"http://localhost:{port}"
    started: list[str | Path] = [installed.freshgate, "dev", "app.py", "--user", "ada", "--token-lifetime", "6s"]
    started += ["--listen", f"127.0.0.1:{port}", "--provider-listen", f"127.0.0.1:{provider_port}"]
    gate = Process(started, tmp_path / "gate.log", cwd=folder, env=installed.environment())
    try:
        gate.wait_for_line(re.escape(address), seconds=60)
        until(lambda: has_started(gate, installed.python), "the app to run with the Python beside the program")
        page.goto(address)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"http://*{provider_port}/**")
        choose_dev_user(page, "ada")
        expect(page.get_by_text("ada@", exact=False)).to_be_visible(timeout=30_000)
        tokens = page.get_by_test_id("stMetric").filter(has_text="Tokens so far").get_by_test_id("stMetricValue")
        until(lambda: re.search(r"^([2-9]|\d\d)", tokens.inner_text()), "a second token", seconds=90)
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=30_000)
    except BaseException:
        OUTPUT.mkdir(exist_ok=True)
        page.screenshot(path=OUTPUT / "package-failed.png")
        print(gate.output())
        raise
    finally:
        gate.stop()


def has_started(gate: Process, python: Path) -> bool:
    return any(command_line(pid).startswith(f"{python} -m freshgate") for pid in descendants(gate.pid))


def version_of_the_program() -> str:
    """The one place that says it."""
    found = re.search(r'\[workspace\.package\]\nversion = "([^"]+)"', (ROOT / "Cargo.toml").read_text())
    assert found
    return found[1]


def mirror(source: Path, target: Path) -> None:
    """Makes `target` the same as `source`, and leaves alone what is the same already."""
    wanted = {file.relative_to(source) for file in source.rglob("*") if file.is_file()}
    for file in [file for file in target.rglob("*") if file.is_file() and file.relative_to(target) not in wanted]:
        file.unlink()
    for name in wanted:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if not (target / name).exists() or not filecmp.cmp(source / name, target / name, shallow=False):
            # Not its date: what is written now is newer than what was built of it.
            shutil.copyfile(source / name, target / name)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_context(viewport={"width": 1000, "height": 1000})
    yield made.new_page()
    made.close()
