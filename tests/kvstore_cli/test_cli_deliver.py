"""`kvstore changes`: a receiver gets every change, in order, whoever fails on the way."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from kvstore.client import BlockingClient
from proof.processes.waiting import eventually
from tests.support.real_cluster import Cluster

pytestmark = pytest.mark.integration


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


def test_to_a_file(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "changes.jsonl"
    with BlockingClient([node.url for node in cluster.nodes.values()]) as store:
        first = store.put("cdc/file", b"\xff").revision
        process = deliver(cluster, str(file), "--name", "f", "--since", str(first))
        eventually(lambda: file.exists() and file.read_bytes().endswith(b"\n"), "it is written")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    (change,) = map(json.loads, file.read_text().splitlines())
    assert change["revision"] == first and change["events"][0]["value_base64"] == "/w=="
