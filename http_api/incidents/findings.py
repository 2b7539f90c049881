"""What is wrong with a cluster, in words: from the reports of its nodes to sentences with advice.

Pure: the dashboard, `kvstore doctor` and the tests give it documents of `GET /v1/node`.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from http_api.incidents.neighbours import NO_ANSWER, Heard

LAG_SLOTS_MAX = 1_000
COMMIT_MS_MAX = 50.0
ROUND_TRIP_MS_MAX = 50.0
TIMES_SLOWER = 5.0
DISK_FREE_SHARE_MIN = 0.10
LEADER_CHANGES_MAX = 4
LEADER_CHANGES_S = 600.0
CPU_SHARE_MAX = 0.95
CONNECTIONS_UNEVEN_MIN = 50
UNEVEN_SHARE = 0.8

BAD, WARN = "bad", "warn"
Report = dict[str, Any]


class Finding(NamedTuple):
    """One trouble. `kind` is stable; `node` is whom it is about, None for the cluster."""

    severity: str
    kind: str
    node: int | None
    text: str
    advice: str


def findings(heard: Sequence[Heard]) -> list[Finding]:
    """All that is wrong, the worst first."""
    reports = {one.id: one.document for one in heard if one.document is not None}
    found = [*_silent(heard, reports), *_quorum(heard, reports)]
    for node, report in reports.items():
        found += _node(node, report, reports)
    found += _leaders(reports)
    found += _backups(reports)
    found += _uneven(reports)
    return sorted(found, key=lambda one: (one.severity != BAD, one.node or 0, one.kind))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _silent_s(node: int, reports: dict[int, Report]) -> float | None:
    """For how long the others have not heard it: what the one says that heard it last."""
    told = [
        member.get("silent_s")
        for report in reports.values()
        for member in report["cluster"]["members"]
        if member["id"] == node and report["cluster"]["node"]["id"] != node
    ]
    known = [silent_s for silent_s in told if silent_s is not None]
    return min(known, default=None)


def _silent(heard: Sequence[Heard], reports: dict[int, Report]) -> Iterator[Finding]:
    for one in heard:
        if one.document is not None:
            continue
        silent_s = _silent_s(one.id, reports)
        if silent_s is None:
            text = f"node {one.id} does not answer, and no other node has heard it"
        elif silent_s > 2:
            text = f"node {one.id} has not been heard for {_duration(silent_s)}: {one.trouble}"
        else:
            text = f"node {one.id} talks to its peers, but does not answer here: {one.trouble}"
        yield Finding(BAD, "node-silent", one.id, text, _silent_advice(one.id, one.trouble))


def _silent_advice(node: int, trouble: str) -> str:
    if trouble == os.strerror(errno.ECONNREFUSED):
        return (
            f"Its machine is up, and nothing listens there: start node {node} again; it catches up "
            "by itself. If it ends at once, its log says why."
        )
    if trouble.startswith(NO_ANSWER):
        return (
            "Its process stands still (stopped, short of memory or CPU), its machine is down, or a "
            "firewall swallows what is sent to it. Once it answers again, it catches up by itself."
        )
    return (
        f"Is its process running, its machine up, its port open? Start node {node} again; "
        "it catches up by itself."
    )


def _voters(reports: dict[int, Report]) -> set[int]:
    newest = _newest(reports)
    return set() if newest is None else set(newest["voters"])


def _quorum(heard: Sequence[Heard], reports: dict[int, Report]) -> Iterator[Finding]:
    voters = _voters(reports)
    alive = voters & reports.keys()
    needed = max((report["quorum"] for report in reports.values()), default=1)
    if len(alive) < needed:
        missing = ", ".join(f"node {node}" for node in sorted(voters - alive))
        yield Finding(
            BAD, "no-quorum", None,
            f"no quorum: {len(alive)} of {len(voters)} nodes answer, {needed} are needed; writes "
            "and linearizable reads are refused",
            f"Bring back {missing}. Nothing acknowledged is lost meanwhile.",
        )  # fmt: skip
    elif len(alive) == needed and len(voters) > needed:
        yield Finding(
            BAD, "last-quorum", None,
            f"one more loss ends the quorum: {len(alive)} of {len(voters)} nodes answer, "
            f"{needed} are needed",
            "Mend the node that is away before anything else is restarted.",
        )  # fmt: skip


def _node(node: int, report: Report, reports: dict[int, Report]) -> Iterator[Finding]:
    cluster = report["cluster"]
    if not cluster["node"]["ready"]:
        reason = cluster["node"]["reason"] or "it does not say why"
        yield Finding(
            BAD, "not-ready", node, f"node {node} is not ready: {reason}",
            _ready_advice(reason),
        )  # fmt: skip
    # A node of the release before does not tell of space.
    out_of_space = cluster["node"].get("out_of_space", "")
    if out_of_space:
        yield Finding(
            BAD, "out-of-space", node, f"node {node} is out of space: {out_of_space}",
            "Delete keys, or raise `space-quota-bytes` on every node; make room on a full disk.",
        )  # fmt: skip
    for warning in cluster["node"]["warnings"]:
        if warning in out_of_space:
            continue
        yield Finding(WARN, "warning", node, f"node {node}: {warning}", _warning_advice(warning))
    if cluster["lag"] > LAG_SLOTS_MAX:
        yield Finding(
            WARN, "lag", node, f"node {node} lags {cluster['lag']:,} slots behind",
            "It catches up by itself; if the lag grows, its disk or network is too slow.",
        )  # fmt: skip
    yield from _cut_links(node, report, reports)
    yield from _slow(node, report, reports)
    yield from _full(node, report)
    yield from _version(node, report, reports)


def _ready_advice(reason: str) -> str:
    if "disk" in reason:
        return "Look at the disk of that machine: other load, a failing drive, a full volume."
    if "formed" in reason:
        return "A cluster forms once, when all its members have met: start the ones it names."
    if "leader" in reason or "link" in reason:
        return "Check the network between that node's peer port and the others'."
    return "Its log says more; it answers again once the reason is gone."


def _warning_advice(warning: str) -> str:
    if "clock" in warning:
        return "Set the clocks by NTP on every machine: tokens expire by them."
    if "checkpoint" in warning:
        return "Nothing is lost: the log keeps it. Make room, or look at the disk."
    if "bytes used" in warning:
        return "Delete keys, or raise `space-quota-bytes` on every node, before it is used up."
    if "of room" in warning:
        return "Make room on that disk: below `disk-reserve-bytes` writes that grow are refused."
    return "Its log says more."


def _cut_links(node: int, report: Report, reports: dict[int, Report]) -> Iterator[Finding]:
    for member in report["cluster"]["members"]:
        other = member["id"]
        # A peer that is silent is told of once, not as so many broken links.
        if other != node and other in reports and not member["connected"]:
            yield Finding(
                WARN, "link-cut", node,
                f"node {node} does not hear node {other}, which answers here: "
                f"{member.get('link') or 'no link'}",
                f"Check the network from node {other} to node {node}'s peer port, and back.",
            )  # fmt: skip


def _others(node: int, reports: dict[int, Report], column: str) -> float:
    told = [r["load"].get(column, 0.0) for n, r in reports.items() if n != node]
    return median(told) if told else 0.0


def _slow(node: int, report: Report, reports: dict[int, Report]) -> Iterator[Finding]:
    commit_ms = report["load"].get("commit_ms", 0.0)
    others_ms = _others(node, reports, "commit_ms")
    if commit_ms > COMMIT_MS_MAX:
        compared = f", the others' {others_ms:.1f} ms" if others_ms else ""
        yield Finding(
            WARN, "slow-disk", node,
            f"the disk of node {node} is slow: a commit of its log takes {commit_ms:.0f} ms"
            f"{compared}",
            "Other load on that disk, a write cache that is off, or a failing drive.",
        )  # fmt: skip
    for peer, round_trip_ms in report["round_trips_ms"].items():
        slow_disk = reports.get(int(peer), {}).get("load", {}).get("commit_ms", 0.0)
        if round_trip_ms > ROUND_TRIP_MS_MAX and slow_disk < round_trip_ms / 2:
            yield Finding(
                WARN, "slow-network", int(peer),
                f"the way from node {node} to node {peer} and back takes {round_trip_ms:.0f} ms",
                "A slow or lossy network between them, or a machine that is short of CPU.",
            )  # fmt: skip
    if report["load"].get("cpu_share", 0.0) > CPU_SHARE_MAX:
        yield Finding(
            WARN, "cpu", node,
            f"node {node} uses a whole core: {report['load']['cpu_share']:.0%}",
            "It is at its limit. Spread the clients over all nodes; read serializable if you can.",
        )  # fmt: skip


def _full(node: int, report: Report) -> Iterator[Finding]:
    free = report["load"].get("disk_free_share", 1.0)
    if free < DISK_FREE_SHARE_MIN:
        yield Finding(
            BAD if free < DISK_FREE_SHARE_MIN / 5 else WARN, "disk-full", node,
            f"the disk of node {node} is nearly full: {free:.1%} are free",
            "Make room: a node that cannot write its log stops.",
        )  # fmt: skip
    most, connections = report["connections_max"], report["load"].get("connections", 0.0)
    if connections > 0.9 * most:
        yield Finding(
            WARN, "connections", node,
            f"node {node} has {connections:.0f} connections of at most {most}",
            "Raise the limit of open files (`ulimit -n`), or close idle clients.",
        )  # fmt: skip
    if report["log_lines_dropped"]:
        yield Finding(
            WARN, "log-dropped", node,
            f"node {node} has dropped {report['log_lines_dropped']} lines of its log",
            "Whoever reads its stderr does not keep up, or the disk of the log is full.",
        )  # fmt: skip


def _version(node: int, report: Report, reports: dict[int, Report]) -> Iterator[Finding]:
    newest = max((r["version"] for r in reports.values()), key=_version_key)
    if _version_key(report["version"]) < _version_key(newest):
        yield Finding(
            WARN, "old-version", node,
            f"node {node} runs version {report['version']}, another one {newest}",
            "Finish the rolling restart: one node at a time.",
        )  # fmt: skip


def _version_key(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _newest(reports: dict[int, Report]) -> Report | None:
    """Of who has applied most."""
    return max(reports.values(), key=lambda r: r["cluster"]["applied_through"], default=None)


def _backups(reports: dict[int, Report]) -> Iterator[Finding]:
    newest = _newest(reports)
    # A node of the release before does not tell of backups.
    for backup in () if newest is None else newest.get("backups", ()):
        if backup["late"]:
            yield Finding(
                BAD, "backup-late", None,
                f"the backup {backup['name']} is {_duration(backup['age_s'])} old, and should be "
                f"no older than {_duration(backup['fresh_s'])}",
                "Does whoever makes it run, and reach this cluster and its place? See its output. "
                "One that is not wanted any more: `kvstore backup forget NAME`.",
            )  # fmt: skip
        if backup["drill_ok"] is False:
            yield Finding(
                BAD, "drill-failed", None,
                f"the last drill of the backup {backup['name']} failed: it may be worth nothing",
                "Run `kvstore backup drill` on it by hand, and make a new backup now.",
            )  # fmt: skip


def _leaders(reports: dict[int, Report]) -> Iterator[Finding]:
    if not reports:
        return
    if not any(report["cluster"]["leader"] for report in reports.values()):
        yield Finding(
            BAD, "no-leader", None, "no node knows a leader",
            "An election takes a second or two. If it lasts, a quorum cannot meet.",
        )  # fmt: skip
    changes = 0
    for report in reports.values():
        since_ms = report["at_ms"] - LEADER_CHANGES_S * 1000
        lately = [c for c in report["leaders"] if c["leader"] and c["at_ms"] > since_ms]
        changes = max(changes, len(lately))
    if changes > LEADER_CHANGES_MAX:
        yield Finding(
            WARN, "many-elections", None,
            f"leadership changed {changes} times in {LEADER_CHANGES_S / 60:.0f} minutes",
            "Look at the reasons in the time line: a slow disk, or a network that comes and goes.",
        )  # fmt: skip


def _uneven(reports: dict[int, Report]) -> Iterator[Finding]:
    counts = {n: report["load"].get("connections", 0.0) for n, report in reports.items()}
    total = sum(counts.values())
    if len(counts) < 2 or total < CONNECTIONS_UNEVEN_MIN:
        return
    node, most = max(counts.items(), key=lambda pair: pair[1])
    if most > UNEVEN_SHARE * total:
        yield Finding(
            WARN, "uneven-clients", node,
            f"{most:.0f} of {total:.0f} clients are connected to node {node}",
            "Give the clients the addresses of all nodes, or a balancer in front of them.",
        )  # fmt: skip
