"""The command `kvstore torture`: options, the directory, exit codes."""

import argparse
import asyncio
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import orjson

from kvstore.client.attempts import parse_endpoints
from kvstore.errors import InvalidArgument
from kvstore_cli.descriptors import raise_limit
from proof.processes.network import NetworkUnavailable
from proof.torture.faults.catalogue import FAULTS
from proof.torture.plan import Plan, check_data_dir, choose_faults
from proof.torture.report import RunReport, judge
from proof.torture.run import FaultUnavailable, Findings
from proof.torture.run import run as run_plan

PASSED, FAILED = 0, 1
_SEED_MAX = 1 << 31


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan of a parsed command line. Raises InvalidArgument."""
    endpoints = parse_endpoints(options.endpoints) if options.endpoints is not None else ()
    if endpoints and options.data_dir is not None:
        raise InvalidArgument("data-dir", "data-dir: not with --endpoints; no nodes are started")
    check_data_dir(options.data_dir)
    if options.json is not None and not options.json.parent.is_dir():
        raise InvalidArgument("json", f"json: {options.json.parent} is no directory")
    return Plan(
        nodes=options.nodes,
        clients=options.clients,
        duration_s=60.0 * options.minutes,
        rate=options.rate,
        seed=secrets.randbelow(_SEED_MAX) if options.seed is None else options.seed,
        faults=choose_faults(options.faults, options.nodes, endpoints),
        demanded=options.faults is not None,
        network=options.network,
        data_dir=options.data_dir,
        endpoints=endpoints,
    )


def run(options: argparse.Namespace) -> int:
    """Run, print the report; PASSED or FAILED. Raises InvalidArgument, and KeyboardInterrupt once
    everything that was made is gone."""
    if options.faults == "list":
        for fault in FAULTS.values():
            _say(f"{fault.name:20}{fault.summary}")
        return PASSED
    plan = plan_of(options)
    raise_limit()  # many connections are held at once
    with _directory(plan) as directory:
        try:
            with _signals_as_interrupts(), asyncio.Runner() as runner:
                findings = runner.run(run_plan(plan, directory, _say))
        except NetworkUnavailable as error:
            raise InvalidArgument("network", f"network: {error}") from None
        except FaultUnavailable as error:
            raise InvalidArgument("faults", f"faults: {error}") from None
        report = judge(findings)
        _say(f"\n{report.text()}")
        if options.json is not None:
            document = orjson.dumps(report.document(), option=orjson.OPT_INDENT_2)
            options.json.write_bytes(document + b"\n")
        if not report.passed:
            _keep(directory, report, findings)
    return PASSED if report.passed else FAILED


def _keep(directory: Path, report: RunReport, findings: Findings) -> None:
    """Leave what is needed to understand the failure beside the nodes' logs."""
    with (directory / "history.jsonl").open("wb") as file:
        encode = msgspec.json.Encoder(enc_hook=str).encode
        for operation in findings.record.history.operations:
            kind = type(operation.call).__name__
            file.write(encode({"kind": kind, **msgspec.to_builtins(operation)}) + b"\n")
    document = orjson.dumps(report.document(), option=orjson.OPT_INDENT_2)
    (directory / "report.json").write_bytes(document + b"\n")
    _say(f"\nLogs, data, history and report: {directory}/")


@contextmanager
def _directory(plan: Plan) -> Iterator[Path]:
    """Where nodes have their files. A temporary one goes unless it holds evidence."""
    if plan.data_dir is not None:
        plan.data_dir.mkdir(parents=True, exist_ok=True)
        yield plan.data_dir.resolve()
        return
    directory = Path(tempfile.mkdtemp(prefix="kvstore-torture-"))
    try:
        yield directory
    finally:
        if not (directory / "report.json").exists():
            shutil.rmtree(directory)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run in order, as Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    # A reader that went away is no reason to leave nodes and namespaces behind.
    with suppress(BrokenPipeError):
        print(text, flush=True)
