"""The comparison itself: it must see one altered byte of an answer, wherever that stands."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from proof.processes.etcd import ETCD_MISSING, etcd_binary
from tests.etcd.cases import CASES
from tests.etcd.compare import Difference, check, run
from tests.etcd.servers import Etcd
from tests.etcd.steps import differs, get
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "etcd-compatibility.md"
BY_NAME = {case.name: case for case in CASES}


class Liar:
    """A proxy before a server that replaces one text in its answers by another of equal length."""

    name = "liar"

    def __init__(self, target: int, truth: bytes, lie: bytes) -> None:
        assert len(truth) == len(lie)
        self._target, self._truth, self._lie = target, truth, lie
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        """Hang up everywhere and wait for the threads."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for pair in ((client, server, False), (server, client, True)):
                    self._threads.append(threading.Thread(target=self._pump, args=pair))
                    self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket, lying: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data.replace(self._truth, self._lie) if lying else data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def etcds() -> Iterator[tuple[Etcd, Etcd]]:
    if etcd_binary() is None:
        pytest.skip(ETCD_MISSING)
    with contextlib.ExitStack() as stack:
        first = Etcd()
        stack.callback(first.stop)
        second = Etcd("second etcd")
        stack.callback(second.stop)
        yield first, second


LIES = (
    ("kv: overwriting counts the version", b'"version":"3"', b'"version":"4"'),
    ("kv: put and get", b'"value":"MQ=="', b'"value":"MA=="'),
    ("kv: put and get", b'"count":"1"', b'"kount":"1"'),
    ("kv: put with a lease", b'"lease":"777"', b'"lease":"778"'),
    ("kv: a future revision", b"is a future", b"is no futur"),
    ("kv: a future revision", b"400 Bad", b"404 Bad"),
    ("kv: a future revision", b'"code":11', b'"code":12'),
    ("kv: put and get", b"application/json", b"application/jsom"),
    ("txn: nested", b'"response_txn":{"header":{}', b'"response_txn":{"heeder":{}'),
    ("txn: empty", b'"succeeded":true', b'"succeeded":null'),
    ("lease: grant with an id", b'"grantedTTL":"1000"', b'"grantedTTL":"1001"'),
    ("lease: time to live with keys", b'"keys":["Yg=="]', b'"keys":["Yw=="]'),
    ("watch: an overwrite and a delete", b'"type":"DELETE"', b'"type":"DELATE"'),
    ("watch: from a compacted revision", b'"canceled":true', b'"canceled":null'),
    ("lock: lock and unlock", b'"key":"bS8xMjM0"', b'"key":"bS8xMjM1"'),
    ("cluster: member list", b'"clientURLs":["http:', b'"clientURLs":["ftp:/'),
    ("http: version", b'"etcdserver":"3.5', b'"etcdserver":"3.6'),
    ("maintenance: status", b'"raftIndex"', b'"raftindex"'),
)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "truth", "lie"), LIES)
def test_a_lie_is_seen(etcds: tuple[Etcd, Etcd], name: str, truth: bytes, lie: bytes) -> None:
    honest, other = etcds
    run(BY_NAME[name], honest, other)
    liar = Liar(other.port, truth, lie)
    try:
        with pytest.raises(Difference):
            run(BY_NAME[name], honest, liar)
    finally:
        liar.stop()


def test_a_wanted_difference_must_be_there() -> None:
    step = differs(get("a"), "Some heading", 400, "refused")
    ours = {"status": 400, "body": "it is refused"}
    check(step, {"status": 200, "body": ""}, ours, same_system=False)
    with pytest.raises(Difference, match="no difference any more"):
        check(step, ours, ours, same_system=False)
    with pytest.raises(Difference, match="ours must be 400"):
        check(
            step, {"status": 200, "body": ""}, {"status": 500, "body": "refused"}, same_system=False
        )
    with pytest.raises(Difference):
        check(step, {"status": 200, "body": ""}, ours, same_system=True)


def test_every_wanted_difference_is_explained() -> None:
    """And every explained one that can be shown by a case is shown by one."""
    used = {step.differs for case in CASES for step in case.steps if getattr(step, "differs", "")}
    page = PAGE.read_text()
    section = page.partition("## Differences shown by cases")[2].partition("\n## ")[0]
    explained = {
        line.removeprefix("### ") for line in section.splitlines() if line.startswith("### ")
    }
    assert used == explained
