"""`kvstore put`, `get` and the others against a scripted node: output and exit codes."""

import asyncio
import io
import json
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from kvstore_cli.main import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    requests: list[web.BaseRequest]
    bodies: list[bytes]


def entry_response(body: bytes) -> web.Response:
    headers = {"ETag": '"7"', "X-Create-Revision": "5", "X-Version": "2"}
    return web.Response(body=body, headers=headers)


def problem(status: int, outcome: str = "not-applied", kind: str = "x") -> web.Response:
    body = {
        "type": f"/problems/{kind}",
        "detail": "so it is",
        "outcome": outcome,
        "mod_revision": 9,
    }
    return web.json_response(body, status=status, content_type="application/problem+json")


def kvstore(
    capfdbinary: pytest.CaptureFixture[bytes], response: web.Response, *words: str
) -> Outcome:
    """Run the command line in a thread, against a node that gives this one answer to all."""
    requests: list[web.BaseRequest] = []
    bodies: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        requests.append(request)
        bodies.append(await request.read())
        return web.Response(
            status=response.status, body=response.body, headers=response.headers.copy()
        )

    async def run() -> int:
        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        flags = ["--endpoints", f"{host}:{port}", "--timeout", "0.4"]
        try:
            return await asyncio.to_thread(main, [words[0], *flags, *words[1:]])
        finally:
            await runner.cleanup()

    code = asyncio.run(run())
    out, err = capfdbinary.readouterr()
    return Outcome(code, out.decode(errors="surrogateescape"), err.decode(), requests, bodies)


Capture = pytest.CaptureFixture[bytes]
WRITTEN = {"revision": 8, "version": 3}


def test_put_says_what_it_did(capfdbinary: Capture) -> None:
    done = kvstore(capfdbinary, web.json_response(WRITTEN), "put", "k", "v")
    assert (done.code, done.out) == (0, "revision 8, version 3\n")
    assert done.bodies == [b"v"]


def test_put_in_json(capfdbinary: Capture) -> None:
    done = kvstore(capfdbinary, web.json_response(WRITTEN), "put", "k", "v", "--json")
    assert json.loads(done.out) == WRITTEN


def test_put_from_a_file(capfdbinary: Capture, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"\x00\xff\n")
    done = kvstore(capfdbinary, web.json_response(WRITTEN), "put", "k", "--file", str(file))
    assert done.bodies == [b"\x00\xff\n"]


