"""Writes the lessons of `/learn` and `kvstore learn` from the scripts that play them.

    python scripts/generate_lessons.py           # write http_api/v1/static/learn/
    python scripts/generate_lessons.py --check   # 1 if what is there is not what would be written

Each lesson is played by the real classes of `paxos/` in virtual time, and checks what it says. What
comes out is the same each time, so the files can be compared.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from proof.simulation.lessons import LESSONS
from proof.simulation.tell.trace import (
    Answered,
    Asked,
    Delivered,
    FaultBegan,
    Happened,
    Lost,
    Note,
    Recording,
    Sent,
    SlotIs,
)

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "http_api" / "v1" / "static" / "learn"


def steps(recording: Recording) -> list[dict[str, Any]]:
    """A sentence each, and the events that follow it."""
    found: list[dict[str, Any]] = [{"text": recording.summary, "node": None, "events": []}]
    for event in recording.events:
        if isinstance(event, Note):
            found.append({"text": event.text, "node": event.node, "events": []})
        else:
            found[-1]["events"] += _drawn(event)
    return [step for step in found if step["text"]]


def _drawn(event: Any) -> Iterator[dict[str, Any]]:
    match event:
        case Sent(at_us, id, sender, to, name, text):
            yield {"kind": "sent", "at_us": at_us, "id": id, "from": sender, "to": to,
                   "name": name, "text": text}  # fmt: skip
        case Delivered(at_us, id):
            yield {"kind": "delivered", "at_us": at_us, "id": id}
        case Lost(at_us, id, reason):
            yield {"kind": "lost", "at_us": at_us, "id": id, "text": reason}
        case Happened(at_us, node, name, text):
            yield {"kind": "happened", "at_us": at_us, "node": node, "name": name, "text": text}
        case SlotIs(at_us, node, slot, state, ballot, value):
            yield {"kind": "slot", "at_us": at_us, "node": node, "slot": slot, "state": state,
                   "ballot": ballot, "value": value}  # fmt: skip
        case Asked(at_us, id, client, node, text):
            yield {"kind": "asked", "at_us": at_us, "id": id, "client": client, "node": node,
                   "text": text}  # fmt: skip
        case Answered(at_us, id, outcome, text):
            yield {"kind": "answered", "at_us": at_us, "id": id, "name": outcome, "text": text}
        case FaultBegan(at_us, _, name, text):
            yield {"kind": "fault", "at_us": at_us, "name": name, "text": text}


def lesson(name: str) -> dict[str, Any]:
    """Everything that the page needs of one."""
    recording = LESSONS[name]()
    return {
        "name": name,
        "title": recording.title,
        "about": LESSONS[name].about,
        "nodes": list(recording.nodes),
        "facts": [list(fact) for fact in recording.facts],
        "steps": steps(recording),
    }


def files() -> dict[str, bytes]:
    """Name to content of what belongs into the folder."""
    found = {f"{name}.json": lesson(name) for name in LESSONS}
    index = [{key: one[key] for key in ("name", "title", "about")} for one in found.values()]
    documents: dict[str, Any] = {**found, "index.json": {"lessons": index}}
    return {name: orjson.dumps(document) + b"\n" for name, document in documents.items()}


def main(words: list[str]) -> int:
    """See the module's text."""
    wanted = files()
    if words == ["--check"]:
        there = {file.name: file.read_bytes() for file in FOLDER.glob("*.json")}
        return 0 if there == wanted else 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in wanted.items():
        (FOLDER / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
