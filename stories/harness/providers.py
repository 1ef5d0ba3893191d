"""The OpenID providers that the stories sign in with, behind one face."""

import json
import os
import re
import shutil
import sys
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

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
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uri: str
    backchannel_logout_uri: str | None = None
    frontchannel_logout_uri: str | None = None


@dataclass(frozen=True)
class Request:
    """One request that reached the provider: `token`, `token:refresh`, `userinfo` or `revoke`."""

    endpoint: str
    status: int | None
    sub: str | None
    """Whose token it carried, as far as that is known."""
    start_ms: int
    end_ms: int | None
    fate: str
    """`in_flight`, `answered`, `cut` (by the provider), `client_left` (before there was an answer)."""


@dataclass(frozen=True)
class HighWater:
    """The most of something that there was at once, since the provider started."""

    token_requests: int
    connections: int


class Provider(ABC):
    """A provider that runs, and what a story may ask of it."""

    name: str
    process: Process
    issuer: str
    client: Client

    printed_per_token_request: str
    """The line that it prints for a token request that it has handled, as a regular expression."""
    printed_per_reuse: str
    """The line that it prints when a refresh token comes that was used before."""

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot run on this machine; nothing if it can."""
        return None

    def __init__(self, client: Client, log: Path) -> None:
        self.client = client
        self.logs = [log]
        self._start("127.0.0.1:0")

    @abstractmethod
    def command(self, listen: str) -> Sequence[str | Path]:
        """How it is started."""

    def _start(self, listen: str) -> None:
        self.process = Process(self.command(listen), self.logs[-1])
        self.issuer = self.process.wait_for_line(r"^ready (\S+)")[1]

    def start_again(self) -> None:
        """After it was stopped: at the same address, with what it has kept."""
        self.logs.append(self.logs[0].with_stem(f"{self.logs[0].stem}-{len(self.logs) + 1}"))
        self._start(urlsplit(self.issuer).netloc)

    def printed(self, pattern: str) -> int:
        """How many lines it has printed that match; what is printed outlives the process."""
        return sum(len(re.findall(pattern, log.read_text(errors="replace"), re.MULTILINE)) for log in self.logs)

    @property
    def origin(self) -> str:
        """Where its pages are; the issuer may have a path."""
        return "{0.scheme}://{0.netloc}".format(urlsplit(self.issuer))

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
    def sign_out_there(self, page: Page) -> None:
        """Does what a person does who signs out at the provider itself; no app sent her there."""

    @abstractmethod
    def requests(self, endpoint: str) -> list[Request]:
        """The requests that reached an endpoint, oldest first."""

    @abstractmethod
    def high_water(self) -> HighWater:
        """How many token requests and connections there were at the same time, at most."""

    def most_at_once(self) -> int:
        """How many token requests were on the wire at the same time, at most."""
        return self.high_water().token_requests

    @abstractmethod
    def refresh_tokens(self) -> list[str]:
        """The refresh tokens that it has handed out, oldest first."""

    @abstractmethod
    def forget_figures(self) -> None:
        """Forgets the requests so far, and counts anew."""

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
    def end_tokens_at(self, unix_seconds: int) -> None:
        """Access tokens that are issued before this moment end then."""

    @abstractmethod
    def cut_answers_for(self, users: Collection[str]) -> None:
        """Does what the next refresh of each of them asks for, and cuts the connection instead of answering."""

    @abstractmethod
    def change_user(self, user: str, **claims: Any) -> None:
        """Edits a profile at the provider."""

    @abstractmethod
    def revoke(self, user: str) -> None:
        """Revokes every refresh token of a user."""

    @abstractmethod
    def expire(self, user: str) -> None:
        """Lets the time of every token of a user be over, as after a long absence."""

    def refreshes(self) -> int:
        """How many refresh requests reached the provider."""
        return len(self.requests("token:refresh"))

    def stop(self) -> None:
        self.process.stop()


class OidcProvider(Provider):
    """node-oidc-provider: certified by the OpenID Foundation, and not written by us."""

    name = "oidc-provider"
    printed_per_token_request = r"^token(:refresh)? \d+$"
    printed_per_reuse = r"^grant\.error .* refresh token already used$"

    def __init__(
        self,
        client: Client,
        log: Path,
        token_seconds: float,
        state: Path | None = None,
        rotates: bool = True,
        registration: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`registration` is what the gate is registered with besides; `settings` are those of `server.mjs`."""
        registered: dict[str, Any] = {
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "redirect_uris": client.redirect_uris,
            "post_logout_redirect_uris": [client.post_logout_redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
        }
        if client.backchannel_logout_uri:
            registered["backchannel_logout_uri"] = client.backchannel_logout_uri
            registered["backchannel_logout_session_required"] = True
        if "client_key_file" in settings:
            del registered["client_secret"]
            registered["token_endpoint_auth_method"] = "private_key_jwt"
        registered |= registration or {}
        self._settings = settings | {
            "access_token_seconds": round(token_seconds),
            "rotate": rotates,
            "state": None if state is None else str(state),
            "users": USERS,
            "clients": [registered],
        }
        super().__init__(client, log)

    def command(self, listen: str) -> Sequence[str | Path]:
        settings = self._settings | {"port": int(listen.rpartition(":")[2])}
        folder = STORIES / "providers" / "oidc-provider"
        return [node(folder), folder / "server.mjs", json.dumps(settings)]

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

    def sign_out_there(self, page: Page) -> None:
        page.goto(f"{self.issuer}/session/end")
        self.confirm_logout(page)

    def requests(self, endpoint: str) -> list[Request]:
        return _requests(self._log()["requests"], endpoint)

    def high_water(self) -> HighWater:
        log = self._log()
        return HighWater(log["most_in_flight"], log["most_connections"])

    def refresh_tokens(self) -> list[str]:
        return list(get_json(f"{self.issuer}/_refresh_tokens"))

    def forget_figures(self) -> None:
        _send("DELETE", f"{self.issuer}/_log", None)

    def secrets(self) -> set[str]:
        return set(get_json(f"{self.issuer}/_secrets"))

    def delay_refreshes(self, milliseconds: int) -> None:
        self._script({"endpoint": "token:refresh", "delay_ms": milliseconds})

    def fail_refreshes(self, status: int, retry_after: int) -> None:
        self._script({"endpoint": "token:refresh", "status": status, "retry_after": retry_after})

    def behave(self) -> None:
        self._script()

    def end_tokens_at(self, unix_seconds: int) -> None:
        post_json(f"{self.issuer}/_end", {"at": unix_seconds})

    def cut_answers_for(self, users: Collection[str]) -> None:
        self._script({"endpoint": "token:refresh", "cut_after_handling_for": list(users)})

    def change_user(self, user: str, **claims: Any) -> None:
        post_json(f"{self.issuer}/_users", {user: claims})

    def revoke(self, user: str) -> None:
        post_json(f"{self.issuer}/_revoke", {"user": user})

    def expire(self, user: str) -> None:
        post_json(f"{self.issuer}/_expire", {"user": user})

    def _script(self, *rules: Mapping[str, Any]) -> None:
        post_json(f"{self.issuer}/_script", list(rules))

    def _log(self) -> Any:
        return get_json(f"{self.issuer}/_log")


class DevProvider(Provider):
    """Our own development provider, which can be told to misbehave."""

    name = "devidp"
    printed_per_token_request = r"handed out tokens|refused a token request"
    printed_per_reuse = r"a replaced refresh token was used"

    def __init__(
        self,
        client: Client,
        log: Path,
        token_seconds: float,
        state: Path | None = None,
        grace_seconds: int = 0,
        clients: Mapping[str, Path | None] | None = None,
        require_dpop: bool = False,
        dpop_nonce: bool = False,
    ) -> None:
        """`clients` are further ones without a secret, each with a file of its keys, if it has any."""
        self._claims = {user: dict(claims) for user, claims in USERS.items()}
        told = {"back": client.backchannel_logout_uri, "front": client.frontchannel_logout_uri}
        self._options = [
            f"--client={client.client_id}:{client.client_secret}:{','.join(client.redirect_uris)}",
            f"--post-logout-redirect-uri={client.client_id}={client.post_logout_redirect_uri}",
            f"--access-token-lifetime={round(token_seconds * 1000)}ms",
            f"--grace={grace_seconds}s",
            *(f"--{channel}channel-logout-uri={client.client_id}={uri}" for channel, uri in told.items() if uri),
            *(f"--user={user}" for user in USERS),
            *([] if state is None else [f"--state={state}"]),
            *(["--require-dpop"] if require_dpop else []),
            *(["--dpop-nonce"] if dpop_nonce else []),
        ]
        for name, keys in (clients or {}).items():
            self._options.append(f"--client={name}::{','.join(client.redirect_uris)}")
            if keys is not None:
                self._options.append(f"--client-jwks={name}={keys}")
        super().__init__(client, log)
        for user in USERS:
            self.change_user(user)

    def command(self, listen: str) -> Sequence[str | Path]:
        return [DEVIDP, "--scriptable", f"--listen={listen}", *self._options]

    @property
    def api_url(self) -> str:
        return f"{self.issuer}/api/whoami"

    def fill_in_login(self, page: Page, user: str) -> None:
        choose_dev_user(page, user)

    def cancel_login(self, page: Page) -> None:
        page.locator("#cancel").click()

    def confirm_logout(self, page: Page) -> None:
        """It shows no page where the gate sends the ID token along."""

    def sign_out_there(self, page: Page) -> None:
        page.goto(f"{self.issuer}/end_session")
        page.locator("#sign-out").click()

    def send_logout_tokens(self, user: str, **fault: Any) -> list[dict[str, Any]]:
        """Sends the client a logout token for each session of a user, with what is wrong with it; what it answered."""
        wanted = {"sub": user, "token": fault}
        deliveries = post_json(f"{self.issuer}/_script/backchannel_logout", wanted)["deliveries"]
        return [dict(delivery) for delivery in deliveries]

    def requests(self, endpoint: str) -> list[Request]:
        return _requests(self._log()["entries"], endpoint)

    def seen(self, endpoint: str) -> list[dict[str, Any]]:
        """The same with all that its log has of them."""
        return [dict(entry) for entry in self._log()["entries"] if entry["endpoint"] == endpoint]

    def replace_nonce(self) -> None:
        """From now on wants another nonce in proofs."""
        _send("POST", f"{self.issuer}/_script/replace_nonce", None)

    def rotate_keys(self, old: str) -> None:
        """From now on signs with new keys; the `old` ones it is to `keep` or to `withdraw`."""
        post_json(f"{self.issuer}/_script/rotate_keys", {"old": old})

    def high_water(self) -> HighWater:
        log = self._log()
        of_refreshes = log["in_flight"].get("token:refresh", {"high_water": 0})
        return HighWater(of_refreshes["high_water"], log["connections"]["high_water"])

    def refresh_tokens(self) -> list[str]:
        raise NotImplementedError("its log has fingerprints only")

    def forget_figures(self) -> None:
        _send("DELETE", f"{self.issuer}/_log", None)

    def secrets(self) -> set[str]:
        return set()  # its log has fingerprints only; its tokens are found by their shape

    def delay_refreshes(self, milliseconds: int) -> None:
        self.misbehave("token:refresh", delay_before_ms=milliseconds)

    def fail_refreshes(self, status: int, retry_after: int) -> None:
        self.misbehave(
            "token:refresh", respond={"status": status, "headers": {"Retry-After": str(retry_after)}, "body": {}}
        )

    def end_tokens_at(self, unix_seconds: int) -> None:
        self.misbehave("token", access_token_ends_at_ms=unix_seconds * 1000)

    def cut_answers_for(self, users: Collection[str]) -> None:
        action = {"cut": "after_handling"}
        rules = [{"endpoint": "token:refresh", "sub": user, "times": 1, "action": action} for user in users]
        post_json(f"{self.issuer}/_script", {"rules": rules})

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

    def expire(self, user: str) -> None:
        raise NotImplementedError("its tokens live as long as it was told")

    def _log(self) -> Any:
        return get_json(f"{self.issuer}/_log")


class RecordedProvider(Provider):
    """A provider that is as it is: it writes down what reaches it, can be slowed down, and that is all."""

    folder: Path
    """Where it keeps everything, and where its server program writes the requests and the secrets."""

    def __init__(self, client: Client, log: Path, **settings: Any) -> None:
        self.folder = log.parent.parent / self.name
        self._forgotten = 0
        self._settings = settings | {
            "folder": str(self.folder),
            "client": {
                "client_id": client.client_id,
                "client_secret": client.client_secret,
                "redirect_uris": client.redirect_uris,
                "post_logout_redirect_uri": client.post_logout_redirect_uri,
                "frontchannel_logout_uri": client.frontchannel_logout_uri,
            },
            "users": USERS,
        }
        super().__init__(client, log)

    def command(self, listen: str) -> Sequence[str | Path]:
        settings = self._settings | {"listen": listen}
        return [sys.executable, STORIES / "providers" / self.name / "server.py", json.dumps(settings)]

    def requests(self, endpoint: str) -> list[Request]:
        """Those that it has answered; it writes none down before."""
        return _requests(self._recorded(), endpoint)

    def most_at_once(self) -> int:
        asked = [one for endpoint in ("token", "token:refresh") for one in self.requests(endpoint)]
        return max((sum(_overlap(one, other) for other in asked) for one in asked), default=0)

    def high_water(self) -> HighWater:
        self._cannot("count connections")

    def refresh_tokens(self) -> list[str]:
        return [entry["refresh_token"] for entry in _lines(self.folder / "answers.jsonl") if "refresh_token" in entry]

    def access_tokens(self) -> list[str]:
        """The access tokens that it has handed out, oldest first."""
        return [entry["access_token"] for entry in _lines(self.folder / "answers.jsonl")]

    def forget_figures(self) -> None:
        self._forgotten += len(self._recorded())

    def secrets(self) -> set[str]:
        entries = [*_lines(self.folder / "forms.jsonl"), *_lines(self.folder / "answers.jsonl")]
        return {secret for entry in entries for secret in entry.values()}

    def delay_refreshes(self, milliseconds: int) -> None:
        (self.folder / "delay_ms").write_text(str(milliseconds))

    def behave(self) -> None:
        (self.folder / "delay_ms").unlink(missing_ok=True)

    def fail_refreshes(self, status: int, retry_after: int) -> None:
        self._cannot("fail when told to")

    def end_tokens_at(self, unix_seconds: int) -> None:
        self._cannot("end all tokens at one moment")

    def cut_answers_for(self, users: Collection[str]) -> None:
        self._cannot("cut a connection")

    def _recorded(self) -> list[dict[str, Any]]:
        return _lines(self.folder / "requests.jsonl")[self._forgotten :]

    def _cannot(self, what: str) -> NoReturn:
        raise NotImplementedError(f"{self.name} cannot {what}")


class DjangoProvider(RecordedProvider):
    """django-oauth-toolkit: what a team has whose accounts are in a Django application.

    A refresh kills the access token before it, and a refresh token that is used twice kills its whole family.
    """

    name = "django-oauth-toolkit"

    def __init__(
        self, client: Client, log: Path, token_seconds: float, rotates: bool = True, grace_seconds: int = 0
    ) -> None:
        """With a grace period, a refresh token that is used again yields once more what it yielded before."""
        lifetime = round(token_seconds)
        super().__init__(client, log, access_token_seconds=lifetime, rotates=rotates, grace_seconds=grace_seconds)

    @property
    def api_url(self) -> str:
        return f"{self.origin}/_api"

    def fill_in_login(self, page: Page, user: str) -> None:
        page.locator("input[name=username]").fill(user)
        page.locator("input[name=password]").fill("any")
        page.get_by_role("button", name="Sign in").click()

    def cancel_login(self, page: Page) -> None:
        self._cannot("be left: its login page has no way back")

    def confirm_logout(self, page: Page) -> None:
        page.get_by_role("button", name="Logout").click()

    def sign_out_there(self, page: Page) -> None:
        page.goto(f"{self.issuer}/logout/")
        self.confirm_logout(page)

    def change_user(self, user: str, **claims: Any) -> None:
        """Names and addresses are all that Django has of a user."""
        post_json(f"{self.origin}/_users", {user: claims})

    def revoke(self, user: str) -> None:
        post_json(f"{self.origin}/_revoke", {"user": user})

    def expire(self, user: str) -> None:
        post_json(f"{self.origin}/_expire", {"user": user})

    def cut_answers_for(self, users: Collection[str]) -> None:
        (self.folder / "cut").write_text(json.dumps(list(users)))


class LemonProvider(RecordedProvider):
    """LemonLDAP::NG, which French administrations have.

    Its refresh tokens stay the same, and no answer to a refresh repeats them. They end with the session there.
    """

    name = "lemonldap-ng"

    @classmethod
    def missing(cls) -> str | None:
        installed = shutil.which("starman") and Path("/usr/share/lemonldap-ng/portal").is_dir()
        return None if installed else "LemonLDAP::NG is not installed; scripts/test --stories says how"

    def __init__(self, client: Client, log: Path, token_seconds: float) -> None:
        super().__init__(client, log, access_token_seconds=round(token_seconds))

    @property
    def api_url(self) -> str:
        return f"{self.issuer}/oauth2/userinfo"

    def fill_in_login(self, page: Page, user: str) -> None:
        page.locator("input[name=user]").fill(user)
        page.locator("input[name=password]").fill(user)
        page.locator("form button[type=submit]").click()

    def cancel_login(self, page: Page) -> None:
        self._cannot("be left: its login page has no way back")

    def confirm_logout(self, page: Page) -> None:
        page.locator("form#form button[type=submit].btn-success").click()

    def sign_out_there(self, page: Page) -> None:
        page.goto(f"{self.issuer}/?logout=1")

    def change_user(self, user: str, **claims: Any) -> None:
        self._cannot("tell a session of changed claims: it keeps those of the login")

    def revoke(self, user: str) -> None:
        """Deletes the user's sessions, and what came of them: codes and tokens name the session alone."""
        for file in self._sessions(user):
            file.unlink()

    def expire(self, user: str) -> None:
        for file, entry in self._sessions(user).items():
            file.write_text(json.dumps(entry | {"_utime": 1}))

    def _sessions(self, user: str) -> dict[Path, dict[str, Any]]:
        """The files of a user's sessions, and of what came of them."""
        files = [file for file in (self.folder / "sessions").iterdir() if file.is_file()]
        kept = {file: json.loads(file.read_text()) for file in files}
        own = {file.name for file, entry in kept.items() if entry.get("_user") == user}
        return {file: entry for file, entry in kept.items() if own & {file.name, entry.get("user_session_id")}}


def _lines(file: Path) -> list[dict[str, Any]]:
    """What a file of JSON lines holds; nothing if nobody has written one yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _overlap(one: Request, other: Request) -> bool:
    """Whether the other was on the wire when the one came."""
    return other.end_ms is not None and other.start_ms <= one.start_ms <= other.end_ms


def node(folder: Path) -> str | Path:
    """The Node.js that the provider wants, as its packages brought it; where there is none, the system's."""
    return next(iter(sorted(folder.glob("node_modules/node-*/bin/node"))), "node")


def _requests(entries: Sequence[Mapping[str, Any]], endpoint: str) -> list[Request]:
    return [
        Request(endpoint, one.get("status"), one.get("sub"), one["start_ms"], one.get("end_ms"), one["fate"])
        for one in entries
        if one["endpoint"] == endpoint
    ]


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
