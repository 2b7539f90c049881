"""The incidents that nodes kept by themselves, on the dashboard."""

import json

import pytest

from tests.http_api.dashboard.axe import faults
from tests.http_api.dashboard.conftest import Page
from tests.http_api.dashboard.test_access import tab_to

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def test_an_incident_is_told_and_saved_by_keyboard(page: Page) -> None:
    taker = page.cluster.followers()[0]
    body = json.dumps({"to": taker}).encode()
    leader = page.cluster.leader()
    assert page.cluster.call(leader, "POST", "/v1/cluster/handover", body).status == 200
    page.go("cluster")
    page.has("#incidents .why", f"node {taker} leads: ")
    assert faults(page.browser) == []
    page.browser.evaluate(
        "URL.createObjectURL = blob => { blob.text().then(text => { window.saved = text });"
        " return '#cluster' }"
    )
    tab_to(page, "small", "Save")
    page.browser.press("Enter")
    page.wait("window.saved")
    saved = json.loads(page.browser.evaluate("window.saved"))
    asked = page.browser.evaluate(
        "performance.getEntriesByType('resource').map(e => new URL(e.name).pathname)"
        ".filter(path => path.startsWith('/v1/incidents/')).at(-1)"
    )
    told = json.loads(page.cluster.call(1, "GET", asked).body)
    assert [one["id"] for one in saved["nodes"]] == [1, 2, 3]
    assert saved["nodes"][0] == told["nodes"][0]
    assert page.quiet
