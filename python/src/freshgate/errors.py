"""What an app can be told when a session cannot be read or refreshed.

One root, `FreshgateError`. Where Streamlit is installed it is a `streamlit.errors.StreamlitAuthError`: an app that
already handles Streamlit's own sign-in errors handles these too, and an unhandled one is shown as a plain sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    _Root = Exception
else:
    try:
        from streamlit.errors import StreamlitAuthError as _Root
    except ImportError:
        _Root = Exception

_PLAIN_REASONS: Final = {
    "idle": "it was not used for a while",
    "identity_changed": "the provider named another user",
    "lifetime": "its time is over",
    "logout": "you signed out",
    "no_refresh_token": "the provider does not renew it",
    "operator": "it was ended by an operator",
    "outcome_unknown": "it could not be renewed",
    "provider_logout": "you signed out at the provider",
    "refused": "the provider no longer renews it",
    "replaced": "you signed in again",
}


class FreshgateError(_Root):
    """The root of all errors of this package."""

    #: A stable code that says why, for programs. `None` where there is nothing to tell apart.
    reason: str | None = None
    #: After how many seconds it makes sense to try again. `None`: trying again does not help.
    retry_after: float | None = None
    #: What `freshgate.last_refresh()` calls it.
    outcome: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles as it stands: the constructors take other arguments than the message.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[FreshgateError], args: tuple[Any, ...], attributes: dict[str, Any]) -> FreshgateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class NotSignedIn(FreshgateError):
    """There is no signed-in user to do this for."""

    reason = "not_signed_in"


class NoRefreshToken(FreshgateError):
    """The provider gave no refresh token. The session lives on until its access token ends."""

    reason = outcome = "no_refresh_token"

    def __init__(self) -> None:
        super().__init__(
            "This sign-in cannot be refreshed: the provider gave no refresh token. "
            "Ask for one, for example with the scope offline_access."
        )


class SignInAgain(FreshgateError):
    """The session is over: only a new sign-in helps. `reason` says what ended it."""

    outcome = "sign_in_again"

    def __init__(self, reason: str) -> None:
        because = _PLAIN_REASONS.get(reason)
        super().__init__(
            f"Your sign-in has ended: {because}. Sign in again."
            if because
            else "Your sign-in has ended. Sign in again."
        )
        self.reason = reason


class TryLater(FreshgateError):
    """The provider or the gate cannot be asked now. The session is kept: try again after `retry_after` seconds."""

    outcome = "try_later"

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__("Your sign-in cannot be checked right now. Try again in a moment.")
        self.reason = reason
        self.retry_after = retry_after


# By the name under which apps find them: it is what a page shows of an error.
for _kind in (FreshgateError, NotSignedIn, NoRefreshToken, SignInAgain, TryLater):
    _kind.__module__ = "freshgate"
