"""`python -m freshgate`: what it checks, how it fails, how it ends."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import streamlit

import streamlit_app
from fake_gate import SECRET, FakeGate, wait_until
from freshgate import _environment
from freshgate.__main__ import CannotStart, _check_python, _numbers

GATE = """
import os, subprocess, sys, time
os.environ["FRESHGATE_GATE_PID"] = str(os.getpid())
subprocess.Popen(sys.argv[1:], preexec_fn=os.setpgrp)
time.sleep(100)
"""
START = "import runpy; runpy.run_module('freshgate', run_name='__main__', alter_sys=True)"


def start(gate: FakeGate, folder: Path, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Starts the package with something wrong, and waits for the end of it."""
    code = textwrap.dedent(before) + "\n" + START
    return subprocess.run(
        [sys.executable, "-c", code, str(streamlit_app.APP)],
        cwd=folder,
        env=streamlit_app.environment(gate, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_name_that_streamlit_lacks_is_named(gate: FakeGate, tmp_path: Path) -> None:
    done = start(
        gate,
        tmp_path,
        """
        import streamlit.user_info, streamlit.runtime.app_session
        del streamlit.user_info.UserInfoProxy
        del streamlit.runtime.app_session.AppSession.request_rerun
        """,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"freshgate: Streamlit {streamlit.__version__} lacks what freshgate 0.1.0 builds on: "
        "AppSession.request_rerun, UserInfoProxy. Update freshgate, or install a Streamlit that it knows: "
        f"{sys.executable} -m pip install streamlit==1.67.0\n"
    )


def test_what_is_here_is_told_to_who_checks(gate: FakeGate, tmp_path: Path) -> None:
    def told(before: str = "") -> dict[str, object]:
        code = f"{before}\nimport sys; sys.argv = ['freshgate', '--describe']\n{START}"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=streamlit_app.environment(gate),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    good = told()
    assert (good["streamlit"], good["problem"]) == (streamlit.__version__, None)
    assert good["python"] == platform.python_version()
    old = told("import streamlit; streamlit.__version__ = '1.49.1'")
    assert old["streamlit"] == "1.49.1"
    assert str(old["problem"]).startswith("Streamlit 1.49.1 is too old")
    none = told("import sys; sys.modules['streamlit'] = None")
    assert none["streamlit"] is None
    assert "Streamlit" in str(none["problem"])


def test_a_python_that_is_too_old() -> None:
    with pytest.raises(CannotStart, match=r"^Python 3\.9 is too old: 3\.10 or newer is needed\. Name one"):
        _check_python((3, 9))
    _check_python((3, 10))
    _check_python((4, 0))


def test_a_streamlit_that_is_too_old(gate: FakeGate, tmp_path: Path) -> None:
    done = start(gate, tmp_path, "import streamlit; streamlit.__version__ = '1.49.1'")
    assert done.returncode == 2
    assert done.stderr.startswith("freshgate: Streamlit 1.49.1 is too old: 1.50 or newer is needed. Update it: ")
    assert done.stderr.count("\n") == 1


def test_a_streamlit_that_is_newer_than_known_is_tried(gate: FakeGate, tmp_path: Path) -> None:
    done = start(gate, tmp_path, "import streamlit; streamlit.__version__ = '2.3.0'", FRESHGATE_GATE_PID="none")
    assert "FRESHGATE_GATE_PID" in done.stderr, "the version was no obstacle"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("streamlit", "Streamlit is not installed for {python}. Install it: {python} -m pip install streamlit"),
        ("google.protobuf", "but cannot be loaded"),
    ],
)
def test_a_streamlit_that_is_not_there(gate: FakeGate, tmp_path: Path, module: str, said: str) -> None:
    done = start(
        gate,
        tmp_path,
        f"""
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Absent())
        """,
    )
    assert done.returncode == 2
    assert said.format(python=sys.executable) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "what", "mend"),
    [
        ("", "", ""),
        (
            "sys.meta_path.insert(0, Absent())",
            f"Streamlit is not installed for {sys.executable}",
            f"Install it: {sys.executable} -m pip install streamlit, or name the Python that has it",
        ),
        (
            "importlib.metadata.version = lambda _: '1.49.1'",
            "Streamlit 1.49.1 is too old: 1.50 or newer is needed",
            f"Update it: {sys.executable} -m pip install --upgrade streamlit",
        ),
        (
            "sys.version_info = (3, 9, 0, 'final', 0)",
            "Python 3.9 is too old: 3.10 or newer is needed",
            "Name one that has Streamlit: freshgate run app.py --python PATH",
        ),
    ],
    ids=["good", "absent", "old", "old_python"],
)
def test_the_gate_asks_before_it_starts_anything(tmp_path: Path, before: str, what: str, mend: str) -> None:
    prepared = """
        import importlib.metadata, importlib.util, sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name == "streamlit":
                    raise ModuleNotFoundError("No module named 'streamlit'", name=name)
    """
    code = "\n".join([textwrap.dedent(prepared), before, START, "assert 'streamlit' not in sys.modules"])
    done = subprocess.run(
        [sys.executable, "-c", code, "--check"],
        cwd=tmp_path,
        # Of what the gate tells the app it needs nothing.
        env={"PYTHONPATH": str(streamlit_app.PACKAGE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = f"{what}\n{mend}\n" if what else ""
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 2 if said else 0)


def test_without_a_gate(gate: FakeGate, tmp_path: Path) -> None:
    variables = dict.fromkeys(("FRESHGATE_SESSION_API", "FRESHGATE_UPSTREAM_SECRET", "FRESHGATE_GATE_PID"), "")
    done = start(gate, tmp_path, **variables)
    assert done.returncode == 2
    assert done.stderr == (
        "freshgate: this is the part that runs inside an app behind the gate. "
        "Start the app with: freshgate run app.py. "
        "Behind freshgate serve, name the app's secret_file in FRESHGATE_UPSTREAM_SECRET_FILE\n"
    )


def test_streamlits_own_errors_and_exit_codes_stay(gate: FakeGate, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "freshgate", "absent.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=streamlit_app.environment(gate), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Usage: streamlit run" in done.stderr
    assert "absent.py" in done.stderr


def test_a_file_named_like_a_module_does_not_take_its_place(gate: FakeGate, tmp_path: Path) -> None:
    (tmp_path / "uuid.py").write_text("raise SystemExit('the wrong one')")
    command = [sys.executable, "-m", "freshgate", "absent.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=streamlit_app.environment(gate), capture_output=True, text=True, check=False
    )
    assert "Usage: streamlit run" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_streamlits(gate: FakeGate, tmp_path: Path, how: signal.Signals) -> None:
    with streamlit_app.running(gate, tmp_path) as app, app.open(gate.sign_in()) as page:
        page.run("name")
        app.process.send_signal(how)
        assert app.process.wait(15) == 0
        assert "Stopping..." in app.log.read_text()


@pytest.mark.parametrize("between", [False, True])
def test_the_app_ends_with_its_gate(gate: FakeGate, tmp_path: Path, between: bool) -> None:
    """A process of its own is the gate, and is killed; perhaps another one stands between it and the app."""
    port = streamlit_app.free_port()
    command = [sys.executable, "-m", "freshgate", *streamlit_app.arguments(port, streamlit_app.APP)]
    stands_between = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"] if between else []
    with (tmp_path / "app.log").open("wb") as log:
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                GATE,
                *stands_between,
                *command,
            ],
            cwd=tmp_path,
            env=streamlit_app.environment(gate),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        app = streamlit_app.App(parent, port, tmp_path / "app.log")
        streamlit_app.wait_until_healthy(app)
        with app.open(gate.sign_in()) as page:
            page.run("name")
            children = page.run("start").said["started"]
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
            streamlit_app.wait_until_gone(port)
            wait_until(lambda: not any(map(is_alive, children)))
    finally:
        parent.kill()
        parent.communicate()
    assert "The gate has gone. Stopping the app." in app.log.read_text()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_pages_and_navigation(gate: FakeGate, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            """
            import json
            import streamlit as st
            import helper

            def first():
                st.text(json.dumps({"page": "first", "name": st.user.name}))

            def second():
                st.user.refresh()
                st.text(json.dumps({"page": "second", "name": st.user.name, "help": helper.HELP}))

            page = st.navigation([st.Page(first, default=True), st.Page(second)])
            st.text(json.dumps({"title": page.title}))
            page.run()
            """
        )
    )
    (tmp_path / "helper.py").write_text("HELP = 'beside the script'")
    handle = gate.sign_in(name="Ada")
    gate.at_provider[handle] = {"name": "Grace"}
    base = "/team/app"
    with (
        streamlit_app.running(gate, tmp_path, "--server.baseUrlPath=team/app", script=script, base=base) as app,
        app.open(handle) as page,
    ):
        assert page.run().said == {"page": "first", "name": "Ada", "title": "first"}
        assert page.run(page="second").said == {
            "page": "second",
            "name": "Grace",
            "title": "second",
            "help": "beside the script",
        }
        # A rerun that the gate asks for stays on the page.
        gate.at_provider[handle] = {}
        gate.rotate(handle, name="Hopper")
        assert page.next_run().said["page"] == "second"
        gate.end(handle)
        page.next_run()


def test_sign_in_follows_the_secrets_where_the_gate_has_not_said(gate: FakeGate, tmp_path: Path) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(
        """
        [auth]
        redirect_uri = "http://localhost:8501/oauth2callback"
        cookie_secret = "x"
        [auth.okta]
        client_id = "public client: no secret"
        server_metadata_url = "https://idp.example/.well-known/openid-configuration"
        """
    )
    with streamlit_app.running(gate, tmp_path, "--server.baseUrlPath=base", base="/base") as app, app.open() as page:
        assert page.run("login", provider="okta").redirect == "/base/auth/login?provider=okta"
        (error,) = page.run("login").errors
        assert error == (
            "freshgate.FreshgateError: There is no default provider to sign in with. Configure one in the [auth] "
            "section of `.streamlit/secrets.toml` or in `freshgate.toml`, or name another: okta."
        )
        assert page.run("logout").redirect == "/base/auth/logout"


def test_an_ended_session_leaves_an_app_that_is_behind_the_login(gate: FakeGate, tmp_path: Path) -> None:
    variables = {"FRESHGATE_SIGNED_OUT": "/reports/auth/logout"}
    with streamlit_app.running(gate, tmp_path, variables=variables) as app:
        handle = gate.sign_in(name="Ada")
        with app.open(handle) as idle, app.open(handle) as running:
            idle.run("name")
            running.start("work", ready=str(tmp_path / "ready"))
            wait_until((tmp_path / "ready").exists)
            gate.end(handle)
            # Also in the middle of a run: its socket is about to close.
            for page in (idle, running):
                assert page.sent_to() == "/reports/auth/logout"
            assert idle.stays_quiet(), "there is nobody to run it for"


def test_apptest_is_not_affected(gate: FakeGate, tmp_path: Path) -> None:
    code = """
        from freshgate._identity import Identity
        from freshgate._session import Sessions
        from freshgate._session_api import SessionApi
        Identity(Sessions(SessionApi("unix:/nowhere", "secret")), None).install()

        from streamlit.testing.v1 import AppTest

        script = "\\n".join([
            "import streamlit as st",
            "st.session_state.clicks = st.session_state.get('clicks', 0) + st.button('Click')",
            "st.text(st.session_state.clicks)",
            "st.text(st.user.to_dict())",
            "st.user.refresh()",
        ])
        test = AppTest.from_string(script).run()
        test.button[0].click().run()
        assert test.text[0].value == "1", test
        assert "nobody is signed in" in test.exception[0].message, test.exception
    """
    environment = streamlit_app.environment(gate)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, env=environment, check=True, timeout=60)


