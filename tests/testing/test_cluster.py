"""RabbitMQCluster: what is left of it. That its nodes form a cluster, and rejoin it, is row 41."""

from __future__ import annotations

import os

import pytest

from nuropb_rmq.testing import BrokerStartError, RabbitMQCluster
from nuropb_rmq.testing._install import accepts

from ..seams import own_ports


@pytest.mark.broker
def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    cluster = RabbitMQCluster(2, extra_config="no_such_setting = 1", plugins=())
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(BrokerStartError) as caught:
        cluster.start()
    assert "no_such_setting" in caught.value.log
    assert not any(node.running for node in cluster.nodes)
    assert not any(map(accepts, own_ports(cluster)))
    assert set(os.listdir("/proc/self/fd")) == before
    cluster.stop()
