"""Requests drawn from a small key space by seeded generators, and how a sequence is shrunk.

Hypothesis draws one seed per request. (With one draw per field it discards long sequences and
repeats short requests; half of the requests then are refused before they reach the store.) A seed
says nothing of the size of its request, so shrinking works on the requests themselves.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.etcd.steps import Call, Rev, b, rpc

KEYS = ("a", "aa", "ab", "b", "c")
ENDS = ("b", "aa", "c", "d", "a", "", "\0")
LEASES = ("1", "2", "3")
TARGETS = ("KEY", "VERSION", "CREATE", "MOD", "VALUE")
BOUNDS = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")

Fields = dict[str, Any]


class Maker:
    """Makes requests from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self) -> Call:
        """Any request."""
        makers: dict[str, tuple[int, Callable[[], Fields]]] = {
            "kv/put": (28, self.put), "kv/range": (20, self.range), "kv/txn": (24, self.txn),
            "kv/deleterange": (8, self.delete), "kv/compaction": (3, self.compaction),
            "lease/grant": (5, lambda: {"ID": self._one(LEASES), "TTL": 1000}),
            "lease/revoke": (4, lambda: {"ID": self._one(LEASES)}),
            "lease/timetolive": (6, lambda: {"ID": self._one(LEASES), "keys": self._chance(0.8)}),
            "lease/leases": (2, dict),
        }  # fmt: skip
        weights = [weight for weight, _ in makers.values()]
        path = self._random.choices(list(makers), weights)[0]
        return rpc(path, makers[path][1]())

    def put(self) -> Fields:
        """A PutRequest, seldom an illegal one."""
        value, lease = {"value": b(self._one(("1", "2", "", "zz")))}, {}
        if self._chance(0.3):
            lease = {"lease": self._one((*LEASES, "1", "1", "0"))}
        if self._chance(0.08):
            value = {"ignore_value": True, **(value if self._chance(0.1) else {})}
        if self._chance(0.08):
            lease = {"ignore_lease": True, **(lease if self._chance(0.1) else {})}
        return {"key": self._key(), **value, **lease, **self._maybe(0.3, prev_kv=True)}

    def range(self) -> Fields:
        """A RangeRequest with any of its options."""
        fields: Fields = {"key": self._key(), **self._end(0.75)}
        fields |= self._maybe(0.3, limit=self._one((0, 1, 2, 3, -1)))
        fields |= self._maybe(0.25, revision=self._revision())
        fields |= self._maybe(0.4, sort_order=self._one(("NONE", "ASCEND", "DESCEND")))
        fields |= self._maybe(0.4, sort_target=self._one(TARGETS))
        fields |= self._maybe(0.15, keys_only=True) | self._maybe(0.1, count_only=True)
        fields |= self._maybe(0.1, serializable=True)
        for bound in BOUNDS:
            fields |= self._maybe(0.1, **{bound: self._revision()})
        return fields

    def delete(self) -> Fields:
        """A DeleteRangeRequest."""
        return {"key": self._key(), **self._end(0.5), **self._maybe(0.5, prev_kv=True)}

    def compaction(self) -> Fields:
        """A CompactionRequest."""
        return {"revision": self._revision(), **self._maybe(0.3, physical=True)}

    def txn(self, depth: int = 0) -> Fields:
        """A TxnRequest, nested up to two deep."""
        compares = [self.compare() for _ in range(self._one((0, 0, 1, 1, 2)))]
        fields: Fields = {"compare": compares} if compares else {}
        for branch in ("success", "failure"):
            count = self._one((0, 1, 2, 3, 4))
            fields |= {branch: [self.operation(depth) for _ in range(count)]} if count else {}
        return fields

    def compare(self) -> Fields:
        """A Compare of any target."""
        name, operand = self._one((
            ("VERSION", ("version", str(self._one((0, 1, 2))))),
            ("CREATE", ("create_revision", self._one(("0", self._revision())))),
            ("MOD", ("mod_revision", self._one(("0", self._revision())))),
            ("VALUE", ("value", b(self._one(("1", "2", ""))))),
            ("LEASE", ("lease", self._one(("0", *LEASES)))),
        ))  # fmt: skip
        result = self._one(("EQUAL", "GREATER", "LESS", "NOT_EQUAL"))
        given = {operand[0]: operand[1]} if self._chance(0.95) else {}
        return {"key": self._key(), "target": name, "result": result, **given, **self._end(0.25)}

    def operation(self, depth: int) -> Fields:
        """A RequestOp."""
        kind = self._random.random()
        if kind < 0.12 and depth < 2:
            return {"request_txn": self.txn(depth + 1)}
        if kind < 0.5:
            return {"request_put": self.put()}
        if kind < 0.8:
            return {"request_range": self.range()}
        delete = self.delete()
        if delete.get("range_end") == b("\0"):
            # docs/etcd-compatibility.md, "Put and unbounded delete in one transaction".
            delete["range_end"] = b("z")
        return {"request_delete_range": delete}

    def _one(self, choices: Any) -> Any:
        return self._random.choice(choices)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _maybe(self, probability: float, **fields: Any) -> Fields:
        return fields if self._chance(probability) else {}

    def _key(self) -> str:
        return "" if self._chance(0.005) else b(self._one(KEYS))

    def _end(self, probability: float) -> Fields:
        return self._maybe(probability, range_end=b(self._one(ENDS)))

    def _revision(self) -> Rev:
        return Rev(self._random.randint(0, 10))


def smaller(body: Any) -> Iterator[Any]:
    """The same body with one field or one item left out, at any depth."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield {other: item for other, item in body.items() if other != name}
            yield from ({**body, name: less} for less in smaller(value))
    elif isinstance(body, list):
        for place, value in enumerate(body):
            yield [*body[:place], *body[place + 1 :]]
            yield from ([*body[:place], less, *body[place + 1 :]] for less in smaller(value))


def shrink(requests: list[Call], differs: Callable[[list[Call]], bool]) -> list[Call]:
    """Leave out requests, then parts of them, for as long as what is left still `differs`."""
    again = True
    while again:
        again = False
        for place in reversed(range(len(requests))):
            for less in _shorter(requests, place):
                if differs(less):
                    requests, again = less, True
                    break
    return requests


def _shorter(requests: list[Call], place: int) -> Iterator[list[Call]]:
    before, call, after = requests[:place], requests[place], requests[place + 1 :]
    yield before + after
    for body in smaller(call.body):
        yield [*before, replace(call, body=body), *after]
