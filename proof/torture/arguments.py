"""The flags of `kvstore torture`. Imported by every start of the command, so it imports little."""

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from kvstore_cli.command import Command

NODES_MAX = 7
CLIENTS_MAX = 200
NETWORKS = ("auto", "namespaces", "proxy")
TEXT = """\
A real cluster on this machine, under load, while its nodes are killed, paused, restarted and cut
off from each other. Then the clients' history is checked for linearizability, every acknowledged
write is looked for, and the nodes' states are compared. Exit code 0 only if all is well.

examples:
  kvstore torture                                   3 nodes, one minute, every fault
  kvstore torture --minutes 5 --nodes 5 --seed 17
  kvstore torture --faults kill-leader,split        'kvstore torture --faults list' shows all
  kvstore torture --endpoints 10.0.0.1:2379         load and checks on a cluster that runs already
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the flags."""
    add = parser.add_argument
    add("--minutes", metavar="M", type=_positive, default=1.0,
        help="how long the load lasts (default: %(default)g)")  # fmt: skip
    add("--nodes", metavar="N", type=_count(NODES_MAX), default=3,
        help=f"1 to {NODES_MAX} (default: %(default)s)")  # fmt: skip
    add("--clients", metavar="N", type=_count(CLIENTS_MAX), default=12,
        help="concurrent clients (default: %(default)s)")  # fmt: skip
    add("--rate", metavar="R", type=_positive, default=400.0,
        help="calls per second of all clients, at most (default: %(default)g)")  # fmt: skip
    add("--seed", metavar="N", type=_seed, help="of faults and calls (default: drawn and printed)")
    add("--faults", metavar="A,B,...", help="only these, or 'list' (default: all)")
    add("--network", choices=NETWORKS, default="auto",
        help="faults of links by network namespaces (root), by proxies between the nodes, or by "
        "namespaces where they can be had (default: %(default)s)")  # fmt: skip
    add("--data-dir", metavar="DIR", type=Path,
        help="new or empty; stays (default: temporary, removed if the run passes)")  # fmt: skip
    add("--endpoints", metavar="URL,...",
        help="a cluster that runs already: load and checking only, no faults")  # fmt: skip
    add("--json", metavar="FILE", type=Path, help="write the report as JSON too")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _count(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= most:
            raise ArgumentTypeError(f"expected a whole number from 1 to {most}: {text!r}")
        return int(text)

    return parse


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _run(options: Namespace) -> int:
    from proof.torture.cli import run

    return run(options)


COMMAND = Command("torture", "look for faults for real", TEXT, (add_arguments,), _run)
"""An entry point of the command line."""
