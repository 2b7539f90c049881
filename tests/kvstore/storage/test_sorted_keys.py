"""Keys of the overlay in order: against a plain sorted list, and with a bound on each step."""

import random

import pytest

from kvstore.storage import sorted_keys
from kvstore.storage.sorted_keys import SortedKeys


@pytest.mark.parametrize(("chunk", "waiting"), [(2, 1), (3, 7), (64, 16)])
def test_like_a_sorted_list(chunk: int, waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_keys, "CHUNK_KEYS", chunk)
    monkeypatch.setattr(sorted_keys, "WAITING_KEYS_MAX", waiting)
    draw = random.Random(chunk)
    keys, known = SortedKeys(), set[bytes]()
    for _ in range(300):
        new = {b"%d" % draw.randrange(2_000) for _ in range(draw.choice((1, 1, 1, 40)))} - known
        known |= new
        if len(new) == 1:
            keys.add(*new)
        else:
            keys.add_all(list(new))
        start, end = (b"%d" % draw.randrange(2_000) for _ in range(2))
        for bound in (end, None):
            expected = sorted(
                key for key in known if start <= key and (bound is None or key < bound)
            )
            assert list(keys.between(start, bound)) == expected
            assert list(keys.between(start, bound, reverse=True)) == expected[::-1]
    assert list(keys) == sorted(known)


def test_no_step_handles_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many were added before, one more moves no more than a few chunks' worth of keys."""
    keys = SortedKeys()
    for at in random.Random(1).sample(range(1 << 40), 30_000):
        keys.add(b"%016d" % at)
    sorted_lengths: list[int] = []

    class Counting(list[bytes]):
        def sort(self, **_: object) -> None:
            sorted_lengths.append(len(self))
            super().sort()

    keys._chunks = [Counting(chunk) for chunk in keys._chunks]
    assert max(map(len, keys._chunks)) <= 2 * sorted_keys.CHUNK_KEYS
    assert len(keys._waiting) < sorted_keys.WAITING_KEYS_MAX
    for at in random.Random(2).sample(range(1 << 40), 1_000):
        keys.add(b"x%016d" % at)
    assert max(sorted_lengths, default=0) <= 4 * sorted_keys.CHUNK_KEYS
