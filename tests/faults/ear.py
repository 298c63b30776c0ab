"""Listens to every logger there is, and to every repr() of ours, for secrets."""

from __future__ import annotations

import base64
import gc
import logging
import traceback
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeGuard
from urllib.parse import quote

_OUR_TOOLS = frozenset({"pika", "hypothesis"})
"""Loggers of tools that only the tests use; the library has no part in what these log."""
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def forms_of(secret: str | bytes) -> set[str]:
    """A secret as it may turn up: as it is, escaped in a URL or a repr, and in base64."""
    text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
    escaped = {quote(text), quote(text, safe=""), repr(text)[1:-1], ascii(text)[1:-1]}
    return {text, *escaped, base64.b64encode(text.encode()).decode().rstrip("=")[:-1]}


def basic(username: str, password: str) -> str:
    """Return them as HTTP's basic authentication encodes them (RFC 7617)."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


class Ear(logging.Handler):
    """While it is entered it hears every record of every logger, at every level.

    `secrets` are what must not be heard; `listen_for` adds to them, also for what was heard before.
    """

    def __init__(self, secrets: Iterable[str | bytes]) -> None:
        super().__init__(level=1)
        self._forms: set[str] = set()
        self.said: list[tuple[str, str]] = []
        self.records: Counter[str] = Counter()
        """Number of records heard, by the first part of the logger's name."""
        for secret in secrets:
            self.listen_for(secret)

    def listen_for(self, secret: str | bytes) -> None:
        """This is secret, too."""
        assert len(secret) > 7, "shorter ones turn up by chance"
        self._forms |= forms_of(secret)

    def emit(self, record: logging.LogRecord) -> None:
        """Note all that a handler, whatever its format, could print of a record."""
        library = record.name.partition(".")[0]
        if library in _OUR_TOOLS:
            return
        self.records[library] += 1
        extras = {name: value for name, value in vars(record).items() if name not in _USUAL}
        parts = [self.format(record), repr(record.args), repr(extras)]
        self.said.append((f"{record.name} {record.levelname}", "\n".join(parts)))

    def forget(self) -> None:
        """Forget what was heard."""
        self.said.clear()

    def found_in(self, text: str) -> list[str]:
        """The secrets that are in a text."""
        return [form for form in self._forms if form in text]

    @property
    def heard(self) -> list[str]:
        """Every record that contains a secret."""
        return [
            f"{who}: {found}\n{text[:2000]}"
            for who, text in self.said
            if (found := self.found_in(text))
        ]

    def seen(self) -> list[str]:
        """Every object of ours, of all that there are, whose repr() or str() has a secret."""
        told = []
        gc.collect()  # what an earlier test has left half made has no repr
        for each in gc.get_objects():
            if str(type(each).__module__).partition(".")[0] != "nuropb_rmq":
                continue
            text = f"{each!r} {each}"
            if found := self.found_in(text):
                told.append(f"{type(each).__qualname__}: {found}\n{text[:500]}")
        return told

    def check_error(self, error: BaseException) -> None:
        """Check that no error of ours in this chain contains a secret; errors of others may."""
        each: BaseException | None = error
        while each is not None:
            if str(type(each).__module__).startswith("nuropb_rmq"):
                text = f"{each} {each!r}"
                assert not self.found_in(text), text
            each = each.__cause__ or each.__context__

    def check_chain(self, error: BaseException) -> None:
        """Check that an error as it is printed contains no secret, whoever's error it is."""
        text = f"{error!r}" + "".join(traceback.format_exception(error))
        assert not self.found_in(text), text

    def __enter__(self) -> Self:
        self._root = logging.getLogger()
        # Some program that was imported may have silenced a logger; it is to be heard, too.
        loggers = [each for each in self._root.manager.loggerDict.values() if _has_level(each)]
        foreign = map(logging.getLogger, ("aiormq", "aio_pika"))  # heard when a level is set
        self._levels = [(each, each.level) for each in (self._root, *foreign, *loggers)]
        for each, _ in self._levels:
            each.setLevel(1)
        self._root.addHandler(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._root.removeHandler(self)
        for each, level in self._levels:
            each.setLevel(level)


def _has_level(each: object) -> TypeGuard[logging.Logger]:
    return isinstance(each, logging.Logger) and each.level > logging.NOTSET


def with_credentials(url: str, username: str, password: str) -> str:
    """An AMQP or HTTP URL with these in it."""
    scheme, _, rest = url.partition("://")
    userinfo = f"{quote(username, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{userinfo}@{rest.rpartition('@')[2]}"
