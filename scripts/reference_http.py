"""The reference of HTTP calls, written from what `/openapi.json` says."""

import json
from collections.abc import Iterator
from typing import Any

from reference_text import fenced, page, plain, table

from http_api.server import native_calls
from http_api.v1.openapi import describe

_HEAD = """\
# HTTP calls

Every call of the native API, as the nodes themselves describe it at `/openapi.json`. How to use
them, with examples, is in [HTTP API](../http.md); etcd's calls are in
[compatibility](../etcd-compatibility.md).

{description}
"""
_PROBLEM = "application/problem+json"
_BARE = {"type": "string"}
"""A body of which nothing is to say but its kind."""
Schema = dict[str, Any]


def http_page() -> str:
    """The page."""
    document = describe(native_calls())
    parts = [_HEAD.format(description=plain(document["info"]["description"]))]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _call(method.upper(), path, operation)
    parts.append("## Bodies\n\nWhat the calls above name.")
    for name, schema in document["components"]["schemas"].items():
        parts += [f"### {name}", plain(schema.get("description", "")), _shown(schema)]
    return page(parts)


def _call(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## `{method} {path}`"
    yield plain(operation["summary"]) + "."
    if "security" not in operation:
        yield "Needs no login, also where authentication is on."
    yield table(
        ("parameter", "in", "type", "meaning"),
        (
            (f"`{one['name']}`", one["in"], f"`{_type(one['schema'])}`", plain(one["description"]))
            for one in operation["parameters"]
        ),
    )
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        bare = content["schema"] == _BARE
        yield f"Body, `{kind}`{'.' if bare else ':'}"
        yield "" if bare else _shown(content["schema"])
    yield table(
        ("status", "meaning", "headers"),
        (
            (status, plain(answer["description"]), _headers(answer))
            for status, answer in operation["responses"].items()
        ),
    )
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            if kind != _PROBLEM and content["schema"] != _BARE:
                yield f"{status}, `{kind}`:"
                yield _shown(content["schema"])


def _headers(answer: dict[str, Any]) -> str:
    lines = (
        f"`{name}`: {plain(header['description'])}"
        for name, header in answer.get("headers", {}).items()
    )
    return "\n".join(lines)


# -- schemas ----------------------------------------------------------------------------------


def _shown(schema: Schema) -> str:
    return fenced("\n".join(_lines(schema, "")))


def _lines(schema: Schema, indent: str) -> list[str]:
    """The schema in the shape of the JSON that it describes; the first line is not indented."""
    properties = schema.get("properties")
    if properties:
        inner = indent + "  "
        lines = ["{"]
        required = schema.get("required", ())
        for name, one in properties.items():
            first, *others = _lines(one, inner)
            optional = "" if name in required else "?"
            lines += [f"{inner}{name}{optional}: {first}{_note(one)}", *others]
        return [*lines, indent + "}"]
    if schema.get("items"):
        first, *others = _lines(schema["items"], indent)
        lines = [f"[{first}{_note(schema['items'])}", *others]
        return [*lines[:-1], lines[-1] + ", ...]"] if others else [f"[{first}, ...]"]
    return [_type(schema)]


def _note(schema: Schema) -> str:
    text = schema.get("description", "")
    return f"  # {text}" if text else ""


def _type(schema: Schema) -> str:
    """A schema that is no object with known properties, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array":
        return f"[{_type(schema.get('items', {}))}, ...]"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"{{name: {_type(schema['additionalProperties'])}}}"
    return text + _bounds(schema)


def _bounds(schema: Schema) -> str:
    names = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}",
             "default": "default {}"}  # fmt: skip
    told = [text.format(json.dumps(schema[name])) for name, text in names.items()
            if schema.get(name) is not None]  # fmt: skip
    return f" ({', '.join(told)})" if told else ""
