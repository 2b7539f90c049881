"""The page of the demo: its buttons act on real nodes, its load is judged, and nobody else may."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kvstore_cli.demo.load import DemoLoad
from kvstore_cli.demo.network import DemoNetwork
from kvstore_cli.demo.run import Demo
from kvstore_cli.launcher.node_cluster import HOST, NodeCluster
from proof.histories.live import LiveJudge
from proof.processes.network import HeldPlaces, HeldPort
from tests.http_api.dashboard.axe import faults
from tests.support.browser import Browser

pytestmark = [pytest.mark.integration, pytest.mark.proof]
CONTROL = {"X-Kvstore-Demo": "1"}
WAIT_S = 60.0


class Driven:
    """A demo in this process, and its page."""

    def __init__(self, demo: Demo, port: int) -> None:
        self.demo = demo
        self.url = f"http://{HOST}:{port}"
        self.session = aiohttp.ClientSession()

    async def state(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/demo/state") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def post(self, path: str, document: Any = None, headers: Any = CONTROL) -> int:
        async with self.session.post(self.url + path, json=document, headers=headers) as answer:
            return answer.status

    async def until(self, holds: Any) -> dict[str, Any]:
        end = time.monotonic() + WAIT_S
        while not holds(state := await self.state()):
            assert time.monotonic() < end, state
            await asyncio.sleep(0.05)
        return state

    async def leader(self) -> int:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            async with self.session.get(f"{self.url}/v1/cluster") as answer:
                if answer.status == 200 and (leader := (await answer.json())["leader"]):
                    return int(leader["id"])
            await asyncio.sleep(0.05)
        raise AssertionError("no leader")


def driven(directory: Path, test: Any) -> None:
    async def run() -> None:
        places, page = HeldPlaces([1, 2, 3]), HeldPort()
        behind = {number: HeldPort() for number in places.ports}
        network = DemoNetwork(places.ports, {n: port.number for n, port in behind.items()})
        cluster = NodeCluster([1, 2, 3], network, directory)
        demo = Demo(cluster, directory, 0.1, page.number, network)
        demo._load = DemoLoad([node.url for node in demo._nodes], LiveJudge())
        page.close()
        running = asyncio.create_task(demo.run())
        on = Driven(demo, page.number)
        try:
            async with asyncio.timeout(2 * WAIT_S):
                while not demo._announced:
                    assert not running.done(), running
                    await asyncio.sleep(0.05)
                await test(on)
        finally:
            await on.session.close()
            demo._stopping.set()
            await running
            for held in (places, *behind.values()):
                held.close()

    asyncio.run(run())


def test_a_person_stops_the_leader_and_sees_writes_go_on(tmp_path: Path) -> None:
    def look(url: str) -> None:
        with Browser() as browser:
            browser.resize(1300, 900)
            browser.visit(url)
            browser.wait_for("document.querySelectorAll('#demo [data-node]').length === 3")
            browser.evaluate(
                "(s => { s.value = 200; s.dispatchEvent(new Event('change')) })"
                "(document.getElementById('demo-load'))"
            )
            linear = "document.getElementById('verdict').innerText.includes('✓ linearizable')"
            browser.wait_for(linear)
            leads = (
                "[...document.querySelectorAll('.node')]"
                ".find(n => n.innerText.includes('★ leader'))?.dataset.node || ''"
            )
            before = browser.wait_for(leads)
            browser.evaluate("document.getElementById('stop-leader').click()")
            browser.wait_for(f"(n => n && n !== '{before}' && n)({leads})")
            stopped = f"document.querySelector('.node[data-node=\"{before}\"]').innerText"
            browser.wait_for(f"{stopped}.includes('away')")
            button = f"document.querySelector('#demo [data-node=\"{before}\"] button')"
            browser.wait_for(f"{button}.innerText === 'Start'")
            browser.evaluate(f"{button}.click()")
            # Not that nothing is wrong: a busy machine may be slow, and the page says that too.
            browser.wait_for(f"!{stopped}.includes('away')")
            browser.wait_for(linear)
            assert browser.exceptions == []

    async def test(on: Driven) -> None:
        await asyncio.to_thread(look, on.url)
        state = await on.until(lambda s: s["load"]["verdict"]["operations"] > 300)
        assert state["load"]["verdict"]["linearizable"]
        assert state["load"]["verdict"]["failures"] == []

    driven(tmp_path, test)


def test_nodes_freeze_thaw_stop_and_start(tmp_path: Path) -> None:
    async def test(on: Driven) -> None:
        leader = await on.leader()
        assert await on.post(f"/demo/nodes/{leader}/freeze") == 200
        await on.until(lambda s: s["nodes"][leader - 1]["state"] == "frozen")
        deadline = time.monotonic() + WAIT_S
        while await on.leader() == leader:
            assert time.monotonic() < deadline
        assert await on.post(f"/demo/nodes/{leader}/start") == 200
        await on.until(lambda s: s["nodes"][leader - 1]["state"] == "runs")
        for node in (1, 2, 3):
            assert await on.post(f"/demo/nodes/{node}/stop") == 200
        async with on.session.get(f"{on.url}/v1/cluster") as answer:
            assert answer.status == 503 and "no node" in await answer.text()
        async with on.session.get(on.url) as answer:
            assert answer.status == 200, "the page is there without any node"
        for node in (1, 2, 3):
            assert await on.post(f"/demo/nodes/{node}/start") == 200
        await on.leader()

    driven(tmp_path, test)


async def view(on: Driven, number: int) -> dict[str, Any]:
    """The cluster as the node sees it; {} while it does not answer."""
    try:
        async with on.session.get(f"{on.demo._cluster.nodes[number].url}/v1/cluster") as answer:
            found: dict[str, Any] = await answer.json()
            return found
    except aiohttp.ClientError:
        return {}


async def until_view(on: Driven, number: int, holds: Any) -> dict[str, Any]:
    end = time.monotonic() + WAIT_S
    while not (found := await view(on, number)) or not holds(found):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.05)
    return found


def test_a_leader_that_is_cut_off_leads_no_more_and_comes_back(tmp_path: Path) -> None:
    async def test(on: Driven) -> None:
        assert await on.post("/demo/load", {"rate_per_s": 200}) == 200
        leader = await on.leader()
        other = leader % 3 + 1
        assert await on.post(f"/demo/nodes/{leader}/cut") == 200
        await on.until(lambda s: s["nodes"][leader - 1]["cut"])
        await until_view(on, other, lambda v: v["leader"] and v["leader"]["id"] != leader)
        await until_view(on, leader, lambda v: v["node"]["role"] != "leader")
        assert (await on.state())["nodes"][leader - 1]["state"] == "runs", "it was not stopped"
        async with on.session.put(f"{on.url}/v1/kv/k", data=b"1") as answer:
            assert answer.status == 200, "the page asks a node that is not cut off"
        assert await on.post(f"/demo/nodes/{leader}/plug") == 200
        await until_view(on, leader, lambda v: v["node"]["ready"])
        state = await on.until(lambda s: s["load"]["verdict"]["operations"] > 300)
        assert state["load"]["verdict"]["failures"] == []

    driven(tmp_path, test)


def test_a_node_whose_disk_is_emptied_heals_by_itself(tmp_path: Path) -> None:
    async def test(on: Driven) -> None:
        leader = await on.leader()
        victim = leader % 3 + 1
        for number in range(20):
            async with on.session.put(f"{on.url}/v1/kv/k{number}", data=b"v") as answer:
                assert answer.status == 200
        third = 6 - leader - victim
        assert await on.post(f"/demo/nodes/{third}/stop") == 200
        assert await on.post(f"/demo/nodes/{victim}/wipe") == 409, "a quorum would be lost"
        assert await on.post(f"/demo/nodes/{third}/start") == 200
        await until_view(on, third, lambda v: v["node"]["ready"])
        end = time.monotonic() + WAIT_S
        while (status := await on.post(f"/demo/nodes/{victim}/wipe")) == 409:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        assert status == 200
        await on.until(lambda s: s["nodes"][victim - 1]["member"] > 3)
        assert await on.post(f"/demo/nodes/{leader}/wipe") == 409, "one at a time"
        member = (await on.state())["nodes"][victim - 1]["member"]
        # The other follower too: until it knows, the lost disk and the leader are two of three.
        for number in (third, victim):
            healed = await until_view(
                on,
                number,
                lambda v: (
                    sorted(v["configuration"]["voters"])[-1] == member
                    and not v["configuration"]["under_way"]
                ),
            )
        assert {one["name"] for one in healed["members"]} == {"node1", "node2", "node3"}
        target = f"{on.demo._cluster.nodes[victim].url}/v1/kv?prefix=k&consistency=serializable"
        async with on.session.get(target) as answer:
            assert len((await answer.json())["items"]) == 20
        assert await on.post(f"/demo/nodes/{leader}/stop") == 200, "the healed one votes"
        await until_view(on, victim, lambda v: v["leader"] and v["leader"]["id"] != leader)

    driven(tmp_path, test)


def test_buttons_cut_off_and_wipe(tmp_path: Path) -> None:
    def look(url: str) -> None:
        with Browser() as browser:
            browser.resize(1300, 900)
            browser.visit(url)
            browser.wait_for("document.querySelectorAll('#demo [data-node]').length === 3")
            group = "document.querySelector('#demo [data-node=\"3\"]')"
            button = f"[...{group}.querySelectorAll('button')].find(b => b.innerText === '{{}}')"
            browser.wait_for(f"Boolean({button.format('Cut off')})")
            browser.evaluate(button.format("Cut off") + ".click()")
            browser.wait_for(f"Boolean({button.format('Reconnect')})")
            browser.wait_for(
                "[...document.querySelectorAll('.verdict li')].some(e => e.dataset.kind === "
                "'link-cut' || e.dataset.kind === 'not-ready')"
            )
            browser.evaluate(button.format("Reconnect") + ".click()")
            broken = "['link-cut', 'not-ready', 'last-quorum', 'node-silent', 'lag']"
            whole = (
                "![...document.querySelectorAll('.verdict li')]"
                f".some(e => {broken}.includes(e.dataset.kind))"
            )
            browser.wait_for(whole)
            browser.evaluate(button.format("Wipe") + ".click()")
            browser.wait_for(f"{group}.innerText.includes('(member 4 now)')")
            browser.wait_for(whole)
            assert faults(browser) == []
            browser.resize(390, 844)
            assert browser.evaluate("document.documentElement.scrollWidth") <= 390
            assert browser.exceptions == []

    async def test(on: Driven) -> None:
        await on.leader()
        await asyncio.to_thread(look, on.url)

    driven(tmp_path, test)


def test_only_the_page_itself_controls(tmp_path: Path) -> None:
    async def test(on: Driven) -> None:
        assert await on.post("/demo/nodes/1/stop", headers={}) == 403
        assert await on.post("/demo/load", {"rate_per_s": 10}, headers={}) == 403
        rebound = {**CONTROL, "Host": "evil.example:80"}
        assert await on.post("/demo/nodes/1/stop", headers=rebound) == 403
        assert await on.post("/demo/nodes/9/stop") == 404
        assert await on.post("/demo/nodes/1/explode") in (404, 405)
        for bad in ({"rate_per_s": -1}, {"rate_per_s": "many"}, {}, [], 10**9):
            assert await on.post("/demo/load", bad) == 400
        assert [one["state"] for one in (await on.state())["nodes"]] == ["runs"] * 3
        target = f"{on.demo._nodes[0].url}/demo/state"
        async with on.session.get(target) as answer:
            assert answer.status == 404, "a node itself has no controls"
            assert json.loads(await answer.text())["status"] == 404

    driven(tmp_path, test)


def test_its_page_writes_and_other_pages_do_not(tmp_path: Path) -> None:
    """Keys are edited on the page of the demo, which passes them on to a node."""

    async def test(on: Driven) -> None:
        async def put(origin: str, site: str) -> int:
            headers = {"Origin": origin, "Sec-Fetch-Site": site, "Referer": f"{origin}/"}
            target = f"{on.url}/v1/kv/k"
            async with on.session.put(target, data=b"1", headers=headers) as answer:
                return answer.status

        await on.leader()
        assert await put(on.url, "same-origin") == 200
        assert await put(on.url.replace("127.0.0.1", "localhost"), "same-site") == 403
        assert await put("http://evil.example", "cross-site") == 403

    driven(tmp_path, test)
