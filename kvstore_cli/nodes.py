"""`kvstore serve` and `demo`. The server itself is loaded by those who run one."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvstore_cli.command import Command, positive
from kvstore_cli.node.settings import load
from kvstore_cli.node.table import SETTINGS, default_text

_SERVE = """\
Every setting is taken from the first of: flag, environment variable KVSTORE_NAME (such as
KVSTORE_LISTEN_CLIENT), key in the --config file (such as listen-client = "[::1]:2379"), default.
SIGTERM, SIGINT and SIGHUP stop cleanly: leadership is handed over first. A second one stops at
once. With --cert-file SIGHUP reads the certificate's files again; every 5 s they are looked at too.

example, a cluster of three on this machine (or simply: kvstore demo):
  C=1=127.0.0.1:2380,2=127.0.0.1:2390,3=127.0.0.1:2400
  kvstore serve --id 1 --initial-cluster $C --data-dir node1
  kvstore serve --id 2 --initial-cluster $C --data-dir node2 \\
      --listen-client 127.0.0.1:2389 --listen-peer 127.0.0.1:2390
  kvstore serve --id 3 --initial-cluster $C --data-dir node3 \\
      --listen-client 127.0.0.1:2399 --listen-peer 127.0.0.1:2400
"""


def _serve_flags(parser: ArgumentParser) -> None:
    """Values of settings stay text; `settings.load` reads them."""
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings (KVSTORE_CONFIG)")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when stdin ends")
    for setting in SETTINGS:
        default = default_text(setting)
        shown = f"{setting.help} (default: {default})" if default else setting.help
        add = parser.add_argument
        if setting.metavar == "true":
            add(f"--{setting.name}", nargs="?", const="true", metavar="true|false", help=shown)
        else:
            add(f"--{setting.name}", metavar=setting.metavar, help=shown)


def _serve(options: Namespace) -> int:
    from kvstore_cli.node.serve import serve

    settings = load({k.replace("_", "-"): v for k, v in vars(options).items()}, os.environ)
    return serve(settings, exit_with_parent=options.exit_with_parent)


_DEMO = """\
Node i serves HTTP on port P + 10 (i - 1), and its peers one port above. Data and each node's log
stay in DIR, so the next run continues. A node that is killed comes back after two seconds.

examples:
  kvstore demo
  kvstore demo --nodes 5 --data-dir five-nodes
  kvstore demo --tls --data-dir secure-nodes        with an authority of its own
"""


def _demo_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--nodes", metavar="N", type=positive, default=3, help="how many (default: %(default)s)")
    add("--client-port", metavar="P", type=positive, default=2379,
        help="HTTP port of node 1 (default: %(default)s)")  # fmt: skip
    add("--data-dir", metavar="DIR", type=Path, default=Path("kvstore-data/demo"),
        help="where the data stays (default: %(default)s)")  # fmt: skip
    add("--tls", action="store_true", help="everything by TLS, now and in later runs with this DIR")


def _demo(options: Namespace) -> int:
    from kvstore_cli.demo.run import demo

    return demo(options.nodes, options.client_port, options.data_dir, secure=options.tls)


COMMANDS = (
    Command("serve", "run one node", _SERVE, (_serve_flags,), _serve),
    Command("demo", "run a whole cluster on this machine", _DEMO, (_demo_flags,), _demo),
)
