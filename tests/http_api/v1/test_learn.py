"""The lessons: as their scripts play them, with the code that answers each message."""

import json
import re

from http_api.v1.code_shown import ANSWERS, answering_code, excerpt
from http_api.v1.dashboard import PARTS
from proof.simulation.lessons import LESSONS
from scripts.generate_lessons import files
from tests.support.paths import ROOT


def lessons() -> list[dict]:
    index = json.loads(PARTS["learn/index.json"][0])["lessons"]
    return [json.loads(PARTS[f"learn/{one['name']}.json"][0]) for one in index]


def test_they_are_what_the_scripts_play_now() -> None:
    """After a change of a lesson: make lessons."""
    shipped = {n.removeprefix("learn/"): c for n, (c, _) in PARTS.items() if n.startswith("learn/")}
    assert shipped == files()
    assert [one["name"] for one in lessons()] == list(LESSONS)


def test_every_step_says_something_and_every_message_ends() -> None:
    for lesson in lessons():
        events = [event for step in lesson["steps"] for event in step["events"]]
        sent = {event["id"] for event in events if event["kind"] == "sent"}
        ended = {event["id"] for event in events if event["kind"] in ("delivered", "lost")}
        assert all(step["text"] for step in lesson["steps"]) and len(lesson["steps"]) > 5
        assert len(sent) > 5 and ended <= sent


def test_the_code_is_that_of_this_build() -> None:
    """Each message has a method that answers it, and the excerpt stands where it says."""
    assert answering_code().keys() == ANSWERS.keys()
    for name, one in answering_code().items():
        lines = (ROOT / one["file"]).read_text().splitlines()
        first = one["text"].splitlines()[0]
        assert lines[one["line"] - 1].strip() == first, name
        assert re.match(r"def _?on_", first)
    assert excerpt("paxos.acceptor:Acceptor.gone") is None
