"""The parsers of `kvstore watch`, `history`, `txn`, `lease`, `lock` and `elect`."""

from argparse import ArgumentParser
from typing import Any

from kvstore_cli.parts import add, lease_id, not_negative, positive, seconds

_WATCH = """\
One line per change: revision, put or delete, key, value, with tabs between; with --json one object
per line. It goes on for ever, also when nodes fail: every change once, in order. 2 if the changes
from --from-revision on are compacted.

examples:
  kvstore watch                                     everything from now on
  kvstore watch users/                              keys that begin with users/
  kvstore watch greeting --exact --limit 1          until greeting changes
  kvstore watch users/ --from-revision 120          what happened since, and what comes
  kvstore watch --json --previous | jq -c '[.key, .previous.value, .value]'
"""

_HISTORY = """\
Newest first, as far as it is not compacted: revision, put or delete, value. 1 if there is nothing.

examples:
  kvstore history greeting
  kvstore history greeting --limit 1 --json
"""

_TXN = """\
If all compares hold, does what --then says, else what --else says: at once, all of it or nothing.

  --if    FIELD(KEY) OP OPERAND   FIELD: value, version, create_revision, mod_revision, lease
                                  OP: = != < >, and for numbers <= >=
          exists(KEY), absent(KEY)
  --then, --else                  put KEY VALUE [--lease ID], get KEY, get --prefix P,
                                  del KEY, del --prefix P; words are quoted as in a shell

Each may be given several times. Without them the transaction is read as the JSON of POST /v1/txn,
from FILE or stdin. 0 if the compares held, 3 if they did not (and --else was done).

examples:
  kvstore txn --if 'value(from) = 10' --if 'absent(to)' --then 'del from' --then 'put to 10'
  kvstore txn --then 'put a 1' --then 'put b "two words"'
  kvstore txn --if 'version(a) > 0' --then 'get a' --else 'get --prefix defaults/' --json
  kvstore txn transfer.json
  echo '{"compare": [{"key": "a", "field": "version", "op": "=", "operand": 0}],
         "then": [{"put": {"key": "a", "value": "1"}}],
         "else": [{"get": {"key": "a"}}]}' | kvstore txn
"""

_LEASE = """\
A lease ends after its time unless it is kept alive, and its keys are deleted with it.

examples:
  LEASE=$(kvstore lease grant 60)
  kvstore put workers/7 up --lease $LEASE
  kvstore lease keep-alive $LEASE                   until Ctrl-C; 1 once it has ended
  kvstore lease show $LEASE
  kvstore lease revoke $LEASE
"""

_HELD = """\
If the lease of the {what} is lost, because it was revoked or no node could be asked in time, the
command gets SIGTERM, and SIGKILL after --grace seconds: both before anybody else can have it.
Signals go to the command. It finds KVSTORE_LOCK_KEY, KVSTORE_LOCK_REVISION (it grows from holder to
holder: a fencing token) and KVSTORE_LOCK_LEASE in its environment.
"""

_LOCK = f"""\
Whoever asks first has it first. Without a command, prints the key and holds the lock until Ctrl-C.

{_HELD.format(what="lock")}
examples:
  kvstore lock backup -- ./backup.sh
  kvstore lock backup --wait 0 -- ./backup.sh       3 if somebody holds it
  kvstore lock backup --ttl 30 -- sh -c 'echo "$KVSTORE_LOCK_REVISION"; sleep 5'
"""

_ELECT = f"""\
Stands for election under NAME with VALUE, and runs the command while it leads; without one, prints
the key and leads until Ctrl-C.

{_HELD.format(what="leadership")}
examples:
  kvstore elect scheduler "$HOSTNAME" -- ./scheduler
  kvstore elect scheduler --listen                  who leads, now and from now on
"""


def add_coordination(commands: Any, client: ArgumentParser, keyed: ArgumentParser) -> None:
    """Add them to the commands."""
    _add_changes(commands, client, keyed)
    _add_lease(commands, client)
    lock = add(commands, "lock", "run a command under a lock", _LOCK, client)
    lock.usage = "kvstore lock [options] NAME [-- COMMAND ...]"
    lock.add_argument("name", metavar="NAME")
    elect = add(commands, "elect", "run a command while leading", _ELECT, client)
    elect.usage = "kvstore elect [options] NAME (VALUE [-- COMMAND ...] | --listen)"
    elect.add_argument("name", metavar="NAME")
    elect.add_argument("value", metavar="VALUE", nargs="?", help="what others see")
    elect.add_argument("--listen", action="store_true", help="show who leads instead")
    for parser in (lock, elect):
        parser.add_argument(
            "--ttl",
            metavar="S",
            type=positive,
            default=10,
            help="how long it stays held if this machine dies (default: %(default)s)",
        )
        parser.add_argument(
            "--wait", metavar="S", type=not_negative, help="at most so long (default: for ever)"
        )
        parser.add_argument(
            "--grace",
            metavar="S",
            type=seconds,
            default=2.0,
            help="for the command to stop, at most 40%% of --ttl (default: %(default)s)",
        )


def _add_changes(commands: Any, client: ArgumentParser, keyed: ArgumentParser) -> None:
    watch = add(commands, "watch", "show changes as they happen", _WATCH, client, keyed)
    watch.add_argument("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    watch.add_argument("--exact", action="store_true", help="only the key that PREFIX is")
    watch.add_argument(
        "--from-revision", metavar="N", type=positive, default=0, help="begin with this one"
    )
    watch.add_argument("--previous", action="store_true", help="with what was there (--json)")
    watch.add_argument("--only", choices=("puts", "deletes"), help="leave the others out")
    watch.add_argument("--limit", metavar="N", type=positive, help="end after N changes")

    history = add(commands, "history", "show the changes of a key", _HISTORY, client, keyed)
    history.add_argument("key", metavar="KEY")
    history.add_argument("--limit", metavar="N", type=positive, help="at most N changes")

    txn = add(commands, "txn", "run a transaction", _TXN, client)
    txn.add_argument("file", metavar="FILE", nargs="?", help="JSON, - for stdin (default)")
    for flag, name, text in (
        ("--if", "when", "a compare that must hold"),
        ("--then", "then", "an operation if all hold"),
        ("--else", "otherwise", "an operation if not"),
    ):
        txn.add_argument(flag, dest=name, metavar="TEXT", action="append", default=[], help=text)


def _add_lease(commands: Any, client: ArgumentParser) -> None:
    lease = add(commands, "lease", "keys that end unless kept alive", _LEASE)
    actions = lease.add_subparsers(dest="action", required=True, metavar="ACTION")
    grant = add(actions, "grant", "begin a lease, and print its id", "", client)
    grant.add_argument("ttl", metavar="SECONDS", type=positive)
    grant.add_argument("--id", metavar="ID", type=lease_id, help="its number (default: any)")
    keep = add(actions, "keep-alive", "give a lease its full time, again and again", "", client)
    keep.add_argument("id", metavar="ID", type=lease_id)
    keep.add_argument("--once", action="store_true", help="only now")
    revoke = add(actions, "revoke", "end a lease, and delete its keys", "", client)
    revoke.add_argument("id", metavar="ID", type=lease_id)
    show = add(actions, "show", "show what is left of a lease, and its keys", "", client)
    show.add_argument("id", metavar="ID", type=lease_id)
    add(actions, "list", "list all leases", "", client)
