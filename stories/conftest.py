"""Fixtures of the stories. `harness/` has the parts."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from harness.figures import Figures, table
from harness.providers import DevProvider, DjangoProvider, LemonProvider, OidcProvider, Provider
from harness.rust_app import RustStage
from harness.stage import Stage
from harness.storm import Storm

OUTPUT = Path(__file__).parent / "output"
PROVIDERS: dict[str, type[Provider]] = {
    one.name: one for one in (DevProvider, OidcProvider, DjangoProvider, LemonProvider)
}
# Those that can do whatever a story asks of them.
USUAL_PROVIDERS = [DevProvider.name, OidcProvider.name]

# What stories play with: `stage` is one of these.
STAGES: dict[str, type[Stage]] = {"streamlit": Stage, "axum": RustStage}

# Chromium as root and on a machine that reaches nothing but itself.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A story runs with the usual providers, unless its `providers` mark names those that can do what it needs,
    and with Streamlit, unless its `apps` mark names others."""
    if "provider_name" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("providers")
        metafunc.parametrize("provider_name", mark.args if mark else USUAL_PROVIDERS)
    if mark := metafunc.definition.get_closest_marker("apps"):
        metafunc.parametrize("app_name", mark.args)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all stories; each story has profiles of its own in it."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.exit("no Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM to its path", 2)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def app_name() -> str:
    """What a story plays with, unless its `apps` mark says otherwise."""
    return "streamlit"


@pytest.fixture
def stage(
    provider_name: str, app_name: str, browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """The story's stage. Ends what the story started, keeps pictures and logs of a failure, looks for leaks."""
    if reason := PROVIDERS[provider_name].missing():
        pytest.skip(reason)
    played = STAGES[app_name](tmp_path, browser, PROVIDERS[provider_name])
    yield played
    failed = request.node.stash.get(FAILED, False)
    evidence = OUTPUT / request.node.name
    shutil.rmtree(evidence, ignore_errors=True)
    if failed:
        evidence.mkdir(parents=True)
        played.pictures(evidence)
    leaked = played.end()
    if failed or leaked:
        shutil.copytree(played.logs, evidence, dirs_exist_ok=True)
    assert not leaked, f"secrets in what the gate wrote: {leaked}"


class Verdicts:
    """What the modules of the conformance tests found, for the table at the end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def add(self, module: str, sent: str, did: str) -> None:
        """A module held: what was sent, and what the gate did."""
        self.rows.append((module, sent, did))

    def lines(self) -> list[str]:
        table = [("module", "what was sent", "what freshgate did"), *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(2)]
        return [f"{module:<{widths[0]}}  {sent:<{widths[1]}}  {did}" for module, sent, did in table]


# Each of these tests has a line in the table of verdicts instead of one among the stories.
TABLED = ("test_attacks.py", "test_conformance.py", "test_conformance_login.py")

VERDICTS = pytest.StashKey[Verdicts]()


@pytest.fixture(scope="session")
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    return request.config.stash.setdefault(VERDICTS, Verdicts())


@pytest.fixture
def storm(provider_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Storm]:
    """The stage of a storm, which takes no browser. Ends what the story started, keeps logs, looks for leaks."""
    played = Storm(tmp_path, PROVIDERS[provider_name])
    yield played
    leaked = played.end()
    evidence = OUTPUT / request.node.name
    shutil.rmtree(evidence, ignore_errors=True)
    if leaked or request.node.stash.get(FAILED, False):
        shutil.copytree(played.logs, evidence)
    assert not leaked, f"secrets in what the gate wrote: {leaked}"


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[Figures], None]:
    """Adds a line to the table that is shown at the end."""
    return request.config.stash.setdefault(FIGURES, []).append


FAILED = pytest.StashKey[bool]()
FIGURES = pytest.StashKey[list[Figures]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sessions", type=int, help="how many sessions expire in the same second")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tells the fixtures whether the story failed."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line per story: how it went with each provider. One per module of the conformance
    tests that held, and then what the storms measured."""
    verdicts = config.stash.get(VERDICTS, Verdicts())
    if verdicts.rows:
        terminalreporter.section("conformance")
        for line in verdicts.lines():
            terminalreporter.line(line)
    stories: dict[str, list[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if outcome == "passed" and report.when != "call":
                continue
            if outcome == "passed" and report.nodeid.startswith(TABLED):
                continue
            name, _, provider = report.nodeid.rpartition("::")[2].partition("[")
            told = name.removeprefix("test_").replace("_", " ")
            word = {"passed": "ok", "skipped": "skipped"}.get(outcome, "FAILED")
            seconds = f" ({report.duration:.1f} s)"
            stories.setdefault(told, []).append(f"{provider.rstrip(']')}: {word}{seconds}".removeprefix(": "))
    if stories:
        terminalreporter.section("stories")
        width = max(map(len, stories))
        for told, results in stories.items():
            terminalreporter.line(f"{told:<{width}}  {', '.join(results)}")
    if measured := config.stash.get(FIGURES, []):
        terminalreporter.section("storms")
        for line in table(measured):
            terminalreporter.line(line)
