"""What Streamlit sends over routes of its own goes through the gate as if it were not there."""

import hashlib
from pathlib import Path

import pytest
from playwright.sync_api import expect

from harness.stage import Stage
from harness.waiting import until

pytestmark = pytest.mark.providers("devidp")


def test_upload_and_download(stage: Stage, tmp_path: Path) -> None:
    tab = stage.set_up(app="everything").tab().open().is_signed_out().sign_in()
    sent = bytes(range(256)) * 12_000  # 3 MB
    (tmp_path / "sent.bin").write_bytes(sent)

    tab.page.locator("input[type=file]").set_input_files(tmp_path / "sent.bin")

    tab.shows("uploaded", hashlib.sha256(sent).hexdigest())
    with tab.page.expect_download() as download:
        tab.click("download")
    assert download.value.path().read_bytes() == b"\x00\x01 downloaded \xff" * 100_000
    assert download.value.suggested_filename == "data.bin"


def test_media_files(stage: Stage) -> None:
    tab = stage.set_up(app="everything").tab().open("/media").is_signed_out()

    picture = tab.part("picture").locator("img")
    until(
        lambda: picture.evaluate("image => image.complete && image.naturalWidth") == 120,
        "the picture to load",
    )

    sound = tab.part("sound").locator("audio")
    until(lambda: sound.evaluate("sound => sound.duration") == 0.5, "the sound to load")
    # What a player does that skips: a part of the file.
    part = tab.page.evaluate(
        """async source => {
          const answer = await fetch(source, { headers: { Range: "bytes=4-7" } });
          return [answer.status, await answer.text()];
        }""",
        sound.get_attribute("src"),
    )
    assert part[0] == 206 and len(part[1]) == 4


def test_several_pages(stage: Stage) -> None:
    tab = stage.set_up(app="everything").tab().open("/session").is_signed_out()
    tab.shows("sub", "nobody").sign_in().shows("sub", "alice")
    assert tab.page.url == f"{stage.project.address}/session", "back on the page one came from"

    tab.page.get_by_role("link", name="component").click()
    tab.page.wait_for_url(f"{stage.project.address}/component")
    tab.page.go_back()
    tab.shows("sub", "alice")


def test_custom_component(stage: Stage) -> None:
    tab = stage.set_up(app="everything").tab().open("/component").shows("component_value", "nothing yet")

    tab.page.frame_locator("iframe[title*=sender]").get_by_role("button", name="Send").click()

    tab.shows("component_value", "sent from the component")


def test_static_files(stage: Stage) -> None:
    stage.set_up(app="everything")

    assert stage.gate.get("/app/static/hello.txt") == (200, b"a static file\n")
    assert stage.gate.get("/app/static/../app.py")[0] in (400, 403, 404)
    # Streamlit's own files come compressed where the browser takes that, and all of the page's files arrive.
    tab = stage.tab()
    failed: list[str] = []
    tab.page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    tab.open().is_signed_out()
    expect(tab.page.get_by_test_id("stApp")).to_be_visible()
    assert failed == []
