"""Where browsers arrive: TLS with a certificate that is replaced, a proxy in front, how often one client may ask."""

import datetime
import http.client
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from harness.gate import FRESHGATE, command, environment
from harness.process import Process
from harness.providers import DevProvider
from harness.raw import RawAnswer, head, send
from harness.rig import Rig, code_of
from harness.stage import Stage
from harness.visitor import NAVIGATION, Answer, Visitor
from harness.waiting import until

OFFICE, OTHER_OFFICE = "198.51.100.7", "203.0.113.9"
PROXY_SETTINGS = 'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]\n[limits]\nlogins_per_minute = 3\n'


class Https:
    """A gate with a certificate for localhost, which nobody but these tests trusts."""

    def __init__(self, folder: Path) -> None:
        self.stage = Stage(folder, None, partial(DevProvider))
        self.stage.prepare("mirror", redirect_uri="https://localhost:{port}/oauth2callback")
        self.port = self.stage.project.port
        self.address = f"https://localhost:{self.port}"
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.replace()
        python = str(self.stage.project.folder / "python")
        self.arguments = ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key), "--python", python)
        self.process = Process(
            command(self.stage.project, "--store", "memory:", *self.arguments),
            self.stage.logs / "gate-1.log",
            cwd=self.stage.project.folder,
            env=environment(),
        )
        until(lambda: self.ask("/alive").status == 200, "the app to answer through the gate", seconds=60)

    def replace(self, name: str = "localhost", days: int = 90) -> bytes:
        """Puts another certificate in its place, good for so many days; it, in DER."""
        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "freshgate's stories")])
        made = (
            x509.CertificateBuilder()
            .subject_name(called)
            .issuer_name(called)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=90 - min(days, 89)))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, SHA256())
        )
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        return made.public_bytes(Encoding.DER)

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of a browser that takes whatever certificate is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=context)
        connection.connect()
        return connection

    def ask(self, path: str, connection: http.client.HTTPSConnection | None = None) -> http.client.HTTPResponse:
        """Asks over this connection, which stays open, or over one of its own."""
        if connection is None:
            with closing(self.connect()) as own:
                return self.ask(path, own)
        connection.request("GET", path, headers=NAVIGATION)
        answer = connection.getresponse()
        answer.read()
        return answer

    def shows(self) -> bytes:
        """The certificate of a new connection, in DER."""
        with closing(self.connect()) as connection:
            assert isinstance(connection.sock, ssl.SSLSocket)
            return connection.sock.getpeercert(binary_form=True) or b""

    def check(self) -> dict[str, Any]:
        """What `freshgate check` finds of the certificate."""
        done = subprocess.run(
            [FRESHGATE, "check", "--json", "--listen", f"127.0.0.1:{self.port}", "--store", "memory:", *self.arguments],
            cwd=self.stage.project.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        gate = json.loads(done.stdout)["sections"][0]["findings"]
        return next(dict(finding) for finding in gate if finding["topic"] == "certificate")

    def end(self) -> None:
        self.process.stop()
        self.stage.end()


@pytest.fixture
def https(tmp_path: Path) -> Iterator[Https]:
    gate = Https(tmp_path)
    try:
        yield gate
    finally:
        gate.end()


def test_https_with_a_certificate_that_is_replaced(https: Https) -> None:
    first = https.shows()
    assert first == ssl.PEM_cert_to_DER_cert(https.certificate.read_text())
    begun = https.ask("/auth/login")
    assert re.match(
        r"__Host-freshgate-login-[^=]+=[^;]+; .*HttpOnly; SameSite=Lax; Secure", begun.headers["Set-Cookie"]
    )
    with closing(https.connect()) as open_since:
        assert https.ask("/alive", open_since).status == 200
        follows_its_files(https, first)
        assert https.ask("/alive", open_since).status == 200, "who is connected stays so"


def follows_its_files(https: Https, first: bytes) -> None:
    https.certificate.write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")

    https.process.wait_for_line("the new certificate cannot be used; the one before stays in use")
    assert https.shows() == first

    second = https.replace()

    https.process.wait_for_line("took up a new certificate")
    until(lambda: https.shows() == second, "the new certificate to be shown")


def test_http_where_https_is_spoken(https: Https) -> None:
    answered = send(f"http://localhost:{https.port}", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answered.status == 400
    assert "This address speaks https" in answered.body


def test_who_does_not_shake_hands_holds_nobody_up(https: Https) -> None:
    with socket.create_connection(("localhost", https.port)) as silent:
        silent.sendall(b"\x16\x03\x01")
        assert https.ask("/alive").status == 200


def test_a_certificate_that_is_checked(https: Https) -> None:
    found = https.check()
    assert (found["verdict"], "good for 89 days more" in found["what"]) == ("ok", True), found
    for changes, verdict, what in (
        ({"days": 5}, "warning", "is good for 4 days more"),
        ({"days": -1}, "problem", "is over since"),
        ({"name": "other.example.com"}, "problem", "is for other.example.com, and browsers come by localhost"),
    ):
        https.replace(**changes)
        found = https.check()
        assert (found["verdict"], what in found["what"]) == (verdict, True), found


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gate that believes a proxy on this machine."""
    yield from Rig.on_a_stage(tmp_path_factory.mktemp("proxied"), settings=PROXY_SETTINGS, app="mirror")


def asks_to_log_in(rig: Rig, forwarded_for: str) -> Answer:
    return Visitor(rig.gate).navigate(f"{rig.gate}/auth/login", **{"X-Forwarded-For": forwarded_for})


def test_who_asks_too_often_is_told_when_to_come_back(proxied: Rig) -> None:
    asked = [asks_to_log_in(proxied, OFFICE) for _ in range(4)]

    assert [answer.status for answer in asked] == [303, 303, 303, 429]
    assert code_of(asked[-1]) == "too_many_requests"
    assert 1 <= int(asked[-1].headers["Retry-After"]) <= 60
    # Whatever it claims to be passing on for: the proxy knows better, and so does who stands before it.
    for lie in (f"192.0.2.1, {OFFICE}", f"192.0.2.1, {OFFICE}, 10.0.0.3", f"127.0.0.1,{OFFICE}"):
        assert asks_to_log_in(proxied, lie).status == 429, lie
    assert asks_to_log_in(proxied, OTHER_OFFICE).status == 303, "others are others"


def test_the_app_learns_of_the_client_alone(proxied: Rig) -> None:
    lines = (
        f"X-Forwarded-For: 192.0.2.1, {OTHER_OFFICE}, 10.0.0.3",
        "X-Forwarded-Proto: https",
        "Forwarded: for=1.2.3.4",
    )
    seen: RawAnswer = send(proxied.gate, head(proxied.gate, "/", *lines))

    told = [line for line in json.loads(seen.body)["headers"] if line.lower().startswith(("x-forwarded-", "forwarded"))]
    host = proxied.gate.removeprefix("http://")
    wanted = [f"X-Forwarded-For: {OTHER_OFFICE}", f"X-Forwarded-Host: {host}", "X-Forwarded-Proto: http"]
    assert sorted(line.lower() for line in told) == sorted(line.lower() for line in wanted)
