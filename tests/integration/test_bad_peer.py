"""Strangers and broken peers at the peer port: one log line, a closed link, nothing else."""

import socket
from contextlib import suppress

import pytest

from kvstore.peers.frames import PROTOCOL_VERSION, Hello, encode_frame
from tests.support.real_cluster import HOST, eventually

pytestmark = pytest.mark.integration


def hello(**changes):
    """A handshake as node 2 of another incarnation would send it, with something changed."""
    fields = {
        "protocol": PROTOCOL_VERSION,
        "node": 2,
        "to": 1,
        "incarnation": "no such incarnation",
        "configuration": "1,2,3/2/2",
        "roster": {},
        "formed": False,
        "client_address": "http://x",
    }
    return encode_frame(Hello(**{**fields, **changes}))


def closed_by_peer(port, data):
    """Send `data`; whether the node closes the connection."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        with suppress(OSError):
            connection.sendall(data)
        try:
            while connection.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


BAD = {
    "garbage": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "too long": (0x7FFFFFFF).to_bytes(4, "big") + b"x" * 100,
    "not a handshake": (5).to_bytes(4, "big") + b"\xc1\xc1\xc1\xc1\xc1",
    "empty frame": (0).to_bytes(4, "big"),
    "wrong protocol": hello(protocol=PROTOCOL_VERSION + 98),
    "stranger": hello(node=9),
    "founder nobody knows": hello(node=9, formed=True),
    "own identity": hello(node=1),
    "unknown incarnation": hello(),
}


def test_bad_peers_are_dropped(new_cluster):
    """Each with one new line that says why; repeating it, many times, harms nobody."""
    cluster = new_cluster()
    leader = cluster.leader()
    port = cluster.nodes[1].peer_port
    ballot = cluster.status(1)["ballot"]
    for name, data in BAD.items():
        before = _refusals(cluster)
        assert closed_by_peer(port, data), f"{name}: the link stays"
        eventually(lambda before=before: len(_refusals(cluster)) > len(before), f"{name}: a line")
        assert len(_refusals(cluster)) == len(before) + 1, f"{name}: more than one line"
        assert cluster.put(1, "key", name.encode()).status == 200
    cluster.wait_ready()
    assert cluster.leader() == leader and cluster.status(1)["ballot"] == ballot
    assert cluster.get(3, "key").body == list(BAD)[-1].encode()
    assert "Traceback" not in cluster.log(1)
    cluster.converged()


def _refusals(cluster):
    lines = cluster.log(1).splitlines()
    return [line for line in lines if "link dropped" in line or "link refused" in line]
