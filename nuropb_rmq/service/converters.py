"""Make a converter for each type hint: it checks a JSON value and converts it.

Converters are made once, with the service: a call only runs closures (`nuropb_rmq.service.checks`).
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import abc, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, ForwardRef, Literal, Union, get_args, get_origin

from ..protocol.values import READ
from .checks import (
    Fields,
    dict_of,
    enum_member,
    fixed_list,
    integer_key,
    list_of,
    object_of,
    one_of,
    scalar,
    text,
)
from .libraries import by_library
from .type_hints import (
    QUALIFIERS,
    Converter,
    Mismatch,
    Uncheckable,
    class_hints,
    expected,
    has_default,
    is_typed_dict,
    required_keys,
    wanted,
)

_NONE: Final = type(None)
_SCALARS: Final[Mapping[Any, tuple[type, ...]]] = {
    str: (str,),
    typing.LiteralString: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    _NONE: (_NONE,),
    None: (_NONE,),
}
_LISTS: Final = frozenset((list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection))
_MADE_OF_LISTS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {
    set: set,
    frozenset: frozenset,
    abc.Set: frozenset,
    abc.MutableSet: set,
    deque: deque,
}
_DICTS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})


class Converters:
    """Makes converters; one for each class, so that a class may contain itself.

    `drops_unknown`: leave out fields that a class does not have, in place of refusing them; as
    pydantic and msgspec do by default.
    """

    def __init__(self, *, drops_unknown: bool = False) -> None:
        self._drops_unknown = drops_unknown
        self._made: dict[Any, Converter | None] = {}
        # Classes whose converter is being made, or was.
        self._begun: set[Any] = set()

    def of(self, hint: Any) -> Converter | None:
        """Return the converter for a hint; None when any value passes, as for Any.

        Raises Uncheckable.
        """
        if isinstance(hint, str | ForwardRef):
            raise Uncheckable(
                hint,
                "no such name where the method is defined; names under TYPE_CHECKING and in "
                "functions cannot be seen",
            )
        if not _hashable(hint):
            raise Uncheckable(hint, "it is not a type")
        if hint in (Any, object):
            return None
        if get_origin(hint) is not None:  # not cached: int | str equals str | int
            return by_library(hint) or self._of(hint)
        if hint in self._made:
            return self._made[hint]
        if hint in self._begun:
            return self._later(hint)
        self._begun.add(hint)
        self._made[hint] = made = by_library(hint) or self._of(hint)
        return made

    def _later(self, hint: Any) -> Converter:
        """Return a converter that uses the one still being made for this hint."""

        def convert(value: Any) -> Any:
            made = self._made[hint]
            return value if made is None else made(value)

        return convert

    def _of(self, hint: Any) -> Converter | None:  # noqa: PLR0911 - a table
        if hint in _SCALARS:
            return scalar(_SCALARS[hint], wanted(hint))
        if hint in READ:
            return text(hint, *READ[hint])
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in QUALIFIERS:
            return self.of(arguments[0])
        if origin is Literal:
            return one_of(hint, [(value, value) for value in arguments])
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        kind = origin or hint
        if kind is tuple:
            known = arguments or isinstance(hint, types.GenericAlias)  # tuple[()] has none
            return self._tuple(arguments if known else (Any, ...))
        if kind in _LISTS or kind in _MADE_OF_LISTS:
            items = arguments[0] if arguments else Any
            return list_of(self.of(items), _MADE_OF_LISTS.get(kind), _scalars(items))
        if kind in _DICTS:
            keys, values = arguments or (str, Any)
            return dict_of(self._key(keys), self.of(values), _scalars(values))
        if isinstance(hint, typing.NewType):
            return self.of(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":  # Python 3.12: type X = …
            return self.of(hint.__value__)
        return self._of_class(hint)

    def _of_class(self, hint: Any) -> Converter | None:
        if not isinstance(hint, type):
            raise Uncheckable(hint)
        if issubclass(hint, enum.Enum):
            return enum_member(hint)
        if is_typed_dict(hint):
            return self._typed_dict(hint)
        if issubclass(hint, tuple) and hasattr(hint, "_fields"):
            return self._named_tuple(hint)
        if dataclasses.is_dataclass(hint):
            return self._dataclass(hint)
        raise Uncheckable(hint)

    # -- containers -------------------------------------------------------------------------

    def _union(self, members: tuple[Any, ...]) -> Converter | None:
        converters = [made for member in members if (made := self.of(member)) is not None]
        if len(converters) < len(members):
            return None
        scalars = [_SCALARS.get(member) for member in members]
        accepted = frozenset(kind for kinds in scalars for kind in kinds or ())
        any_of = " or ".join(dict.fromkeys(map(wanted, members)))
        if None not in scalars:
            return scalar(tuple(accepted), any_of)

        def convert(value: Any) -> Any:
            if type(value) in accepted:
                return value
            nearest: Mismatch | None = None
            for converter in converters:
                try:
                    return converter(value)
                except Mismatch as e:
                    if e.problems[0][0]:
                        nearest = e  # about a part of this value, so more exact
            raise nearest or expected(any_of, value)

        return convert

    def _tuple(self, arguments: tuple[Any, ...]) -> Converter:
        if len(arguments) == 2 and arguments[1] is ...:
            return list_of(self.of(arguments[0]), tuple, _scalars(arguments[0]))
        items = [(f"[{index}]", self.of(hint)) for index, hint in enumerate(arguments)]
        return fixed_list(items, len(items), tuple)

    def _key(self, hint: Any) -> Converter | None:
        """Return the converter for keys, which are text in JSON."""
        if hint in (str, Any):
            return None
        if hint is int:
            return integer_key
        if hint in (float, bool, None, _NONE):
            raise Uncheckable(hint, "a key of JSON is a string")
        return self.of(hint)

    # -- classes ----------------------------------------------------------------------------

    def _typed_dict(self, hint: Any) -> Converter:
        hints = class_hints(hint)
        converters = {name: self.of(value_hint) for name, value_hint in hints.items()}
        return self._object(converters, required_keys(hint, hints))

    def _named_tuple(self, hint: Any) -> Converter:
        hints = class_hints(hint)
        items = [(f".{name}", self.of(hints.get(name, Any))) for name in hint._fields]
        least = len(items) - len(hint._field_defaults)
        return fixed_list(items, least, lambda values: hint(*values))

    def _dataclass(self, hint: Any) -> Converter:
        if not vars(hint)["__dataclass_params__"].init:
            raise Uncheckable(hint, "it is a dataclass with init=False")
        hints = class_hints(hint)
        pseudo = [name for name, kind in hints.items() if isinstance(kind, dataclasses.InitVar)]
        if pseudo:
            raise Uncheckable(hint, f"its {pseudo[0]} is an InitVar")
        fields = dataclasses.fields(hint)
        converters = {field.name: self.of(hints[field.name]) for field in fields if field.init}
        required = [field.name for field in fields if field.init and not has_default(field)]
        derived = frozenset(field.name for field in fields if not field.init)
        return self._object(converters, required, hint, derived)

    def _object(
        self,
        converters: dict[str, Converter | None],
        required: Iterable[str],
        make: Callable[..., Any] | None = None,
        derived: frozenset[str] = frozenset(),
    ) -> Converter:
        keep = frozenset(converters) if self._drops_unknown else None
        return object_of(Fields(converters, required), make, without=derived, keep=keep)


# -- hints ----------------------------------------------------------------------------------


def _scalars(hint: Any) -> tuple[type, ...]:
    return _SCALARS.get(hint, ())


def _hashable(hint: Any) -> bool:
    try:
        hash(hint)
    except TypeError:
        return False
    return True
