"""`kvstore lock` and `elect`: hold something while another command runs."""

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable
from functools import partial

from kvstore.client import Client, Leadership, LeaseLost, Lock
from kvstore.errors import InvalidArgument
from kvstore_cli import process as cli_process
from kvstore_cli.client_command import client_command
from kvstore_cli.command import positive, seconds, seconds_or_zero
from kvstore_cli.output import OK, entry_json, print_json, printable, text_or_base64

LEASE_LOST = 6
_ENDED_BY = (signal.SIGTERM, signal.SIGHUP)

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


def _held_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--ttl", metavar="S", type=positive, default=10,
        help="how long it stays held if this machine dies (default: %(default)s)")  # fmt: skip
    add("--wait", metavar="S", type=seconds_or_zero, help="at most so long (default: for ever)")
    add("--grace", metavar="S", type=seconds, default=2.0,
        help="for the command to stop, at most 40%% of --ttl (default: %(default)s)")  # fmt: skip


def _lock_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


async def _lock(client: Client, options: Namespace) -> int:
    lock = client.lock(
        os.fsencode(options.name),
        ttl_s=options.ttl,
        wait_s=options.wait,
        margin_s=options.grace,
    )
    return await _run(lock, options)


def _elect_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="what others see")
    parser.add_argument("--listen", action="store_true", help="show who leads instead")


async def _elect(client: Client, options: Namespace) -> int:
    name = os.fsencode(options.name)
    if options.listen:
        return await _listen(client, options, name)
    if options.value is None:
        raise InvalidArgument("value", "give a VALUE to stand for election with, or --listen")
    leadership = client.elect(
        name,
        os.fsencode(options.value),
        ttl_s=options.ttl,
        wait_s=options.wait,
        margin_s=options.grace,
    )
    return await _run(leadership, options)


async def _listen(client: Client, options: Namespace, name: bytes) -> int:
    async for entry in client.observe(name):
        if options.json:
            print_json(entry_json(entry))
        else:
            print(f"{entry.mod_revision}\t{printable(entry.key)}\t{printable(entry.value)}")
        sys.stdout.flush()
    return OK


async def _run(turn: Lock | Leadership, options: Namespace) -> int:
    if options.words and (problem := cli_process.why_not(options.words)) is not None:
        print(f"kvstore: {problem[1]}", file=sys.stderr)
        return problem[0]
    return await _ended_by_signals(_hold(turn, options))


async def _hold(turn: Lock | Leadership, options: Namespace) -> int:
    """Run the command during the turn, or hold it until a signal comes."""
    async with turn:
        if options.words:
            environment = {
                "KVSTORE_LOCK_KEY": os.fsdecode(turn.key),
                "KVSTORE_LOCK_REVISION": str(turn.revision),
                "KVSTORE_LOCK_LEASE": str(turn.lease.id),
            }
            return await cli_process.run_command(options.words, environment, options.grace)
        if options.json:
            held = {**text_or_base64("key", turn.key), "revision": turn.revision}
            print_json({**held, "lease": str(turn.lease.id)})
        else:
            print(printable(turn.key))
        sys.stdout.flush()
        await asyncio.Event().wait()
    return OK


async def _ended_by_signals(holding: Awaitable[int]) -> int:
    """SIGTERM and SIGHUP end it in good order, as SIGINT does: what is held is given up."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(holding)
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in _ENDED_BY:
        loop.add_signal_handler(number, partial(end, number))
    try:
        return await task
    except LeaseLost as error:
        print(f"kvstore: {error}", file=sys.stderr)
        return LEASE_LOST
    except asyncio.CancelledError:
        if not received:
            raise
        return cli_process.SIGNALLED + received[0]
    finally:
        for number in _ENDED_BY:
            loop.remove_signal_handler(number)


COMMANDS = (
    client_command(
        "lock", "run a command under a lock", _LOCK, _lock, _lock_flags, _held_flags,
        usage="kvstore lock [options] NAME [-- COMMAND ...]", takes_words=True,
    ),
    client_command(
        "elect", "run a command while leading", _ELECT, _elect, _elect_flags, _held_flags,
        usage="kvstore elect [options] NAME (VALUE [-- COMMAND ...] | --listen)",
        takes_words=True,
    ),
)  # fmt: skip
