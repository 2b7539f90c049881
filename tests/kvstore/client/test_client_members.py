"""The client follows the members, and changes them without doing so twice. With real nodes:
tests/integration/test_members.py."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from kvstore.client import Client, Member, MembershipConflict, learning
from kvstore.client.learning import addresses
from kvstore.errors import NoQuorum, OutcomeUnknown
from tests.support.flaky_node import FlakyNode, Step, answers, no_quorum, problem, unknown


def member(number: int, client_address: str | None) -> dict[str, Any]:
    return {"id": number, "client_address": client_address, "role": "follower"}


class Told:
    """What nodes tell of a cluster; changed while they run."""

    def __init__(self, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        self.members: list[dict[str, Any]] = []
        self.asked = 0

    def status(self, number: int) -> Step:
        def answer(request: web.Request) -> web.StreamResponse:
            if request.path == "/v1/cluster/members":
                return web.json_response({"members": self.members})
            if request.path != "/v1/cluster":
                return web.Response(body=b"v", headers={**VALUE})
            self.asked += 1
            return web.json_response(
                {
                    "cluster_id": self.cluster_id, "node": {"id": number, "role": "follower"},
                    "leader": None, "ballot": "1.1", "chosen_through": 1, "applied_through": 1,
                    "members": self.members,
                }
            )  # fmt: skip

        return answer


VALUE = {"ETag": '"7"', "X-Create-Revision": "5", "X-Version": "2"}
Body = Callable[[list[FlakyNode], Client, Told], Awaitable[None]]


def with_cluster(body: Body, first: Step | None = None, strangers: bool = False) -> None:
    """Three nodes of a cluster, of which the client knows the first; it does `first` instead of
    what a node does. With `strangers` the third is of another cluster."""

    async def run() -> None:
        told, other = Told("aa"), Told("bb")
        async with asyncio.timeout(30), AsyncExitStack() as stack:
            nodes = []
            for number in (1, 2, 3):
                step = (other if strangers and number == 3 else told).status(number)
                script = [step] if first is None or number > 1 else [first, step]
                nodes.append(await stack.enter_async_context(FlakyNode(*script)))
            told.members = [member(n, node.url) for n, node in enumerate(nodes, 1)]
            client = await stack.enter_async_context(Client(nodes[0].url, timeout_s=5))
            await body(nodes, client, told)

    asyncio.run(run())


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.01)


def test_it_uses_all_members_once_it_was_told_of_them() -> None:
    async def body(nodes: list[FlakyNode], client: Client, told: Told) -> None:
        await client.status()
        await until(lambda: client.endpoints == tuple(node.url for node in nodes))
        await nodes[0].__aexit__(None, None, None)
        assert (await client.get("k")).value == b"v"

    with_cluster(body)


def test_who_is_no_member_any_more_is_dropped_but_for_who_was_given() -> None:
    async def body(nodes: list[FlakyNode], client: Client, told: Told) -> None:
        await client.members()
        await until(lambda: len(client.endpoints) == 3)
        told.members = told.members[1:2]
        await client.status()
        await until(lambda: client.endpoints == (nodes[0].url, nodes[1].url))

    with_cluster(body)


def test_a_node_of_another_cluster_is_not_taken() -> None:
    """As when members say 127.0.0.1, and something else is there on this machine."""

    async def body(nodes: list[FlakyNode], client: Client, told: Told) -> None:
        await client.status()
        await until(lambda: len(client.endpoints) == 2)
        assert client.endpoints == (nodes[0].url, nodes[1].url)
        assert nodes[2].seen, "it was not asked"

    with_cluster(body, strangers=True)


def test_it_looks_after_a_failure_and_not_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SOON_S", 0.05)

    async def body(nodes: list[FlakyNode], client: Client, told: Told) -> None:
        await client.get("k")  # 503, and then the value
        for _ in range(10):
            await client.get("k")
        await until(lambda: len(client.endpoints) == 3)
        assert told.asked == 3, "one to learn, and one to each new address"

    with_cluster(body, first=no_quorum)


def test_a_short_use_asks_nothing_further() -> None:
    async def body(nodes: list[FlakyNode], client: Client, told: Told) -> None:
        for _ in range(5):
            await client.get("k")
        assert told.asked == 0 and len(client.endpoints) == 1

    with_cluster(body)


@pytest.mark.parametrize(
    ("endpoint", "client_address", "found"),
    [
        ("http://10.0.0.1:1", "http://10.0.0.2:2", ["http://10.0.0.2:2"]),
        ("http://10.0.0.1:1", "http://127.0.0.1:2", []),
        ("http://10.0.0.1:1", "http://localhost:2", []),
        ("http://10.0.0.1:1", "http://[::1]:2", []),
        ("http://localhost:1", "http://127.0.0.1:2", ["http://127.0.0.1:2"]),
        ("http://10.0.0.1:1", "http://0.0.0.0:2", []),
        ("http://10.0.0.1:1", "http://[::]:2", []),
        ("https://a.example:1", "http://b.example:2", []),
        ("https://a.example:1", "https://b.example:2", ["https://b.example:2"]),
        ("http://u:p@10.0.0.1:1", "http://10.0.0.2:2", ["http://u:p@10.0.0.2:2"]),
        ("http://10.0.0.1:1", None, []),
        ("http://10.0.0.1:1", "nonsense", []),
    ],
)
def test_which_addresses_it_takes(
    endpoint: str, client_address: str | None, found: list[str]
) -> None:
    assert addresses([Member(2, client_address=client_address)], endpoint) == found


# -- changes --------------------------------------------------------------------------------

CHANGED = {"member": None, "configuration": {"number": 7, "voters": [1]}}


def with_nodes(scripts: list[list[Step]], body: Callable[..., Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(FlakyNode(*script)) for script in scripts]
            urls = [node.url for node in nodes]
            client = await stack.enter_async_context(Client(urls, timeout_s=1.0))
            await body(nodes, client)

    asyncio.run(run())


def test_a_refusal_that_is_certain_goes_on_to_the_next_node() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        result = await client.remove_member("node 2", expected=6)
        assert result.configuration.number == 7 and result.member is None
        sent = nodes[1].seen[0]
        assert (sent.method, sent.path) == ("DELETE", "/v1/cluster/members/node%202")
        assert sent.query.startswith("expected=6&timeout=0.")

    with_nodes([[no_quorum], [answers(CHANGED)]], body)


@pytest.mark.parametrize("fault", ["drop", "hang", unknown])
def test_a_change_in_doubt_is_not_sent_again(fault: Step) -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(OutcomeUnknown):
            await client.add_member("n", "h:1")
        assert len(nodes[0].seen) == 1 and not nodes[1].seen

    with_nodes([[fault], [answers(CHANGED)]], body)


def test_nobody_serves() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(NoQuorum):
            await client.create_token()
        assert nodes[0].seen and nodes[1].seen

    with_nodes([[no_quorum], [no_quorum]], body)


def test_a_conflict_says_why() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(MembershipConflict) as caught:
            await client.set_configuration([1, 2], phase1=2)
        assert (caught.value.reason, caught.value.number) == ("under-way", 9)
        assert b'"phase1":2' in nodes[0].seen[0].body

    with_nodes([[problem(409, "membership-conflict", reason="under-way", number=9)]], body)
