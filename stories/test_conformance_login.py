"""The modules of the OpenID Foundation's suite for relying parties that end with a login or a refresh, against the gate
as a program. `test_conformance.py` has those of logout.

Each is a few requests without a browser, and a line of the table at the end of the run: what the provider sent, and
what the gate did. The modules have the suite's names without `oidcc-client-test`; what is not of the suite is in
parentheses.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import Verdicts
from harness.providers import get_json
from harness.rig import SESSION_COOKIE, Rig, code_of
from harness.visitor import NAVIGATION, Answer, Visitor

# What the status of a refusal must be.
STATUS = {
    "bad_request": 400,
    "login_expired": 400,
    "no_refresh_token": 409,
    "provider_misconfigured": 500,
    "provider_rejected": 502,
    "provider_unavailable": 503,
    "sign_in_again": 401,
    "try_later": 503,
}

# Further names of the same provider: each knows metadata and keys of its own.
NAMES: dict[str, dict[str, Any]] = {
    **{
        name: {}
        for name in (
            "fresh",
            "mismatch",
            "onekey",
            "twokeys",
            "listed",
            "es256",
            "mtls",
            "rotated",
            "rotating",
            "unknown",
        )
    },
    "post": {"client_kwargs": {"token_endpoint_auth_method": "client_secret_post"}},
    "key": {"client_id": "with-key", "client_secret": None},
    "public": {"client_id": "public", "client_secret": None, "client_kwargs": {"token_endpoint_auth_method": "none"}},
    "pushed": {},
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("login")
    private, public = client_key(folder)
    settings = f'[provider.key]\nclient_key_file = "{private}"\n\n[provider.pushed]\npar = "always"\n'
    yield from Rig.on_a_stage(folder, NAMES, settings=settings, clients={"with-key": public, "public": None})


def client_key(folder: Path) -> tuple[Path, Path]:
    """A key for `private_key_jwt`: the file for the gate, and the one for the provider."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "client-key.pem", folder / "client-keys.json"
    no_password = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, no_password))
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": base64url(numbers.x), "y": base64url(numbers.y)}
    public.write_text(json.dumps({"keys": [jwk]}))
    return private, public


def base64url(number: int) -> str:
    return urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()


@dataclass(frozen=True)
class Row:
    """A module: what goes wrong, in the words of the provider's script and of people, and the gate's code for it."""

    module: str
    sent: str
    code: str | None = None
    """`None`: it is a good answer."""
    name: str | None = None
    """Under which name the gate asks the provider."""
    actions: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.module} {self.sent}"


def id_token(
    module: str, sent: str, code: str | None = "provider_rejected", name: str | None = None, **fault: Any
) -> Row:
    """A login whose ID token is like this."""
    return Row(module, f"ID token: {sent}", code, name, {"token_code": {"id_token": fault}})


def answer(module: str, sent: str, code: str | None, **action: Any) -> Row:
    """A login whose token answer is like this."""
    return Row(module, f"token answer: {sent}", code, None, {"token_code": action})


def userinfo(module: str, sent: str, code: str | None, **action: Any) -> Row:
    """A login whose userinfo is like this."""
    return Row(module, f"userinfo: {sent}", code, None, {"userinfo": action})


def callback(module: str, sent: str, code: str | None, **action: Any) -> Row:
    """A login with such parameters on the way back."""
    return Row(module, f"way back: {sent}", code, None, {"callback": action})


ELSEWHERE = "https://elsewhere.example"
AGGREGATED = {
    "_claim_names": {"address": "there", "phone_number": "there"},
    "_claim_sources": {"there": {"JWT": "eyJhbGciOiJub25lIn0.eyJhZGRyZXNzIjoieCJ9."}},
}

