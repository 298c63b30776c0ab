"""Find a RabbitMQ, on this host or in a chroot, and run its programs.

::

    BrokerError                     a broker that we run ourselves
    ├── BrokerNotInstalled          no RabbitMQ here; the text says what to install
    ├── BrokerStartError            it did not start; `log` is the tail of its log
    └── RabbitMQCtlError            rabbitmqctl failed; `returncode` and `stderr` are its own
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ._causes import first_cause, port_was_taken

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
LIBRARY = "usr/lib/rabbitmq/lib"
RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
TAIL = 16_000
"""Characters of a node's log that the error of a failed start keeps."""

# In its own mount namespace, so that /proc and /dev vanish with the program. Every step is an exec,
# so that the program has the process id that we start.
IN_CHROOT = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'


class BrokerError(Exception):
    """A problem with a broker that we run ourselves."""


class BrokerNotInstalled(BrokerError):  # noqa: N818 - a state, not an error's name
    """RabbitMQ is missing, or cannot be run by this user; the text says what to do."""


class BrokerStartError(BrokerError):
    """The node did not start; the text has the first cause.

    `log` is the tail of its log and console output; `port_was_taken` is True when another process
    listens on one of its ports.
    """

    def __init__(self, problem: str, log: str) -> None:
        super().__init__(f"{problem}: {first_cause(log)}" if log.strip() else problem)
        self.log: str = log[-TAIL:]
        self.port_was_taken: bool = port_was_taken(problem + log)


class RabbitMQCtlError(BrokerError):
    """rabbitmqctl failed. `returncode` is its exit status (-1: it took too long)."""

    def __init__(self, arguments: Sequence[str], returncode: int, stderr: str) -> None:
        super().__init__(f"rabbitmqctl {' '.join(arguments)}: exit {returncode}: {stderr.strip()}")
        self.arguments: tuple[str, ...] = tuple(arguments)
        self.returncode = returncode
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Installation:
    """RabbitMQ on this host (`root` is None), or in the chroot `root`."""

    root: Path | None

    def check(self) -> None:
        """Raise BrokerNotInstalled when it cannot be run."""
        if self.root is None:
            if not Path(SERVER).exists():
                raise BrokerNotInstalled(
                    f"{SERVER} is missing: apt-get install rabbitmq-server, or run scripts/setup"
                )
            return
        # In a chroot this path is usually a link that resolves only inside.
        if not os.path.lexists(f"{self.root}{SERVER}"):
            raise BrokerNotInstalled(
                f"{self.root} has no {SERVER}: run scripts/broker-4.3, and set "
                "NUROPB_RMQ_SERVER_ROOT to the path that it prints"
            )
        if os.geteuid() != 0:
            raise BrokerNotInstalled(f"RabbitMQ in the chroot {self.root} can only be run by root")

    def major_version(self) -> int:
        """Return RabbitMQ's major version from its library's folder; 0 if that has no version."""
        base = (self.root or Path("/")) / LIBRARY
        for folder in base.glob("rabbitmq_server-*"):
            major = folder.name.removeprefix("rabbitmq_server-").partition(".")[0]
            if major.isdecimal():
                return int(major)
        return 0

    def make_data_dir(self) -> Path:
        """Make a folder that only this user can read, and the installation can see."""
        parent = None if self.root is None else self.root / "tmp"
        return Path(tempfile.mkdtemp(prefix="nuropb-", dir=parent))

    def inside(self, path: Path) -> str:
        """Return `path` as seen from inside the installation."""
        return str(path) if self.root is None else f"/{path.relative_to(self.root)}"

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs `argv` of the installation, in the process it starts."""
        if self.root is None:
            return list(argv)
        namespace = ["unshare", "--mount", "--propagation", "private"]
        return [*namespace, "sh", "-c", IN_CHROOT, str(self.root), *argv]

    def epmd(self, port: int) -> list[str]:
        """Return the command for Erlang's port mapper on `port` of 127.0.0.1."""
        found = "/usr/bin/epmd" if self.root is not None else shutil.which("epmd")
        if found is None:
            raise BrokerNotInstalled("epmd is missing: apt-get install erlang-base")
        return self.command(found, "-port", str(port), "-address", "127.0.0.1")


def free_ports(count: int) -> list[int]:
    """Return distinct TCP ports of 127.0.0.1 that nobody listens on.

    If possible, they are below the kernel's range for outgoing connections: a client that keeps
    trying to reach a stopped node would otherwise, sooner or later, get the node's own port, and
    connect to itself.
    """
    first = _first_ephemeral_port()
    choice = random.Random()
    ports: list[int] = []
    with ExitStack() as held:
        for attempt in range(100 * count):
            outside = first > 20_000 and attempt < 90 * count
            wanted = choice.randrange(15_000, first) if outside else 0
            listener = held.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            ports.append(int(listener.getsockname()[1]))
            if len(ports) == count:
                return ports
    raise BrokerError(f"no {count} free ports on 127.0.0.1")


def check_free(port: int, what: str) -> None:
    """Raise BrokerStartError unless `port` of 127.0.0.1 is free; `what` is its purpose."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Erlang does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise BrokerStartError(
                f"{what}: cannot listen on port {port} of 127.0.0.1: {error.strerror}; end the "
                "process that listens there, or let the node choose its port",
                "",
            ) from error


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def accepts(port: int) -> bool:
    """Return whether somebody listens on `port` of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def amqp_greeting(port: int, timeout: float = 2.0) -> str | None:
    """Return the version of the broker on `port`; None when none answers within `timeout` seconds.

    Sends the protocol header (AMQP 0-9-1, section 4.2.2), and finds the version in the
    server-properties of Connection.Start.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            with connection.makefile("rb") as stream:
                header = stream.read(7)
                body = stream.read(int.from_bytes(header[3:7], "big"))
    except OSError:
        return None
    _, found, rest = body.partition(b"\x07versionS")
    if body[:4] != b"\x00\x0a\x00\x0a" or not found:
        return None
    return rest[4 : 4 + int.from_bytes(rest[:4], "big")].decode()
