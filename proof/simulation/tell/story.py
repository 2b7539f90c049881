"""A failure as a numbered story: what led to it, and nothing else, in the order it happened."""

import re
from collections.abc import Iterator

from proof.simulation.cluster.world import RunOutcome
from proof.simulation.judge.invariants import Violation
from proof.simulation.tell.trace import (
    Answered,
    Asked,
    FaultBegan,
    FaultEnded,
    Happened,
    Note,
    Sent,
    SlotIs,
    TraceEvent,
)

LINES_MAX = 80
STATES = ("started", "crashed", "failed", "paused", "resumed", "leader", "candidate", "defect")
LEADING = ("Prepare", "Promise", "Nack")


def story(outcome: RunOutcome) -> list[str]:
    """Numbered lines, the last of which is the violation. The trace must have been kept."""
    violation = outcome.violations[0] if outcome.violations else None
    told = list(_folded(_told(outcome.events, violation)))
    if len(told) > LINES_MAX:
        left_out = len(told) - LINES_MAX
        half = LINES_MAX // 4
        told = [*told[:half], f"... {left_out} events ...", *told[half + left_out :]]
    if violation is not None:
        told.append(f"{outcome.virtual_s * 1e3:10.3f} ms  VIOLATED  {violation}")
    return [f"{number:3}. {line}" for number, line in enumerate(told, 1)]


def _folded(lines: Iterator[str]) -> Iterator[str]:
    """Lines that only numbers tell apart are told once, and then counted."""
    shape, alike = "", 0
    for line in lines:
        before, shape = shape, re.sub(r"[0-9.]+", "#", line.strip())
        if shape == before:
            alike += 1
            continue
        if alike:
            yield f"{'':13}  ... and {alike} more like that"
        alike = 0
        yield line
    if alike:
        yield f"{'':13}  ... and {alike} more like that"


def _told(events: list[TraceEvent], violation: Violation | None) -> Iterator[str]:
    asked: dict[int, Asked] = {}
    for event in events:
        text = ""
        match event:
            case Asked():
                asked[event.id] = event
            case Answered(_, number, outcome, answer):
                question = asked[number]
                if _concerns(question, violation):
                    text = (
                        f"client {question.client} asked node {question.node} at "
                        f"{question.at_us / 1e3:.3f} ms: {question.text}; {outcome}: {answer}"
                    )
            case _:
                text = _line(event, violation)
        if text:
            yield f"{event.at_us / 1e3:10.3f} ms  {text}"


def _concerns(question: Asked, violation: Violation | None) -> bool:
    if violation is None or violation.key is None:
        return violation is None or violation.slot is None
    return question.key in (violation.key, "")


def _line(event: TraceEvent, violation: Violation | None) -> str:
    slot = None if violation is None else violation.slot
    match event:
        case FaultBegan(_, _, _, text):
            return f"FAULT     {text}"
        case FaultEnded(_, number):
            return f"          fault {number} is over"
        case Happened(_, node, name, text) if name in STATES:
            return f"node {node}    {name}{': ' if text else ''}{text}"
        case Note(_, text):
            return text
        case SlotIs(_, node, number, state, ballot, value) if number == slot:
            return f"node {node}    slot {number} {state} in {ballot}: {value}"
        case Sent(_, _, sender, to, name, text, number):
            if (slot is not None and number == slot) or (slot is not None and name in LEADING):
                return f"{sender} -> {to}    {text}"
    return ""
