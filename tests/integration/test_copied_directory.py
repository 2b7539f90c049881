"""A copy of a data directory that is started elsewhere: it ends, and nobody else is disturbed."""

import shutil
import time

import pytest

from kvstore_cli.launcher.node_process import (
    PROGRAM,
    ServerProcess,
    clean_environment,
    serve_command,
)
from proof.processes.network import HeldPort
from tests.support.real_cluster import eventually

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def test_the_copy_ends_and_both_sides_say_why(new_cluster, tmp_path):
    cluster = new_cluster()
    leader = cluster.leader()
    cluster.must_put(leader, "key", b"value")
    victim = cluster.followers()[0]
    original = cluster.nodes[victim]
    directory = tmp_path / "elsewhere"
    shutil.copytree(original.data_dir, directory)
    peers = {n: cluster.nodes[n].peer_address for n in cluster.numbers}
    client, peer = HeldPort(), HeldPort()
    listen = (client.address, peer.address)
    command = serve_command(PROGRAM, victim, peers, listen, directory, {})
    copy = ServerProcess(victim, listen, directory, command, clean_environment())
    others = [n for n in cluster.numbers if n != victim]
    try:
        copy.start()
        began_s = time.monotonic()
        code = eventually(lambda: copy.exit_code, "the copy ends", 60.0)
        assert code != 0
        assert f"another process runs as node {victim}" in copy.log()
        for other in others:
            told = [line for line in cluster.log(other).splitlines() if "two processes" in line]
            assert len(told) == 1, told
            assert "peer down" not in cluster.log(other).split("two processes")[1]
        assert cluster.leader() == leader
        cluster.must_put(victim, "key", b"another value")
        print(f"ended after {time.monotonic() - began_s:.1f} s with {code}:\n{copy.tail()}")
    finally:
        copy.signal(9)
        copy.wait(10)
        client.close()
        peer.close()