# What the gate tells the process


def good() -> dict[str, str]:
    return {
        "FRESHGATE_SESSION_API": "unix:/run/session-api.sock",
        "FRESHGATE_UPSTREAM_SECRET": SECRET,
        "FRESHGATE_GATE_PID": "12",
        "PYTHONPATH": os.pathsep.join([str(streamlit_app.PACKAGE), "/the/users/own"]),
        "HOME": "/home/ada",
    }


def test_the_environment_is_taken_away() -> None:
    variables = good() | {"FRESHGATE_PROVIDERS": "default, okta", "FRESHGATE_SIGNED_OUT": "/auth/logout"}
    taken = _environment.take(variables)
    assert variables == {"PYTHONPATH": "/the/users/own", "HOME": "/home/ada"}
    assert (taken.gate, taken.providers, taken.signed_out) == (12, frozenset({"default", "okta"}), "/auth/logout")
    assert SECRET not in repr(taken)
    assert _environment.take(good()).providers is None


def test_every_problem_of_the_environment_is_said_at_once() -> None:
    variables = {"FRESHGATE_SESSION_API": "http://gate.example:80", "FRESHGATE_GATE_PID": "x"}
    with pytest.raises(_environment.BadEnvironment) as caught:
        _environment.take(variables)
    assert str(caught.value) == (
        "FRESHGATE_SESSION_API is neither unix:/path nor http://127.0.0.1:PORT; FRESHGATE_UPSTREAM_SECRET is not set; "
        "FRESHGATE_GATE_PID is not the number of a process. freshgate run sets these itself; behind freshgate serve, "
        "FRESHGATE_UPSTREAM_SECRET_FILE names the app's secret_file"
    )


