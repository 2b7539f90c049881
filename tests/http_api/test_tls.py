"""The client port speaks TLS: both lanes, streams, certificates as users, and every refusal."""

import asyncio
import logging
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from http_api import server as server_module
from kvstore.certificates.authority import Authority
from kvstore.client import Client, NoQuorum, PermissionDenied, Unauthenticated, Unavailable
from tests.support.certificates import authority, odd_certificate
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import guard
from tests.support.raw_http import request
from tests.support.tls_node import on_tls, raw, trusting


def address(node: Any) -> str:
    return f"https://localhost:{node.http.address[1]}"


def test_both_lanes_and_streams_work(tmp_path: Path) -> None:
    async def test(node: EtcdNode, directory: Path) -> None:
        for more in ({}, {"X-Other-Lane": "yes"}):
            connection = await raw(node.address, trusting(directory))
            for number in range(3):
                value = b"%d" % number * 10_000
                assert (await connection.call("PUT", "/v1/kv/k", more, value)).status == 200
                assert (await connection.call("GET", "/v1/kv/k", more)).body == value
            pipelined = b"".join(request("GET", "/v1/kv/k", more) for _ in range(20))
            await connection.send(pipelined)
            for _ in range(20):
                assert (await connection.reply()).body == value
            reply = await connection.call("POST", "/v3/kv/range", more, b'{"key":"aw=="}')
            assert reply.json()["count"] == "1"
            connection.close()
        lanes = node.http._lanes
        assert lanes is not None and not lanes.expected
        async with Client(address(node), ca=str(directory / "ca.crt")) as client:
            async with client.watch(prefix="w") as watch:
                await client.put("w", b"\xff" * 1_000_000)
                assert len((await anext(aiter(watch))).value or b"") == 1_000_000
            entries = [entry.key async for entry in client.list()]
            assert entries == [b"k", b"w"]
        text = (await node.connection.call("GET", "/metrics")).body.decode()
        assert "kvstore_certificate_ends_timestamp_seconds" in text
        assert "kvstore_insecure 0.0" in text

    on_tls(tmp_path, test)


def test_a_connection_over_the_bound_hears_why(tmp_path: Path) -> None:
    async def test(node: EtcdNode, directory: Path) -> None:
        second = await raw(node.address, trusting(directory))
        assert (await second.call("GET", "/v1/version")).status == 200
        third = await raw(node.address, trusting(directory))
        assert (await third.reply()).status == 503
        assert await third.ended() == b""

    on_tls(tmp_path, test, pending_requests_max=2)


def test_a_certificate_is_a_user(tmp_path: Path) -> None:
    async def test(node: EtcdNode, directory: Path) -> None:
        on = await guard(node)
        ca = str(directory / "ca.crt")
        cert = str(directory / "u.crt"), str(directory / "u.key")
        async with Client(address(node), ca=ca, cert=cert) as client:
            assert (await client.auth_status()).user == "u"
            await client.put("a", "1")
            with pytest.raises(PermissionDenied):
                await client.get("z")
            async with client.watch(prefix="a") as watch:
                await client.put("a", "2")
                assert (await anext(aiter(watch))).value == b"2"
        context = trusting(directory)
        context.load_cert_chain(*cert)
        shown = await raw(node.address, context)
        for _ in range(2):  # plain enough for the fast lane, which serves nobody in particular
            assert (await shown.call("GET", "/v1/kv/a")).body == b"2"
        reply = await shown.call("POST", "/v3/kv/range", None, b'{"key":"YQ=="}')
        assert reply.json()["count"] == "1"
        # A token says more than a certificate.
        headers = {"Authorization": on.root}
        assert (await shown.call("GET", "/v1/kv/z", headers)).status == 200
        assert (await shown.call("GET", "/v1/kv/z")).status == 403
        await on.ok("auth/user/delete", on.root, name="u")
        assert (await shown.call("GET", "/v1/kv/a")).status == 401
        shown.close()
        async with Client(address(node), ca=ca) as nobody:
            with pytest.raises(Unauthenticated):
                await nobody.get("a")

    on_tls(tmp_path, test)


async def refused(node: EtcdNode, caplog: pytest.LogCaptureFixture, **tls: Any) -> str:
    """The first line of the node's log."""
    caplog.clear()
    with pytest.raises(Unavailable):
        async with Client(address(node), timeout_s=0.3, **tls) as client:
            await client.get("k")
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.005)
    return caplog.records[0].getMessage()


def distrust(place: tuple[str, int], ca: str) -> None:
    """A blocking client that does not know the node's authority."""
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(place) as opened, pytest.raises(ssl.SSLError):
        context.wrap_socket(opened, server_hostname="localhost")


