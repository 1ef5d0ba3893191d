"""One gate in front of apps that run by themselves: `freshgate serve`."""

import json
import signal
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from jwcrypto.common import JWException
from jwcrypto.jwk import JWKSet
from jwcrypto.jwt import JWT
from playwright.sync_api import Page

from harness.serving import Serving
from harness.stage import Stage
from harness.tabs import PATIENCE
from harness.waiting import until


@pytest.fixture
def serving(stage: Stage) -> Iterator[Serving]:
    """Apps and a gate are a story's to add; they end with it."""
    # Long enough that no token is refreshed by itself.
    serving = Serving(stage.prepare(token_seconds=60))
    yield serving
    serving.end()


def test_two_streamlit_apps_share_one_login(serving: Serving) -> None:
    serving.streamlit("/reports")
    serving.streamlit("/board")
    serving.start()
    reports = serving.tab("/reports/?quarter=2").is_signed_out()
    board = serving.tab("/board/").is_signed_out()

    reports.sign_in("alice").shows("sub", "alice")
    assert reports.page.url == f"{serving.address}/reports/?quarter=2"
    board.open("/board/").is_signed_in().shows("sub", "alice").shows("token", reports.text("token"))

    # What one refreshes, the other has at its next run.
    assert board.refresh().startswith("new token")
    reports.click("count").shows("clicks", 1).shows("token", board.text("token"))
    assert reports.call_api() == "200"

    # The only start that there is: nothing is at the root.
    reports.log_out()
    assert reports.page.url == f"{serving.address}/reports/"
    board.is_signed_out()


def test_two_streamlit_apps_on_two_hosts_share_one_login(stage: Stage) -> None:
    serving = Serving(stage.prepare(token_seconds=60, host="apps.localhost", channels=()))
    try:
        serving.cookie_domain = "apps.localhost"
        serving.streamlit("/", host="reports.apps.localhost")
        serving.streamlit("/", host="board.apps.localhost")
        serving.start()
        reports = serving.tab("/?quarter=2", "reports.apps.localhost").is_signed_out()
        board = serving.tab("/", "board.apps.localhost").is_signed_out()

        reports.sign_in("alice").shows("sub", "alice")
        assert reports.page.url == f"{reports.address}/?quarter=2"
        board.open("/").is_signed_in().shows("sub", "alice").shows("token", reports.text("token"))
        assert board.refresh().startswith("new token")
        reports.click("count").shows("clicks", 1).shows("token", board.text("token"))

        # A script of one host asks the other to sign the user out.
        asked = "fetch(to, {method: 'POST', mode: 'no-cors', credentials: 'include'})"
        board.page.evaluate(f"to => {asked}", f"{reports.address}/auth/logout")
        reports.click("count").shows("clicks", 2).is_signed_in()

        board.log_out()
        assert board.page.url == f"{board.address}/"
        reports.is_signed_out()
        unknown = board.page.goto(serving.address.replace("apps.", "other."))
        assert unknown is not None and unknown.status == 421
    finally:
        serving.end()


def sign_in(page: Page, serving: Serving, user: str) -> None:
    provider = serving.stage.provider
    page.wait_for_url(f"{provider.origin}/**", timeout=PATIENCE)
    provider.fill_in_login(page, user)
    page.wait_for_url(f"{serving.address}/**", timeout=PATIENCE)


def told(page: Page, address: str, **headers: str) -> dict[str, Any]:
    """What the app answers to a request of the page's browser with these headers besides."""
    answer = page.context.request.get(address, headers=headers)
    assert answer.status == 200, answer.text()
    body: dict[str, Any] = json.loads(answer.text())
    return body


def test_any_app_is_told_who_its_user_is(serving: Serving) -> None:
    serving.plain("/wiki", strip_path=True, require_login=True, hand_off=["headers", "bearer"])
    serving.plain("/open", hand_off=["headers"])
    serving.start(access={"unverified_email": True})
    page = serving.stage.profile().new_page()
    page.goto(f"{serving.address}/wiki/start?page=1", wait_until="commit")
    sign_in(page, serving, "alice")
    assert page.url == f"{serving.address}/wiki/start?page=1"

    forged = {
        "X-Forwarded-User": "root",
        "X_Forwarded_User": "root",
        "X-Forwarded_Groups": "admins",
        "X-Forwarded-Preferred-Username": "root",
        "Authorization": "Bearer forged",
        "Freshgate_Session": "forged",
    }
    for sent in ({}, forged):
        answer = told(page, f"{serving.address}/wiki/start", **sent)
        assert answer["path"] == "/start"
        headers = answer["told"]
        assert headers["HTTP_X_FORWARDED_USER"] == "alice"
        assert headers["HTTP_X_FORWARDED_EMAIL"] == "alice@example.test"
        assert headers["HTTP_X_FORWARDED_GROUPS"] == "analysts,staff"
        assert headers["HTTP_X_FORWARDED_PREFIX"] == "/wiki"
        assert headers["HTTP_AUTHORIZATION"].startswith("Bearer ")
        assert not [value for value in headers.values() if "root" in value or "forged" in value or "admins" in value]
    stranger = told(serving.stage.profile().new_page(), f"{serving.address}/open/", **forged)["told"]
    of_the_gate = ("HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_FOR")
    ours = [name for name in stranger if name.startswith(("HTTP_X_FORWARDED", "HTTP_FRESHGATE"))]
    assert sorted(ours) == sorted(of_the_gate)
    assert stranger["HTTP_AUTHORIZATION"] == "Bearer forged", "this app was promised nothing by that name"
    refused = serving.stage.profile().new_page().context.request.get(f"{serving.address}/wiki/")
    assert refused.status == 401
    assert refused.json()["error"] == "not_signed_in"


