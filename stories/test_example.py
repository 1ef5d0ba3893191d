"""The example, as `make run` starts it: the gate, the development provider inside it, and the app."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from conftest import OUTPUT
from harness.gate import FRESHGATE, ROOT, environment
from harness.ports import free_port
from harness.process import Process
from harness.providers import choose_dev_user
from harness.waiting import until

# The picture in the documentation shows more of them, and longer ones: STORIES_PICTURE=1 takes it anew.
PICTURE = bool(os.environ.get("STORIES_PICTURE"))
TOKEN_SECONDS, TOKENS_TO_SEE = (15, 9) if PICTURE else (6, 4)


def metric(page: Page, label: str) -> str:
    return page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue").inner_text()


def number(page: Page, label: str) -> int:
    (found,) = re.findall(r"^\d+", metric(page, label))
    return int(found)


def test_example_keeps_calling_its_api_past_several_token_lifetimes(page: Page, tmp_path: Path) -> None:
    port, provider_port = free_port(), free_port()
    address, provider = f"http://localhost:{port}", f"127.0.0.1:{provider_port}"
    started: list[str | Path] = [FRESHGATE, "dev", ROOT / "examples" / "streamlit" / "app.py", "--user", "ada"]
    started += ["--listen", f"127.0.0.1:{port}", "--provider-listen", provider]
    started += ["--token-lifetime", f"{TOKEN_SECONDS}s", "--store", f"sqlite:{tmp_path}/sessions.db"]
    gate = Process(started, tmp_path / "gate.log", cwd=ROOT, env=environment())
    try:
        gate.wait_for_line(re.escape(address))
        page.goto(address)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"http://*{provider_port}/**")
        choose_dev_user(page, "ada")

        expect(page.get_by_text("ada@", exact=False)).to_be_visible()
        page.get_by_role("button", name="Count").click()
        until(lambda: number(page, "Your clicks") == 1, "the counter to count")
        lives = [number(page, "This token lives for")]
        until(lambda: number(page, "This token lives for") < lives[0], "the life to count down")
        until(lambda: number(page, "Tokens so far") >= TOKENS_TO_SEE, "several tokens", seconds=180)
        known = number(page, "Tokens so far")
        page.get_by_role("button", name="Refresh now").click()
        expect(page.get_by_text("A new token, and no reload.")).to_be_visible()
        until(lambda: number(page, "Tokens so far") > known, "the new token to be in use")

        accepted, called = re.findall(r"\d+", metric(page, "API calls accepted"))
        assert accepted == called, "an API call was refused"
        assert number(page, "Your clicks") == 1, "the session's state was lost"
        picture = ROOT / "docs" / "images" / "example.png" if PICTURE else OUTPUT / "example.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.mouse.move(0, 0)
        page.screenshot(path=picture, clip={"x": 110, "y": 95, "width": 780, "height": 795})
        assert picture.stat().st_size < 300_000
    except BaseException:
        OUTPUT.mkdir(exist_ok=True)
        page.screenshot(path=OUTPUT / "example-failed.png")
        print(gate.output())
        raise
    finally:
        gate.stop()


@pytest.fixture
def page(browser):  # type: ignore[no-untyped-def]
    made = browser.new_context(viewport={"width": 1000, "height": 1000})
    yield made.new_page()
    made.close()
