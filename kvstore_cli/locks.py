"""`kvstore lease`, `lock` and `elect`."""

import asyncio
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from functools import partial

from kvstore.client import Client, Leadership, LeaseLost, LeaseStatus, Lock
from kvstore.errors import InvalidArgument
from kvstore_cli import process as cli_process
from kvstore_cli.output import (
    OK,
    entry_json,
    print_json,
    print_table,
    printable,
    text_or_base64,
)

LEASE_LOST = 6
_ENDED_BY = (signal.SIGTERM, signal.SIGHUP)


# -- leases ---------------------------------------------------------------------------------


async def _lease(client: Client, options: Namespace) -> int:
    return await _ACTIONS[options.action](client, options)


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


_ACTIONS: dict[str, Callable[[Client, Namespace], Awaitable[int]]] = {
    "grant": _grant,
    "keep-alive": _keep_alive,
    "revoke": _revoke,
    "show": _show,
    "list": _list,
}


# -- locks and elections --------------------------------------------------------------------


async def _lock(client: Client, options: Namespace) -> int:
    lock = client.lock(
        os.fsencode(options.name),
        ttl_s=options.ttl,
        wait_s=options.wait,
        margin_s=options.grace,
    )
    return await _run(lock, options)


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
    if options.run and (problem := cli_process.why_not(options.run)) is not None:
        print(f"kvstore: {problem[1]}", file=sys.stderr)
        return problem[0]
    return await _ended_by_signals(_hold(turn, options))


async def _hold(turn: Lock | Leadership, options: Namespace) -> int:
    """Run the command during the turn, or hold it until a signal comes."""
    async with turn:
        if options.run:
            environment = {
                "KVSTORE_LOCK_KEY": os.fsdecode(turn.key),
                "KVSTORE_LOCK_REVISION": str(turn.revision),
                "KVSTORE_LOCK_LEASE": str(turn.lease.id),
            }
            return await cli_process.run_command(options.run, environment, options.grace)
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


COMMANDS: dict[str, Callable[[Client, Namespace], Awaitable[int]]] = {
    "lease": _lease,
    "lock": _lock,
    "elect": _elect,
}
