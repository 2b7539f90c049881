"""Cases of leases, locks and elections."""

from tests.etcd.steps import (
    Begin,
    Finish,
    Next,
    Quiet,
    Rev,
    Saved,
    Table,
    Until,
    b,
    delete,
    everything,
    get,
    grant,
    op_put,
    put,
    rpc,
    txn,
    watch,
)

# fmt: off
case = LEASE = Table("lease")


def left(lease: object, **fields: object) -> object:
    """lease/timetolive."""
    return rpc("lease/timetolive", {"ID": lease, **fields})


def alive(lease: object) -> object:
    """lease/keepalive, which ends after its one answer."""
    return rpc("lease/keepalive", {"ID": lease})


case("grant with an id", grant(777), left(777), rpc("lease/leases"))
case("grant without an id", rpc("lease/grant", {"TTL": "60"}, save={"L": "ID"}),
     put("a", "1", lease=Saved("L")), get("a"), left(Saved("L"), keys=True),
     rpc("lease/revoke", {"ID": Saved("L")}), everything())
case("grant with id 0", rpc("lease/grant", {"TTL": 60, "ID": 0}, save={"L": "ID"}))
case("grant of an id that is taken", grant(777), grant(777, 5), left(777))
case("grant takes no revision", grant(777), put("a", "1"))
case("grant with a short TTL", grant(777, 1), grant(778, 2), grant(779, 3))
case(
    "grant with TTL 0 and negative", grant(777, 0), grant(778, -5), rpc("lease/grant", {"ID": 779})
)
case("grant with the largest TTL", grant(777, 9_000_000_000), left(777))
case("grant with a TTL that is too large", grant(777, 9_000_000_001), left(777))
case("a negative id", grant(-777), put("a", "1", lease="-777"), get("a"), left(-777, keys=True),
     rpc("lease/revoke", {"ID": "-777"}), everything())
case("an id above 2^53 as a number", rpc("lease/grant", {"TTL": 60, "ID": 9007199254740993}),
     put("a", "1", lease=9007199254740993), get("a"))
case("the largest id", rpc("lease/grant", {"TTL": 60, "ID": str(2**63 - 1)}), left(str(2**63 - 1)))
case("time to live", grant(777, 60), left(777), left("777"))
case("time to live with keys", grant(777), put("b", "1", lease="777"), put("a", "1", lease="777"),
     left(777, keys=True), left(777), put("a", "2"), left(777, keys=True))
case("time to live of an unknown lease", left(778), left(778, keys=True), rpc("lease/timetolive"))
case("keepalive", grant(777, 60), alive(777), alive("777"))
case("keepalive of an unknown lease", alive(778))
case("keepalive without id", rpc("lease/keepalive"))
case("keepalive with an empty body", rpc("lease/keepalive", b""))
case("keepalive with three documents", grant(777, 60),
     rpc("lease/keepalive", b'{"ID":777}\n{"ID":"778"} {"ID":777}'))
case("keepalive with garbage", rpc("lease/keepalive", b"{nonsense", loose=True))
case("keepalive with garbage after a document", grant(777, 60),
     rpc("lease/keepalive", b'{"ID":777}{nonsense', loose=True))
case("revoke", grant(777), rpc("lease/revoke", {"ID": 777}), left(777), rpc("lease/leases"))
case("revoke deletes the keys in one revision", grant(777), put("a", "1", lease=777),
     put("b", "1", lease=777), put("c", "1"), rpc("lease/revoke", {"ID": 777}), everything(),
     put("d", "1"))
case(
    "revoke without keys takes no revision",
    grant(777),
    rpc("lease/revoke", {"ID": 777}),
    put("a", "1"),
)
case("revoke of an unknown lease", rpc("lease/revoke", {"ID": 778}), rpc("lease/revoke"))
case("revoke twice", grant(777), rpc("lease/revoke", {"ID": 777}), rpc("lease/revoke", {"ID": 777}))
case("revoke spares a key that was put without the lease", grant(777), put("a", "1", lease=777),
     put("a", "2"), rpc("lease/revoke", {"ID": 777}), everything())
case(
    "grant again after revoke", grant(777), rpc("lease/revoke", {"ID": 777}), grant(777), left(777)
)
case("list", rpc("lease/leases"), grant(777), grant(778), grant(5), rpc("lease/leases"))
case("list without a body", grant(777), rpc("lease/leases", b""))
case("the aliases below kv/lease", grant(777), rpc("kv/lease/timetolive", {"ID": 777}),
     rpc("kv/lease/leases"), rpc("kv/lease/revoke", {"ID": 777}),
     rpc("kv/lease/revoke", {"ID": 777}))
case(
    "there is no kv/lease/grant",
    rpc("kv/lease/grant", {"TTL": 5}),
    rpc("kv/lease/keepalive", {"ID": 5}),
)
case(
    "expiry deletes the keys in one revision",
    grant(777, 2),
    put("a", "1", lease=777),
    put("b", "1", lease=777),
    put("c", "1"),
    Until(everything(), lambda found: found.get("count") == "1"),
    left(777),
    put("d", "1"),
)
case(
    "a watch sees the expiry in one message",
    grant(777, 2),
    put("a", "1", lease=777),
    put("b", "1", lease=777),
    watch("w", "a", "z"),
    Next("w"),
    Next("w"),
    rpc("lease/leases"),
)
case("keepalive after expiry", grant(777, 2),
     Until(rpc("lease/leases"), lambda found: "leases" not in found), alive(777))
