"""The OpenID providers that the stories sign in with, behind one face."""

import json
import os
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from .process import Process

STORIES = Path(__file__).parent.parent
DEVIDP = Path(os.environ.get("FRESHGATE_DEVIDP", STORIES.parent / "target" / "debug" / "freshgate-devidp"))

USERS: dict[str, dict[str, Any]] = {
    "alice": {"name": "Alice Example", "email": "alice@example.test", "groups": ["analysts", "staff"]},
    "bob": {"name": "Bob Example", "email": "bob@example.test", "groups": ["staff"]},
}


@dataclass(frozen=True)
class Client:
    """The gate, as a provider has registered it."""

    client_id: str
    client_secret: str
    redirect_uri: str
    post_logout_redirect_uri: str


@dataclass(frozen=True)
class Request:
    """One request that reached the provider: `token`, `token:refresh` or `userinfo`."""

    endpoint: str
    status: int | None


class Provider(ABC):
    """A provider that runs, and what a story may ask of it."""

    name: str
    process: Process
    issuer: str
    client: Client

    @property
    def metadata_url(self) -> str:
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"

    @property
    @abstractmethod
    def api_url(self) -> str:
        """A small API: tells who the bearer of a live access token is, and answers 401 to any other token."""

    @abstractmethod
    def fill_in_login(self, page: Page, user: str) -> None:
        """Does what a person does on the provider's login page."""

    @abstractmethod
    def cancel_login(self, page: Page) -> None:
        """Does what a person does who changed her mind on the login page."""

    @abstractmethod
    def confirm_logout(self, page: Page) -> None:
        """Does what a person does on the provider's logout page, where it shows one."""

    @abstractmethod
    def requests(self, endpoint: str) -> list[Request]:
        """The requests that reached an endpoint, oldest first."""

    @abstractmethod
    def most_at_once(self) -> int:
        """How many token requests were on the wire at the same time, at most."""

    @abstractmethod
    def secrets(self) -> set[str]:
        """Every token, code and verifier that passed through the provider."""

    @abstractmethod
    def delay_refreshes(self, milliseconds: int) -> None:
        """From now on takes its time with every refresh."""

    @abstractmethod
    def fail_refreshes(self, status: int, retry_after: int) -> None:
        """From now on answers every refresh with this status."""

    @abstractmethod
    def behave(self) -> None:
        """From now on does everything right again."""

    @abstractmethod
    def change_user(self, user: str, **claims: Any) -> None:
        """Edits a profile at the provider."""

    @abstractmethod
    def revoke(self, user: str) -> None:
        """Revokes every refresh token of a user."""

    def refreshes(self) -> int:
        """How many refresh requests reached the provider."""
        return len(self.requests("token:refresh"))

    def stop(self) -> None:
        self.process.stop()