def test_an_app_never_gets_a_stale_token(stage: Stage) -> None:
    serving = Serving(stage.prepare(token_seconds=6))
    try:
        serving.plain("/", require_login=True, hand_off=["bearer"])
        # The request itself is what has the token refreshed.
        serving.start(session={"refresh_ahead": False})
        page = stage.profile().new_page()
        page.goto(f"{serving.address}/", wait_until="commit")
        sign_in(page, serving, "alice")
        seen: list[str] = []

        def two_refreshes() -> bool:
            handed = str(told(page, f"{serving.address}/")["told"]["HTTP_AUTHORIZATION"])
            answer = page.context.request.get(stage.provider.api_url, headers={"Authorization": handed})
            assert answer.status == 200, "the token that was handed over is good"
            if handed not in seen:
                seen.append(handed)
            return len(seen) == 3

        until(two_refreshes, "two refreshes", seconds=90)
        assert stage.provider.refreshes() == 2
    finally:
        serving.end()


class ServiceManager:
    """What systemd is told (sd_notify(3))."""

    def __init__(self) -> None:
        # A folder of its own: a socket's name has a hundred characters at most.
        self._folder = tempfile.TemporaryDirectory()
        self.address = f"{self._folder.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(30)
        self._socket.bind(self.address)

    def told(self) -> str:
        return self._socket.recv(4096).decode().strip()

    def end(self) -> None:
        self._socket.close()
        self._folder.cleanup()


@pytest.fixture
def manager() -> Iterator[ServiceManager]:
    manager = ServiceManager()
    yield manager
    manager.end()


def test_the_configuration_changes_while_the_gate_runs(serving: Serving, manager: ServiceManager) -> None:
    serving.plain("/one", require_login=True)
    serving.start(variables={"NOTIFY_SOCKET": manager.address})
    assert manager.told() == "READY=1"
    page = serving.stage.profile().new_page()
    page.goto(f"{serving.address}/one/", wait_until="commit")
    sign_in(page, serving, "alice")

    # What is wrong is told, and nothing changes.
    whole = (serving.folder / "freshgate.toml").read_text()
    (serving.folder / "freshgate.toml").write_text(whole.replace("address = ", "adress = "))
    serving.reload()
    serving.gate.wait_for_line(r"did you mean `address`\?")
    serving.gate.wait_for_line("is not taken: what was before stays")
    assert told(page, f"{serving.address}/one/x")["path"] == "/one/x"
    assert manager.told().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert manager.told() == "READY=1"

    serving.plain("/two", require_login=True, hand_off=["headers"])
    serving.write()
    serving.reload()
    serving.gate.wait_for_line("the configuration was read again.*apps=2")
    assert told(page, f"{serving.address}/two/")["told"]["HTTP_X_FORWARDED_USER"] == "alice"
    assert told(page, f"{serving.address}/one/x")["path"] == "/one/x"

    # What needs a restart is named, and nothing of the file is taken.
    serving.forget_apps()
    serving.plain("/three")
    serving.write(session={"idle_timeout": "1h"})
    serving.reload()
    serving.gate.wait_for_line(r"is not taken: what was before stays.*settings=.?session\b")
    assert told(page, f"{serving.address}/two/")["told"]["HTTP_X_FORWARDED_USER"] == "alice"

    serving.gate.send(signal.SIGTERM)
    assert serving.gate.wait_for_exit() == 0
    assert [manager.told() for _ in range(5)][4] == "STOPPING=1"


def test_an_assertion_is_verified_by_a_library_that_is_not_ours(serving: Serving) -> None:
    serving.plain("/wiki", require_login=True, hand_off=["assertion"])
    serving.start(access={"unverified_email": True})
    page = serving.stage.profile().new_page()
    page.goto(f"{serving.address}/wiki/", wait_until="commit")
    sign_in(page, serving, "alice")
    assertion = told(page, f"{serving.address}/wiki/")["told"]["HTTP_FRESHGATE_ASSERTION"]

    # As docs/serve.md shows it.
    with urllib.request.urlopen(f"{serving.address}/.well-known/freshgate/jwks.json", timeout=20) as answer:
        keys = JWKSet.from_json(answer.read().decode())

    def verified(audience: str) -> dict[str, Any]:
        wanted = {"iss": serving.address, "aud": audience, "exp": None, "sub": None}
        token = JWT(jwt=assertion, key=keys, algs=["ES256"], check_claims=wanted)
        claims: dict[str, Any] = json.loads(token.claims)
        return claims

    claims = verified(f"{serving.address}/wiki")
    assert (claims["sub"], claims["email"], claims["groups"]) == ("alice", "alice@example.test", ["analysts", "staff"])
    assert claims["exp"] - claims["iat"] == 60
    with pytest.raises(JWException):
        verified(serving.address)
