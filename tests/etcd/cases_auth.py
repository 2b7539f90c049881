"""Cases of authentication: each leaves the server without users, with authentication off."""

from dataclasses import replace
from typing import Any

from tests.etcd.steps import (
    ALL,
    Begin,
    Call,
    Next,
    Quiet,
    Rev,
    Saved,
    Step,
    Table,
    b,
    compact,
    compare,
    delete,
    differs,
    everything,
    get,
    grant,
    op_get,
    op_put,
    op_txn,
    put,
    put_fields,
    rpc,
    span,
    txn,
)

# fmt: off
_table = Table("auth")


def case(name: str, *steps: Step) -> None:
    """A case that begins and ends without users."""
    _table(name, *steps, auth=True)


AUTH = _table
ROOT = {"Authorization": Saved("root")}
ANN = {"Authorization": Saved("ann")}


def user(name: str = "ann", password: str = "pw", **options: Any) -> Call:
    """auth/user/add."""
    return rpc("auth/user/add", {"name": name, "password": password}, **options)


def role(name: str = "r", **options: Any) -> Call:
    """auth/role/add."""
    return rpc("auth/role/add", {"name": name}, **options)


def allow(kind: str, key: str, end: str | None = None, name: str = "r", **options: Any) -> Call:
    """auth/role/grant."""
    return rpc(
        "auth/role/grant", {"name": name, "perm": {"permType": kind, **span(key, end)}}, **options
    )


def give(name: str = "ann", given: str = "r", **options: Any) -> Call:
    """auth/user/grant."""
    return rpc("auth/user/grant", {"user": name, "role": given}, **options)


def login(name: str, password: str = "pw", **options: Any) -> Call:
    """auth/authenticate."""
    return rpc("auth/authenticate", {"name": name, "password": password},
               save={name: "token"}, **options)


SWITCH_ON = (user("root"), role("root"), give("root", "root"), rpc("auth/enable"), login("root"))
ANN_READS_A = (user(), role(), allow("READ", "a"), give())
ANN_MAY_A_TO_C = (user(), role(), allow("READWRITE", "a", "c"), give())


def by(headers: dict[str, Any], call: Call) -> Call:
    """The same request with a token."""
    return replace(call, headers=headers)


case("status while off", rpc("auth/status"))
case("switch on and off", *SWITCH_ON, rpc("auth/status"), by(ROOT, rpc("auth/status")),
     by(ROOT, rpc("auth/disable")), rpc("auth/status"))
case("enable without root", rpc("auth/enable"))
case(
    "enable without the root role",
    user("root"),
    rpc("auth/enable"),
    role("root"),
    rpc("auth/enable"),
)
case("disable while off", rpc("auth/disable"))
case("enable twice", *SWITCH_ON, by(ROOT, rpc("auth/enable")))
case("authenticate while off", login("root"), user(), login("ann"))
case("authenticate", *SWITCH_ON, login("root"), login("root", "wrong"), login("nobody"), login(""))
case("users", user(), user("bob"), rpc("auth/user/list"), rpc("auth/user/get", {"name": "ann"}),
     user(), rpc("auth/user/delete", {"name": "ann"}), rpc("auth/user/delete", {"name": "ann"}),
     rpc("auth/user/get", {"name": "ann"}), rpc("auth/user/list"))
case("a user without a name", user(""), rpc("auth/user/add"))
case("a user without a password",
     differs(user("ann", ""), "Empty passwords", 400, "must not be empty"))
case("a user who has no password", rpc("auth/user/add", {"name": "ann",
     "options": {"no_password": True}}),
     rpc("auth/user/list"), *SWITCH_ON, login("ann", ""), login("ann"))
case("roles", role(), role("s"), rpc("auth/role/list"), role(), rpc("auth/role/get", {"role": "r"}),
     rpc("auth/role/delete", {"role": "r"}), rpc("auth/role/delete", {"role": "r"}),
     rpc("auth/role/get", {"role": "r"}), rpc("auth/role/list"))
