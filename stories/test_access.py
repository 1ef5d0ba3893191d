"""Who may enter: what is behind the login, and what is behind a rule."""

import pytest
from playwright.sync_api import expect

from harness.providers import DevProvider
from harness.stage import Stage
from harness.visitor import Visitor
from harness.waiting import until

ADMIN = """
[access]
require_login = true

[[access.rule]]
path = "/"
groups = ["analysts"]
"""


def set_up(stage: Stage, toml: str, *arguments: str, app: str = "session.py") -> Stage:
    stage.prepare(app)
    (stage.project.folder / "freshgate.toml").write_text(toml)
    stage.start_gate(*arguments)
    return stage


def test_everything_is_behind_the_login(stage: Stage) -> None:
    set_up(stage, "", "--require-login", app="everything")
    stranger = Visitor(stage.project.address)
    script = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Accept": "*/*"}
    for method, path in (
        ("GET", "/app/static/hello.txt"),
        ("GET", "/media/anything.png"),
        ("GET", "/static/js/anything.js"),
        ("POST", "/_stcore/upload_file/session/file"),
        ("PUT", "/_stcore/upload_file/session/file"),
        ("GET", "/component/streamlit_app.sender/index.html"),
        ("GET", "//_stcore/health"),
    ):
        assert stranger.send(method, stage.project.address + path, script).status == 401, path
    up = stranger.send("GET", f"{stage.project.address}/_stcore/health/../stream", script)
    assert up.status == 400, "read differently by different programs"
    assert stranger.navigate(f"{stage.project.address}/session").location.startswith(
        f"{stage.project.address}/auth/login?"
    )
    for path in ("/_stcore/health", "/_stcore/host-config"):
        assert stranger.send("GET", stage.project.address + path, script).status == 200, "asked before every connection"
    with pytest.raises(AssertionError, match=r"HTTP/1\.1 401 "):
        stranger.open_socket()

    tab = stage.tab().open("/session?a=b")
    tab.pass_the_providers_page("alice").shows("sub", "alice")
    assert tab.page.url == f"{stage.project.address}/session?a=b", "back on the page one came from"
    assert tab.page.evaluate("fetch('/app/static/hello.txt').then(answer => answer.text())") == "a static file\n"


def test_who_is_not_allowed_can_switch_the_account(stage: Stage) -> None:
    set_up(stage, ADMIN)
    tab = stage.tab().open("/?a=b")
    tab.page.wait_for_url(f"{stage.provider.issuer}/**")
    stage.provider.fill_in_login(tab.page, "bob")

    expect(tab.page.get_by_role("heading")).to_have_text("You are not allowed here")
    expect(tab.page.locator("main")).to_contain_text("bob@example.test")
    assert tab.page.url == f"{stage.project.address}/?a=b"

    tab.page.get_by_role("link", name="Use another account").click()
    tab.pass_the_providers_page("alice").shows("sub", "alice")
    assert tab.page.url == f"{stage.project.address}/?a=b"


def test_pages_of_a_session_that_ends_leave_the_app(stage: Stage) -> None:
    set_up(stage, "", "--require-login")
    tab = stage.tab().open()
    tab.pass_the_providers_page("alice")
    other = stage.tab().open().is_signed_in()

    tab.click("log_out")

    expect(other.page.get_by_role("heading")).to_have_text("You are signed out")
    # It stays there: nobody is signed in again who wanted out.
    other.page.get_by_role("link", name="Sign in again").click()
    other.page.wait_for_url(f"{stage.provider.issuer}/**")


@pytest.mark.providers("devidp")
def test_who_loses_a_group_is_shut_out(stage: Stage) -> None:
    set_up(stage, ADMIN)
    assert isinstance(stage.provider, DevProvider)
    tab = stage.tab().open()
    tab.pass_the_providers_page("alice")
    other = stage.tab().open().is_signed_in()

    stage.provider.change_user("alice", groups=["staff"])
    tab.click("refresh")

    until(lambda: not tab.is_connected() and not other.is_connected(), "both pages to lose their sockets")
    other.open()
    expect(other.page.get_by_role("heading")).to_have_text("You are not allowed here")
