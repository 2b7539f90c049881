"""`kvstore backup`: make one, look into one, keep one up to date, prove one."""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvstore.errors import InvalidArgument
from kvstore_cli.client_command import endpoint_flags
from kvstore_cli.command import Command, positive, seconds
from kvstore_cli.credentials import credential_flags, login_of
from kvstore_cli.output import OK, print_json
from kvstore_cli.progress import amount, progress

_TEXT = """\
kvstore backup FILE|DIR           a consistent copy of the whole store, from any node, while it
                                  serves; into a directory: under a name with time and revision
kvstore backup inspect FILE       what is in it; verifies all of it, without a server
kvstore backup --follow PLACE     a base, and from then on every change as it happens, until it is
                                  interrupted; PLACE is a directory or s3://bucket/prefix. Goes on
                                  where it stopped, however it ended
kvstore backup drill SOURCE       restores FILE or PLACE into a temporary cluster on this machine,
                                  compares every key that each node serves, says how long it took
kvstore backup list               what backups have told this store: age, next one, last drill
kvstore backup forget NAME        nobody waits for that backup any more; its files stay

A continuous backup tells the store once a minute how far it is, under the --name that it is given
(the last part of PLACE); a single one does with --name. /metrics, `kvstore doctor` and the
dashboard then tell how old it is, and with --every whether one is late.

With authentication on it takes the scope backup; with --follow also the right to watch every key.

A backup that was interrupted goes on where it stopped when the same command is run again within a
minute, and begins anew later. 7 if a backup is damaged, or is not what it says.

examples:
  kvstore backup store.kvb
  kvstore backup /backups/ --endpoints 10.0.0.1:2379,10.0.0.2:2379 --rate-mib-s 100
  kvstore backup inspect store.kvb --json
  kvstore backup --follow /backups/shop --keep 24h:hourly,30d:daily
  kvstore backup drill /backups/shop
  kvstore backup /backups/ --name nightly --every daily
  kvstore backup ./inspect                          a file of that name
"""

PACES_S = {"hourly": 3600.0, "daily": 86_400.0, "weekly": 604_800.0}


def _flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("what", metavar="FILE|DIR | ACTION ...", nargs="+", help="see above")
    add("--rate-mib-s", metavar="N", type=positive,
        help="MiB of the state's file that the node reads a second (its default: 32)")  # fmt: skip
    add("--follow", action="store_true", help="keep a continuous backup in PLACE")
    add("--keep", metavar="RULES", default="24h:hourly,30d:daily",
        help="which bases of a continuous backup stay: for how long one of each hour, day, week or "
             "15m (default: %(default)s)")  # fmt: skip
    add("--base-every", metavar="S", type=seconds,
        help="seconds between bases (default: what the rules can keep)")  # fmt: skip
    add("--flush-s", metavar="S", type=seconds, default=1.0,
        help="a change is durable in PLACE after so long (default: %(default)s)")  # fmt: skip
    add("--name", metavar="NAME", help="of this backup, under which the store knows of it")
    add("--every", metavar="PACE", choices=sorted(PACES_S),
        help="with --name: how often one is made, so that it is noticed if none comes")  # fmt: skip
    add("--drill", metavar="PACE", choices=sorted(PACES_S),
        help="with --follow: prove it by restores; alarm if one fails")  # fmt: skip
    add("--nodes", metavar="N", type=positive, default=3,
        help="of a drill's cluster (default: %(default)s)")  # fmt: skip
    add("--json", action="store_true", help="answer in JSON")


def _run(options: Namespace) -> int:
    words: list[str] = options.what
    if options.follow:
        return _follow(_one(words, "PLACE"), options)
    if words[0] == "inspect":
        return _inspect(Path(_one(words[1:], "FILE")), options)
    if words[0] in ("list", "forget"):
        return _marks(words, options)
    if words[0] == "drill":
        return _drill(_one(words[1:], "SOURCE"), options)
    return _fetch(_one(words, "FILE or DIR"), options)


def _marks(words: list[str], options: Namespace) -> int:
    from kvstore_cli.backups.marks import forget, list_backups

    if words == ["list"]:
        return list_backups(options)
    return forget(_one(words[1:], "NAME"), options)


def _one(words: list[str], what: str) -> str:
    if len(words) != 1:
        raise InvalidArgument("what", f"expected one {what}, got {len(words)}")
    return words[0]


