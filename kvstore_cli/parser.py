"""The parser of the command line, and the texts of --help."""

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import proof.simulation.arguments
import proof.torture.arguments
from kvstore_cli.parser_coordination import add_coordination
from kvstore_cli.parts import EXIT_CODES_TEXT, add, lease_id, positive, seconds
from kvstore_cli.settings import SETTINGS, default_text

DEFAULT_ENDPOINTS = "http://127.0.0.1:2379,http://127.0.0.1:2389,http://127.0.0.1:2399"

_MAIN = f"""\
A replicated key-value store on Multi-Paxos.

first steps:
  kvstore demo                              three nodes on this machine, until Ctrl-C
  kvstore put greeting hello                then, in another terminal
  kvstore get greeting
  kvstore status

{EXIT_CODES_TEXT}"""

_PUT = """\
examples:
  kvstore put greeting hello
  kvstore put photo --file cat.jpg
  date | kvstore put now -
  kvstore put lock "$HOSTNAME" --if-absent          3 if somebody holds it
  kvstore put counter 2 --if-revision 17            3 if it changed since revision 17
  kvstore put temperature -- -5                     a value that looks like a flag
  kvstore put seen/host-7 now --ttl 60              gone after a minute
  kvstore put workers/7 up --lease "$LEASE"         gone with the lease; see kvstore lease
"""

_GET = """\
The value goes to stdout byte by byte; a newline is added on a terminal only.

examples:
  kvstore get greeting
  kvstore get photo > cat.jpg
  kvstore get counter --json | jq .mod_revision     what put --if-revision takes
  kvstore get counter --revision 12                 as it was at revision 12
  kvstore get greeting --serializable               also without a quorum, perhaps stale
"""

_DEL = """\
examples:
  kvstore del greeting                              1 if it does not exist
  kvstore del lock --if-revision 17
"""

_LIST = """\
One line per entry, key and value with a tab between; what a terminal cannot show is escaped.
With --json, one JSON object per line; bytes that are not UTF-8 come as key_base64, value_base64.

examples:
  kvstore list                                      everything
  kvstore list users/                               keys that begin with users/
  kvstore list --start b --end d --limit 10
  kvstore list users/ --keys-only --descending
  kvstore list --json | jq -r .key
"""

_STATUS = """\
Asks every endpoint for its own view. 4 if none answers, or none knows a leader.

examples:
  kvstore status
  kvstore status --endpoints 10.0.0.1:2379,10.0.0.2:2379
"""

_SERVE = """\
Every setting is taken from the first of: flag, environment variable KVSTORE_NAME (such as
KVSTORE_LISTEN_CLIENT), key in the --config file (such as listen-client = "0.0.0.0:2379"), default.
SIGTERM and SIGINT stop cleanly: leadership is handed over first. A second one stops at once.

example, a cluster of three on this machine (or simply: kvstore demo):
  C=1=127.0.0.1:2380,2=127.0.0.1:2390,3=127.0.0.1:2400
  kvstore serve --id 1 --initial-cluster $C --data-dir node1
  kvstore serve --id 2 --initial-cluster $C --data-dir node2 \\
      --listen-client 127.0.0.1:2389 --listen-peer 127.0.0.1:2390
  kvstore serve --id 3 --initial-cluster $C --data-dir node3 \\
      --listen-client 127.0.0.1:2399 --listen-peer 127.0.0.1:2400
"""

_DEMO = """\
Node i serves HTTP on port P + 10 (i - 1), and its peers one port above. Data and each node's log
stay in DIR, so the next run continues. A node that is killed comes back after two seconds.

examples:
  kvstore demo
  kvstore demo --nodes 5 --data-dir five-nodes
"""


