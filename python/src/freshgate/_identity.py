"""Who is at the other end of a connection, and what `st.user.refresh()` and `st.login()` do about it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import streamlit

from freshgate import _streamlit_private
from freshgate._session import Ended, Sessions
from freshgate._session_api import LOCAL_TIMEOUT, LONGEST_WAIT, is_handle
from freshgate._user import ANONYMOUS, SessionUser
from freshgate.errors import FreshgateError, NotSignedIn, SignInAgain, TryLater

#: The request header by which the gate names the session.
HEADER: Final = "Freshgate-Session"

#: What one login may ask of the provider: texts, numbers, lists of texts, and JSON objects for `claims`.
Parameter = str | int | bool | Sequence[str] | Mapping[str, Any] | None

_LOGGER: Final = logging.getLogger("freshgate")
# A gate that hangs may hold the event loop once in this many seconds, and no longer than LOCAL_TIMEOUT.
_TRUST_AGAIN_AFTER: Final = 5.0


# The path of the login that the script is about to be sent to, where the gate has prepared one.
_prepared: Final[ContextVar[str | None]] = ContextVar("freshgate_prepared_login", default=None)
_installed: Identity | None = None


class Identity:
    """The users of this app."""

    def __init__(self, sessions: Sessions, providers: frozenset[str] | None, signed_out: str | None = None) -> None:
        """`providers`: those that one can sign in with. `None`: the gate has not said.

        `signed_out`: where pages go whose session has ended. `None`: they stay.
        """
        self._sessions = sessions
        self._signed_out = signed_out
        self._providers = providers
        self._ask_on_connect_from = 0.0

    def install(self) -> None:
        """Makes Streamlit go by this, for the life of the process."""
        global _installed  # noqa: PLW0603 - one process, one gate
        _installed = self
        _streamlit_private.install(
            HEADER,
            _streamlit_private.Replacements(
                user_info=self.of_connection,
                refresh=refresh,
                validate_provider=self.validate_provider,
                login_url=login_url,
                signed_out=self._signed_out,
            ),
        )

    def of_connection(self, handles: list[str], known: Mapping[str, Any]) -> dict[str, Any]:
        """The user info of a new connection. Runs on the event loop: one local question, with a bound.

        A connection that the gate did not name a session for is anonymous. One that it did is signed in even if the
        gate cannot be asked right now, for signing a user out over a hiccup would lose their work: it then starts
        unread, and the script asks at its first look at `st.user` and gets `TryLater` if that fails too.
        """
        beside = {name: known[name] for name in _trusted_names() if name in known}
        if len(handles) != 1 or not is_handle(handles[0]):
            if handles:
                _LOGGER.warning("A connection named its session in a way that the gate does not. It is anonymous.")
            return {**beside, **ANONYMOUS}
        session = self._sessions.open(handles[0])
        # Made first: it keeps the session in use, so events reach it from here on.
        user = SessionUser(session, beside)
        started = time.monotonic()
        if started < self._ask_on_connect_from:
            return user
        try:
            session.read()
            user.mark_presented()
        except SignInAgain:
            return {**beside, **ANONYMOUS}
        except TryLater as error:
            _LOGGER.warning("The gate could not be asked about a session (%s).", error.reason)
            if time.monotonic() - started > LOCAL_TIMEOUT / 2:
                self._ask_on_connect_from = time.monotonic() + _TRUST_AGAIN_AFTER
        except FreshgateError as error:
            _LOGGER.warning("The gate answered something unexpected about a session (%s).", error.reason)
        return {**beside, **ANONYMOUS} if isinstance(session.state, Ended) else user

    def prepare_login(self, provider: str, parameters: Mapping[str, Parameter]) -> str:
        """The path of a login that asks for these parameters, for the browser of the script that runs."""
        self.validate_provider(provider)
        user = _streamlit_private.script_user()
        handle = user.session.handle if isinstance(user, SessionUser) and not user.is_over() else None
        return self._sessions.api.prepare_login(handle, provider, parameters)

    def validate_provider(self, name: str) -> None:
        """Raises `FreshgateError` for a provider that is not configured."""
        providers = self._providers if self._providers is not None else _providers_in_secrets()
        if providers is None or name in providers:
            return
        error = FreshgateError(
            "There is no default provider to sign in with. Configure one in the [auth] section of "
            "`.streamlit/secrets.toml` or in `freshgate.toml`, or name another: " + _listed(providers)
            if name == "default"
            else f'The provider "{name}" is not configured. Configured: {_listed(providers)}'
        )
        error.reason = "unknown_provider"
        raise error


def login(provider: str | None = None, /, **parameters: Parameter) -> None:
    """`st.login(provider)` that asks for more: `freshgate.login(prompt="login", login_hint="ada@example.com")`.

    Any parameter of an authorization request can be named but the protocol's own (`state`, `redirect_uri`, …). It takes
    the place of what is configured; `None` leaves a configured one out. A list of texts is a list of words, as in
    `scope`. `acr_values` and `max_age` are checked when the user comes back: who did not sign in that way keeps the
    session there was. A user who did gets a new session in its place.

    The address that the browser is sent to is sealed by the gate: nobody can make or change one, and it is good for
    this browser alone. Raises `freshgate.FreshgateError` for what cannot be asked for, and `freshgate.TryLater` where
    the gate cannot be asked.
    """
    if _installed is None:
        raise FreshgateError(
            "freshgate.login() works in an app behind the gate. Start the app with: freshgate run app.py"
        )
    name = provider or "default"
    before = _prepared.set(_installed.prepare_login(name, parameters))
    try:
        streamlit.login(name)
    finally:
        _prepared.reset(before)


def authorization(method: str, url: str, nonce: str | None = None) -> dict[str, str]:
    """The headers of one request to an API: `requests.get(url, headers=freshgate.authorization("GET", url))`.

    `Authorization` holds an access token that is never expired. If the provider has bound it to the session's key
    (DPoP, RFC 9449), `DPoP` holds the proof that the key's holder sends this request: for this method and address, at
    once.
    Where an API answers 401 with a header `DPoP-Nonce`, ask again with that `nonce`.

    The access token must be among `expose_tokens`. Raises `freshgate.SignInAgain`, `freshgate.TryLater` and
    `freshgate.NotSignedIn` as `st.user.refresh()` does.
    """
    user = _streamlit_private.script_user()
    if not isinstance(user, SessionUser):
        raise NotSignedIn("Nobody is signed in, so there is no access token. Call st.login() first.")
    return user.authorization(method, url, nonce)


def login_url(provider: str) -> str:
    """Where `st.login` sends the browser: the gate takes a plain name, and brings the user back to this page."""
    base = "/" + str(streamlit.get_option("server.baseUrlPath") or "").strip("/")
    login = _prepared.get() or f"{base.rstrip('/')}/auth/login?provider={quote(provider, safe='')}"
    page = _this_page()
    return login if page is None or page.rstrip("/") == base.rstrip("/") else f"{login}&next={quote(page, safe='/')}"


def refresh(_: object, *, timeout: float = 20.0) -> None:
    """Fetches new tokens and claims from the provider, now; returns when `st.user` shows them, in this same run.

    `st.session_state` is kept, nothing is run again in this tab. Waits up to `timeout` seconds (at most 60).

    Raises `freshgate.SignInAgain` where the session is over, `freshgate.TryLater` where the provider cannot be asked
    now (see `retry_after`; `st.user` is unchanged), `freshgate.NoRefreshToken` where it gave none, and
    `freshgate.NotSignedIn` without a signed-in user. All are `streamlit.errors.StreamlitAuthError`.
    """
    if not timeout > 0:
        raise ValueError("timeout must be a positive number of seconds")
    user = _streamlit_private.script_user()
    if user is None:
        raise NotSignedIn(
            "st.user.refresh() works in an app's script, or in a thread that was given the script's context."
        )
    if not isinstance(user, SessionUser):
        raise NotSignedIn("There is nothing to refresh: nobody is signed in. Call st.login() first.")
    user.refresh(min(timeout, LONGEST_WAIT))


def last_refresh() -> str | None:
    """What came of this session's last `st.user.refresh()`, or of its last read of a token that had to ask.

    One of `refreshed`, `shared` (another's request brought it), `tokens_only` (the provider sends no claims with a
    refresh: `st.user` is as it was, with new tokens), `not_needed`, `kept` (the provider is away, and the token at hand
    still lives), `try_later`, `sign_in_again`, `no_refresh_token`. `None`: nobody asked yet.
    """
    # Not what `refresh` returns: Streamlit writes the value of a statement on the page.
    user = _streamlit_private.script_user()
    return user.session.last_refresh if isinstance(user, SessionUser) else None


def _this_page() -> str | None:
    """Path and query of the page that runs the script, as the browser sees them."""
    try:
        address = streamlit.context.url
        query = [(name, value) for name in streamlit.query_params for value in streamlit.query_params.get_all(name)]
    except Exception:  # a nicety, and it comes from the page: no reason not to sign in
        _LOGGER.debug("The page's address could not be had.", exc_info=True)
        return None
    if not address:
        return None
    path = urlsplit(address).path or "/"
    return f"{path}?{urlencode(query)}" if query else path


def _trusted_names() -> list[str]:
    """The names under which Streamlit shows headers of `server.trustedUserHeaders`."""
    mapping = streamlit.get_option("server.trustedUserHeaders")
    return list(mapping.values()) if isinstance(mapping, Mapping) else []


def _providers_in_secrets() -> frozenset[str] | None:
    """The providers of the app's [auth] section; `None` if it has none, for then the gate knows them from elsewhere."""
    auth = streamlit.secrets.get("auth") if streamlit.secrets.load_if_toml_exists() else None
    if not isinstance(auth, Mapping):
        return None
    named = {name for name, value in auth.items() if isinstance(value, Mapping) and name != "client_kwargs"}
    if "client_id" in auth:
        named.add("default")
    return frozenset(named) or None


def _listed(names: frozenset[str]) -> str:
    return (", ".join(sorted(names)) or "none") + "."
