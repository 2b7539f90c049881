"""`kvstore changes`: a receiver gets every change, in order, whoever fails on the way."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from kvstore.backup.delivering import Delivery, FileReceiver, HttpReceiver
from kvstore.client import BlockingClient, Client
from kvstore.errors import BackupError
from proof.processes.waiting import eventually
from tests.support.real_cluster import Cluster
from tests.support.thread_node import thread_node


class Receiving:
    """A receiver that refuses for a while when it is told to."""

    def __init__(self) -> None:
        received, headers = self.received, self.headers = [], []
        self.fails = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 200
                if outer.fails:
                    outer.fails -= 1
                    status = 503
                else:
                    headers.append(dict(self.headers))
                    received.extend(map(json.loads, body.splitlines()))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/in"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiving() -> Iterator[Receiving]:
    made = Receiving()
    yield made
    made.close()


def deliver(cluster: Cluster, to: str, *words: str) -> "subprocess.Popen[bytes]":
    where = ",".join(node.url for node in cluster.nodes.values())
    command = ("changes", "cdc/", "--to", to, "--endpoints", where, *words)
    return subprocess.Popen([sys.executable, "-m", "kvstore_cli.main", *command])


@pytest.mark.proof
@pytest.mark.integration
def test_every_change_comes_in_order(cluster: Cluster, receiving: Receiving) -> None:
    """Through refusals, and a kill of who delivers."""
    with BlockingClient([node.url for node in cluster.nodes.values()]) as store:
        first = store.put("cdc/0", "v").revision
        written = [first]
        words = ("--name", "t", "--since", str(first))
        process = deliver(cluster, receiving.url, *words)
        receiving.fails = 1
        for number in range(1, 60):
            if number % 20 == 0:
                process.kill()
                process.wait()
                process = deliver(cluster, receiving.url, *words)
            written.append(store.put(f"cdc/{number % 7}", "v").revision)
            store.put("other", "1")
        written.append(store.delete("cdc/1").revision)

        def there() -> bool:
            return bool(receiving.received) and receiving.received[-1]["revision"] == written[-1]

        eventually(there, "all is delivered")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        mark = json.loads(store.get("kvstore-changes/t").value)
    revisions = [change["revision"] for change in receiving.received]
    assert sorted(set(revisions)) == written and mark == {"revision": written[-1]}
    for sent in receiving.headers:
        assert int(sent["X-First-Revision"]) <= int(sent["X-Last-Revision"])
    for before, after in pairwise(revisions):
        assert after > before or after in revisions[: revisions.index(before) + 1]
    assert receiving.received[-1]["events"] == [{"type": "delete", "key": "cdc/1"}]


def test_to_a_file_and_then_to_a_receiver(receiving: Receiving, tmp_path: Path) -> None:
    """Each delivery has a place of its own, and goes on behind it."""
    file = tmp_path / "changes.jsonl"
    with thread_node(tmp_path) as where, BlockingClient(where) as store:
        first = store.put("cdc/file", b"\xff").revision
        deliver_until(where, FileReceiver(file), "f", first, lambda: file.exists())
        (change,) = map(json.loads, file.read_text().splitlines())
        assert change["revision"] == first and change["events"][0]["value_base64"] == "/w=="
        receiving.fails = 2
        second = store.put("cdc/web", "1").revision
        store.put("else", "1")
        deliver_until(where, receiving.url, "w", first, lambda: len(receiving.received) == 2)
        deliver_until(where, FileReceiver(file), "f", 0, lambda: file.read_text().count("\n") == 2)
    assert [each["revision"] for each in receiving.received] == [first, second]


def deliver_until(
    where: str, to: FileReceiver | str, name: str, since: int, done: Callable[[], bool]
) -> None:
    """Deliver until `done`, and until that is remembered."""

    async def run() -> None:
        stop = asyncio.Event()
        async with Client(where) as client, aiohttp.ClientSession() as http:
            receiver = HttpReceiver(http, to) if isinstance(to, str) else to
            delivery = Delivery(client, receiver, name, b"cdc/", lambda *_, **__: None)
            task = asyncio.create_task(delivery.run(since, stop))
            async with asyncio.timeout(60):
                while not task.done() and not (done() and delivery.acknowledged >= since):
                    await asyncio.sleep(0.02)
            stop.set()
            await task

    asyncio.run(run())


def test_a_receiver_that_refuses_ends_it(tmp_path: Path) -> None:
    with thread_node(tmp_path) as where, BlockingClient(where) as store:
        first = store.put("cdc/a", "1").revision
        with pytest.raises(BackupError, match="refuses changes: 404"):
            deliver_until(where, f"{where}/nothing", "r", first, lambda: False)
        assert store.get("kvstore-changes/r") is None
