"""`st.user.tokens`: reading one refreshes it first if it is about to expire."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn

from freshgate._session import Open

if TYPE_CHECKING:
    from freshgate._user import SessionUser


class Tokens(dict[str, str]):
    """The exposed tokens of a session, by name (`access`, `id`), also as attributes. Read-only.

    A dict, because Streamlit and apps copy and serialise it as one. What it stores is the state at its making and good
    for names alone: every way to a value asks for a fresh one. Those raise `freshgate.SignInAgain` where the session is
    over and `freshgate.TryLater` where a token has expired and cannot be renewed now.
    """

    def __init__(self, user: SessionUser) -> None:
        state = user.session.state
        super().__init__(state.document.tokens if isinstance(state, Open) and not user.is_over() else {})
        self._user = user

    def __getitem__(self, name: str) -> str:
        if name not in self and not self._user.is_over():
            raise KeyError(name)
        return self._user.tokens()[name]

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'Token "{name}" is not exposed or does not exist.') from None

    # Overridden although it changes nothing: `dict(tokens)` takes values past __getitem__ from a dict that has not.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def to_dict(self) -> dict[str, str]:
        """The fresh tokens in a plain dict."""
        return dict(self._user.tokens()) if self else {}

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - that would be this method again

    def items(self) -> ItemsView[str, str]:  # type: ignore[override]
        return self.to_dict().items()

    def values(self) -> ValuesView[str]:  # type: ignore[override]
        return self.to_dict().values()

    def copy(self) -> dict[str, str]:
        return self.to_dict()

    def __or__(self, other: Any) -> Any:
        return self.to_dict() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.to_dict()

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "***"))

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return dict, (self.to_dict(),)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            self._refuse()
        super().__setattr__(name, value)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("st.user.tokens cannot be modified")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse
