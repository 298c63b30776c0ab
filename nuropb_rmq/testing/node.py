"""A private, throwaway RabbitMQ node, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any, Self

import httpx

from ..waiting import shielded
from ._install import (
    RABBITMQCTL,
    SERVER,
    BrokerError,
    BrokerStartError,
    Installation,
    RabbitMQCtlError,
    accepts,
    amqp_greeting,
    check_free,
    free_ports,
)
from ._process import Processes
from ._settings import LOOPBACK, MANAGEMENT, Member, Ports, Settings, TLSFiles

log = logging.getLogger("nuropb_rmq.testing.node")

STOP_GRACE = 20.0  # seconds between SIGTERM and SIGKILL
POLL = 0.05  # seconds between two checks of a condition


class RabbitMQNode:
    """A private RabbitMQ node: free ports on 127.0.0.1, its own data, removed by stop().

    Use it as a context manager, `with` or `async with`, or call start() and stop(). start()
    after kill() uses the same ports and data; after stop(), new ones (the same with keep_data).

    server_root: a chroot that holds RabbitMQ, made by scripts/broker-4.3 (root only). By default
        NUROPB_RMQ_SERVER_ROOT, else the RabbitMQ of this host.
    tls: adds a TLS listener, on `tls_port`, and the management API's on `management_tls_port`.
    extra_config: more rabbitmq.conf, as text or by key.
    plugins: without rabbitmq_management there is no `management_url` and no `api`.
    port: the AMQP port; by default a free one. start() raises BrokerStartError if it is taken.
    keep_data: stop() leaves `data_dir` in place.
    member: set by a RabbitMQCluster for its nodes.
    """

    def __init__(
        self,
        *,
        server_root: str | Path | None = None,
        tls: TLSFiles | None = None,
        extra_config: str | Mapping[str, str] = "",
        plugins: Sequence[str] = ("rabbitmq_management",),
        port: int | None = None,
        keep_data: bool = False,
        member: Member | None = None,
    ) -> None:
        root = server_root or os.environ.get("NUROPB_RMQ_SERVER_ROOT")
        self._install = Installation(Path(root).resolve() if root else None)
        self._settings = Settings(
            member=member or Member.alone(),
            install=self._install,
            tls=tls,
            extra_config=extra_config,
            plugins=tuple(plugins),
        )
        self._wanted_port = port
        self._keep_data = keep_data
        self._ports: Ports | None = None
        self._data_dir: Path | None = None
        self._processes: Processes | None = None
        self._beam: Popen[bytes] | None = None
        self._epmd: Popen[bytes] | None = None
        self._version: str | None = None
        self._last_log = ""
        self._abandoned = False

    # Lifecycle

    def start(self, timeout: float = 60.0) -> None:
        """Start the node, and return when it answers on AMQP and on the management API.

        `timeout` is in seconds. Raises BrokerNotInstalled, and BrokerStartError when the node
        exits or is not up in time; a failed first start leaves nothing behind.
        """
        if self.running:
            raise BrokerError("the node runs already")
        self._install.check()
        deadline = time.monotonic() + timeout
        fresh = self._data_dir is None
        for last_attempt in (False, True):
            try:
                self._start_once(deadline)
            except BaseException as error:
                self._give_up(fresh)
                taken = isinstance(error, BrokerStartError) and error.port_was_taken
                if last_attempt or not taken:
                    raise
            else:
                return
            log.info("a port was taken between our choice and the node's start: trying again")

    def stop(self) -> None:
        """End the node and remove its data; may be called again.

        With keep_data the node shuts down in order. Otherwise it is killed: its data is removed
        anyway, and a shutdown takes seconds.
        """
        self._end_node(grace=STOP_GRACE if self._keep_data else 0.0)
        self._remove(keep_data=self._keep_data)

    def kill(self) -> None:
        """Send SIGKILL; on return the process is gone, its ports are closed, its data remains."""
        self._end_node(grace=0.0)

    def shutdown(self) -> None:
        """Shut down in order: clients get Connection.Close (320). The data remains."""
        self._end_node(grace=STOP_GRACE)

    def restart(self, timeout: float = 60.0) -> None:
        """Shut down and start again, with the same ports and data."""
        self.shutdown()
        self.start(timeout)

    def suspend(self) -> None:
        """Send SIGSTOP: connections stay open and nobody answers, as with a broker that hangs."""
        self._running_beam().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT, after suspend()."""
        self._running_beam().send_signal(signal.SIGCONT)

    async def astart(self, timeout: float = 60.0) -> None:
        """Run start() in a thread; cancelling this ends it, and leaves nothing behind."""
        self._abandoned = False
        starting = asyncio.ensure_future(asyncio.to_thread(self.start, timeout))
        try:
            await shielded(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: make it give up, and wait for that.
            self._abandoned = True
            await asyncio.wait([starting])
            self._abandoned = False
            if not starting.cancelled() and starting.exception() is None:
                await self.astop()
            raise

    async def astop(self) -> None:
        """Run stop() in a thread."""
        await asyncio.to_thread(self.stop)

    async def arestart(self, timeout: float = 60.0) -> None:
        """Run restart() in a thread."""
        await asyncio.to_thread(self.shutdown)
        await self.astart(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.astart()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.astop()

    # Addresses and state

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self._chosen().amqp

    @property
    def tls_port(self) -> int:
        """The port of AMQP over TLS. Raises BrokerError when the node has no `tls`."""
        if self._settings.tls is None:
            raise BrokerError("the node has no TLS listener: make it with tls=TLSFiles(…)")
        return self._chosen().tls

    @property
    def management_port(self) -> int:
        """The port of the management API."""
        return self._chosen().management

    @property
    def management_tls_port(self) -> int:
        """The port of the management API over TLS, of a node with `tls`."""
        return self._chosen().management_tls

    @property
    def amqp_url(self) -> str:
        """URL of the default virtual host, with user guest."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def amqps_url(self) -> str:
        """The same URL over TLS, with the host name localhost (for the certificate)."""
        return f"amqps://guest:guest@localhost:{self.tls_port}/"

    @property
    def management_url(self) -> str:
        """URL of the management API, without a path."""
        return f"http://{LOOPBACK}:{self.management_port}"

    @property
    def version(self) -> str:
        """RabbitMQ's version, for example "3.10.8", from the broker itself."""
        if self._version is None:
            raise BrokerError("the node has not been started")
        return self._version

    @property
    def running(self) -> bool:
        """True while the node's process exists (suspended or not)."""
        return self._beam is not None and self._beam.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the Erlang emulator. Raises BrokerError when it does not run."""
        return self._running_beam().pid

    @property
    def data_dir(self) -> Path:
        """The folder of its data, logs and configuration, as seen from this process."""
        if self._data_dir is None:
            raise BrokerError("the node has not been started")
        return self._data_dir

    def log_text(self) -> str:
        """Return the node's console output and logs; after stop(), those until then."""
        if self._data_dir is None:
            return self._last_log
        files = [self._data_dir / "console.log", *sorted((self._data_dir / "log").glob("*.log"))]
        return "".join(f.read_text(errors="replace") for f in files if f.exists())

    # Commands and the management API

    def rabbitmqctl(self, *args: str, timeout: float = 60.0) -> str:
        """Run the node's rabbitmqctl, and return its standard output. `timeout` is in seconds.

        Raises RabbitMQCtlError, with its standard error, when it fails or takes too long.
        """
        try:
            done = subprocess.run(
                self._install.command(RABBITMQCTL, *args),
                env=self._settings.environment(self.data_dir, self._chosen()),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired as error:
            raise RabbitMQCtlError(args, -1, f"no answer within {timeout:.0f} s") from error
        if done.returncode != 0:
            raise RabbitMQCtlError(args, done.returncode, done.stderr or done.stdout)
        return done.stdout

    def api(self, method: str, path: str, json: Any = None, *, timeout: float = 10.0) -> Any:
        """Call the management API as guest; return the decoded answer, None when it is empty.

        Example: `node.api("GET", "/api/queues/%2F")`. `timeout` is in seconds. Raises
        httpx.HTTPStatusError for a status of 4xx or 5xx, httpx.TransportError for no answer.
        """
        answer = httpx.request(
            method,
            self.management_url + path,
            json=json,
            auth=("guest", "guest"),
            timeout=timeout,
            trust_env=False,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # else 38 ms for the system's
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    # Starting and ending

    def _start_once(self, deadline: float) -> None:
        shared_epmd = self._settings.member.epmd_port
        if self._ports is None:
            amqp, tls, management, distribution, epmd, management_tls = free_ports(6)
            amqp, epmd = self._wanted_port or amqp, shared_epmd or epmd
            self._ports = Ports(amqp, tls, management, distribution, epmd, management_tls)
        if self._data_dir is None:
            self._data_dir = self._install.make_data_dir()
        if self._processes is None:
            self._processes = Processes(None if self._keep_data else self._data_dir)
        for what, port in self._settings.listeners(self._ports).items():
            check_free(port, what)
        self._settings.write(self._data_dir, self._ports)
        began = time.monotonic()
        environment = self._settings.environment(self._data_dir, self._ports)
        with open(self._data_dir / "console.log", "ab") as console:
            if shared_epmd is None:
                # In the foreground: the daemon that Erlang would start itself outlives us.
                command = self._install.epmd(self._ports.epmd)
                self._epmd = self._processes.spawn(command, environment, console)
            self._wait_for("epmd", lambda: accepts(self._chosen().epmd), deadline)
            server = self._install.command(SERVER)
            self._beam = self._processes.spawn(server, environment, console)
        self._wait_for("the node", self._is_up, deadline)
        log.info(
            "RabbitMQ %s is up on port %d after %.1f s, process %d",
            self._version,
            self._ports.amqp,
            time.monotonic() - began,
            self._beam.pid,
        )

    def _wait_for(self, what: str, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            for process in (self._epmd, self._beam):
                if process is not None and process.poll() is not None:
                    problem = f"{what} did not start: exit {process.returncode}"
                    raise BrokerStartError(problem, self.log_text())
            if self._abandoned or time.monotonic() > deadline:
                raise BrokerStartError(f"{what} was not up in time", self.log_text())
            time.sleep(POLL)

    def _is_up(self) -> bool:
        ports = self._chosen()
        # Listeners start last in the broker's boot, but the order of plugins is not defined.
        self._version = amqp_greeting(ports.amqp)
        if self._version is None:
            return False
        if self._settings.tls is not None and not accepts(ports.tls):
            return False
        if MANAGEMENT not in self._settings.plugins:
            return True
        try:
            self.api("GET", "/api/overview")
        except httpx.HTTPError:
            return False
        return True

    def _end_node(self, *, grace: float) -> None:
        beam, epmd = self._beam, self._epmd
        self._beam = self._epmd = None
        if self._processes is None:
            return
        if beam is not None:
            self._processes.end(beam, grace=grace)
        if epmd is not None:
            self._processes.end(epmd)

    def _give_up(self, fresh: bool) -> None:
        self._end_node(grace=0.0)
        if fresh:
            self._remove(keep_data=False)

    def _remove(self, *, keep_data: bool) -> None:
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        if keep_data or self._data_dir is None:
            return
        self._last_log = self.log_text()
        shutil.rmtree(self._data_dir, ignore_errors=True)
        self._data_dir = None
        self._ports = None

    def _running_beam(self) -> Popen[bytes]:
        if self._beam is None or self._beam.poll() is not None:
            raise BrokerError("the node does not run")
        return self._beam

    def _chosen(self) -> Ports:
        if self._ports is None:
            raise BrokerError("the node has no ports: it has not been started")
        return self._ports
