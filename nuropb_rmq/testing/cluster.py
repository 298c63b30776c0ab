"""A private, throwaway cluster of RabbitMQ nodes on one machine."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from ._install import BrokerStartError, Installation, accepts, free_ports
from ._process import Processes
from ._settings import Member
from .node import POLL, RabbitMQNode


class RabbitMQCluster:
    """A private cluster of RabbitMQ nodes, as a context manager, or with start() and stop().

    Each of `nodes` is a RabbitMQNode: kill one, suspend it, start() it again; its disk remains, and
    it rejoins the cluster. All share an Erlang port mapper. They start in parallel, in 7 to 20 s.

    size: number of nodes.
    server_root, plugins: as in RabbitMQNode. extra_config: more rabbitmq.conf for every node.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        server_root: str | Path | None = None,
        extra_config: str = "",
        plugins: Sequence[str] = ("rabbitmq_management",),
    ) -> None:
        root = server_root or os.environ.get("NUROPB_RMQ_SERVER_ROOT")
        self._install = Installation(Path(root).resolve() if root else None)
        (self._epmd_port,) = free_ports(1)
        self._processes: Processes | None = None
        tag, cookie = secrets.token_hex(4), secrets.token_hex(20)
        names = [f"nuropb-{tag}-{number}@localhost" for number in range(1, size + 1)]
        config = [extra_config, "cluster_formation.peer_discovery_backend = classic_config"]
        config += [
            f"cluster_formation.classic_config.nodes.{number} = {name}"
            for number, name in enumerate(names, 1)
        ]
        self.nodes: tuple[RabbitMQNode, ...] = tuple(
            RabbitMQNode(
                server_root=server_root,
                extra_config="\n".join(config),
                plugins=plugins,
                member=Member(name, cookie, self._epmd_port),
            )
            for name in names
        )

    @property
    def amqp_urls(self) -> list[str]:
        """URL of the default virtual host with user guest, for each node."""
        return [node.amqp_url for node in self.nodes]

    def start(self, timeout: float = 120.0) -> None:
        """Start all nodes; return when each answers, and all are members of the cluster.

        `timeout` is in seconds. Raises BrokerNotInstalled and BrokerStartError; a failed start
        leaves nothing behind.
        """
        self._install.check()
        deadline = time.monotonic() + timeout
        self._processes = Processes(None)
        try:
            with open(os.devnull, "wb") as nowhere:
                epmd = self._install.epmd(self._epmd_port)
                self._processes.spawn(epmd, {"PATH": os.environ.get("PATH", "")}, nowhere)
            _wait_for("epmd", lambda: accepts(self._epmd_port), deadline)
            with ThreadPoolExecutor(len(self.nodes)) as threads:
                list(threads.map(lambda node: node.start(timeout), self.nodes))
            _wait_for("the cluster", self._is_whole, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all nodes and remove their data; may be called again."""
        for node in self.nodes:
            node.stop()
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    def _is_whole(self) -> bool:
        status = json.loads(self.nodes[0].rabbitmqctl("cluster_status", "--formatter", "json"))
        return len(status["running_nodes"]) == len(self.nodes)

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


def _wait_for(what: str, condition: Callable[[], bool], deadline: float) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise BrokerStartError(f"{what} was not up in time", "")
        time.sleep(POLL)
