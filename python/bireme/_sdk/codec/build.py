"""Codecs from type hints."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from typing import Any

from ..words import hint_name
from .base import Codec, Definitions, Schema
from .containers import DictCodec, ListCodec, TupleCodec
from .records import Field, RecordCodec, json_default
from .scalars import (
    TEXTS,
    AnyCodec,
    BoolCodec,
    ChoiceCodec,
    FloatCodec,
    IntCodec,
    NoneCodec,
    StrCodec,
    choices_of_enum,
)
from .unions import UnionCodec

_SIMPLE: dict[Any, type[Codec]] = {
    Any: AnyCodec,
    object: AnyCodec,
    None: NoneCodec,
    type(None): NoneCodec,
    bool: BoolCodec,
    int: IntCodec,
    float: FloatCodec,
    str: StrCodec,
    typing.AnyStr: StrCodec,
}

#: Types that are arrays of equal items.
LISTS: frozenset[Any] = frozenset(
    {
        list,
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Iterable,
        collections.abc.Iterator,
        collections.abc.Collection,
        collections.abc.Generator,
    }
)
_SETS: dict[Any, Any] = {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_DICTS: frozenset[Any] = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})


def codec_of(hint: Any) -> Codec:
    """Returns the codec of a type hint, or raises `TypeError`, which says why it has none."""
    builder = _Builder()
    codec = builder.of(hint, {})
    builder.finish()
    return codec


class LaterCodec(Codec):
    """Stands for a type alias within its own definition."""

    codec: Codec = AnyCodec()

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def kinds(self) -> frozenset[str]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.codec.kinds

    def schema(self, definitions: Definitions) -> Schema | bool:
        name, is_known = definitions.name_of(self, self._name)
        if not is_known:
            schema = self.codec.schema(definitions)
            definitions.schemas[name] = schema if isinstance(schema, dict) else {}
        return {"$ref": f"#/$defs/{name}"}

    def decode(self, value: Any) -> Any:
        return self.codec.decode(value)

    def encode(self, value: Any) -> Any:
        return self.codec.encode(value)

    def holds(self, value: Any) -> bool:
        return self.codec.holds(value)


class _Builder:
    """One run: what was made so far, so that a type may contain itself."""

    def __init__(self) -> None:
        self._records: dict[Any, RecordCodec] = {}
        self._aliases: dict[int, LaterCodec] = {}
        self._unions: list[tuple[UnionCodec, Any]] = []

    def finish(self) -> None:
        for union, hint in self._unions:
            try:
                union.check()
            except TypeError as error:
                raise TypeError(f"`{hint_name(hint)}`: {error}") from None

    def of(self, hint: Any, variables: dict[Any, Any]) -> Codec:
        try:
            simple = _SIMPLE.get(hint)
        except TypeError:
            simple = None
        if simple is not None:
            return simple()
        if isinstance(hint, typing.TypeVar):
            bound = variables.get(hint, hint.__bound__)
            return self.of(bound, variables) if bound is not None else AnyCodec()
        if isinstance(hint, typing.NewType):
            return self.of(hint.__supertype__, variables)
        if isinstance(hint, str):
            raise TypeError(f"`{hint}` is not a type that is known where the function stands")
        if type(hint).__name__ == "TypeAliasType":
            return self._alias(hint, (), variables)
        origin = typing.get_origin(hint)
        return self._plain(hint) if origin is None else self._generic(hint, origin, variables)

    def _alias(self, hint: Any, arguments: tuple[Any, ...], variables: dict[Any, Any]) -> Codec:
        if (known := self._aliases.get(id(hint))) is not None:
            return known
        later = self._aliases[id(hint)] = LaterCodec(hint.__name__)
        bound = {**variables, **dict(zip(hint.__type_params__, arguments))}
        later.codec = self.of(hint.__value__, bound)
        if arguments:
            del self._aliases[id(hint)]
            return later.codec
        return later

    def _plain(self, hint: Any) -> Codec:
        if hint in TEXTS:
            return TEXTS[hint]()
        if hint in (list, set, frozenset, dict, tuple) or hint in LISTS or hint in _DICTS or hint in _SETS:
            return self._container(hint, (), {})
        if _is_class(hint):
            if issubclass(hint, enum.Enum):
                try:
                    return ChoiceCodec(choices_of_enum(hint), is_enum=True, title=hint.__name__)
                except TypeError as error:
                    raise TypeError(f"`{hint_name(hint)}`: {error}") from None
            if _is_record(hint):
                return self._record(hint, hint, {})
            for base in (bytes, str, int, float):
                # A subclass that adds no state of its own, such as the SDK's `Bytes`.
                if issubclass(hint, base):
                    return TEXTS[bytes]() if base is bytes else _SIMPLE[base]()
        raise TypeError(f"`{hint_name(hint)}` has no form in JSON; take a dataclass, a `TypedDict`, or a type of JSON")

    def _generic(self, hint: Any, origin: Any, variables: dict[Any, Any]) -> Codec:
        arguments = typing.get_args(hint)
        if origin is typing.Annotated:
            return self.of(arguments[0], variables)
        if origin in (typing.Union, types.UnionType):
            return self._union(hint, [self.of(argument, variables) for argument in arguments])
        if origin is typing.Literal:
            return self._literal(hint, arguments)
        if origin is typing.Final or getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
            return self.of(arguments[0], variables)
        if type(origin).__name__ == "TypeAliasType":
            return self._alias(origin, arguments, variables)
        if isinstance(origin, type) and _is_record(origin):
            parameters = getattr(origin, "__parameters__", ())
            bound = {p: variables.get(a, a) for p, a in zip(parameters, arguments)}
            return self._record(hint, origin, bound)
        try:
            return self._container(origin, arguments, variables)
        except TypeError as error:
            text = str(error)
            raise TypeError(text if text.startswith("`") else f"`{hint_name(hint)}`: {text}") from None

    def _container(self, origin: Any, arguments: tuple[Any, ...], variables: dict[Any, Any]) -> Codec:
        if origin is tuple:
            if not arguments:
                return ListCodec(AnyCodec(), tuple, is_set=False)
            if len(arguments) == 2 and arguments[1] is ...:
                return ListCodec(self.of(arguments[0], variables), tuple, is_set=False)
            return TupleCodec([self.of(argument, variables) for argument in arguments if argument != ()])
        if origin in LISTS:
            return ListCodec(self.of(arguments[0], variables) if arguments else AnyCodec(), list, is_set=False)
        if origin in _SETS:
            item = self.of(arguments[0], variables) if arguments else AnyCodec()
            return ListCodec(item, _SETS[origin], is_set=True)
        if origin in _DICTS:
            key, value = arguments if arguments else (str, Any)
            return DictCodec(self.of(key, variables), self.of(value, variables), hint_name(key))
        raise TypeError("it has no form in JSON")

    def _union(self, hint: Any, members: list[Codec]) -> Codec:
        # `None` last, as `X | None` is written.
        members.sort(key=lambda member: isinstance(member, NoneCodec))
        if any(isinstance(member, AnyCodec) for member in members):
            return AnyCodec()
        union = UnionCodec(members)
        self._unions.append((union, hint))
        return union

    def _literal(self, hint: Any, values: tuple[Any, ...]) -> Codec:
        choices: list[tuple[Any, Any]] = []
        for value in values:
            choices.append((value.value if isinstance(value, enum.Enum) else value, value))
            if isinstance(value, bytes):
                raise TypeError(f"`{hint_name(hint)}`: bytes are no value of JSON")
        return ChoiceCodec(choices, is_enum=any(isinstance(value, enum.Enum) for value in values))

    def _record(self, hint: Any, cls: type, bound: dict[Any, Any]) -> RecordCodec:
        if (known := self._records.get(hint)) is not None:
            return known
        name = cls.__name__ + "".join(f"_{_word(bound[p])}" for p in getattr(cls, "__parameters__", ()) if p in bound)
        is_dict = typing.is_typeddict(cls)
        codec = RecordCodec(name, _doc(cls), dict if is_dict else cls, _item if is_dict else getattr)
        self._records[hint] = codec
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except NameError as error:
            raise TypeError(f"`{name}`: {error}; its types are looked up in the module that defines it") from None
        codec.fill([self._field(cls, field, hints, bound) for field in _fields(cls)])
        return codec

    def _field(self, cls: type, field: _RecordField, hints: dict[str, Any], bound: dict[Any, Any]) -> Field:
        hint = hints[field.name]
        try:
            codec = self.of(hint, bound)
        except TypeError as error:
            raise TypeError(f"field `{field.name}` of `{cls.__name__}`: {error}") from None
        default = field.default
        if default is not dataclasses.MISSING:
            default = json_default(codec, default)
        return Field(field.name, codec, field.is_required, default, doc_of(hint))


@dataclasses.dataclass
class _RecordField:
    name: str
    is_required: bool
    default: Any


def _is_class(hint: Any) -> bool:
    """Is `isinstance`, without the narrowing of a type checker to a class of unknown parts."""
    return isinstance(hint, type)


def _is_record(cls: Any) -> bool:
    return dataclasses.is_dataclass(cls) or typing.is_typeddict(cls) or _is_named_tuple(cls)


def _is_named_tuple(cls: Any) -> bool:
    return tuple in cls.__mro__ and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _fields(cls: Any) -> list[_RecordField]:
    if typing.is_typeddict(cls):
        return [_RecordField(name, name in cls.__required_keys__, dataclasses.MISSING) for name in _ordered(cls)]
    if dataclasses.is_dataclass(cls):
        fields: list[_RecordField] = []
        for field in dataclasses.fields(cls):
            if field.init:
                default = field.default
                has_default = default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
                fields.append(_RecordField(field.name, not has_default, default))
        return fields
    return [
        _RecordField(name, name not in cls._field_defaults, cls._field_defaults.get(name, dataclasses.MISSING))
        for name in cls._fields
    ]


def _ordered(cls: Any) -> list[str]:
    return list(typing.get_type_hints(cls))


def _item(value: Any, name: str) -> Any:
    return value[name]


def _doc(cls: type) -> str:
    doc = cls.__dict__.get("__doc__")
    # `dataclass` writes a signature where there is no doc, `NamedTuple` too.
    if not isinstance(doc, str) or doc.startswith(f"{cls.__name__}("):
        return ""
    return inspect.cleandoc(doc)


def _word(hint: Any) -> str:
    return "".join(c if c.isalnum() else "_" for c in hint_name(hint)).strip("_")


def doc_of(hint: Any) -> str:
    """Returns the text of `Annotated[T, "text"]`, which describes a parameter or a field."""
    for extra in getattr(hint, "__metadata__", ()):
        text = extra if isinstance(extra, str) else getattr(extra, "documentation", None)
        if isinstance(text, str):
            return text
    return ""
