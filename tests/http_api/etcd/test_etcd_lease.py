"""lease/... of etcd's API on a real replica, besides lease/keepalive."""

import asyncio
from pathlib import Path
from typing import Any

from tests.support.etcd_node import EtcdNode, b64, error_of, on_node, revision, without_header

NO_LEASE = (404, 5, "etcdserver: requested lease not found")


def test_grant(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        first = await node.ok("lease/grant", TTL=60)
        second = await node.ok("lease/grant", TTL="60", ID=0)
        assert int(first["ID"]) > 0 and int(second["ID"]) > 0 and first["ID"] != second["ID"]
        assert first["TTL"] == "60" and revision(first) == 1
        chosen = await node.ok("lease/grant", TTL=60, ID=777)
        assert without_header(chosen) == {"ID": "777", "TTL": "60"}
        taken = (400, 9, "etcdserver: lease already exists")
        assert await node.refused("lease/grant", TTL=60, ID="777") == taken
        negative = await node.ok("lease/grant", TTL=9_000_000_000, ID="-7")
        assert without_header(negative) == {"ID": "-7", "TTL": "9000000000"}
        for ttl in (0, 1, -5):
            assert (await node.ok("lease/grant", TTL=ttl))["TTL"] == "2"
        too_large = (400, 11, "etcdserver: too large lease TTL")
        assert await node.refused("lease/grant", TTL=9_000_000_001) == too_large

    on_node(tmp_path, test)


def test_time_to_live(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=777)
        for key in (b"b", b"a"):
            await node.ok("kv/put", key=key, lease=777)
        for path in ("lease/timetolive", "kv/lease/timetolive"):
            left = await node.ok(path, ID="777", keys=True)
            assert left["ID"] == "777" and left["grantedTTL"] == "60"
            assert left["TTL"] in ("58", "59")  # rounded down
            assert left["keys"] == [b64(b"a"), b64(b"b")]
        assert "keys" not in await node.ok("lease/timetolive", ID="777")
        unknown = await node.ok("lease/timetolive", ID="778", keys=True)
        assert without_header(unknown) == {"ID": "778", "TTL": "-1"}
        assert without_header(await node.ok("lease/timetolive")) == {"TTL": "-1"}

    on_node(tmp_path, test)


def test_revoke_and_list(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        assert (await node.ok("lease/leases")).keys() == {"header"}
        for lease in (-5, 777, 778):
            await node.ok("lease/grant", TTL=60, ID=lease)
        for path in ("lease/leases", "kv/lease/leases"):
            listed = (await node.ok(path))["leases"]
            assert sorted(each["ID"] for each in listed) == ["-5", "777", "778"]
        # Without any body, as some clients send it.
        assert len((await node.raw("/v3/lease/leases")).json()["leases"]) == 3
        for key in (b"a", b"b"):
            await node.ok("kv/put", key=key, lease=777)
        revoked = await node.ok("lease/revoke", ID=777)
        assert revoked.keys() == {"header"} and revision(revoked) == 4  # both keys in one
        assert (await node.ok("kv/range", key=b"a")).keys() == {"header"}
        assert revision(await node.ok("kv/lease/revoke", ID=778)) == 4
        assert await node.refused("lease/revoke", ID=777) == NO_LEASE
        assert error_of(await node.post("lease/revoke", {})) == NO_LEASE

    on_node(tmp_path, test)


def test_expiry_deletes_the_keys_in_one_revision(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        loop = asyncio.get_running_loop()
        await node.ok("lease/grant", TTL=1, ID=5)
        granted_s = loop.time()
        for key in (b"a", b"b"):
            await node.ok("kv/put", key=key, lease=5)
        found: dict[str, Any] = {"count": "2"}
        async with asyncio.timeout(60):
            while "count" in found:
                assert found["count"] == "2"
                await asyncio.sleep(0.05)
                found = await node.ok("kv/range", key=b"a", range_end=b"c")
        assert loop.time() - granted_s >= 2.0 and revision(found) == 4
        assert await node.refused("kv/put", key=b"a", lease=5) == NO_LEASE

    on_node(tmp_path, test)
