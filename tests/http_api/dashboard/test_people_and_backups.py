"""The views of users and of backups: who sees what, by keyboard, without a secret."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.client import BlockingClient
from tests.http_api.dashboard.axe import faults
from tests.http_api.dashboard.conftest import Page
from tests.http_api.dashboard.test_access import tab_to
from tests.support.browser import Browser
from tests.support.thread_node import thread_node

pytestmark = [pytest.mark.integration, pytest.mark.proof]
HOSTILE = "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, BlockingClient]]:
    """A node with authentication on, and root's client."""
    with thread_node(tmp_path_factory.mktemp("people")) as url:
        with BlockingClient(url) as open_to_all:
            for user, password in (("root", "root's"), ("ann", "ann's"), ("keeper", "keeps")):
                open_to_all.add_user(user, password)
            open_to_all.add_user("machine")
            for role in ("app", "keeper", HOSTILE):
                open_to_all.add_role(role)
            open_to_all.grant_permission("app", "readwrite", prefix="app/")
            open_to_all.grant_permission("app", "read", key="shared")
            open_to_all.grant_scope("keeper", "backup")
            for user, role in (("root", "root"), ("ann", "app"), ("keeper", "keeper")):
                open_to_all.grant_role(user, role)
            open_to_all.auth_enable()
        with BlockingClient(url, user="root", password="root's") as root:
            yield url, root


@pytest.fixture
def page(store: tuple[str, BlockingClient]) -> Iterator[Page]:
    with Browser() as browser:
        browser.prefer(prefers_reduced_motion="reduce", prefers_color_scheme="light")
        browser.resize(1300, 900)
        made = Page.__new__(Page)
        made.browser, made.url = browser, f"{store[0]}/"
        yield made
        assert browser.exceptions == []


def log_in(page: Page, view: str, user: str, password: str) -> None:
    page.browser.visit(f"{page.url}#{view}")
    page.fill("#login-name", user)
    page.fill("#login-password", password)
    page.browser.press("Enter")
    page.has("#user", f"{user} · log out")


def shown(page: Page, selector: str) -> list[str]:
    found: list[str] = page.browser.evaluate(
        f"[...document.querySelectorAll({selector!r})].map(e => e.innerText)"
    )
    return found


def looks_right(page: Page) -> None:
    assert faults(page.browser) == []
    page.browser.resize(390, 844)
    assert page.browser.evaluate("document.documentElement.scrollWidth") <= 390
    page.browser.resize(1300, 900)


def test_root_sees_who_may_do_what(page: Page, store: tuple[str, BlockingClient]) -> None:
    log_in(page, "users", "root", "root's")
    page.has("[data-user=ann]", "app/…")
    assert len(shown(page, "[data-user]")) == 4
    (ann,) = shown(page, "[data-user=ann]")
    assert "readwrite" in ann and "shared" in ann and "password" in ann
    assert "certificate only" in shown(page, "[data-user=machine]")[0]
    assert "everything" in shown(page, "[data-user=root]")[0]
    assert "scope backup" in shown(page, "[data-role=keeper]")[0]
    assert any(HOSTILE in row for row in shown(page, "[data-role]")), "a name stays text"
    assert "hacked" not in page.browser.evaluate("document.title")
    everything = page.browser.evaluate("document.documentElement.outerHTML")
    assert "scrypt" not in everything and "root's" not in everything
    looks_right(page)


def test_the_keyboard_ends_the_tokens_of_a_user(
    page: Page, store: tuple[str, BlockingClient]
) -> None:
    with BlockingClient(store[0], user="ann", password="ann's", timeout_s=10) as ann:
        token = ann.log_in("ann", "ann's").token
    log_in(page, "users", "root", "root's")
    page.has("[data-user=ann]", "app")
    tab_to(page, "danger", "End tokens")  # of ann, who comes first
    page.browser.press("Enter")
    page.has("dialog", "Whoever is logged in as ann")
    tab_to(page, "primary", "End them")
    page.browser.press("Enter")
    page.has(".toast", "All tokens of ann have ended")
    answer = page.browser.evaluate(
        f"fetch('/v1/users/ann', {{headers: {{Authorization: 'Bearer {token}'}}}})"
        ".then(a => a.status)"
    )
    assert answer == 401


def test_others_see_themselves_only(page: Page) -> None:
    log_in(page, "users", "ann", "ann's")
    page.has("main", "You see yourself and your roles")
    (row,) = shown(page, "[data-user]")
    assert "ann" in row and "you" in row and "app/…" in row and "End tokens" not in row
    assert [text.split()[0] for text in shown(page, "[data-role]")] == ["app"]
    looks_right(page)
    page.browser.evaluate("location.hash = 'backups'")
    page.has("main .bad", "takes the scope backup")
    page.click("#user")
    page.wait("document.querySelector('dialog #login-name')")


def test_backups_are_told_with_their_age_and_their_drill(
    page: Page, store: tuple[str, BlockingClient]
) -> None:
    now_ms = int(time.time() * 1000)
    drill = {"time_ms": now_ms - 60_000, "ok": False, "said": f"differs: {HOSTILE}"}
    mark: dict[str, Any] = {"place": "/b/shop", "continuous": True, "revision": 7}
    late = {**mark, "time_ms": now_ms - 7_200_000, "fresh_s": 900.0, "drill": drill}
    log_in(page, "backups", "keeper", "keeps")
    page.has("main", "No backup has told this store of itself")
    looks_right(page)
    store[1].report_backup("shop", late)
    store[1].report_backup("fresh", {**mark, "time_ms": now_ms, "next_ms": now_ms + 3_700_000})
    page.click("main button", "Reload")
    page.has("[data-backup=shop]", "late")
    page.has("[data-backup=shop]", "2 h ago")
    page.has("[data-backup=shop] .drill-said", HOSTILE)
    page.has("[data-backup=fresh]", "in 62 min")
    page.has("[data-backup=fresh]", "never")
    page.has("main [role=status]", "1 of 2 late")
    page.has("#state", "troubles")
    looks_right(page)
    tab_to(page, "small", "Forget")
    name = page.browser.evaluate("document.activeElement.closest('[data-backup]').dataset.backup")
    page.browser.press("Enter")
    tab_to(page, "primary", "Forget")
    page.browser.press("Enter")
    page.wait(f"!document.querySelector('[data-backup={name}]')")
    left = {one["name"] for one in json.loads(store[1].fetch("/v1/backups"))["backups"]}
    assert left == {"shop", "fresh"} - {name}


def test_without_authentication_that_is_said(tmp_path: Path) -> None:
    with thread_node(tmp_path) as url, Browser() as browser:
        page = Page.__new__(Page)
        page.browser, page.url = browser, f"{url}/"
        browser.visit(f"{url}/")
        browser.press("6")
        page.has("main", "Authentication is off")
        browser.press("7")
        page.has("main", "No backup has told")
        assert browser.exceptions == [] and browser.console == []