case("a role without a name", role(""), rpc("auth/role/add"))
case("grant and revoke a role", user(), role(), give(), rpc("auth/user/get", {"name": "ann"}),
     give(),
     rpc("auth/user/revoke", {"name": "ann", "role": "r"}), rpc("auth/user/get", {"name": "ann"}),
     rpc("auth/user/revoke", {"name": "ann", "role": "r"}))
case("grant to and of unknown names", user(), role(), give("bob"), give("ann", "s"),
     rpc("auth/user/revoke", {"name": "bob", "role": "r"}))
case("roles of a user are sorted", user(), role("z"), role("b"), role("m"), give("ann", "z"),
     give("ann", "b"), give("ann", "m"), rpc("auth/user/get", {"name": "ann"}))
case("deleting a role takes it from its users", *ANN_READS_A, rpc("auth/role/delete",
     {"role": "r"}),
     rpc("auth/user/get", {"name": "ann"}))
case(
    "permissions",
    role(),
    allow("READ", "a"),
    allow("WRITE", "b", "d"),
    allow("READWRITE", "k", "\0"),
    rpc("auth/role/get", {"role": "r"}),
    allow("WRITE", "a"),
    rpc("auth/role/get", {"role": "r"}),
)
case("permission types as numbers", role(), *(rpc("auth/role/grant", {
    "name": "r", "perm": {"permType": kind, "key": b(f"k{kind}")}}) for kind in (0, 1, 2)),
    rpc("auth/role/get", {"role": "r"}))
case("permission for an unknown role", allow("READ", "a"))
case("a permission without content", role(), rpc("auth/role/grant", {"name": "r"}))
case("revoke a permission", role(), allow("READ", "a"), allow("READ", "b", "d"),
     rpc("auth/role/revoke", {"role": "r", "key": b("a")}),
     rpc("auth/role/revoke", {"role": "r", "key": b("b")}),
     rpc("auth/role/revoke", {"role": "r", "key": b("b"), "range_end": b("d")}),
     rpc("auth/role/get", {"role": "r"}),
     rpc("auth/role/revoke", {"role": "s", "key": b("a")}))
case("no token", *SWITCH_ON, put("a", "1"), get("a"), delete("a"), txn(None, [op_put("a", "1")]),
     txn(None, [op_get("a")]), txn([compare("a", "VERSION")], []))
case("compaction without a token", *SWITCH_ON,
     differs(compact("1"), "Compaction needs a user", 400, "user name is empty"))
# At a revision of its own: the case before this one compacts etcd and not ours.
case("compaction with a token", put("a", "1"), *ANN_READS_A, *SWITCH_ON, login("ann"),
     by(ROOT, compact(Rev(1))), by(ANN, compact(Rev(1))))
case("no token, administration", *SWITCH_ON, user(), role(), rpc("auth/user/list"),
     rpc("auth/role/list"),
     rpc("auth/enable"), rpc("auth/disable"), rpc("auth/user/get", {"name": "root"}))
NOBODY = "With authentication on, nobody in particular may do nothing"


def closed(call: Call) -> Call:
    """etcd serves it to nobody in particular, ours does not."""
    return differs(call, NOBODY, 400, "user name is empty")


case(
    "what works without a token",
    *SWITCH_ON,
    closed(txn()),
    closed(rpc("cluster/member/list")),
    closed(rpc("maintenance/status")),
    rpc("auth/status"),
    closed(rpc("maintenance/alarm")),
    closed(rpc("lease/leases")),
    closed(grant(778)),
    by(ROOT, grant(777)),
    closed(rpc("lease/timetolive", {"ID": 777})),
    closed(rpc("lease/keepalive", {"ID": 777})),
    closed(rpc("lease/revoke", {"ID": 777})),
    Call("/version", b"", "GET"),
    Call("/health", b"", "GET"),
)
case("administration without a token that is left to root", *SWITCH_ON,
     rpc("maintenance/defragment"),
     rpc("maintenance/hash"))
case(
    "a bad token",
    *SWITCH_ON,
    by({"Authorization": "bogus"}, get("a")),
    by({"Authorization": "bogus.1"}, put("a", "1")),
    by({"Authorization": "Bearer x"}, get("a")),
)
case("a bad token while off", by({"Authorization": "bogus"}, get("a")),
     by({"Authorization": "bogus"}, rpc("maintenance/status")))
