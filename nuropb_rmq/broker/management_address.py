"""Addresses of the management API: its base, and one segment of a path."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import httpx

from ..config.address import utf8
from ..exceptions import NuropbConfigurationError


def split_credentials(base_url: str) -> tuple[str, tuple[str, str] | None]:
    """Return the URL without credentials and /api; and user and password if it has both."""
    try:
        parts = urlsplit(base_url)
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix("/api")
        url = f"{parts.scheme}://{host}{path}"
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        if not sound or parts.query or parts.fragment or "@" in path:
            raise ValueError(base_url)
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise NuropbConfigurationError(
            "base_url",
            "must be http(s)://host:port; percent-encode special characters in user and password",
        ) from None
    if parts.username is None or parts.password is None:
        return url, None
    return url, (unquote(parts.username), unquote(parts.password))


def segment(field: str, name: str) -> str:
    """Return `name` as one segment of a path; empty, `.` and `..` would mean another path."""
    if name in {"", ".", ".."}:
        raise NuropbConfigurationError(field, f"{name!r} cannot be addressed over HTTP")
    return quote(utf8(field, name), safe="")
