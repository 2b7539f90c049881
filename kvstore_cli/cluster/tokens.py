"""`kvstore token`: with a token nodes join by themselves."""

from argparse import ArgumentParser, Namespace

import msgspec

from kvstore.client import Client
from kvstore_cli.client_command import client_command
from kvstore_cli.command import Command, positive
from kvstore_cli.output import OK, print_json, print_table

_TOKEN = """\
A token is shown once, and only its hash is kept. Whoever has it may join, so treat it like a
password.

examples:
  TOKEN=$(kvstore token create)                     for one node, within an hour
  kvstore token create --uses 4 --ttl 86400
  kvstore serve --join 10.0.0.1:2379 --token "$TOKEN"
  kvstore token list
  kvstore token revoke 0123456789abcdef             by its id
"""


def _create_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--ttl", metavar="S", type=positive, default=3600, help="good for (default: %(default)s)"
    )
    parser.add_argument(
        "--uses", metavar="N", type=positive, default=1,
        help="how many nodes may join with it (default: %(default)s)",
    )  # fmt: skip


def _revoke_flags(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="as `kvstore token list` shows it")


async def _create(client: Client, options: Namespace) -> int:
    made = await client.create_token(ttl_s=options.ttl, uses=options.uses)
    if options.json:
        print_json(msgspec.to_builtins(made))
    else:
        print(made.token)
    return OK


async def _list(client: Client, options: Namespace) -> int:
    tokens = await client.tokens()
    if options.json:
        for one in tokens:
            print_json({"id": one.id, "left_s": one.left_s, "uses": one.uses})
    elif tokens:
        rows = ((one.id, f"{one.left_s:.0f} s", str(one.uses)) for one in tokens)
        print_table([("TOKEN", "LEFT", "USES"), *rows])
    return OK


async def _revoke(client: Client, options: Namespace) -> int:
    await client.revoke_token(options.id)
    if options.json:
        print_json({"id": options.id})
    else:
        print("revoked")
    return OK


COMMANDS = (
    Command(
        "token",
        "let nodes join by themselves",
        _TOKEN,
        actions=(
            client_command("create", "make a token, and print it", "", _create, _create_flags),
            client_command("list", "list the tokens", "", _list),
            client_command("revoke", "end a token", "", _revoke, _revoke_flags),
        ),
    ),
)
