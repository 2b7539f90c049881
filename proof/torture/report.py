"""The verdict on a run, for people and for programs."""

from dataclasses import asdict, dataclass
from typing import Any

from proof.histories.linearizability import Verdict, check
from proof.torture.nemesis import TWO_AT_ONCE
from proof.torture.run import Findings, not_yet
from proof.torture.timeline import FaultRow, availability, fault_rows, longest_gap_s

SHOWN_MAX = 5
_OUTCOMES = ("ok", "held not", "refused", "unknown")


@dataclass
class RunReport:
    """What a run showed. It passed if there is nothing to complain of."""

    findings: Findings
    verdict: Verdict
    faults: list[FaultRow]
    availability: float
    longest_gap_s: float

    @property
    def passed(self) -> bool:
        """Linearizable, nothing lost, and the run did something."""
        return not self.complaints()

    def complaints(self) -> list[str]:
        """Why the run is no success; empty if it is one."""
        findings, back = self.findings, self.findings.read_back
        found = list(findings.problems) + list(findings.record.complaints)
        if (more := findings.record.complaints_count - len(findings.record.complaints)) > 0:
            found.append(f"and {more} further complaints of the clients")
        found += [f"not linearizable: {failure.describe()}" for failure in self.verdict.failures]
        if self.verdict.undecided:
            found.append(f"neither proved nor disproved: {', '.join(self.verdict.undecided)}")
        found += [f"lost: {text}" for text in back.lost]
        found += back.problems
        if not findings.plan.endpoints:
            found += [f"not read back: {text}" for text in back.unread]
            if not findings.injected:
                found.append("no fault was injected: the run shows nothing")
            met = findings.met.items()
            found += [f"a fault was injected that no node met: {w}: 0" for w, n in met if not n]
            if findings.plan.demanded:
                missing = not_yet(findings.plan, findings.injected)
                found += [f"{name} was demanded, and not injected" for name in missing]
        if not findings.record.acknowledged:
            found.append("no write was acknowledged: the run shows nothing")
        elif not back.checked:
            found.append("the acknowledged writes were not read back")
        return found

    def text(self) -> str:
        """The report for people."""
        lines = [*self._head(), "", *self._operations(), "", *self._found()]
        if self.faults:
            lines += ["", *self._faults()]
        lines += self._met()
        complaints = self.complaints()
        lines += ["", "FAILED" if complaints else "PASSED"]
        lines += [f"- {text}" for text in complaints[:SHOWN_MAX]]
        if len(complaints) > SHOWN_MAX:
            lines.append(f"- and {len(complaints) - SHOWN_MAX} more; the JSON report has all")
        return "\n".join(lines)

    def _head(self) -> list[str]:
        plan = self.findings.plan
        nodes = len(plan.endpoints) or plan.nodes
        return [
            f"{nodes} nodes, {plan.clients} clients, {self.findings.load_s:.0f} s of load at most "
            f"{plan.rate:g} calls/s, seed {plan.seed}, network: {self.findings.network}"
        ]

    def _operations(self) -> list[str]:
        counts = self.findings.record.counts
        kinds = sorted({kind for kind, _ in counts})
        lines = [f"{'operation':20}" + "".join(f"{name:>10}" for name in _OUTCOMES)]
        for kind in kinds:
            cells = (f"{counts.get((kind, name), 0):>10,}" for name in _OUTCOMES)
            lines.append(f"{kind:20}{''.join(cells)}")
        return lines

    def _found(self) -> list[str]:
        verdict, back, record = self.verdict, self.findings.read_back, self.findings.record
        leases = record.leases
        name = "linearizable" if verdict.linearizable else "NOT PROVED linearizable"
        if verdict.failures:
            name = "NOT LINEARIZABLE"
        unread = f", {len(back.unread)} could not be read" if back.unread else ""
        agreed = "equal" if back.revision else "not found equal"
        return [
            f"history              {name}: {verdict.operations:,} operations on {verdict.keys:,} "
            f"keys, {verdict.states:,} states visited",
            f"acknowledged writes  {len(record.acknowledged):,}, of which {back.checked:,} were "
            f"looked for at their revisions: {len(back.lost)} lost{unread}",
            f"nodes                states {agreed}; all ready {self.findings.ready_s:.1f} s after "
            "the load",
            f"leases               {leases.granted:,} granted, kept alive {leases.kept:,} times, "
            f"{leases.looked:,} looks at their keys; {leases.ended:,} ended",
            f"availability         {self.availability:.1%} of windows of 100 ms had an "
            f"acknowledged write; longest gap {self.longest_gap_s:.2f} s",
        ]

    def _faults(self) -> list[str]:
        lines = [
            f"{'fault':20}{'injected':>9}{'available':>11}    longest gap without a write, s",
            f"{'':40}    {'min':>6}{'median':>8}{'max':>8}",
        ]
        lines += [
            f"{row.kind:20}{row.injected:>9}{row.availability:>10.0%}     "
            f"{row.gap_min_s:>6.2f}{row.gap_median_s:>8.2f}{row.gap_max_s:>8.2f}"
            for row in self.faults
        ]
        return lines

    def _met(self) -> list[str]:
        findings, lines = self.findings, []
        if findings.met:
            lines += ["", "what the nodes met of the faults"]
            lines += [f"{count:>10,}  {what}" for what, count in sorted(findings.met.items())]
        if not findings.plan.demanded and findings.injected:
            missing = not_yet(findings.plan, findings.injected)
            if missing:
                lines += ["", f"no time for: {', '.join(missing)}"]
        lines += [f"without {name}: {reason}" for name, reason in findings.skipped.items()]
        return lines

    def document(self) -> dict[str, Any]:
        """The report for programs."""
        findings, back, record = self.findings, self.findings.read_back, self.findings.record
        times = record.acknowledged_at_s
        plan = {name: value for name, value in asdict(findings.plan).items() if name != "data_dir"}
        return {
            "passed": self.passed,
            "complaints": self.complaints(),
            "plan": plan,
            "network": findings.network,
            "load_s": findings.load_s,
            "ready_s": findings.ready_s,
            "operations": [
                {"kind": kind, "outcome": outcome, "count": count}
                for (kind, outcome), count in sorted(record.counts.items())
            ],
            "linearizable": self.verdict.linearizable,
            "undecided_keys": list(self.verdict.undecided),
            "failures": [failure.describe() for failure in self.verdict.failures],
            "acknowledged": len(record.acknowledged),
            "looked_for": back.checked,
            "lost": len(back.lost),
            "unknown_writes": record.unknown_writes,
            "leases": asdict(record.leases),
            "met": dict(findings.met),
            "skipped": findings.skipped,
            "revision": back.revision,
            "availability": self.availability,
            "longest_gap_s": self.longest_gap_s,
            "faults": [asdict(row) for row in self.faults],
            "injected": [
                asdict(fault)
                | {"longest_gap_s": longest_gap_s(times, fault.began_s, fault.until_s)}
                for fault in findings.injected
            ],
        }


def judge(findings: Findings) -> RunReport:
    """Check the history and sum up. May take seconds of computing."""
    times, load_s = findings.record.acknowledged_at_s, findings.load_s
    return RunReport(
        findings,
        check(findings.record.history.operations),
        _ordered(fault_rows(times, findings.injected)),
        availability(times, 0.0, load_s),
        longest_gap_s(times, 0.0, load_s),
    )


def _ordered(rows: list[FaultRow]) -> list[FaultRow]:
    return sorted(rows, key=lambda row: (row.kind == TWO_AT_ONCE, row.kind))
