"""`kvstore serve`: the process of one node, from its settings to its exit code."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import uvloop

from http_api.server import HttpServer
from kvstore.config import Config, exposures
from kvstore.errors import DataDamaged, StorageError
from kvstore.event_log import EventLog, ForwardedLog
from kvstore.peers.refusals import Ending
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.storage.set_aside import set_aside
from kvstore_cli.descriptors import raise_limit, too_little
from kvstore_cli.node.joining import JoinRefused, join
from kvstore_cli.node.own_certificates import CertificateKeeper, take_up, unless
from kvstore_cli.node.private_dir import make_private
from kvstore_cli.node.root_reset import RootReset
from kvstore_cli.node.settings import ServeSettings

FAILED = 74
"""EX_IOERR of sysexits.h: a disk, the state or an address failed."""
REMOVED = 77
"""EX_NOPERM: this node is no member of its cluster any more."""
_AGAIN, _DAMAGED = -1, -2
"""Inside this module: the node is to be opened anew, as what its data directory says now; or its
data is damaged."""

_STOP_S_MAX = 15.0
"""A stop that takes longer ends the process: what was acknowledged is durable anyway (D2)."""

_LOG_S_MAX = 1.0
"""How long the end waits for a log that nobody reads."""


def serve(settings: ServeSettings, *, exit_with_parent: bool = False) -> int:
    """Run the node until a signal (0), a failure (FAILED), or until it is removed (REMOVED).

    `exit_with_parent`: also stop when stdin ends. The parent holds the other end of that pipe, so
    the node does not outlive it, however the parent dies.
    """
    # A thread back from fsync waits for the interpreter lock: 5 ms by default (DESIGN.md §7).
    sys.setswitchinterval(0.0005)
    raise_limit()
    events = EventLog(settings.config.node_id, settings.log_format, queue_to=2)
    _forward(events)
    try:
        if reason := too_little():
            return _fail(events, f"cannot start: {reason}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, events, exit_with_parent))
    except StorageError as error:
        return _fail(events, str(error))
    except OSError as error:
        return _fail(events, f"cannot start: {error}")
    finally:
        events.close(_LOG_S_MAX)


def _forward(events: EventLog) -> None:
    """What else would be written to stderr, and could make the loop wait, goes into `events`."""

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_value is not None:
            events.defect(args.exc_value)

    logging.basicConfig(handlers=[ForwardedLog(events)], force=True)
    logging.captureWarnings(True)
    sys.unraisablehook = unraisable


def _watch_threads(fail: Callable[[BaseException], None]) -> None:
    """From now on `fail(error)` is told, on the running loop, of what ended a thread."""
    loop = asyncio.get_running_loop()

    def ended(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(fail, args.exc_value)

    threading.excepthook = ended


async def _serve(settings: ServeSettings, events: EventLog, exit_with_parent: bool) -> int:
    stopping = _stop_on_signals()
    for text in exposures(settings.config):
        events.text(f"kvstore: insecure: {text}\n")
    if exit_with_parent:
        _stop_with_parent(stopping)
    make_private(settings.config.data_dir)
    while True:
        try:
            code = await _serve_as_member(settings, events, stopping)
        except DataDamaged as error:
            code = _DAMAGED
            _fail(events, str(error))
        if code == _DAMAGED:
            code = _AGAIN if _given_up(settings.config, events) else FAILED
        if code != _AGAIN:
            return code


def _given_up(config: Config, events: EventLog) -> bool:
    """Whether the damaged data was set aside, so that the node may come back without it."""
    if config.rebuild != "automatic":
        return False
    place = set_aside(config.data_dir, time.time())
    if place is None:
        _fail(events, "the data was damaged within the last hour already: it is left as it is")
        return False
    events.event("data set aside", at=place, next="this node comes back as one without a disk")
    return True


async def _serve_as_member(
    settings: ServeSettings, events: EventLog, stopping: asyncio.Event
) -> int:
    """The node as its data directory says that it is."""
    keeper = CertificateKeeper(settings, events)
    try:
        enrolled = await unless(stopping, keeper.prepare())
    except JoinRefused as error:
        return _fail(events, f"this node stops: {error}")
    if stopping.is_set():
        return 0
    replica = await open_replica(settings.config, events)
    _watch_threads(replica.fail_by)
    tasks = [asyncio.create_task(keeper.keep(replica))]
    try:
        http = HttpServer(replica, settings.config)
        if http.tls is not None:
            _reload_on_hangup(http.tls.reload)
        await http.start()
        if enrolled is not None:
            take_up(replica, enrolled)
        elif settings.join and not replica.membership.formed:
            tasks.append(asyncio.create_task(join(replica, settings, events)))
        reset = RootReset(replica, settings.config.data_dir, events, http.audit_log)
        tasks.append(asyncio.create_task(reset.run()))
        for task in tasks:
            task.add_done_callback(lambda task: _fail_by(replica, task))
        # What is there now stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        try:
            return await _until_stopped(replica, stopping, events)
        finally:
            # New requests are refused before leadership goes; those under way are answered.
            await http.stop()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await replica.stop()


def _fail_by(replica: Replica, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        replica.fail(str(error))


async def _until_stopped(replica: Replica, stopping: asyncio.Event, events: EventLog) -> int:
    stopped = asyncio.create_task(stopping.wait())
    failed = asyncio.create_task(replica.wait_failed())
    try:
        await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
        if not failed.done():
            _end_after(_STOP_S_MAX)
            return 0
        return _ended(replica, failed.result(), events)
    finally:
        stopped.cancel()
        failed.cancel()


def _ended(replica: Replica, reason: str, events: EventLog) -> int:
    """The exit code of a node that ended by itself, or what comes next."""
    if replica.ending is Ending.AGAIN:
        return _AGAIN
    _fail(events, f"this node stops: {reason}")
    if replica.ending is Ending.DAMAGED:
        return _DAMAGED
    _end_after(_STOP_S_MAX)
    return REMOVED if replica.ending is Ending.REMOVED else FAILED


def _stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM, SIGINT and SIGHUP set; the second one ends the process at once. A
    SIGHUP that is ignored from the start, by nohup, stays ignored."""
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        loop.add_signal_handler(number, stop, number)
    return stopping


def _reload_on_hangup(reload: Callable[[], bool]) -> None:
    """With TLS a SIGHUP means that the files of certificates are new, as elsewhere."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def _stop_with_parent(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: the node has stopped
            loop.call_soon_threadsafe(stopping.set)
        _end_after(_STOP_S_MAX)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _end_after(limit_s: float) -> None:
    """End the process if it is still there after `limit_s`, whatever the loop is doing."""
    timer = threading.Timer(limit_s, os._exit, (FAILED,))
    timer.daemon = True
    timer.start()


def _fail(events: EventLog, text: str) -> int:
    """One line for people; the exit code."""
    events.text(f"kvstore: {text}\n")
    return FAILED
