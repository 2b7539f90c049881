"""From when on a node's own state counts: founders, who lost its disk, and who is started again."""

import asyncio
from dataclasses import replace
from pathlib import Path

from kvstore.replica.open import open_replica
from tests.kvstore.replica.test_changing_members import Town
from tests.support.replicas import configs_of, opened, run, settled


def test_who_lost_its_disk_counts_once_it_has_what_there_was(tmp_path: Path) -> None:
    """At every moment its own state may not be shown, or holds the key; and so when it is started
    again without anybody."""

    async def body() -> None:
        configs = [
            replace(one, replace_lost_after_s=0.3, log_tail_slots=5, log_tail_bytes=2000)
            for one in configs_of(3, tmp_path)
        ]
        made = Town(configs)
        try:
            await made.start(1, 2, 3)
            await settled(list(made.replicas.values()))
            assert all(one.joined for one in made.replicas.values())
            for n in range(40):
                await made.put(1, b"k%d" % n)
            wiped = made.leader() % 3 + 1
            other = wiped % 3 + 1
            await made.wipe(wiped)
            await made.start(wiped)
            shown: set[tuple[bool, bool]] = set()

            def there() -> bool:
                here = made.replicas[wiped]
                if here.failure:
                    return False  # it begins again as another member
                shown.add((here.joined, here.state.get(b"k7") is not None))
                return wiped not in made.voters(other) and here.joined

            assert not there()
            async with asyncio.timeout(15):
                while not there():
                    await asyncio.sleep(0)
            assert (True, False) not in shown and {(False, False), (True, True)} <= shown
            await made.stop(wiped)
        finally:
            await made.close()
        alone = await open_replica(configs[wiped - 1])
        try:
            assert alone.joined and alone.state.get(b"k7") is not None
            assert not alone.status().ready
        finally:
            await alone.stop()

    run(body(), 30)


def test_a_founder_counts_once_the_cluster_has_formed(tmp_path: Path) -> None:
    """And after that without the others, also with nothing in it."""

    async def body() -> None:
        configs = configs_of(3, tmp_path)
        alone = await open_replica(configs[0])
        try:
            assert not alone.joined, "it cannot be told from one that lost its disk"
            async with opened(configs[1:]) as others:
                await settled([alone, *others])
                assert all(one.joined for one in (alone, *others))
        finally:
            await alone.stop()
        alone = await open_replica(configs[0])
        try:
            assert alone.joined and not alone.status().ready
        finally:
            await alone.stop()

    run(body(), 20)