def test_who_is_refused_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "http_api.tls")

    async def test(node: EtcdNode, directory: Path) -> None:
        other = tmp_path / "other"
        authority(other)
        ca = str(directory / "ca.crt")
        odd_certificate(directory, "late", begins_days=-9, ends_days=-1)
        async with Client(address(node), timeout_s=0.3, ca=str(other / "ca.crt")) as client:
            with pytest.raises(NoQuorum, match=r"cannot trust .*: its certificate is not accepted"):
                await client.get("k")
        # The loop's own transport hangs up without a word; most clients say why.
        caplog.clear()
        await asyncio.to_thread(distrust, node.http.address, str(other / "ca.crt"))
        assert "does not know the authority" in caplog.records[0].getMessage()
        stranger = str(other / "u.crt"), str(other / "u.key")
        logged = await refused(node, caplog, ca=ca, cert=stranger)
        assert "its certificate is not accepted: " in logged
        late = str(directory / "late.crt"), str(directory / "late.key")
        logged = await refused(node, caplog, ca=ca, cert=late)
        assert "its certificate is not accepted: certificate has expired" in logged
        caplog.clear()
        host, port = node.http.address
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request("GET", "/v1/kv/k"))
        assert await reader.read() == b""
        assert "it speaks HTTP without TLS" in caplog.records[0].getMessage()
        caplog.clear()
        old = trusting(directory)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, OSError)):
            await raw(node.address, old)
        assert "older than 1.2" in caplog.records[0].getMessage()
        async with Client(f"https://127.0.0.2:{port}", ca=ca, timeout_s=0.3) as client:
            with pytest.raises(NoQuorum):  # nobody listens there
                await client.get("k")
        assert node.http.tls is not None and node.http.tls.refused >= 5

    on_tls(tmp_path, test)


def test_a_node_of_another_name_is_not_trusted(tmp_path: Path) -> None:
    async def test(node: EtcdNode, directory: Path) -> None:
        node_port = node.http.address[1]
        ca = str(directory / "ca.crt")
        Authority(directory).issue_server("n2", ["elsewhere.example"], 30)
        for name in ("crt", "key"):
            os.replace(directory / f"n2.{name}", directory / f"n1.{name}")
        assert node.http.tls is not None and node.http.tls.reload()
        async with Client(f"https://localhost:{node_port}", ca=ca, timeout_s=0.3) as client:
            with pytest.raises(NoQuorum, match=r"not valid for 'localhost'|Hostname mismatch"):
                await client.get("k")

    on_tls(tmp_path, test)


def test_a_plain_node_is_told_from_one_that_speaks_tls(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        authority(tmp_path / "certs")
        url = f"https://127.0.0.1:{node.address[1]}"
        ca = str(tmp_path / "certs" / "ca.crt")
        async with Client(url, ca=ca, timeout_s=0.3) as client:
            with pytest.raises(NoQuorum, match=r"does not speak TLS|cannot speak TLS"):
                await client.get("k")

    on_node(tmp_path, test)


def test_renewed_files_are_used_and_no_connection_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "CERTIFICATES_S", 0.02)
    caplog.set_level(logging.WARNING, "http_api.tls")

    async def serial(node: EtcdNode, directory: Path) -> int:
        connection = await raw(node.address, trusting(directory))
        shown = connection._writer.get_extra_info("peercert")
        connection.close()
        return int(shown["serialNumber"], 16)

    async def test(node: EtcdNode, directory: Path) -> None:
        before = await serial(node, directory)
        failed, done, stop = 0, 0, asyncio.Event()

        async def load(client: Client) -> None:
            nonlocal failed, done
            while not stop.is_set():
                try:
                    await client.put("k", "v")
                    done += 1
                except Unavailable:
                    failed += 1

        async with Client(address(node), ca=str(directory / "ca.crt")) as client:
            loads = [asyncio.create_task(load(client)) for _ in range(4)]
            for _ in range(3):
                renewed = Authority(directory).renew("n1", 60)
                while await serial(node, directory) != renewed.serial:
                    await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*loads)
        assert renewed.serial != before and failed == 0 and done > 3
        kept = await serial(node, directory)
        (directory / "n1.key").write_text("no key")
        async with asyncio.timeout(20):
            while "no private key" not in caplog.text:
                await asyncio.sleep(0.01)
        assert await serial(node, directory) == kept

    on_tls(tmp_path, test)


def test_handshakes_that_never_end_count_and_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_S", 0.2)

    async def test(node: EtcdNode, directory: Path) -> None:
        lanes = node.http._lanes
        assert lanes is not None
        opened = [await asyncio.open_connection(*node.http.address) for _ in range(5)]
        while len(lanes.expected) < 5:
            await asyncio.sleep(0.005)
        assert node.http._connections() >= 6
        for reader, writer in opened:
            assert await reader.read() == b""
            writer.close()
        assert not lanes.expected

    on_tls(tmp_path, test)
