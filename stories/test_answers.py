"""Answers of the provider that are large, incomplete, or not to be believed."""

import urllib.request
from typing import Any

import pytest

from harness.ports import free_port
from harness.providers import DevProvider
from harness.stage import Stage

pytestmark = pytest.mark.providers("devidp")

ACCESS_TOKEN_BYTES = 64 * 1024
GROUPS = [f"department-{number:03}/some-team/readers" for number in range(400)]
BIOGRAPHY = "x" * 300_000


def misbehaving(stage: Stage) -> DevProvider:
    assert isinstance(stage.provider, DevProvider)
    return stage.provider


def test_large_access_token_400_groups_and_a_large_userinfo(stage: Stage) -> None:
    stage.set_up()
    stage.provider.change_user("alice", groups=GROUPS, biography=BIOGRAPHY)
    misbehaving(stage).misbehave("token", access_token_bytes=ACCESS_TOKEN_BYTES, id_token={"set": {"groups": GROUPS}})
    tab = stage.tab().open().is_signed_out()

    tab.sign_in()

    tab.shows("token_size", ACCESS_TOKEN_BYTES).shows("groups", len(GROUPS)).shows("userinfo_size", len(BIOGRAPHY))
    assert tab.call_api() == "200"
    assert tab.refresh().startswith("new token")
    tab.shows("token_size", ACCESS_TOKEN_BYTES).shows("groups", len(GROUPS))
    other = stage.tab().open().is_signed_in().shows("userinfo_size", len(BIOGRAPHY))
    assert sum(len(name) + len(one["value"]) for name, one in other.cookies().items()) < 1024

    # The ID token is too large for an address: without it the provider asks its user, and signs out all the same.
    with tab.page.expect_request(f"{stage.provider.issuer}/end_session?*") as asked:
        tab.click("log_out")
    assert len(asked.value.url) < 4096
    tab.page.get_by_role("button", name="Sign out").click()
    tab.page.wait_for_url(f"{stage.project.address}/**")
    tab.is_signed_out()
    other.is_signed_out()


def test_an_id_token_may_be_for_others_whom_the_operator_trusts(stage: Stage) -> None:
    stage.prepare()
    ours = stage.project.auth(stage.provider)["client_id"]
    misbehaving(stage).misbehave("token", id_token={"set": {"aud": [ours, "project"], "azp": ours}})
    trusting = stage.project.folder / "freshgate.toml"
    trusting.write_text('[provider.default]\ntrusted_audiences = ["elsewhere"]\n')
    stage.start_gate()
    tab = stage.tab().open().is_signed_out().click("log_in")
    tab.page.wait_for_url(f"{stage.provider.issuer}/**")
    stage.provider.fill_in_login(tab.page, "alice")
    tab.page.wait_for_url(f"{stage.project.address}/oauth2callback?**")
    assert "provider_rejected" in tab.page.locator("body").inner_text()
    stage.gate.stop()

    trusting.write_text('[provider.default]\ntrusted_audiences = ["project"]\n')
    stage.start_gate()

    tab.open().is_signed_out().sign_in()
    assert tab.refresh().startswith("new token")


BAD_ID_TOKENS: dict[str, dict[str, Any]] = {
    "signature": {"signature": "bad"},
    "issuer": {"set": {"iss": "https://elsewhere.example"}},
    "audience": {"set": {"aud": "another-client"}},
    "expiry": {"shift": {"exp": -7200, "iat": -7200}},
}


@pytest.mark.parametrize("bad", BAD_ID_TOKENS)
def test_bad_id_token_in_a_refresh_answer_changes_nothing(stage: Stage, bad: str) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    token = tab.text("token")
    stage.provider.change_user("alice", name="Alice Renamed")
    misbehaving(stage).misbehave("token:refresh", id_token=BAD_ID_TOKENS[bad])

    assert tab.refresh() == "TryLater"

    tab.is_signed_in().shows("token", token).shows("name", "Alice Example")
    # The answer brought a new refresh token too, and that one was not thrown away.
    stage.provider.behave()
    assert tab.refresh() == "new token, Alice Example -> Alice Renamed"


@pytest.mark.parametrize("where", ["id_token", "userinfo"])
def test_another_subject_in_a_refresh_answer_is_never_taken_for_the_user(stage: Stage, where: str) -> None:
    stage.set_up()
    tab = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    if where == "id_token":
        misbehaving(stage).misbehave("token:refresh", id_token={"set": {"sub": "bob"}})
    else:
        misbehaving(stage).misbehave("userinfo", set={"sub": "bob"})

    tab.click("refresh")

    # The session can be nobody's any more: it ends, for every tab, and nothing of the answer is seen.
    tab.is_signed_out()
    other.is_signed_out()
    stage.gate.process.wait_for_line("refresh: SignInAgain")
    assert not [text for text in (tab.page.inner_text("body"), other.page.inner_text("body")) if "bob" in text]
    stage.provider.behave()
    tab.sign_in().shows("sub", "alice")


def test_without_an_id_token_in_the_refresh_answer_claims_come_from_userinfo(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    stage.provider.change_user("alice", name="Alice Renamed")
    misbehaving(stage).misbehave("token:refresh", omit=["id_token"])

    assert tab.refresh() == "new token, Alice Example -> Alice Renamed"

    assert tab.call_api() == "200"


def test_tokens_that_came_without_claims_are_called_so(stage: Stage) -> None:
    operator = f"127.0.0.1:{free_port()}"
    stage.prepare().project.write_settings(default={"userinfo": False})
    stage.start_gate("--operator-listen", operator)
    tab = stage.tab().open().is_signed_out().sign_in()
    assert tab.refresh().startswith("new token")
    tab.shows("last_refresh", "refreshed")
    stage.provider.change_user("alice", name="Alice Renamed")
    misbehaving(stage).misbehave("token:refresh", omit=["id_token"])

    assert tab.refresh() == "new token, Alice Example -> Alice Example"

    tab.shows("last_refresh", "tokens_only")
    answer = tab.page.evaluate("fetch('/auth/refresh', {method: 'POST'}).then(answer => answer.json())")
    assert answer["outcome"] == "tokens_only"
    with urllib.request.urlopen(f"http://{operator}/metrics", timeout=10) as figures:
        lines = figures.read().decode().splitlines()
    for outcome, count in {"refreshed": 1, "tokens_only": 2}.items():
        counted = f'freshgate_refresh_answers_total{{wanted="refresh",outcome="{outcome}",reason=""}} {count}'
        assert counted in lines
