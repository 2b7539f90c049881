"""`GET /v1/snapshot`: whole, resumed, throttled, bounded, and let go of if nobody reads it."""

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import lmdb
import pytest

from http_api.core import state_copy, streams
from http_api.v1 import snapshot
from http_api.v1.snapshot import COPIES_MAX
from kvstore.backup.frames import BACKUP_MAGIC, CHECKSUM_BYTES, LENGTHS, BackupFileReader
from kvstore.backup.headers import decode_header
from kvstore.backup.state_files import opened
from tests.support.etcd_node import EtcdNode, etcd_node
from tests.support.guarded_node import Guarded, guarded
from tests.support.raw_http import connect, request

Test = Callable[[EtcdNode, aiohttp.ClientSession, str], Awaitable[None]]


def on_node(path: Path, test: Test) -> None:
    """Run a test against a node with 20 keys of 200 kB that do not compress."""

    async def run() -> None:
        async with (
            etcd_node(path, checkpoint_interval_s=0.05) as node,
            aiohttp.ClientSession() as http,
        ):
            for number in range(20):
                await node.ok("kv/put", key=b"k%02d" % number, value=os.urandom(200_000))
            await test(node, http, "http://{}:{}/v1/snapshot".format(*node.address))

    asyncio.run(run())


async def whole(http: aiohttp.ClientSession, url: str, **query: int | str) -> bytes:
    async with http.get(url, params=query) as response:
        assert response.status == 200
        return await response.read()


def test_it_holds_every_acknowledged_write(tmp_path: Path) -> None:
    async def test(node: EtcdNode, http: aiohttp.ClientSession, url: str) -> None:
        data = await whole(http, url)
        assert not list((tmp_path / "node").glob("snapshot.*")), "a copy was left behind"
        reader = BackupFileReader(io.BytesIO(data), BACKUP_MAGIC, "answer")
        header = decode_header(reader.header, "answer")
        state_file = tmp_path / "state.mdb"
        state_file.write_bytes(b"".join(reader.blocks()))
        status = node.replica.status()
        assert header.cluster_id == status.cluster_id and header.revision == 21
        assert header.records["keys"] == 20 and header.raw_bytes == state_file.stat().st_size
        with opened(state_file) as (_, state):
            assert state.revision == 21 and state.applied_through == header.slot
            assert state.digest.hex() == header.digest
            assert len(state.range(b"", None, limit=100, keys_only=True).items) == 20

    on_node(tmp_path, test)


def test_it_does_not_hold_what_signs_tokens(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        url = "http://{}:{}/v1/snapshot".format(*on.node.address)
        secret = on.node.replica.state.auth.secret
        headers = {"Authorization": on.root}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            aiohttp.ClientSession(headers={"Authorization": on.user}) as nobody,
        ):
            data = await whole(http, url)
            async with nobody.get(url) as response:
                assert response.status == 403
        reader = BackupFileReader(io.BytesIO(data), BACKUP_MAGIC, "answer")
        state_file = tmp_path / "state.mdb"
        state_file.write_bytes(b"".join(reader.blocks()))
        assert len(secret) == 32 and secret not in state_file.read_bytes()
        with opened(state_file) as (_, state):
            assert state.auth.enabled and not state.auth.secret and "u" in state.auth.users

    guarded(tmp_path, test)


