"""The audit log: a chain that shows what was changed, and that holds up nobody."""

import os
from pathlib import Path

import orjson
import pytest

from kvstore import audit_log
from kvstore.audit_log import AuditLog, verify


def written(path: Path, *numbers: int) -> list[bytes]:
    """The lines after these records were added."""
    log = AuditLog(str(path), 1)
    for number in numbers:
        log.record({"number": number})
    log.close()
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_log_is_whole_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path, 1, 2)
    lines = written(path, 3)
    verdict = verify(lines)
    assert (verdict.fault, verdict.records, verdict.missing) == ("", 5, 0)
    assert [orjson.loads(line).get("number") for line in lines] == [None, 1, 2, None, 3]
    assert path.stat().st_mode & 0o777 == 0o600
    assert verify([]).fault == ""


@pytest.mark.parametrize("at", range(5))
def test_every_change_is_found(tmp_path: Path, at: int) -> None:
    lines = written(tmp_path / "log", 1, 2, 3, 4)
    changed = [*lines]
    changed[at] = changed[at].replace(b'"node":1', b'"node":2')
    found = verify(changed)
    # A change of the last line shows once another follows, or by its hash.
    assert found.fault if at < 4 else found.last != verify(lines).last
    assert not found.fault or found.line == at + 2
    removed = [*lines[:at], *lines[at + 1 :]]
    assert verify(removed).fault if at < 4 else verify(removed).last != verify(lines).last
    twice = [*lines[: at + 1], *lines[at:]]
    assert verify(twice).fault
    assert verify([*lines[:at], b"{}\n", *lines[at:]]).fault
    assert verify([*lines[:at], b"no json\n", *lines[at:]]).fault


def test_a_line_that_a_crash_cut_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = written(path, 1, 2)
    path.write_bytes(b"".join(lines)[:-9])
    assert verify(path.read_bytes().splitlines(keepends=True)).fault == "is not whole"
    lines = written(path, 3)
    assert verify(lines).fault == "" and orjson.loads(lines[-2])["torn"] is True
    without = [line for line in lines if b'"torn"' not in line]
    assert verify(without).fault


def test_what_finds_no_room_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "WAITING_MAX", 3)
    path = tmp_path / "log"
    log = AuditLog(str(path), 1)
    with log._changed:  # the disk stands still
        for number in range(10):
            if len(log._waiting) >= 3:
                log._lose(1)
            else:
                log._waiting.append({"number": number})
        lost = log.dropped
    assert lost > 0
    while log._waiting:
        with log._changed:
            log._changed.notify()
    log.record({"number": 99})
    log.close()
    verdict = verify(path.read_bytes().splitlines(keepends=True))
    assert (verdict.fault, verdict.missing) == ("", lost)


def test_a_disk_that_fails_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    log = AuditLog("/dev/full", 1)
    for number in range(5):
        log.record({"number": number})
    log.close()
    assert log.dropped == 6
    assert caplog.text.count("cannot be written: [Errno 28]") == 1


def test_a_place_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AuditLog(str(tmp_path / "none" / "log"), 1)
