"""Settings that contradict each other are refused, by name."""

import pytest

from kvstore.config import Config, parse_address, parse_cluster
from kvstore.errors import InvalidArgument
from paxos.quorum import QuorumError

MEMBERS = {node: ("127.0.0.1", 2380 + node) for node in (1, 2, 3)}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:80", ("localhost", 80)),
        ("10.0.0.1:0", ("10.0.0.1", 0)),
        ("a.example:65535", ("a.example", 65535)),
        ("[::1]:2380", ("::1", 2380)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("h:00080", ("h", 80)),
    ],
)
def test_good_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "listen") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "localhost",
        "localhost:",
        ":80",
        "h:65536",
        "h:-1",
        "h:+1",
        "h: 80",
        "h:8_0",
        "h:0x50",
        "h:http",
        "[::1]",
        "http://h:80/",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(InvalidArgument, match="listen: expected host:port") as caught:
        parse_address(text, "listen")
    assert caught.value.parameter == "listen" and repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["h:²", "h:" + "9" * 5000, "[]:80", "http://h:80", "a:1;2=b:2", "[::1:80"]
)
def test_addresses_that_look_almost_right(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_address(text, "listen")


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("1=a:1", {1: ("a", 1)}),
        ("1=a:1,2=b:2,3=[::1]:3", {1: ("a", 1), 2: ("b", 2), 3: ("::1", 3)}),
        (" 3=c:3 ,\n1=a:1,", {3: ("c", 3), 1: ("a", 1)}),
        ("70000=a:1", {70000: ("a", 1)}),
    ],
)
def test_good_clusters(text: str, members: dict[int, tuple[str, int]]) -> None:
    assert parse_cluster(text) == members


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no members"),
        (" , ,", "no members"),
        ("a:1", "expected id=host:port"),
        ("=a:1", "expected id=host:port"),
        ("0=a:1", "expected id=host:port"),
        ("-1=a:1", "expected id=host:port"),
        ("n1=a:1", "expected id=host:port"),
        ("1=a", "expected host:port"),
        ("1=", "expected host:port"),
        ("1=a:1,2=b:99999", "expected host:port"),
        ("1=a:1,1=b:2", "node 1 is there twice"),
        ("1=a:1,01=b:2", "there twice"),
    ],
)
def test_bad_clusters(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        parse_cluster(text)
    assert caught.value.parameter == "initial-cluster"


def test_a_node_outside_of_its_cluster() -> None:
    with pytest.raises(InvalidArgument, match="node 4 is not in the initial cluster") as caught:
        Config(node_id=4, members=MEMBERS)
    assert caught.value.parameter == "id"


def test_two_nodes_at_one_address() -> None:
    with pytest.raises(InvalidArgument, match="share an address"):
        Config(node_id=1, members={**MEMBERS, 3: MEMBERS[2]})


@pytest.mark.parametrize(
    ("nodes", "asked", "sizes"),
    [
        (1, (None, None), (1, 1)),
        (2, (None, None), (2, 2)),
        (3, (None, None), (2, 2)),
        (4, (None, None), (3, 3)),
        (5, (None, None), (3, 3)),
        (5, (None, 2), (4, 2)),
        (5, (4, None), (4, 2)),
        (5, (5, None), (5, 1)),
        (5, (3, 5), (3, 5)),
        (4, (3, 2), (3, 2)),
    ],
)
def test_quorums(nodes: int, asked: tuple[int | None, int | None], sizes: tuple[int, int]) -> None:
    members = {node: ("h", node) for node in range(1, nodes + 1)}
    config = Config(node_id=1, members=members, phase1_quorum=asked[0], phase2_quorum=asked[1])
    quorums = config.quorums()
    assert (quorums.phase1, quorums.phase2) == sizes
    assert quorums.members == members.keys()


@pytest.mark.parametrize(
    "asked", [(1, 1), (1, 2), (2, 1), (0, 3), (3, 0), (4, 1), (None, 4), (0, None)]
)
def test_quorums_that_need_not_meet(asked: tuple[int | None, int | None]) -> None:
    with pytest.raises(QuorumError):
        Config(node_id=1, members=MEMBERS, phase1_quorum=asked[0], phase2_quorum=asked[1])


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"batch_bytes_max": 16 << 20}, "frame-bytes-max"),
        ({"frame_bytes_max": 1 << 20}, "frame-bytes-max"),
        ({"log_piece_bytes": 15 << 20}, "frame-bytes-max"),
        ({"snapshot_piece_bytes": 16 << 20}, "frame-bytes-max"),
        ({"peer_buffer_bytes_max": 8 << 20}, "peer-buffer-bytes-max"),
        ({"election_ticks": 4}, "election-ticks"),
        ({"heartbeat_ticks": 8}, "election-ticks"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, int], parameter: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{parameter}: .*") as caught:
        Config(node_id=1, members=MEMBERS, **settings)  # type: ignore[arg-type]
    assert caught.value.parameter == parameter and "\n" not in str(caught.value)
