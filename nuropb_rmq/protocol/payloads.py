"""Make all payloads that this library sends: requests, commands, events and responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .reader import Head


def call(  # noqa: PLR0917 - in the order in which callers give them
    tag: str,
    service: str,
    method: str,
    params: Mapping[str, Any] | None,
    context: Mapping[str, Any] | None = None,
    trace_id: str | None = None,
) -> dict[str, Any]:
    """Make a request or command, by its tag."""
    payload: dict[str, Any] = {
        "tag": tag,
        "service": service,
        "method": method,
        "params": {} if params is None else params,
        "context": context,
    }
    if trace_id is not None:
        payload["trace_id"] = trace_id
    return payload


def event(
    topic: str,
    body: Any,
    *,
    target: Sequence[Any] | None = None,
    context: Mapping[str, Any] | None = None,
    trace_id: str | None = None,
    correlation_id: str | None = None,
) -> dict[str, Any]:
    """Make an event."""
    payload: dict[str, Any] = {
        "tag": "event",
        "topic": topic,
        "event": body,
        "target": target,
        "context": context,
    }
    if trace_id is not None:
        payload["trace_id"] = trace_id
    if correlation_id is not None:
        payload["correlation_id"] = correlation_id
    return payload


def event_added(
    added: Mapping[str, Any],
    *,
    context: Mapping[str, Any],
    correlation_id: str,
    trace_id: str | None,
) -> dict[str, Any]:
    """Make an event that a handler has added, in the activity of its message.

    Its body is added["event"] or, as in nuropb's EventType, added["payload"]; its own context, if
    it has one, replaces `context`.
    """
    return event(
        added["topic"],
        added["event"] if "event" in added else added["payload"],
        target=added.get("target"),
        context=added.get("context") or context,
        trace_id=trace_id,
        correlation_id=correlation_id,
    )


def response(
    result: Any,
    error: Mapping[str, Any] | None,
    *,
    correlation_id: str,
    trace_id: str | None,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Make a response without a message that it answers."""
    return {
        "tag": "response",
        "result": result,
        "error": error,
        "correlation_id": correlation_id,
        "trace_id": trace_id,
        "context": context,
        "warning": None,
        "reply_to": "",
    }


def answer(
    head: Head, context: Mapping[str, Any], result: Any, error: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make the response to a message: its result, or its error."""
    return {  # not by response(): every call passes here
        "tag": "response",
        "result": result,
        "error": error,
        "correlation_id": head.correlation_id,
        "trace_id": head.trace_id,
        "context": context,
        "warning": None,
        "reply_to": head.reply_to,
    }
