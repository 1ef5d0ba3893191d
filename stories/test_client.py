"""How the gate is a client of the provider: by what it proves itself, and how it sends its requests."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.stage import Stage

pytestmark = pytest.mark.providers("oidc-provider")


@pytest.mark.parametrize("form", ["pem", "json"])
def test_the_gate_proves_itself_with_a_key(stage: Stage, form: str) -> None:
    key = stage.folder / f"client-key.{form}"
    stage.prepare(provider={"client_key_file": str(key)})
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
    stage.prepare(provider=provider)
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
