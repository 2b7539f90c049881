"""Each view shows what the API says, and does what its buttons say: a real browser, real nodes."""

import json
from urllib.parse import quote

import pytest

from tests.http_api.dashboard.axe import faults
from tests.http_api.dashboard.conftest import Page
from tests.support.real_cluster import eventually

pytestmark = pytest.mark.integration
HOSTILE = "<img src=x onerror=document.title='owned'>"


def test_the_cluster_view_shows_what_the_nodes_say(page: Page) -> None:
    leader = page.cluster.leader()
    page.go("cluster")
    page.has(f".node[data-node='{leader}'] .chip", "leader")
    page.has(".totals dd", f"node {leader}")
    eventually(page.verdict_agrees, "the page shows what the API finds wrong, or that all is well")
    ballot = page.cluster.status(1)["ballot"]
    for node in page.cluster.numbers:
        page.has(f".node[data-node='{node}'] dd", ballot)
    page.has(".changes", f"node {leader}")
    assert page.quiet


def test_the_log_shows_slots_and_their_messages(page: Page) -> None:
    page.go("log")
    page.cluster.must_put(1, "seen/in-the-log", b"1")
    through = page.cluster.status(1)["applied_through"]
    cell = f".strip[data-node='1'] .cell.applied[data-slot='{through}']"
    page.wait(f"document.querySelector({cell!r})")
    page.click(cell)
    page.has("pre", "put seen/in-the-log=1")
    page.has(".flow li", "Accept →")
    page.has(".flow li", "its own vote is on disk")
    page.has(".flow li", "applies it")
    assert page.quiet


def test_the_load_view_draws_what_was_measured(page: Page) -> None:
    page.go("load")
    page.wait("document.querySelectorAll('.plot canvas').length === 8")
    page.click(".segmented button", "node 2")
    page.wait("document.querySelector('.segmented [data-node=\"2\"]').ariaPressed === 'true'")

    def measured() -> bool:
        """A write is in a row of two seconds soon after."""
        page.cluster.must_put(1, "measured", b"1")
        load = json.loads(page.cluster.call(1, "GET", "/v1/load").body)
        columns = load["nodes"][1]["document"]["columns"]
        assert len(set(map(len, columns.values()))) == 1
        return max(columns["writes_per_s"]) > 0

    eventually(measured, "the load of node 2 shows writes")
    assert page.quiet


def test_a_hostile_key_and_value_stay_text(page: Page) -> None:
    page.cluster.must_put(1, quote(HOSTILE), HOSTILE.encode())
    page.go("keys:" + quote(HOSTILE))
    page.has(".title", HOSTILE)
    page.has(".value", HOSTILE)
    page.browser.evaluate("location.hash = 'watch'")
    page.wait("document.querySelector('.feed')")
    page.wait("document.getElementById('watch-prefix')")
    page.has("[role=status]", "0 changes")
    page.cluster.must_put(1, quote(HOSTILE), b"again")
    page.has(".feed a", HOSTILE)
    assert "owned" not in page.browser.evaluate("document.title")
    assert page.browser.evaluate("document.querySelectorAll('main img').length") == 0


def test_history_shows_differences_and_restores_by_compare_and_swap(page: Page) -> None:
    for text in (b"one\ntwo\nthree", b"one\n2\nthree"):
        first = page.cluster.must_put(1, "past/text", text)
    page.go("keys:past/text")
    page.has(".value", "2")
    page.click(".history button", "Difference")
    page.has(".diff .del", "two")
    page.has(".diff .add", "2")
    page.click(".history button", "Restore")
    page.has("dialog .diff .add", "two")
    page.click("dialog button.primary", "Restore")
    page.has(".value", "two")
    answer = page.cluster.get(1, "past/text")
    assert answer.body == b"one\ntwo\nthree" and answer.revision > first.revision
    assert page.quiet


def test_axe_finds_nothing_serious(page: Page) -> None:
    page.cluster.must_put(1, "plain", b"a value")
    page.go("keys:plain")
    page.has(".value", "a value")
    assert faults(page.browser) == []
