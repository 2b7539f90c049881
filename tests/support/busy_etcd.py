"""An etcd, or a store that speaks its API, that is written to while it is being moved."""

import base64
import http.client
import json
import random
import threading
from typing import Any

from proof.processes.waiting import eventually


class EtcdWriter:
    """Puts, deletes and transactions of keys without a pause, until it is stopped."""

    def __init__(self, port: int, seed: int = 3) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.writes = 0
        self.failure: BaseException | None = None

    def call(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        self._http.request("POST", f"/v3/{path}", json.dumps(document))
        answer = self._http.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def fill(self, keys: int, leases: int) -> None:
        """So many keys, a few on leases of 600 s, ids from 1000 on."""
        for number in range(leases):
            self.call("lease/grant", {"ID": 1000 + number, "TTL": 600})
        for first in range(0, keys, 100):
            puts = [
                {"request_put": put(b"key/%06d" % n, b"%d" % n, 1000 + n if n < leases else 0)}
                for n in range(first, min(first + 100, keys))
            ]
            self.call("kv/txn", {"success": puts})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(60)
        assert self.failure is None, self.failure

    def more(self, count: int) -> None:
        wanted = self.writes + count
        eventually(lambda: self.failure is not None or self.writes >= wanted, "more writes")
        assert self.failure is None, self.failure

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._write()
                self.writes += 1
        except BaseException as error:
            self.failure = error

    def _write(self) -> None:
        number = self._random.randrange(400)
        key, value = b"key/%06d" % number, b"new %d" % self.writes
        kind = self._random.randrange(4)
        if kind == 0:
            self.call("kv/deleterange", {"key": b64(key)})
        elif kind == 1:
            other = {"request_put": put(b"pair/%d" % number, value)}
            self.call("kv/txn", {"success": [{"request_put": put(key, value)}, other]})
        else:
            self.call("kv/put", put(key, value))

    def everything(self) -> dict[bytes, tuple[bytes, int]]:
        """All keys now, with values and leases."""
        found = self.call("kv/range", {"key": b64(b"\0"), "range_end": b64(b"\0")})
        return {
            base64.b64decode(kv["key"]): (
                base64.b64decode(kv.get("value", "")),
                int(kv.get("lease", 0)),
            )
            for kv in found.get("kvs", ())
        }


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def put(key: bytes, value: bytes, lease: int = 0) -> dict[str, Any]:
    return {"key": b64(key), "value": b64(value), "lease": lease}
