"""Clients with large commands and large answers, on keys of their own: around the budget of one
command (docs/decisions/0015-bounded-work.md), and around what a frame may hold.

What is over the budget is refused at the door by most nodes. So at times a client asks for the
large answer in the same breath as it makes it large: the door lets both in, and what counts is the
state where they are applied.
"""

import asyncio

from kvstore.commands.operations import (
    Comparison,
    Field,
    Relation,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnOperation,
    TxnPut,
)
from proof.simulation.cluster.calls import Broken
from proof.simulation.cluster.clients import SimulatedClient

ROUNDS = 3
FIRST, END = b"h", b"i"
OPERATIONS_MAX = 128
KEYS_MAX, BYTES_MAX = 5_000, 4 << 20
"""The budget of one command."""
RECORD_BYTES = 40
"""About what a key counts beside its value."""
LARGE_BYTES = 1 << 20


class SimulatedBulk(SimulatedClient):
    """In each round: fill, then read all of it again and again within one transaction, with a put
    among the reads, and remove it."""

    async def _run(self) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(self.rng.uniform(0.1, 1.5))
            match self.rng.randrange(8):
                case 0:
                    await self._huge()
                case 1 | 2 | 3:  # few large values: the bytes are bounded
                    await self._round(self.rng.randint(4, 8), self.rng.randint(4_000, 24_000))
                case _:  # many small ones: the keys are
                    await self._round(self.rng.randint(79, 120), 10)
        self.done = True

    async def _round(self, keys: int, size: int) -> None:
        fill = self._fill(keys, size)
        read = self._read(keys, size)
        if self.rng.random() < 0.6:
            await asyncio.gather(self._send("fill", fill), self._send("read much", read))
        else:
            await self._send("fill", fill)
            await self._send("read much", read)
        await self._send("remove", Transaction((), (TxnDelete(FIRST, END),)))

    def _fill(self, keys: int, size: int) -> Transaction:
        puts = tuple(TxnPut(_key(number), self._value(size)) for number in range(keys))
        return Transaction((), puts)

    def _read(self, keys: int, size: int) -> Transaction:
        """As many ranges as come close to the budget, on either side of it."""
        bound = min(KEYS_MAX / keys, BYTES_MAX / (keys * (size + RECORD_BYTES)))
        count = min(OPERATIONS_MAX - 2, int(bound * self.rng.uniform(0.8, 1.15)))
        reads: list[TxnOperation] = [Select(FIRST, END)] * count
        mine = TxnPut(b"h-%d" % self.number, self._value(10))
        reads.insert(self.rng.randrange(count + 1), mine)
        compares = tuple(
            Comparison(Field.VERSION, Relation.GREATER, FIRST, END, 0)
            for _ in range(self.rng.choice((0, 0, 3)))
        )
        if self.rng.random() < 0.3:
            return Transaction(compares, (Transaction((), tuple(reads[:2])), *reads[2:]))
        return Transaction(compares, tuple(reads))

    async def _huge(self) -> None:
        """Commands as large as can be, several at once: a slot may hold all of them."""
        puts = [
            Transaction(
                (), tuple(TxnPut(b"hh%d%d" % (n, m), self._value(1_040_000)) for m in (1, 2, 3))
            )
            for n in range(self.rng.randint(1, 3))
        ]
        await asyncio.gather(*(self._send("put very much", put) for put in puts))
        for n in range(3):
            await self._send(
                "remove", Transaction((), (TxnDelete(b"hh%d" % n, b"hh%d" % (n + 1)),))
            )

    def _value(self, size: int) -> bytes:
        return self.new_value().encode().ljust(size, b".")

    async def _send(self, text: str, command: Transaction) -> None:
        result = await self.send(text, "", command)
        if isinstance(result, TransactionDone):
            size = sum(
                len(item.value)
                for answer in result.results
                if isinstance(answer, Selected)
                for item in answer.items
            )
            if size > LARGE_BYTES:
                self.world.reached("large answer")
        elif isinstance(result, Broken):
            self.world.reached("large command with unknown outcome")


def _key(number: int) -> bytes:
    return b"h%03d" % number
