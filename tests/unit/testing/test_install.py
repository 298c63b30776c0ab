"""The installed server, and ports for a node."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nuropb_rmq.testing import BrokerNotInstalled, RabbitMQNode
from nuropb_rmq.testing._install import free_ports


def test_without_a_server_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(BrokerNotInstalled, match=r"scripts/broker-4\.3"):
        RabbitMQNode(server_root=tmp_path).start()
    monkeypatch.delenv("NUROPB_RMQ_SERVER_ROOT", raising=False)
    monkeypatch.setattr("nuropb_rmq.testing._install.SERVER", "/nonexistent/rabbitmq-server")
    with pytest.raises(BrokerNotInstalled, match="apt-get install rabbitmq-server"):
        RabbitMQNode().start()


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
