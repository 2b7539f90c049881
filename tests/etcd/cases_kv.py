"""Cases of put, range and deleterange (and what they refuse)."""

from tests.etcd.steps import (
    ALL,
    Rev,
    Table,
    b,
    compact,
    delete,
    differs,
    everything,
    get,
    grant,
    put,
    rpc,
)

# fmt: off
case = KV = Table("kv")
ABC = (put("a", "1"), put("b", "2"), put("c", "3"))

# -- put ----------------------------------------------------------------------------------------

case("put and get", put("a", "1"), get("a"))
case("put of a new key takes one revision", put("a", "1"), put("b", "1"), everything())
case("overwriting counts the version", put("a", "1"), put("a", "2"), put("a", "3"), get("a"))
case("version and create revision restart after a delete",
     put("a", "1"), put("a", "2"), delete("a"), put("a", "3"), get("a"))
case("put without value", put("a"), get("a"))
case("put of an empty value", put("a", ""), get("a"), put("a", "1"), put("a", ""), get("a"))
case("put with prev_kv", put("a", "1", prev_kv=True), put("a", "2", prev_kv=True))
case("put with prev_kv after a delete", put("a", "1"), delete("a"), put("a", "2", prev_kv=True))
case("prev_kv of an empty value", put("a", ""), put("a", "2", prev_kv=True))
case("ignore_value keeps the value", put("a", "1"), put("a", ignore_value=True), get("a"))
case("ignore_value with prev_kv", put("a", "1"), put("a", ignore_value=True, prev_kv=True))
case("ignore_value of a missing key with an unknown lease",
     put("a", ignore_value=True, lease="5"), put("a", "1"), put("a", ignore_value=True, lease="5"))
case("ignore_value of a missing key", put("a", ignore_value=True), everything())
case("ignore_value with a value", put("a", "1"), put("a", "2", ignore_value=True), get("a"))
case("ignore_value with an empty value", put("a", "1"), put("a", "", ignore_value=True), get("a"))
case("ignore_value takes the lease away", grant(777), put("a", "1", lease="777"),
     put("a", ignore_value=True), get("a"))
case("ignore_lease keeps the lease", grant(777), put("a", "1", lease="777"),
     put("a", "2", ignore_lease=True), get("a"))
case("ignore_lease of a missing key", put("a", "1", ignore_lease=True))
case("ignore_lease with a lease", put("a", "1"), put("a", "2", lease="5", ignore_lease=True))
case("ignore_lease and ignore_value", grant(777), put("a", "1", lease="777"),
     put("a", ignore_lease=True, ignore_value=True), get("a"))
case("put without key", rpc("kv/put", {"value": b("1")}), rpc("kv/put", {}))
case("put with an empty key", put("", "1"), rpc("kv/put", {"key": None, "value": b("1")}))
case("put with a lease", grant(777), put("a", "1", lease="777"), get("a"))
case("put with a lease given as a number", grant(777), put("a", "1", lease=777), get("a"))
case("put without lease detaches", grant(777), put("a", "1", lease="777"), put("a", "2"), get("a"))
case("put moves to another lease", grant(777), grant(778), put("a", "1", lease="777"),
     put("a", "2", lease="778"), get("a"))
case("put with an unknown lease", put("a", "1", lease="123456"), everything())
case("put with a negative lease", put("a", "1", lease="-5"))
case("put with lease 0", put("a", "1", lease="0"), get("a"))
case("a refused put takes no revision", put("a", "1"), put("a", "1", lease="123456"),
     put("", "1"), put("b", "1"))
case("bytes that are not UTF-8", rpc("kv/put", {"key": b(b"\xff\x00\xfe"), "value": b(b"\x80\0")}),
     get(b"\xff\x00\xfe"), everything())
case("a value of 1 MiB", put("a", "x" * (1 << 20)), get("a", keys_only=True), get("a"))
case("a request that is too large", put("a", "x" * 1_572_864), everything())
case("the largest request that fits", put("a", "x" * (1_572_864 - 12)), get("a", count_only=True))
case("the smallest request that does not fit",
     put("a", "x" * (1_572_864 - 2)), get("a", count_only=True))
