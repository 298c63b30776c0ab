"""Payloads as JSON; `nuropb_rmq.protocol.values` converts the values that JSON lacks.

NaN and infinities are written as Python's json does.

If orjson is installed, it encodes payloads for which its output is sure to equal json's. It is
never used to decode: it turns long integers into floats, and searching for these would cost at
least half of the time that it saves.
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

logger = logging.getLogger("nuropb_rmq.protocol")

_PATH_LENGTH: Final = 12  # steps of a path shown in an error; deeper ones end in "…"

_OF_JSON: Final = (dict, list, tuple, str, int, float, type(None))

_MARSHAL_VERSION: Final = 2
"""The last version that does not look for objects that occur twice."""

_LARGE: Final = 65_536
"""Bytes of a body that is decoded without the garbage collector."""
_SPACE: Final = " \t\n\r"
_LONG: Final = 4096
"""Characters of a text for which it is worth to look whether json would escape any."""
_QUOTES_EVERY: Final = 512
"""Bytes of a body to each of its quotes, when most of it is long texts."""
_UNESCAPED: Final = bytes(byte for byte in range(32, 127) if byte not in b'"\\')

_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_PASSES: Final = 3
"""Innermost levels that are removed, cheaply: of a shallow body little is left then."""
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
"""Brackets as the signed bytes 1 and -1."""


_DECODER: Final = json.JSONDecoder()
_scan: Final[Callable[[str, int], tuple[Any, int]]] = json.scanner.make_scanner(_DECODER)  # type: ignore[attr-defined]
_make_in_c: Final = getattr(json.encoder, "c_make_encoder", None)

Encode = Callable[[Mapping[str, Any]], bytes]
"""Function that makes a body of a payload; raises NuropbSerializationError."""


def _quoted(text: str) -> str:
    """Return the text as JSON in ASCII; a long one that needs no escapes in a third of the time."""
    if (
        len(text) > _LONG
        and type(text) is str
        and text.isascii()
        and not text.encode().translate(None, _UNESCAPED)
    ):
        return '"' + text + '"'
    return json.encoder.encode_basestring_ascii(text)


class _Encoder:
    """Encodes payloads; `plain` converts the values that json does not know."""

    def __init__(self, plain: Callable[[object], object]) -> None:
        self._plain = plain
        self._json = json.JSONEncoder(default=plain, separators=(",", ":"))
        # JSONEncoder makes one of these for every payload, a third of a small one's time. It does
        # not look for circles: it runs into the recursion limit, and then _json finds the reason.
        self._in_c = self._make_in_c(json.encoder.encode_basestring_ascii)
        # The same text, made faster where texts are long; where they are short a call of _quoted()
        # for each doubles the time.
        self._for_long_texts = self._make_in_c(_quoted)
        # The last body was mostly long texts, so the next one may be, too.
        self._texts_are_long = False

    def _make_in_c(self, quoted: Callable[[str], str]) -> Callable[[object, int], Any] | None:
        made: Callable[[object, int], Any] | None = _make_in_c and _make_in_c(
            None, self._plain, quoted, None, ":", ",", False, False, True
        )
        return made

    def encode(self, payload: Mapping[str, Any]) -> bytes:
        """Encode a payload as compact JSON in ASCII, which carries lone surrogates too.

        Raises NuropbSerializationError with the path of the first part that cannot be encoded: a
        circular reference, a key that is no string or number, a value with no form in JSON.
        """
        whole = payload if isinstance(payload, dict) else dict(payload)
        if orjson is not None:
            body = _encode_the_same(whole)
            if body is not None:
                return body
        in_c = self._for_long_texts if self._texts_are_long else self._in_c
        if in_c is not None:
            try:
                body = "".join(in_c(whole, 0)).encode("ascii")
            except Exception as error:  # noqa: BLE001 - _json finds the reason
                logger.debug("encoding a payload again, slowly: %s", type(error).__name__)
            else:
                size = len(body)
                self._texts_are_long = size > _LONG and body.count(b'"') * _QUOTES_EVERY < size
                return body
        try:
            return self._json.encode(whole).encode("ascii")
        except Exception as error:  # a value's __str__ or a lazy container may raise anything
            text = f"cannot be sent as JSON: {_reason(error)}, at {self._offender(whole)}"
            raise NuropbSerializationError(text, payload, error) from error

    def _offender(self, payload: object) -> str:
        """Return the path from the payload's root to the first part that json refuses."""
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
        """Yield (name, value) of the children that json refuses; a refused key has no value."""
        if not isinstance(part, _OF_JSON):
            try:
                part = self._plain(part)
            except Exception:  # noqa: BLE001 - json refuses this part itself, no child
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
"""Encode by nuropb's rules: values that JSON lacks are sent as text."""
encode_strictly: Final[Encode] = _Encoder(strictly).encode
"""Encode only values that the receiver can read back."""


