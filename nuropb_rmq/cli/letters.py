"""Dead letters as the command prints them."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import nuropb_rmq

from .conventions import PARTLY, counted
from .output import Output
from .verbs import At

if TYPE_CHECKING:
    from nuropb_rmq import DeadLetter, DeadLetterGroup, DeadLetters

_ENCRYPTED: Final = "encrypted: only the service can read it"
_FOREIGN: Final = "of another service"
_STYLES: Final = {"count": "bold", "error": "red", "id": "cyan", "last (UTC)": "dim"}
_PASTED: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
"""An id that a shell takes as it is shown: a peer may have chosen it."""
SHORT: Final = 12
"""Characters of an id that are shown, and that `show` is content with."""
_LOOK_AGAIN: Final = 0.1
"""Seconds between two looks at how far a pass has come."""


def is_called(letter: DeadLetter, identity: str) -> bool:
    """Return whether failure id or correlation id of a letter begin so."""
    known = (letter.failure_id or "", letter.correlation_id)
    return bool(identity) and any(each.startswith(identity) for each in known)


class Shown:
    """The shown parts of a letter. The letter itself, which may be large, is not kept."""

    def __init__(self, letter: DeadLetter, *, payload: bool) -> None:
        self.data: dict[str, Any] = {
            "own": letter.own,
            "reason": letter.reason,
            "queue": letter.queue,
            "type": letter.type,
            "method": letter.method,
            "topic": letter.topic,
            "error": letter.error,
            "error_text": letter.error_text,
            "failed_at": _iso(letter.failed_at),
            "first_failed_at": _iso(letter.first_failed_at),
            "attempts": letter.attempts,
            "replay_count": letter.replay_count,
            "failure_id": letter.failure_id,
            "correlation_id": letter.correlation_id,
            "message_id": letter.message_id,
            "trace_id": letter.trace_id,
            "instance": letter.instance,
            "exchange": letter.exchange,
            "routing_key": letter.routing_key,
            "encrypted": letter.encrypted,
            "problem": letter.problem,
            "body_size": letter.body_size,
            "traceback": letter.traceback,
        }
        if payload:
            self.data |= {"headers": dict(letter.headers), **_payload(letter)}
        self.failed_at = letter.failed_at

    @property
    def identity(self) -> str:
        """The beginning of the id that `show` finds it by."""
        return str(self.data["failure_id"] or self.data["correlation_id"])[:SHORT]

    @property
    def subject(self) -> str:
        """Its type, and method or topic."""
        data = self.data
        return _subject(data["type"], data["topic"] or data["method"], own=data["own"])

    @property
    def error(self) -> str:
        """Class and text of its error; its reason where nobody has told one."""
        return _error(self.data["error"], self.data["error_text"], self.data["reason"])


def _payload(letter: DeadLetter) -> dict[str, Any]:
    try:
        return {"payload": letter.payload()}
    except (nuropb_rmq.EncryptionError, nuropb_rmq.MalformedMessageError) as e:
        problem = _ENCRYPTED if letter.encrypted else str(e)
        return {"payload": None, "payload_problem": problem}


# -- a pass -----------------------------------------------------------------------------------


@contextmanager
def progress_of(out: Output, letters: DeadLetters, what: str) -> Iterator[None]:
    """Show on a terminal how far a pass over the letters comes."""
    with out.progress() as bar:
        task = bar.add_task(what, total=None)
        before = letters.progress

        async def follow() -> None:
            while True:
                now = letters.progress
                if now != before and now.waiting:
                    bar.update(task, completed=now.looked_at, total=now.waiting)
                await asyncio.sleep(_LOOK_AGAIN)

        following = asyncio.ensure_future(follow())
        try:
            yield
        finally:
            following.cancel()


def status_of(at: At, stopped: str | None) -> int:
    """Say whether all letters were looked at; return the exit status."""
    if stopped is None:
        return 0
    at.out.note(f"not all were looked at: {stopped}", style="yellow")
    return PARTLY


# -- groups -----------------------------------------------------------------------------------


def print_groups(
    at: At, service: str, groups: Sequence[DeadLetterGroup], *, limit: int | None, filtered: bool
) -> None:
    """Print the groups, and what to do next."""
    shown = groups[:limit]
    if at.json:
        at.out.data([_group_data(each) for each in shown])
        return
    total = sum(each.count for each in groups)
    if not total:
        at.out.line(f"{service}: no dead letters{' that match' if filtered else ''}")
        return
    columns = ["count", "what", "error", "last (UTC)"]
    rows = [
        (
            each.count,
            _group_subject(each),
            _error(each.error, each.shape, each.reason),
            _time(each.last),
        )
        for each in shown
    ]
    at.out.table(columns, rows, right=("count",), whole=("last (UTC)",), styles=_STYLES)
    many = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
    at.out.line()
    at.out.line(f"{service}: {counted(total, 'dead letter')} in {many}")
    example = next((each.example for each in shown if each.example), None)
    if example:
        at.out.line(f"Look at one: nuropb-rmq dlq show {service} {example[:SHORT]}", style="dim")


def _group_data(group: DeadLetterGroup) -> dict[str, Any]:
    event = group.type is nuropb_rmq.MessageType.EVENT
    return {
        "count": group.count,
        "own": group.own,
        "reason": group.reason,
        "type": group.type,
        "method": None if event else group.method,
        "topic": group.method if event else None,
        "error": group.error,
        "shape": group.shape,
        "first": _iso(group.first),
        "last": _iso(group.last),
        "example": group.example,
    }


def _group_subject(group: DeadLetterGroup) -> str:
    if group.type is group.method is group.error is None and not group.reason:
        return "what is in no other group"
    return _subject(group.type, group.method, own=group.own)


# -- letters ----------------------------------------------------------------------------------


def print_list(at: At, service: str, letters: Sequence[Shown], *, limit: int | None) -> None:
    """Print letters, a row each; as JSON, a line each."""
    if at.json:
        for each in letters:
            at.out.data(each.data)
        return
    if not letters:
        at.out.line(f"{service}: no dead letters that match")
        return
    columns = ["failed at (UTC)", "what", "error", "id"]
    rows = [(_time(each.failed_at), each.subject, each.error, each.identity) for each in letters]
    at.out.table(columns, rows, whole=(columns[0], "id"), styles=_STYLES)
    for each in letters:
        if "payload" in each.data:
            at.out.line()
            at.out.line(f"{each.subject}, {each.identity}:", style="bold")
            _print_payload(at.out, each.data)
    at.out.line()
    more = f"; there may be more (--limit {limit})" if len(letters) == limit else ""
    at.out.line(f"{service}: {counted(len(letters), 'dead letter')}{more}")


def print_whole(at: At, service: str, letters: Sequence[Shown]) -> None:
    """Print all that is known of each letter, and how to send it back."""
    for number, each in enumerate(letters):
        if at.json:
            at.out.data(each.data)
            continue
        if number:
            at.out.line()
        hidden = ("traceback", "headers", "payload", "payload_problem", "own")
        pairs = [(name.replace("_", " "), value) for name, value in each.data.items()
                 if name not in hidden and value not in (None, "", False)]  # fmt: skip
        if not each.data["own"]:
            pairs.insert(0, ("whose", _FOREIGN))
        at.out.pairs(pairs)
        if each.data["traceback"]:
            at.out.line()
            at.out.line(each.data["traceback"].rstrip(), style="dim")
        if "payload" in each.data:
            at.out.line()
            at.out.line("headers", style="bold")
            at.out.value(each.data["headers"])
            at.out.line("payload", style="bold")
            _print_payload(at.out, each.data)
        elif each.data["encrypted"]:
            at.out.line(f"payload: {_ENCRYPTED}", style="dim")
        _print_way_back(at.out, service, each.data)


def _print_way_back(out: Output, service: str, data: dict[str, Any]) -> None:
    identity = data["failure_id"]
    if data["own"] and identity and _PASTED.fullmatch(identity):
        asked = " --requests" if data["type"] == nuropb_rmq.MessageType.REQUEST else ""
        words = shlex.join(["dlq", "replay", service, "--failure-id", identity])
        out.line()
        out.line(f"Send it back: nuropb-rmq {words}{asked}", style="dim")


def _print_payload(out: Output, data: dict[str, Any]) -> None:
    if "payload_problem" in data:
        out.line(data["payload_problem"], style="yellow")
    else:
        out.value(data["payload"])


# -- cells ------------------------------------------------------------------------------------


def _subject(kind: str | None, name: str | None, *, own: bool) -> str:
    text = " ".join(part for part in (kind, name) if part) or "a message"
    return text if own else f"{text} ({_FOREIGN})"


def _error(error: str | None, text: str | None, reason: str) -> str:
    """Return class and text on one line; the reason where nobody has told an error."""
    text = " ".join((text or "").split())
    if error and not text.startswith(error):
        return f"{error}: {text}" if text else error
    return text or reason


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
