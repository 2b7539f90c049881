"""`kvstore simulate`: many seeds, one seed, a scenario from a file, or a lesson."""

import sys
from argparse import Namespace
from itertools import count
from pathlib import Path

import msgspec

from kvstore.errors import InvalidArgument
from proof.simulation.cluster.fault_plan import FAULTS
from proof.simulation.cluster.scenario import Scenario
from proof.simulation.cluster.world import RunOutcome, run
from proof.simulation.lessons import LESSONS, tell
from proof.simulation.runner import Swarm, Total, run_many
from proof.simulation.shrink import Shrinker
from proof.simulation.tell.page import render
from proof.simulation.tell.story import story
from proof.simulation.tell.trace import Recording

FAILED = 1
BAR_WIDTH = 30


def simulate(options: Namespace) -> int:
    """Run what is asked for; 0 if nothing was violated. Raises InvalidArgument."""
    if options.faults == "list":
        print("\n".join(FAULTS))
        return 0
    if options.lesson is not None:
        return _lesson(options)
    if options.replay is not None:
        try:
            scenario = msgspec.json.decode(options.replay.read_bytes(), type=Scenario)
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidArgument("replay", f"replay: {error}") from None
        return _one(scenario, options, f"kvstore simulate --replay {options.replay}")
    swarm = _swarm(options)
    if options.seed is not None:
        return _one(swarm.draw(options.seed), options, _command(options.seed, options))
    return _many(swarm, options)


def _swarm(options: Namespace) -> Swarm:
    kinds = FAULTS if options.faults is None else tuple(options.faults.split(","))
    for kind in kinds:
        if kind not in FAULTS:
            raise InvalidArgument("faults", f"faults: {kind!r} is none of {', '.join(FAULTS)}")
    for name, value, low, high in (
        ("nodes", options.nodes, 1, 7),
        ("jobs", options.jobs, 1, 256),
        ("seeds", options.seeds, 1, 10**9),
    ):
        if value is not None and not low <= value <= high:
            raise InvalidArgument(name, f"{name}: expected {low} to {high}, got {value}")
    return Swarm(options.nodes, kinds)


def _command(seed: int, options: Namespace) -> str:
    parts = ["kvstore simulate", f"--seed {seed}"]
    if options.nodes is not None:
        parts.append(f"--nodes {options.nodes}")
    if options.faults is not None:
        parts.append(f"--faults {options.faults}")
    return " ".join(parts)


def _lesson(options: Namespace) -> int:
    if options.lesson == "list":
        print("\n".join(f"{name:20} {lesson.about}" for name, lesson in LESSONS.items()))
        return 0
    if options.lesson not in LESSONS:
        raise InvalidArgument(
            "lesson", f"lesson: {options.lesson!r} is none of {', '.join(LESSONS)}"
        )
    recording = LESSONS[options.lesson]()
    print(tell(recording))
    if options.trace is not None:
        _write_page(options.trace, recording)
    return 0


def _write_page(path: Path, recording: Recording) -> None:
    path.write_text(render(recording), encoding="utf-8")
    print(f"\nThe picture is in {path}: open it in a browser.")


# -- one run --------------------------------------------------------------------------------


def _one(scenario: Scenario, options: Namespace, command: str) -> int:
    print("\n".join(scenario.lines()), flush=True)
    outcome = run(scenario, keep_trace=True)
    print(
        f"\n{outcome.virtual_s:.1f} virtual seconds, {outcome.messages} messages, "
        f"{outcome.answered} requests answered, {outcome.unanswered} not; "
        f"trace digest {outcome.digest}"
    )
    reached = sorted(outcome.reached.items())
    print("reached: " + ", ".join(f"{name} ({times})" for name, times in reached))
    if options.trace is not None:
        _write_page(options.trace, recording_of(outcome, command))
    if outcome.ok:
        print("\nNo invariant was violated.")
        return 0
    _tell_failure(outcome)
    return FAILED