def _encode_the_same(payload: dict[Any, Any]) -> bytes | None:
    """Encode with orjson, if its output equals json's; else return None.

    It takes two thirds of the time for a small body, and a third for a large one.

    None for any value on which the two might differ: Enums and all that is not of a builtin type
    itself (marshal refuses these, quickly), NaN and infinities (they become null), text that is
    not ASCII (json escapes it, orjson does not), and values that orjson refuses.
    """
    try:
        marshal.dumps(payload, _MARSHAL_VERSION)
        body = orjson.dumps(payload)
    except (ValueError, TypeError):
        return None
    nulls = list(payload.values()).count(None)
    return body if body.isascii() and body.count(b"null") == nulls else None


def decode(body: bytes, *, max_depth: int) -> Any:
    """Decode a body: any JSON value, not only the output of encode().

    Raises MalformedMessageError when it is not UTF-8, not JSON, or nested deeper than `max_depth`
    levels of arrays and objects. The error's text and chain hold nothing of the body.
    """
    # First, for a parser follows brackets on the stack of its thread. This is the first test of
    # nests_deeper(), repeated here because few messages have more brackets.
    brackets = 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))
    if brackets > max_depth and nests_deeper(body, max_depth):
        raise MalformedMessageError(f"body is nested deeper than {max_depth} levels")
    try:
        text = body.decode()
        if text.startswith("{") and len(body) < _LARGE:  # nearly all: _parse(), without the call
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        return _parse(text) if len(body) < _LARGE else _parse_large(text)
    except StopIteration as error:  # from the scanner
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
    except StopIteration:  # the text begins with whitespace, or is no JSON; rare
        return _DECODER.decode(text)
    if end != len(text) and text[end:].strip(_SPACE):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _parse_large(text: str) -> Any:
    """Parse without the garbage collector, which finds nothing and takes up to 3/4 of the time.

    Up to Python 3.11 it runs again and again, over all objects, while the parser makes them. If
    another thread turns it off in just these milliseconds, this turns it on again.
    """
    if not gc.isenabled():
        return _parse(text)
    gc.disable()
    try:
        return _parse(text)
    finally:
        gc.enable()


def nests_deeper(body: bytes, max_depth: int) -> bool:
    """Return whether arrays and objects nest deeper than `max_depth` levels; exact for JSON.

    If a body is not JSON, never too low a depth for the part that a parser reads before it fails.
    With few brackets the cost is a search, a hundredth of decoding a large text and a tenth of a
    small one; with more, it is 0.2 to 0.5 of decoding. All loops run in C.
    """
    # replace() finds a byte with memchr: a twentieth to a quarter of count()'s time for text. It
    # stops once it has found enough.
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
    # From 0, for what is no JSON may go on with a bracket that closes nothing.
    steps = array("b", brackets.translate(_STEPS))
    return removed + max(accumulate(steps, initial=0)) > max_depth


def _brackets(body: bytes) -> bytes:
    """Return the brackets outside of strings, all as square ones."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Adjacent quotes are an empty string, or the end of one string and the start of the next:
    # without them, brackets that were outside of strings are still outside.
    rest = body.translate(_ONE_KIND, _NO_STRUCTURE).replace(b'""', b"")
    return rest if b'"' not in rest else b"".join(rest.split(b'"')[::2])


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, NoJSONForm):
        return str(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames[-1].f_globals.get("__name__") == json.encoder.__name__:
        return str(error)  # raised by json itself
    return type(error).__name__  # raised by a value: the text may quote the payload
