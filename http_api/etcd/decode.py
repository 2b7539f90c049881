"""JSON as etcd reads it, into the structs of `http_api.etcd.messages`.

The rules are those of Go's jsonpb: a field goes by its name or the camelCase of it, unknown ones
are ignored, null is the default, integers may be strings, enums names or numbers. What follows
the first document is ignored, and an empty body is an empty message.
"""

import json
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from enum import IntEnum
from functools import cache, partial
from types import UnionType
from typing import Any, NewType, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import orjson

from http_api.etcd.errors import INVALID_ARGUMENT, EtcdError
from http_api.limits.elements import few_marks

Struct = TypeVar("Struct", bound=msgspec.Struct)
Convert = Callable[[Any], Any]

Uint64 = NewType("Uint64", int)
"""An integer field without sign; plain `int` is int64."""


class ProtoEnum(IntEnum):
    """An enum of etcd's protocol."""

    @staticmethod
    def proto_name() -> str:
        """Its full name in the protocol files, which the texts of errors show."""
        raise NotImplementedError


ELEMENTS_MAX = 8192
"""Fields and items of one document: thrice what a transaction of 128 operations in each list has.
To build so many takes some 10 ms."""
DIGITS_MAX = 40
"""Of an integer; one that is longer is out of every field's range by its first ones."""

_VALUE_EXPECTED = "looking for beginning of value"
_KEY_EXPECTED = "looking for beginning of object key string"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r" *(?:(-?(?:0|[1-9][0-9]{0,19}))|null) *")
_SYNTAX = {
    "Expecting value": _VALUE_EXPECTED,
    "Expecting property name enclosed in double quotes": _KEY_EXPECTED,
    "Illegal trailing comma before end of object": _KEY_EXPECTED,
    "Illegal trailing comma before end of array": _VALUE_EXPECTED,
    "Expecting ',' delimiter": "after a value",
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}


def _refuse(text: str) -> NoReturn:
    raise EtcdError(INVALID_ARGUMENT, text)


# -- documents ------------------------------------------------------------------------------


def _constant(name: str) -> NoReturn:
    _refuse(f"invalid character {name[0]!r} {_VALUE_EXPECTED}")


def _number(digits: str) -> int:
    return int(digits[:DIGITS_MAX])


_decoder = json.JSONDecoder(parse_constant=_constant, parse_int=_number)


def _check_elements(body: bytes) -> None:
    if not few_marks(body, ELEMENTS_MAX):
        _refuse(f"etcdserver: the message has more than {ELEMENTS_MAX} fields and items")


