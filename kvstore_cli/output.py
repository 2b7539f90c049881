"""How the client's commands read keys and print what they found."""

import base64
import binascii
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import msgspec

from kvstore.client import Entry, Event
from kvstore.errors import InvalidArgument

OK = 0
NOT_FOUND = 1


def printable(octets: bytes) -> str:
    """Text as it is if a terminal shows it in one line; otherwise with backslash escapes."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return str(octets)[2:-1]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def octets(options: Namespace, text: str) -> bytes:
    """The key that an argument means. Raises InvalidArgument if it is to be base64 and is not."""
    # fsencode gives back the very bytes of the argument, also those that are not UTF-8.
    if not options.key_base64:
        return os.fsencode(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("key", f"key: {text!r} is not base64") from None


def not_found(key: bytes) -> int:
    """Say on stderr that there is no such key; the exit code."""
    print(f"kvstore: not found: {printable(key)}", file=sys.stderr)
    return NOT_FOUND


def print_json(value: object) -> None:
    """One line of JSON."""
    print(msgspec.json.encode(value).decode())


def text_or_base64(name: str, octets: bytes) -> dict[str, str]:
    """A field `name` if the bytes are UTF-8, otherwise `name_base64`, as the API's JSON has it."""
    try:
        return {name: octets.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(octets).decode()}


def entry_json(entry: Entry, *, keys_only: bool = False) -> dict[str, Any]:
    """One entry, as the API's JSON has it."""
    return {
        **text_or_base64("key", entry.key),
        **({} if keys_only else text_or_base64("value", entry.value)),
        "create_revision": entry.create_revision,
        "mod_revision": entry.mod_revision,
        "version": entry.version,
        **({"lease": str(entry.lease)} if entry.lease else {}),
    }


def event_json(event: Event) -> dict[str, Any]:
    """One change, as the API's JSON has it."""
    if event.deleted:
        key = text_or_base64("key", event.key)
        found = {"type": "delete", **key, "mod_revision": event.revision}
    else:
        found = {"type": "put", **entry_json(event.entry)}
    if event.previous is not None:
        found["previous"] = entry_json(event.previous)
    return found


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns of equal width; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