def recording_of(outcome: RunOutcome, command: str) -> Recording:
    """A run for the page. Its trace must have been kept."""
    scenario = outcome.scenario
    verdict = str(outcome.violations[0]) if outcome.violations else "no invariant was violated"
    lines = scenario.lines()
    facts = [tuple(line.split(": ", 1)) for line in lines[1:5]]
    return Recording(
        title=f"Seed {scenario.seed}",
        summary=f"{lines[0].split(': ', 1)[1]}; {lines[5]}; {verdict}",
        command=command,
        nodes=tuple(range(1, scenario.nodes + 1)),
        clients=tuple(client.id for client in scenario.everybody),
        facts=(*((name, value) for name, value in facts), ("trace digest", outcome.digest)),
        events=tuple(outcome.events),
    )


def _tell_failure(outcome: RunOutcome) -> None:
    """Shrink it, and tell what is left."""
    print(f"\n{outcome.violations[0]}\n\nShrinking ...", flush=True)
    shrinker = Shrinker(outcome)
    small = run(shrinker.shrink().scenario, keep_trace=True)
    file = Path(f"simulation-failure-{small.scenario.seed}.json")
    file.write_bytes(msgspec.json.format(msgspec.json.encode(small.scenario), indent=1))
    faults, clients = len(small.scenario.faults), len(small.scenario.clients)
    operations = sum(client.operations for client in small.scenario.clients)
    print(
        f"{shrinker.runs} runs later: {faults} faults, {clients} clients, {operations} operations "
        "are left.\n"
    )
    print("\n".join(small.scenario.lines()), end="\n\n")
    print("\n".join(story(small)))
    print(f"\nAgain: kvstore simulate --replay {file} --trace failure.html")


# -- many runs ------------------------------------------------------------------------------


def _many(swarm: Swarm, options: Namespace) -> int:
    seeds_max = options.seeds or (1000 if options.minutes is None else None)
    first = options.first_seed
    seeds = count(first) if seeds_max is None else range(first, first + seeds_max)
    limit_s = float("inf") if options.minutes is None else options.minutes * 60
    bar = _Bar(seeds_max, limit_s)
    total = run_many(
        swarm,
        seeds,
        jobs=options.jobs,
        until=lambda total: total.real_s >= limit_s or len(total.failed) >= 10,
        progress=bar.show,
    )
    bar.end()
    print("\n".join(total.table()))
    print(
        f"\n{total.runs} seeds from {first} on in {total.real_s:.0f} s: "
        f"{total.runs / total.real_s * 60:.0f} seeds a minute; "
        f"{total.virtual_s / 3600:.2f} virtual hours, {total.virtual_s / total.real_s:.0f} virtual "
        f"seconds in a real one; {total.messages} messages, {total.answered} requests answered, "
        f"{total.unanswered} not"
    )
    if not total.failed:
        print("No invariant was violated.")
        return 0
    for summary in total.failed:
        print(f"FAILED seed {summary.seed}: {summary.complaint.splitlines()[0]}")
    seed = total.failed[0].seed
    print(f"\nThe first of them: {_command(seed, options)}")
    _tell_failure(run(swarm.draw(seed)))
    return FAILED


class _Bar:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, runs_max: int | None, limit_s: float) -> None:
        self._runs_max = runs_max
        self._limit_s = limit_s
        self._terminal = sys.stderr.isatty()
        self._shown_s = 0.0

    def show(self, total: Total) -> None:
        """Called after every few runs."""
        if not self._terminal and total.real_s - self._shown_s < 10:
            return
        self._shown_s = total.real_s
        if self._runs_max is not None:
            share, of = total.runs / self._runs_max, f"{total.runs}/{self._runs_max}"
        else:
            share, of = min(1.0, total.real_s / self._limit_s), f"{total.runs}"
        filled = int(share * BAR_WIDTH)
        text = (
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {of} seeds, "
            f"{total.runs / total.real_s:.1f} a second, "
            f"{total.virtual_s / total.real_s:.0f}x real time, {len(total.failed)} failed"
        )
        print(f"\r{text}\033[K" if self._terminal else text, end="", file=sys.stderr, flush=True)
        if not self._terminal:
            print(file=sys.stderr)

    def end(self) -> None:
        """Leave the line."""
        if self._terminal:
            print(file=sys.stderr)
