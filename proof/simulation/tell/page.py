"""The page of a trace: a picture of a recording that needs nothing but a browser.

The template, the style and the scripts in `static/` are joined into one HTML text together with the
recording itself as JSON. The page draws only what it finds there: it loads nothing, and its
Content-Security-Policy allows the two inlined texts by their hashes and nothing else, so whatever
a trace holds (keys and values are the clients' own) is shown as text and never run.
"""

import hashlib
import re
from base64 import b64encode
from html import escape
from importlib.resources import files

import msgspec

from proof.simulation.tell.trace import Recording

_STATIC = files("proof.simulation.tell").joinpath("static")

_SCRIPTS = (
    "model.js",
    "timeline.js",
    "canvas.js",
    "lanes.js",
    "arrows.js",
    "minimap.js",
    "panels.js",
    "legend.js",
    "trace.js",
)
"""In this order: each uses only names of those before it when it is loaded."""

_HOLE = re.compile(r"\{\{(\w+)\}\}")


def render(recording: Recording) -> str:
    """One HTML page that shows `recording`, complete in itself.

    Raises UnicodeEncodeError if a text of the recording is not valid Unicode.
    """
    style = _text("trace.css")
    script = "".join(_text(name) for name in _SCRIPTS)
    parts = {
        "title": escape(recording.title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "recording": _embedded(recording),
    }
    return _HOLE.sub(lambda hole: parts[hole[1]], _text("trace.html"))


def _text(name: str) -> str:
    return _STATIC.joinpath(name).read_text(encoding="utf-8")


def _embedded(recording: Recording) -> str:
    """JSON that is safe inside a script element: no `<` can end it or open a comment."""
    return msgspec.json.encode(recording).decode().replace("<", "\\u003c")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names a text."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
