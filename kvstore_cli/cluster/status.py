"""`kvstore status`, `compact` and `handover`."""

import asyncio
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from kvstore.client import Client, ClusterStatus
from kvstore.errors import KvError, NoQuorum, RequestError
from kvstore_cli.client_command import client_command
from kvstore_cli.command import positive
from kvstore_cli.output import OK, print_json, print_table

_STATUS = """\
Asks every endpoint for its own view. 4 if none answers, or none knows a leader; 2 if those that
answer refuse to tell.

examples:
  kvstore status
  kvstore status --endpoints 10.0.0.1:2379,10.0.0.2:2379
"""


async def _status(client: Client, options: Namespace) -> int:
    answers = await asyncio.gather(
        *(client.status(endpoint) for endpoint in client.endpoints), return_exceptions=True
    )
    views: list[tuple[str, ClusterStatus | KvError]] = []
    for endpoint, answer in zip(client.endpoints, answers, strict=True):
        if not isinstance(answer, ClusterStatus | KvError):
            raise answer
        views.append((endpoint, answer))
    if options.json:
        print_json({"endpoints": [_view_json(endpoint, view) for endpoint, view in views]})
    else:
        _print_status(views)
    seen = [view for _, view in views if isinstance(view, ClusterStatus)]
    if not seen:
        raise _why_none([(endpoint, view) for endpoint, view in views if isinstance(view, KvError)])
    if all(view.leader is None for view in seen):
        raise NoQuorum("no leader is known: is a majority of the members running?")
    return OK


def _why_none(failures: list[tuple[str, KvError]]) -> KvError:
    """No endpoint gave its view: none was reached, or those that answer refuse to tell."""
    told = "; ".join(
        f"{error}" if endpoint in str(error) else f"{endpoint} answers: {error}"
        for endpoint, error in failures
    )
    refusal = next((error for _, error in failures if isinstance(error, RequestError)), None)
    if refusal is None:
        return NoQuorum(f"none of the endpoints tells its status: {told}")
    refusal.args = (f"none of the endpoints tells its status: {told}",)
    return refusal


def _view_json(endpoint: str, view: ClusterStatus | KvError) -> dict[str, Any]:
    if isinstance(view, KvError):
        return {"endpoint": endpoint, "error": str(view)}
    return {"endpoint": endpoint, "cluster": msgspec.to_builtins(view)}


def _print_status(views: list[tuple[str, ClusterStatus | KvError]]) -> None:
    rows = [("ENDPOINT", "NODE", "ROLE", "LEADER", "BALLOT", "CHOSEN", "APPLIED", "NOTE")]
    members: ClusterStatus | None = None
    for endpoint, view in views:
        if isinstance(view, KvError):
            rows.append((endpoint, "-", "-", "-", "-", "-", "-", str(view)))
            continue
        members = view if members is None or view.node.role == "leader" else members
        leader = "none" if view.leader is None else str(view.leader.id)
        chosen, applied = str(view.chosen_through), str(view.applied_through)
        rows.append(
            (
                endpoint,
                str(view.node.id),
                view.node.role,
                leader,
                view.ballot,
                chosen,
                applied,
                "; ".join(filter(None, (view.node.reason, *view.node.warnings))),
            )
        )
    print_table(rows)
    if members is None:
        return
    print(f"\nMembers, as node {members.node.id} sees them:")
    rows_of_members = [("NODE", "NAME", "KIND", "ROLE", "PEER", "CLIENT", "CONNECTED", "LAG")]
    for member in members.members:
        connected = (
            "itself"
            if member.id == members.node.id
            else ("yes" if member.connected else member.link or "no")
        )
        lag = "-" if member.lag is None else str(member.lag)
        peer, client = member.peer_address or "-", member.client_address or "-"
        who = str(member.id), member.name or "-", member.kind, member.role or "-"
        rows_of_members.append((*who, peer, client, connected, lag))
    print_table(rows_of_members)


def _compact_flags(parser: ArgumentParser) -> None:
    parser.add_argument("revision", metavar="REVISION", type=positive)


async def _compact(client: Client, options: Namespace) -> int:
    result = await client.compact(options.revision)
    if options.json:
        print_json({"compacted_revision": result.compacted_revision})
    else:
        print(f"the oldest readable revision is {result.compacted_revision}")
    return OK


def _handover_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "to", metavar="NODE", nargs="?", type=positive, help="the node to lead (default: any)"
    )


async def _handover(client: Client, options: Namespace) -> int:
    result = await client.hand_over(options.to)
    if options.json:
        print_json({"leader": result.leader})
    else:
        print(f"node {result.leader} leads")
    return OK


COMMANDS = (
    client_command("status", "show nodes and leader", _STATUS, _status),
    client_command("compact", "give up history below a revision", "", _compact, _compact_flags),
    client_command("handover", "hand leadership over", "", _handover, _handover_flags),
)
