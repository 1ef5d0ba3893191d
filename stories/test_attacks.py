"""Attacks that gates like ours have fallen to, each tried on the gate as a program, byte for byte.

Behind the gate is no Streamlit but a mirror, which says what reached it. docs/security.md has what freshgate does about
each and which of its parts tests that; here the parts are together.
"""

import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from conftest import Verdicts
from harness.raw import head, hostile_server, send
from harness.rig import SESSION_COOKIE, Rig, code_of
from harness.visitor import NAVIGATION, Visitor

SETTINGS = """
[[access.rule]]
path = "/admin"
groups = ["analysts"]

[[access.rule]]
path = "/company"
email_domains = ["example.test"]
"""

HOSTILE = [f"{endpoint}-{how}" for endpoint in ("jwks", "token", "userinfo") for how in ("bomb", "endless")]
EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("attacks")
    yield from Rig.on_a_stage(folder, {name: {} for name in HOSTILE}, settings=SETTINGS, app="mirror")


@pytest.fixture(autouse=True)
def the_gate_lives_on(rig: Rig) -> Iterator[None]:
    """Whatever was tried: the gate is there, serves, and has not panicked."""
    yield
    assert send(rig.gate, head(rig.gate, "/alive")).status == 200
    assert "panicked" not in rig.stage.gate.process.output()


class Mirror:
    """What has reached the app since this was made."""

    def __init__(self, rig: Rig) -> None:
        self._file = rig.stage.project.folder / "requests.jsonl"
        self._before = len(self._lines())

    def _lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    def requests(self) -> list[dict[str, Any]]:
        return [dict(json.loads(line)) for line in self._lines()[self._before :]]


def fields(seen: dict[str, Any], *names: str) -> list[str]:
    """The values of header fields that the app may take for one of these, as CGI and WSGI would."""
    wanted = {name.lower().replace("_", "-") for name in names}
    pairs = [line.partition(":") for line in seen["headers"]]
    return [value.strip() for name, _, value in pairs if name.strip().lower().replace("_", "-") in wanted]


def cookie_of(visitor: Visitor) -> str:
    return f"Cookie: {SESSION_COOKIE}={visitor.cookie(SESSION_COOKIE)}"


IDENTITY = [
    "Freshgate-Session",
    "Remote-User",
    "Forwarded",
    "Proxy",
    "X-Auth-Request-Email",
    "X-Auth-Request-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-User",
    "X-Original-URL",
    "X-Real-IP",
    "X-Remote-User",
    "X-Rewrite-URL",
]


