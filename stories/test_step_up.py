"""Signing in again, in another way, while a session is open."""

from urllib.parse import parse_qs, urlsplit

import pytest

from harness.providers import DevProvider
from harness.stage import Stage


def test_a_fresh_sign_in_takes_the_place_of_the_session(stage: Stage) -> None:
    tab = stage.set_up().tab().open("/?report=42").is_signed_out().sign_in("alice")
    other = stage.tab().open().is_signed_in()
    stage.remember_cookies()
    before, token = tab.cookies()["freshgate"]["value"], tab.text("token")
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))

    tab.click("confirm").pass_the_providers_page("alice")

    tab.shows("sub", "alice").shows("query", '{"report": "42"}').shows_other("auth_time", "None")
    assert tab.cookies()["freshgate"]["value"] != before
    assert tab.text("token") != token and tab.call_api() == "200"
    (ours,) = [url for url in asked if "/auth/login?" in url]
    assert set(parse_qs(urlsplit(ours).query)) == {"prepared", "next"}, "nobody else could have made it"
    (theirs,) = [parse_qs(urlsplit(url).query) for url in asked if "max_age=" in url]
    assert theirs["max_age"] == ["0"] and "prompt" not in theirs, "`None` leaves out what is configured"
    # The other tab's socket is closed with the old session, and connects again in the new one.
    other.shows_other("token", token).is_signed_in()
    assert other.text("token") == tab.text("token")
    assert tab.refresh().startswith("new token")


@pytest.mark.providers("devidp")
def test_a_second_factor_that_is_not_given_leaves_the_session(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in("alice")
    before = tab.cookies()["freshgate"]["value"]

    tab.click("second_factor")
    tab.page.wait_for_url(f"{stage.provider.issuer}/**")
    stage.provider.fill_in_login(tab.page, "alice")

    tab.page.wait_for_url(f"{stage.project.address}/oauth2callback?**")
    assert "unmet_authentication_requirements" in tab.page.locator("body").inner_text()
    assert tab.cookies()["freshgate"]["value"] == before
    tab.open().is_signed_in().shows("acr", "None")

    assert isinstance(stage.provider, DevProvider)
    stage.provider.misbehave("token:code", id_token={"set": {"acr": "mfa"}})
    tab.click("second_factor").pass_the_providers_page("alice").shows("acr", "mfa")
    assert tab.refresh().startswith("new token")
    tab.shows("acr", "mfa")


def test_a_prepared_login_is_no_link_for_others(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in("alice")
    links: list[str] = []
    tab.page.on("request", lambda request: links.append(request.url) if "prepared=" in request.url else None)
    tab.click("confirm")
    tab.page.wait_for_url(f"{stage.provider.issuer}/**")
    (link,) = links

    mallory = stage.tab(stage.profile()).open().is_signed_out().sign_in("bob")
    mallory.page.goto(link)

    assert "prepared_for_another" in mallory.page.locator("body").inner_text()
    mallory.open().is_signed_in().shows("sub", "bob")
