"""The Unix socket at which a mesh tells its health: `python -m nuropb_rmq health` asks it.

The folder is the user's own and closed to others, which both sides check, so whoever connects is
the same user, or root. A connection is answered at once and closed; nothing is read from it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ..broker.forked import ends_in_children
from ..broker.state import State
from ..exceptions import NuropbConfigurationError, NuropbTransportError
from ..health_probe import FOLDER_VARIABLE, LONGEST_PATH, folder_of, problem_of, socket_name
from ..printable import printable
from ..safe_logging import ServiceLog
from ..transport.transport import Transport
from .health import health_of

logger = logging.getLogger("nuropb_rmq.mesh")

_NEW_ID: Final = "0" * 32  # as long as the instance ids that start() makes
_BACKLOG: Final = 16
"""Probes that wait while the event loop is blocked."""
_PAUSE: Final = 1.0
"""Seconds without answers where the process has no file descriptor for them."""
_NO_DESCRIPTOR: Final = frozenset((errno.EMFILE, errno.ENFILE))


class HealthSocket:
    """The socket of one mesh: open from the beginning of start() to the end of stop()."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._service = transport.config.service_name
        self._path = ""
        self._socket: socket.socket | None = None

    def check(self) -> None:
        """Make the folder if it is missing. Raises NuropbConfigurationError when it cannot serve.

        Or when another process has the socket of this instance.
        """
        path = self._path_of(self._transport.config.instance_id or _NEW_ID)
        size = len(os.fsencode(path))
        if size > LONGEST_PATH:
            raise NuropbConfigurationError(
                "health",
                f"the path of the socket has {size} bytes, {LONGEST_PATH} at most are possible: "
                f"{path}; set {FOLDER_VARIABLE} to a shorter one",
            )
        folder = folder_of()
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as e:
            problem: str | None = f"{folder} cannot be made: {e.strerror}"
        else:
            problem = problem_of(folder)
        if problem is not None:
            raise NuropbConfigurationError("health", problem)
        if _is_alive(path):
            raise NuropbConfigurationError("health", f"{path} belongs to a process that runs")

    def state_changed(self, state: State, _: NuropbTransportError | None) -> None:
        """Open it when the mesh starts, and close it when it has stopped; for on_state_change()."""
        if state is State.CONNECTING:
            self.close()
            try:
                self._open(self._path_of(self._transport.instance_id))
            except OSError as e:
                log = ServiceLog(logger, self._service, self._transport.instance_id)
                log.error("no socket for health checks: %s: %s", self._path, e)  # noqa: TRY400 - the text says it all
        elif state is State.STOPPED:
            self.close()

    def close(self) -> None:
        """Answer nothing any more; may be called again."""
        if self._socket is not None:
            with suppress(RuntimeError):  # its loop is closed
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def disown(self) -> None:
        """Leave it to the parent, in a forked child."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _path_of(self, instance_id: str) -> str:
        return os.path.join(folder_of(), socket_name(self._service, instance_id))

    def _open(self, path: str) -> None:
        self._path = path
        listening = socket.socket(socket.AF_UNIX)
        try:
            with _alone(os.path.dirname(path)):
                _remove_dead(os.path.dirname(path))
                listening.bind(path)  # fails when a living process has it
                os.chmod(path, 0o600)
                listening.listen(_BACKLOG)
            listening.setblocking(False)
            asyncio.get_running_loop().add_reader(listening, self._answer)
        except BaseException:
            listening.close()
            raise
        self._socket = listening
        ends_in_children(self)

    def _answer(self) -> None:
        listening = self._socket
        if listening is None:
            return
        try:
            connection, _ = listening.accept()
            with connection:
                connection.setblocking(False)
                connection.send(self._told())
        except OSError as e:
            if e.errno in _NO_DESCRIPTOR:
                self._pause(listening)
            # Else whoever asked is gone.

    def _pause(self, listening: socket.socket) -> None:
        """Answer nobody for a while: until one is accepted, each turn of the loop would try."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)

        def resume() -> None:
            if self._socket is listening:
                loop.add_reader(listening, self._answer)

        loop.call_later(_PAUSE, resume)

    def _told(self) -> bytes:
        health = health_of(self._transport)
        told = health.as_dict()
        told = {
            "ready": told.pop("ready"),  # the probe looks for these two, at the beginning
            "alive": health.alive,
            "service": self._service,
            "instance_id": self._transport.instance_id,
            "pid": os.getpid(),
            **told,
        }
        return json.dumps(told, indent=2, default=printable).encode() + b"\n"


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keep other processes from opening and removing sockets here meanwhile."""
    import fcntl  # noqa: PLC0415 - Windows, where a Mesh may be without a socket, has none

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_dead(folder: str) -> None:
    """Remove the sockets of processes that were killed."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".sock") and not _is_alive(path):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _is_alive(path: str) -> bool:
    """Return whether somebody listens at a path."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        try:
            asking.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # so many wait for an answer that no more can
    return True
