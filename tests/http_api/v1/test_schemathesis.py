"""What `/openapi.json` promises, against a real node: no defect, and no answer that is not in it.

schemathesis makes requests from the description, ones that fit it and ones that do not.
"""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, GenerationMode, Response, openapi
from schemathesis.checks import CheckFunction
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from http_api.server import HttpServer
from kvstore.config import Config
from kvstore.replica.open import open_replica
from tests.support.examples import TIMES

EXAMPLES = 4 * TIMES
"""Of each operation, in each mode."""
WAIT_S = 60.0
STREAMS = {"/v1/watch": b"id: ", "/v1/overview/live": b"event: overview"}
"""What has no end, and how the first event of each begins."""
LEASE = "7"


def no_defect(context: CheckContext, response: Response, case: Case) -> None:
    """503 and 504 are answers like others, which must be in the description; 500 is a defect."""
    assert response.status_code != 500, response.text


CHECKS: list[CheckFunction] = [
    no_defect,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real replica that is its whole cluster, and its server, on a loop of their own."""
    config = Config(
        node_id=1,
        members={1: ("127.0.0.1", 0)},
        listen_peer=("127.0.0.1", 0),
        listen_client=("127.0.0.1", 0),
        data_dir=tmp_path_factory.mktemp("schemathesis") / "node",
        request_timeout_s=1.0,
    )
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    found: list[str] = []

    async def serve() -> None:
        replica = await open_replica(config)
        http = HttpServer(replica, config)
        await http.start()
        async with asyncio.timeout(WAIT_S):
            while not replica.status().ready:
                await asyncio.sleep(0.01)
        found.append(f"http://127.0.0.1:{http.address[1]}")
        started.set()
        await stop.wait()
        await http.stop()
        await replica.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(2 * WAIT_S), "the node did not start"
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(2 * WAIT_S)
    assert not thread.is_alive()
    loop.close()


@pytest.fixture(scope="module")
def operations(base_url: str) -> dict[str, APIOperation]:
    schema = openapi.from_url(f"{base_url}/openapi.json")
    found = (result.ok() for result in schema.get_all_operations())
    return {operation.label: operation for operation in found}


def prepare(session: requests.Session, base_url: str) -> None:
    """Something to find, so that not every answer is 404."""
    session.post(f"{base_url}/v1/leases", json={"ttl_s": 3600, "id": LEASE})
    for key in ("0", "a", "a/b"):
        session.put(f"{base_url}/v1/kv/{key}", params={"lease": LEASE}, data=b"\xff")


ACCOUNTS = ("/v1/users", "/v1/roles", "/v1/auth")
"""Many calls of one form: fewer examples of each."""


def known_names(operation: APIOperation) -> list[dict[str, str]]:
    """Path parameters that exist here; {} lets them be made up."""
    names = {"{key}": {"key": "a"}, "{id}": {"id": LEASE}, "{slug}": {"slug": "no-quorum"}}
    names |= {"{slot}": {"slot": "1"}, "{file}": {"file": "main.js"}}
    return [{}] + [known for name, known in names.items() if name in operation.path]


def run_stream(case: Case, session: requests.Session, base_url: str, first: bytes) -> int:
    """A stream has no end to wait for: its head and its first event are looked at."""
    arguments = case.as_transport_kwargs(base_url=base_url)
    with session.request(**arguments, stream=True, timeout=WAIT_S) as got:
        if got.status_code != 200 or case.method.upper() != "GET":
            case.validate_response(got, checks=CHECKS[:-1])
        else:
            assert got.headers["content-type"] == "text/event-stream"
            assert next(got.iter_lines()).startswith(first)
        return got.status_code


def exercise(operation: APIOperation, mode: GenerationMode, base_url: str) -> dict[int, int]:
    """Statuses answered, and how often. Fails with the request that was answered wrongly."""
    statuses: dict[int, int] = {}
    session, last = requests.Session(), 0
    kinds = [
        operation.as_strategy(generation_mode=mode, **_fixed(path))
        for path in known_names(operation)
    ]

    @settings(
        max_examples=EXAMPLES * len(kinds) // (3 if operation.path.startswith(ACCOUNTS) else 1),
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(kinds))
    def run(case: Case) -> None:
        nonlocal last
        if last in (0, 404):
            prepare(session, base_url)
        if (first := STREAMS.get(operation.path)) is not None:
            status = run_stream(case, session, base_url, first)
        else:
            answer = case.call(base_url=base_url, session=session, timeout=WAIT_S)
            case.validate_response(answer, checks=CHECKS)
            status = answer.status_code
        last = status
        statuses[status] = statuses.get(status, 0) + 1

    run()
    session.close()
    return statuses


def _fixed(path: dict[str, str]) -> dict[str, Any]:
    return {"path_parameters": path} if path else {}


@pytest.mark.proof  # what hypothesis makes of the schemas takes long, however few examples
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_every_answer_is_described(
    mode: GenerationMode, operations: dict[str, APIOperation], base_url: str
) -> None:
    assert len(operations) > 20
    failures, total = [], {}
    for label, operation in operations.items():
        try:
            statuses = exercise(operation, mode, base_url)
        except Exception as error:
            if type(error).__name__ in ("Unsatisfiable", "SkipTest"):
                continue  # nothing about it can be wrong
            failures.append(f"{label}: {type(error).__name__}: {error}")
        else:
            for status, count in statuses.items():
                total[status] = total.get(status, 0) + count
    print(f"{mode}: {sum(total.values())} requests, answers {dict(sorted(total.items()))}")
    assert not failures, "\n\n".join(failures)
    assert 500 not in total
