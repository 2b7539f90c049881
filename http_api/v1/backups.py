"""`/v1/backups`: what backups have said of themselves: how far, how old, how the drill went.

Whoever makes backups leaves a mark here under a name of its own; `kvstore backup` does.
"""

import time
from typing import Any

import msgspec

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, json_answer
from http_api.v1.kv import BODY_PROBLEMS
from kvstore.backup.marks import MARKS_MAX, NAME_BYTES_MAX, BackupMark
from kvstore.errors import (
    InvalidArgument,
    KvError,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    Stopping,
)

BODY_BYTES_MAX = 8 << 10


def backup_document(name: str, mark: BackupMark) -> dict[str, Any]:
    """A mark as the API shows it, with its age by this node's clock."""
    now_s = time.time()
    told: dict[str, Any] = {
        "name": name,
        "age_s": round(mark.age_s(now_s), 1),
        "late": mark.late(now_s),
    }
    fields: dict[str, Any] = msgspec.to_builtins(mark)
    return told | fields


def summaries(marks: dict[str, BackupMark]) -> list[dict[str, Any]]:
    """What everybody may know of backups: names and ages, not places."""
    found = []
    for name, mark in marks.items():
        document = backup_document(name, mark)
        shown = {key: document[key] for key in ("name", "age_s", "late", "fresh_s", "continuous")}
        found.append(shown | {"drill_ok": None if mark.drill is None else mark.drill.ok})
    return found


def _named(ask: Ask[Any]) -> str:
    octets = params.percent_decode(ask.parameter, "name")
    if not 1 <= len(octets) <= NAME_BYTES_MAX:
        text = f"name: {len(octets)} bytes; names have 1 to {NAME_BYTES_MAX}"
        raise InvalidArgument("name", text)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise InvalidArgument("name", "name: is no UTF-8") from None


async def page(ask: Ask[None]) -> Answer:
    """All of them, in the order of their names."""
    ask.options()
    await ask.session.read_barrier(ask.config.request_timeout_s)
    marks = ask.session.backup_marks()
    return json_answer({"backups": [backup_document(name, mark) for name, mark in marks.items()]})


async def put(ask: Ask[BackupMark]) -> Answer:
    """Say how far a backup is. Raises Overloaded if there are too many."""
    ask.options()
    name, mark = _named(ask), await ask.read()
    timeout_s = ask.config.request_timeout_s
    await ask.session.read_barrier(timeout_s)
    marks = ask.session.backup_marks()
    if name not in marks and len(marks) >= MARKS_MAX:
        text = f"name: there are {len(marks)} backups already; forget one (DELETE)"
        raise InvalidArgument("name", text)
    await ask.session.set_backup_mark(name, mark, timeout_s)
    return json_answer(backup_document(name, mark))


async def forget(ask: Ask[None]) -> Answer:
    """Nobody waits for this backup any more."""
    ask.options()
    name = _named(ask)
    timeout_s = ask.config.request_timeout_s
    await ask.session.read_barrier(timeout_s)
    known = name in ask.session.backup_marks()
    if known:
        await ask.session.set_backup_mark(name, None, timeout_s)
    return json_answer({"forgotten": known})


_TIME = {"type": "integer", "description": "Milliseconds since 1970"}
_OPTIONAL_TIME = {"type": ["integer", "null"], "description": "Milliseconds since 1970"}
_BACKUP: dict[str, Any] = {
    "name": {"type": "string"},
    "age_s": {"type": "number", "description": "Since all was kept, by this node's clock"},
    "late": {"type": "boolean", "description": "Older than it says that it may be"},
    "place": {"type": "string"},
    "continuous": {"type": "boolean", "description": "Every change, or whole copies only"},
    "revision": {"type": "integer", "description": "Kept through this one"},
    "time_ms": _TIME,
    "fresh_s": {"type": ["number", "null"], "description": "How old it may be"},
    "base_revision": {"type": "integer"},
    "base_ms": _TIME,
    "next_ms": _OPTIONAL_TIME,
    "drill": {"type": ["object", "null"], "description": "time_ms, ok, said, next_ms"},
}
_READ_PROBLEMS: tuple[type[KvError], ...] = (InvalidArgument, NoQuorum, Overloaded, Stopping)
_CHANGE_PROBLEMS: tuple[type[KvError], ...] = (*_READ_PROBLEMS, OutcomeUnknown)
_LIST = Doc(
    "What backups have said of themselves",
    answers={
        200: {
            "description": "In the order of their names",
            "properties": {
                "backups": {"type": "array", "items": {"type": "object", "properties": _BACKUP}}
            },
        }
    },
    problems=_READ_PROBLEMS,
)
_PUT = Doc(
    "Say how far a backup is; `kvstore backup` does",
    answers={200: {"description": "As it is known now", "properties": _BACKUP}},
    problems=(*_CHANGE_PROBLEMS, *BODY_PROBLEMS),
)
_FORGET = Doc(
    "Forget what a backup said; the backup itself stays",
    answers={
        200: {
            "description": "Whether there was anything",
            "properties": {"forgotten": {"type": "boolean"}},
        }
    },
    problems=_CHANGE_PROBLEMS,
)
_PATH = "/v1/backups/{name}"
CALLS = (
    Call("GET", "/v1/backups", page, Need.BACKUP, _LIST),
    Call("PUT", _PATH, put, Need.BACKUP, _PUT, BODY_BYTES_MAX, BackupMark),
    Call("DELETE", _PATH, forget, Need.BACKUP, _FORGET),
)
