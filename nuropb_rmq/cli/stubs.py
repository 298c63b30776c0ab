"""`stubs`: the source of a typed interface of a running service."""

from __future__ import annotations

import re
import sys

from .conventions import CommandError
from .hints import description
from .stub_source import StubSource, is_name
from .verbs import At


async def write_stubs(
    at: At, service: str, class_name: str | None, *, blocking: bool, name: str, timeout: float
) -> None:
    """Write the source to standard output. Raises CommandError."""
    title = class_name or _class_name(service)
    if not is_name(title):
        raise CommandError(f"--class: expected a name of Python, got {title!r}")
    async with at.mesh(timeout, name) as mesh:
        described = await description(mesh, service, timeout)
    sys.stdout.write(StubSource(service, described, blocking=blocking).text(title))


def _class_name(service: str) -> str:
    """Return the name of a class for a service: OrderDesk for order-desk."""
    words = re.split(r"[\W_]+", service)
    return "".join(word[:1].upper() + word[1:] for word in words) or "Service"
