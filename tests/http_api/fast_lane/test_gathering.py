"""Requests of one turn are asked of the store together, and each hears of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from http_api.callers.caller_sessions import CallerSessions
from http_api.core.metrics import HttpStages
from http_api.core.session import GROUP_BYTES_MAX, GROUP_MAX
from http_api.fast_lane.gathering import PROMPT_MAX, Gathering
from kvstore.commands.commands import Command, Delete, Put
from kvstore.commands.operations import Transaction, TxnPut
from kvstore.commands.results import Outcome, TransactionDone, Written
from kvstore.errors import InvalidArgument, NoQuorum, Overloaded
from kvstore.replica.prompt import PromptFuture
from kvstore.state.rights import Caller
from tests.support.memory_replica import MemoryReplica

Test = Callable[[MemoryReplica, Gathering], Awaitable[None]]


class Heard:
    """Writes down what it is told; `faulty`: and fails then."""

    def __init__(self, faulty: bool = False) -> None:
        self.outcomes: list[Outcome] = []
        self.errors: list[BaseException | None] = []
        self._faulty = faulty

    def written(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes
        self._fail()

    def readable(self, error: BaseException | None) -> None:
        self.errors.append(error)
        self._fail()

    def _fail(self) -> None:
        if self._faulty:
            raise ZeroDivisionError("a connection")

    def revisions(self) -> list[int]:
        return [each.revision for each in self.outcomes if isinstance(each, Written)]


class Counting(MemoryReplica):
    """Remembers how many came together."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.barriers: list[int] = []

    def submit_group(
        self, commands: Sequence[Command], timeout_s: float
    ) -> asyncio.Future[list[Outcome]]:
        self.groups.append(len(commands))
        return super().submit_group(commands, timeout_s)

    def barrier(self, timeout_s: float, reads: int = 1) -> asyncio.Future[None]:
        self.barriers.append(reads)
        return super().barrier(timeout_s, reads)


def gathered(test: Callable[[Counting, Gathering], Awaitable[None]]) -> None:
    async def run() -> None:
        replica = Counting()
        try:
            await test(replica, Gathering(CallerSessions(replica).anonymous, 9.0, HttpStages()))
        finally:
            replica.close()

    asyncio.run(run())


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def puts(*keys: str, value: bytes = b"v") -> list[Put]:
    return [Put(key.encode(), value) for key in keys]


def test_one_group_and_one_barrier_for_a_turn() -> None:
    async def test(replica: Counting, gathering: Gathering) -> None:
        one, two, three = Heard(), Heard(), Heard()
        gathering.write(one, gathering._session, puts("a", "b"))
        gathering.write(two, gathering._session, puts("c"))
        for reader, reads in ((one, 3), (three, 1)):
            gathering.read(reader, reads)
        assert not replica.groups, "the turn is not over"
        await turns()
        assert (replica.groups, replica.barriers) == ([3], [4])
        assert (one.revisions(), two.revisions()) == ([2, 3], [4])
        assert one.errors == three.errors == [None] and not two.errors
        gathering.write(three, gathering._session, puts("a"))
        await turns()
        assert replica.groups == [3, 1] and three.revisions() == [5]

    gathered(test)


