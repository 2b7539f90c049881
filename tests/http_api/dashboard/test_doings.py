"""What else a person does on the dashboard: each change is guarded, each loss is told."""

import json

import pytest

from tests.http_api.dashboard.axe import faults
from tests.http_api.dashboard.conftest import Page
from tests.support.real_cluster import eventually

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def test_a_change_of_leaders_is_told_with_its_reason(page: Page) -> None:
    leader = page.cluster.leader()
    taker = page.cluster.followers()[0]
    page.go("cluster")
    body = json.dumps({"to": taker}).encode()
    assert page.cluster.call(leader, "POST", "/v1/cluster/handover", body).status == 200
    page.has(".changes .why", f"node {leader} handed leadership over to node {taker}")
    page.has(f".node[data-node='{taker}'] .chip", "leader")


def test_a_dead_node_is_told_in_words(page: Page) -> None:
    page.go("cluster")
    victim = next(node for node in page.cluster.followers() if node != 1)
    page.cluster.kill9(victim)
    page.has(".verdict li.bad", f"Node {victim} has not been heard for")
    page.has(".verdict li.bad", "One more loss ends the quorum")
    page.has(f".node[data-node='{victim}'] .chip", "away")
    page.cluster.start(victim)
    page.wait("!document.querySelector('[data-kind=node-silent], [data-kind=last-quorum]')")
    eventually(page.verdict_agrees, "the page shows what the API finds wrong")


def test_keys_fold_into_a_tree_and_values_have_forms(page: Page) -> None:
    for number in range(3):
        page.cluster.must_put(1, f"tree/branch/leaf-{number}", b'{"n": [1, 2]}')
    page.cluster.must_put(1, "tree/bytes", bytes(range(256)))
    page.go("keys")
    page.fill("#search", "tree/")
    page.has(".tree .folder", "branch/")
    page.click(".tree .folder", "branch/")
    page.click(".tree .leaf", "leaf-1")
    page.has(".value", '"n": [')
    page.click("[data-form=hex]")
    page.has(".value", "000000  7b 22 6e 22")
    page.click(".tree .leaf", "bytes")
    page.has(".value", "0000f0  f0 f1")
    assert page.quiet


def test_nothing_is_restored_over_what_somebody_wrote_meanwhile(page: Page) -> None:
    for text in (b"old", b"new"):
        page.cluster.must_put(1, "past/raced", text)
    page.go("keys:past/raced")
    page.click(".history button", "Restore")
    page.has("dialog .diff .add", "old")
    page.cluster.must_put(1, "past/raced", b"newer")
    page.click("dialog button.primary", "Restore")
    page.has("dialog .bad", "somebody changed this key meanwhile")
    assert page.value("past/raced") == b"newer"


def test_an_edit_is_guarded_too(page: Page) -> None:
    page.cluster.must_put(1, "edit/me", b"before")
    page.go("keys:edit/me")
    page.click("main button", "Edit")
    page.fill("#new-value", "after")
    page.click("dialog button.primary", "Save")
    page.has(".value", "after")
    assert page.value("edit/me") == b"after"
    page.click("main button", "Edit")
    page.wait("document.querySelector('#new-value')")
    page.cluster.must_put(1, "edit/me", b"theirs")
    page.fill("#new-value", "mine")
    page.click("dialog button.primary", "Save")
    page.has("dialog .bad", "somebody changed this key meanwhile")
    assert page.value("edit/me") == b"theirs"


def test_a_deleted_key_comes_back(page: Page) -> None:
    page.cluster.must_put(1, "gone/soon", b"\x00\xff bytes")
    page.go("keys:gone/soon")
    page.click("main button.danger", "Delete")
    page.has("main", "It is deleted.")
    assert page.cluster.get(1, "gone/soon").status == 404
    page.click(".toast button", "Undo")
    page.has("main .segmented", "Hex")
    assert page.value("gone/soon") == b"\x00\xff bytes"


def test_a_new_key_may_have_a_lease(page: Page) -> None:
    page.go("keys")
    page.click("button.primary", "New key")
    page.fill("#new-key", "fresh/leased")
    page.fill("#new-value", "up")
    page.fill("#new-ttl", "60")
    page.click("dialog button.primary", "Create")
    page.has(".meta", "left of 60 s")
    assert page.value("fresh/leased") == b"up"


def test_the_feed_filters_and_pauses(page: Page) -> None:
    page.go("watch")
    page.fill("#watch-prefix", "feed/")
    page.browser.press("Enter")
    page.has("[role=status]", "0 changes")
    page.cluster.must_put(1, "other/key", b"1")
    page.cluster.must_put(1, "feed/first", b"1")
    page.has(".feed a", "feed/first")
    page.click("button", "Pause")
    page.cluster.must_put(1, "feed/second", b"1")
    page.has("[role=status]", "paused; 1 changes wait")
    assert "feed/second" not in page.text(".feed")
    page.click("button", "Go on")
    page.has(".feed a", "feed/second")
    assert "other/key" not in page.text(".feed")
    page.click(".feed a", "feed/first")
    page.has(".title", "feed/first")


def test_a_lesson_goes_step_by_step_with_its_code(page: Page) -> None:
    page.browser.visit(f"{page.url}learn#single-decree:2")
    page.has("#sentence", "Node 1 wants the value red")
    page.has(".picture text", "Prepare 1.1 from slot 1")
    page.has(".code", "paxos/")
    page.browser.press("ArrowRight")
    page.has("#count", "3 of")
    page.click("#back")
    page.has("#count", "2 of")
    page.browser.evaluate("document.querySelector('.picture g[role=button]').focus()")
    page.browser.press("Enter")
    page.has(".code", "def on_prepare")
    page.click("#lessons a", "The leader crashes")
    page.has("h1", "The leader crashes")
    assert faults(page.browser) == []
    assert page.quiet