class OidcProvider(Provider):
    """node-oidc-provider: certified by the OpenID Foundation, and not written by us."""

    name = "oidc-provider"

    def __init__(
        self,
        client: Client,
        log: Path,
        token_seconds: float,
        registration: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`registration` is what the gate is registered with besides; `settings` are those of `server.mjs`."""
        self.client = client
        registered = {
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "redirect_uris": [client.redirect_uri],
            "post_logout_redirect_uris": [client.post_logout_redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
        }
        if "client_key_file" in settings:
            del registered["client_secret"]
            registered["token_endpoint_auth_method"] = "private_key_jwt"
        registered |= registration or {}
        settings |= {"access_token_seconds": token_seconds, "users": USERS, "clients": [registered]}
        folder = STORIES / "providers" / "oidc-provider"
        self.process = Process(["node", folder / "server.mjs", json.dumps(settings)], log, cwd=folder)
        self.issuer = self.process.wait_for_line(r"^ready (\S+)")[1]

    @property
    def api_url(self) -> str:
        return f"{self.issuer}/_api"

    def fill_in_login(self, page: Page, user: str) -> None:
        page.locator("input[name=login]").fill(user)
        page.locator("input[name=password]").fill("any")
        page.locator("button[type=submit]").click()

    def cancel_login(self, page: Page) -> None:
        page.get_by_role("link", name="Cancel").click()

    def confirm_logout(self, page: Page) -> None:
        page.get_by_role("button", name="Yes, sign me out").click()

    def requests(self, endpoint: str) -> list[Request]:
        entries = self._log()["requests"]
        return [Request(one["endpoint"], one.get("status")) for one in entries if one["endpoint"] == endpoint]

    def most_at_once(self) -> int:
        return int(self._log()["most_in_flight"])

    def secrets(self) -> set[str]:
        return set(self._log()["secrets"])

    def delay_refreshes(self, milliseconds: int) -> None:
        self._script({"endpoint": "token:refresh", "delay_ms": milliseconds})

    def fail_refreshes(self, status: int, retry_after: int) -> None:
        self._script({"endpoint": "token:refresh", "status": status, "retry_after": retry_after})

    def behave(self) -> None:
        self._script()

    def change_user(self, user: str, **claims: Any) -> None:
        post_json(f"{self.issuer}/_users", {user: claims})

    def revoke(self, user: str) -> None:
        post_json(f"{self.issuer}/_revoke", {"user": user})

    def _script(self, *rules: Mapping[str, Any]) -> None:
        post_json(f"{self.issuer}/_script", list(rules))

    def _log(self) -> Any:
        return get_json(f"{self.issuer}/_log")


class DevProvider(Provider):
    """Our own development provider, which can be told to misbehave."""

    name = "devidp"

    def __init__(self, client: Client, log: Path, token_seconds: float) -> None:
        self.client = client
        self._claims = {user: dict(claims) for user, claims in USERS.items()}
        self.process = Process(
            [
                DEVIDP,
                "--scriptable",
                "--listen=127.0.0.1:0",
                f"--client={client.client_id}:{client.client_secret}:{client.redirect_uri}",
                f"--post-logout-redirect-uri={client.client_id}={client.post_logout_redirect_uri}",
                f"--access-token-lifetime={round(token_seconds * 1000)}ms",
                *(f"--user={user}" for user in USERS),
            ],
            log,
        )
        self.issuer = self.process.wait_for_line(r"^ready (\S+)")[1]
        for user in USERS:
            self.change_user(user)

    @property
    def api_url(self) -> str:
        return f"{self.issuer}/api/whoami"

    def fill_in_login(self, page: Page, user: str) -> None:
        choose_dev_user(page, user)

    def cancel_login(self, page: Page) -> None:
        page.locator("#cancel").click()

    def confirm_logout(self, page: Page) -> None:
        """It shows no page where the gate sends the ID token along."""

    def requests(self, endpoint: str) -> list[Request]:
        entries = self._log()["entries"]
        return [Request(one["endpoint"], one["status"]) for one in entries if one["endpoint"] == endpoint]

    def most_at_once(self) -> int:
        in_flight = self._log()["in_flight"]
        return sum(counts["high_water"] for endpoint, counts in in_flight.items() if endpoint == "token:refresh")

    def secrets(self) -> set[str]:
        return set()  # its log has fingerprints only; its tokens are found by their shape

    def delay_refreshes(self, milliseconds: int) -> None:
        self.misbehave("token:refresh", delay_before_ms=milliseconds)

    def fail_refreshes(self, status: int, retry_after: int) -> None:
        self.misbehave(
            "token:refresh", respond={"status": status, "headers": {"Retry-After": str(retry_after)}, "body": {}}
        )

    def misbehave(self, endpoint: str, times: int | None = None, **action: Any) -> None:
        """From now on does what `action` says with requests to an endpoint; see the provider's script."""
        rule = {"endpoint": endpoint, "action": action} | ({} if times is None else {"times": times})
        post_json(f"{self.issuer}/_script", rule)

    def behave(self) -> None:
        _send("DELETE", f"{self.issuer}/_script", None)

    def change_user(self, user: str, **claims: Any) -> None:
        self._claims[user] |= claims
        post_json(f"{self.issuer}/_script/users", {"sub": user, "claims": self._claims[user]})

    def revoke(self, user: str) -> None:
        post_json(f"{self.issuer}/_script/revoke", {"sub": user})

    def _log(self) -> Any:
        return get_json(f"{self.issuer}/_log")


def choose_dev_user(page: Page, user: str) -> None:
    """Does what a person does on the development provider's login page."""
    page.locator(f"button[name=user][value={user}]").click()


def get_json(url: str) -> Any:
    return _send("GET", url, None)


def post_json(url: str, body: Any) -> Any:
    return _send("POST", url, body)


def _send(method: str, url: str, body: Any) -> Any:
    request = urllib.request.Request(url, method=method)
    if body is not None:
        request.add_header("content-type", "application/json")
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None
