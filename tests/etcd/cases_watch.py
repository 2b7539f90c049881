"""Cases of watches, over HTTP and over WebSocket."""

from tests.etcd.steps import (
    Begin,
    Finish,
    Frame,
    Next,
    Quiet,
    Rev,
    Socket,
    Table,
    b,
    compact,
    delete,
    grant,
    op_delete,
    op_put,
    put,
    rpc,
    span,
    txn,
    watch,
)

# fmt: off
case = WATCH = Table("watch")


def create(key: str, end: str | None = None, **fields: object) -> dict:
    """A message that creates a watch."""
    return {"create_request": span(key, end, **fields)}


case("created", watch("w", "a"), Next("w"), Quiet("w"))
case("a put", watch("w", "a"), Next("w"), put("a", "1"), Next("w"), put("b", "1"), Quiet("w"))
case("an overwrite and a delete", put("a", "1"), watch("w", "a"), Next("w"), put("a", "2"),
     Next("w"),
     delete("a"), Next("w"), put("a", "3"), Next("w"))
case("a prefix", watch("w", "p/", "p0"), Next("w"), put("p/1", "1"), Next("w"), put("p/2", "1"),
     Next("w"), put("q", "1"), Quiet("w"))
case(
    "everything",
    watch("w", "\0", "\0"),
    Next("w"),
    put("a", "1"),
    Next("w"),
    put("\x7f", "1"),
    Next("w"),
)
case("from a key on", watch("w", "b", "\0"), Next("w"), put("a", "1"), put("c", "1"), Next("w"))
case("prev_kv", watch("w", "a", prev_kv=True), Next("w"), put("a", "1"), Next("w"), put("a", "2"),
     Next("w"), delete("a"), Next("w"))
case("prev_kv with a lease", grant(777), watch("w", "a", prev_kv=True), Next("w"),
     put("a", "1", lease=777), Next("w"), put("a", "2"), Next("w"))
case("an empty value", watch("w", "a"), Next("w"), put("a", ""), Next("w"))
case(
    "filter NOPUT",
    watch("w", "a", filters=["NOPUT"]),
    Next("w"),
    put("a", "1"),
    delete("a"),
    Next("w"),
)
case("filter NODELETE", watch("w", "a", filters=["NODELETE"]), Next("w"), put("a", "1"), Next("w"),
     delete("a"), put("a", "2"), Next("w"))
case("filters as numbers", watch("w", "a", filters=[0]), watch("v", "a", filters=[1]), Next("w"),
     Next("v"),
     put("a", "1"), Next("v"), delete("a"), Next("w"), Quiet("v"))
case(
    "both filters",
    watch("w", "a", filters=["NOPUT", "NODELETE"]),
    Next("w"),
    put("a", "1"),
    Quiet("w"),
)
case("no filters", watch("w", "a", filters=[]), Next("w"), put("a", "1"), Next("w"))
case("a transaction in one message", put("c", "1"), watch("w", "a", "z"), Next("w"),
     txn(None, [op_put("b", "1"), op_put("a", "1"), op_delete("c")]), Next("w"))
case("part of a transaction", watch("w", "a"), Next("w"),
     txn(None, [op_put("b", "1"), op_put("a", "1")]), Next("w"))
case("an interval deleted in one message", put("a", "1"), put("b", "1"), watch("w", "a", "z"),
     Next("w"),
     delete("a", "z"), Next("w"))
case("revoke of a lease", grant(777), put("a", "1", lease=777), put("b", "1", lease=777),
     watch("w", "a", "z"), Next("w"), rpc("lease/revoke", {"ID": 777}), Next("w"))
case("from an old revision", put("a", "1"), put("b", "1"), put("a", "2"), delete("a"),
     watch("w", "a", start_revision=Rev(1)), Next("w", 2), put("a", "3"), Next("w"))
case("from an old revision with prev_kv", put("a", "1"), put("a", "2"), delete("a"),
     watch("w", "a", start_revision=Rev(2), prev_kv=True), Next("w", 2))
case(
    "from the current revision", put("a", "1"), watch("w", "a", start_revision=Rev(1)), Next("w", 2)
)
case("from the next revision", put("a", "1"), watch("w", "a", start_revision=Rev(2)), Next("w"),
     Quiet("w"), put("a", "2"), Next("w"))
case("from a future revision", watch("w", "a", start_revision=Rev(3)), Next("w"), put("a", "1"),
     put("a", "2"), Quiet("w"), put("a", "3"), Next("w"))
case(
    "an old revision in which nothing happened to the key",
    put("b", "1"),
    put("b", "2"),
    watch("w", "a", start_revision=Rev(1)),
    Next("w"),
    Quiet("w"),
    put("a", "1"),
    Next("w"),
)
case("from a compacted revision", put("a", "1"), put("a", "2"), put("a", "3"), compact(Rev(3)),
     watch("w", "a", start_revision=Rev(2)), Next("w", 2), Quiet("w"))
case("from the revision of the compaction", put("a", "1"), put("a", "2"), put("a", "3"),
     compact(Rev(2)),
     watch("w", "a", start_revision=Rev(2)), Next("w", 2))
