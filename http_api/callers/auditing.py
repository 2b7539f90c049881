"""What of a request goes into the audit log: who, from where, what, on which keys, what came of it.

Administrative calls, logins, nodes that join and denials always; writes, and reads, if the operator
asks for them. Bodies and queries are never written: they hold values, passwords and tokens. What of
them matters is told by the commands that they became.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from http_api.core.account_session import LeadershipMove, LoginTry, Touched
from http_api.core.calls import ADMINISTRATIVE, Row
from http_api.core.senders import address_of
from http_api.core.session import Session
from kvstore.audit_log import AuditLog
from kvstore.commands.accounts import GrantPermission, Permission, RevokePermission
from kvstore.commands.commands import Administer, Compact, Delete, Once, Put
from kvstore.commands.members import (
    AddMember,
    IssueToken,
    PromoteMember,
    Reconfigure,
    RemoveMember,
    RevokeToken,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnPut, only
from kvstore.errors import (
    CrossSite,
    JoinDenied,
    PermissionDenied,
    SlowDown,
    Unauthenticated,
    UnknownHost,
)
from kvstore.state.rights import Caller

Proof = Callable[[], Awaitable[Caller | None]]
"""Says whose request it is."""
KEYS_MAX = 16
"""Keys that one record names."""
ADMIN, WRITES, ALL = "admin", "writes", "all"
_ALWAYS = frozenset(
    (
        "/v1/auth/login",
        "/v3/auth/authenticate",
        "/v1/cluster/members/join",
        "/v1/cluster/certificates",
    )
)
"""Calls that need no right, because they are how somebody, or a node, proves who it is."""
_ABOUT_MAX = 200
_UNTOLD = ("{key}", "{token}")
"""Parameters of paths that are not written as they are: keys are told where they are touched, and
who takes a token for its id would show it."""
_CHANGES = (Administer, Reconfigure, Compact, LeadershipMove)
"""What is administration by whatever call it was asked for."""
_NOTE: Any = web.RequestKey("audit", object) if hasattr(web, "RequestKey") else "audit"


class AuditNote:
    """What is known of one request so far."""

    __slots__ = ("about", "call", "caller", "denied", "session")

    def __init__(self, call: Row[Any, Any], about: str) -> None:
        self.call = call
        self.about = about
        self.caller: Caller | None = None
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

    def begin(self, request: web.BaseRequest, call: Row[Any, Any], parameter: str = "") -> None:
        """The request is for this call; `parameter` is the raw one of its path."""
        if self.log is not None:
            told = "" if call.path.endswith(_UNTOLD) else unquote(parameter)[:_ABOUT_MAX]
            request[_NOTE] = AuditNote(call, told)

    def turned_away(
        self, request: web.BaseRequest, call: Row[Any, Any], error: CrossSite | UnknownHost
    ) -> None:
        """The request for this call comes from a page of another site: nobody asked who sends it,
        for a browser would answer."""
        self.begin(request, call)
        if self.log is not None:
            request[_NOTE].denied = str(error)[:_ABOUT_MAX]

    def proved(self, request: web.BaseRequest, prove: Proof) -> Proof:
        """`prove`, whose answer is remembered: who has no right has a name all the same."""
        note: AuditNote | None = request.get(_NOTE) if self.log is not None else None
        if note is None:
            return prove

        async def noted() -> Caller | None:
            note.caller = await prove()
            return note.caller

        return noted

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
            isinstance(error, Unauthenticated | PermissionDenied | SlowDown | JoinDenied)
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
        session, caller = note.session, note.caller
        record: dict[str, Any] = {
            "user": None if caller is None else caller.user,
            "from": address_of(request),
            "call": f"{request.method} {note.call.path}",
            "status": status,
        }
        if note.about:
            record["about"] = note.about
        if denied := note.denied or ("" if session is None else session.refused):
            record["denied"] = denied
        if session is not None and session.touched:
            record |= self._told(session.touched)
        self.log.record(record)

    def _wanted(self, note: AuditNote, status: int) -> bool:
        call = note.call
        refused = note.denied or (note.session is not None and note.session.refused)
        if refused or status in (401, 403) or call.path in _ALWAYS:
            return True
        if call.need in ADMINISTRATIVE or self._level == ALL:
            return True
        touched = [] if note.session is None else note.session.touched or []
        if any(isinstance(_command(each), _CHANGES) for each in touched):
            return True
        return self._level == WRITES and any(not isinstance(each, Select) for each in touched)

    def _told(self, touched: list[Touched]) -> dict[str, Any]:
        """The changes and keys of a request."""
        found: dict[str, Any] = {}
        changes: list[dict[str, Any]] = []
        for each in touched:
            change = self._change(_command(each))
            if change and change not in changes:  # wanted, and then submitted
                changes.append(change)
        ranges = [pair for each in touched for pair in _ranges(each)]
        for each in touched:
            if isinstance(each, LoginTry):
                found["login"] = each.user[:_ABOUT_MAX]
        if changes:
            found["changes"] = changes
        if ranges:
            found["keys"] = [self._shown(start, end) for start, end in ranges[:KEYS_MAX]]
        if len(ranges) > KEYS_MAX:
            found["more_keys"] = len(ranges) - KEYS_MAX
        return found

    def _change(self, command: Touched) -> dict[str, Any]:
        """A change that is administration, without what is secret in it; {} for another."""
        match command:
            case Compact(revision):
                return {"change": "Compact", "revision": revision}
            case LeadershipMove(to):
                return {"change": "LeadershipMove", "to": to}
            case Administer(change) | Reconfigure(change):
                found: dict[str, Any] = {"change": type(change).__name__}
            case _:
                return {}
        for name in ("name", "user", "role", "scope"):
            if hasattr(change, name):
                found[name] = str(getattr(change, name))
        match change:
            case GrantPermission(_, Permission(right, key, end)):
                found |= {"right": right.name, "keys": self._shown(*_permitted(key, end))}
            case RevokePermission(_, key, end):
                found["keys"] = self._shown(*_permitted(key, end))
            case AddMember(member, token):
                found |= {"name": member.name, "peer_address": member.peer_address}
                if token:
                    found["token"] = _token_id(token)
            case RemoveMember(id) | PromoteMember(id):
                found["id"] = id
            case UpdateMember(id, _, peer_address, client_address, promote):
                told = {"peer_address": peer_address, "client_address": client_address}
                found |= {"id": id, **told, "promote": promote}
            case SetConfiguration(voters, learners, phase1, phase2):
                found |= {"voters": voters, "learners": learners}
                found |= {"phase1": phase1, "phase2": phase2}
            case IssueToken(token) | RevokeToken(token):
                found["token"] = _token_id(token)
        return found

    def _shown(self, start: bytes, end: bytes | None) -> str:
        if end == only(start):
            return self._name(start)
        return f"{self._name(start)} .. {'' if end is None else self._name(end)}"

    def _name(self, key: bytes) -> str:
        if self._hashed and key:
            return f"sha256:{hashlib.sha256(key).hexdigest()[:32]}"
        return key.decode("utf-8", "backslashreplace")


def _command(touched: Touched) -> Touched:
    return touched.command if isinstance(touched, Once) else touched


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
    return []


def _permitted(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """The range that a permission writes as etcd does."""
    if not range_end:
        return key, only(key)
    return key, None if range_end == b"\0" else range_end


def _token_id(hash: bytes) -> str:
    """As `/v1/cluster/tokens` names a token for joining."""
    return hash.hex()[:16]
