"""A browser before a real cluster."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.support.browser import Browser
from tests.support.cluster_fixtures import cluster, shared_cluster
from tests.support.real_cluster import Cluster

__all__ = ["cluster", "shared_cluster"]


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    with Browser() as browser:
        browser.prefer(prefers_reduced_motion="reduce", prefers_color_scheme="light")
        yield browser


class Page:
    """The dashboard of node 1, and what a person does there."""

    def __init__(self, browser: Browser, cluster: Cluster) -> None:
        self.browser = browser
        self.cluster = cluster
        self.url = f"http://127.0.0.1:{cluster.nodes[1].client_port}/"

    def go(self, view: str) -> None:
        """Load the page anew at a view, and wait for the first overview."""
        self.browser.visit("about:blank")
        self.browser.visit(f"{self.url}#{view}")
        self.wait("document.getElementById('state').className !== ''")

    @property
    def quiet(self) -> bool:
        """Whether nothing was said on the console."""
        return self.browser.console == []

    def verdict_agrees(self) -> bool:
        """Whether the page shows the troubles that the API tells, or that there is none. On a busy
        machine there may be some: a slow disk, say."""
        answer = self.cluster.call(1, "GET", "/v1/overview")
        told = {one["kind"] for one in json.loads(answer.body)["findings"]}
        items = "[...document.querySelectorAll('.verdict li')].map(e => e.dataset.kind || '')"
        return set(self.browser.evaluate(items)) == (told or {""})

    def value(self, key: str) -> bytes:
        """What the store holds."""
        return self.cluster.get(1, quote(key)).body

    def wait(self, script: str) -> None:
        """Until the expression is true; a node counts, though it has no value outside."""
        self.browser.wait_for(f"Boolean({script})")

    def text(self, selector: str) -> str:
        found = self.browser.evaluate(
            f"(document.querySelector({selector!r}) || {{innerText: ''}}).innerText"
        )
        assert isinstance(found, str)
        return found

    def _with(self, selector: str, text: str) -> str:
        shows = f"e => (e.innerText ?? e.textContent).includes({text!r})"
        return f"[...document.querySelectorAll({selector!r})].find({shows})"

    def has(self, selector: str, text: str) -> None:
        """Wait until some element of the selector shows the text."""
        self.wait(self._with(selector, text) + " !== undefined")

    def click(self, selector: str, text: str = "") -> None:
        """Click the first one with this text, once it is there."""
        self.has(selector, text)
        self.browser.evaluate(self._with(selector, text) + ".click()")

    def fill(self, selector: str, text: str) -> None:
        """Replace what a field holds."""
        self.wait(f"document.querySelector({selector!r})")
        self.browser.evaluate(
            f"(e => {{ e.focus(); e.select && e.select(); }})(document.querySelector({selector!r}))"
        )
        self.browser.type_text(text)


@pytest.fixture
def page(one_browser: Browser, cluster: Cluster) -> Iterator[Page]:
    """Whatever a test did, the page asked nobody else, and threw nothing."""
    one_browser.resize(1300, 900)
    made = Page(one_browser, cluster)
    yield made
    assert one_browser.exceptions == []
    assert [
        u for u in one_browser.requested if not u.startswith((made.url, "data:", "about:"))
    ] == []
    one_browser.visit("about:blank")
