"""`kvstore doctor` names the cause of staged troubles of three real nodes, and only then."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection
from typing import Any

import pytest

from kvstore_cli.main import main
from proof.processes.preload import NodeGrip, PreloadUnavailable, build
from tests.support.real_cluster import HOST, Cluster, ProxiedPlaces, eventually, running_cluster

pytestmark = [pytest.mark.integration, pytest.mark.proof]

DESCRIPTORS = 256
QUOTA_BYTES = 16 << 20
DIGEST_SLOTS = 8
"""Clocks are compared with the digests."""
REMOVED = 77
PATIENCE_S = 45.0
"""All takes a second or three on an idle machine."""
POLL_S = 0.3
"""Asked without a pause, the nodes would be short of CPU, and the doctor would say so."""


class GrippedPlaces(ProxiedPlaces):
    """Few descriptors for each node, a disk that can hang and a clock that can step."""

    def __init__(self, numbers: list[int], library: Path, directory: Path) -> None:
        super().__init__(numbers)
        self.grips = {node: NodeGrip(library, directory / f"grip-{node}") for node in numbers}

    def prefix(self, node: int) -> list[str]:
        """Every word replaces the process before it."""
        variables = (f"{name}={value}" for name, value in self.grips[node].variables.items())
        return ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(DESCRIPTORS), "env", *variables]

    def close(self) -> None:
        """The nodes have ended."""
        for grip in self.grips.values():
            grip.close()
        super().close()


class Doctor:
    """Asks the cluster by the command, as an operator does."""

    def __init__(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        self.cluster = cluster
        self._capsys = capsys

    def runs(self, *words: str, among: tuple[int, ...] = ()) -> tuple[int, str, str]:
        """Exit code, output and errors of a command that asks these nodes."""
        asked = among or [n for n in self.cluster.numbers if self.cluster.running(n)]
        ports = (self.cluster.nodes[number].client_port for number in asked)
        endpoints = ",".join(f"http://{HOST}:{port}" for port in ports)
        self._capsys.readouterr()
        code = main([*words, "--endpoints", endpoints])
        return code, *self._capsys.readouterr()

    def does(self, *words: str) -> None:
        code, _, errors = self.runs(*words)
        assert code == 0, errors

    def found(self, *among: int) -> list[dict[str, Any]]:
        code, out, errors = self.runs("doctor", "--json", among=among)
        assert code in (0, 1), errors
        found: list[dict[str, Any]] = json.loads(out)
        assert code == bool(found)
        return found

    def says(self, *among: int, kind: str, node: int | None, text: str, advice: str) -> None:
        """Wait until it does, and look at what it advises."""
        seen: list[dict[str, Any]] = []

        def told() -> bool:
            seen[:] = self.found(*among)
            named = [one for one in seen if (one["kind"], one["node"]) == (kind, node)]
            return any(text in one["text"] and advice in one["advice"] for one in named)

        try:
            eventually(told, f"{kind} of {node}", PATIENCE_S, POLL_S)
        except TimeoutError:
            pytest.fail(f"expected {kind} of node {node} with {text!r}, {advice!r}: {seen}")

    def is_quiet_about(self, *kinds: str) -> None:
        def quiet() -> bool:
            return not {one["kind"] for one in self.found()} & {*kinds}

        eventually(quiet, f"no more of {kinds}", PATIENCE_S, POLL_S)


@pytest.fixture
def staged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Doctor, dict[int, NodeGrip]]]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    try:
        library = build(tmp_path)
    except PreloadUnavailable as error:
        pytest.skip(f"no disk that hangs, and no clock that steps: {error}")
    made: list[GrippedPlaces] = []

    def places(numbers: list[int]) -> GrippedPlaces:
        made.append(GrippedPlaces(numbers, library, tmp_path))
        return made[0]

    with running_cluster(
        places=places, space_quota_bytes=QUOTA_BYTES, checkpoint_interval_s=0.2,
        history_revisions=100, digest_slots=DIGEST_SLOTS,
    ) as cluster:  # fmt: skip
        yield Doctor(cluster, capsys), made[0].grips


def test_doctor_names_what_is_wrong(
    staged: tuple[Doctor, dict[int, NodeGrip]], tmp_path: Path
) -> None:
    doctor, grips = staged
    well = (0, "All 3 nodes answer, and nothing is wrong.\n")
    eventually(lambda: doctor.runs("doctor")[:2] == well, "all is well", PATIENCE_S, POLL_S)
    a_clock_that_steps(doctor, grips)
    a_link_that_is_cut(doctor)
    a_disk_that_hangs(doctor, grips)
    clients_on_one_node(doctor)
    backups(doctor)
    a_full_store(doctor)
    a_frozen_node(doctor)
    killed_nodes(doctor)
    many_elections(doctor)
    a_removed_member(doctor)
    users(doctor, tmp_path)


# -- troubles; each is over at the end -----------------------------------------------------


def a_clock_that_steps(doctor: Doctor, grips: dict[int, NodeGrip]) -> None:
    one, other = doctor.cluster.followers()
    grips[one].step(90)
    compare_clocks(doctor.cluster, other)
    doctor.says(kind="warning", node=other, text=f"node {one} by +", advice="NTP")
    grips[one].step(0)
    compare_clocks(doctor.cluster, other)
    doctor.is_quiet_about("warning")


def compare_clocks(cluster: Cluster, node: int) -> None:
    for n in range(2 * DIGEST_SLOTS):
        cluster.must_put(node, "clock", b"%d" % n)


def a_link_that_is_cut(doctor: Doctor) -> None:
    one, other = doctor.cluster.followers()
    doctor.cluster.proxies.cut(doctor.cluster.pairs([one], [other]), silent=True)
    text = f"node {one} does not hear node {other}, which answers here"
    doctor.says(kind="link-cut", node=one, text=text, advice=f"node {one}'s peer port")
    doctor.cluster.heal()
    doctor.is_quiet_about("link-cut")


def a_disk_that_hangs(doctor: Doctor, grips: dict[int, NodeGrip]) -> None:
    leader, node = doctor.cluster.leader(), doctor.cluster.followers()[0]
    grips[node].hang(True)
    doctor.cluster.must_put(leader, "key", b"value")
    text = f"node {node} is not ready: the disk"
    doctor.says(leader, kind="not-ready", node=node, text=text, advice="disk of that machine")
    grips[node].hang(False)
    doctor.is_quiet_about("not-ready")


def clients_on_one_node(doctor: Doctor) -> None:
    node = doctor.cluster.followers()[0]
    with ExitStack() as stack:
        for _ in range(122):
            port = doctor.cluster.nodes[node].client_port
            stack.enter_context(create_connection((HOST, port), timeout=10))
        text = "clients are connected to node"
        doctor.says(kind="uneven-clients", node=node, text=text, advice="all nodes")
        text = "connections of at most 128"
        doctor.says(kind="connections", node=node, text=text, advice="ulimit -n")
    doctor.is_quiet_about("uneven-clients", "connections")


def backups(doctor: Doctor) -> None:
    hour_ago_ms = int((time.time() - 3600) * 1000)
    mark = {"place": "/backups", "continuous": False, "revision": 1, "time_ms": hour_ago_ms,
            "fresh_s": 900, "drill": {"time_ms": hour_ago_ms, "ok": False}}  # fmt: skip
    node = doctor.cluster.leader()
    path, body = "/v1/backups/shop", json.dumps(mark).encode()
    headers = {"Content-Type": "application/json"}
    assert doctor.cluster.call(node, "PUT", path, body, headers).status == 200
    text = "the backup shop is 60 min old"
    doctor.says(kind="backup-late", node=None, text=text, advice="kvstore backup forget")
    text = "drill of the backup shop failed"
    doctor.says(kind="drill-failed", node=None, text=text, advice="new backup now")
    doctor.does("backup", "forget", "shop")
    doctor.is_quiet_about("backup-late", "drill-failed")


def a_full_store(doctor: Doctor) -> None:
    cluster, node = doctor.cluster, doctor.cluster.leader()
    keys = [f"large/{n}" for n in range(40)]

    def refused() -> bool:
        """History gives way first, so some are written twice."""
        return any(cluster.put(node, key, bytes(900_000)).status == 507 for key in keys)

    eventually(refused, "the store is full")
    text = "the store is as large as space-quota-bytes lets it be"
    doctor.says(kind="out-of-space", node=node, text=text, advice="Delete keys")
    for key in keys:
        assert cluster.call(node, "DELETE", f"/v1/kv/{key}").status == 200
    doctor.is_quiet_about("out-of-space", "warning")


def a_frozen_node(doctor: Doctor) -> None:
    node, other = doctor.cluster.followers()
    with doctor.cluster.frozen(node):
        text = f"node {node} has not been heard for"
        doctor.says(other, kind="node-silent", node=node, text=text, advice="stands still")
    doctor.is_quiet_about("node-silent")


def killed_nodes(doctor: Doctor) -> None:
    cluster = doctor.cluster
    left, *victims = cluster.leader(), *cluster.followers()
    cluster.kill9(victims[0])
    advice = f"nothing listens there: start node {victims[0]} again"
    doctor.says(kind="node-silent", node=victims[0], text="not been heard for", advice=advice)
    text = "one more loss ends the quorum: 2 of 3 nodes answer"
    doctor.says(kind="last-quorum", node=None, text=text, advice="before anything else")
    cluster.kill9(victims[1])
    text, advice = "no quorum: 1 of 3 nodes answer", f"node {min(victims)}, node {max(victims)}"
    doctor.says(left, kind="no-quorum", node=None, text=text, advice=advice)
    doctor.says(kind="no-leader", node=None, text="no node knows a leader", advice="a quorum")
    cluster.start()
    doctor.is_quiet_about("node-silent", "last-quorum", "no-quorum", "no-leader")


def many_elections(doctor: Doctor) -> None:
    for _ in range(5):
        doctor.cluster.leader()
        doctor.does("handover")
    text = "times in 10 minutes"
    doctor.says(kind="many-elections", node=None, text=text, advice="time line")


def a_removed_member(doctor: Doctor) -> None:
    """No trouble: who is no member any more is not missed."""
    node = doctor.cluster.followers()[0]
    doctor.does("member", "remove", str(node))
    assert doctor.cluster.wait_exit(node) == REMOVED
    doctor.is_quiet_about("node-silent", "last-quorum", "no-quorum", "link-cut", "not-ready")


def users(doctor: Doctor, tmp_path: Path) -> None:
    """Who asks without a login is told that, and not that all is well."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("of root\n")
    doctor.does("auth", "enable", "--new-password-file", str(secret))
    code, out, errors = doctor.runs("doctor")
    assert (code, out) == (2, "") and "Try: kvstore login NAME" in errors
    code, out, errors = doctor.runs("doctor", "--user", "root", "--password-file", str(secret))
    assert code == 1 and "Leadership changed" in out, errors