case(
    "the other token header", *SWITCH_ON, by({"Grpc-Metadata-Token": Saved("root")}, put("a", "1"))
)
case("root may everything", *SWITCH_ON, by(ROOT, put("a", "1")), by(ROOT, everything()),
     by(ROOT, delete(*ALL)), by(ROOT, user()), by(ROOT, rpc("auth/user/list")))
case("a user without roles", *SWITCH_ON, by(ROOT, user()), login("ann"), by(ANN, get("a")),
     by(ANN, put("a", "1")), by(ANN, delete("a")), by(ANN, txn()))
case(
    "reading one key",
    *ANN_READS_A,
    *SWITCH_ON,
    login("ann"),
    by(ANN, get("a")),
    by(ANN, get("b")),
    by(ANN, get("a", "b")),
    by(ANN, everything()),
    by(ANN, put("a", "1")),
    by(ANN, delete("a")),
)
case("an interval must be covered as a whole", *ANN_MAY_A_TO_C, *SWITCH_ON, login("ann"),
     by(ANN, get("a", "c")), by(ANN, get("a", "b\0")), by(ANN, get("b", "d")), by(ANN, get("a",
     "\0")),
     by(ANN, put("b", "1")), by(ANN, put("c", "1")), by(ANN, delete("a", "c")))
case("two permissions side by side cover together", user(), role(), allow("READ", "a", "c"),
     allow("READ", "c", "e"), give(), *SWITCH_ON, login("ann"), by(ANN, get("a", "e")),
     by(ANN, get("a", "f")), by(ANN, get("c")))
case("permission from a key on", user(), role(), allow("READWRITE", "m", "\0"), give(), *SWITCH_ON,
     login("ann"), by(ANN, put("z", "1")), by(ANN, get("m", "\0")), by(ANN, get("l", "\0")))
case("permission for everything", user(), role(), allow("READWRITE", *ALL), give(), *SWITCH_ON,
     login("ann"), by(ANN, put("z", "1")), by(ANN, everything()))
case("write only", user(), role(), allow("WRITE", "a"), give(), *SWITCH_ON, login("ann"),
     by(ANN, put("a", "1")), by(ANN, put("a", "1", prev_kv=True)), by(ANN, get("a")),
     by(ANN, delete("a", prev_kv=True)), by(ANN, delete("a")))
case(
    "transactions need every right",
    *ANN_MAY_A_TO_C,
    *SWITCH_ON,
    login("ann"),
    by(ANN, txn(None, [op_put("a", "1"), op_get("b")])),
    by(ANN, txn(None, [op_put("x", "1")])),
    by(ANN, txn([compare("x", "VERSION")], [op_put("a", "1")])),
    by(ANN, txn([compare("a", "VERSION", version="9")], [op_put("a", "2")], [op_put("x", "1")])),
    by(ANN, txn(None, [op_txn(None, [op_put("b", "1")])])),
    differs(
        by(ANN, txn(None, [op_txn(None, [op_put("x", "1")])])),
        "Rights in nested transactions",
        403,
        "permission denied",
    ),
)
case(
    "administration by others",
    *ANN_READS_A,
    user("bob"),
    role("s"),
    *SWITCH_ON,
    login("ann"),
    by(ANN, user("eve")),
    by(ANN, role("t")),
    by(ANN, rpc("auth/user/list")),
    by(ANN, rpc("auth/role/list")),
    by(ANN, rpc("auth/user/get", {"name": "ann"})),
    by(ANN, rpc("auth/user/get", {"name": "bob"})),
    by(ANN, rpc("auth/role/get", {"role": "r"})),
    by(ANN, rpc("auth/role/get", {"role": "s"})),
    by(ANN, rpc("auth/disable")),
    by(ANN, rpc("auth/user/changepw", {"name": "ann", "password": "x"})),
)
case("a changed password ends tokens", *ANN_READS_A, *SWITCH_ON, login("ann"), by(ANN, get("a")),
     by(ROOT, rpc("auth/user/changepw", {"name": "ann", "password": "new"})), by(ANN, get("a")),
     login("ann"), login("ann", "new"), by(ANN, get("a")))
