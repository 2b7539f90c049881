"""Cases of members and maintenance."""

from tests.etcd.steps import Call, Saved, Table, differs, put, rpc

# fmt: off
case = CLUSTER = Table("cluster")
case("member list", rpc("cluster/member/list"), rpc("cluster/member/list", {"linearizable": True}))
for _action in ("remove", "update", "promote"):
    case(
        f"member {_action} of an unknown id",
        rpc(
            f"cluster/member/{_action}",
            {
                "ID": "12345",
                **({"peerURLs": ["http://127.0.0.1:1"]} if _action == "update" else {}),
            },
        ),
    )
case("member add with a bad URL", rpc("cluster/member/add", {"peerURLs": ["bogus"]}))
case("member add without a URL", rpc("cluster/member/add"))
case(
    "member update with a bad URL",
    rpc("cluster/member/update", {"ID": "12345", "peerURLs": ["bogus"]}),
)
_OWN = rpc("cluster/member/list", save={"ID": "members.0.ID", "URL": "members.0.peerURLs.0"})
case(
    "member add with the URL of a member",
    _OWN,
    rpc("cluster/member/add", {"peerURLs": [Saved("URL")]}),
)
case("member update that changes nothing", _OWN,
     rpc("cluster/member/update", {"ID": Saved("ID"), "peerURLs": [Saved("URL")]}))
case(
    "member promote of a member that votes",
    _OWN,
    rpc("cluster/member/promote", {"ID": Saved("ID")}),
)

def _learner(port: int) -> Call:
    """Each case has a URL of its own: etcd makes ids of URL and second, and uses none again."""
    body = {"peerURLs": [f"http://127.0.0.1:{port}"], "isLearner": True}
    return rpc("cluster/member/add", body, save={"LEARNER": "member.ID"})


_REMOVED = rpc("cluster/member/remove", {"ID": Saved("LEARNER")})
_LISTED = rpc("cluster/member/list", {"linearizable": True})
case("a learner that is added and removed", _learner(1), _LISTED, _REMOVED, _LISTED)
case("a member that was removed is not found", _learner(2), _REMOVED, _REMOVED,
     rpc("cluster/member/promote", {"ID": Saved("LEARNER")}),
     rpc("cluster/member/update", {"ID": Saved("LEARNER"), "peerURLs": ["http://127.0.0.1:3"]}))
case("a learner that has not come is not promoted", _learner(4),
     rpc("cluster/member/promote", {"ID": Saved("LEARNER")}), _LISTED, _REMOVED)
case("a second learner", _learner(5), _learner(6), _REMOVED)
case("member update with the URL of another member", _OWN, _learner(7),
     rpc("cluster/member/update", {"ID": Saved("LEARNER"), "peerURLs": [Saved("URL")]}), _REMOVED)
case("removing the last member that votes", _OWN,
     rpc("cluster/member/remove", {"ID": Saved("ID")}), _LISTED)
case("removing the last member that votes beside a learner", _OWN, _learner(8),
     rpc("cluster/member/remove", {"ID": Saved("ID")}), _LISTED, _REMOVED)

case = MAINTENANCE = Table("maintenance")
case("status", rpc("maintenance/status"))
case("alarm list", rpc("maintenance/alarm"), rpc("maintenance/alarm", {"action": "GET"}))
case("alarm of an unknown action", rpc("maintenance/alarm", {"action": "BOGUS"}, loose=True))
case(
    "alarm off that is not on",
    rpc("maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"}),
)
case("defragment", rpc("maintenance/defragment"))
case("hash", rpc("maintenance/hash"), put("a", "1"), rpc("maintenance/hash"))
case("move leader to an unknown member", rpc("maintenance/transfer-leadership", {"targetID": "5"}))
case("move leader without a target", rpc("maintenance/transfer-leadership"))
case(
    "move leader to the leader",
    _OWN,
    rpc("maintenance/transfer-leadership", {"targetID": Saved("ID")}),
)
case("downgrade", differs(rpc("maintenance/downgrade", {"action": "VALIDATE", "version": "3.4.0"}),
     "Downgrades", 400, "invalid downgrade target version"))
case("downgrade to what it cannot go to",
     rpc("maintenance/downgrade", {"action": "VALIDATE", "version": "3.1.0"}),
     rpc("maintenance/downgrade", {"action": "ENABLE", "version": "3.1.0"}),
     rpc("maintenance/downgrade", {"action": "CANCEL"}),
     rpc("maintenance/downgrade", {"action": "VALIDATE", "version": "x"}),
     rpc("maintenance/downgrade"))
