"""Every name of Streamlit that is not part of its public API, and nothing else.

`missing()` checks them all before the app starts, so a Streamlit that has moved one says so at once instead of failing
under a user. Read together with Streamlit 1.50 to 1.67.

What the rest of the package relies on, beyond the names: the script's `ctx.user_info` is the very dict that the
`AppSession` got when it was made, `st.user` reads it by `copy()`, and a rerun may only be asked for on the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from freshgate._user import SessionUser

# How long a page's run may go on after claims changed, and after the session ended, before it is cut off (seconds).
_PATIENCE: Final = 10.0
_PATIENCE_WHEN_OVER: Final = 1.0
_LOOK_AGAIN_AFTER: Final = 0.05


@dataclass(frozen=True)
class Replacements:
    """What takes the place of Streamlit's own."""

    #: From the values of the header that names the session, and what Streamlit knows of the user from elsewhere, the
    #: user info of a new connection.
    user_info: Callable[[list[str], Mapping[str, Any]], dict[str, Any]]
    #: `st.user.refresh`
    refresh: Callable[..., None]
    #: Raises for a provider that cannot be signed in with.
    validate_provider: Callable[[str], None]
    #: Where `st.login(provider)` sends the browser.
    login_url: Callable[[str], str]
    #: Where pages go whose session has ended. `None`: they stay, and run as those of nobody.
    signed_out: str | None


def install(header: str, replacements: Replacements) -> None:
    """Puts the replacements in place, for this process. `header` names the session in a connection's request."""
    runtime = _module("streamlit.runtime.runtime")
    user_info = _module("streamlit.user_info")
    runtime.Runtime.connect_session = _connect_session(runtime.Runtime.connect_session, header, replacements)
    user_info.UserInfoProxy.refresh = replacements.refresh
    # The gate speaks OpenID Connect, not the app: Authlib is not needed, and Streamlit's own keys may be elsewhere.
    user_info.is_authlib_installed = lambda: True
    user_info.validate_auth_credentials = replacements.validate_provider
    user_info.generate_login_redirect_url = replacements.login_url


def script_user() -> object:
    """The user info that the calling script, or thread with a script's context, reads. `None` outside of one."""
    context = _module("streamlit.runtime.scriptrunner").get_script_run_ctx(suppress_warning=True)
    return None if context is None else context.user_info


def _connect_session(original: Callable[..., str], header: str, replacements: Replacements) -> Callable[..., str]:
    @functools.wraps(original)
    def connect_session(
        runtime: Any,
        client: Any,
        user_info: dict[str, Any],
        existing_session_id: str | None = None,
        *more: Any,
        **named: Any,
    ) -> str:
        values = _upgrade_header(client, header)
        if values is None:
            # Not a browser's connection (Streamlit's agent API makes its own): there is no header to go by.
            return original(runtime, client, user_info, existing_session_id, *more, **named)
        chosen = replacements.user_info(values, user_info)
        known = runtime._session_mgr.get_session_info(existing_session_id) if existing_session_id else None
        # Streamlit compares from 1.61.1 on; before, anybody who knew the id got the session.
        is_anothers = known is not None and not known.session._user_info == chosen  # noqa: SIM201 - `==` is the rule
        if is_anothers:
            existing_session_id = None
        session_id = original(runtime, client, chosen, existing_session_id, *more, **named)
        _follow(runtime, session_id, replacements.signed_out)
        if is_anothers:
            _start_anew(runtime, session_id)
        return session_id

    return connect_session


def _follow(runtime: Any, session_id: str, signed_out: str | None) -> None:
    """Ties the connected session's user to its page. After a resume that user is older than the connection."""
    connected = runtime._session_mgr.get_active_session_info(session_id)
    user = connected.session._user_info if connected is not None else None
    if isinstance(user, SessionUser):
        user.tab = _Tab(runtime, session_id, asyncio.get_running_loop(), signed_out)
        user.tab.rerun_if_outdated(user)


def _start_anew(runtime: Any, session_id: str) -> None:
    """Runs the script for a page that came back as somebody else, usually signed out.

    Such a page takes itself for resumed: it goes on showing what it showed, and asks for nothing. (One whose session
    Streamlit has forgotten does so, too; that is left as it is, for the page's widgets keep their values then.)
    """
    connected = runtime._session_mgr.get_active_session_info(session_id)
    if connected is not None:
        asyncio.get_running_loop().call_soon(connected.session.request_rerun, None)


def _upgrade_header(client: Any, name: str) -> list[str] | None:
    """The header's values in the request that opened the connection; `None` where there was none."""
    context = getattr(client, "client_context", None)
    if context is not None:
        return [value for key, value in context.headers if key.lower() == name.lower()]
    # Tornado's handler, before Streamlit 1.53: it is the client itself.
    request = getattr(client, "request", None)
    return None if request is None else list(request.headers.get_list(name))