case("change of an unknown password", rpc("auth/user/changepw", {"name": "ann", "password": "x"}))
case("a deleted user's token", *ANN_READS_A, *SWITCH_ON, login("ann"),
     by(ROOT, rpc("auth/user/delete", {"name": "ann"})), by(ANN, get("a")))
case("rights that are given while logged in", *ANN_READS_A, *SWITCH_ON, login("ann"), by(ANN,
     put("a", "1")),
     by(ROOT, allow("READWRITE", "a")), by(ANN, put("a", "1")),
     by(ROOT, rpc("auth/role/revoke", {"role": "r", "key": b("a")})), by(ANN, get("a")))
case("root cannot be removed while on", *SWITCH_ON, by(ROOT, rpc("auth/user/delete",
     {"name": "root"})),
     by(ROOT, rpc("auth/role/delete", {"role": "root"})),
     by(ROOT, rpc("auth/user/revoke", {"name": "root", "role": "root"})))
case("root can be removed while off", user("root"), role("root"), give("root", "root"),
     rpc("auth/user/delete", {"name": "root"}), rpc("auth/role/delete", {"role": "root"}))
case("watch without a token", *SWITCH_ON, Begin("w", rpc("watch", {"create_request": span("a")})),
     Next("w", differs="Refused watches", ours="user name is empty"),
     by(ROOT, put("a", "1")), Quiet("w"))
case(
    "watch with a bad token",
    *SWITCH_ON,
    Begin("w", rpc("watch", {"create_request": span("a")}, headers={"Authorization": "bogus"})),
    Next("w", differs="Refused watches", ours="invalid auth token"),
)
case(
    "watch with the right",
    *ANN_READS_A,
    *SWITCH_ON,
    login("ann"),
    Begin("w", rpc("watch", {"create_request": span("a")}, headers=ANN)),
    Next("w"),
    by(ROOT, put("a", "1")),
    Next("w"),
)
case("watch without the right", *ANN_READS_A, *SWITCH_ON, login("ann"), Begin("w", rpc(
     "watch", {"create_request": span("a", "c")}, headers=ANN)),
     Next("w", differs="Refused watches", ours='"-1"'))
case(
    "leases of keys that one may not write",
    *ANN_READS_A,
    *SWITCH_ON,
    login("ann"),
    by(ROOT, grant(777)),
    by(ROOT, put("x", "1", lease=777)),
    by(ANN, rpc("lease/revoke", {"ID": 777})),
    differs(
        by(ANN, rpc("lease/timetolive", {"ID": 777, "keys": True})),
        "Keys of a lease need the right to read them",
        403,
        "permission denied",
    ),
    by(ANN, rpc("lease/timetolive", {"ID": 777})),
    rpc("lease/revoke", {"ID": 777}),
)
case("put with a lease whose keys one may not write", *ANN_MAY_A_TO_C, *SWITCH_ON, login("ann"),
     by(ROOT, grant(777)),
     by(ROOT, put("x", "1", lease=777)), by(ANN, put("a", "1", lease=777)),
     by(ANN, Call("/v3/kv/put", put_fields("a", "1"))))
case("a stale token on authenticate", *SWITCH_ON, by({"Authorization": "bogus"}, login("root")))
case("revisions of the store stay", put("a", "1"), user(), role(), put("b", "1"))
case("moving the leader", *SWITCH_ON, differs(rpc("maintenance/transfer-leadership",
     {"targetID": "5"}),
     "Moving the leader needs a right", 400, "user name is empty"),
     by(ROOT, rpc("maintenance/transfer-leadership", {"targetID": "5"})))
case("a password as a hash", differs(
     rpc("auth/user/add", {"name": "ann", "hashedPassword": b("$2a$04$" + "a" * 53)}),
     "Passwords as hashes", 400, "hashedPassword"))
case("a name of 256 bytes", user("a" * 256), role("r" * 256), give("a" * 256, "r" * 256),
     rpc("auth/user/get", {"name": "a" * 256}))
case("a name of 257 bytes",
     differs(user("a" * 257), "Length of user and role names", 400, "256 bytes"))