def test_put_from_stdin(capfdbinary: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xfe piped\n")))
    done = kvstore(capfdbinary, web.json_response(WRITTEN), "put", "k", "-")
    assert done.bodies == [b"\xfe piped\n"]


@pytest.mark.parametrize(
    "words",
    [
        ("put", "k"),
        ("put", "k", "v", "--file", "f"),
        ("put", "k", "--file", "/no/such/file"),
        ("put", "", "v"),
        ("put", "!", "v", "--key-base64"),
        ("put", "k", "v", "--if-absent", "--if-exists"),
    ],
)
def test_what_cannot_be_put_is_a_usage_error(capfdbinary: Capture, words: tuple[str, ...]) -> None:
    done = kvstore(capfdbinary, web.json_response(WRITTEN), *words)
    assert done.code == 2 and not done.requests and "kvstore: " in done.err


def test_get_writes_the_bytes(capfdbinary: Capture) -> None:
    done = kvstore(capfdbinary, entry_response(b"\xff\x00"), "get", "k")
    assert (done.code, done.out.encode(errors="surrogateescape")) == (0, b"\xff\x00")


def test_get_in_json(capfdbinary: Capture) -> None:
    done = kvstore(capfdbinary, entry_response(b"\xff"), "get", "/w==", "--key-base64", "--json")
    found = json.loads(done.out)
    assert (found["key_base64"], found["value_base64"], found["mod_revision"]) == (
        "/w==",
        "/w==",
        7,
    )
    assert done.requests[0].raw_path.startswith("/v1/kv/%FF?")


def test_get_of_nothing(capfdbinary: Capture) -> None:
    done = kvstore(capfdbinary, problem(404, kind="key-not-found"), "get", "k")
    assert (done.code, done.out, done.err) == (1, "", "kvstore: not found: k\n")


@pytest.mark.parametrize(
    ("response", "code", "says"),
    [
        (problem(400), 2, "so it is"),
        (problem(401), 2, "so it is"),
        (problem(403), 2, "so it is"),
        (problem(412), 3, "so it is"),
        (problem(503), 4, "safe to try again"),
        (problem(504, "unknown"), 5, "may have been applied"),
        (web.Response(status=502, text="bad gateway"), 5, "may have been applied"),
        (web.Response(text="hello, I am something else"), 5, "cannot read"),
    ],
)
def test_exit_codes(capfdbinary: Capture, response: web.Response, code: int, says: str) -> None:
    done = kvstore(capfdbinary, response, "put", "k", "v")
    assert done.code == code and says in done.err and done.out == ""


@pytest.mark.parametrize(("deleted", "code"), [(1, 0), (0, 1)])
def test_del(capfdbinary: Capture, deleted: int, code: int) -> None:
    response = web.json_response({"revision": 8, "deleted": deleted})
    assert kvstore(capfdbinary, response, "del", "k").code == code


def test_list(capfdbinary: Capture) -> None:
    item = {"create_revision": 1, "mod_revision": 2, "version": 1}
    items = [{**item, "key": "a\n", "value": "grün"}, {**item, "key": "b", "value_base64": "/w=="}]
    page = web.json_response({"items": items, "more": False, "revision": 3})
    assert kvstore(capfdbinary, page, "list").out == "a\\n\tgrün\nb\t\\xff\n"
    assert kvstore(capfdbinary, page, "list", "--keys-only").out == "a\\n\nb\n"
    lines = kvstore(capfdbinary, page, "list", "--json").out.splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a\n", "b"]


@pytest.mark.parametrize(("leader", "code"), [({"id": 1}, 0), (None, 4)])
def test_status(capfdbinary: Capture, leader: dict[str, int] | None, code: int) -> None:
    members = [{"id": 1, "role": "leader", "peer_address": "a:1", "connected": True, "lag": 0}]
    view = {
        "node": {"id": 2, "role": "follower"}, "leader": leader, "ballot": "3.1",
        "chosen_through": 9, "applied_through": 8,
        "members": members,
    }  # fmt: skip
    done = kvstore(capfdbinary, web.json_response(view), "status")
    assert done.code == code and "3.1" in done.out and "a:1" in done.out
    in_json = json.loads(kvstore(capfdbinary, web.json_response(view), "status", "--json").out)
    assert in_json["endpoints"][0]["cluster"]["node"]["id"] == 2


def test_status_shows_what_must_be_mended(capfdbinary: Capture) -> None:
    node = {"id": 1, "role": "leader", "ready": True, "reason": "", "warnings": ["clocks differ"]}
    view = {"node": node, "leader": {"id": 1}, "ballot": "3.1", "chosen_through": 9,
            "applied_through": 8, "members": []}  # fmt: skip
    assert "clocks differ" in kvstore(capfdbinary, web.json_response(view), "status").out


def test_status_of_nothing(capfdbinary: Capture) -> None:
    done = kvstore(capfdbinary, problem(503), "status")
    assert done.code == 4 and "so it is" in done.out


@pytest.mark.parametrize(("kind", "status", "code"), [("unauthenticated", 401, 2), ("x", 503, 4)])
def test_status_of_endpoints_that_answer_and_do_not_tell(
    capfdbinary: Capture, kind: str, status: int, code: int
) -> None:
    done = kvstore(capfdbinary, problem(status, kind=kind), "status")
    assert done.code == code
    assert "none of the endpoints tells its status: http://127.0.0.1:" in done.err
    assert "answers: so it is" in done.err


def test_status_of_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert main(["status", "--endpoints", nobody]) == 4
    err = capfd.readouterr().err
    assert f"tells its status: cannot reach {nobody}: Connection refused" in err


@pytest.mark.parametrize("words", [["get", "k"], ["watch", "k", "--limit", "1"]])
def test_a_wrong_endpoint_is_said_within_about_a_second(
    capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel takes the connection, and nobody answers
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        flags = ["--endpoints", endpoint, "--timeout", "1.6"]
        assert main([words[0], *flags, *words[1:]]) == 4
    first, *rest = capfd.readouterr().err.splitlines()
    assert first.startswith("kvstore: still trying") and endpoint in first
    assert not any("still trying" in line for line in rest)


@pytest.mark.parametrize("command", ["serve", "demo", "put", "get", "del", "list", "status"])
def test_help_teaches_the_exit_codes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0 and "exit codes:" in shown and "example" in shown


@pytest.mark.parametrize("words", [[], ["nonsense"], ["get"], ["list", "--limit", "0"]])
def test_usage_errors(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err