case("expiry of a lease in a transaction", grant(777, 2), txn(None, [op_put("a", "1", lease=777)]),
     Until(everything(), lambda found: "count" not in found))
case("wrong types", rpc("lease/grant", {"TTL": "x"}, loose=True), rpc("lease/grant", {"TTL": 1.5},
     loose=True),
     rpc("lease/revoke", {"ID": "abc"}, loose=True))

# -- locks ----------------------------------------------------------------------------------------

case = LOCK = Table("lock")


def lock(lease: object, **options: object) -> object:
    """lock/lock of the name `m`."""
    return rpc("lock/lock", {"name": b("m"), "lease": lease}, **options)


case("lock and unlock", grant(0x1234), lock(0x1234), get("m/", "m0"),
     rpc("lock/unlock", {"key": b("m/1234")}), everything())
case("lock twice with one lease", grant(0xABCD), lock("43981"), lock("43981"), get("m/", "m0"))
case("lock with an unknown lease", lock(123456))
case("lock without lease", rpc("lock/lock", {"name": b("m")}, save={"K": "key"}),
     rpc("lock/unlock", {"key": Saved("K")}), everything())
case("lock with an empty name", grant(777), rpc("lock/lock", {"lease": 777}), everything())
case("unlock of what is not locked", rpc("lock/unlock", {"key": b("m/1")}), rpc("lock/unlock"))
case("the second waits for the first", grant(1), grant(2), lock(1), Begin("second", lock(2)),
     Until(get("m/", "m0", count_only=True), lambda found: found.get("count") == "2"),
     rpc("lock/unlock", {"key": b("m/1")}), Finish("second"), get("m/", "m0"))
case("the second waits until the lease of the first is revoked", grant(1), grant(2), lock(1),
     Begin("second", lock(2)),
     Until(get("m/", "m0", count_only=True), lambda found: found.get("count") == "2"),
     rpc("lease/revoke", {"ID": 1}), Finish("second"))
case("locks are given in order", grant(1), grant(2), grant(3), lock(1), Begin("second", lock(2)),
     Until(get("m/", "m0", count_only=True), lambda found: found.get("count") == "2"),
     Begin("third", lock(3)),
     Until(get("m/", "m0", count_only=True), lambda found: found.get("count") == "3"),
     rpc("lock/unlock", {"key": b("m/1")}), Finish("second"),
     rpc("lock/unlock", {"key": b("m/2")}), Finish("third"), everything())

# -- elections ------------------------------------------------------------------------------------

case = ELECTION = Table("election")


def campaign(lease: int, value: str, **options: object) -> object:
    """election/campaign of the name `e`."""
    ask = {"name": b("e"), "lease": str(lease), "value": b(value)}
    return rpc("election/campaign", ask, **options)


def term(lease: int, offset: int) -> dict:
    """The LeaderKey that a campaign answers."""
    return {"name": b("e"), "key": b(f"e/{lease:x}"), "rev": Rev(offset), "lease": str(lease)}


case("campaign, leader, resign", grant(10), campaign(10, "v"), rpc("election/leader",
     {"name": b("e")}),
     rpc("election/resign", {"leader": term(10, 1)}), everything(),
     rpc("election/leader", {"name": b("e")}))
case("no leader", rpc("election/leader", {"name": b("e")}))
case("campaign with an unknown lease", campaign(123456, "v"))
case("proclaim", grant(10), campaign(10, "v"),
     rpc("election/proclaim", {"leader": term(10, 1), "value": b("w")}),
     rpc("election/leader", {"name": b("e")}), everything())
case("proclaim by one who does not lead", grant(10),
     rpc("election/proclaim", {"leader": term(10, 1), "value": b("w")}))
case("proclaim and resign without leader", rpc("election/proclaim", {"value": b("w")}),
     rpc("election/resign"))
case("resign of an old leadership does nothing", grant(10), campaign(10, "v"),
     rpc("election/resign", {"leader": term(10, 5)}), everything())
case(
    "campaign again with another value",
    grant(10),
    campaign(10, "v"),
    campaign(10, "w"),
    everything(),
)
case("the second campaigns until the first resigns", grant(10), grant(11), campaign(10, "v"),
     Begin("second", campaign(11, "w")),
     Until(get("e/", "e0", count_only=True), lambda found: found.get("count") == "2"),
     rpc("election/resign", {"leader": term(10, 1)}), Finish("second"),
     rpc("election/leader", {"name": b("e")}))
case("observe", grant(10), campaign(10, "v"), Begin("o", rpc("election/observe", {"name": b("e")})),
     Next("o"), rpc("election/proclaim", {"leader": term(10, 1), "value": b("w")}), Next("o"),
     Quiet("o"))
case(
    "observe before there is a leader",
    grant(10),
    Begin("o", rpc("election/observe", {"name": b("e")})),
    campaign(10, "v"),
    Next("o"),
)
case("observe through a change of leaders", grant(10), grant(11), campaign(10, "v"),
     Begin("o", rpc("election/observe", {"name": b("e")})), Next("o"), delete("e/a"),
     campaign(11, "w"), Next("o"))
