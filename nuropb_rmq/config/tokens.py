"""Access tokens to log in with in place of a password, and the functions that provide them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import NuropbConfigurationError
from .address import typed

__all__ = ["AccessToken", "TokenProvider"]

_LONGEST: Final = 1e9  # seconds: what is more, or NaN, is a mistake


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A secret that goes to the broker in the password's place, and how long it lives.

    token: a JWT, say, or a password that is changed now and then.
    expires_in: seconds from now, the `expires_in` of an OAuth 2 response (RFC 6749, 5.1); None
        when it is not known: then it is renewed at a reconnect only.

    repr() is masked. Raises NuropbConfigurationError for what is no token or no time.
    """

    token: str = field(repr=False)
    expires_in: float | None

    def __post_init__(self) -> None:
        token = typed("AccessToken.token", self.token, str, "a string")
        try:
            size = len(token.encode())
        except UnicodeEncodeError:  # from None: its text quotes the token
            raise NuropbConfigurationError(
                "AccessToken.token", "is not text that UTF-8 can carry"
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
"""Gives a token that is valid now. An async function runs on the event loop, any other in a
thread of its own. It may be called from several connections at the same time."""
