"""What `kvstore upgrade --check` makes of what the members say."""

from dataclasses import replace

import msgspec
import pytest

from kvstore.client import ClusterConfiguration, ClusterStatus, Leader, Member, NodeStatus
from kvstore_cli.cluster.upgrade import AskedMember, Release, notes, problems

RELEASE = Release("9.0", oldest_data=2, newest_data=4, protocol=2)
FORMATS = {"data": 4, "protocol": 2}


def status(id: int, *, voters: int = 3, phase2: int = 2, lag: int = 0) -> ClusterStatus:
    return ClusterStatus(
        NodeStatus(id, "follower"),
        Leader(1),
        "1.1",
        9,
        9,
        tuple(Member(n, lag=lag) for n in range(1, voters + 1)),
        cluster_id="c",
        configuration=ClusterConfiguration(
            1, tuple(range(1, voters + 1)), (), voters + 1 - phase2, phase2
        ),
    )


def all_well(voters: int = 3, phase2: int = 2) -> list[AskedMember]:
    return [
        AskedMember(n, f"n{n}", "8.0", FORMATS, status(n, voters=voters, phase2=phase2))
        for n in range(1, voters + 1)
    ]


def found(asked: list[AskedMember], cluster: ClusterStatus | None = None) -> list[str]:
    first = asked[0].status
    assert first is not None
    return list(problems(cluster or first, asked, RELEASE))


@pytest.mark.parametrize(("voters", "phase2"), [(3, 2), (5, 3), (4, 2)])
def test_nothing_is_wrong(voters: int, phase2: int) -> None:
    asked = all_well(voters, phase2)
    assert found(asked) == [] and list(notes(asked, RELEASE)) == []


@pytest.mark.parametrize(("voters", "phase2"), [(1, 1), (2, 2), (3, 3), (3, 1), (5, 1)])
def test_no_quorum_is_left_while_one_is_away(voters: int, phase2: int) -> None:
    (why,) = found(all_well(voters, phase2))
    assert f"{voters - 1} of {voters} voters are left" in why


@pytest.mark.parametrize(
    ("formats", "said"),
    [
        (FORMATS | {"data": 5}, "newer than 4"),
        (FORMATS | {"data": 1}, "reads 2 and newer"),
        (FORMATS | {"protocol": 3}, "speaks protocol 3"),
        (FORMATS | {"protocol": 1}, "speaks protocol 1"),
    ],
)
def test_formats_that_do_not_fit(formats: dict[str, int], said: str) -> None:
    one, *others = all_well()
    (why,) = found([replace(one, formats=formats), *others])
    assert why.startswith("node 1 ") and said in why


@pytest.mark.parametrize("formats", [{}, FORMATS | {"data": 2}])
def test_an_older_directory_is_converted(formats: dict[str, int]) -> None:
    """Also of the release that does not tell its formats."""
    one, *others = all_well()
    asked = [replace(one, formats=formats, version="7.0"), *others]
    assert found(asked) == []
    versions, converted = notes(asked, RELEASE)
    assert "7.0, 8.0" in versions and "converts its directory: 1." in converted


def test_a_member_that_is_away_counts_twice() -> None:
    """It cannot be asked, and no other one can be spared."""
    one, other, _ = all_well()
    away, too_few = found([one, other, AskedMember(3, "n3", trouble="connection refused")])
    assert away == "node 3 does not answer: connection refused" and "1 of 3 voters" in too_few


def test_what_a_node_says_against_it() -> None:
    one, *others = all_well()
    base = status(1)
    for node, said in (
        (NodeStatus(1, "follower", ready=False, reason="is behind"), "not ready: is behind"),
        (NodeStatus(1, "follower", warnings=("damage in the log",)), "warns: damage in the log"),
    ):
        told = replace(one, status=msgspec.structs.replace(base, node=node))
        assert said in found([told, *others], base)[0]
    for told_status, said in (
        (status(1, lag=2_000), "is 2,000 slots behind"),
        (msgspec.structs.replace(base, cluster_id="d"), "is of another cluster"),
    ):
        (why,) = found([replace(one, status=told_status), *others], base)
        assert said in why


def test_what_the_cluster_says_against_it() -> None:
    base = status(1)
    assert base.configuration is not None
    under_way = msgspec.structs.replace(base.configuration, under_way="to 1, 2")
    changing = msgspec.structs.replace(base, leader=None, configuration=under_way)
    no_leader, change = found(all_well(), changing)
    assert no_leader == "no leader is known" and "under way (to 1, 2)" in change


def test_a_release_that_tells_no_configuration() -> None:
    """Each member votes there."""
    base = msgspec.structs.replace(status(1), configuration=None)
    asked = all_well()
    assert found(asked, base) == []
    assert len(found([*asked[:2], AskedMember(3, trouble="away")], base)) == 2
