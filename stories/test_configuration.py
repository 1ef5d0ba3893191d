"""Settings that cannot work: exit code 2, every problem at once, in words that one can act on."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import expect

from harness.gate import command, environment
from harness.ports import free_port
from harness.process import Process
from harness.stage import Stage

pytestmark = pytest.mark.providers("oidc-provider")


def refusal(stage: Stage, *arguments: str, python: Path | None = None) -> str:
    """Starts the gate, expects it to end with 2 before it serves anything, and gives what it printed."""
    env = environment()
    if python is not None:
        env["PATH"] = f"{python.parent}:{env['PATH']}"
        env["VIRTUAL_ENV"] = str(python.parent.parent)
    log = stage.logs / "gate-refusing.log"
    process = Process(command(stage.project, *arguments), log, cwd=stage.project.folder, env=env)
    try:
        code = process.wait_for_exit(30)
    finally:
        process.stop()
    said = process.output()
    assert code == 2, f"ended with {code}:\n{said}"
    assert "panicked" not in said
    return said


def assert_names(said: str, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in said]
    assert not missing, f"{missing} should be named in:\n{said}"


def store(path: Path) -> Sequence[str]:
    return ("--store", f"sqlite:{path}")


def test_no_auth_section(stage: Stage) -> None:
    stage.prepare()
    stage.project.write_secrets(api={"url": "http://127.0.0.1"})

    said = refusal(stage)

    assert_names(said, ["[auth]", "secrets.toml", "client_id", "server_metadata_url"])


def test_no_secrets_at_all(stage: Stage) -> None:
    stage.prepare()
    (stage.project.folder / ".streamlit" / "secrets.toml").unlink()

    assert_names(refusal(stage), ["secrets.toml", "[auth]"])


def test_wrong_metadata_url(stage: Stage) -> None:
    stage.prepare()
    auth = stage.project.auth(stage.provider) | {"server_metadata_url": f"{stage.provider.issuer}/nothing/here"}
    stage.project.write_secrets(auth=auth)

    assert_names(
        refusal(stage), ["server_metadata_url", "secrets.toml", f"{stage.provider.issuer}/nothing/here", "404"]
    )


@pytest.mark.providers("devidp", "oidc-provider")
def test_wrong_client_secret(stage: Stage) -> None:
    stage.prepare()
    wrong = "not-the-right-secret-0123456789"
    stage.project.write_secrets(auth=stage.project.auth(stage.provider) | {"client_secret": wrong})

    said = refusal(stage)

    assert_names(said, ["[auth]", "client_id", "client_secret", "invalid_client"])
    assert wrong not in said


def test_provider_that_does_not_answer_yet_is_no_reason_not_to_start(stage: Stage) -> None:
    stage.prepare()
    nobody = f"http://127.0.0.1:{free_port()}/.well-known/openid-configuration"
    stage.project.write_secrets(auth=stage.project.auth(stage.provider) | {"server_metadata_url": nobody})

    stage.start_gate()

    assert_names(stage.gate.process.output(), ["WARN", nobody])
    tab = stage.tab().open().is_signed_out().click("log_in")
    expect(tab.page.get_by_text("The sign-in service does not answer")).to_be_visible()
    expect(tab.page.get_by_text("provider_unavailable")).to_be_visible()


def test_issuer_mismatch(stage: Stage) -> None:
    stage.prepare()
    # The same provider by another name: what it says of itself is then not what was asked.
    by_name = stage.provider.metadata_url.replace("127.0.0.1", "localhost")
    auth = stage.project.auth(stage.provider) | {"server_metadata_url": by_name}
    stage.project.write_secrets(auth=auth)

    assert_names(refusal(stage), ["server_metadata_url", "issuer", stage.provider.issuer, "localhost"])


def test_redirect_uri_that_does_not_fit_listen(stage: Stage) -> None:
    stage.prepare(redirect_uri="http://localhost:9/oauth2callback")

    assert_names(
        refusal(stage),
        ["redirect_uri", "secrets.toml", "http://localhost:9/oauth2callback", str(stage.project.port)],
    )


def test_port_taken(stage: Stage) -> None:
    stage.prepare()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", stage.project.port))
        holder.listen()

        said = refusal(stage)

    assert_names(said, [f"127.0.0.1:{stage.project.port}", "--listen"])


def test_streamlit_not_installed(stage: Stage) -> None:
    stage.prepare()
    bare = stage.folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)

    said = refusal(stage, python=bare / "bin" / "python")

    assert_names(said, ["Streamlit", "pip install streamlit", str(bare)])


def test_store_that_is_no_store(stage: Stage) -> None:
    stage.prepare()
    file = stage.folder / "notes.txt"
    file.write_text("these are notes, and no database\n" * 100)

    assert_names(refusal(stage, *store(file)), ["--store", str(file)])
    assert file.read_text().startswith("these are notes"), "what is not ours stays as it is"


def test_store_of_a_newer_freshgate(stage: Stage) -> None:
    stage.prepare().start_gate()
    stage.gate.stop()
    file = stage.folder / "store" / "sessions.db"
    with sqlite3.connect(file) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {version + 1}")
    database.close()

    assert_names(refusal(stage, *store(file)), [str(file), "newer"])


def test_path_that_cannot_be_written(stage: Stage) -> None:
    stage.prepare()
    file = stage.folder / "a-file"
    file.write_text("in the way")

    assert_names(refusal(stage, *store(file / "sessions.db")), ["--store", str(file)])


def test_several_problems_at_once(stage: Stage) -> None:
    stage.prepare()
    auth = stage.project.auth(stage.provider)
    del auth["client_id"]
    del auth["cookie_secret"]
    stage.project.write_secrets(auth=auth | {"expose_tokens": ["everything"]})

    said = refusal(stage, "--store", "mysql:nowhere")

    assert_names(said, ["client_id", "cookie_secret", "expose_tokens", "everything", "--store", "mysql"])
    assert auth["client_secret"] not in said
