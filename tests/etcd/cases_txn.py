"""Cases of transactions."""

from tests.etcd.steps import (
    Call,
    Rev,
    Table,
    b,
    compact,
    compare,
    differs,
    everything,
    get,
    grant,
    op_delete,
    op_get,
    op_put,
    op_txn,
    put,
    rpc,
    txn,
)

# fmt: off
case = TXN = Table("txn")
THEN, ELSE = [op_put("then", "1")], [op_put("else", "1")]


def decide(*compares: dict) -> Call:
    """A transaction that shows only which branch ran."""
    return txn(list(compares), [op_get("then")], [op_get("else"), op_get("else")])


case("empty", rpc("kv/txn"), txn([], [], []), put("a", "1"))
case("success without compare", txn(None, [op_put("a", "1")]), everything())
case("put, range and delete in order", put("a", "0"),
     txn(None, [op_get("a"), op_put("a", "1", prev_kv=True), op_get("a"), op_delete("b"),
     op_get("b")]),
     everything())
case("failure branch", txn([compare("a", "VERSION", version="1")], THEN, ELSE), everything())
case("failure without a branch", txn([compare("a", "VERSION", version="1")], THEN), everything())
case("one revision for all writes", txn(None, [op_put("a", "1"), op_put("b", "1"), op_delete("c")]),
     put("d", "1"), everything())
case(
    "no write, no revision", put("a", "1"), txn(None, [op_get("a"), op_delete("x")]), put("b", "1")
)
case("headers before and after the first write",
     txn(None, [op_get("a"), op_put("a", "1"), op_get("a"), op_delete("a2"), op_get("a")]))
case("delete with prev_kv in a transaction", put("a", "1"), put("b", "1"),
     txn(None, [op_delete("a", "z", prev_kv=True), op_get("a", "z")]))
case("an interval deleted, then another key put", put("a", "1"), put("b", "2"),
     txn(None, [op_delete("a", "c"), op_put("d", "1"), op_get("\0", "\0")]))
case("range options in a transaction", put("a", "1"), put("b", "2"), put("c", "3"), txn(None, [
    op_get("a", "z", limit=1), op_get("a", "z", count_only=True), op_get("a", "z", keys_only=True),
    op_get("a", "z", sort_order="DESCEND"), op_get("a", "z", revision=Rev(1))]))
case("ranges see earlier puts", txn(None, [op_put("a", "1"), op_get("\0", "\0"), op_put("b", "2"),
     op_get("\0", "\0", sort_order="DESCEND")]))
case(
    "put with a lease in a transaction",
    grant(777),
    txn(None, [op_put("a", "1", lease=777)]),
    get("a"),
)
case(
    "ignore_value in a transaction",
    put("a", "1"),
    txn(None, [op_put("a", ignore_value=True)]),
    get("a"),
)
case("ignore_lease in a transaction", grant(777), put("a", "1", lease="777"),
     txn(None, [op_put("a", "2", ignore_lease=True)]), get("a"))

for _target, _field, _now in (
    ("VERSION", "version", "2"), ("CREATE", "create_revision", Rev(1)),
    ("MOD", "mod_revision", Rev(2)), ("LEASE", "lease", "777"), ("VALUE", "value", b("m")),
):
    for _result in ("EQUAL", "GREATER", "LESS", "NOT_EQUAL"):
        _lower = {"VALUE": b("a"), "VERSION": "1", "LEASE": "5"}.get(_target, Rev(0))
        _higher = {"VALUE": b("z"), "VERSION": "9", "LEASE": "900"}.get(_target, Rev(9))
        case(f"compare {_target} {_result}", grant(777), put("a", "1"), put("a", "m", lease="777"),
             *(decide(compare("a", _target, _result, **{_field: operand}))
               for operand in (_now, _lower, _higher)),
             decide(compare("a", _target, _result)))
        case(f"compare {_target} {_result} with a missing key",
             *(decide(compare("x", _target, _result, **{_field: operand}))
               for operand in (_lower, "" if _target == "VALUE" else "0")))
case("compare by numbers", put("a", "1"),
     *(decide({"key": b("a"), "target": target, "result": result, "create_revision": 0})
       for target in range(5) for result in range(4)))
case("compare without target and result", put("a", "1"), decide({"key": b("a"), "version": 1}),
     decide({"key": b("a"), "value": b("1")}), decide({"key": b("a")}))
case("compare with the operand of another target", put("a", "1"),
     decide(compare("a", "VERSION", mod_revision=Rev(1))),
     decide(compare("a", "CREATE", "GREATER", version="5")),
     decide(compare("a", "VALUE", version="5")))