case("from a negative revision", put("a", "1"), put("a", "2"), compact(Rev(2)),
     watch("w", "a", start_revision="-1"), Next("w", 2))
case("a chosen id", watch("w", "a", watch_id="7"), Next("w"), put("a", "1"), Next("w"))
case("two watches on one stream", Begin("w", rpc("watch", (
    b'{"create_request":{"key":"YQ=="}}{"create_request":{"key":"Yg=="}}'))), Next("w", 2),
    put("a", "1"), Next("w"), put("b", "1"), Next("w"))
case("an id that is taken", Begin("w", rpc("watch", (
    b'{"create_request":{"key":"YQ==","watch_id":7}}{"create_request":{"key":"Yg==","watch_id":7}}'))),
    Next("w", 2))
case("cancel", Begin("w", rpc("watch", (
    b'{"create_request":{"key":"YQ==","watch_id":7}}{"cancel_request":{"watch_id":7}}'))),
    Next("w", 2), put("a", "1"), Quiet("w"))
case("cancel of an unknown id", Begin("w", rpc("watch", (
    b'{"create_request":{"key":"YQ=="}}{"cancel_request":{"watch_id":9}}'))),
    Next("w"), Quiet("w"), put("a", "1"), Next("w"))
case(
    "an id again after cancel",
    Begin(
        "w",
        rpc(
            "watch",
            (
                b'{"create_request":{"key":"YQ==","watch_id":7}}{"cancel_request":{"watch_id":7}}'
                b'{"create_request":{"key":"Yg==","watch_id":7}}'
            ),
        ),
    ),
    Next("w", 3),
    put("b", "1"),
    Next("w"),
)
case("progress request", Begin("w", rpc("watch", (
    b'{"create_request":{"key":"YQ=="}}{"progress_request":{}}'))), Next("w", 2))
case("an inverted interval", watch("w", "c", "a"), Next("w"), Quiet("w"))
case("an empty interval", watch("w", "a", "a"), Next("w"))
case(
    "without key",
    Begin("w", rpc("watch", {"create_request": {}})),
    Next("w"),
    put("a", "1"),
    Quiet("w"),
)
case("without key, with range_end", Begin("w", rpc("watch",
     {"create_request": {"range_end": b("b")}})),
     Next("w"), put("a", "1"), Next("w"))
case("fragment and progress_notify", watch("w", "a", fragment=True, progress_notify=True),
     Next("w"),
     put("a", "1"), Next("w"))
case("camelCase names", Begin("w", rpc("watch", {"createRequest": {
    "key": b("a"), "rangeEnd": b("c"), "prevKv": True, "startRevision": "0"}})),
    Next("w"), put("b", "1"), Next("w"))
case("an unknown filter", Begin("w", rpc("watch", create("a", filters=["BOGUS"]), loose=True)),
     Finish("w", loose=True))
case("an empty message", Begin("w", rpc("watch", b"{}")), put("a", "1"))
case("a malformed first document", Begin("w", rpc("watch", b"{nonsense")), Finish("w", loose=True))
case(
    "illegal base64",
    Begin("w", rpc("watch", b'{"create_request":{"key":"!"}}')),
    Finish("w", loose=True),
)
case("two streams see the same", watch("w", "a"), watch("v", "a"), Next("w"), Next("v"),
     put("a", "1"), Next("w"), Next("v"))
case("many revisions, one message each", watch("w", "a"), Next("w"),
     *(step for n in range(20) for step in (put("a", str(n)), Next("w"))))
case("a large value", watch("w", "a"), Next("w"), put("a", "x" * 300_000), Next("w"))
case("below /v3beta", Begin("w", rpc("watch", create("a"))), Next("w"), put("a", "1"), Next("w"))

case = WEBSOCKET = Table("websocket")
case(
    "created and events",
    Socket("s", "/v3/watch"),
    Frame("s", create("a")),
    Next("s"),
    put("a", "1"),
    Next("s"),
)
case("several watches", Socket("s", "/v3/watch"), Frame("s", create("a", watch_id=1)), Next("s"),
     Frame("s", create("b", watch_id=2, progress_notify=True)), Next("s"), put("b", "1"), Next("s"),
     put("a", "1"), Next("s"), Frame("s", {"cancel_request": {"watch_id": "1"}}), Next("s"),
     put("a", "2"), put("b", "2"), Next("s"))
case("progress request", Socket("s", "/v3/watch"), Frame("s", create("a", watch_id=3)), Next("s"),
     put("b", "1"), Frame("s", {"progress_request": {}}), Next("s"))
case("keepalive", grant(777, 60), Socket("s", "/v3/lease/keepalive"), Frame("s", {"ID": 777}),
     Next("s"),
     Frame("s", {"ID": 778}), Next("s"))
case(
    "compacted",
    put("a", "1"),
    put("a", "2"),
    put("a", "3"),
    compact(Rev(3)),
    Socket("s", "/v3/watch"),
    Frame("s", create("a", start_revision=Rev(1), watch_id=4)),
    Next("s", 2),
)