def _fetch(word: str, options: Namespace) -> int:
    from kvstore.backup.downloads import Download, DownloadProgress

    target = Path(word)
    into = target.is_dir() or word.endswith("/")
    file = target / "backup.kvb" if into else target
    file.parent.mkdir(parents=True, exist_ok=True)
    with progress("backup") as advanced:

        def watch(so_far: DownloadProgress) -> None:
            advanced(so_far.raw_bytes, so_far.of_bytes)

        download = Download(options.endpoints, file, watch, options.rate_mib_s, login_of(options))
        header = asyncio.run(download.run())
    if into:
        file = file.rename(target / backup_file_name(header.created_ms, header.revision))
    if options.name is not None:
        from kvstore_cli.backups.marks import mark_file

        mark_file(header, options.name, file, options, _pace_s(options.every))
    if options.json:
        print_json({"file": str(file), **described(header)})
    else:
        size = amount(file.stat().st_size)
        print(f"{file}: revision {header.revision}, {header.records['keys']:,} keys, {size}")
    return OK


def _pace_s(word: str | None) -> float | None:
    return None if word is None else PACES_S[word]


def _follow(place: str, options: Namespace) -> int:
    from kvstore.backup.following import FollowPlan
    from kvstore.backup.marking import Naming
    from kvstore.backup.policies import parse_policy
    from kvstore.backup.targets import open_target
    from kvstore_cli.backups.follow import follow
    from kvstore_cli.backups.marks import name_of

    policy = parse_policy(options.keep)
    drills_s = _pace_s(options.drill)
    shown = place if "://" in place else str(Path(place).absolute())
    plan = FollowPlan(
        endpoints=options.endpoints,
        policy=policy,
        flush_s=options.flush_s,
        base_every_s=options.base_every or policy.pace_s,
        rate_mib_s=options.rate_mib_s,
        login=login_of(options),
        naming=Naming(name_of(options.name, place), shown, drills_s),
    )
    return asyncio.run(follow(plan, open_target(place), place, drills_s, options.nodes))


def _drill(source: str, options: Namespace) -> int:
    from kvstore.backup.sources import RestorePoint
    from kvstore_cli.backups.drill import drill

    done = drill(
        source,
        options.nodes,
        RestorePoint(),
        lambda text: print(f"kvstore: {text}", file=sys.stderr),
    )
    total_s = done.read_s + done.restore_s + done.serve_s + done.compare_s
    if options.json:
        facts: dict[str, Any] = {"as_of_revision": done.as_of, "keys": done.contents.keys}
        facts |= {"contents": done.contents.digest, "leases": done.leases, "nodes": done.nodes}
        steps = {"read_s": done.read_s, "restore_s": done.restore_s}
        steps |= {"serve_s": done.serve_s, "compare_s": done.compare_s, "total_s": total_s}
        print_json(facts | {name: round(value, 3) for name, value in steps.items()})
        return OK
    print(f"revision {done.as_of}: {done.contents.keys:,} keys are the same on {done.nodes} nodes")
    print(
        f"read {done.read_s:.1f} s, restored {done.restore_s:.1f} s, served after "
        f"{done.serve_s:.1f} s, compared {done.compare_s:.1f} s; {total_s:.1f} s in all"
    )
    return OK


def backup_file_name(created_ms: int, revision: int) -> str:
    """Names sort by time."""
    return f"backup-{_time(created_ms):%Y%m%dT%H%M%SZ}-r{revision}.kvb"


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def described(header: Any) -> dict[str, Any]:
    """A backup's header for people and programs."""
    return {
        "cluster_id": header.cluster_id,
        "node": header.node,
        "created": _time(header.created_ms).isoformat(timespec="milliseconds"),
        "revision": header.revision,
        "compacted_revision": header.compacted_revision,
        "slot": header.slot,
        "digest": header.digest,
        "keys": header.records["keys"],
        "raw_bytes": header.raw_bytes,
        "product": header.product,
    }


def _inspect(path: Path, options: Namespace) -> int:
    from kvstore.backup.inspecting import inspect

    with progress("inspect") as advanced:
        found = inspect(path, advanced)
    facts = described(found.header) | {
        "leases": found.leases,
        "users": found.users,
        "contents": found.contents.digest,
        "stored_bytes": found.stored_bytes,
    }
    if options.json:
        print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name:20}{value}")
        print("sound: every checksum fits")
    return OK


COMMANDS = (
    Command(
        "backup",
        "copy the whole store, verify copies",
        _TEXT,
        (endpoint_flags, credential_flags, _flags),
        _run,
        usage="kvstore backup [options] FILE|DIR, or: kvstore backup inspect|drill|list|forget ...",
    ),
)
