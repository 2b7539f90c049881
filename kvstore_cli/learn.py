"""`kvstore learn`: the lessons of `/learn` in the terminal, a sentence at a time."""

import json
import sys
import textwrap
from argparse import ArgumentParser, Namespace
from typing import Any

from kvstore.errors import InvalidArgument
from kvstore_cli.command import Command
from kvstore_cli.output import OK

WIDTH = 96
TRY = "try"
"""The game among the lessons."""
LOSE = "lose: "
_TEXT = """\
Paxos in a few dozen messages at a time. What you see was played by the code of this store. Enter
goes on, b and Enter goes back, q and Enter ends. Every node shows the same with pictures and the
code that answers each message, at /learn.

examples:
  kvstore learn                      the list
  kvstore learn single-decree        step by step
  kvstore learn leader-crash --all   all of it at once
  kvstore learn try                  you are the network
"""


def _document(name: str) -> dict[str, Any]:
    # Imported here: it is large, and only this command of the client's needs it.
    from http_api.v1.dashboard import PARTS

    found = PARTS.get(f"learn/{name}.json")
    if found is None:
        known = ", ".join((*(one["name"] for one in _document("index")["lessons"]), TRY))
        raise InvalidArgument("lesson", f"lesson: there is no {name!r}; there are {known}")
    document: dict[str, Any] = json.loads(found[0])
    return document


def step_text(lesson: dict[str, Any], step: int) -> str:
    """The sentence of a step, and what happens then."""
    one = lesson["steps"][step]
    head = f"{step + 1}/{len(lesson['steps'])}  "
    lines = textwrap.wrap(one["text"], WIDTH, initial_indent=head, subsequent_indent=" " * 6)
    sent = {e["id"]: e for s in lesson["steps"] for e in s["events"] if e["kind"] == "sent"}
    lines += filter(None, (_line(event, sent) for event in one["events"]))
    return "\n".join(lines)


def _line(event: dict[str, Any], sent: dict[int, dict[str, Any]]) -> str:
    match event["kind"]:
        case "sent":
            return f"      {event['from']} -> {event['to']}  {event['text']}"
        case "lost" if event["id"] in sent:
            message = sent[event["id"]]
            return f"      {message['from']} -x {message['to']}  {message['name']} is lost"
        case "happened":
            more = f": {event['text']}" if event["text"] else ""
            return f"      node {event['node']}  {event['name']}{more}"
        case "slot" if event["state"] == "chosen":
            value = event["value"] or "a no-op"
            return (
                f"      node {event['node']}  knows that {value} is chosen in slot {event['slot']}"
            )
        case "asked":
            return f"      client {event['client']} asks node {event['node']}: {event['text']}"
        case "answered":
            return f"      the client hears: {event['name']}: {event['text']}"
    return ""


def learn(options: Namespace) -> int:
    """Show the list, or one lesson. Raises InvalidArgument."""
    if options.lesson is None:
        for one in _document("index")["lessons"]:
            print(f"{one['name']:<18} {one['about']}")
        print(f"{TRY:<18} Try it yourself: you deliver and lose the messages, and crash nodes.")
        return OK
    if options.lesson == TRY:
        return play_game()
    lesson = _document(options.lesson)
    print(f"{lesson['title']}\n")
    if options.all or not sys.stdin.isatty():
        print("\n\n".join(step_text(lesson, step) for step in range(len(lesson["steps"]))))
        return OK
    return _by_steps(lesson)


def play_game() -> int:
    """A person is the network, until the end of input."""
    # Imported here, as above.
    from http_api.v1.free_play import game_document

    moves: list[str] = []
    while True:
        game = game_document(".".join(moves))
        print(step_text(game, len(game["steps"]) - 1))
        print(f"      chosen: {' and '.join(game['chosen']) or 'nothing yet'}\n")
        for one in game["choices"]:
            print(f"  {one['move']:<4} {LOSE if one['kind'] == 'lose' else ''}{one['text']}")
        try:
            answer = input("\n[a move, u undoes, q ends] ").strip().lower()
        except EOFError:
            return OK
        if answer == "q":
            return OK
        if answer == "u":
            moves = moves[:-1]
        elif answer in {one["move"] for one in game["choices"]}:
            moves.append(answer)
        else:
            print(f"\n{answer!r} cannot be done now.\n")


def _by_steps(lesson: dict[str, Any]) -> int:
    step = 0
    while step < len(lesson["steps"]):
        print(step_text(lesson, step))
        try:
            answer = input("\n[Enter, b, q] ").strip().lower()
        except EOFError:
            return OK
        if answer == "q":
            return OK
        step = max(0, step - 1) if answer == "b" else step + 1
    return OK


def _flags(parser: ArgumentParser) -> None:
    parser.add_argument("lesson", metavar="LESSON", nargs="?", help="its name (default: the list)")
    parser.add_argument("--all", action="store_true", help="all steps at once")


COMMANDS = (Command("learn", "teach Paxos, step by step", _TEXT, (_flags,), learn),)
