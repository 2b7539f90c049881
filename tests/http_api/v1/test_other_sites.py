"""Pages of other sites, in a real browser."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.guarded_node import Guarded, guarded

pytestmark = pytest.mark.proof

ATTACK = """(async () => {
  const tries = [
    ["POST", "/v1/txn", '{"then":[{"put":{"key":"a","value":"mine"}}]}'],
    ["POST", "/v3/kv/put", '{"key":"YQ==","value":"bWluZQ=="}'],
    ["POST", "/v1/auth/enable", ""],
  ];
  const seen = [];
  for (const [method, path, body] of tries) {
    try {
      const answer = await fetch(NODE + path, {method, body, mode: "no-cors",
        headers: {"Content-Type": "text/plain"}});
      seen.push(answer.type);
    } catch (error) { seen.push("refused"); }
  }
  return seen;
})()"""


@pytest.fixture
def other_site() -> Iterator[str]:
    """A page on another port, which is another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>evil</title>")

        def log_message(self, *_: object) -> None:
            pass

    site = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{site.server_port}/"
    site.shutdown()
    thread.join()
    site.server_close()


def attack(node: str, other_site: str) -> None:
    with Browser() as browser:
        browser.visit(other_site)
        assert browser.evaluate(ATTACK.replace("NODE", f"'{node}'")) == ["opaque"] * 3


def test_other_pages_write_nothing(tmp_path: Path, other_site: str) -> None:
    async def test(on: Guarded) -> None:
        host, port = on.node.address
        await on.ok("auth/disable", on.root)  # now nothing but the origin refuses the attack
        await asyncio.to_thread(attack, f"http://{host}:{port}", other_site)
        assert on.node.replica.state.get(b"a").value == b"1"  # type: ignore[union-attr]
        assert not on.node.replica.state.auth.enabled

    guarded(tmp_path, test)
