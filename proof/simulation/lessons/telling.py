"""A lesson as plain text for the terminal: numbered sentences, and what happens between them."""

import textwrap
from collections.abc import Iterator

from proof.simulation.tell.trace import (
    Answered,
    Asked,
    Happened,
    Lost,
    Note,
    Recording,
    Sent,
    SlotIs,
    TraceEvent,
)

WIDTH = 100
INDENT = " " * 4


def tell(recording: Recording) -> str:
    """The whole recording as text, to be read from top to bottom."""
    lines = [recording.title, "=" * len(recording.title), ""]
    lines += textwrap.wrap(recording.summary, WIDTH)
    lines.append("")
    lines += [f"{INDENT}{name}: {value}" for name, value in recording.facts]
    step = 0
    sent = {event.id: event for event in recording.events if isinstance(event, Sent)}
    for group in _groups(recording.events):
        first = group[0]
        if isinstance(first, Note):
            step += 1
            number = f"{step}. "
            about = "" if first.node is None else f"[node {first.node}] "
            hanging = " " * len(number)
            text = textwrap.wrap(
                about + first.text, WIDTH, initial_indent=number, subsequent_indent=hanging
            )
            lines += ["", *text]
        elif line := _line(group, sent):
            lines.append(f"{INDENT}{first.at_us / 1000:6.1f} ms  {line}")
    lines += ["", f"To see it again: {recording.command}", ""]
    return "\n".join(lines)


def _groups(events: tuple[TraceEvent, ...]) -> Iterator[list[TraceEvent]]:
    """Events one by one, but the same message to several nodes at once."""
    group: list[TraceEvent] = []
    for event in events:
        if group and not _goes_with(group[0], event):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


def _goes_with(first: TraceEvent, event: TraceEvent) -> bool:
    if not isinstance(first, Sent) or not isinstance(event, Sent):
        return False
    return (first.at_us, first.sender, first.text) == (event.at_us, event.sender, event.text)


def _line(group: list[TraceEvent], sent: dict[int, Sent]) -> str:
    """One line for what a reader needs; arrivals, disks and shading are left to the picture."""
    match group[0]:
        case Sent() as first:
            receivers = ", ".join(str(e.to) for e in group if isinstance(e, Sent))
            return f"{first.sender} -> {receivers}  {first.text}"
        case Lost(_, id, reason):
            message = sent[id]
            return f"{message.sender} -x {message.to}  {message.name} never arrives: {reason}"
        case Happened(_, node, name, text):
            return f"node {node}  {name}" + (f": {text}" if text else "")
        case SlotIs(_, node, slot, "chosen", _, value):
            return f"node {node}  knows that {value or 'a no-op'} is chosen in slot {slot}"
        case Asked(_, _, client, node, text):
            return f"client {client} asks node {node}: {text}"
        case Answered(_, id, outcome, text):
            return f"the client hears: {outcome}: {text}"
    return ""
