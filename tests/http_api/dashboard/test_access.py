"""Who cannot see well, or has no mouse, or must log in, uses the dashboard too."""

import asyncio
from pathlib import Path

import pytest

from http_api.v1.dashboard import CONTENT_SECURITY_POLICY, PARTS
from tests.http_api.dashboard.axe import faults
from tests.http_api.dashboard.conftest import Page
from tests.support.browser import Browser
from tests.support.guarded_node import Guarded, guarded

pytestmark = [pytest.mark.integration, pytest.mark.proof]
VIEWS = ["cluster", "log", "load", "keys:plain", "watch", "users", "backups"]


def test_axe_finds_nothing_serious_in_any_view(page: Page) -> None:
    for value in (b"before", b"after"):
        page.cluster.must_put(1, "plain", value)
    page.go("cluster")
    for view in VIEWS:
        page.browser.evaluate(f"location.hash = {view!r}")
        page.has("h1", "")
        if view == "keys:plain":
            page.click(".history button", "Difference")
        assert (view, faults(page.browser)) == (view, [])
        page.browser.prefer(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
        page.wait("document.documentElement.dataset.theme === 'dark'")
        assert (view, faults(page.browser, "['color-contrast']")) == (view, [])
        page.browser.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
        page.wait("document.documentElement.dataset.theme === 'light'")


def test_axe_is_not_blind(page: Page) -> None:
    page.go("cluster")
    page.browser.evaluate("document.querySelector('#theme').removeAttribute('aria-label')")
    page.browser.evaluate("document.querySelector('#theme').textContent = ''")
    assert any("button-name" in fault for fault in faults(page.browser))


def test_a_phone_shows_every_view_without_scrolling_sideways(page: Page) -> None:
    page.browser.resize(390, 844)
    page.cluster.must_put(1, "plain", b"a value")
    page.go("cluster")
    for view in VIEWS:
        page.browser.evaluate(f"location.hash = {view!r}")
        page.has("h1", "")
        width = page.browser.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, (view, width)
        bottom = page.browser.evaluate(
            "document.getElementById('nav').getBoundingClientRect().bottom"
        )
        assert abs(bottom - 844) < 2, "the views are at the thumb"


def test_the_keyboard_alone_changes_a_key(page: Page) -> None:
    page.cluster.must_put(1, "by/keyboard", b"before")
    page.go("cluster")
    page.browser.press("5")
    page.has("h1", "Watch")
    page.browser.press("/")
    page.wait("document.activeElement.id === 'search'")
    page.browser.type_text("by/keyboard")
    page.has(".tree .leaf", "by/keyboard")
    tab_to(page, "leaf")
    page.browser.press("Enter")
    page.has(".value", "before")
    tab_to(page, "", "Edit")
    page.browser.press("Enter")
    page.wait("document.querySelector('dialog textarea')")
    page.fill("#new-value", "after")
    tab_to(page, "primary", "Save")
    page.browser.press("Enter")
    page.has(".value", "after")
    assert page.cluster.get(1, "by/keyboard").body == b"after"


def tab_to(page: Page, name: str, text: str = "") -> None:
    """Press Tab until such an element has the focus."""
    for _ in range(40):
        page.browser.press("Tab")
        if page.browser.evaluate(
            f"(e => e.className.includes({name!r}) && e.innerText.includes({text!r}))"
            "(document.activeElement)"
        ):
            return
    raise AssertionError(f"Tab never reaches {name} {text}")


def test_the_page_brings_all_it_needs(page: Page) -> None:
    """No inline script or style, nothing from anywhere else: the policy forbids both."""
    html = PARTS["index.html"][0].decode()
    assert "<style" not in html and "https://" not in html and "http://" not in html
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    page.go("cluster")
    loaded = {url.removeprefix(page.url) for url in page.browser.requested}
    for part in ("ui/main.js", "ui/base.css", "ui/vendor/uPlot.js", "ui/keys.js"):
        assert part in loaded
    assert page.cluster.call(1, "GET", "/ui/none.js").status == 404
    assert page.cluster.call(1, "GET", "/ui/../dashboard.py").status == 404


def test_with_authentication_on_one_logs_in_and_sees_what_one_may(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        url = "http://{}:{}/".format(*on.node.address)
        await asyncio.to_thread(log_in, url)

    def log_in(url: str) -> None:
        with Browser() as browser:
            page = Page.__new__(Page)
            page.browser, page.url = browser, url
            browser.visit(url + "#keys:a")
            page.fill("#login-name", "u")
            page.fill("#login-password", "wrong")
            page.click("dialog button.primary", "Log in")
            page.has("dialog .bad", "Not logged in")
            page.fill("#login-password", "u's")
            page.click("dialog button.primary", "Log in")
            page.has("#user", "u · log out")
            page.has(".value", "1")
            page.wait("document.getElementById('state').className !== ''")
            browser.evaluate("location.hash = 'keys:z'")
            page.has("main .bad", "lacks the permission")
            kept = "Object.keys(localStorage).length + document.cookie.length"
            assert browser.evaluate(kept) == 0, "a token must not outlive its tab"
            page.click("#user")
            page.wait("document.querySelector('dialog')")
            assert browser.exceptions == []

    guarded(tmp_path, test)