class _Tab:
    """One Streamlit session, as a page that can be run again."""

    def __init__(self, runtime: Any, session_id: str, loop: asyncio.AbstractEventLoop, signed_out: str | None) -> None:
        self._runtime = runtime
        self._session_id = session_id
        self._loop = loop
        self._signed_out = signed_out
        self._waits = False

    def rerun_if_outdated(self, user: SessionUser) -> None:
        """From any thread."""
        if not user.is_outdated():
            return
        try:
            self._loop.call_soon_threadsafe(self._start, user)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _start(self, user: SessionUser) -> None:
        if not self._waits:
            self._waits = True
            self._rerun(user, self._loop.time())

    def _rerun(self, user: SessionUser, since: float) -> None:
        """Asks for the rerun once no run is under way, or has been for too long.

        Streamlit stops a running script for it: what a click has started would be cut off half done. It also knows the
        page's query only when a run is over.
        """
        connected = self._runtime._session_mgr.get_active_session_info(self._session_id)
        # A page that has gone keeps its outdated user; if it comes back, `_follow` looks again.
        if connected is not None and connected.session._user_info is user and user.is_outdated():
            if self._signed_out is not None and user.is_over():
                # Whatever runs there, its socket is about to close.
                user.mark_presented()
                connected.session._enqueue_forward_msg(_redirect(self._signed_out))
                self._waits = False
                return
            patience = _PATIENCE_WHEN_OVER if user.is_over() else _PATIENCE
            if connected.session._scriptrunner is not None and self._loop.time() - since < patience:
                self._loop.call_later(_LOOK_AGAIN_AFTER, self._rerun, user, since)
                return
            user.mark_presented()
            connected.session.request_rerun(connected.session._client_state)
        self._waits = False


def _redirect(url: str) -> Any:
    """What `st.login()` and `st.logout()` tell the page."""
    message = _module("streamlit.proto.ForwardMsg_pb2").ForwardMsg()
    message.auth_redirect.url = url
    return message


def missing() -> list[str]:
    """The names that this Streamlit lacks, all of them. Empty: it can be used."""
    return [name for name, is_there in _REQUIRED.items() if not _holds(is_there)]


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (ImportError, AttributeError, TypeError, ValueError):
        return False


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _has(module: str, *path: str) -> Callable[[], bool]:
    def check() -> bool:
        found = _module(module)
        for name in path:
            found = getattr(found, name)
        return True

    return check


def _takes(module: str, owner: str, name: str, *parameters: str) -> Callable[[], bool]:
    def check() -> bool:
        method = getattr(getattr(_module(module), owner), name)
        return list(inspect.signature(method).parameters)[: len(parameters)] == list(parameters)

    return check


def _uses(module: str, path: str, *names: str) -> Callable[[], bool]:
    """Whether the function's own code speaks of these names: attributes it sets, functions it calls."""

    def check() -> bool:
        found = _module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return set(names) <= set(inspect.unwrap(found).__code__.co_names)

    return check


def _has_headers() -> bool:
    client = _module("streamlit.runtime.session_manager").SessionClient
    if hasattr(client, "client_context"):
        return True
    return client in _module("streamlit.web.server.browser_websocket_handler").BrowserWebSocketHandler.__mro__


_REQUIRED: Final[dict[str, Callable[[], bool]]] = {
    "Runtime.connect_session(client, user_info, existing_session_id)": _takes(
        "streamlit.runtime.runtime", "Runtime", "connect_session", "self", "client", "user_info", "existing_session_id"
    ),
    "Runtime._session_mgr": _uses("streamlit.runtime.runtime", "Runtime.__init__", "_session_mgr"),
    "SessionManager.get_session_info": _has("streamlit.runtime.session_manager", "SessionManager", "get_session_info"),
    "SessionManager.get_active_session_info": _has(
        "streamlit.runtime.session_manager", "SessionManager", "get_active_session_info"
    ),
    "SessionClient.client_context": _has_headers,
    "AppSession._user_info": _uses("streamlit.runtime.app_session", "AppSession.__init__", "_user_info"),
    "AppSession._client_state": _uses("streamlit.runtime.app_session", "AppSession.__init__", "_client_state"),
    "AppSession._scriptrunner": _uses("streamlit.runtime.app_session", "AppSession.__init__", "_scriptrunner"),
    "AppSession.request_rerun": _takes(
        "streamlit.runtime.app_session", "AppSession", "request_rerun", "self", "client_state"
    ),
    "AppSession._enqueue_forward_msg": _takes(
        "streamlit.runtime.app_session", "AppSession", "_enqueue_forward_msg", "self", "msg"
    ),
    "ForwardMsg.auth_redirect": _has("streamlit.proto.ForwardMsg_pb2", "ForwardMsg", "AUTH_REDIRECT_FIELD_NUMBER"),
    "get_script_run_ctx": _has("streamlit.runtime.scriptrunner", "get_script_run_ctx"),
    "UserInfoProxy": _has("streamlit.user_info", "UserInfoProxy"),
    "user_info._get_user_info, by copy()": _uses("streamlit.user_info", "_get_user_info", "user_info", "copy"),
    "user_info.is_authlib_installed": _uses("streamlit.user_info", "login", "is_authlib_installed"),
    "user_info.validate_auth_credentials": _uses("streamlit.user_info", "login", "validate_auth_credentials"),
    "user_info.generate_login_redirect_url": _uses("streamlit.user_info", "login", "generate_login_redirect_url"),
    "streamlit.web.cli.main": _has("streamlit.web.cli", "main"),
}
