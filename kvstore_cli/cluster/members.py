"""`kvstore member` and `kvstore quorum`: who belongs to the cluster, and who votes."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

import msgspec

from kvstore.client import (
    Client,
    ClusterConfiguration,
    ClusterStatus,
    Member,
    MembershipConflict,
    MembersResult,
)
from kvstore.errors import InvalidArgument, KvError, MemberNotFound
from kvstore_cli.client_command import client_command
from kvstore_cli.cluster.catching_up import WAIT_S, wait_until
from kvstore_cli.command import Command, positive, seconds
from kvstore_cli.output import OK, print_json, print_table, printable

_MEMBER = """\
MEMBER is an id or a name. Ids are never used twice. Changes wait until what they lead to governs.
Look before with --dry-run: it prints the configurations that a change leads over, or why it would
be refused, and changes nothing.

examples:
  kvstore member list
  kvstore member add node4 10.0.0.4:2380 --wait     a learner first, then a voter
  kvstore member replace node2 node5 10.0.0.5:2380  node2 goes once node5 votes
  kvstore member remove node3
  kvstore member promote node6                      a learner becomes a voter
  kvstore member set --voters node1,node2,node3     all others become learners
  kvstore member update node1 --peer 10.0.0.9:2380
"""
_QUORUM = """\
Without sizes: who votes, and how many make a quorum. A new leader needs phase 1 promises, a write
phase 2 acceptances; together they are more than all voters. Of one size the other follows.

examples:
  kvstore quorum
  kvstore quorum --phase2 2                         with 5 voters: writes wait for 2 of them
"""


# -- flags ----------------------------------------------------------------------------------


def _change_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what it leads over; do nothing")


def _member_flags(parser: ArgumentParser) -> None:
    parser.add_argument("member", metavar="MEMBER", help="its id or name")


def _client_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--client", metavar="URL", help="where clients reach it; it says so itself")


def _wait_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wait", metavar="S", type=seconds, nargs="?", const=WAIT_S, default=0.0,
        help=f"show how far it is until it is there, for so long at most ({WAIT_S:g} by itself)",
    )  # fmt: skip


def _place_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="by which people know it")
    parser.add_argument("peer", metavar="HOST:PORT", help="where the other members reach it")


def _add_flags(parser: ArgumentParser) -> None:
    _place_flags(parser)
    parser.add_argument("--learner", action="store_true", help="it is not to vote by itself")


def _update_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", help="its new name")
    parser.add_argument("--peer", metavar="HOST:PORT", help="where the other members reach it now")


def _names(text: str) -> list[str]:
    """MEMBER,MEMBER,..., or nothing."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found and text.strip():
        raise ArgumentTypeError(f"expected ids or names with commas between them, got {text!r}")
    return found


def _set_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--voters", metavar="MEMBER,...", type=_names, required=True, help="who votes"
    )
    parser.add_argument(
        "--learners", metavar="MEMBER,...", type=_names,
        help="who stays without a vote; the others go (default: all others stay)",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="instead of a change that cannot be completed"
    )
    _size_flags(parser)


def _size_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--phase1", metavar="N", type=positive, default=0, help="promises needed")
    parser.add_argument("--phase2", metavar="N", type=positive, default=0, help="votes of a write")


# -- commands -------------------------------------------------------------------------------


async def leaders_view(client: Client) -> ClusterStatus:
    """The leader's, which knows how far each member is; another node's if it cannot be asked."""
    status = await client.status()
    leader = status.leader
    if leader is None or leader.client_address is None or leader.id == status.node.id:
        return status
    try:
        return await client.status(leader.client_address)
    except KvError:
        return status


async def _list(client: Client, options: Namespace) -> int:
    view = await leaders_view(client)
    if options.json:
        members = [msgspec.to_builtins(member) for member in view.members]
        print_json({"members": members, "configuration": _builtins(view.configuration)})
        return OK
    head = ("ID", "NAME", "KIND", "ROLE", "PEER", "CLIENT", "LAG", "FOR", "INCARNATION", "LINK")
    print_table([head, *(_row(member, view) for member in view.members)])
    if (configuration := view.configuration) is not None and configuration.under_way:
        print(f"\na change is under way: {configuration.under_way}")
    return OK


def _row(member: Member, view: ClusterStatus) -> tuple[str, ...]:
    lag = "-" if member.lag is None else str(member.lag)
    link = "itself" if member.id == view.node.id else member.link or "-"
    kind = f"{member.kind} for {member.replaces}" if member.replaces else member.kind
    return (
        str(member.id), printable(member.name.encode()), kind, member.role or "-",
        member.peer_address or "-", member.client_address or "-", lag, lasting(member.member_s),
        member.incarnation or "-", link,
    )  # fmt: skip