case("a message above 2 MiB", put("a", "x" * (2 << 20)))
case("a key of 960 bytes", put("k" * 960, "1"), get("k" * 960))
case("a key of 961 bytes", get("k" * 961), delete("k" * 961), get("k" * 961, "l" * 1961),
     differs(put("k" * 961, "1"), "Length of keys", 400, "960 bytes"))

# -- range --------------------------------------------------------------------------------------

case("nothing found", get("a"), get("a", "z"), everything())
case("a missing key beside others", *ABC, get("bb"))
case("half-open interval", *ABC, get("a", "c"), get("b", "z"), get("a", "a\0"))
case("everything", *ABC, everything())
case("no upper bound", *ABC, get("b", "\0"))
case("range_end empty is the one key", *ABC, get("b", ""))
case("empty and inverted intervals", *ABC, get("b", "b"), get("c", "a"))
case("key \\0 without range_end", *ABC, get("\0"))
case("range without key", rpc("kv/range"), rpc("kv/range", {"range_end": b("z")}), get("", "z"))
case("prefix by hand", put("p/1", "x"), put("p/2", "y"), put("p0", "z"), get("p/", "p0"))
case("bytewise order", rpc("kv/put", {"key": b(b"\xff")}), put("a"), put("B"), put("aa"),
     rpc("kv/put", {"key": b(b"a\x00")}), everything())
case("limit", *ABC, everything(limit=2), everything(limit="1"))
case("limit that is not reached", *ABC, everything(limit=3), everything(limit=4))
case("limit 0 and negative", *ABC, everything(limit=0), everything(limit=-1))
case(
    "count_only",
    *ABC,
    everything(count_only=True),
    get("a", count_only=True),
    get("x", count_only=True),
)
case("count_only ignores the limit", *ABC, everything(count_only=True, limit=1))
case("keys_only", grant(777), put("a", "1", lease="777"), put("b", "2"), everything(keys_only=True))
case("keys_only sorted by value", put("a", "3"), put("b", "1"), put("c", "2"),
     everything(keys_only=True, sort_target="VALUE", sort_order="ASCEND"))
case("serializable", *ABC, everything(serializable=True))

_UNSORTED = (
    put("b", "9"),
    put("a", "5"),
    put("c", "7"),
    put("a", "8"),
    put("b", "1"),
    put("b", "2"),
)
for _target in ("KEY", "VERSION", "CREATE", "MOD", "VALUE"):
    for _order in ("NONE", "ASCEND", "DESCEND"):
        case(f"sorted by {_target} {_order}", *_UNSORTED,
             everything(sort_target=_target, sort_order=_order),
             everything(sort_target=_target, sort_order=_order, limit=2))
case("sort order and target as numbers", *_UNSORTED, everything(sort_order=2, sort_target=3),
     everything(sort_order=0, sort_target=1), everything(sort_order=1, sort_target=0))
case("equal sort keys", put("c", "1"), put("a", "1"), put("b", "1"),
     everything(sort_target="VALUE", sort_order="ASCEND"),
     everything(sort_target="VALUE", sort_order="DESCEND"),
     everything(sort_target="VERSION", sort_order="DESCEND", limit=2))
case("sort order that is unknown, as number", *ABC,
     differs(everything(sort_order=7), "Unknown numbers of enums", 400, "unknown value"))
case(
    "sort order that is unknown, as name",
    everything(sort_order="bogus"),
    everything(sort_order="descend"),
)
case("sort order as text of a number", everything(sort_order="2"))
case("sort target that is unknown, as name", everything(sort_target="bogus"))

for _bound in (
    "min_mod_revision",
    "max_mod_revision",
    "min_create_revision",
    "max_create_revision",
):
    case(f"filter {_bound}", *ABC, put("a", "4"), everything(**{_bound: Rev(2)}),
         everything(**{_bound: Rev(2)}, limit=1), everything(**{_bound: Rev(9)}),
         everything(**{_bound: Rev(2)}, count_only=True))
