"""One node asks the others in the name of who asks it: by TLS, and for certificates too."""

import asyncio
import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from http_api.callers.tokens import Tokens
from http_api.incidents.neighbours import Heard, Neighbours
from http_api.server import HttpServer
from kvstore.client import Client
from kvstore.state.rights import Caller
from tests.support.certificates import authority, settings
from tests.support.ports import free_ports
from tests.support.replicas import configs_of, opened, run, settled


@asynccontextmanager
async def two_nodes(directory: Path) -> AsyncIterator[list[HttpServer]]:
    """A cluster of two that speaks TLS, by the authority in `certs`."""
    certs = directory / "certs"
    authority(certs)
    ports = free_ports(2)
    configs = [
        dataclasses.replace(
            config, tick_s=0.01, listen_client=("127.0.0.1", port), **settings(certs)
        )
        for config, port in zip(configs_of(2, directory), ports, strict=True)
    ]
    async with opened(configs) as replicas:
        servers = [
            HttpServer(replica, config) for replica, config in zip(replicas, configs, strict=True)
        ]
        for server in servers:
            await server.start()
        try:
            await settled(replicas)
            yield servers
        finally:
            await asyncio.gather(*(server.stop() for server in servers))


async def with_users(client: Client) -> None:
    for name in ("root", "u"):
        await client.add_user(name, f"{name}'s")
    await client.grant_role("root", "root")
    await client.auth_enable()


def test_who_shows_a_certificate_sees_every_node(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_nodes(tmp_path) as servers:
            url = f"https://127.0.0.1:{servers[0].address[1]}"
            certs = tmp_path / "certs"
            ca, cert = str(certs / "ca.crt"), (str(certs / "u.crt"), str(certs / "u.key"))
            async with Client(url, ca=ca) as client:
                await with_users(client)
            for who in ({"cert": cert}, {"user": "u", "password": "u's"}):
                async with Client(url, ca=ca, **who) as client:
                    found = msgspec.json.decode(await client.fetch("/v1/overview", url))
                assert [one["id"] for one in found["nodes"]] == [1, 2]
                assert [one["trouble"] for one in found["nodes"]] == ["", ""], who

    run(test(), 60)


def test_an_authority_that_is_not_known_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_nodes(tmp_path) as servers:
            urls = {2: f"https://127.0.0.1:{servers[1].address[1]}"}
            ours, others = tmp_path / "certs", tmp_path / "others"
            authority(others)
            file = tmp_path / "trusted.crt"

            async def told(asking: Neighbours) -> Heard:
                (heard,) = await asking.ask(urls, "/v1/node", None)
                return heard

            asking = Neighbours()
            assert "its certificate is not trusted" in (await told(asking)).trouble
            await asking.close()
            asking = Neighbours(file)
            assert f"cannot use {file}" in (await told(asking)).trouble
            shutil.copy(others / "ca.crt", file)
            assert "its certificate is not trusted" in (await told(asking)).trouble
            shutil.copy(ours / "ca.crt", file)
            os.utime(file, ns=(1, 1))
            assert (await told(asking)).trouble == ""
            await asking.close()

    run(test(), 60)


def test_a_lent_token_is_the_same_for_a_minute() -> None:
    now = 120.0
    tokens, elsewhere = Tokens(wall=lambda: now), Tokens(wall=lambda: now)
    by = Caller("u", 3)
    lent = tokens.lend(by, b"secret")
    now = 179.0
    assert tokens.lend(by, b"secret") == lent != tokens.lend(Caller("v", 3), b"secret")
    assert elsewhere.recognise(lent, b"secret") == by
    assert elsewhere.recognise(lent, b"another") is None
    now = 180.0
    assert tokens.lend(by, b"secret") != lent
    now = 500.0
    assert Tokens(wall=lambda: now).recognise(lent, b"secret") is None
