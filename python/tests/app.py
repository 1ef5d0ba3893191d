"""The app of the integration tests. What it does, the page's query says (`?do=…`); what it sees, it says as JSON."""

import json
import os
import subprocess
import sys
import threading
import time

import streamlit as st
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx


def say(**values):
    st.text(json.dumps(values))


def user():
    return {name: value if name != "tokens" else dict(value) for name, value in st.user.to_dict().items()}


def wait_for(path):
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


st.session_state.setdefault("runs", 0)
st.session_state.runs += 1
do = st.query_params.get("do", "look")
say(run=st.session_state.runs, do=do)

if do == "look":
    say(user=user())
elif do == "name":
    say(name=st.user.get("name"), signed_in=st.user.is_logged_in)
elif do == "refresh":
    before = st.user.name, st.user.tokens["access"]
    answer = st.user.refresh()
    import freshgate

    after = st.user.name, st.user.tokens["access"]
    say(before=before, after=after, answer=answer, outcome=freshgate.last_refresh())
elif do == "refresh-and-catch":
    import freshgate

    try:
        st.user.refresh(timeout=3)
    except freshgate.FreshgateError as error:
        auth_error = isinstance(error, st.errors.StreamlitAuthError)
        say(error=type(error).__name__, reason=error.reason, retry_after=error.retry_after, auth_error=auth_error)
    say(outcome=freshgate.last_refresh())
    say(signed_in=st.user.is_logged_in)
elif do == "token":
    tokens = st.user.tokens
    say(
        item=tokens["access"], attribute=tokens.access, all=tokens.to_dict(), names=list(tokens), has="access" in tokens
    )
elif do == "twelve":
    everybody, seen = threading.Barrier(12), []

    def read():
        everybody.wait()
        seen.append(st.user.tokens["access"])

    threads = [add_script_run_ctx(threading.Thread(target=read), get_script_run_ctx()) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(seen=seen)
elif do == "watch":
    # A long run, and a thread of it, see a change that comes meanwhile.
    before, in_thread = (st.user.name, st.user.tokens["access"]), []
    ready, changed = st.query_params["ready"], st.query_params["changed"]

    def watch():
        wait_for(changed)
        in_thread.append((st.user.name, st.user.tokens["access"]))

    thread = add_script_run_ctx(threading.Thread(target=watch), get_script_run_ctx())
    thread.start()
    open(ready, "w").close()
    thread.join()
    say(before=before, after=(st.user.name, st.user.tokens["access"]), in_thread=in_thread[0])
elif do == "work":
    # What a click has started: the change that comes while it runs does not cut it off.
    before = st.user.name
    done_before = st.session_state.setdefault("done", [])[:]
    if st.session_state.runs == 1:
        open(st.query_params["ready"], "w").close()
        deadline = time.monotonic() + 10
        while st.user.name == before and time.monotonic() < deadline:
            st.empty()  # where Streamlit stops a script
            time.sleep(0.02)
        for _ in range(20):
            st.empty()
            time.sleep(0.02)
    st.session_state.done.append([before, st.user.name])
    say(before=before, done_before=done_before)
elif do == "start":
    # One that ends when it is asked to, and one that does not.
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(30)"
    polite = subprocess.Popen(["sleep", "30"])
    other = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    other.stdout.readline()
    say(started=[polite.pid, other.pid])
elif do == "login":
    st.login(*filter(None, [st.query_params.get("provider")]))
elif do == "authorization":
    import freshgate

    try:
        say(headers=freshgate.authorization("GET", "https://api.example/x", st.query_params.get("nonce")))
    except freshgate.FreshgateError as error:
        say(error=type(error).__name__, reason=error.reason, signed_in=st.user.is_logged_in)
elif do == "login-with":
    import freshgate

    try:
        freshgate.login(st.query_params.get("provider"), **json.loads(st.query_params["parameters"]))
    except freshgate.FreshgateError as error:
        say(error=type(error).__name__, reason=error.reason, message=str(error))
elif do == "logout":
    st.logout()
    say(signed_in=st.user.is_logged_in, user=st.user.get("name"))
elif do == "json":
    st.json(st.user)
    st.write(st.user)
elif do == "process":
    import freshgate

    environment = [name for name in os.environ if name.startswith("FRESHGATE_")]
    say(
        environment=environment,
        python_path=os.environ.get("PYTHONPATH"),
        argv=sys.argv,
        version=freshgate.__version__,
        here_last=sys.path[-1] == os.getcwd(),
        authlib="authlib" in sys.modules,
    )
elif do == "path":
    # The module path is the app's to change; nothing of freshgate may be loaded late.
    kept = sys.path[:]
    sys.path[:] = [entry for entry in sys.path if "freshgate" not in entry and entry != st.query_params["package"]]
    try:
        st.user.refresh()
        say(name=st.user.name, access=st.user.tokens["access"])
    finally:
        sys.path[:] = kept
