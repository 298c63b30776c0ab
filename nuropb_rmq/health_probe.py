"""`health`: ask the services of this machine how they are, by Unix sockets.

Each instance has a socket in a folder of the user's own, see mesh/health_socket; it answers every
connection with one JSON object. A probe runs every few seconds, for years: so this module stands
alone, and imports nothing that takes time, neither json nor argparse, nor socket above `_socket`.
"""

from __future__ import annotations

import _socket
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER_VARIABLE = "NUROPB_RMQ_HEALTH_DIR"
LONGEST_PATH = 107
"""Bytes of the path of a Unix socket (Linux, unix(7))."""
READY, NOT_READY, WRONG = 0, 1, 2
"""The exit statuses."""
USAGE = f"""\
usage: nuropb-rmq health [--ready | --live] [--service NAME] [--instance ID]
                         [--dir DIR] [--timeout SECONDS]

Ask the services of this user on this machine how they are: those that run with
Mesh(health=True), or `nuropb-rmq serve --health`. All that are asked have to be
well.

  --ready            is it ready for messages? (this is the default)
  --live             is it alive? no: only a restart helps
  --service NAME     ask only the instances of this service
  --instance ID      ask only this instance
  --dir DIR          where their sockets are (${FOLDER_VARIABLE}; else
                     $XDG_RUNTIME_DIR/nuropb-rmq; else /tmp/nuropb-rmq-UID)
  --timeout SECONDS  time to answer (1)

Exit status: 0 all are; 1 one is not, or does not answer; 2 wrong arguments, or
no such service.
"""
_SUFFIX = ".sock"
_LONGEST_ANSWER = 1 << 18
_AT_ONCE = 0.001
_AGAIN_AFTER = 0.01


class UsageError(Exception):
    """Nothing can be asked; the text is for the user."""


def folder_of(given: str | None = None) -> str:
    """Return the folder of the sockets: as it is given, or by the environment."""
    environ = os.environ
    own = given or environ.get(FOLDER_VARIABLE)
    if own:
        return own
    runtime = environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/nuropb-rmq" if runtime else f"/tmp/nuropb-rmq-{os.getuid()}"  # noqa: S108 - its owner is checked


def problem_of(folder: str) -> str | None:
    """Return why a folder cannot be trusted, with the fix; None when it can."""
    try:
        found = os.lstat(folder)
    except OSError as e:
        return f"{folder}: {e.strerror}"
    if found.st_mode & 0o170000 != 0o040000:
        return f"{folder} is no folder: remove it, or set {FOLDER_VARIABLE}"
    if found.st_uid != os.getuid():
        return (
            f"{folder} belongs to user {found.st_uid}, not to {os.getuid()}: "
            f"set {FOLDER_VARIABLE} to a folder of your own"
        )
    if found.st_mode & 0o077:
        mode = found.st_mode & 0o777
        return f"{folder} is open to others (mode {mode:04o}): chmod 700 {folder}"
    return None


def socket_name(service: str, instance_id: str) -> str:
    """Return the name of an instance's socket in the folder."""
    return f"{_escaped(service)}@{_escaped(instance_id)}{_SUFFIX}"


def _escaped(text: str) -> str:
    return "".join(
        char if char.isascii() and (char.isalnum() or char in "-_.") else _hex(char)
        for char in text
    )


def _hex(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


class _Options:
    """The arguments."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.values: dict[str, str] = {}
        self.help = False
        self.live = False
        rest = list(arguments)
        while rest:
            name, equals, value = rest.pop(0).partition("=")
            if name in ("-h", "--help") and not equals:
                self.help = True
            elif name in ("--ready", "--live") and not equals:
                self.live = name == "--live"
            elif name in ("--service", "--instance", "--dir", "--timeout"):
                if not equals and not rest:
                    raise UsageError(f"{name}: expected a value behind it")
                self.values[name] = value if equals else rest.pop(0)
            else:
                raise UsageError(f"unknown argument {name!r}; see --help")
        self.timeout = _seconds(self.values.get("--timeout", "1"))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"--timeout: expected seconds, from 0 to 3600, got {text!r}")
    return seconds


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    try:
        options = _Options(arguments)
        if options.help:
            sys.stdout.write(USAGE)
            return READY
        return _ask(options)
    except UsageError as e:
        sys.stderr.write(f"nuropb-rmq health: {e}\n")
        return WRONG


def _ask(options: _Options) -> int:
    folder = folder_of(options.values.get("--dir"))
    names: list[str] = []
    if os.path.lexists(folder):
        problem = problem_of(folder)
        if problem is not None:
            raise UsageError(problem)
        names = _chosen(os.listdir(folder), options.values)
    until = time.monotonic() + options.timeout
    opened = [(name, _connected(f"{folder}/{name}", until)) for name in names]
    asked = [(name, connection) for name, connection in opened if connection is not None]
    if not asked:
        raise UsageError(_nobody(folder, options.values, len(opened)))
    wanted = b'"alive": true' if options.live else b'"ready": true'
    well = True
    for name, connection in asked:
        answer = _answer(connection, until)
        if answer is None:
            who = name.removesuffix(_SUFFIX)
            why = f"no answer within {options.timeout:g} s: its event loop is blocked"
            if time.monotonic() < until:
                why = "it hung up without an answer: it is stopping, or its log says more"
            sys.stderr.write(f"nuropb-rmq health: {who}: {why}\n")
        else:
            sys.stdout.write(answer.decode("utf-8", "replace"))
        # The first two fields of the answer, as HealthSocket writes them.
        well = well and answer is not None and wanted in answer[:60]
    return READY if well else NOT_READY


def _chosen(names: list[str], values: dict[str, str]) -> list[str]:
    """Return the sockets of what is to be asked."""
    service, instance = values.get("--service"), values.get("--instance")
    return [
        name
        for name in sorted(names)
        if name.endswith(_SUFFIX)
        and (service is None or name.startswith(f"{_escaped(service)}@"))
        and (instance is None or name.endswith(f"@{_escaped(instance)}{_SUFFIX}"))
    ]


def _nobody(folder: str, values: dict[str, str], dead: int) -> str:
    of = f" of service {values['--service']!r}" if "--service" in values else ""
    if "--instance" in values:
        text = f"instance {values['--instance']!r}{of} is not there, in {folder}"
    else:
        text = f"no {f'instance{of}' if of else 'service'} is there, in {folder}"
    if dead:
        return f"{text}: the process has ended ({dead} sockets are left)"
    return f"{text}: start it with Mesh(health=True), or serve --health"


def _connected(path: str, until: float) -> _socket.socket | None:
    """Return a connection; None when nobody listens any more."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    while True:
        connection.settimeout(_left(until))
        try:
            connection.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            connection.close()
            return None
        except OSError:  # so many wait for an answer that no more can, for now
            if time.monotonic() >= until:
                return connection
            time.sleep(_AGAIN_AFTER)
        else:
            return connection


def _answer(connection: _socket.socket, until: float) -> bytes | None:
    """Return all that the other side says; None when it says nothing in time."""
    answer = b""
    try:
        while len(answer) < _LONGEST_ANSWER:
            connection.settimeout(_left(until))
            part = connection.recv(65_536)
            if not part:
                break
            answer += part
    except OSError:
        return None
    finally:
        connection.close()
    return answer or None


def _left(until: float) -> float:
    return max(until - time.monotonic(), _AT_ONCE)
