"""Payloads as JSON; what stands for values that JSON lacks is in `nuropb_rmq.protocol.values`.

NaN and infinities are written as Python's json does.

Where orjson is installed, it encodes the payloads for which its output is sure to equal json's. It
never decodes: it turns long integers into floats, and looking for these would cost half of the
time that it saves, or more.
"""

from __future__ import annotations

import gc
import json
import logging
import marshal
import traceback
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from ..exceptions import MalformedMessageError, NuropbSerializationError
from .values import NoJSONForm, as_nuropb, strictly

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

__all__ = ["Encode", "decode", "encode", "encode_strictly", "nests_deeper"]

logger = logging.getLogger("nuropb_rmq.protocol")

_PATH_LENGTH: Final = 12  # steps of a path shown in an error; deeper ones end in "…"

_OF_JSON: Final = (dict, list, tuple, str, int, float, type(None))

_MARSHAL_VERSION: Final = 2
"""The last that does not look for objects that occur twice."""

_LARGE: Final = 65_536
"""Bytes of a body that is decoded without the garbage collector."""
_SPACE: Final = " \t\n\r"

_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_PASSES: Final = 3
"""Levels that are taken away from inside, cheaply: little is left then of what is not deep."""
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
"""Brackets as the signed bytes 1 and -1."""


_DECODER: Final = json.JSONDecoder()
_scan: Final[Callable[[str, int], tuple[Any, int]]] = json.scanner.make_scanner(_DECODER)  # type: ignore[attr-defined]
_make_in_c: Final = getattr(json.encoder, "c_make_encoder", None)

Encode = Callable[[Mapping[str, Any]], bytes]
"""Makes a body of a payload; raises NuropbSerializationError."""


class _Encoder:
    """Encodes payloads, with `plain` for the values that json does not know."""

    def __init__(self, plain: Callable[[object], object]) -> None:
        self._plain = plain
        self._json = json.JSONEncoder(default=plain, separators=(",", ":"))
        # JSONEncoder makes one of these for every value, a third of the time of a small payload. It
        # has no markers: in a circle it runs into the recursion limit, and _json tells the reason.
        self._in_c = _make_in_c and _make_in_c(
            None, plain, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
        )

    def encode(self, payload: Mapping[str, Any]) -> bytes:
        """The payload as a body: compact JSON in ASCII (so lone surrogates are carried too).

        NuropbSerializationError names the path of the first part that cannot be carried: a circular
        reference, a key that is no string or number, a value for which nothing can stand.
        """
        whole = payload if isinstance(payload, dict) else dict(payload)
        if orjson is not None:
            body = _encode_the_same(whole)
            if body is not None:
                return body
        if self._in_c is not None:
            try:
                return "".join(self._in_c(whole, 0)).encode("ascii")
            except Exception as error:  # noqa: BLE001 - once more, and told what it was
                logger.debug("a payload is encoded the slow way: %s", type(error).__name__)
        try:
            return self._json.encode(whole).encode("ascii")
        except Exception as error:  # whatever a value's __str__, or a lazy container, may raise
            text = f"cannot be sent as JSON: {_reason(error)}, at {self._offender(whole)}"
            raise NuropbSerializationError(text, payload, error) from error

    def _offender(self, payload: object) -> str:
        """The path from the payload's root to the first part that json refuses."""
        path = ""
        seen = {id(payload)}
        part = payload
        for _ in range(_PATH_LENGTH):
            step = next(self._refused(part), None)
            if step is None:
                return path.removeprefix(".") or "the top level"
            name, part = step
            path += name
            if id(part) in seen:
                return path.removeprefix(".")
            seen.add(id(part))
        return f"{path.removeprefix('.')}…"

    def _refused(self, part: object) -> Iterator[tuple[str, object]]:
        """The (name, value) of each child that json refuses; a refused key has no value."""
        if not isinstance(part, _OF_JSON):
            try:
                part = self._plain(part)
            except Exception:  # noqa: BLE001 - it is this part itself
                return
        children: Iterator[tuple[Any, object]] = iter(())
        if isinstance(part, dict):
            children = iter(part.items())
        elif isinstance(part, list | tuple):
            children = iter(enumerate(part))
        for key, value in children:
            if not isinstance(key, str | int | float | None):
                yield f"<key of type {type(key).__name__}>", None
            elif not self._carried(value):
                yield (f"[{key}]" if not isinstance(key, str) else f".{key}"), value

    def _carried(self, value: object) -> bool:
        try:
            self._json.encode(value)
        except Exception:  # noqa: BLE001 - the same as in encode()
            return False
        return True


