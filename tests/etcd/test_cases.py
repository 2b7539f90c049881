"""Every endpoint and every error of the HTTP/JSON API, at a real etcd and at ours."""

import pytest

from tests.etcd.cases import CASES
from tests.etcd.compare import run
from tests.etcd.servers import Server
from tests.etcd.steps import Case

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case, pair: tuple[Server, Server]) -> None:
    run(case, *pair)


def test_there_are_enough_cases_and_each_has_its_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 150
