"""Signing out: everywhere, at once, for good."""

from urllib.parse import parse_qs, urlsplit

from harness.stage import Stage


def test_logout_in_one_tab_signs_out_the_other_within_a_second(stage: Stage) -> None:
    stage.set_up()
    one = stage.tab().open().is_signed_out().sign_in()
    other = stage.tab().open().is_signed_in()

    with one.page.expect_request("**/auth/logout*"):
        one.click("log_out")

    other.is_signed_out(seconds=1.0)


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
