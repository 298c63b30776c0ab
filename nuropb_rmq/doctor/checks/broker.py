"""The broker: versions, alarms, clocks, limits, features."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from ..facts import Facts
from ..finding import Check, Finding, ctl, error, note, shell, warning

OLDEST: Final = (3, 10)
"""The oldest version that this library is tested with."""
MAINTAINED: Final = (4, 2)
"""The oldest series that the RabbitMQ team gives patches to, as of 2026."""
TRAPS: Final = {
    (4, 2, 6): "4.2.7",
    (4, 3, 0): "4.3.1",
}
"""Versions that tell nobody whether an exchange exists who may not configure it, and what to
update to."""
OLDEST_ERLANG: Final = 26
CLOCK_APART: Final = 5.0
"""Seconds by which clocks may differ."""
NEAR: Final = 0.8
"""Share of a limit from which on it is told."""
CHANNELS_NEEDED: Final = 8
"""On one connection: responses, publishing, the service queue, and those that check."""
SMALLEST_FRAME: Final = 32 * 1024
"""Bytes: headers with the reason of a failure, and what the broker adds, are in one frame."""
_DIGITS: Final = re.compile(r"\d+")


def version(facts: Facts) -> Iterator[Finding]:
    """Find versions that are too old, or known for a trap."""
    told = facts.login.version
    numbers = numbers_of(told)
    if numbers and numbers[:2] < OLDEST:
        yield error(f"RabbitMQ {told} is too old: 3.10 and later work with this library.")
    elif numbers in TRAPS:
        yield warning(
            f"RabbitMQ {told} tells nobody whether an exchange exists who may not configure it: "
            f"one that is deleted is noticed when it is used. Update to {TRAPS[numbers]}."
        )
    elif numbers and numbers[:2] < MAINTAINED:
        least = ".".join(map(str, MAINTAINED))
        yield note(f"RabbitMQ {told} gets no more patches: plan an update to {least} or later.")


def erlang(facts: Facts) -> Iterator[Finding]:
    """Find an Erlang without patches."""
    told = str(facts.one("overview").get("erlang_version", ""))
    numbers = numbers_of(told)
    if numbers and numbers[0] < OLDEST_ERLANG:
        yield note(f"Erlang {told} gets no more patches: {OLDEST_ERLANG} and later do.")


def cluster(facts: Facts) -> Iterator[Finding]:
    """Find nodes that are down or cut off."""
    for node in facts.all("nodes"):
        if node.get("running") is False:
            yield error(f"Node {node.get('name')} is down: what is on it alone is not there.")
        apart = node.get("partitions")
        if isinstance(apart, list) and apart:
            others = ", ".join(map(str, apart))
            yield error(
                f"Node {node.get('name')} is cut off from {others}: they hold different queues "
                "now.",
                do="Choose the side that counts, and restart the other nodes.",
            )


def memory_alarm(facts: Facts) -> Iterator[Finding]:
    """Find memory alarms: nothing can be published."""
    for node in facts.all("nodes"):
        if node.get("mem_alarm") is True:
            used, limit = size(node.get("mem_used")), size(node.get("mem_limit"))
            yield error(
                f"Memory alarm on {node.get('name')} ({used} used, limit {limit}): nobody can "
                "publish.",
                do="Free memory: start more instances, so that the longest queues get shorter, "
                "and close connections that nobody needs; or give the machine more.",
            )


def disk_alarm(facts: Facts) -> Iterator[Finding]:
    """Find disk alarms: nothing can be published."""
    for node in facts.all("nodes"):
        if node.get("disk_free_alarm") is True:
            free, limit = size(node.get("disk_free")), size(node.get("disk_free_limit"))
            yield error(
                f"Disk alarm on {node.get('name')} ({free} free, limit {limit}): nobody can "
                "publish.",
                do="Make room on the disk of RabbitMQ's data: old log files, dumps, queues that "
                "nobody consumes. A limit above the size of the disk is too high.",
            )


def descriptors(facts: Facts) -> Iterator[Finding]:
    """Find nodes that run out of file descriptors, sockets or processes."""
    for node in facts.all("nodes"):
        for what, used, total in (
            ("file descriptors", "fd_used", "fd_total"),
            ("sockets", "sockets_used", "sockets_total"),
            ("Erlang processes", "proc_used", "proc_total"),
        ):
            if _is_near(node.get(used), node.get(total)):
                yield warning(
                    f"Node {node.get('name')} uses {node[used]:,} of {node[total]:,} {what}: "
                    "raise the limit (LimitNOFILE of its systemd unit; RABBITMQ_MAX_NUMBER_OF_"
                    "PROCESSES), or find who opens so many connections."
                )


def clock(facts: Facts) -> Iterator[Finding]:
    """Find clocks that differ."""
    ahead = facts.clock_ahead
    if ahead is not None and abs(ahead) > CLOCK_APART:
        how = "ahead of" if ahead > 0 else "behind"
        yield warning(
            f"The broker's clock is {abs(ahead):,.0f} s {how} this machine's: tokens, certificates "
            "and the times of dead letters are judged wrongly. Set both by NTP."
        )


def vhost_limits(facts: Facts) -> Iterator[Finding]:
    """Find limits of the virtual host that are nearly reached."""
    limits = limits_of(facts)
    for what in ("connections", "queues"):
        most = limits.get(f"max-{what}")
        if isinstance(most, int) and most >= 0:
            count = len(facts.all(what))
            if count >= most * NEAR:
                yield warning(
                    f"{count:,} of {most:,} {what} that virtual host {facts.vhost!r} may have "
                    f"(max-{what}): further ones will be refused. The command takes this limit "
                    "off (-1); any number sets another.",
                    unlimited(facts, f"max-{what}"),
                )


def limits_of(facts: Facts) -> dict[str, Any]:
    """Return the limits of the virtual host."""
    for entry in facts.all("limits"):
        limits = entry.get("value")
        if entry.get("vhost") == facts.vhost and isinstance(limits, dict):
            return limits
    return {}


def unlimited(facts: Facts, limit: str) -> str:
    """Return the command that takes off one limit of the virtual host; the others stay."""
    return ctl(facts, "set_vhost_limits", json.dumps({**limits_of(facts), limit: -1}))


def queue_type(facts: Facts) -> Iterator[Finding]:
    """Find a default type that queues of old peers would get."""
    kind = facts.one("vhost").get("default_queue_type")
    if kind not in (None, "undefined", "classic"):
        yield note(
            f"Queues of {facts.vhost!r} are {kind} queues unless they say otherwise "
            "(default_queue_type): ours do say, those of nuropb 0.1.8 do not, and are refused "
            "where a classic one is there.",
            shell("rabbitmqctl", "update_vhost_metadata", facts.vhost)
            + " --default-queue-type classic",
        )


def feature_flags(facts: Facts) -> Iterator[Finding]:
    """Find feature flags that are off: the next upgrade wants them on."""
    off = [
        str(each.get("name"))
        for each in facts.all("feature_flags")
        if each.get("stability") in ("stable", "required") and each.get("state") == "disabled"
    ]
    if off:
        yield warning(
            f"{len(off)} feature flags are off, {off[0]} for one: the next upgrade of RabbitMQ "
            "may refuse to start.",
            shell("rabbitmqctl", "enable_feature_flag", "all"),
        )


def deprecated(facts: Facts) -> Iterator[Finding]:
    """Find features in use that a later RabbitMQ has no more."""
    for each in facts.all("deprecated"):
        yield note(
            f"{each.get('name')} is in use, and deprecated ({each.get('deprecation_phase')}): a "
            "later RabbitMQ is without it. This library does not need it."
        )


def frame_max(facts: Facts) -> Iterator[Finding]:
    """Find frames that are too small for headers."""
    largest = facts.login.frame_max
    if 0 < largest < SMALLEST_FRAME:
        yield warning(
            f"Frames have {largest:,} bytes at most (frame_max): headers must fit in one, and the "
            "reasons of dead letters will be cut. Set frame_max = 131072 in rabbitmq.conf."
        )


def channel_max(facts: Facts) -> Iterator[Finding]:
    """Find fewer channels than a service needs."""
    most = facts.login.channel_max
    if 0 < most < CHANNELS_NEEDED:
        yield error(
            f"A connection may have {most} channels (channel_max); a service needs up to "
            f"{CHANNELS_NEEDED}. Set channel_max = 2047 in rabbitmq.conf."
        )


def numbers_of(told: str) -> tuple[int, ...]:
    """Return the numbers of a version; () for what has none."""
    return tuple(int(each) for each in _DIGITS.findall(told)[:3])


def size(count: Any) -> str:
    """Return bytes for people."""
    if not isinstance(count, int | float):
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.4g} TB"


def _is_near(used: Any, total: Any) -> bool:
    return isinstance(used, int) and isinstance(total, int) and used > 0 < total <= used / NEAR


def major(facts: Facts) -> int:
    """Return the broker's major version; a version that cannot be read counts as new."""
    return (numbers_of(facts.login.version) or (4,))[0]


CHECKS: Final = (
    Check(
        "version", "RabbitMQ below 3.10, 4.2.6 and 4.3.0 (see SECURITY.md), unmaintained", version
    ),
    Check("erlang", "an Erlang without patches", erlang),
    Check("cluster", "nodes that are down, and partitions", cluster),
    Check("alarm-memory", "memory alarms, under which nobody can publish", memory_alarm),
    Check("alarm-disk", "disk alarms, under which nobody can publish", disk_alarm),
    Check(
        "descriptors", "file descriptors, sockets or processes of a node that run out", descriptors
    ),
    Check("clock", f"a clock of the broker that is more than {CLOCK_APART:g} s off", clock),
    Check("vhost-limits", "max-connections and max-queues that are nearly reached", vhost_limits),
    Check(
        "default-queue-type", "a default_queue_type that nuropb 0.1.8 does not expect", queue_type
    ),
    Check("feature-flags", "stable feature flags that are off", feature_flags),
    Check("deprecated", "deprecated features in use", deprecated),
    Check("frame-max", "frames too small for headers", frame_max),
    Check("channel-max", "fewer channels than a service needs", channel_max),
)