def parse(body: bytes) -> Any:
    """The first JSON value in `body`; None if there is nothing but white space.

    Raises EtcdError (code 3), also if there is too much in it.
    """
    _check_elements(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        found = next_document(body.decode("utf-8", "replace"), 0)
        return None if found is None else found[0]


def next_document(text: str, start: int) -> tuple[Any, int] | None:
    """The JSON value at or after `start` and where it ends; None if only white space is left.

    Raises EtcdError (code 3); its text is "unexpected EOF" if the value goes on after `text`.
    """
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    if start == len(text):
        return None
    try:
        return _decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        at = error.pos
        unfinished = at >= len(text) or error.msg.startswith("Unterminated string")
        if unfinished or (error.msg == "Expecting value" and _cut_short(text[at:])):
            _refuse("unexpected EOF")
        where = _SYNTAX.get(error.msg, "in JSON input")
        _refuse(f"invalid character {text[at]!r} {where}")
    except RecursionError:
        _refuse("exceeded max depth")


def _cut_short(rest: str) -> bool:
    """Whether it is the beginning of a literal or a number."""
    return any(word.startswith(rest) for word in ("true", "false", "null", "-"))


def decode(struct: type[Struct], body: bytes) -> Struct:
    """The first document in `body` as a `struct`. Raises EtcdError (code 3)."""
    return convert(struct, parse(body))


def convert(struct: type[Struct], value: Any) -> Struct:
    """A parsed document as a `struct`; None is the empty message. Raises EtcdError (code 3)."""
    try:
        converted: Struct = _message(struct, value)
    except RecursionError:
        _refuse("exceeded max depth")
    return converted


# -- values ---------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    """What Go calls a JSON value."""
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _mismatch(shown: str, wanted: str) -> NoReturn:
    _refuse(f"json: cannot unmarshal {shown} into Go value of type {wanted}")


def _not_an_integer(text: str, wanted: str) -> NoReturn:
    """A string stands for the JSON in it; its texts are those of a decoder."""
    text = text.strip(" ")
    number = _NUMBER.match(text)
    if not text:
        _refuse("unexpected end of JSON input")
    if number is None:
        _refuse(f"invalid character {text[0]!r} {_VALUE_EXPECTED}")
    if number.end() < len(text):
        _refuse(f"invalid character {text[number.end()]!r} after top-level value")
    _mismatch(f"number {number[0][:40]}", wanted)


def _integer(minimum: int, maximum: int, wanted: str, value: Any) -> int:
    if type(value) is str:
        matched = _INTEGER.fullmatch(value)
        if matched is None:
            _not_an_integer(value, wanted)
        value = int(matched[1] or 0)
    if type(value) is not int or not minimum <= value <= maximum:
        kind = _kind(value)
        _mismatch(f"number {value}" if kind == "number" else kind, wanted)
    return int(value)


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        _mismatch(_kind(value), "bool")
    return bool(value)


def _text(value: Any) -> str:
    if type(value) is not str:
        _mismatch(_kind(value), "string")
    # JSON can name half of a surrogate pair, which UTF-8 cannot.
    return str(value) if value.isascii() else value.encode("utf-8", "replace").decode()


def _bytes(value: Any) -> bytes:
    if type(value) is list and all(type(each) is int and 0 <= each < 256 for each in value):
        return bytes(value)
    if type(value) is not str:
        _mismatch(_kind(value), "[]uint8")
    try:
        return a2b_base64(value, strict_mode=True)
    except (Base64Error, ValueError):
        return _lenient_base64(value)


def _lenient_base64(text: str) -> bytes:
    """Line ends may stand anywhere. Raises EtcdError with the place of the first fault."""
    without = text.replace("\r", "").replace("\n", "")
    try:
        return a2b_base64(without, strict_mode=True)
    except (Base64Error, ValueError):
        _refuse(
            f"illegal base64 data at input byte {_base64_fault(text.encode('utf-8', 'replace'))}"
        )


def _base64_fault(data: bytes) -> int:
    """Where Go's decoder stops."""
    skipped = b"\r\n"
    at = digits = 0
    while at < len(data):
        byte = data[at : at + 1]
        at += 1
        if byte.isalnum() or byte in (b"+", b"/"):
            digits = (digits + 1) % 4
        elif byte == b"=" and digits >= 2:
            rest = data[at:].lstrip(skipped)
            if digits == 2:
                if not rest:
                    return len(data)
                if rest[:1] != b"=":
                    return at - 1
                rest = rest[1:].lstrip(skipped)
            return len(data) - len(rest)
        elif byte not in (b"\r", b"\n"):
            return at - 1
    return at - digits


def _enum(enum: type[ProtoEnum], value: Any) -> ProtoEnum:
    """By name or by number. An unknown number is refused, unlike in etcd, which goes on with it."""
    if type(value) is str and value in enum.__members__:
        return enum[value]
    if type(value) is int and value in enum._value2member_map_:
        return enum(value)
    if type(value) not in (str, int):
        _mismatch(_kind(value), "protoreflect.EnumNumber")
    name = enum.proto_name()
    shown = json.dumps(json.dumps(value)) if type(value) is str else str(value)[:40]
    _refuse(f"unknown value {shown} for enum {name}")


def _list(convert_item: Convert, value: Any) -> list[Any]:
    if type(value) is not list:
        _mismatch(_kind(value), "[]json.RawMessage")
    return [convert_item(item) for item in value]


def _item(default: Callable[[], Any], convert_item: Convert, value: Any) -> Any:
    return default() if value is None else convert_item(value)


# -- messages -------------------------------------------------------------------------------


def _message(struct: Any, value: Any) -> Any:
    if value is None:
        return struct()
    if type(value) is not dict:
        _mismatch(_kind(value), "map[string]json.RawMessage")
    fields = _fields(struct)
    found: dict[str, Any] = {}
    for name, given in value.items():
        field = fields.get(name)
        if field is not None and given is not None:
            found[field[0]] = field[1](given)
    return struct(**found)


@cache
def _fields(struct: Any) -> dict[str, tuple[str, Convert]]:
    """How each field of a struct is converted, under both its names."""
    hints = get_type_hints(struct)
    fields: dict[str, tuple[str, Convert]] = {}
    for field in msgspec.structs.fields(struct):
        head, *words = field.encode_name.split("_")
        camel = head + "".join(word.capitalize() for word in words)
        converter = _converter(hints[field.name])
        fields[field.encode_name] = fields[camel] = (field.name, converter)
    return fields


_SCALARS: dict[Any, Convert] = {
    int: partial(_integer, -(1 << 63), (1 << 63) - 1, "int64"),
    Uint64: partial(_integer, 0, (1 << 64) - 1, "uint64"),
    bool: _boolean,
    str: _text,
    bytes: _bytes,
}


def _converter(kind: Any) -> Convert:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, UnionType):
        (inner,) = (each for each in get_args(kind) if each is not type(None))
        return _converter(inner)
    if get_origin(kind) is list:
        (inner,) = get_args(kind)
        default = partial(inner, 0) if issubclass(inner, ProtoEnum) else inner
        return partial(_list, partial(_item, default, _converter(inner)))
    if issubclass(kind, ProtoEnum):
        return partial(_enum, kind)
    return partial(_message, kind)
