"""The session API of a running gate, tried by a program that has read its OpenAPI document."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.app import App
from harness.gate import ROOT, environment
from harness.loopback import on_loopback
from harness.rig import SESSION_COOKIE, Rig

HARNESS = Path(__file__).parent / "harness"
DESCRIPTION = ROOT / "crates" / "freshgate-gateway" / "src" / "session_api" / "openapi.json"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield from Rig.on_a_stage(tmp_path)


def handle(rig: Rig) -> str:
    """Signs somebody in; how the app names the session: by the SHA-256 of the cookie."""
    cookie = rig.sign_in().cookie(SESSION_COOKIE)
    assert cookie is not None
    return base64.urlsafe_b64encode(hashlib.sha256(cookie.encode()).digest()).rstrip(b"=").decode()


def test_the_session_api_is_as_its_document_says(rig: Rig, tmp_path: Path) -> None:
    app = App(rig.stage.gate)
    kept = [handle(rig) for _ in range(3)]
    with rig.misbehaving(token_code={"omit": ["refresh_token"]}):
        kept.append(handle(rig))
    given_up = [handle(rig) for _ in range(20)]
    with on_loopback(app.socket) as address:
        done = subprocess.run(
            [
                Path(sys.executable).parent / "schemathesis",
                *("--config-file", HARNESS / "schemathesis.toml"),
                *("run", f"{address}/v1/openapi.json", "--header", f"Authorization: Bearer {app.secret}"),
            ],
            env=environment(
                SCHEMATHESIS_HOOKS="harness.described",
                PYTHONPATH=str(HARNESS.parent),
                SESSIONS_TO_KEEP=json.dumps(kept),
                SESSIONS_TO_END=json.dumps(given_up),
            ),
            cwd=tmp_path,  # it leaves its notes there
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    paths = json.loads(DESCRIPTION.read_text())["paths"]
    operations = sum(map(len, paths.values())) - 1  # all but the document itself, which was read
    assert re.search(rf"Tested: +{operations}$", done.stdout, re.MULTILINE), done.stdout
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert re.search(rf"✅ +{phase}", done.stdout), done.stdout
    assert rig.provider.refreshes() > 0, "no session that it named could be refreshed"
