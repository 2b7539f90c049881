"""Pictures of the dashboard and of a lesson, of a real cluster in each of its troubles.

    python -m tests.http_api.dashboard.screenshots DIRECTORY

Each scene in light, dark and at a phone's width. Exit code 1 if the page said anything on the
console, threw something, or asked anybody but its node.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvstore.client import BlockingClient
from tests.http_api.dashboard.conftest import Page
from tests.support.browser import Browser
from tests.support.real_cluster import Cluster, Load, eventually, running_cluster

WIDE, PHONE = (1300, 900), (390, 844)
WRITERS_PER_NODE = 4
STOPPED_S, RUNNING_S = 0.5, 0.05
"""A node that may run only so little cannot keep up, and is not taken for dead."""
MISSED_SLOTS = 1000
LARGE = 8000
"""Bytes of a value of which a slow node does not soon have what it missed."""
VIEWER = 1
"""Serves the page, so nothing is done to it."""


class Camera:
    """Takes pictures of what a page shows, and remembers what was wrong with it."""

    def __init__(self, page: Page, directory: Path) -> None:
        self.page = page
        self.taken: list[Path] = []
        self.faults: list[str] = []
        self._directory = directory

    def take(self, name: str) -> None:
        """The page as it is, three times. It is not loaded anew: trouble passes."""
        browser = self.page.browser
        for form, colours, size in (
            ("light", "light", WIDE),
            ("dark", "dark", WIDE),
            ("phone", "light", PHONE),
        ):
            browser.prefer(prefers_color_scheme=colours, prefers_reduced_motion="reduce")
            browser.resize(*size)
            self.page.wait(f"document.documentElement.dataset.theme === {colours!r}")
            # All of the page in the window, as what is fixed to the window's end is at its end.
            height = browser.evaluate("document.documentElement.scrollHeight")
            browser.resize(size[0], max(size[1], height))
            file = self._directory / f"{name}-{form}.png"
            browser.screenshot(file)
            self.taken.append(file)
            width = browser.evaluate("document.documentElement.scrollWidth")
            if width > size[0]:
                self.faults.append(f"{file.name}: {width} pixels wide")
        browser.resize(*WIDE)
        self.look(name)

    def look(self, name: str) -> None:
        """At what the page did since it was loaded."""
        browser, page = self.page.browser, self.page
        own = (page.url, "data:", "about:")
        elsewhere = [url for url in browser.requested if not url.startswith(own)]
        said = browser.console + browser.exceptions + elsewhere
        self.faults += [f"{name}: {line}" for line in said]
        for collected in (browser.console, browser.exceptions, browser.requested):
            collected.clear()

    def of(self, name: str, view: str, selector: str, text: str = "") -> None:
        """A view, once it shows that."""
        self.page.go(view)
        self.page.has(selector, text)
        self.take(name)


@contextmanager
def slowed(cluster: Cluster, number: int) -> Iterator[None]:
    """A node that has missed much, and stands still most of the time."""
    done = threading.Event()

    def through() -> int:
        found = cluster.status(VIEWER)["applied_through"]
        assert isinstance(found, int)
        return found

    def slow() -> None:
        with cluster.frozen(number):
            missed = through() + MISSED_SLOTS
            eventually(lambda: done.is_set() or through() > missed, "the others go on")
        while not done.wait(RUNNING_S):
            with cluster.frozen(number):
                done.wait(STOPPED_S)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def lead_elsewhere(cluster: Cluster) -> int:
    """Another node than the viewer leads; which."""

    def ask() -> int | None:
        leader = cluster.leader()
        if leader != VIEWER:
            return leader
        body = json.dumps({"to": VIEWER + 1}).encode()
        cluster.call(VIEWER, "POST", "/v1/cluster/handover", body)
        return None

    found = eventually(ask, "another node leads")
    assert found is not None
    return found


def well_and_busy(camera: Camera, cluster: Cluster) -> None:
    """Healthy, under load, a node that lags."""
    page = camera.page
    camera.of("healthy", "cluster", ".node .chip", "leader")
    page.go("load")
    nodes = [number for number in cluster.numbers for _ in range(WRITERS_PER_NODE)]
    with Load(cluster, nodes) as load:
        load.more(3000)
        page.wait("document.querySelectorAll('.plot canvas').length === 8")
        camera.take("under-load")
        camera.of("under-load-log", "log", ".strip .cell.applied")
    leader = lead_elsewhere(cluster)
    with Load(cluster, nodes, LARGE):
        slow = next(number for number in cluster.numbers if number not in (VIEWER, leader))
        with slowed(cluster, slow):
            camera.of("node-lagging", "cluster", f"[data-node='{slow}']", "behind the furthest")
    eventually(lambda: cluster.ready(slow), "the slowed node is well again")


def keys(camera: Camera, cluster: Cluster) -> None:
    """A key with history, and a difference."""
    for number, colour in enumerate(("red", "green", "blue")):
        settings = {"colour": colour, "size": 10 + number, "name": "shop"}
        document = json.dumps(settings, indent=1).encode()
        cluster.must_put(VIEWER, "config/shop", document)
        cluster.must_put(VIEWER, f"config/other-{number}", b"1")
    page = camera.page
    page.go("keys:config/shop")
    page.has(".value", "blue")
    page.click(".history button", "Difference")
    page.has(".diff .add", "blue")
    camera.take("keys-with-difference")


def lesson(camera: Camera) -> None:
    """In its middle."""
    page = camera.page
    page.browser.visit(f"{page.url}learn#leader-crash:6")
    page.has("#count", "6 of")
    page.has(".picture text", "")
    camera.take("lesson")


def losses(camera: Camera, cluster: Cluster) -> None:
    """The leader stopped, and a node dead."""
    page = camera.page
    leader = lead_elsewhere(cluster)
    page.go("cluster")
    page.has(".node .chip", "leader")
    cluster.kill9(leader)
    taker = cluster.leader([number for number in cluster.numbers if number != leader])
    page.has(f".node[data-node='{taker}'] .chip", "leader")
    camera.take("leader-stopped")
    cluster.start(leader)
    victim = next(n for n in cluster.numbers if n not in (VIEWER, cluster.leader()))
    cluster.kill9(victim)
    camera.of("node-dead", "cluster", ".verdict li.bad", f"Node {victim} has not been heard for")
    cluster.start(victim)


def people(camera: Camera, cluster: Cluster) -> None:
    """The login, and users. Authentication stays on."""
    page = camera.page
    with BlockingClient(page.url.rstrip("/")) as store:
        for user, role in (("root", "root"), ("ann", "app")):
            store.add_user(user, "pass word")
            store.add_role(role)
            store.grant_role(user, role)
        store.grant_permission("app", "readwrite", prefix="app/")
        store.auth_enable()
    page.browser.visit("about:blank")
    page.browser.visit(f"{page.url}#users")
    page.wait("document.querySelector('#login-name')")
    camera.page.browser.console.clear()  # Chromium tells each answer 401 there
    camera.take("login")
    page.fill("#login-name", "root")
    page.fill("#login-password", "pass word")
    page.browser.press("Enter")
    page.has("#user", "root")
    page.has("main", "ann")
    camera.take("users")


def main(directory: Path) -> int:
    """All of them; 1 if something was wrong."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        browser = stack.enter_context(Browser())
        cluster = stack.enter_context(running_cluster())
        camera = Camera(Page(browser, cluster), directory)
        browser.resize(*WIDE)
        browser.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
        well_and_busy(camera, cluster)
        keys(camera, cluster)
        lesson(camera)
        losses(camera, cluster)
        people(camera, cluster)
    for fault in camera.faults:
        print(f"fault: {fault}")
    print(f"{len(camera.taken)} pictures in {directory}, faults: {len(camera.faults)}")
    return 1 if camera.faults else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.http_api.dashboard.screenshots DIRECTORY")
    try:
        sys.exit(main(Path(sys.argv[1])))
    except pytest.skip.Exception as why:
        sys.exit(str(why))
