"""Which keys stand in the queue of a lock: places, and nothing that merely lies below its name."""

import pytest

from kvstore.commands.commands import Grant, Put, Revoke
from kvstore.state.queues import place_lease
from tests.support.driven_state import Driven

FOREIGN = (
    b"jobs",
    b"jobs/",
    b"jobs/report",
    b"jobs/1F",
    b"jobs/01",
    b"jobs/0",
    b"jobs/-0",
    b"jobs/5/",
    b"jobs/5/5",
    b"jobs/a/b/5",
    b"jobs/ffffffffffffffff",
    b"jobs/12345678901234567",
    b"jobs0",
    b"job/5",
    b"jobs2/5",
)


@pytest.mark.parametrize("key", FOREIGN)
def test_what_is_no_place(key: bytes) -> None:
    assert place_lease(b"jobs", key) is None


def test_whose_place_it_is() -> None:
    assert place_lease(b"jobs", b"jobs/309") == 777
    assert place_lease(b"jobs", b"jobs/-5") == -5
    assert place_lease(b"jobs", b"jobs/-8000000000000000") == -(1 << 63)
    assert place_lease(b"", b"/7fffffffffffffff") == (1 << 63) - 1
    assert place_lease(b"a/b", b"a/b/5") == 5


def test_only_places_count(driven: Driven) -> None:
    state = driven.state
    driven.apply(Grant(5, 60), Grant(6, 60), Grant(7, 60))
    driven.apply(*(Put(key, b"v", None, 5) for key in FOREIGN))
    driven.apply(Put(b"jobs/9", b"data, on no lease"))
    assert state.queue_first(b"jobs") is None
    assert state.queue_before(b"jobs", state.revision + 1) is None
    driven.apply(Put(b"jobs/7", b"first", None, 7), Put(b"jobs/5", b"second", None, 5))
    second = state.revision
    driven.apply(*(Put(key + b"x/5", b"v", None, 5) for key in FOREIGN))
    first = state.queue_first(b"jobs")
    assert first is not None and (first.key, first.value, first.lease) == (b"jobs/7", b"first", 7)
    before = state.queue_before(b"jobs", second)
    assert before is not None and (before.key, before.lease) == (b"jobs/7", 7)
    after = state.queue_before(b"jobs", state.revision + 1)
    assert after is not None and (after.key, after.create_revision) == (b"jobs/5", second)
    inner = state.queue_first(b"jobs/a/b")
    assert inner is not None and inner.key == b"jobs/a/b/5"


def test_a_place_overwritten_without_its_lease_lasts_as_long_as_the_lease(driven: Driven) -> None:
    state = driven.state
    driven.apply(Grant(5, 60), Put(b"jobs/5", b"", None, 5), Put(b"jobs/5", b"by hand"))
    first = state.queue_first(b"jobs")
    assert first is not None and (first.key, first.lease) == (b"jobs/5", 0)
    driven.apply(Revoke(5))
    assert state.get(b"jobs/5") is not None and state.queue_first(b"jobs") is None


def test_a_place_on_another_lease_is_one(driven: Driven) -> None:
    """etcd puts a leader that proclaims without naming its lease on a new one."""
    driven.apply(Grant(5, 60), Grant(6, 60), Put(b"jobs/5", b"", None, 5))
    driven.apply(Put(b"jobs/5", b"", None, 6), Revoke(5))
    first = driven.state.queue_first(b"jobs")
    assert first is not None and (first.key, first.lease) == (b"jobs/5", 6)
