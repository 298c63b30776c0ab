"""Resolve a host name, and open a socket to the first of its addresses that accepts.

asyncio's own create_connection() could do this (happy_eyeballs_delay); uvloop's cannot.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

STAGGER: Final = 0.25
"""Seconds until the next address is tried in parallel (RFC 8305, section 5)."""


class Address(NamedTuple):
    """One address of a host, for socket.connect()."""

    family: int
    proto: int
    where: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.where[0])


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, IPv4 and IPv6 in turns.

    Raises OSError, or ValueError for a name that cannot be encoded.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except socket.gaierror:  # a name: resolving it takes a thread
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families: dict[int, list[Address]] = {}
    for family, _, proto, _, where in found:
        families.setdefault(family, []).append(Address(family, proto, where))
    return [found for found in chain(*zip_longest(*families.values())) if found is not None]


async def connect(addresses: Sequence[Address]) -> tuple[Address, socket.socket]:
    """Open a socket to the first address that accepts a connection.

    The next address is tried in parallel after STAGGER seconds, or when one fails. Raises OSError
    when all have failed. The caller sets the deadline, and closes the socket.
    """
    if len(addresses) == 1:
        return addresses[0], await _connect(addresses[0])
    waiting = list(addresses)
    trying: dict[asyncio.Task[socket.socket], Address] = {}
    errors: dict[str, OSError] = {}
    try:
        while waiting or trying:
            if waiting:
                address = waiting.pop(0)
                trying[asyncio.create_task(_connect(address), name=f"nuropb-to-{address}")] = (
                    address
                )
            done, _ = await asyncio.wait(
                trying,
                timeout=STAGGER if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    return trying.pop(task), task.result()
                address = trying.pop(task)
                if not isinstance(error, OSError):
                    raise error
                errors[str(address)] = error
        refused = next(iter(errors.values()))
        if all(type(error) is ConnectionRefusedError for error in errors.values()):
            raise refused
        raise none_of("addresses", errors)
    finally:
        await _give_up(trying)


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM, address.proto)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address.where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


async def _give_up(trying: Mapping[asyncio.Task[socket.socket], Address]) -> None:
    for task in trying:
        task.cancel()
    if trying:
        await asyncio.wait(trying)
    for task in trying:
        if not task.cancelled() and task.exception() is None:
            task.result().close()


def none_of(what: str, errors: Mapping[str, OSError]) -> OSError:
    """Return one error for all that were tried, by name; caused by the first."""
    first = next(iter(errors.values()))
    if len(errors) == 1:
        return first
    texts = "; ".join(f"{name}: {str(error) or 'no answer'}" for name, error in errors.items())
    combined = OSError(f"none of the {what} answered: {texts}")
    combined.__cause__ = first
    return combined