LOGINS = [
    # OpenID Connect Core 3.1.3.7: Basic, and what the FAPI modules add.
    Row("", "everything as it should be"),
    id_token("-invalid-iss", "iss of another provider", set={"iss": ELSEWHERE}),
    id_token("(iss)", "iss with a slash more", set={"iss": "{issuer}/"}),
    id_token("-invalid-missing-iss", "no iss", omit=["iss"]),
    id_token("-missing-sub", "no sub", omit=["sub"]),
    id_token("(sub)", "sub of 256 letters", set={"sub": "a" * 256}),
    id_token("-invalid-aud", "aud of another client", set={"aud": "another-client"}),
    id_token("-missing-aud", "no aud", omit=["aud"]),
    id_token("-valid-aud-as-array", "aud as an array of us alone", None, set={"aud": ["stories"]}),
    id_token("-invalid-secondary-aud", "aud of us and of a stranger", set={"aud": ["stories", "stranger"]}),
    id_token("(azp)", "azp of another client", set={"azp": "another-client"}),
    id_token("-missing-iat", "no iat", omit=["iat"]),
    id_token("(iat)", "iat an hour ahead", shift={"iat": 3600}),
    id_token("-invalid-missing-exp", "no exp", omit=["exp"]),
    id_token("-invalid-expired-exp", "exp an hour ago", shift={"exp": -3900}),
    id_token("(nbf)", "nbf in the year 2100", set={"nbf": 4102444800}),
    id_token("-nonce-invalid", "another nonce", set={"nonce": "another"}),
    id_token("-invalid-missing-nonce", "no nonce", omit=["nonce"]),
    id_token("-idtoken-sig-none, -invalid-null-alg", "alg none, no signature", signature="alg_none"),
    id_token("-invalid-sig-rs256", "RS256, a bit of the signature wrong", signature="bad"),
    id_token("-invalid-sig-es256", "ES256, a bit of the signature wrong", signature="bad_es256"),
    id_token("-invalid-sig-hs256", "HS256 with the public key as the secret", signature="hs256_public_key"),
    id_token("(empty signature)", "RS256, no signature", signature="empty"),
    id_token("(another key)", "RS256 with another key, named as the published one", signature="another_key"),
    id_token("(typ)", "typ of a logout token", typ="logout+jwt"),
    id_token("-idtoken-sig-rs256", "RS256", None, signature="rs256"),
    id_token("(idtoken-sig-es256)", "ES256, which the provider lists", None, signature="es256"),
    Row(
        "-invalid-alternate-alg",
        "ID token: ES256, where the provider lists RS256",
        "provider_rejected",
        "listed",
        {
            "discovery": {"set": {"id_token_signing_alg_values_supported": ["RS256"]}},
            "token_code": {"id_token": {"signature": "es256"}},
        },
    ),
    # 3.1.3.8.
    id_token("-invalid-athash", "at_hash of another access token", set={"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
    id_token("(at_hash)", "at_hash that is no text", set={"at_hash": 1}),
    id_token("-missing-athash", "no at_hash", None, omit=["at_hash"]),
    # 5.3.2.
    userinfo("-userinfo-invalid-sub", "sub of another user", "provider_rejected", set={"sub": "mallory"}),
    userinfo("(userinfo sub)", "no sub", "provider_rejected", omit=["sub"]),
    userinfo("-userinfo-signed", "a signed JWT", None, signed={}),
    Row(
        "(userinfo signed)",
        "userinfo: a JWT with ES256, where the provider lists that for ID tokens",
        None,
        "es256",
        {
            "discovery": {"set": {"id_token_signing_alg_values_supported": ["ES256"]}},
            "token_code": {"id_token": {"signature": "es256"}},
            "userinfo": {"signed": {"signature": "es256"}},
        },
    ),
    userinfo("(userinfo signed)", "a JWT, a bit wrong", "provider_rejected", signed={"signature": "bad"}),
    userinfo("(userinfo signed)", "a JWT, alg none", "provider_rejected", signed={"signature": "alg_none"}),
    userinfo("(userinfo signed)", "a JWT, iss of another", "provider_rejected", signed={"set": {"iss": ELSEWHERE}}),
    userinfo("(userinfo signed)", "a JWT, aud of another", "provider_rejected", signed={"set": {"aud": "another"}}),
    userinfo("(userinfo signed)", "a JWT, sub of another", "provider_rejected", signed={"set": {"sub": "mallory"}}),
    # 5.6.2.
    userinfo("-aggregated-claims", "claims of an unsigned source", None, set=AGGREGATED),
    # RFC 6749, 5.1.
    answer("-token-endpoint-response-without-expires_in", "no expires_in", None, omit=["expires_in"]),
    answer("-token-type-case-insensitivity", "token_type bEARER", None, set={"token_type": "bEARER"}),
    answer("(token_type)", "token_type mac", "provider_rejected", set={"token_type": "mac"}),
    answer("(token_type)", "token_type DPoP, which nobody asked for", "provider_rejected", set={"token_type": "DPoP"}),
    answer("(access_token)", "no access_token", "provider_rejected", omit=["access_token"]),
    answer("(id_token)", "no id_token", "provider_rejected", omit=["id_token"]),
    answer("(more)", "a member that nobody knows", None, set={"more": {"of": "it"}}),
    answer(
        "(refused)", "invalid_grant", "provider_rejected", respond={"status": 400, "body": {"error": "invalid_grant"}}
    ),
    answer(
        "(refused)",
        "invalid_client",
        "provider_misconfigured",
        respond={"status": 401, "body": {"error": "invalid_client"}},
    ),
    answer("(away)", "status 503", "provider_unavailable", respond={"status": 503}),
    # RFC 6749 10.12, RFC 9207 2.4.
    callback("(state)", "another state", "login_expired", set={"state": "another"}),
    callback("(state)", "no state", "bad_request", omit=["state"]),
    callback("(iss in the response)", "iss of another provider", "provider_rejected", set={"iss": ELSEWHERE}),
    callback("(iss in the response)", "no iss, which was promised", "provider_rejected", omit=["iss"]),
    # Discovery 4.3, RFC 8705 5.
    Row(
        "-discovery-issuer-mismatch",
        "metadata: issuer of another provider",
        "provider_misconfigured",
        "mismatch",
        {"discovery": {"set": {"issuer": ELSEWHERE}}},
    ),
    Row(
        "-mtls-endpoint-aliases",
        "metadata: other endpoints for clients with certificates",
        None,
        "mtls",
        {"discovery": {"set": {"mtls_endpoint_aliases": {"token_endpoint": f"{ELSEWHERE}/token"}}}},
    ),
]


def said(answer: Answer) -> str:
    return "303" if answer.status == 303 else f"{answer.status} {code_of(answer)}"


@pytest.mark.parametrize("row", LOGINS, ids=str)
def test_login(rig: Rig, verdicts: Verdicts, row: Row) -> None:
    visitor = Visitor(rig.gate)
    with rig.misbehaving(**row.actions):
        came = rig.log_in(visitor, row.name)
    if row.code is None:
        assert said(came) == "303"
        assert rig.claims(visitor)["sub"] == "alice"
    else:
        assert said(came) == f"{STATUS[row.code]} {row.code}"
        assert visitor.cookie(SESSION_COOKIE) is None
        assert not rig.is_signed_in(visitor)
    became = "signed in" if row.code is None else "not signed in"
    verdicts.add(row.module or "(bare)", row.sent, f"{said(came)}; {became}")


def test_a_refused_login_leaves_the_session(rig: Rig, verdicts: Verdicts) -> None:
    visitor = rig.sign_in("bob")
    with rig.misbehaving(token_code={"id_token": {"signature": "bad"}}):
        came = rig.log_in(visitor)
    assert said(came) == "502 provider_rejected"
    assert rig.claims(visitor)["sub"] == "bob"
    verdicts.add("(refused)", "a bad ID token, to who is signed in", f"{said(came)}; signed in as before")


def test_scope_userinfo_claims(rig: Rig, verdicts: Verdicts) -> None:
    """Core 5.4: what is asked for by scope may come from userinfo alone."""
    wanted = {"name": "Alice Example", "email": "alice@example.test"}
    visitor = Visitor(rig.gate)
    with rig.misbehaving(token_code={"id_token": {"omit": list(wanted)}}):
        assert said(rig.log_in(visitor)) == "303"
    assert rig.claims(visitor).items() >= wanted.items()
    verdicts.add("-scope-userinfo-claims", "name and e-mail in userinfo alone", "303; both are among the user's claims")


def test_distributed_claims(rig: Rig, verdicts: Verdicts) -> None:
    """Core 5.6.2: supporting them is optional. Nothing is fetched from elsewhere, and no token goes there."""
    source = {"endpoint": f"{rig.provider.issuer}/api/whoami", "access_token": "a-token-of-somebody"}
    names = {"_claim_names": {"salary": "there"}, "_claim_sources": {"there": source}}
    visitor, asked = Visitor(rig.gate), len(rig.provider.requests("api"))
    with rig.misbehaving(userinfo={"set": names}):
        assert said(rig.log_in(visitor)) == "303"
    assert "salary" not in rig.claims(visitor)
    assert len(rig.provider.requests("api")) == asked
    verdicts.add("-distributed-claims", "userinfo: a claim that is elsewhere", "303; it asks nobody elsewhere")


def test_3rd_party_initiated_login(rig: Rig, verdicts: Verdicts) -> None:
    """Core 4."""
    visitor = Visitor(rig.gate)
    asked = {"iss": rig.provider.issuer, "login_hint": "alice", "target_link_uri": f"{rig.gate}/?report=42"}
    begun = visitor.navigate(f"{rig.gate}/auth/login?{urlencode(asked)}", "cross-site")
    assert parse_qs(urlsplit(begun.location).query)["login_hint"] == ["alice"]
    way_back = visitor.navigate(f"{begun.location}&auto_login=alice", "cross-site")
    assert rig.finish(visitor, way_back).location == f"{rig.gate}/?report=42"
    assert rig.is_signed_in(visitor)

    # By POST, too: a page elsewhere sends the form, and the browser none of the gate's cookies along.
    at_login, page_elsewhere = f"{rig.gate}/auth/login", {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
    posted = Visitor(rig.gate).send("POST", at_login, {**NAVIGATION, **page_elsewhere}, {**asked, "scope": "x"})
    assert not posted.headers.get_all("Set-Cookie")
    assert posted.location == f"{at_login}?{urlencode(asked)}", "the same by GET, and nothing else of the form"
    by_post = Visitor(rig.gate)
    begun = by_post.navigate(posted.location, "cross-site")
    way_back = by_post.navigate(f"{begun.location}&auto_login=alice", "cross-site")
    assert rig.finish(by_post, way_back).location == f"{rig.gate}/?report=42"
    assert rig.is_signed_in(by_post)
    for form, status in (({}, 400), ({"next": "/", "provider": "post"}, 400), ({**asked, "provider": "post"}, 400)):
        refused = Visitor(rig.gate).send("POST", at_login, {**NAVIGATION, **page_elsewhere}, form)
        assert refused.status == status, form

    stranger = visitor.navigate(f"{rig.gate}/auth/login?{urlencode({**asked, 'iss': ELSEWHERE})}", "cross-site")
    assert said(stranger) == "404 unknown_provider"
    target = {**asked, "target_link_uri": f"{ELSEWHERE}/page"}
    begun = visitor.navigate(f"{rig.gate}/auth/login?{urlencode(target)}", "cross-site")
    way_back = visitor.navigate(f"{begun.location}&auto_login=alice", "cross-site")
    assert rig.finish(visitor, way_back).location == f"{rig.gate}/"
    verdicts.add(
        "-3rd-party-init-login",
        "another site names issuer, user and page, by GET and by POST; then a stranger; then a page elsewhere",
        f"303 to the page, both; {said(stranger)}; 303 to the app's start",
    )


@pytest.mark.parametrize(
    ("name", "way"),
    [(None, "client_secret_basic"), ("post", "client_secret_post"), ("key", "private_key_jwt"), ("public", "none")],
)
def test_client_authentication(rig: Rig, verdicts: Verdicts, name: str | None, way: str) -> None:
    """RFC 6749 2.3: one way for a request. Core 9."""
    rig.sign_in(name=name)
    assert rig.provider.seen("token:code")[-1]["client_auth"] == way
    verdicts.add(f"-{way.replace('_', '-')}", "a login", f"303; proves itself by {way} alone")


def test_the_authorization_request(rig: Rig, verdicts: Verdicts) -> None:
    """RFC 7636 4.2 and 7.1: S256, and all that must not be guessed anew for each login."""
    visitor = Visitor(rig.gate)
    asked = [parse_qs(urlsplit(visitor.navigate(f"{rig.gate}/auth/login").location).query) for _ in range(2)]
    for query in asked:
        assert query["response_type"] == ["code"] and query["code_challenge_method"] == ["S256"]
        rig.stage.remember(*query["state"], *query["nonce"])
    for name in ("state", "nonce", "code_challenge"):
        first, second = (query[name][0] for query in asked)
        assert len(first) >= 43 and first != second, name
    verdicts.add("(PKCE)", "two logins", "S256; state, nonce and challenge of 256 bits, other ones each time")


def test_pushed_authorization_request(rig: Rig, verdicts: Verdicts) -> None:
    """RFC 9126 4."""
    visitor = Visitor(rig.gate)
    begun = visitor.navigate(f"{rig.gate}/auth/login?provider=pushed")
    assert parse_qs(urlsplit(begun.location).query).keys() == {"client_id", "request_uri"}
    rig.sign_in(name="pushed")
    verdicts.add("(PAR)", "a login", "the browser carries client_id and request_uri alone")


def test_discovery_and_keys(rig: Rig, verdicts: Verdicts) -> None:
    """Discovery 4, Core 10.1: fetched where the provider says, once."""
    counts = [len(rig.provider.requests(endpoint)) for endpoint in ("discovery", "jwks")]
    for _ in range(2):
        rig.sign_in(name="fresh")
    assert [len(rig.provider.requests(endpoint)) for endpoint in ("discovery", "jwks")] == [one + 1 for one in counts]
    verdicts.add("-discovery-openid-config", "the first two logins", "303; one request for metadata")
    verdicts.add("-discovery-jwks-uri-keys", "the first two logins", "303; one request for keys")


@pytest.mark.parametrize(("module", "name", "keys"), [("single", "onekey", 1), ("multiple", "twokeys", 2)])
def test_kid_absent(rig: Rig, verdicts: Verdicts, module: str, name: str, keys: int) -> None:
    """Core 10.1: without `kid`, every key that could have signed is tried."""
    rig.provider.rotate_keys("keep")
    rsa = [key for key in get_json(f"{rig.provider.issuer}/jwks")["keys"] if key["kty"] == "RSA"]
    visitor = Visitor(rig.gate)
    # The one that signs comes last.
    published = rsa[:keys][::-1]
    with rig.misbehaving(jwks={"set": {"keys": published}}, token_code={"id_token": {"kid": "omit"}}):
        assert said(rig.log_in(visitor, name)) == "303"
    assert rig.claims(visitor)["sub"] == "alice"
    verdicts.add(f"-kid-absent-{module}-jwks", f"ID token: no kid; RSA keys published: {keys}", "303; signed in")


def test_key_rotation_just_before_signing(rig: Rig, verdicts: Verdicts) -> None:
    """Core 10.1.1."""
    rig.sign_in(name="rotated")
    with rig.misbehaving(token_code={"rotate_keys": "withdraw"}):
        visitor = rig.sign_in(name="rotated")
    assert said(rig.refresh(visitor)) == "200 no code"
    verdicts.add(
        "-signing-key-rotation-just-before-signing",
        "a moment after a login, new keys",
        "303; signed in with the new ones",
    )


def test_key_rotation(rig: Rig, verdicts: Verdicts) -> None:
    """Core 10.1.1: the old keys go on to be good as long as they are published."""
    visitor = rig.sign_in(name="rotating")
    rig.provider.rotate_keys("keep")
    assert said(rig.refresh(visitor)) == "200 no code"
    rig.sign_in(name="rotating")
    verdicts.add("-signing-key-rotation", "new keys between a login and a refresh", "200; refreshed with the new ones")


def test_unknown_keys_are_not_asked_for_again_and_again(rig: Rig, verdicts: Verdicts) -> None:
    rig.sign_in(name="unknown")
    asked = len(rig.provider.requests("jwks"))
    with rig.misbehaving(token_code={"id_token": {"kid": "wrong"}}):
        came = [said(rig.log_in(Visitor(rig.gate), "unknown")) for _ in range(5)]
    assert set(came) == {"502 provider_rejected"}
    again = len(rig.provider.requests("jwks")) - asked
    assert 1 <= again < 5
    verdicts.add(
        "(kid)", "five ID tokens with a kid that no key has", f"{came[0]}; keys asked for {again} time(s) more"
    )


@pytest.fixture(scope="module", params=[False, True], ids=["no_nonce", "nonce"])
def bound(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """With a provider whose tokens are good with proofs of holding a key alone."""
    settings = '[provider.default]\ndpop = "always"\n'
    folder = tmp_path_factory.mktemp("bound")
    yield from Rig.on_a_stage(folder, settings=settings, require_dpop=True, dpop_nonce=request.param)


def test_dpop(bound: Rig, verdicts: Verdicts, request: pytest.FixtureRequest) -> None:
    """RFC 9449 5, 7 and 8."""
    wants_nonces = "no_nonce" not in request.node.name
    visitor = Visitor(bound.gate)
    with bound.misbehaving(token_code={"id_token": {"omit": ["name"]}}):
        assert said(bound.log_in(visitor)) == "303"
    assert bound.claims(visitor)["name"] == "Alice Example", "userinfo took the token"
    bound.provider.replace_nonce()
    bound.provider.change_user("alice", name="Alice Renamed")
    assert said(bound.refresh(visitor)) == "200 no code"
    assert bound.claims(visitor)["name"] == "Alice Renamed"
    asked = {endpoint: bound.provider.seen(endpoint) for endpoint in ("token:code", "token:refresh", "userinfo")}
    statuses = {endpoint: [one["status"] for one in entries] for endpoint, entries in asked.items()}
    # Each server has told what it wants once in the beginning, and once when it wanted something else.
    assert statuses == (
        {"token:code": [400, 200], "token:refresh": [400, 200], "userinfo": [401, 200, 401, 200]}
        if wants_nonces
        else {"token:code": [200], "token:refresh": [200], "userinfo": [200, 200]}
    )
    what = "proofs wanted" + (", with a nonce that changes" if wants_nonces else "")
    verdicts.add(
        "(DPoP)", what, "303, 200; userinfo too" + ("; each sent once more with the nonce" if wants_nonces else "")
    )


def test_a_token_that_is_bound_to_nothing(bound: Rig, verdicts: Verdicts) -> None:
    """RFC 9449 5: what was asked for as bound must not turn out to be good for whoever has it."""
    visitor = bound.sign_in()
    with bound.misbehaving(
        token_code={"set": {"token_type": "Bearer"}}, token_refresh={"set": {"token_type": "Bearer"}}
    ):
        assert said(bound.log_in(Visitor(bound.gate))) == "502 provider_rejected"
        assert said(bound.refresh(visitor)) == "503 try_later"
    assert said(bound.refresh(visitor)) == "200 no code"
    verdicts.add(
        "(DPoP)", "token_type Bearer, at a login and a refresh", "502 provider_rejected; 503 try_later, as it was"
    )


REFRESHED, AS_IT_WAS, ENDED = "new tokens", "as it was", "ended"


def refreshed(module: str, sent: str, code: str | None = "try_later", **fault: Any) -> Row:
    """A refresh whose ID token is like this."""
    return Row(module, f"ID token: {sent}", code, None, {"token_refresh": {"id_token": fault}})


REFRESHES = [
    Row("-refresh-token", "everything as it should be"),
    # OpenID Connect Core 12.2.
    refreshed("-refresh-token-invalid-issuer", "iss of another provider", set={"iss": ELSEWHERE}),
    refreshed("-refresh-token-invalid-sub", "sub of another user", "sign_in_again", set={"sub": "mallory"}),
    refreshed("(sub)", "no sub", omit=["sub"]),
    refreshed("(aud)", "aud of another client", set={"aud": "another-client"}),
    refreshed("(aud)", "aud of us and of a stranger", set={"aud": ["stories", "stranger"]}),
    refreshed("(azp)", "azp, where there was none", set={"azp": "stories"}),
    refreshed("(iat)", "no iat", omit=["iat"]),
    refreshed("(exp)", "exp an hour ago", shift={"exp": -3900}),
    refreshed("(auth_time)", "auth_time a minute later", shift={"auth_time": 60}),
    refreshed("(auth_time)", "no auth_time", None, omit=["auth_time"]),
    refreshed("(nonce)", "a nonce that was not the login's", set={"nonce": "another"}),
    refreshed("(at_hash)", "at_hash of another access token", set={"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
    refreshed("(signature)", "RS256, a bit of the signature wrong", signature="bad"),
    refreshed("(signature)", "alg none, no signature", signature="alg_none"),
    refreshed("(signature)", "HS256 with the public key as the secret", signature="hs256_public_key"),
    Row("(id_token)", "token answer: no id_token", None, None, {"token_refresh": {"omit": ["id_token"]}}),
    Row(
        "(userinfo sub)",
        "userinfo: sub of another user",
        "sign_in_again",
        None,
        {"userinfo": {"set": {"sub": "mallory"}}},
    ),
    # RFC 6749 5.1, 5.2 and 6.
    Row("(expires_in)", "token answer: no expires_in", None, None, {"token_refresh": {"omit": ["expires_in"]}}),
    Row(
        "(token_type)",
        "token answer: token_type mac",
        "try_later",
        None,
        {"token_refresh": {"set": {"token_type": "mac"}}},
    ),
    Row(
        "(refresh_token)", "token answer: no refresh_token", None, None, {"token_refresh": {"omit": ["refresh_token"]}}
    ),
    Row(
        "(refused)",
        "token answer: invalid_grant",
        "sign_in_again",
        None,
        {"token_refresh": {"respond": {"status": 400, "body": {"error": "invalid_grant"}}}},
    ),
    Row("(away)", "token answer: status 503", "try_later", None, {"token_refresh": {"respond": {"status": 503}}}),
]


@pytest.mark.parametrize("row", REFRESHES, ids=str)
def test_refresh(rig: Rig, verdicts: Verdicts, row: Row) -> None:
    visitor = rig.sign_in()
    before = rig.claims(visitor)
    rig.provider.change_user("alice", name="Alice Renamed")
    try:
        with rig.misbehaving(**row.actions):
            came = rig.refresh(visitor)
        became = what_became_of(rig, visitor, before)
    finally:
        rig.provider.change_user("alice", name="Alice Example")

    expected = "200 no code" if row.code is None else f"{STATUS[row.code]} {row.code}"
    assert said(came) == expected
    assert became == {None: REFRESHED, "try_later": AS_IT_WAS, "sign_in_again": ENDED}[row.code]
    verdicts.add(row.module, f"refresh: {row.sent}", f"{said(came).removesuffix(' no code')}; {became}")


def what_became_of(rig: Rig, visitor: Visitor, before: Mapping[str, Any]) -> str:
    """Of the session. What a check refused must not have cost it the refresh token."""
    if not rig.is_signed_in(visitor):
        return ENDED
    if rig.claims(visitor) != before:
        return REFRESHED
    assert said(rig.refresh(visitor)) == "200 no code", "it can be refreshed again"
    assert rig.claims(visitor)["name"] == "Alice Renamed"
    return AS_IT_WAS