def lasting(seconds: int) -> str:
    """A time in the largest unit of which there are two, or in seconds."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


async def _add(client: Client, options: Namespace, replaces: int | None = None) -> int:
    result = await client.add_member(
        options.name,
        options.peer,
        client_address=options.client,
        learner=getattr(options, "learner", False),
        replaces=replaces,
        dry_run=options.dry_run,
    )
    if result.dry_run or result.member is None:
        return _print_result(options, result, f"{options.name} can be added; it comes as a learner")
    text = f"member {result.member.id} ({options.name}) is expected: start it"
    _print_result(options, result, text)
    wanted = "learner" if getattr(options, "learner", False) else "voter"
    return await _wait(client, options, result.member.id, wanted)


async def _replace(client: Client, options: Namespace) -> int:
    old = find(await leaders_view(client), options.member)
    return await _add(client, options, old.id)


async def _remove(client: Client, options: Namespace) -> int:
    result = await client.remove_member(options.member, dry_run=options.dry_run)
    return _print_result(options, result, f"{options.member} was removed")


async def _promote(client: Client, options: Namespace) -> int:
    result = await client.promote_member(options.member, dry_run=options.dry_run)
    member = result.member
    if member is None:
        return _print_result(options, result, "")
    votes = "votes" if member.kind == "voter" else "will vote once it is close behind"
    _print_result(options, result, f"member {member.id} ({member.name}) {votes}")
    return await _wait(client, options, member.id, "voter")


async def _wait(client: Client, options: Namespace, member: int, wanted: str) -> int:
    if not options.wait:
        return OK
    return await wait_until(lambda: leaders_view(client), member, wanted, options.wait)


async def _update(client: Client, options: Namespace) -> int:
    result = await client.update_member(
        options.member,
        name=options.name,
        peer_address=options.peer,
        client_address=options.client,
        dry_run=options.dry_run,
    )
    return _print_result(options, result, f"{options.member} was updated")


async def _set(client: Client, options: Namespace) -> int:
    view = await leaders_view(client)
    learners = options.learners
    result = await client.set_configuration(
        [find(view, name).id for name in options.voters],
        None if learners is None else [find(view, name).id for name in learners],
        phase1=options.phase1,
        phase2=options.phase2,
        force=options.force,
        expected=None if view.configuration is None else view.configuration.number,
        dry_run=options.dry_run,
    )
    return _print_result(options, result, _quorums(result.configuration))


async def _quorum(client: Client, options: Namespace) -> int:
    configuration = (await leaders_view(client)).configuration
    if configuration is None:
        raise InvalidArgument("quorum", "the cluster has not formed yet")
    if not options.phase1 and not options.phase2:
        if options.json:
            print_json(msgspec.to_builtins(configuration))
        else:
            print(_quorums(configuration))
        return OK
    result = await client.set_configuration(
        configuration.voters,
        configuration.learners,
        phase1=options.phase1,
        phase2=options.phase2,
        expected=configuration.number,
        dry_run=options.dry_run,
    )
    return _print_result(options, result, _quorums(result.configuration))


# -- what they say --------------------------------------------------------------------------


def find(view: ClusterStatus, text: str) -> Member:
    """The member that an argument means. Raises MemberNotFound, or MembershipConflict if two have
    this name."""
    if text.isdecimal():
        found = [member for member in view.members if str(member.id) == text]
    else:
        found = [member for member in view.members if member.name == text]
    if not found:
        raise MemberNotFound(f"there is no member {text}")
    if len(found) > 1:
        raise MembershipConflict("two-of-this-name", f"two members are called {text}: give the id")
    return found[0]


def _quorums(configuration: ClusterConfiguration) -> str:
    voters = ", ".join(map(str, configuration.voters))
    text = f"voters {voters}; a leader needs {configuration.phase1} of them, a write "
    text += str(configuration.phase2)
    return f"{text}; under way: {configuration.under_way}" if configuration.under_way else text


def _print_result(options: Namespace, result: MembersResult, text: str) -> int:
    if options.json:
        print_json(_builtins(result))
    elif not result.dry_run:
        late = result.configuration.under_way
        print(f"{text}; still under way: {late}" if late and late not in text else text)
    elif not result.steps:
        print(f"{text or 'nothing is refused'}; who votes does not change at once")
    else:
        for number, step in enumerate(result.steps, 1):
            voters = ", ".join(map(str, step.voters))
            print(
                f"step {number}: voters {voters}; a leader needs {step.phase1}, a write "
                f"{step.phase2}"
            )
    return OK


def _builtins(value: Any) -> Any:
    return None if value is None else msgspec.to_builtins(value)


COMMANDS = (
    Command(
        "member",
        "show and change the members of the cluster",
        _MEMBER,
        actions=(
            client_command("list", "list the members", "", _list),
            client_command(
                "add", "expect a new member", "", _add,
                _add_flags, _client_flags, _change_flags, _wait_flags,
            ),
            client_command(
                "remove", "remove a member for good", "", _remove, _member_flags, _change_flags
            ),
            client_command(
                "promote", "make a learner a voter", "", _promote,
                _member_flags, _change_flags, _wait_flags,
            ),
            client_command(
                "replace", "expect a new member, which takes the place of another", "", _replace,
                _member_flags, _place_flags, _client_flags, _change_flags, _wait_flags,
            ),
            client_command(
                "set", "change who votes in one step", "", _set, _set_flags, _change_flags
            ),
            client_command(
                "update", "change a member's name or addresses", "", _update,
                _member_flags, _update_flags, _client_flags, _change_flags,
            ),
        ),
    ),
    client_command(
        "quorum", "show and change how many make a quorum", _QUORUM, _quorum,
        _size_flags, _change_flags,
    ),
)  # fmt: skip