case(
    "compare with two operands",
    put("a", "1"),
    differs(
        rpc(
            "kv/txn",
            (
                b'{"compare":[{"key":"YQ==","target":"VERSION","version":"1","mod_revision":"9"}],'
                b'"success":[{"request_range":{"key":"YQ=="}}]}'
            ),
        ),
        "Two operands in one compare",
        200,
        "succeeded",
    ),
)
case("compares are ANDed", put("a", "1"), put("b", "2"),
     decide(compare("a", "VALUE", value=b("1")), compare("b", "VALUE", value=b("2"))),
     decide(compare("a", "VALUE", value=b("1")), compare("b", "VALUE", value=b("3"))))
case("compare of an unknown target or result", put("a", "1"),
     decide({"key": b("a"), "target": "BOGUS"}), decide({"key": b("a"), "result": "BOGUS"}))
for _field in ("result", "target"):
    case(
        f"compare of an unknown {_field} number",
        put("a", "1"),
        differs(
            decide({"key": b("a"), _field: 9}), "Unknown numbers of enums", 400, "unknown value 9"
        ),
    )
case("compare on an interval", put("a", "1"), put("b", "1"), put("c", "2"),
     decide(compare("a", "VALUE", range_end=b("c"), value=b("1"))),
     decide(compare("a", "VALUE", range_end=b("d"), value=b("1"))),
     decide(compare("a", "VERSION", "GREATER", range_end=b("\0"), version="0")),
     decide(compare("\0", "MOD", "LESS", range_end=b("\0"), mod_revision=Rev(3))))
case("compare on an empty interval",
     decide(compare("x", "VERSION", range_end=b("z"), version="0")),
     decide(compare("x", "CREATE", "GREATER", range_end=b("z"), create_revision="0")),
     decide(compare("x", "VALUE", "NOT_EQUAL", range_end=b("z"), value=b("1"))))
case("compare without key", put("a", "1"), txn([{"target": "VERSION"}], THEN))
case("compare with an inverted interval", put("a", "1"),
     decide(compare("c", "VERSION", range_end=b("a"), version="0")))

case("nested", put("a", "1"), txn(None, [op_txn(
    [compare("a", "VALUE", value=b("1"))], [op_put("b", "2"), op_get("b")], [op_put("c", "3")])]),
    everything())
case("nested, failing", put("a", "1"), txn(None, [op_txn(
    [compare("a", "VALUE", value=b("9"))], [op_put("b", "2")], [op_put("c", "3"), op_get("c")])]),
    everything())
case(
    "nested sees earlier writes",
    txn(
        None,
        [
            op_put("a", "1"),
            op_txn([compare("a", "VALUE", value=b("1"))], [op_put("b", "2")], [op_put("c", "3")]),
        ],
    ),
    everything(),
)
case("nested twice", txn(None, [op_txn(None, [op_txn(None, [op_put("a", "1"), op_get("a")])]),
     op_get("a")]), everything())
case("nested empty", txn(None, [op_txn(), op_txn([], [], [])]), put("a", "1"))
case(
    "nested in the failure branch",
    txn(
        [compare("a", "VERSION", version="1")],
        [],
        [op_txn([compare("a", "CREATE", create_revision=0)], [op_put("a", "1")])],
    ),
    everything(),
)

case("the same key put twice", txn(None, [op_put("a", "1"), op_put("a", "2")]), everything())
case("put and delete of the same key", txn(None, [op_put("a", "1"), op_delete("a")]),
     txn(None, [op_delete("a"), op_put("a", "1")]), everything())
case("put inside a deleted interval", txn(None, [op_put("b", "1"), op_delete("a", "c")]),
     txn(None, [op_delete("a", "c"), op_put("b", "1")]), everything())
case(
    "put beside a deleted interval",
    txn(None, [op_put("c", "1"), op_delete("a", "c")]),
    everything(),
)
for _first, _end in (("\0", "\0"), ("a", "\0")):
    for _ops in (
        [op_put("b", "1"), op_delete(_first, _end)],
        [op_delete(_first, _end), op_put("b", "1")],
    ):
        _order = "before" if "request_put" in _ops[0] else "after"
        case(
            f"put {_order} a deletion without bound from {_first!r}",
            put("c", "1"),
            differs(
                txn(None, _ops), "Put and unbounded delete in one transaction", 400, "duplicate key"
            ),
        )
case(
    "two deletes of the same key",
    put("a", "1"),
    txn(None, [op_delete("a"), op_delete("a")]),
    everything(),
)
case("the same key in both branches", txn([compare("a", "VERSION", version="0")],
     [op_put("a", "1")], [op_put("a", "2")]), everything())