def test_a_group_has_bounds() -> None:
    async def test(replica: Counting, gathering: Gathering) -> None:
        askers = [Heard() for _ in range(GROUP_MAX + 1)]
        for number, asker in enumerate(askers):
            gathering.write(asker, gathering._session, puts(str(number)))
        large = Heard()
        for key in "abc":
            gathering.write(
                large, gathering._session, puts(key, value=b"v" * (GROUP_BYTES_MAX // 2))
            )
        await turns()
        assert replica.groups == [GROUP_MAX, 2, 1, 1]
        assert [asker.revisions() for asker in askers] == [[at + 2] for at in range(len(askers))]
        assert len(large.revisions()) == 3

    gathered(test)


@pytest.mark.parametrize("at_once", [False, True])
def test_an_error_is_told_to_each(at_once: bool) -> None:
    async def test(replica: Counting, gathering: Gathering) -> None:
        error: Any = Overloaded("full") if at_once else NoQuorum("nobody")
        replica.fails_with = error
        if at_once:

            def refused(*_: object) -> None:
                raise error

            replica.submit_group = replica.barrier = replica.submit = refused  # type: ignore
        one, two = Heard(), Heard()
        gathering.write(one, gathering._session, puts("a", "b"))
        gathering.write(two, gathering._session, puts("c"))
        gathering.read(two, 1)
        gathering.transact(two, gathering._session, Transaction((), (TxnPut(b"k", b"v"),)))
        await turns()
        assert (one.outcomes, two.outcomes, two.errors) == ([error] * 2, [error] * 2, [error])

    gathered(test)


def test_one_that_fails_keeps_nothing_from_the_others() -> None:
    async def test(replica: Counting, gathering: Gathering) -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        faulty, sound = Heard(faulty=True), Heard()
        for asker in (faulty, sound):
            gathering.write(asker, gathering._session, puts("a"))
            gathering.read(asker, 1)
        await turns()
        assert sound.revisions() == [3] and sound.errors == [None]
        assert len(told) == 2 and isinstance(told[0]["exception"], ZeroDivisionError)

    gathered(test)


def test_what_no_door_lets_in_is_told_to_its_sender_alone() -> None:
    async def test(replica: Counting, gathering: Gathering) -> None:
        bad, sound = Heard(), Heard()
        gathering.write(bad, gathering._session, [Put(b"", b"v"), Put(b"b", b"v")])
        gathering.write(sound, gathering._session, puts("c"))
        await turns()
        assert isinstance(bad.outcomes[0], InvalidArgument)
        assert (bad.revisions(), sound.revisions()) == ([2], [3])

    gathered(test)


def test_a_transaction_goes_alone() -> None:
    async def test(replica: Counting, gathering: Gathering) -> None:
        one = Heard()
        gathering.transact(one, gathering._session, Transaction((), (TxnPut(b"k", b"v"),)))
        await turns()
        assert not replica.groups and isinstance(one.outcomes[0], TransactionDone)
        assert replica.apply(Delete(b"k")) is not None

    gathered(test)


def test_the_writes_of_each_caller_are_a_group_of_their_own() -> None:
    """While authentication is on: a command is applied in its caller's name."""

    async def test(replica: Counting, gathering: Gathering) -> None:
        sessions, heard = CallerSessions(replica), [Heard() for _ in range(4)]
        callers = (Caller("u", 1), None, Caller("v", 1), Caller("u", 1))
        for asker, caller, key in zip(heard, callers, "abcd", strict=True):
            gathering.write(asker, sessions.of(caller), puts(key))
        await turns()
        assert replica.groups == [2, 1, 1] and not gathering._groups
        assert [asker.revisions() for asker in heard] == [[2], [4], [5], [3]]

    gathered(test)


@pytest.mark.parametrize(
    ("requests", "at_once"), [(1, True), (PROMPT_MAX, True), (PROMPT_MAX + 1, False)]
)
def test_few_are_answered_in_the_turn_in_which_the_store_answers(
    requests: int, at_once: bool
) -> None:
    """And many in the next one, in which what the store sends to its peers has left."""

    async def test(replica: Counting, gathering: Gathering) -> None:
        loop = asyncio.get_running_loop()
        written: PromptFuture[Any] = PromptFuture(loop=loop)
        read: PromptFuture[None] = PromptFuture(loop=loop)
        replica.submit_group = lambda *_: written  # type: ignore[method-assign,assignment]
        replica.barrier = lambda *_: read  # type: ignore[method-assign,assignment]
        writer, reader = Heard(), Heard()
        gathering.write(writer, gathering._session, puts(*map(str, range(requests))))
        gathering.read(reader, requests)
        await turns()
        written.set_result([Written(2, 1, 2)] * requests)
        read.set_result(None)
        assert bool(writer.outcomes) == bool(reader.errors) == at_once
        await turns()
        assert len(writer.outcomes) == requests and reader.errors == [None]

    gathered(test)
