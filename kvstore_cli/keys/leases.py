"""`kvstore lease`."""

import asyncio
import sys
from argparse import ArgumentParser, Namespace

from kvstore.client import Client, LeaseStatus
from kvstore_cli.client_command import client_command
from kvstore_cli.command import Command, lease_id, positive
from kvstore_cli.output import OK, print_json, print_table, printable, text_or_base64

_LEASE = """\
A lease ends after its time unless it is kept alive, and its keys are deleted with it.

examples:
  LEASE=$(kvstore lease grant 60)
  kvstore put workers/7 up --lease $LEASE
  kvstore lease keep-alive $LEASE                   until Ctrl-C; 1 once it has ended
  kvstore lease show $LEASE
  kvstore lease revoke $LEASE
"""


def _id_flags(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", type=lease_id)


def _grant_flags(parser: ArgumentParser) -> None:
    parser.add_argument("ttl", metavar="SECONDS", type=positive)
    parser.add_argument("--id", metavar="ID", type=lease_id, help="its number (default: any)")


def _keep_alive_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="only now")


async def _grant(client: Client, options: Namespace) -> int:
    lease = await client.lease(options.ttl, lease_id=options.id)
    if options.json:
        print_json({"id": str(lease.id), "ttl_s": lease.ttl_s})
    else:
        print(lease.id)
    return OK


async def _keep_alive(client: Client, options: Namespace) -> int:
    while True:
        status = await client.keep_alive(options.id)
        if options.json:
            print_json({"id": str(status.id), "ttl_s": status.ttl_s})
        else:
            print(f"lease {status.id} lasts {status.ttl_s} s from now")
        sys.stdout.flush()
        if options.once:
            return OK
        await asyncio.sleep(status.ttl_s / 3)


async def _revoke(client: Client, options: Namespace) -> int:
    result = await client.revoke(options.id)
    if options.json:
        print_json({"revision": result.revision, "deleted": result.deleted})
    else:
        print(f"revoked, {result.deleted} keys deleted, revision {result.revision}")
    return OK


async def _show(client: Client, options: Namespace) -> int:
    status = await client.lease_status(options.id)
    if options.json:
        keys = [text_or_base64("key", key) for key in status.keys or ()]
        print_json({**_summary(status), "left_s": status.left_s, "keys": keys})
    else:
        print(f"lease {status.id}: {status.left_s or 0.0:.1f} of {status.ttl_s} s left")
        for key in status.keys or ():
            print(printable(key))
    return OK


async def _list(client: Client, options: Namespace) -> int:
    leases = await client.leases()
    if options.json:
        for lease in leases:
            print_json(_summary(lease))
    elif leases:
        print_table([("LEASE", "TTL"), *((str(each.id), f"{each.ttl_s} s") for each in leases)])
    return OK


def _summary(status: LeaseStatus) -> dict[str, object]:
    return {"id": str(status.id), "ttl_s": status.ttl_s}


COMMANDS = (
    Command(
        "lease",
        "keys that end unless kept alive",
        _LEASE,
        actions=(
            client_command("grant", "begin a lease, and print its id", "", _grant, _grant_flags),
            client_command(
                "keep-alive", "give a lease its full time, again and again", "",
                _keep_alive, _id_flags, _keep_alive_flags,
            ),
            client_command("revoke", "end a lease, and delete its keys", "", _revoke, _id_flags),
            client_command(
                "show", "show what is left of a lease, and its keys", "", _show, _id_flags
            ),
            client_command("list", "list all leases", "", _list),
        ),
    ),
)  # fmt: skip
