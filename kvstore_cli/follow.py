"""`kvstore backup --follow`: runs a continuous backup until it is interrupted."""

import asyncio
import signal
import sys
from datetime import UTC, datetime

from kvstore.backup.following import Follower, FollowPlan
from kvstore.backup.targets import Target
from kvstore_cli.output import OK


def tell(what: str, **facts: object) -> None:
    """One line on stderr for what happened."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    words = " ".join(f"{name}={value}" for name, value in facts.items())
    print(f"{now} backup {what} {words}".rstrip(), file=sys.stderr, flush=True)


async def follow(plan: FollowPlan, target: Target) -> int:
    """Until SIGINT or SIGTERM; then what was heard of is durable. Raises BackupError, KvError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await Follower(plan, target, tell).run(stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return OK
