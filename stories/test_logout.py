"""Signing out: everywhere, at once, for good."""

from urllib.parse import parse_qs, urlsplit

import pytest

from harness.providers import DevProvider
from harness.stage import Stage
from harness.waiting import until

# A gate looks ten times a second for what its neighbours did; the rest is for its app and the page.
SEEN_BY_NEIGHBOURS = 1.0


@pytest.mark.apps("streamlit", "axum")
def test_logout_in_one_tab_signs_out_the_other_within_a_second(stage: Stage) -> None:
    stage.set_up()
    one = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()

    with one.page.expect_request("**/auth/logout*"):
        one.click("log_out")

    other.is_signed_out(seconds=1.0)


@pytest.mark.providers("devidp")
def test_logout_at_one_gate_signs_out_at_the_other_at_once(stage: Stage) -> None:
    # Cookies know no ports: at both gates this is one browser with one session.
    stage.prepare(redirect_uri="http://localhost:{port}/oauth2callback")
    here = stage.start_gate()
    there = stage.start_neighbour()
    one = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab()
    other.address = there.address
    other.open().is_signed_in().shows("sub", "alice")
    connected = other.sockets()

    with one.page.expect_request("**/auth/logout*") as left:
        one.click("log_out")
    assert left.value.url.startswith(here.address)

    other.is_signed_out(seconds=SEEN_BY_NEIGHBOURS)
    until(lambda: other.sockets() > connected, "the page to have lost its socket")
    stage.remember_cookies()


@pytest.mark.apps("streamlit", "axum")
def test_old_cookie_signs_nobody_in_after_logout(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    old = {"freshgate": tab.cookies()["freshgate"]["value"]}
    stage.remember_cookies()
    assert stage.gate.get("/auth/user", old)[0] == 200

    tab.log_out()

    assert stage.gate.get("/auth/user", old)[0] == 401
    thief = stage.profile()
    thief.add_cookies([{"name": "freshgate", "value": old["freshgate"], "url": stage.project.address}])
    stage.tab(thief).open().is_signed_out()


@pytest.mark.apps("streamlit", "axum")
def test_logout_reaches_the_providers_end_session_and_comes_back(stage: Stage) -> None:
    tab = stage.set_up().tab().open("/?a=1").is_signed_out().sign_in()
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url) if request.is_navigation_request() else None)

    tab.log_out()

    at_provider = [url for url in asked if url.startswith(stage.provider.issuer)]
    assert at_provider, f"the provider was not asked: {[url.split('?')[0] for url in asked]}"
    sent = parse_qs(urlsplit(at_provider[0]).query)
    assert sent["client_id"] == ["stories"] or "id_token_hint" in sent
    (state,) = sent["state"]
    back = [url for url in asked if url.startswith(stage.project.address) and f"state={state}" in url]
    assert back, "the browser came back without the state it left with"
    assert tab.cookies().keys().isdisjoint({"freshgate"})
    assert "state=" not in tab.page.url, "the address bar is clean again"


@pytest.mark.apps("streamlit", "axum")
def test_logout_at_the_provider_signs_out_every_tab_within_a_second(stage: Stage) -> None:
    stage.set_up()
    one = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()
    old = {"freshgate": one.cookies()["freshgate"]["value"]}
    stage.remember_cookies()

    # The same browser, at the provider: no app sent it there, and the provider alone can tell the gate.
    stage.provider.sign_out_there(stage.tab().page)

    one.is_signed_out(seconds=1.0)
    other.is_signed_out(seconds=1.0)
    assert stage.gate.get("/auth/user", old)[0] == 401
    assert not stage.provider.requests("revoke"), "what becomes of the tokens is the provider's to say"
    one.sign_in()


@pytest.mark.apps("streamlit", "axum")
@pytest.mark.providers("devidp")
def test_logout_of_a_user_signs_out_all_of_her_browsers(stage: Stage) -> None:
    stage.set_up()
    assert isinstance(stage.provider, DevProvider)
    alices = [stage.tab(stage.profile()).open().is_signed_out().sign_in("alice") for _ in range(2)]
    bob = stage.tab(stage.profile()).open().is_signed_out().sign_in("bob")

    deliveries = stage.provider.send_logout_tokens("alice", omit=["sid"])

    assert {delivery["status"] for delivery in deliveries} == {200}
    for tab in alices:
        tab.is_signed_out(seconds=1.0)
    assert bob.refresh().startswith("new token")


@pytest.mark.apps("streamlit", "axum")
@pytest.mark.providers("devidp")
def test_a_frame_in_the_providers_page_signs_out_every_tab(stage: Stage) -> None:
    # It cannot tell the gate itself. Its page has a frame, in which the browser sends no cookie of the gate's.
    stage.set_up(channels=["front"])
    tab = stage.tab().open().is_signed_out().sign_in()
    at_provider = stage.tab().page

    with at_provider.expect_response("**/auth/frontchannel-logout*") as told:
        stage.provider.sign_out_there(at_provider)

    assert told.value.status == 200
    assert "cookie" not in told.value.request.all_headers()
    tab.is_signed_out(seconds=1.0)


@pytest.mark.apps("streamlit", "axum")
def test_logout_revokes_the_refresh_token(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()

    tab.log_out()

    until(lambda: [one.status for one in stage.provider.requests("revoke")] == [200], "the token to be revoked")
