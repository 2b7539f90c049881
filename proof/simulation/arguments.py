"""The flags of `kvstore simulate`. Imported by every start of the command, so it imports little."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvstore_cli.command import Command

TEXT = """\
Whole replicas, the production code, in virtual time: one seed decides the network, the disks, the
clocks, the faults and the clients. Every invariant is checked at every event, and the clients'
history for linearizability. A seed that fails is shrunk and told as a story.

examples:
  kvstore simulate                                  1000 seeds of the default swarm
  kvstore simulate --minutes 10 --first-seed 5000
  kvstore simulate --seed 7 --trace seven.html      one seed, as a page with all its messages
  kvstore simulate --nodes 5 --faults kill,split    'kvstore simulate --faults list' shows all
  kvstore simulate --lesson dueling-proposers       'kvstore simulate --lesson list' shows all
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the flags."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--seeds", metavar="N", type=int, help="run N seeds (default: 1000)")
    what.add_argument("--seed", metavar="S", type=int, help="run one seed, and tell what happened")
    what.add_argument("--replay", metavar="FILE", type=Path, help="run a scenario from a file")
    what.add_argument("--lesson", metavar="NAME", help="tell a lesson, or 'list' them")
    parser.add_argument("--first-seed", metavar="S", type=int, default=1, help="default: 1")
    parser.add_argument("--minutes", metavar="M", type=float, help="until M minutes are over")
    parser.add_argument("--nodes", metavar="N", type=int, help="members, 1 to 7 (default: drawn)")
    parser.add_argument("--faults", metavar="A,B,...", help="kinds, or 'list' (default: all)")
    parser.add_argument(
        "--jobs", metavar="J", type=int, default=os.cpu_count() or 1, help="default: %(default)s"
    )
    parser.add_argument(
        "--trace", metavar="FILE", type=Path, help="write a page that shows the run"
    )


def _run(options: Namespace) -> int:
    from proof.simulation.cli import simulate

    return simulate(options)


COMMAND = Command("simulate", "look for faults in virtual time", TEXT, (add_arguments,), _run)
"""An entry point of the command line."""
