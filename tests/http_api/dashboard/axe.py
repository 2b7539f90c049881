"""axe-core, the checker of accessibility, in a page of a test's browser."""

from tests.support.browser import Browser
from tests.support.paths import ROOT

AXE = (ROOT / "tests" / "support" / "vendor" / "axe.min.js").read_text()
SERIOUS = {"serious", "critical"}


def faults(browser: Browser, rules: str = "") -> list[str]:
    """What axe-core finds that is serious."""
    if not browser.evaluate("typeof axe !== 'undefined'"):
        browser.evaluate(AXE + ";0")
    options = f"{{runOnly: {rules}, resultTypes: ['violations']}}" if rules else "{}"
    found = browser.evaluate(f"axe.run(document, {options}).then(r => r.violations)")
    return [
        f"{one['id']}: {node['html'][:150]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
