"""What of a request goes into the audit log: who, from where, what, on which keys, what came of it.

Administrative calls, logins and denials always; writes, and reads, if the operator asks for them.
Bodies and queries are never written: they hold values and passwords.
"""

import hashlib
from typing import Any

from aiohttp import web

from http_api.core.account_session import Touched
from http_api.core.calls import ADMINISTRATIVE, Row
from http_api.core.senders import address_of
from http_api.core.session import Session
from kvstore.audit_log import AuditLog
from kvstore.commands.commands import Administer, Compact, Delete, Grant, Once, Put, Revoke
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnPut, only
from kvstore.errors import PermissionDenied, SlowDown, Unauthenticated

KEYS_MAX = 16
"""Keys that one record names."""
ADMIN, WRITES, ALL = "admin", "writes", "all"
_LOGINS = frozenset(("/v1/auth/login", "/v3/auth/authenticate"))
_NOTE: Any = web.RequestKey("audit", object) if hasattr(web, "RequestKey") else "audit"


class AuditNote:
    """What is known of one request so far."""

    __slots__ = ("call", "denied", "session")

    def __init__(self, call: Row[Any, Any]) -> None:
        self.call = call
        self.session: Session | None = None
        self.denied = ""


class Auditing:
    """Of one server. `level`: ADMIN, WRITES or ALL; `hashed`: keys are shown as hashes."""

    def __init__(self, log: AuditLog | None, level: str, hashed: bool) -> None:
        self.log = log
        self._level = level
        self._hashed = hashed

    @property
    def all_calls(self) -> bool:
        """Whether calls are recorded that are no administration."""
        return self.log is not None and self._level != ADMIN

    def begin(self, request: web.BaseRequest, call: Row[Any, Any]) -> None:
        """The request is for this call."""
        if self.log is not None:
            request[_NOTE] = AuditNote(call)

    def served(self, request: web.BaseRequest, session: Session) -> Session:
        """The session in which the request is to be served: one that remembers what it does."""
        note: AuditNote | None = request.get(_NOTE) if self.log is not None else None
        if note is None:
            return session
        note.session = session.remembering()
        return note.session

    def denied(self, request: web.BaseRequest, error: BaseException) -> None:
        """The request, or a message of it, was refused for want of a right, or slowed down."""
        if (
            isinstance(error, Unauthenticated | PermissionDenied | SlowDown)
            and self.log is not None
        ):
            note: AuditNote | None = request.get(_NOTE)
            if note is not None:
                note.denied = str(error)

    def end(self, request: web.BaseRequest, status: int) -> None:
        """What came of the request."""
        if self.log is None:
            return
        note: AuditNote | None = request.get(_NOTE)
        if note is None or not self._wanted(note, status):
            return
        session = note.session
        caller = None if session is None else session.caller
        record: dict[str, Any] = {
            "user": None if caller is None else caller.user,
            "from": address_of(request),
            "call": f"{request.method} {note.call.path}",
            "status": status,
        }
        if denied := note.denied or ("" if session is None else session.refused):
            record["denied"] = denied
        if session is not None and session.touched:
            record |= self._told(session.touched)
        self.log.record(record)

    def _wanted(self, note: AuditNote, status: int) -> bool:
        call = note.call
        refused = note.denied or (note.session is not None and note.session.refused)
        if refused or status in (401, 403) or call.path in _LOGINS:
            return True
        if call.need in ADMINISTRATIVE or self._level == ALL:
            return True
        touched = [] if note.session is None else note.session.touched or []
        if any(isinstance(each, Administer) for each in touched):
            return True
        return self._level == WRITES and any(not isinstance(each, Select) for each in touched)

    def _told(self, touched: list[Touched]) -> dict[str, Any]:
        """The changes and keys of a request."""
        found: dict[str, Any] = {}
        changes = [_change(each) for each in touched if isinstance(each, Administer)]
        ranges = [pair for each in touched for pair in _ranges(each)]
        if changes:
            found["changes"] = changes
        if ranges:
            found["keys"] = [self._shown(start, end) for start, end in ranges[:KEYS_MAX]]
        if len(ranges) > KEYS_MAX:
            found["more_keys"] = len(ranges) - KEYS_MAX
        return found

    def _shown(self, start: bytes, end: bytes | None) -> str:
        if end == only(start):
            return self._name(start)
        return f"{self._name(start)} .. {'' if end is None else self._name(end)}"

    def _name(self, key: bytes) -> str:
        if self._hashed and key:
            return f"sha256:{hashlib.sha256(key).hexdigest()[:32]}"
        return key.decode("utf-8", "backslashreplace")


def _change(command: Administer) -> dict[str, Any]:
    """A change of users and roles, without what is secret in it."""
    change = command.change
    found: dict[str, Any] = {"change": type(change).__name__}
    for name in ("name", "user", "role", "scope"):
        if hasattr(change, name):
            found[name] = str(getattr(change, name))
    return found


def _ranges(touched: Touched) -> list[tuple[bytes, bytes | None]]:
    match touched:
        case Once(_, command):
            return _ranges(command)
        case Put(key) | Delete(key) | TxnPut(key):
            return [(key, only(key))]
        case TxnDelete(start, end) | Select(start, end):
            return [(start, end)]
        case Transaction(compares, success, failure):
            found: list[tuple[bytes, bytes | None]] = [(c.start, c.end) for c in compares]
            for operation in (*success, *failure):
                found += _ranges(operation)
            return found
        case Compact() | Grant() | Revoke() | Administer():
            return []
    return []
