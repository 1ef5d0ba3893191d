"""Signing in."""

import re

import pytest

from harness.providers import DevProvider
from harness.stage import Stage


def test_login(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out()

    tab.sign_in("alice")

    tab.shows("sub", "alice").shows("name", "Alice Example").shows("groups", 2)
    assert tab.call_api() == "200"
    cookie = tab.cookies()["freshgate"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and cookie["path"] == "/"
    assert len(cookie["value"]) < 64, "an opaque id and nothing else"
    stage.remember_cookies()
    readable = {value for value in tab.page.evaluate("document.cookie").split("; ") if "freshgate" in value}
    assert not readable, "the page's scripts must not read the session's cookie"


def test_login_returns_to_the_page_and_query_one_came_from(stage: Stage) -> None:
    tab = stage.set_up().tab().open("/?report=42&q=a%26b").is_signed_out()

    tab.sign_in()

    tab.shows("query", '{"q": "a&b", "report": "42"}')
    assert tab.page.url == f"{stage.project.address}/?report=42&q=a%26b"


def test_login_with_a_named_provider(stage: Stage) -> None:
    stage.prepare()
    auth = stage.project.auth(stage.provider)
    shared = {key: auth.pop(key) for key in ("redirect_uri", "cookie_secret", "expose_tokens")}
    stage.project.write_secrets(**{"auth": shared, "auth.work": auth}, api={"url": stage.provider.api_url})
    stage.start_gate()
    tab = stage.tab().open().is_signed_out()

    tab.click("log_in_at_work").pass_the_providers_page("bob")

    tab.shows("sub", "bob").shows("provider", "work")


def test_login_under_a_base_path(stage: Stage) -> None:
    tab = stage.set_up(base_path="/reports").tab().open("/?report=42").is_signed_out()

    tab.sign_in().shows("sub", "alice").shows("query", '{"report": "42"}')

    assert tab.page.url == f"{stage.project.address}/?report=42"
    assert tab.refresh().startswith("new token")
    tab.log_out()


def test_several_tabs_log_in_at_once(stage: Stage) -> None:
    stage.set_up()
    tabs = [stage.tab().open(f"/?tab={number}").is_signed_out() for number in range(4)]
    for tab in tabs:
        tab.click("log_in")
    for tab in tabs:
        tab.page.wait_for_url(f"{stage.provider.issuer}/**")

    for number, tab in enumerate(tabs):
        tab.pass_the_providers_page("alice")
        tab.shows("query", f'{{"tab": "{number}"}}')

    leftovers = [name for name in tabs[0].cookies() if name.startswith("freshgate") and name != "freshgate"]
    assert leftovers == [], "each login takes its own cookie away"


def test_a_login_makes_a_new_session_id(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out()
    tab.page.context.add_cookies(
        [{"name": "freshgate", "value": "A" * 43, "url": stage.project.address, "httpOnly": True}]
    )

    tab.open().is_signed_out().sign_in()

    assert tab.cookies()["freshgate"]["value"] != "A" * 43


def test_login_denied_at_the_provider_shows_a_page_and_a_way_on(stage: Stage) -> None:
    tab = stage.set_up().tab().open("/?report=42").is_signed_out()
    tab.click("log_in")
    tab.page.wait_for_url(f"{stage.provider.issuer}/**")

    stage.provider.cancel_login(tab.page)

    tab.page.wait_for_url(f"{stage.project.address}/oauth2callback?**")
    shown = tab.page.locator("body").inner_text()
    assert "You were not signed in" in shown and "login_denied" in shown
    tab.page.get_by_role("link").click()
    tab.pass_the_providers_page("alice").shows("sub", "alice")


@pytest.mark.providers("devidp")
def test_a_client_that_is_refused_at_login_shows_a_code_and_no_cause(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out()
    assert isinstance(stage.provider, DevProvider)
    refusal = {"status": 401, "body": {"error": "invalid_client"}}
    stage.provider.misbehave("token:code", respond=refusal)

    tab.click("log_in")
    tab.page.wait_for_url(f"{stage.provider.issuer}/**")
    stage.provider.fill_in_login(tab.page, "alice")
    tab.page.wait_for_url(f"{stage.project.address}/oauth2callback?**")

    shown = tab.page.locator("body").inner_text()
    assert "provider_misconfigured" in shown
    assert "invalid_client" not in shown and "secret" not in shown.lower(), "the cause is for the operator"
    (line,) = [line for line in stage.gate.process.output().splitlines() if "invalid_client" in line]
    request_id = re.search(r"Request (\S+)", shown)
    assert request_id and request_id[1] in line, f"the page does not lead to the line:\n{shown}\n{line}"
