"""`make docs`: the site builds without a warning, and every link inside it leads somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.proof


def test_the_site_builds_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    words = ["build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert (built.returncode, built.stderr) == (0, "")
    pages = list(tmp_path.rglob("index.html"))
    assert len(pages) > 40
    for page in pages:
        for target in re.findall(r'(?:href|src)="([^"]+)"', page.read_text()):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            place = (page.parent / unquote(parts.path)).resolve()
            assert place.exists(), f"{page.relative_to(tmp_path)}: {target}"
