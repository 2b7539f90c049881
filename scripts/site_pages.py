"""A hook of MkDocs: the README is the first page, the reference is written from the code, and links
that leave docs/ lead nowhere there.

The pages are written to be read in the repository, where `../tests/traces` is a folder beside. On
the site such a link would be dead, so its text stands alone there.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from reference_commands import command_page
from reference_http import http_page
from reference_python import python_page

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")

REFERENCE: dict[str, Callable[[], str]] = {
    "reference/http.md": http_page,
    "reference/commands.md": command_page,
    "reference/python.md": python_page,
}
"""Pages that are in no folder: each build writes them anew."""


def on_files(files: Any, config: Any) -> Any:
    """Add the README as the first page, and the reference."""
    text = (ROOT / "README.md").read_text()
    text = text.replace("](docs/images/", "](images/").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    for place, written in REFERENCE.items():
        files.append(File.generated(config, place, content=written()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Keep the text of links to what is not on the site."""
    here = Path(page.file.src_uri).parent

    def checked(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        path = target.partition("#")[0]
        if not path or "://" in target:
            return link[0]
        wanted = (ROOT / "docs" / here / path).resolve()
        inside = wanted.is_relative_to(ROOT / "docs") and wanted.is_file()
        return link[0] if inside or path == "index.md" else text

    return _LINK.sub(checked, markdown)