def build_parser() -> ArgumentParser:
    """The parser. Values of `serve` settings stay text; `cli_settings.load` reads them."""
    parser = ArgumentParser(
        "kvstore", description=_MAIN, formatter_class=RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_servers(commands)
    client, keyed, conditional, reading = (ArgumentParser(add_help=False) for _ in range(4))
    _add_common(client, keyed, conditional, reading)

    put = add(commands, "put", "write a key", _PUT, client, keyed, conditional)
    put.add_argument("key", metavar="KEY")
    put.add_argument("value", metavar="VALUE", nargs="?", help="the value, or - to read stdin")
    put.add_argument("--if-absent", action="store_true", help="only if it does not exist")
    put.add_argument("--file", metavar="FILE", help="take the value from FILE, - for stdin")
    put.add_argument("--ttl", metavar="S", type=positive, help="delete it after S seconds")
    put.add_argument("--lease", metavar="ID", type=lease_id, help="delete it when this lease ends")

    get = add(commands, "get", "read a key", _GET, client, keyed, reading)
    get.add_argument("key", metavar="KEY")

    delete = add(commands, "del", "remove a key", _DEL, client, keyed, conditional)
    delete.add_argument("key", metavar="KEY")

    listing = add(commands, "list", "list keys and values", _LIST, client, keyed, reading)
    listing.add_argument("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    listing.add_argument("--start", metavar="KEY", help="the first key, included")
    listing.add_argument("--end", metavar="KEY", help="where to end, excluded")
    listing.add_argument("--limit", metavar="N", type=positive, help="at most N entries")
    listing.add_argument("--descending", action="store_true", help="from the last key on")
    listing.add_argument("--keys-only", action="store_true", help="leave values out")

    add(commands, "status", "show nodes and leader", _STATUS, client)
    compact = add(commands, "compact", "give up history below a revision", "", client)
    compact.add_argument("revision", metavar="REVISION", type=positive)
    _add_proofs(commands)
    handover = add(commands, "handover", "hand leadership over", "", client)
    handover.add_argument(
        "to", metavar="NODE", nargs="?", type=positive, help="the node to lead (default: any)"
    )
    add_coordination(commands, client, keyed)
    return parser


def _add_common(
    client: ArgumentParser,
    keyed: ArgumentParser,
    conditional: ArgumentParser,
    reading: ArgumentParser,
) -> None:
    client.add_argument(
        "--endpoints",
        metavar="URL,...",
        default=os.environ.get("KVSTORE_ENDPOINTS") or DEFAULT_ENDPOINTS,
        help="nodes to ask, tried in turn (KVSTORE_ENDPOINTS; default: %(default)s)",
    )
    client.add_argument(
        "--timeout", metavar="S", type=seconds, default=5.0, help="in all (default: %(default)s)"
    )
    client.add_argument("--json", action="store_true", help="answer in JSON, one object per line")
    keyed.add_argument("--key-base64", action="store_true", help="keys are given in base64")
    conditional.add_argument(
        "--if-revision", metavar="N", type=positive, help="only if its mod_revision is N"
    )
    conditional.add_argument("--if-exists", action="store_true", help="only if it exists")
    reading.add_argument(
        "--revision", metavar="N", type=positive, default=0, help="as it was at revision N"
    )
    reading.add_argument(
        "--serializable", action="store_true", help="the node's own state, perhaps stale"
    )


def _add_servers(commands: Any) -> None:
    serve = add(commands, "serve", "run one node", _SERVE)
    serve.add_argument("--config", metavar="FILE", help="TOML file of settings (KVSTORE_CONFIG)")
    serve.add_argument("--exit-with-parent", action="store_true", help="stop when stdin ends")
    for setting in SETTINGS:
        default = default_text(setting)
        shown = f"{setting.help} (default: {default})" if default else setting.help
        serve.add_argument(f"--{setting.name}", metavar=setting.metavar, help=shown)
    demo = add(commands, "demo", "run a whole cluster on this machine", _DEMO)
    demo.add_argument(
        "--nodes", metavar="N", type=positive, default=3, help="how many (default: %(default)s)"
    )
    demo.add_argument(
        "--client-port",
        metavar="P",
        type=positive,
        default=2379,
        help="HTTP port of node 1 (default: %(default)s)",
    )
    demo.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        default=Path("kvstore-data/demo"),
        help="where the data stays (default: %(default)s)",
    )


def _add_proofs(commands: Any) -> None:
    """What looks for faults; their flags are their own."""
    text = proof.simulation.arguments.TEXT
    proof.simulation.arguments.add_arguments(
        add(commands, "simulate", "look for faults in virtual time", text)
    )
    text = proof.torture.arguments.TEXT
    proof.torture.arguments.add_arguments(
        add(commands, "torture", "look for faults for real", text)
    )
