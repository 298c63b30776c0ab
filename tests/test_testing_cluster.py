"""RabbitMQCluster: what is left of it. That its nodes form a cluster, and rejoin it, is row 41."""

from __future__ import annotations

import os

import pytest

from nuropb_rmq.testing import BrokerStartError, RabbitMQCluster
from nuropb_rmq.testing._process import session_members


@pytest.mark.broker
def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    cluster = RabbitMQCluster(2, extra_config="no_such_setting = 1", plugins=())
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(BrokerStartError) as caught:
        cluster.start()
    assert "no_such_setting" in caught.value.log
    assert not any(node.running for node in cluster.nodes)
    assert set(os.listdir("/proc/self/fd")) == before
    cluster.stop()


@pytest.mark.broker
def test_its_nodes_and_its_epmd_end_with_it() -> None:
    with RabbitMQCluster(1, plugins=()) as cluster:
        (node,) = cluster.nodes
        assert cluster.amqp_urls == [node.amqp_url]
        assert cluster._processes is not None
        (epmd,) = cluster._processes._running
        folder, leaders = node.data_dir, [node.pid, epmd.pid]
        assert all(session_members(leader) for leader in leaders)
        node.kill()
        assert session_members(epmd.pid), "the names of the other nodes must be found"
    assert [session_members(leader) for leader in leaders] == [[], []]
    assert not folder.exists()
