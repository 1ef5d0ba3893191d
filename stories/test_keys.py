"""`freshgate keys`: the key that seals is changed while somebody works, who notices nothing."""

import shutil
import subprocess

import pytest

from harness.gate import FRESHGATE, environment
from harness.stage import Stage

pytestmark = pytest.mark.providers("oidc-provider")


def test_a_rotation_while_somebody_is_signed_in(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    tab.click("count").shows("clicks", 1)

    new = stage.operator("keys", "new").split()[0]
    said = stage.operator("keys", "rotate")

    assert f"{new} seals from now on." in said
    assert f"1 session was sealed anew with {new}." in said
    tab.shows("clicks", 1)
    assert tab.refresh() == "new token, Alice Example -> Alice Example"
    assert tab.call_api() == "200"
    assert f"took up new sealing keys seals={new}" in stage.gate.process.output()
    # What the gate wrote since is sealed with the new key, too, and a new start reads all of it.
    assert "everything that opens is sealed with it" in stage.operator("keys", "rotate")
    stage.gate.stop()
    stage.start_gate()
    stage.tab().open().is_signed_in()


def test_a_rotation_at_a_terminal(stage: Stage) -> None:
    tab = stage.set_up().tab().open().is_signed_out().sign_in()
    new = stage.operator("keys", "new").split()[0]

    # It makes a terminal of its own for what it runs.
    script = shutil.which("script")
    if script is None:
        pytest.skip("there is no script(1)")
    rotate = f"{FRESHGATE} keys rotate --store {stage.store}"
    done = subprocess.run(
        [script, "--quiet", "--return", "--command", rotate, "/dev/null"],
        cwd=stage.project.folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )

    # One line tells what it is about, and goes before anything else is said.
    _, _, told = done.stdout.decode().partition(f"{new} seals from now on.")
    assert "\r\x1b[Krunning gates take the key up\r\x1b[K" in told
    assert f"\r\x1b[K1 session was sealed anew with {new}." in told
    assert tab.refresh().startswith("new token")


def test_a_new_cookie_secret_while_somebody_is_signed_in(stage: Stage) -> None:
    stage.set_up().tab().open().is_signed_out().sign_in()
    stage.gate.stop()
    former = stage.project.cookie_secret
    stage.project.cookie_secret = "another-cookie-secret-of-the-stories-0123456789"
    stage.project.write_secrets(auth=stage.project.auth(stage.provider), api={"url": stage.provider.api_url})
    settings = stage.project.folder / "freshgate.toml"
    settings.write_text(f'[keys]\nformer_cookie_secrets = ["{former}"]\n')

    stage.start_gate()
    tab = stage.tab().open().is_signed_in()
    assert tab.refresh() == "new token, Alice Example -> Alice Example"

    # Sealed anew, the session needs the former secret no more.
    stage.operator("keys", "rotate")
    stage.gate.stop()
    settings.unlink()
    stage.start_gate()
    stage.tab().open().is_signed_in()
