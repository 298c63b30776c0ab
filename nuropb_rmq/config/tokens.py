"""Access tokens, used in place of a password, and the functions that provide them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import NuropbConfigurationError
from .address import typed

_LONGEST: Final = 1e9  # seconds; more is a mistake


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A secret to log in with in place of a password, and its lifetime.

    token: for example a JWT, or a password that is changed now and then.
    expires_in: seconds from now, the `expires_in` of an OAuth 2 response (RFC 6749, 5.1); None if
        it is not known: then the token is renewed at reconnects only.

    repr() is masked. Raises NuropbConfigurationError for an empty token, or a time that is none.
    """

    token: str = field(repr=False)
    expires_in: float | None

    def __post_init__(self) -> None:
        token = typed("AccessToken.token", self.token, str, "a string")
        try:
            size = len(token.encode())
        except UnicodeEncodeError:  # from None: its text quotes the token
            raise NuropbConfigurationError(
                "AccessToken.token", "cannot be encoded as UTF-8"
            ) from None
        if not size:
            raise NuropbConfigurationError("AccessToken.token", "is empty")
        life = self.expires_in
        if life is None:
            return
        if isinstance(life, bool) or not isinstance(life, int | float) or not abs(life) < _LONGEST:
            problem = f"must be seconds, a number, or None, not {life!r}"
            raise NuropbConfigurationError("AccessToken.expires_in", problem)


TokenProvider = Callable[[], AccessToken | Awaitable[AccessToken]]
"""A function that returns a token that is valid now. An async one runs on the event loop, any other
in a thread of its own. Several connections may call it at the same time."""