def test_an_app_that_runs_by_itself_needs_its_secret_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "reports.secret"
    file.write_text(f"{SECRET}\n")
    variables = {"FRESHGATE_UPSTREAM_SECRET_FILE": str(file)}
    taken = _environment.take(variables)
    assert variables == {}
    assert taken.gate is None
    assert vars(taken.api)["_secret"] == SECRET
    assert vars(taken.api)["_unix_path"] == "/run/freshgate/session-api.sock"
    elsewhere = {"FRESHGATE_UPSTREAM_SECRET_FILE": str(file), "FRESHGATE_SESSION_API": "http://127.0.0.1:8503"}
    assert vars(_environment.take(elsewhere).api)["_port"] == 8503


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "FRESHGATE_UPSTREAM_SECRET_FILE cannot be read"), ("\n", "names an empty file"), ("a b", "is malformed")],
)
def test_a_secret_file_that_is_no_good(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "reports.secret"
    if text is not None:
        file.write_text(text)
    with pytest.raises(_environment.BadEnvironment, match=said):
        _environment.take({"FRESHGATE_UPSTREAM_SECRET_FILE": str(file)})


@pytest.mark.parametrize(
    ("version", "numbers"), [("1.50.0", (1, 50)), ("1.9", (1, 9)), ("2.0.0rc1", (2, 0)), ("1.68.1.dev3", (1, 68))]
)
def test_versions(version: str, numbers: tuple[int, ...]) -> None:
    assert _numbers(version) == numbers
