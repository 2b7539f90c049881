"""JSON lines: any key and value comes back, and what is no line is told with its number."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.backup.lines import KeyLine, LeaseLine, key_line, lease_line, parse_line
from kvstore.client import Entry
from kvstore.errors import BackupError

LEASES = st.integers(-(1 << 62), 1 << 62)


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=50), LEASES, st.booleans())
def test_any_key_comes_back(key: bytes, value: bytes, lease: int, revisions: bool) -> None:
    entry = Entry(key, value, 3, 4, 5, lease)
    line = key_line(entry, revisions=revisions, leases=True)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert ("mod_revision" in json.loads(line)) == revisions
    assert parse_line(line, 1, True) == KeyLine(key, value, lease)
    assert parse_line(line, 1, False) == KeyLine(key, value, 0)


def test_a_lease_comes_back() -> None:
    assert parse_line(lease_line(-7, 60), 1, True) == LeaseLine(-7, 60)
    assert parse_line(lease_line(-7, 60), 1, False) is None
    assert parse_line(b"  \n", 1, True) is None


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"key":"a"}',
        b'{"value":"a"}',
        b'{"key":"","value":"a"}',
        b'{"key":"a","key_base64":"YQ==","value":""}',
        b'{"key":"a","value_base64":"Y"}',
        b'{"key":"a","value":"b","colour":"red"}',
        b'{"key":"a","value":"b","lease":"seven"}',
        b'{"key":"a","lease":"7","ttl_s":60}',
        b'{"ttl_s":60}',
        b'\xff{"key":"a","value":"b"}',
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(BackupError, match="line 12: "):
        parse_line(line, 12, True)