case("a duplicate in the branch that does not run", txn(None, [op_put("a", "1")],
     [op_put("b", "1"), op_put("b", "2")]), everything())
case("a duplicate in a nested transaction", txn(None, [op_put("a", "1"), op_txn(None, [op_put("a",
     "2")])]),
     txn(None, [op_delete("a", "z"), op_txn(None, [op_put("b", "2")])]),
     txn(None, [op_txn(None, [op_put("a", "1")]), op_txn(None, [op_put("a", "2")])]),
     txn(None, [op_txn(None, [op_put("a", "1")], [op_put("a", "2")])]), everything())
case("a nested delete and an outer put", txn(None, [op_put("a", "1"), op_txn(None,
     [op_delete("a")])]),
     txn(None, [op_txn(None, [op_delete("a", "c")]), op_put("b", "1")]), everything())
case(
    "128 operations",
    txn(None, [op_put(f"k{n:03}", "1") for n in range(128)]),
    everything(count_only=True),
)
case("129 operations", txn(None, [op_put(f"k{n:03}", "1") for n in range(129)]),
     txn([], [], [op_get("a")] * 129), everything(count_only=True))
case("129 compares", decide(*[compare("a", "VERSION", version="0")] * 128),
     decide(*[compare("a", "VERSION", version="0")] * 129))
case("129 operations in a nested transaction", txn(None, [op_txn(None, [op_get("a")] * 129)]))
case(
    "an operation without content",
    txn(None, [{}]),
    txn(None, [{"request_bogus": {}}]),
    everything(),
)
case("an operation that is null", txn(None, [{"request_put": None}]), txn(None, [None]))
case(
    "operations without key",
    txn(None, [{"request_put": {"value": b("1")}}]),
    txn(None, [{"request_range": {}}]),
    txn(None, [{"request_delete_range": {}}]),
    txn(None, [], [{"request_put": {}}]),
    txn(None, [op_txn(None, [{"request_put": {}}])]),
)
case("value and ignore_value in a transaction", put("a", "1"),
     txn(None, [op_put("a", "2", ignore_value=True)]),
     txn(None, [op_put("a", "2", ignore_lease=True, lease="1")]))
case("of two refusals the first counts",
     txn(None, [op_put("a", ignore_value=True, lease=99)]),
     txn(None, [op_put("b", "1", lease=99), op_put("a", ignore_value=True)]),
     txn(None, [op_put("a", ignore_value=True), op_put("b", "1", lease=99)]))
case("an unknown lease fails the whole transaction", put("z", "0"),
     txn(None, [op_put("a", "1"), op_put("b", "1", lease="123456")]), get("b"))
case("ignore_value of a missing key fails the transaction",
     txn(None, [op_put("b", ignore_value=True)]), everything())
case("a future revision in a transaction", put("a", "1"),
     txn(None, [op_get("a", revision=Rev(1000))]), everything())
case("the revision that the transaction makes", put("a", "1"),
     txn(None, [op_put("b", "1"), op_get("b", revision=Rev(2))]),
     txn(None, [op_put("b", "2"), op_get("b", revision=Rev(1))]), everything())
case("a compacted revision in a transaction", put("a", "1"), put("a", "2"), put("a", "3"),
     compact(Rev(2)), txn(None, [op_get("a", revision=Rev(1))]),
     txn(None, [op_get("a", revision=Rev(2))]))
case("camelCase names", put("a", "1"), rpc("kv/txn", {
    "compare": [{"key": b("a"), "target": "MOD", "modRevision": Rev(1)}],
    "success": [{"requestPut": {"key": b("a"), "value": b("2"), "prevKv": True}},
                {"requestRange": {"key": b("a"), "rangeEnd": b("c"), "keysOnly": True}},
                {"requestDeleteRange": {"key": b("x")}}]}))
case("the lock that tooz and etcd3gw take", grant(777), *[txn(
    [compare("lock", "CREATE", create_revision=0)], [op_put("lock", "me", lease=777)],
    [op_get("lock")])] * 2)
case("the leader key that Patroni takes", grant(777), *[rpc("kv/txn", {
    "compare": [{"key": b("leader"), "target": "CREATE", "create_revision": "0"}],
    "success": [{"request_put": {"key": b("leader"), "value": b("n1"), "lease": "777"}}],
    "failure": [{"request_txn": {
        "compare": [{"key": b("leader"), "target": "VALUE", "value": b("n1")}],
        "success": [{"request_put": {"key": b("leader"), "value": b("n1"), "lease": "777"}}]}}],
})] * 2, get("leader"))