def test_a_broken_one_is_gone_on_with(tmp_path: Path) -> None:
    """The same copy, although the store has moved on, from any block on."""

    async def test(node: EtcdNode, http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(url) as response:
            begun = await response.content.readexactly(1_500_000)
        await node.ok("kv/put", key=b"later", value=b"1")
        file = io.BytesIO(begun)
        reader = BackupFileReader(file, BACKUP_MAGIC, "begun")
        kept = len(reader.head)
        block = reader.next_block()
        assert block is not None
        kept += len(block.stored)
        name = decode_header(reader.header, "begun").snapshot
        for first, have in ((1, kept), (0, len(reader.head)), (1, kept)):
            async with asyncio.timeout(30):
                while (found := await resumed(http, url, name, first))[0] == 503:
                    await asyncio.sleep(0.02)  # the first one's end is noticed in a moment
            data = begun[:have] + found[1]
            again = BackupFileReader(io.BytesIO(data), BACKUP_MAGIC, "resumed")
            assert sum(map(len, again.blocks())) == decode_header(again.header, "").raw_bytes
        assert (await resumed(http, url, name, 1000))[0] == 400
        assert (await resumed(http, url, "f" * 32, 1))[0] == 400

    on_node(tmp_path, test)


async def resumed(
    http: aiohttp.ClientSession, url: str, name: str, first: int
) -> tuple[int, bytes]:
    async with http.get(url, params={"snapshot": name, "from_block": first}) as response:
        return response.status, await response.read()


def test_it_is_no_faster_than_asked(tmp_path: Path) -> None:
    async def test(node: EtcdNode, http: aiohttp.ClientSession, url: str) -> None:
        began_s = time.monotonic()
        data = await whole(http, url, rate_mib_s=8)
        slow_s = time.monotonic() - began_s
        raw = decode_header(
            BackupFileReader(io.BytesIO(data), BACKUP_MAGIC, "").header, ""
        ).raw_bytes
        assert raw > 4_000_000 and slow_s > (raw - (2 << 20)) / (8 << 20)

    on_node(tmp_path, test)


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    async def run() -> None:
        async with etcd_node(tmp_path) as node:
            for query in ("snapshot=x", "from_block=1", "rate_mib_s=0", "rate_mib_s=9999", "a=1"):
                reply = await node.connection.call("GET", f"/v1/snapshot?{query}")
                assert reply.status == 400, query
            head = await node.connection.call("HEAD", "/v1/snapshot")
            assert head.status == 200

    asyncio.run(run())


@pytest.mark.proof
def test_who_reads_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are served at a time; one that is idle makes room for a new one."""
    # Long enough that a busy machine has made all copies before the first is given up.
    monkeypatch.setattr(streams, "STUCK_S", 2.0)

    async def test(node: EtcdNode, http: aiohttp.ClientSession, url: str) -> None:
        for number in range(16):  # more than the system's buffers hold
            await node.ok("kv/put", key=b"l%02d" % number, value=os.urandom(1 << 20))
        ask = request("GET", "/v1/snapshot", {"Connection": "close"})
        stuck = []
        for _ in range(COPIES_MAX):
            context = connect(node.address)
            end = await context.__aenter__()
            stuck.append(context)
            await end.send(ask)
            await end.until(BACKUP_MAGIC)
        refused = await node.connection.call("GET", "/v1/snapshot")
        assert refused.status == 503 and b"backups are being made" in refused.body
        async with asyncio.timeout(30):
            while True:
                async with http.get(url) as response:
                    if response.status == 200:
                        break
                await asyncio.sleep(0.05)
        for context in stuck:
            await context.__aexit__(None, None, None)

    on_node(tmp_path, test)


def test_a_copy_is_kept_for_a_while_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "KEPT_S", 0.05)

    async def test(node: EtcdNode, http: aiohttp.ClientSession, url: str) -> None:
        data = await whole(http, url)
        header = BackupFileReader(io.BytesIO(data), BACKUP_MAGIC, "").header
        name = decode_header(header, "").snapshot
        async with asyncio.timeout(30):
            while (await resumed(http, url, name, 0))[0] == 200:
                await asyncio.sleep(0.1)

    on_node(tmp_path, test)


def test_a_copy_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with etcd_node(tmp_path, checkpoint_interval_s=0.05) as node:

            async def fails(path: Path) -> int:
                raise lmdb.Error("no space")

            monkeypatch.setattr(node.replica, "copy_state", fails)
            for _ in range(2 * COPIES_MAX):
                reply = await node.connection.call("GET", "/v1/snapshot")
                assert reply.status == 503 and b"no space" in reply.body

    asyncio.run(run())


def test_a_copy_that_would_fill_the_disk_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_copy, "ROOM_BYTES", 1 << 60)

    async def run() -> None:
        async with etcd_node(tmp_path, checkpoint_interval_s=0.05) as node:
            reply = await node.connection.call("GET", "/v1/snapshot")
            assert reply.status == 503 and b"bytes are needed" in reply.body
            reply = await node.post("maintenance/snapshot", {})
            assert reply.status == 500 and b"bytes are needed" in reply.body

    asyncio.run(run())


def test_a_cut_answer_does_not_look_whole(tmp_path: Path) -> None:
    """However the node ends in the middle, the client's reader finds no end."""

    async def test(node: EtcdNode, http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(url, params={"rate_mib_s": 1}) as response:
            first = await response.content.readexactly(4096)
            assert first.startswith(BACKUP_MAGIC) and LENGTHS.size + CHECKSUM_BYTES < 4096
            node.http.facilities.streams.stop()
            with pytest.raises(aiohttp.ClientError):
                await response.read()

    on_node(tmp_path, test)
