"""Paxos to try oneself, by keyboard, on the page of the lessons."""

import pytest

from tests.http_api.dashboard.axe import faults
from tests.http_api.dashboard.conftest import Page
from tests.http_api.dashboard.test_access import tab_to

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def test_a_person_is_the_network_by_keyboard(page: Page) -> None:
    page.browser.visit(f"{page.url}learn#try")
    page.has("#chosen", "Nothing is chosen yet.")
    tab_to(page, "small", "Ask for promises")
    page.browser.press("Enter")
    page.has("#sentence", "Node 1 asks all acceptors to take part in ballot 1.1.")
    page.has(".picture text", "Prepare 1.1")
    for moves in range(
        2, 10
    ):  # three Prepares, their answers, two Accepts: the first one on the list
        page.wait("document.activeElement.innerText === 'Deliver'")
        page.browser.press("Enter")
        page.has("#count", f"{moves + 1} of {moves + 1}")
    page.has("#chosen", "Chosen, whether a node knows it or not: red")
    assert faults(page.browser) == []
    page.click("#choices button", "Undo")
    page.has("#chosen", "Nothing is chosen yet.")
    page.click(".flying button", "Lose")
    page.has("#sentence", "is lost between node 1 and 3.")
    page.click(".actors button", "Crash")
    page.has("#sentence", "Node 1 crashes.")
    page.click(".actors button", "Restart")
    page.has("#sentence", "Node 1 starts again.")
    page.browser.resize(390, 844)
    assert page.browser.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#lessons a", "The leader crashes")
    page.has("h1", "The leader crashes")
    page.wait("document.getElementById('choices').hidden")
    page.browser.visit("about:blank")
    page.browser.visit(f"{page.url}learn#try:d7")
    page.has("#chosen", "Nothing is chosen yet.")
    assert page.browser.exceptions == []