def test_identity_headers(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2025-64484: `_` for `-`."""
    spellings = [
        spelt
        for name in IDENTITY
        for spelt in (name, name.lower(), name.upper().replace("-", "_"), name.replace("-", "_", 1))
    ]
    lines = [f"{spelt}: mallory" for spelt in spellings]
    for who in ([], [cookie_of(rig.sign_in())]):
        seen = json.loads(send(rig.gate, head(rig.gate, "/", *lines, *who)).body)
        assert "mallory" not in str(seen["headers"])
        assert len(fields(seen, "Freshgate-Session")) == len(who)
    verdicts.add("identity headers", f"{len(spellings)} spellings of {len(IDENTITY)} names", "none reaches the app")


def test_headers_that_connection_names(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2025-48865: what `Connection` names is removed on the way, so an attacker would name the gate's own."""
    visitor = rig.sign_in()
    forwarded = "X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto"
    named = f"Connection: close, Freshgate-Session, {forwarded}, Cookie, Host, X-Mine"
    lines = [cookie_of(visitor), named, "X-Mine: hop by hop", "Freshgate-Session: mallory"]
    seen = json.loads(send(rig.gate, head(rig.gate, "/", *lines, close=False)).body)
    (handle,) = fields(seen, "Freshgate-Session")
    assert handle not in ("", "mallory")
    for name in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Host"):
        assert len(fields(seen, name)) == 1, name
    assert fields(seen, "X-Mine", "Connection") == []
    verdicts.add(
        "Connection", "names the gate's own headers", "they reach the app; what it names of the client's does not"
    )


def test_trailers(rig: Rig, verdicts: Verdicts) -> None:
    sent = head(rig.gate, "/", "Transfer-Encoding: chunked", "Trailer: Freshgate-Session, X-Sum", method="POST")
    seen = json.loads(send(rig.gate, sent + b"3\r\nabc\r\n0\r\nfreshgate_session: mallory\r\nX-Sum: 1\r\n\r\n").body)
    assert "mallory" not in str(seen) and seen["body"].startswith("abc")
    verdicts.add("trailers", "an identity header after the body", "it does not reach the app")


def test_forwarded_headers(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2026-40575, and what every proxy is asked to believe. No proxy is trusted here."""
    lies = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Uri": "/_stcore/health",
        "X-Forwarded-Method": "OPTIONS",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Server": "evil.example",
        "X-Original-Uri": "/_stcore/health",
        "Forwarded": 'for=203.0.113.7;host="evil.example";proto=https',
    }
    lines = [f"{name}: {value}" for name, value in lies.items()]
    seen = json.loads(send(rig.gate, head(rig.gate, "/", *lines)).body)
    assert fields(seen, "X-Forwarded-For") == ["127.0.0.1"]
    assert fields(seen, "X-Forwarded-Host") == [urlsplit(rig.gate).netloc]
    assert fields(seen, "X-Forwarded-Proto") == ["http"]
    for lie in ("evil", "203.0.113.7", "/_stcore/health", "443"):
        assert not [line for line in seen["headers"] if lie in line and not line.lower().startswith("host:")], lie

    mirror = Mirror(rig)
    assert send(rig.gate, head(rig.gate, "/admin", *lines)).status == 401
    navigation = [f"{name}: {value}" for name, value in NAVIGATION.items()]
    to_login = send(rig.gate, head(rig.gate, "/admin", *lines, *navigation)).header("Location")
    begun = send(rig.gate, head(rig.gate, "/auth/login", *lines, *navigation)).header("Location") or ""
    assert to_login == "/auth/login?next=%2Fadmin"
    assert parse_qs(urlsplit(begun).query)["redirect_uri"] == [f"{rig.gate}/oauth2callback"]
    rig.stage.remember(*parse_qs(urlsplit(begun).query)["state"])
    assert mirror.requests() == []
    verdicts.add(
        "X-Forwarded-*", "whose address, host, scheme and path it is", "believed by nobody; 401 where login is needed"
    )


def test_health_checks(rig: Rig, verdicts: Verdicts) -> None:
    mirror = Mirror(rig)
    for agent in ("kube-probe/1.32", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Amazon-Route53-Health-Check-Service"):
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            sent = head(rig.gate, "/admin", f"User-Agent: {agent}", "Content-Length: 0", method=method)
            assert send(rig.gate, sent).status == 401, (agent, method)
    assert mirror.requests() == []
    verdicts.add("health checks", "user agents of health checks, any method", "401; nothing reaches the app")


# What programs may read as /admin.
ADMIN = [
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?/_stcore/health",
    "/admin?x=/../_stcore/health",
    "/admin#/_stcore/health",
    "/admin%23/_stcore/health",
    "/admin%3f/_stcore/health",
    "/admin;/_stcore/health",
    "/admin;jsessionid=1",
    "//admin",
    "///admin",
    "/./admin",
    "/x/../admin",
    "/x//../admin",
    "/_stcore/health/../../admin",
    "/_stcore/health/..;/../admin",
    "/_stcore/health%2f..%2f..%2fadmin",
    "/x/%2e%2e/admin",
    "/x/%252e%252e/admin",
    "/x/..%2fadmin",
    "/x/..%5cadmin",
    "/x\\..\\admin",
    "\\admin",
    "/%61dmin",
    "/%2561dmin",
    "/%2fadmin",
    "/admin%2f",
    "/admin%2fx",
    "/admin%00",
    "/admin%20",
    "/admin%09",
    "/admin%0a",
    "/admin.",
    "/ADMIN",
    "/aDmIn/x",
    "/%c1%a1dmin",
    "/%u0061dmin",
    "admin",
    "http://{host}/admin",
    "http://evil.example/admin",
    "HTTP://{host}//admin",
]


@pytest.mark.parametrize("who", ["anonymous", "not an admin"])
def test_spellings_of_a_protected_path(rig: Rig, verdicts: Verdicts, who: str) -> None:
    lines = [] if who == "anonymous" else [cookie_of(rig.sign_in("bob"))]
    websocket = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Origin: {rig.gate}"]
    websocket.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    mirror, seen = Mirror(rig), set()
    for spelling in ADMIN:
        target = spelling.format(host=urlsplit(rig.gate).netloc)
        for more in ([], websocket):
            answer = send(rig.gate, head(rig.gate, target, *lines, *more, close=not more), until_closed=False)
            seen.add(answer.status)
            assert answer.status in ({400, 401} if who == "anonymous" else {400, 403}), (target, answer.data[:200])
    assert mirror.requests() == [], "none of them reaches the app"
    said = ", ".join(sorted(str(status) for status in seen))
    verdicts.add(
        "skipping a rule", f"/admin in {len(ADMIN)} spellings, {who}, sockets too", f"{said}; nothing reaches the app"
    )


EMAILS: list[tuple[str, object, bool]] = [
    ("alice@example.test", True, True),
    ("alice@EXAMPLE.test", True, True),
    ("mallory@evil.example@example.test", True, False),
    ("mallory@example.test@evil.example", True, False),
    ('"mallory@evil.example"@example.test', True, False),
    ("mallory@evil.example,alice@example.test", True, False),
    ("mallory@evil.example alice@example.test", True, False),
    ("mallory@sub.example.test", True, False),
    ("mallory@notexample.test", True, False),
    ("mallory@example.test.evil.example", True, False),
    ("mallory@example.test.", True, False),
    ("mallory@\uff45xample.test", True, False),
    ("mallory@example.test\n", True, False),
    ("mallory@example.test\x00", True, False),
    ("@example.test", True, False),
    ("example.test", True, False),
    ("alice@example.test", False, False),
    ("alice@example.test", "false", False),
    ("alice@example.test", None, False),
]


def test_email_addresses(rig: Rig, verdicts: Verdicts) -> None:
    mirror = Mirror(rig)
    for email, verified, let_in in EMAILS:
        rig.provider.change_user("alice", email=email, email_verified=verified)
        try:
            answer = rig.sign_in().send("GET", f"{rig.gate}/company", {})
        finally:
            rig.provider.change_user("alice", email="alice@example.test", email_verified=True)
        assert answer.status == (200 if let_in else 403), (email, verified)
    good = sum(let_in for _, _, let_in in EMAILS)
    assert len(mirror.requests()) == good
    verdicts.add(
        "e-mail addresses",
        f"{len(EMAILS) - good} with several @, look-alikes, unverified",
        "403 where a domain is asked for",
    )


def test_session_fixation(rig: Rig, verdicts: Verdicts) -> None:
    mallory = rig.sign_in("bob")
    planted = [secrets.token_urlsafe(32), mallory.cookie(SESSION_COOKIE) or ""]
    for value in planted:
        victim = Visitor(rig.gate)
        victim.plant(SESSION_COOKIE, value)
        assert rig.log_in(victim).status == 303
        assert rig.claims(victim)["sub"] == "alice"
        assert victim.cookie(SESSION_COOKIE) != value
        attacker = Visitor(rig.gate)
        attacker.plant(SESSION_COOKIE, value)
        assert not rig.is_signed_in(attacker)
    verdicts.add(
        "session fixation",
        "a session id, and a session, planted before a login",
        "a new id; the planted one is nobody's",
    )


def test_a_login_of_another_browser(rig: Rig, verdicts: Verdicts) -> None:
    """Login CSRF: the attacker begins a login and has the victim finish it."""
    attacker, victim = Visitor(rig.gate), Visitor(rig.gate)
    answer = rig.finish(victim, rig.begin(attacker, user="bob"))
    assert (answer.status, code_of(answer)) == (400, "login_expired")
    assert not rig.is_signed_in(victim)
    verdicts.add("login CSRF", "the end of a login that another browser began", "400 login_expired; not signed in")


DESTINATIONS = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/%09/evil.example",
    "/%5cevil.example",
    "/%2f%2fevil.example",
    "/%252fevil.example",
    "/..//evil.example",
    "/x/..//evil.example",
    "https:evil.example",
    "https:/evil.example",
    EVIL,
    "{gate}@evil.example/",
    "{gate}.evil.example/",
    "javascript:alert(1)",
    "data:text/html,x",
    "/\r\nLocation: https://evil.example",
    "/auth/logout",
]


def test_open_redirects(rig: Rig, verdicts: Verdicts) -> None:
    for destination in DESTINATIONS:
        wanted = destination.format(gate=rig.gate)
        for query in ({"next": wanted}, {"iss": rig.provider.issuer, "target_link_uri": wanted}):
            visitor = Visitor(rig.gate)
            begun = visitor.navigate(f"{rig.gate}/auth/login?{urlencode(query)}", "cross-site")
            came = rig.finish(visitor, visitor.navigate(f"{begun.location}&auto_login=alice", "cross-site"))
            assert came.headers["Location"] in ("/", "/%252fevil.example"), (wanted, came.headers["Location"])
    navigation = [f"{name}: {value}" for name, value in NAVIGATION.items()]
    for target in ("//evil.example/admin/..", "//evil.example", "/admin//evil.example", "/\\evil.example"):
        location = send(rig.gate, head(rig.gate, target, *navigation)).header("Location") or "/"
        assert location.startswith("/") and not location.startswith(("//", "/\\")), location
    verdicts.add(
        "open redirects", f"{len(DESTINATIONS)} ways to name another site, after a login", "303 to a page of the app"
    )


def test_cookies(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2024-24814, CVE-2023-28625."""
    good = rig.sign_in().cookie(SESSION_COOKIE) or ""
    many = "; ".join(f"c{number}=x" for number in range(4000))
    for value, expected in [
        (f"{SESSION_COOKIE}={good}", 200),
        (f"{many}; {SESSION_COOKIE}={good}", 200),
        (many, 401),
        ("; ".join([f"{SESSION_COOKIE}={good[:-1]}x"] * 500), 401),
        ("; ".join(f"freshgate-login-{number}={'A' * 60}" for number in range(500)), 401),
        (f"{SESSION_COOKIE}=" + "A" * 40_000, 401),
        (f'{SESSION_COOKIE}="{good}"', 401),
        ("=" * 30_000, 401),
        (";" * 30_000, 401),
        ('"' * 30_000, 401),
        ("\xff\xfe" * 10_000, 401),
        (f"{SESSION_COOKIE}=\xff", 401),
        ("A" * 1_000_000, 431),
    ]:
        answer = send(rig.gate, head(rig.gate, "/auth/user", f"Cookie: {value}"))
        assert answer.status == expected, (value[:80], answer.data[:100])
        for path in ("/auth/login", "/oauth2callback?code=a&state=b", "/auth/logout"):
            answer = send(rig.gate, head(rig.gate, path, f"Cookie: {value}"))
            assert answer.status is not None and answer.status < 500, (path, value[:80])
    verdicts.add("cookies", "thousands, mangled, without end", "signed in by the right one alone; 431 above 64 KB")


def test_empty_posts(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2025-3891."""
    paths = [
        f"/auth/{name}" for name in ("login", "logout", "refresh", "user", "backchannel-logout", "frontchannel-logout")
    ]
    seen = set()
    for path in (*paths, "/oauth2callback", "/auth", "/auth/", "/auth/unknown/../login"):
        for lines in (
            [],
            ["Content-Length: 0"],
            ["Content-Length: 0", "Content-Type: application/x-www-form-urlencoded"],
        ):
            answer = send(rig.gate, head(rig.gate, path, *lines, method="POST"))
            seen.add(answer.status)
            assert answer.status in (200, 400, 403, 405), (path, answer.data[:100])
    verdicts.add("empty POST", "to every route of the gate", "400, 403 or 405; the gate lives on")


def test_content_before_authentication(rig: Rig, verdicts: Verdicts) -> None:
    mirror = Mirror(rig)
    for lines, body in [
        (["Content-Length: 10000000", "Expect: 100-continue"], b""),
        (["Content-Length: 10000000"], b"x" * 10_000_000),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
    ]:
        answer = send(rig.gate, head(rig.gate, "/admin/upload", *lines, method="POST") + body)
        assert (answer.status, answer.answers) == (401, 1), answer.data[:100]
        assert json.loads(answer.body)["error"] == "not_signed_in"
    assert mirror.requests() == []
    verdicts.add("content before auth", "bodies of 10 MB, Expect: 100-continue", "401 at once; nothing reaches the app")


SCRIPT = "<script>alert(1)</script>"


def test_scripts_in_pages(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2021-32792."""
    rig.provider.change_user("bob", email=f"{SCRIPT}@example.test", name=SCRIPT)
    bob = rig.sign_in("bob")
    rig.provider.change_user("bob", email="bob@example.test", name="Bob Example")
    stranger = Visitor(rig.gate)
    script = quote(SCRIPT)
    begun = parse_qs(urlsplit(stranger.navigate(f"{rig.gate}/auth/login").location).query)
    rig.stage.remember(*begun["state"])
    denied = urlencode(
        {"error": SCRIPT, "error_description": SCRIPT, "state": begun["state"][0], "iss": rig.provider.issuer}
    )
    for visitor, path, status in [
        (stranger, f"/auth/login?provider={script}", 404),
        (stranger, f"/auth/login?prepared={script}", 400),
        (stranger, f"/auth/login?iss={script}", 404),
        (stranger, f"/oauth2callback?code={script}&state={script}", 400),
        (stranger, f"/oauth2callback?{denied}", 403),
        (bob, f"/admin/{script}?{script}", 403),
        (bob, "/admin/%22%3e%3cimg%20src=x%20onerror=alert(1)%3e", 403),
    ]:
        answer = visitor.navigate(rig.gate + path)
        assert answer.status == status, (path, answer.status)
        assert "<script>alert" not in answer.body and "<img" not in answer.body, path
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy, policy
    verdicts.add(
        "scripts in pages", "in names, addresses, parameters and the provider's words", "escaped; CSP allows none"
    )


def test_sealed_cookies(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2021-32791, CVE-2026-47775: a static IV, a padding oracle. What a browser carries during a login."""
    flows = []
    for _ in range(2):
        visitor = Visitor(rig.gate)
        way_back = rig.begin(visitor)
        (flow,) = [name for name in visitor.cookies() if name.startswith("freshgate-login")]
        flows.append((visitor, way_back, flow, visitor.cookie(flow) or ""))
    (_, _, _, first), (visitor, way_back, flow, sealed) = flows
    key = next(at for at, (one, other) in enumerate(zip(first, sealed, strict=False)) if one != other)
    assert key < 40, "when it was made, and the name of the key"
    blocks = [{text[at : at + 6] for at in range(key, len(text) - 6)} for text in (first, sealed)]
    assert not blocks[0] & blocks[1], "nothing else of one login looks like anything of another"

    said = set()
    # Before the dot stands when it was made, for the gate to tell which cookie is the oldest.
    for at in range(sealed.index(".") + 1, len(sealed), 7):
        other = "A" if sealed[at] != "A" else "B"
        for changed in (sealed[:at] + other + sealed[at + 1 :], sealed[:at]):
            visitor.plant(flow, changed)
            answer = visitor.navigate(way_back.location, "cross-site")
            said.add((answer.status, code_of(answer)))
    assert said == {(400, "login_expired")}, "the same words, wherever a bit is wrong"
    assert not rig.is_signed_in(visitor)
    verdicts.add(
        "sealed cookies", "a login's, with bits wrong and cut off anywhere", "400 login_expired each time, nothing else"
    )


def test_tokens_that_are_no_session(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2022-29226: something that looks like a token is there, so somebody must be signed in."""
    over = rig.sign_in("bob")
    ended = over.cookie(SESSION_COOKIE)
    over.navigate(f"{rig.gate}/auth/logout")
    jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImdyb3VwcyI6WyJhbmFseXN0cyJdfQ."
    mirror = Mirror(rig)
    for line in (
        f"Authorization: Bearer {jwt}",
        "Authorization: Basic YWxpY2U6YWxpY2U=",
        f"Cookie: {SESSION_COOKIE}={jwt}",
        f"Cookie: {SESSION_COOKIE}={secrets.token_urlsafe(32)}",
        f"Cookie: {SESSION_COOKIE}={ended}",
        f"Cookie: _streamlit_user={jwt}; BearerToken={jwt}; IdToken={jwt}",
    ):
        assert send(rig.gate, head(rig.gate, "/admin", line)).status == 401, line.split("=")[0]
    assert mirror.requests() == []
    verdicts.add("token present", "tokens, unknown and ended sessions", "401; nothing reaches the app")


JWE = "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4R0NNIn0.AAAA.AAAA.AAAA.AAAA"
JWT_ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("alg none (CVE-2026-28802)", {"id_token": {"signature": "alg_none"}}),
    ("alg twice, RS256 and none", {"id_token": {"header": {"alg": "none"}}}),
    ("HMAC with the public key", {"id_token": {"signature": "hs256_public_key"}}),
    ("unknown crit (CVE-2025-59420)", {"id_token": {"header": {"crit": ["a"], "a": 1}}}),
    ("empty crit", {"id_token": {"header": {"crit": []}}}),
    ("crit of b64", {"id_token": {"header": {"crit": ["b64"], "b64": False}}}),
    ("encrypted with RSA1_5 (CVE-2026-28490)", {"set": {"id_token": JWE}}),
    ("at_hash of another (CVE-2026-28498)", {"id_token": {"set": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}}),
    ("aud of another client (ALBeast)", {"id_token": {"set": {"aud": "another"}}}),
    (
        "a key of its own in jwk",
        {"id_token": {"signature": "another_key", "kid": "omit", "header": {"jwk": {"kty": "oct"}}}},
    ),
    ("a key of its own in jku", {"id_token": {"signature": "another_key", "header": {"jku": f"{EVIL}/jwks"}}}),
    ("kid as a path", {"id_token": {"signature": "another_key", "kid": "omit", "header": {"kid": "../../dev/null"}}}),
    ("typ of an access token", {"id_token": {"typ": "at+jwt"}}),
]


@pytest.mark.parametrize(("what", "action"), JWT_ATTACKS, ids=[what for what, _ in JWT_ATTACKS])
def test_signed_tokens(rig: Rig, verdicts: Verdicts, what: str, action: dict[str, Any]) -> None:
    visitor = Visitor(rig.gate)
    with rig.misbehaving(token_code=action):
        answer = rig.log_in(visitor)
    assert (answer.status, code_of(answer)) == (502, "provider_rejected")
    assert not rig.is_signed_in(visitor)
    verdicts.add("signed tokens", f"an ID token: {what}", "502 provider_rejected; not signed in")


def test_key_refetch_flood(rig: Rig, verdicts: Verdicts) -> None:
    asked, started = len(rig.provider.requests("jwks")), time.monotonic()
    now = round(time.time())
    events: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    claims = {
        "iss": rig.provider.issuer,
        "aud": "stories",
        "sub": "alice",
        "iat": now,
        "exp": now + 60,
        "events": events,
    }
    for number in range(60):
        header = {"alg": "RS256", "kid": f"key-{number}", "typ": "logout+jwt"}
        signed = [urlsafe(json.dumps(header)), urlsafe(json.dumps({**claims, "jti": str(number)})), "A" * 342]
        form = f"logout_token={'.'.join(signed)}"
        lines = ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(form)}"]
        assert (
            send(rig.gate, head(rig.gate, "/auth/backchannel-logout", *lines, method="POST") + form.encode()).status
            == 400
        )
    again = len(rig.provider.requests("jwks")) - asked
    assert again <= 2 + (time.monotonic() - started) / 5
    verdicts.add("key refetch flood", "60 logout tokens, each with another kid", f"400; keys asked for {again} time(s)")


@pytest.mark.parametrize("name", HOSTILE)
def test_answers_without_end(rig: Rig, verdicts: Verdicts, name: str) -> None:
    """Decompression bombs, and answers that go on and on, from a provider that turned hostile."""
    endpoint, how = name.split("-")
    member = {"jwks": "jwks_uri", "token": "token_endpoint", "userinfo": "userinfo_endpoint"}[endpoint]
    with hostile_server() as address:
        visitor, before = Visitor(rig.gate), memory(rig)
        with rig.misbehaving(discovery={"set": {member: f"{address}/{how}"}}):
            answer = rig.log_in(visitor, name)
        grown = memory(rig) - before
    if name == "userinfo-endless":
        # It is away, and not needed to know who it is.
        assert answer.status == 303 and rig.claims(visitor)["sub"] == "alice"
    else:
        assert answer.status in (502, 503), answer.status
        assert not rig.is_signed_in(visitor)
    assert grown < 64 * 1024, f"grown by {grown} KB"
    what = "1 MB that unpacks to 1 GB" if how == "bomb" else "an answer without end"
    said = "303, without userinfo" if answer.status == 303 else f"{answer.status} {code_of(answer)}"
    verdicts.add("answers without end", f"{endpoint}: {what}", said)


def memory(rig: Rig) -> int:
    """The most that the gate has had in memory so far, in KB."""
    status = Path(f"/proc/{rig.stage.gate.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def test_duplicate_parameters(rig: Rig, verdicts: Verdicts) -> None:
    for name in ("code", "state", "iss", "error_description"):
        visitor = Visitor(rig.gate)
        way_back = rig.begin(visitor).location
        answer = visitor.navigate(
            f"{way_back}&{name}=mallory" + ("&error_description=x" if "error" in name else ""), "cross-site"
        )
        assert (answer.status, code_of(answer)) == (400, "bad_request"), name
        assert not rig.is_signed_in(visitor)
    for query in ("provider=a&provider=b", "next=/a&next=/b", "prepared=a&prepared=b"):
        assert Visitor(rig.gate).navigate(f"{rig.gate}/auth/login?{query}").status == 400
    json_type = {"Content-Type": "application/json"}
    for endpoint, body in {
        "token_code": '{"access_token": "a", "access_token": "b", "token_type": "Bearer", "id_token": "c"}',
        "userinfo": '{"sub": "alice", "sub": "mallory"}',
    }.items():
        visitor = Visitor(rig.gate)
        with rig.misbehaving(**{endpoint: {"respond": {"status": 200, "headers": json_type, "body": body}}}):
            answer = rig.log_in(visitor)
        assert (answer.status, code_of(answer)) == (502, "provider_rejected"), endpoint
        assert not rig.is_signed_in(visitor)
    verdicts.add(
        "duplicate parameters",
        "in callbacks, logins, token answers, userinfo",
        "400 bad_request, 502 provider_rejected",
    )


@pytest.mark.parametrize("retry_after", ["999999999", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "-1"])
def test_retry_after(rig: Rig, verdicts: Verdicts, retry_after: str) -> None:
    visitor = rig.sign_in()
    with rig.misbehaving(token_refresh={"respond": {"status": 429, "headers": {"Retry-After": retry_after}}}):
        answer = rig.refresh(visitor)
    assert (answer.status, code_of(answer)) == (503, "try_later")
    assert 1 <= int(answer.headers["Retry-After"]) <= 600
    assert rig.is_signed_in(visitor)
    said = f"503, Retry-After: {answer.headers['Retry-After']}; still signed in"
    verdicts.add("Retry-After", f"429 with {retry_after}", said)


SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "0\r\n\r\n" + SMUGGLED
SMUGGLING = [
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", CHUNKED),
    ("Content-Length: 0\r\nContent-Length: 44", SMUGGLED),
    ("Content-Length: 0, 44", SMUGGLED),
    ("Content-Length: +0", SMUGGLED),
    ("Content-Length: 0x0", SMUGGLED),
    ("Content-Length : 44", SMUGGLED),
    ("Content-Length:\x0b44", SMUGGLED),
    (" Content-Length: 44", SMUGGLED),
    ("X: y\r\n Content-Length: 44", SMUGGLED),
    ("X: y\rContent-Length: 44", SMUGGLED),
    ("Transfer-Encoding: xchunked", CHUNKED),
    ("Transfer-Encoding : chunked", CHUNKED),
    ("Transfer-Encoding:\x0bchunked", CHUNKED),
    ("Transfer-Encoding: chunked, identity", CHUNKED),
    ("Transfer-Encoding: identity, chunked", CHUNKED),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED),
    ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow", CHUNKED),
    ('Transfer-Encoding: "chunked"', CHUNKED),
    (f"Content-Length:{' ' * 60}5\r\nTransfer-Encoding:{' ' * 60}chunked", CHUNKED),
    (f"Content-Length: {'0' * 60}5\r\nTransfer-Encoding: chunked", CHUNKED),
    ("Transfer-Encoding: chunked", "0x0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "-1\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "fffffffffffffffff\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "5\r\nabcdefgh\r\n" + CHUNKED),
    ("Transfer-Encoding: chunked", "0\n\r\n" + SMUGGLED),
    ("Host: evil.example\r\nContent-Length: 0", SMUGGLED),
]


def test_request_smuggling(rig: Rig, verdicts: Verdicts) -> None:
    """What follows must not be taken for a request by anybody."""
    mirror = Mirror(rig)
    host = urlsplit(rig.gate).netloc
    for framing, rest in SMUGGLING:
        answer = send(rig.gate, f"POST /x HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n{rest}".encode("latin-1"))
        assert answer.answers <= 1 and answer.status in (None, 400, 413, 502), (framing, answer.data[:200])
    for line in ("GET /x\r\n\r\n", "GET /x HTTP/0.9\r\n\r\n", "GET  /x HTTP/1.1\r\n\r\n"):
        answer = send(rig.gate, line.encode() + SMUGGLED.encode())
        assert answer.answers <= 1 and answer.status in (None, 400, 505), (line, answer.data[:200])
    assert not [one for one in mirror.requests() if "smuggled" in str(one["target"])]
    verdicts.add(
        "request smuggling",
        f"{len(SMUGGLING) + 3} ways to frame one request as two",
        "refused or closed; the app sees no second one",
    )


def test_websocket_across_origins(rig: Rig, verdicts: Verdicts) -> None:
    visitor, mirror = rig.sign_in(), Mirror(rig)
    handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    handshake += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", cookie_of(visitor)]
    port = urlsplit(rig.gate).port
    for origin in (
        EVIL,
        "null",
        "",
        f"https://localhost:{port}",
        f"http://localhost:{port}.evil.example",
        f"http://localhost:{(port or 0) + 1}",
        f"http://evil.localhost:{port}",
        f"{rig.gate}@evil.example",
        f"{rig.gate}, {EVIL}",
    ):
        sent = head(rig.gate, "/_stcore/stream", *handshake, f"Origin: {origin}", close=False)
        answer = send(rig.gate, sent, until_closed=False)
        assert answer.status == 403, (origin, answer.data[:100])
    twice = [f"Origin: {rig.gate}", f"Origin: {EVIL}"]
    sent = head(rig.gate, "/_stcore/stream", *handshake, *twice, close=False)
    assert send(rig.gate, sent, until_closed=False).status in (400, 403)
    assert mirror.requests() == []
    with visitor.open_socket():
        assert [one["target"] for one in mirror.requests()] == ["/_stcore/stream"]
    verdicts.add(
        "WebSocket across origins",
        "10 origins that are not this site",
        "403; nothing reaches the app; 101 from this site",
    )


def test_cached_cookies(rig: Rig, verdicts: Verdicts) -> None:
    """CVE-2025-64762: a cache keeps an answer with somebody's cookie, and gives it to others."""
    visitor = rig.sign_in()
    page = visitor.send("GET", f"{rig.gate}/cached", {})
    assert page.headers["Cache-Control"] == "public, max-age=3600" and page.headers["Set-Cookie"] is None
    asked = Visitor(rig.gate)
    begun = asked.navigate(f"{rig.gate}/auth/login")
    came = rig.finish(asked, asked.navigate(f"{begun.location}&auto_login=alice", "cross-site"))
    out = asked.navigate(f"{rig.gate}/auth/logout")
    rig.stage.remember(*parse_qs(urlsplit(out.location).query)["id_token_hint"])
    for answer in (begun, came, out):
        assert answer.headers["Set-Cookie"] is not None and answer.headers["Cache-Control"] == "no-store"
    verdicts.add(
        "cached cookies",
        "a page that the app lets caches keep; login and logout",
        "no cookie; those with cookies are no-store",
    )


def urlsafe(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
