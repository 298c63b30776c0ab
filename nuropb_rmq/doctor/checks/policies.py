"""The policies of a queue, from their definitions: what the broker says of queues is late.

https://www.rabbitmq.com/docs/policies
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ...broker.topology import QUEUE_TYPE
from ...config.settings import CLASSIC
from ..facts import Facts, Json
from ..finding import ctl
from ..needed import pattern_of

POLICIES: Final = "policies"
_OPERATORS: Final = "operator_policies"
_NAMES: Final = {POLICIES: "policy", _OPERATORS: "operator_policy"}
"""In the commands of rabbitmqctl."""
_OF_ALL: Final = ("all", "queues")


def definition(facts: Facts, queue: Json) -> dict[str, Any]:
    """Return what policies set for a queue; what an operator sets counts more."""
    own, operators = _matching(facts, POLICIES, queue), _matching(facts, _OPERATORS, queue)
    return {**_settings(own), **_settings(operators)}


def policy_of(facts: Facts, queue: Json) -> Json | None:
    """Return the policy that a queue has, but for an operator's; None without one."""
    return _matching(facts, POLICIES, queue)


def set_for_queue(facts: Facts, queue: Json, wanted: Mapping[str, Any]) -> str:
    """Return the command that sets keys for this queue, and for no other.

    A queue has one policy: unless that is this queue's alone, a new one comes before it, with all
    that it sets.
    """
    policy = policy_of(facts, queue)
    own = _own(facts, POLICIES, policy, queue)
    return _set(facts, POLICIES, own, {**_settings(policy), **wanted})


def without(facts: Facts, queue: Json, *keys: str) -> tuple[str, str]:
    """Return what to know about the policy that sets keys for a queue, and a command against them.

    It is for this queue alone, except where the policy sets nothing else: there must be something.
    """
    kind, policy = setter(facts, queue, keys[0])
    rest = {key: value for key, value in _settings(policy).items() if key not in keys}
    if not rest or _is_own(policy, queue):
        return without_for_all(facts, kind, policy, *keys)
    return (
        f" Policy {policy.get('name')!r} is for all that matches {policy.get('pattern')!r}: the "
        "command makes one for this queue alone, with all else that it sets.",
        _set(facts, kind, _own(facts, kind, policy, queue), rest),
    )


def without_for_all(facts: Facts, kind: str, policy: Json, *keys: str) -> tuple[str, str]:
    """Return what to know about a policy, and the command that takes keys out of it."""
    rest = {key: value for key, value in _settings(policy).items() if key not in keys}
    text = f" Policy {policy.get('name')!r} is for all that matches {policy.get('pattern')!r}"
    if rest:
        text = f"{text}; all else that it sets stays ({', '.join(rest)})."
        return text, _set(facts, kind, policy, rest)
    return f"{text}; it sets nothing else.", ctl(facts, f"clear_{_NAMES[kind]}", policy.get("name"))


def setter(facts: Facts, queue: Json, key: str) -> tuple[str, Json]:
    """Return the policy that sets a key for a queue, and its kind."""
    operators = _matching(facts, _OPERATORS, queue)
    if operators is not None and key in _settings(operators):
        return _OPERATORS, operators
    return POLICIES, policy_of(facts, queue) or {}


def arguments_of(queue: Json) -> dict[str, Any]:
    """Return the arguments that a queue was declared with."""
    found = queue.get("arguments")
    return found if isinstance(found, dict) else {}


def type_of(queue: Json) -> str:
    """Return the type of a queue."""
    return str(queue.get("type") or arguments_of(queue).get(QUEUE_TYPE) or CLASSIC)


def _matching(facts: Facts, kind: str, queue: Json) -> Json | None:
    """Return the policy of the highest priority that a queue matches."""
    applied = (*_OF_ALL, f"{type_of(queue)}_queues")
    found = [
        each
        for each in facts.all(kind)
        if each.get("apply-to", "all") in applied
        and _matches(str(each.get("pattern", "")), str(queue.get("name")))
    ]
    return max(found, key=_priority, default=None)


def _is_own(policy: Json, queue: Json) -> bool:
    """Return whether a policy can match no other queue."""
    name = str(queue.get("name"))
    return policy.get("pattern") in (f"^{pattern_of(name)}$", f"^{re.escape(name)}$")


def _own(facts: Facts, kind: str, policy: Json | None, queue: Json) -> Json:
    """Return a policy without settings for this queue alone, which counts more than another."""
    if policy is not None and _is_own(policy, queue):
        return policy
    name = str(queue.get("name"))
    pattern, there = f"^{pattern_of(name)}$", facts.named(kind)
    while name in there:
        name += "-own"
    priority = 0 if policy is None else _priority(policy) + 1
    return {"name": name, "pattern": pattern, "apply-to": "queues", "priority": priority}


def _set(facts: Facts, kind: str, policy: Json, settings: Mapping[str, Any]) -> str:
    """Return the command that sets a policy, with these settings."""
    return ctl(
        facts,
        f"set_{_NAMES[kind]}",
        policy.get("name"),
        policy.get("pattern"),
        json.dumps(settings),
        *("--priority", _priority(policy), "--apply-to", policy.get("apply-to", "all")),
    )


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:  # PCRE knows some that Python does not
        return False


def _priority(policy: Json) -> int:
    found = policy.get("priority")
    return found if isinstance(found, int) else 0


def _settings(policy: Json | None) -> dict[str, Any]:
    found = None if policy is None else policy.get("definition")
    return found if isinstance(found, dict) else {}