case("all filters together", *ABC, put("a", "4"), everything(
    min_mod_revision=Rev(2), max_mod_revision=Rev(4), min_create_revision=Rev(1),
    max_create_revision=Rev(2), sort_target="MOD", sort_order="DESCEND"))
case("filter, sort and limit", *_UNSORTED, everything(
    min_mod_revision=Rev(3), sort_target="VALUE", sort_order="DESCEND", limit=1))

case("an old revision", put("a", "1"), put("a", "2"), delete("a"), put("a", "3"),
     *(get("a", revision=Rev(n)) for n in range(5)))
case("everything at old revisions", *ABC, delete("b"), put("a", "4"),
     *(everything(revision=Rev(n)) for n in range(6)))
case("an old revision with limit and order", *ABC, delete("a"),
     everything(revision=Rev(3), limit=2, sort_order="DESCEND"),
     everything(revision=Rev(3), count_only=True),
     everything(revision=Rev(3), limit=2))
case("revision 0 and negative are now", *ABC, everything(revision=0), everything(revision=-3))
case("a future revision", put("a", "1"), get("a", revision=Rev(2)), get("a", revision=Rev(1)),
     everything(revision=Rev(1000), serializable=True))
case("a compacted revision", put("a", "1"), put("a", "2"), put("a", "3"), compact(Rev(2)),
     get("a", revision=Rev(1)), get("a", revision=Rev(2)), get("a", revision=Rev(3)),
     get("zz", revision=Rev(1)))

# -- deleterange --------------------------------------------------------------------------------

case("delete one key", *ABC, delete("b"), everything())
case("delete nothing", put("a", "1"), delete("x"), delete("x", "z"), put("b", "1"))
case("delete an interval", *ABC, delete("a", "c"), everything())
case("delete everything", *ABC, delete(*ALL), everything())
case("delete from a key on", *ABC, delete("b", "\0"), everything())
case("delete with prev_kv", *ABC, delete("a", "c", prev_kv=True), delete("c", prev_kv=True))
case("delete nothing with prev_kv", delete("a", prev_kv=True))
case("one revision for all deleted keys", *ABC, delete("a", "z"), put("a", "1"), get("a"))
case("delete without key", rpc("kv/deleterange"), rpc("kv/deleterange", {"range_end": b("z")}))
case("delete of an inverted interval", *ABC, delete("c", "a"), delete("b", "b"), everything())
case("delete of a key with a lease", grant(777), put("a", "1", lease="777"), delete("a",
     prev_kv=True),
     rpc("lease/timetolive", {"ID": "777", "keys": True}))
case("delete twice", put("a", "1"), delete("a"), delete("a"), put("b", "1"))

# -- compaction ---------------------------------------------------------------------------------

case("compaction", *ABC, compact(Rev(2)), everything())
case("compaction, physical", *ABC, compact(Rev(2), physical=True), everything())
case("compaction at the current revision", *ABC, compact(Rev(3)), everything(),
     everything(revision=Rev(3)), everything(revision=Rev(2)))
case("compaction in the future", *ABC, compact(Rev(4)), compact(Rev(1000)))
case("compaction twice", *ABC, compact(Rev(2)), compact(Rev(2)), compact(Rev(1)), compact(Rev(3)))
case("compaction at 0, negative and without revision",
     *ABC, compact(Rev(1)), compact(0), compact(-1), rpc("kv/compaction"))
case("a deleted key after compaction", put("a", "1"), delete("a"), put("b", "1"), compact(Rev(3)),
     get("a", revision=Rev(3)), put("a", "2"), get("a"))
case("the state at the compacted revision stays readable", *ABC, put("a", "4"), delete("b"),
     compact(Rev(4)), everything(revision=Rev(4)), everything(revision=Rev(5)),
     everything(revision=Rev(3)))
