"""Random sequences of requests, at a real etcd and at ours, shrunk when they differ.

A few by default. All that are promised:

    SEQUENCES=2000 python -m pytest tests/etcd/test_sequences.py

SEED=2 and so on gives others.
"""

import contextlib
import os

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.etcd.compare import Difference, Session, check
from tests.etcd.requests_at_random import Maker, shrink, smaller
from tests.etcd.servers import Server
from tests.etcd.steps import Call, everything, grant, put
from tests.support.examples import TIMES

SEQUENCES = int(os.environ.get("SEQUENCES", 30 * TIMES))
SEED = int(os.environ.get("SEED", "1"))
LENGTH = 20

_REQUEST = st.integers(0, (1 << 32) - 1).map(lambda number: Maker(number).request())


def difference(requests: list[Call], pair: tuple[Server, Server]) -> str:
    """What differs first when both servers get these requests, or ""."""
    same_system = type(pair[0]) is type(pair[1])
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(contextlib.closing(Session(server))) for server in pair]
        for session in sessions:
            session.begin()
        for request in [grant(1), *requests, everything()]:
            answers = [session.do(request) for session in sessions]
            try:
                check(request, *answers, same_system=same_system)
            except Difference as found:
                return str(found)
    return ""


@pytest.mark.integration
@seed(SEED)
@settings(
    max_examples=SEQUENCES, database=None, print_blob=False,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(requests=st.lists(_REQUEST, min_size=LENGTH, max_size=LENGTH))
def test_random_sequences(requests: list[Call], pair: tuple[Server, Server]) -> None:
    if difference(requests, pair):
        least = shrink(requests, lambda fewer: bool(difference(fewer, pair)))
        shown = "\n".join(f"{request.path} {request.body}" for request in least)
        pytest.fail(f"after lease/grant 1:\n{shown}\n{difference(least, pair)}", pytrace=False)


def test_shrinking_finds_the_least_that_differs() -> None:
    requests = [Maker(number).request() for number in range(LENGTH)]
    requests[7] = put("a", "1", lease="1", prev_kv=True)

    def differs(fewer: list[Call]) -> bool:
        return any(call.path == "/v3/kv/put" and "lease" in call.body for call in fewer)

    assert [call.body for call in shrink(requests, differs)] == [{"lease": "1"}]
    assert list(smaller({"a": [1, {"b": 2}]})) == [
        {},
        {"a": [{"b": 2}]},
        {"a": [1]},
        {"a": [1, {}]},
    ]