encode: Final[Encode] = _Encoder(as_nuropb).encode
"""By nuropb's rules: what JSON lacks is sent as text."""
encode_strictly: Final[Encode] = _Encoder(strictly).encode
"""Only what can be read again is sent."""


def _encode_the_same(payload: dict[Any, Any]) -> bytes | None:
    """What orjson makes of a payload, when that says the same as what json makes of it.

    It takes two thirds of the time for a small body, and a third for a large one.

    None for whatever it could make something else of: plain Enums and all that is no builtin type
    itself (marshal refuses these, and takes a moment), NaN and infinities (a null that was none),
    text that is not ASCII (json escapes it, orjson does not), and what it refuses.
    """
    try:
        marshal.dumps(payload, _MARSHAL_VERSION)
        body = orjson.dumps(payload)
    except (ValueError, TypeError):
        return None
    nulls = list(payload.values()).count(None)
    return body if body.isascii() and body.count(b"null") == nulls else None


def decode(body: bytes, *, max_depth: int) -> Any:
    """The JSON value in a body: any value, not only what encode() makes.

    MalformedMessageError when it is not UTF-8, not JSON, or nested deeper than `max_depth` levels
    of arrays and objects. Its text and chain hold nothing of the body.
    """
    # First, for a parser follows brackets on the stack of its thread. The look for few brackets is
    # that of nests_deeper(), in place for all the messages that have no more.
    brackets = 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))
    if brackets > max_depth and nests_deeper(body, max_depth):
        raise MalformedMessageError(f"body is nested deeper than {max_depth} levels")
    try:
        text = body.decode()
        if text.startswith("{") and len(body) < _LARGE:  # _parse() in place, for nearly all
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        return _parse(text) if len(body) < _LARGE else _parse_large(text)
    except StopIteration as error:  # the scanner's way to say so
        problem = f"body is not JSON: Expecting value, character {error.value}"
    except UnicodeDecodeError as error:
        problem = f"body is not UTF-8: byte {error.start}"
    except json.JSONDecodeError as error:
        problem = f"body is not JSON: {error.msg}, character {error.pos}"
    except RecursionError:
        problem = "body is nested deeper than this interpreter can follow"
    except ValueError:
        problem = "body has a number with more digits than this interpreter reads"
    raise MalformedMessageError(problem)


def _parse(text: str) -> Any:
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # no value at the very start; nobody sends it so
        return _DECODER.decode(text)
    if end != len(text) and text[end:].strip(_SPACE):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _parse_large(text: str) -> Any:
    """Parse without the garbage collector, which finds nothing and takes up to 3/4 of the time.

    Up to Python 3.11 it runs while the parser makes its objects, over all there are, again and
    again. Another thread that turns it off in just these milliseconds finds it turned on again.
    """
    if not gc.isenabled():
        return _parse(text)
    gc.disable()
    try:
        return _parse(text)
    finally:
        gc.enable()


def nests_deeper(body: bytes, max_depth: int) -> bool:
    """Return whether arrays and objects nest deeper than that: exact for JSON, all of it in C.

    Of what is not JSON, exact or too much for the part that a parser reads before it says so. Few
    brackets cost a search for them, a hundredth of decoding a large text and a tenth of a small
    one; more cost 0.2 to 0.5 of it.
    """
    # replace() looks for a byte with memchr: text takes a twentieth to a quarter of what count()
    # takes. It need not find more than would do.
    enough = max_depth + 1
    square, curly = body.replace(b"[", b"", enough), body.replace(b"{", b"", enough)
    if 2 * len(body) - len(square) - len(curly) <= max_depth:
        return False
    brackets = _brackets(body)
    removed = 0
    while brackets and removed < _PASSES:
        brackets = brackets.replace(b"[]", b"")
        removed += 1
    if not brackets:
        return removed > max_depth
    return removed + max(accumulate(array("b", brackets.translate(_STEPS)))) > max_depth


def _brackets(body: bytes) -> bytes:
    """The brackets outside of strings, as if all were square."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # What two quotes enclose is gone or, where they are those of two strings, joins what these
    # have: either way what stands outside of strings remains outside.
    rest = body.translate(_ONE_KIND, _NO_STRUCTURE).replace(b'""', b"")
    return rest if b'"' not in rest else b"".join(rest.split(b'"')[::2])


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, NoJSONForm):
        return str(error)
    frames = [each for each, _ in traceback.walk_tb(error.__traceback__)]
    if frames[-1].f_globals.get("__name__") == json.encoder.__name__:
        return str(error)  # json's own words
    return type(error).__name__  # a value's, whose text may hold what the payload holds
