"""`/v1/cluster/members` and `/v1/cluster/configuration`: who belongs to the cluster, and who votes.

Each change waits until what it leads to governs, or the time is up. With `?dry_run=true` it answers
the configurations that it would lead over, or what it would be refused with, and changes nothing.
"""

from collections.abc import Iterable
from time import monotonic
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.reconfiguration import MembersChanged
from http_api.core.responses import Answer, json_answer
from http_api.v1.cluster import (
    CONFIGURATION,
    MEMBER,
    NODE_ID_MAX,
    configuration_document,
    member_document,
)
from http_api.v1.documents import INTEGER
from http_api.v1.kv import BODY_PROBLEMS
from kvstore.commands.members import (
    ADDRESS_BYTES_MAX,
    MEMBER_NAME_BYTES_MAX,
    MEMBERS_MAX,
    AddMember,
    MemberChange,
    NewMember,
    PromoteMember,
    RemoveMember,
    SetConfiguration,
    UpdateMember,
)
from kvstore.config import parse_address
from kvstore.errors import (
    InvalidArgument,
    MemberNotFound,
    MembershipConflict,
    NoQuorum,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    Stopping,
)
from kvstore.replica.status import MemberStatus
from kvstore.state.members_record import Governs

BODY_BYTES_MAX = 65_536
NAME_PATTERN = "^(?=.*[^0-9])[^\\x00-\\x1f\\x7f]+$"
"""A name of digits alone would be taken for an id."""

MemberName = Annotated[
    str, Meta(pattern=NAME_PATTERN, min_length=1, max_length=MEMBER_NAME_BYTES_MAX)
]
AddressText = Annotated[str, Meta(min_length=1, max_length=ADDRESS_BYTES_MAX)]
MemberId = Annotated[int, Meta(ge=1, le=NODE_ID_MAX)]
Members = Annotated[list[MemberId], Meta(max_length=MEMBERS_MAX)]
QuorumSize = Annotated[int, Meta(ge=0, le=MEMBERS_MAX)]


class NewMemberRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`peer_address`: where the others reach it. `learner`: it is not to become a voter by itself.
    `replaces`: the member that goes when this one votes."""

    name: MemberName
    peer_address: AddressText
    client_address: AddressText | None = None
    learner: bool = False
    replaces: MemberId | None = None


class MemberPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is. `voter`: a learner becomes a voter once it is close."""

    name: MemberName | None = None
    peer_address: AddressText | None = None
    client_address: AddressText | None = None
    voter: bool = False


class ConfigurationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Without `learners` nobody goes: all others stay, as learners. A quorum size of 0 is the usual
    one. `force` replaces a change that is under way and cannot be completed."""

    voters: Annotated[list[MemberId], Meta(min_length=1, max_length=MEMBERS_MAX)]
    learners: Members | None = None
    phase1: QuorumSize = 0
    phase2: QuorumSize = 0
    force: bool = False


# -- what requests say ----------------------------------------------------------------------


class ChangeOptions(msgspec.Struct, frozen=True):
    """The query of a change."""

    expected: int
    dry_run: bool
    timeout_s: float


def change_options(ask: Ask[Any]) -> ChangeOptions:
    """Raises InvalidArgument."""
    found = ask.options()
    expected, dry_run = -1, False
    if "expected" in found:
        expected = params.integer(found["expected"], "expected", 0, params.REVISION_MAX)
    if "dry_run" in found:
        dry_run = params.flag(found["dry_run"], "dry_run")
    return ChangeOptions(expected, dry_run, params.timeout(found, ask.config))


def peer_address(text: str) -> str:
    """Where links go: it must be one, because every member dials it. Raises InvalidArgument."""
    host, port = parse_address(text, "peer_address")
    if not host.isprintable() or " " in host or not port:
        raise InvalidArgument("peer_address", f"peer_address: expected host:port, got {text!r}")
    return text


def client_address(text: str | None) -> str:
    """Where clients go, as http://host:port; `host:port` alone means that. "" for None. Raises
    InvalidArgument."""
    if text is None:
        return ""
    scheme, mark, place = text.partition("://")
    if not mark:
        scheme, place = "http", text
    host, _ = parse_address(place, "client_address")
    if scheme not in ("http", "https") or not host.isprintable() or " " in host:
        raise InvalidArgument(
            "client_address", f"client_address: expected http://host:port, got {text!r}"
        )
    return f"{scheme}://{place}"


def found_member(ask: Ask[Any]) -> MemberStatus:
    """The member that the path means, by id or name, as this node knows. Raises MemberNotFound, or
    MembershipConflict if two have this name."""
    text = params.percent_decode(ask.parameter, "member").decode("utf-8", "replace")
    members = ask.session.status().members
    if text.isascii() and text.isdecimal():
        found = [one for one in members if str(one.id) == text]
    else:
        found = [one for one in members if one.name == text]
    if not found:
        told = ", ".join(f"{one.id} ({one.name})" for one in members)
        raise MemberNotFound(f"there is no member {text[:80]!r}; the members are {told}")
    if len(found) > 1:
        ids = " and ".join(str(one.id) for one in found)
        raise MembershipConflict("two-of-this-name", f"members {ids} have this name: give the id")
    return found[0]


# -- handlers -------------------------------------------------------------------------------


async def get(ask: Ask[None]) -> Answer:
    """The members as this node knows them."""
    ask.options()
    status = ask.session.status()
    members = [member_document(member, status.clock_ms) for member in status.members]
    configuration = configuration_document(status.configuration)
    return json_answer({"members": members, "configuration": configuration})


async def add(ask: Ask[NewMemberRequest]) -> Answer:
    """Expect a member, which is a learner first."""
    new = await ask.read()
    member = NewMember(
        new.name,
        peer_address(new.peer_address),
        client_address(new.client_address),
        promote=not new.learner,
        replaces=new.replaces or 0,
    )
    return await changed(ask, AddMember(member), 201)


async def remove(ask: Ask[None]) -> Answer:
    """Remove a member for good. If it leads, another leads first."""
    options = change_options(ask)
    await ask.session.read_barrier(options.timeout_s)
    return await changed(ask, RemoveMember(found_member(ask).id))


async def update(ask: Ask[MemberPatch]) -> Answer:
    """Give a member another name or address, or a vote."""
    options = change_options(ask)
    wanted = await ask.read()
    await ask.session.read_barrier(options.timeout_s)
    member = found_member(ask)
    if wanted.voter and member.kind == "voter":
        raise MembershipConflict("not-learner", f"member {member.id} votes already")
    address = "" if wanted.peer_address is None else peer_address(wanted.peer_address)
    change = UpdateMember(
        member.id, wanted.name or "", address, client_address(wanted.client_address), wanted.voter
    )
    if change == UpdateMember(member.id):
        raise InvalidArgument("body", "the body names nothing that is to change")
    if options.dry_run and wanted.voter:
        return await changed(ask, PromoteMember(member.id))
    if not options.dry_run and wanted.voter:
        began_s = monotonic()
        await ask.session.change_members(change, options.expected, options.timeout_s)
        left_s = options.timeout_s - (monotonic() - began_s)
        await ask.session.until_it_votes(member.id, max(left_s, 0.0))
        return json_answer(change_document(ask, member.id))
    return await changed(ask, change)


async def configuration(ask: Ask[None]) -> Answer:
    """Who votes, and how many make a quorum, as this node knows."""
    ask.options()
    found = ask.session.status().configuration
    if found is None:
        raise NotReady("the cluster has not formed yet")
    return json_answer(configuration_document(found))


async def configure(ask: Ask[ConfigurationRequest]) -> Answer:
    """From any voters and quorum sizes to any others."""
    options = change_options(ask)
    wanted = await ask.read()
    await ask.session.read_barrier(options.timeout_s)
    learners: Iterable[int] | None = wanted.learners
    if learners is None:
        learners = (one.id for one in ask.session.status().members)
    voters = dict.fromkeys(wanted.voters)
    others = tuple(one for one in dict.fromkeys(learners) if one not in voters)
    if len(voters) + len(others) > MEMBERS_MAX:
        raise InvalidArgument("voters", f"voters: a cluster has at most {MEMBERS_MAX} members")
    change = SetConfiguration(tuple(voters), others, wanted.phase1, wanted.phase2, wanted.force)
    return await changed(ask, change)


async def changed(ask: Ask[Any], change: MemberChange, status: int = 200) -> Answer:
    """The answer to a change, or to its rehearsal."""
    options = change_options(ask)
    done = await ask.session.change_members(
        change, options.expected, options.timeout_s, dry_run=options.dry_run
    )
    if options.dry_run:
        return json_answer(dry_document(ask, done))
    return json_answer(change_document(ask, done.member), status)


def change_document(ask: Ask[Any], member: int) -> dict[str, Any]:
    """After a change: whom it was about, None if it is no member any more, and who votes now."""
    status = ask.session.status()
    about = next((one for one in status.members if one.id == member), None)
    return {
        "member": None if about is None else member_document(about, status.clock_ms),
        "configuration": configuration_document(status.configuration),
    }


def dry_document(ask: Ask[Any], done: MembersChanged) -> dict[str, Any]:
    """What a change would lead over."""
    present = ask.session.status().configuration
    return {
        "dry_run": True,
        "configuration": configuration_document(present),
        "steps": [step_document(step) for step in done.steps],
    }


def step_document(step: Governs) -> dict[str, Any]:
    """One configuration on the way."""
    return {"voters": list(step.voters), "phase1": step.phase1, "phase2": step.phase2}


# -- rows -----------------------------------------------------------------------------------

CHANGE_QUERY = ("expected", "dry_run", "timeout")
CHANGE_PROBLEMS = (
    InvalidArgument,
    MemberNotFound,
    MembershipConflict,
    NoQuorum,
    NotReady,
    Overloaded,
    Stopping,
    OutcomeUnknown,
)
_STEP = {
    "type": "object",
    "properties": {
        "voters": {"type": "array", "items": INTEGER},
        "phase1": INTEGER,
        "phase2": INTEGER,
    },
}
_MAYBE_MEMBER = {
    **MEMBER,
    "type": ["object", "null"],
    "description": "Whom it was about; null: nobody, or no member any more",
}
_DRY = {
    "dry_run": {"type": "boolean", "description": "Nothing was changed"},
    "steps": {
        "type": "array",
        "items": _STEP,
        "description": "With `dry_run`: the configurations that it would lead over",
    },
}
DONE: dict[str, Any] = {
    "description": "Done; if time was up before it governs, `configuration.under_way` says so",
    "properties": {"member": _MAYBE_MEMBER, "configuration": CONFIGURATION, **_DRY},
    "required": ["configuration"],
}
_GET = Doc(
    "The members as this node knows them",
    answers={
        200: {
            "description": "Voters, learners, and those that are expected",
            "properties": {
                "members": {"type": "array", "items": MEMBER},
                "configuration": CONFIGURATION,
            },
        }
    },
    problems=(InvalidArgument,),
)
_ADD = Doc(
    "Add a member, which is a learner until it is close",
    query=CHANGE_QUERY,
    answers={200: {**DONE, "description": "With `dry_run`"}, 201: DONE},
    problems=(*CHANGE_PROBLEMS, *BODY_PROBLEMS),
)
_REMOVE = Doc(
    "Remove a member for good", query=CHANGE_QUERY, answers={200: DONE}, problems=CHANGE_PROBLEMS
)
_UPDATE = Doc(
    "Change a member's name or addresses, or make a learner a voter",
    query=CHANGE_QUERY,
    answers={200: DONE},
    problems=(*CHANGE_PROBLEMS, *BODY_PROBLEMS),
)
_CONFIGURATION = Doc(
    "Who votes, and how many make a quorum",
    answers={
        200: {
            "description": "As this node knows it",
            "properties": CONFIGURATION["properties"],
        }
    },
    problems=(InvalidArgument, NotReady),
)
_CONFIGURE = Doc(
    "Change who votes, and how many make a quorum",
    query=CHANGE_QUERY,
    answers={200: DONE},
    problems=(*CHANGE_PROBLEMS, *BODY_PROBLEMS),
)
_PATH, _MEMBER_PATH = "/v1/cluster/members", "/v1/cluster/members/{member}"
_CONFIGURATION_PATH = "/v1/cluster/configuration"

CALLS = (
    Call("GET", _PATH, get, Need.CALLER, _GET),
    Call("POST", _PATH, add, Need.CLUSTER, _ADD, BODY_BYTES_MAX, NewMemberRequest),
    Call("DELETE", _MEMBER_PATH, remove, Need.CLUSTER, _REMOVE),
    Call("PATCH", _MEMBER_PATH, update, Need.CLUSTER, _UPDATE, BODY_BYTES_MAX, MemberPatch),
    Call("GET", _CONFIGURATION_PATH, configuration, Need.CALLER, _CONFIGURATION),
    Call(
        "PUT", _CONFIGURATION_PATH, configure, Need.CLUSTER, _CONFIGURE,
        BODY_BYTES_MAX, ConfigurationRequest,
    ),
)  # fmt: skip
