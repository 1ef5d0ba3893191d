"""Providers as they are, each with its own ways, from login to the end of the session."""

import json
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterable
from functools import partial

import pytest

from harness.providers import Provider, RecordedProvider, get_json
from harness.stage import Stage
from harness.tabs import Tab
from harness.waiting import until

# What every story shows of node-oidc-provider is not shown of it again.
UNUSUAL = pytest.mark.providers("django-oauth-toolkit", "lemonldap-ng")
ROTATING = pytest.mark.providers("oidc-provider", "django-oauth-toolkit")
REAL = pytest.mark.providers("oidc-provider", "django-oauth-toolkit", "lemonldap-ng")
DJANGO = pytest.mark.providers("django-oauth-toolkit")
LEMON = pytest.mark.providers("lemonldap-ng")
TABS = 4


def present(provider: Provider, refresh_token: str) -> tuple[int, str | None]:
    """Presents a refresh token with the client's own credentials, as whoever has stolen both: the answer's status and
    error."""
    client = provider.client
    credentials = b64encode(f"{client.client_id}:{client.client_secret}".encode()).decode()
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    request = urllib.request.Request(
        get_json(provider.metadata_url)["token_endpoint"],
        urllib.parse.urlencode(form).encode(),
        {"Authorization": f"Basic {credentials}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def is_dead(provider: Provider, access_token: str) -> bool:
    """Whether the provider's API refuses an access token."""
    request = urllib.request.Request(provider.api_url, headers={"Authorization": f"Bearer {access_token}"})
    try:
        with urllib.request.urlopen(request, timeout=30):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 401


def is_over(stage: Stage, tabs: Iterable[Tab], reason: str) -> None:
    for tab in tabs:
        tab.is_signed_out()
    stage.gate.process.wait_for_line(rf'session ended .*reason="?{reason}')


def is_over_because_it_was_refused(stage: Stage, tabs: Iterable[Tab]) -> None:
    is_over(stage, tabs, "refused")


@UNUSUAL
def test_a_session_from_login_to_logout(stage: Stage) -> None:
    stage.set_up()
    first = stage.tab().open().is_signed_out().sign_in()
    first.shows("name", "Alice Example").shows("groups", 2)
    assert [one.status for one in stage.provider.requests("userinfo")] == [200]
    assert first.call_api() == "200"
    tabs = [first, *(stage.tab().open().is_signed_in() for _ in range(TABS - 1))]
    stage.provider.delay_refreshes(500)

    for tab in tabs:
        tab.click("refresh")
    for tab in tabs:
        tab.shows("refreshes", 1, seconds=60)

    assert {tab.text("refreshed") for tab in tabs} == {"new token, Alice Example -> Alice Example"}
    assert {request.status for request in stage.provider.requests("token:refresh")} == {200}
    assert stage.provider.most_at_once() == 1
    assert stage.provider.refreshes() <= TABS
    stage.provider.behave()
    assert first.call_api() == "200", "the token that all have is the one that lives"

    first.log_out()

    for tab in tabs:
        tab.is_signed_out()
    status, _ = present(stage.provider, stage.provider.refresh_tokens()[-1])
    assert status == 400, "the refresh token still lives"
    first.sign_in("bob").shows("name", "Bob Example")


@ROTATING
def test_a_refresh_token_that_stays_the_same(stage: Stage) -> None:
    tab = stage.provider_with(rotates=False).set_up().tab().open().is_signed_out().sign_in()

    stage.provider.change_user("alice", name="Alice Renamed")

    assert tab.refresh() == "new token, Alice Example -> Alice Renamed"
    assert tab.refresh() == "new token, Alice Renamed -> Alice Renamed"

    assert tab.call_api() == "200"
    assert len(set(stage.provider.refresh_tokens())) == 1
    stage.provider.revoke("alice")
    tab.click("refresh")
    is_over_because_it_was_refused(stage, [tab])


@ROTATING
def test_a_refresh_token_that_a_thief_uses_again(stage: Stage) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    assert tab.refresh().startswith("new token")

    assert present(stage.provider, stage.provider.refresh_tokens()[0]) == (400, "invalid_grant")

    # The whole family is dead, and neither the gate nor the user has done anything wrong.
    tab.click("refresh")
    is_over_because_it_was_refused(stage, [tab, other])
    tab.sign_in()
    assert tab.refresh().startswith("new token")


@LEMON
def test_a_refresh_token_that_no_answer_repeats(stage: Stage) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()

    for _ in range(2):
        assert tab.refresh().startswith("new token")
    assert tab.call_api() == "200"
    assert len(stage.provider.refresh_tokens()) == 1

    # A refresh token that it does not know is no `invalid_grant` there.
    stage.provider.revoke("alice")
    assert present(stage.provider, stage.provider.refresh_tokens()[0]) == (400, "invalid_request")
    tab.click("refresh")
    is_over_because_it_was_refused(stage, [tab, other])
    tab.sign_in()


@LEMON
def test_a_frame_that_calls_the_session_by_the_name_of_the_user(stage: Stage) -> None:
    stage.set_up(channels=["front"])
    tab = stage.tab().open().is_signed_out().sign_in()
    bystander = stage.tab(stage.profile()).open().is_signed_out().sign_in()
    at_provider = stage.tab().page

    with at_provider.expect_response("**/auth/frontchannel-logout*") as told:
        stage.provider.sign_out_there(at_provider)

    # Its ID tokens name no session, and what the frame names as one is the user.
    assert told.value.status == 200
    assert "sid=alice" in told.value.url
    tab.is_signed_out()
    assert bystander.refresh().startswith("new token"), "another browser's session is another"


@UNUSUAL
def test_an_access_token_whose_time_is_over(stage: Stage) -> None:
    stage.prepare(token_seconds=5)
    # Nobody but the one who reads a token has it refreshed.
    (stage.project.folder / "freshgate.toml").write_text("[session]\nrefresh_ahead = false\n")
    stage.start_gate()
    provider = stage.provider
    assert isinstance(provider, RecordedProvider)
    tab = stage.tab().open().is_signed_out().sign_in()

    for _ in range(3):
        token, refreshes = tab.text("token"), provider.refreshes()
        handed_out = provider.access_tokens()[-1]
        until(partial(is_dead, provider, handed_out), "the token's time to be over")
        tab.click("call").shows_other("token", token)
        assert tab.text("answer") == "200"
        assert provider.refreshes() > refreshes


@REAL
def test_a_refresh_token_whose_time_is_over(stage: Stage) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    assert tab.refresh().startswith("new token")

    stage.provider.expire("alice")

    tab.click("refresh")
    is_over_because_it_was_refused(stage, [tab, other])
    tab.sign_in()
    assert tab.refresh().startswith("new token")


@DJANGO
@pytest.mark.parametrize("grace_seconds", [0, 120])
def test_an_answer_that_is_lost(stage: Stage, grace_seconds: int) -> None:
    stage.provider_with(grace_seconds=grace_seconds).set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    stage.provider.cut_answers_for(["alice"])

    tab.click("refresh")

    if grace_seconds:
        # Asked again, it answers with the tokens of before, and an ID token whose `at_hash` is another's. That is
        # refused, and the refresh token kept: the next request has all.
        until(lambda: tab.refresh().startswith("new token"), "a refresh that goes well", seconds=60)
        assert tab.call_api() == "200"
    else:
        # Asked again, it takes the gate for a thief.
        is_over(stage, [tab], "outcome_unknown")
        tab.sign_in()
    assert [one.fate for one in stage.provider.requests("token:refresh")][:2] == ["cut", "answered"]


@UNUSUAL
def test_a_logout_at_a_provider_that_tells_nobody(stage: Stage) -> None:
    stage.set_up(channels=[])
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()

    stage.provider.sign_out_there(stage.tab().page)

    tab.click("refresh")
    is_over_because_it_was_refused(stage, [tab, other])
