"""`kvstore import --from-consul` and `--from-redis`. Redis is the server of fakeredis; Consul is a
handler that answers as its documentation says."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from fakeredis import TcpFakeServer

from kvstore.client import BlockingClient
from tests.support.commands import run
from tests.support.thread_node import thread_node

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with thread_node(tmp_path_factory.mktemp("others")) as url:
        yield url


@pytest.fixture
def redis_url() -> Iterator[str]:
    server = TcpFakeServer(("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()


def test_strings_of_redis(where: str, redis_url: str, capsys: Capture) -> None:
    with redis.Redis.from_url(redis_url) as source:
        for number in range(30):
            source.set(f"r/{number}", b"\xff%d" % number)
        source.set("r/expires", "soon", ex=500)
        source.rpush("r/list", "a")
        source.set("other", "1")
    words = ("import", "--from-redis", redis_url, "--endpoints", where, "--prefix", "r/")
    done = json.loads(run(capsys, *words, "--json"))
    assert done == {"lines": 32, "left_out": {"list": 1}}
    with BlockingClient(where) as store:
        found = {entry.key: entry.value for entry in store.list()}
        assert len(found) == 31 and found[b"r/7"] == b"\xff7"
        lease = store.get("r/expires").lease
        assert 490 <= store.lease_status(lease).ttl_s <= 500
    assert "r/list" not in run(capsys, *words) and store.endpoints


def test_keys_of_consul(where: str, capsys: Capture) -> None:
    asked = []

    class Consul(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            items = [
                {"Key": "c/", "Value": None, "Flags": 0},
                {"Key": "c/a", "Value": base64.b64encode(b"\xfe").decode(), "Flags": 0},
                {"Key": "c/empty", "Value": None, "Flags": 0},
            ]
            none = "nothing" in self.path
            body = b"" if none else json.dumps(items).encode()
            self.send_response(404 if none else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Consul)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    words = ("import", "--from-consul", url, "--endpoints", where)
    assert json.loads(run(capsys, *words, "--prefix", "c/", "--json"))["lines"] == 2
    with BlockingClient(where) as store:
        held = {entry.key: entry.value for entry in store.list(prefix="c/")}
    assert held == {b"c/a": b"\xfe", b"c/empty": b""}
    assert asked[0].startswith("/v1/kv/c/?") and "recurse" in asked[0]
    assert json.loads(run(capsys, *words, "--prefix", "nothing", "--json"))["lines"] == 0
    server.shutdown()
    server.server_close()


def test_who_does_not_answer(where: str, tmp_path: Path, capsys: Capture) -> None:
    for source in (
        ("--from-consul", "http://127.0.0.1:1"),
        ("--from-redis", "redis://127.0.0.1:1"),
    ):
        assert run(capsys, "import", *source, "--endpoints", where, code=4)
    assert "give one source" in run(
        capsys, "import", str(tmp_path), "--from-consul", "http://127.0.0.1:1", code=2
    )
