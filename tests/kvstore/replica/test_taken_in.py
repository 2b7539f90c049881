"""A node that was started as a founder, and is taken in by a cluster that others founded."""

from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.config import format_address
from kvstore.peers.refusals import Ending
from kvstore.peers.roster import Roster, RosterMember
from kvstore.replica.open import open_replica
from tests.support.replicas import configs_of, run


@pytest.mark.parametrize("given", [4, 5])
def test_settings_that_found_another_cluster_do_not_say_who_votes(
    tmp_path: Path, given: int
) -> None:
    """Failing schedule otherwise: three founded the cluster, and 4 and 5 are started with all five
    as founders and then added. With 1, which was away, they are three of five, and choose other
    values than 2 and 3 have chosen by the founders' quorums."""

    async def body() -> None:
        settings = replace(configs_of(5, tmp_path)[3], node_id=4)
        replica = await open_replica(settings)
        members = tuple(
            RosterMember(n, "" if n == 5 else f"inc{n}", f"node{n}", format_address(a), "", n < 4)
            for n, a in settings.members.items()
            if n != given
        )
        own = RosterMember(given, replica.membership.incarnation, "node4", "", "", False)
        replica.take_in(Roster("aaaabbbbccccdddd", 2, 5, (*members, own), 2))
        assert replica.ending is Ending.AGAIN
        await replica.stop()
        for _ in range(2):
            replica = await open_replica(settings)
            try:
                assert replica.node.id == given
                assert replica.node.governance.last is None and not replica.node.votes
                assert replica.membership.roster is not None
                assert not replica.membership.founders
            finally:
                await replica.stop()

    run(body())
