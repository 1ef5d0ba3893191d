"""freshgate, inside the app.

There is nothing that must be called: `freshgate run app.py` loads this package into the app's process, and `st.user`,
`st.user.tokens`, `st.user.refresh()`, `st.login` and `st.logout` work from then on. Import it to handle its errors::

    try:
        st.user.refresh()
    except freshgate.SignInAgain:
        st.login()
    except freshgate.TryLater as error:
        st.info(f"Try again in {error.retry_after:.0f} s")

`freshgate.last_refresh()` says what came of the last one. To ask for more in one login::

    if st.user.get("acr") != "mfa":
        freshgate.login(acr_values="mfa")

and for the headers of a request to an API, whatever kind of token it is::

    requests.get(url, headers=freshgate.authorization("GET", url))

In any other web app behind a gate, `freshgate.user(request)`, or `await freshgate.async_user(request)`, is who sent a
request, with `claims`, `access_token()` and `refresh()`. `None`: nobody who is signed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freshgate._identity import authorization, last_refresh, login
    from freshgate._web import AsyncUser, User, async_user, user
    from freshgate.errors import FreshgateError, NoRefreshToken, NotSignedIn, SignInAgain, TryLater

__version__ = "0.1.0"

__all__ = [
    "AsyncUser",
    "FreshgateError",
    "NoRefreshToken",
    "NotSignedIn",
    "SignInAgain",
    "TryLater",
    "User",
    "__version__",
    "async_user",
    "authorization",
    "last_refresh",
    "login",
    "user",
]


def __getattr__(name: str) -> object:
    # On demand: the errors derive from Streamlit's where it is there, and loading that is slow and, at start-up, must
    # wait until the module path is in order.
    if name in {"authorization", "last_refresh", "login"}:
        from freshgate import _identity

        return getattr(_identity, name)
    if name in {"AsyncUser", "User", "async_user", "user"}:
        from freshgate import _web

        return getattr(_web, name)
    if name in __all__:
        from freshgate import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
