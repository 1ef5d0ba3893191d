"""How the gate is a client of the provider: by what it proves itself, and how it sends its requests."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.stage import Stage

pytestmark = pytest.mark.providers("oidc-provider")


@pytest.mark.parametrize("form", ["pem", "json"])
def test_the_gate_proves_itself_with_a_key(stage: Stage, form: str) -> None:
    key = stage.folder / f"client-key.{form}"
    stage.provider_with(client_key_file=str(key)).prepare()
    auth = stage.project.auth(stage.provider)
    del auth["client_secret"]
    stage.project.write_secrets(auth=auth, api={"url": stage.provider.api_url})
    # A PEM has no name for the key, and the provider finds it without.
    stage.project.write_settings(default={"client_key_file": str(key)})
    stage.start_gate()
    tab = stage.tab().open().is_signed_out().sign_in("alice")

    assert tab.refresh().startswith("new token")
    assert tab.refresh().startswith("new token"), "each assertion is one of its own"

    assert tab.call_api() == "200"
    tab.log_out()


@pytest.mark.parametrize(
    ("provider", "settings"),
    [
        ({"require_par": True}, {}),
        ({"registration": {"require_pushed_authorization_requests": True}}, {"par": "always"}),
    ],
    ids=["all", "one"],
)
def test_requests_are_left_with_a_provider_that_requires_it(
    stage: Stage, provider: dict[str, Any], settings: dict[str, str]
) -> None:
    stage.provider_with(**provider).prepare()
    stage.project.write_settings(default=settings)
    stage.start_gate()
    tab = stage.tab().open("/?report=42").is_signed_out()
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url) if "/auth?" in request.url else None)

    tab.sign_in("alice")

    tab.shows("sub", "alice").shows("query", '{"report": "42"}')
    (address,) = asked
    assert set(parse_qs(urlsplit(address).query)) == {"client_id", "request_uri"}
    assert tab.refresh().startswith("new token")


BOUND: dict[str, dict[str, Any]] = {
    "devidp": {"require_dpop": True},
    "oidc-provider": {"registration": {"dpop_bound_access_tokens": True}},
}


@pytest.mark.providers("devidp", "oidc-provider")
@pytest.mark.parametrize("nonce", [False, True], ids=["no nonce", "nonce"])
def test_tokens_are_bound_to_a_key_of_the_session(stage: Stage, provider_name: str, nonce: bool) -> None:
    # The provider itself is the API: it verifies the proofs, those of the gate and those of the app.
    stage.provider_with(dpop_nonce=nonce, **BOUND[provider_name]).prepare(token_seconds=3600)
    api = stage.provider.api_url if provider_name == "devidp" else f"{stage.provider.issuer}/me"
    stage.project.write_secrets(auth=stage.project.auth(stage.provider), api={"url": api})
    stage.project.write_settings(default={"dpop": "always"})
    stage.start_gate()
    tab = stage.tab().open().is_signed_out().sign_in("alice").shows("name", "Alice Example")

    tab.click("call_with_proof").shows("proven", "1: 200")
    assert tab.refresh().startswith("new token")
    tab.click("call_with_proof").shows("proven", "2: 200")
    assert tab.call_api() in {"400", "401"}, "without a proof it is good for nothing"
    assert tab.refresh().startswith("new token")
    asked = stage.provider.requests("userinfo")
    assert asked and all(request.status in {200, 400, 401} for request in asked)
    tab.log_out()
