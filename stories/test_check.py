"""`freshgate check`: what it says of a provider that is certified, of ours, and of a login that somebody makes."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import expect

from harness.gate import FRESHGATE, environment
from harness.process import Process
from harness.snapshots import assert_says_as_before
from harness.stage import Stage

# Those whose words were read. A further provider gets a snapshot of its own: UPDATE_SNAPSHOTS=1.
pytestmark = pytest.mark.providers("devidp", "oidc-provider", "django-oauth-toolkit", "lemonldap-ng")


def check(stage: Stage, *arguments: str) -> Process:
    """`freshgate check` in the folder of the project."""
    project = stage.project
    listen = f"127.0.0.1:{project.port}"
    command = [str(FRESHGATE), "check", str(project.script), "--listen", listen, *arguments]
    return Process(command, stage.logs / "gate-checking.log", cwd=project.folder, env=environment())


def outcome(process: Process, code: int) -> str:
    """What it said, once it has ended with this code."""
    try:
        ended = process.wait_for_exit(60)
    finally:
        process.stop()
    said = process.output()
    assert ended == code, f"ended with {ended}:\n{said}"
    return said


def part(said: str, title: str) -> str:
    """From a title to the end."""
    assert title in said, said
    return said[said.index(title) :]


def normal(stage: Stage, said: str) -> str:
    """The same on every run and every machine."""
    said = said.replace(stage.provider.origin, "http://PROVIDER").replace(str(stage.project.port), "GATE")
    return re.sub(r"after \d+ ms", "after N ms", re.sub(r"\d+ bytes", "N bytes", said))


def test_a_provider_before_anybody_signs_in(stage: Stage) -> None:
    stage.prepare()

    said = outcome(check(stage), 0)

    assert_says_as_before(f"check/{stage.provider.name}", normal(stage, part(said, "The provider `default`")))
    assert not list(stage.project.folder.glob(".freshgate*")), "nothing is made"


def test_a_login_that_somebody_makes(stage: Stage) -> None:
    stage.prepare()
    checking = check(stage, "--login", "--probe-grace")
    address = checking.wait_for_line(r"Open (\S+) in your browser", seconds=60)[1]

    page = stage.tab().page
    page.goto(address)
    page.wait_for_url(f"{stage.provider.origin}/**")
    stage.provider.fill_in_login(page, "alice")

    expect(page.get_by_text("Signed in. The terminal tells the rest")).to_be_visible()
    said = outcome(checking, 0)
    assert_says_as_before(f"check/{stage.provider.name}-login", normal(stage, part(said, "A login at `default`")))


def test_a_running_gate_and_its_app(stage: Stage) -> None:
    stage.set_up()

    document: Any = json.loads(outcome(check(stage, "--json"), 0))

    gate = {finding["topic"]: finding for finding in document["sections"][0]["findings"]}
    assert gate["running"]["verdict"] == "ok"
    assert "the app behind it answers" in gate["running"]["what"]
    assert gate["python"]["verdict"] == "ok"
    assert "Streamlit 1." in gate["python"]["what"]


def test_a_client_that_is_refused(stage: Stage) -> None:
    another = "another-secret-0123456789-0123456789"
    stage.prepare(client_secret=another)

    said = outcome(check(stage), 1)

    assert re.search(r"problem +client +stories is refused with client_secret_basic", said), said
    assert another not in said


# The others look at the address once somebody has signed in.
@pytest.mark.providers("devidp", "oidc-provider")
def test_an_address_that_is_not_registered(stage: Stage) -> None:
    stage.prepare(redirect_uri="http://127.0.0.1:{port}/oauth2callback")

    said = outcome(check(stage), 1)

    assert re.search(r"problem +login +the provider refuses the request that a login begins with: status 4", said), said
    assert "mend: register redirect_uri there" in said
