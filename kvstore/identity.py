"""Who belongs to the cluster: the roster, and what a handshake must show.

A node whose disk was lost must not vote under its old identity: it would forget what it promised
(D2). So each data directory draws an incarnation, and the members pin each other's in a *roster*.
Where the pinning begins is the delicate part. If each member trusted the first incarnation *it*
saw, node 3 could vote with 1, lose its disk, come back, and vote again with 2, which never saw it.
Therefore a cluster forms once, when every member has shaken hands with every other: from then on
each holds the same complete roster, and any minority may be down. A member that was away while the
others formed adopts their roster, if it names its own incarnation.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from kvstore.wire import PROTOCOL_VERSION, Hello
from paxos.ballot import NodeId
from paxos.quorum import QuorumSystem


class Refused(Exception):
    """The handshake failed; `str()` is the reason, for both sides' logs."""


@dataclass
class Membership:
    """This node's side of every handshake.

    `pin` makes a roster durable; it is called once, when the cluster has formed.
    """

    node: NodeId
    incarnation: str
    quorums: QuorumSystem
    client_address: str
    roster: dict[NodeId, str]
    pin: Callable[[dict[NodeId, str]], None]

    def __post_init__(self) -> None:
        self._seen: dict[NodeId, str] = {self.node: self.incarnation}
        self.client_addresses: dict[NodeId, str] = {self.node: self.client_address}
        self.refused_by: dict[NodeId, str] = {}
        if not self.roster:
            self._form_if_complete()

    @property
    def seen(self) -> set[NodeId]:
        """Members whose incarnation this node has seen in a handshake."""
        return set(self._seen)

    @property
    def formed(self) -> bool:
        return bool(self.roster)

    @property
    def cluster_id(self) -> str:
        """The same 16 hex digits on every member once formed, "" before."""
        if not self.roster:
            return ""
        text = repr((self.configuration, sorted(self.roster.items())))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def configuration(self) -> str:
        """Members and quorum sizes: two nodes that differ here could choose two values."""
        members = ",".join(map(str, sorted(self.quorums.members)))
        return f"{members}/{self.quorums.phase1}/{self.quorums.phase2}"

    def hello(self, to: NodeId) -> Hello:
        return Hello(
            PROTOCOL_VERSION,
            self.node,
            to,
            self.incarnation,
            self.configuration,
            self.roster,
            self.client_address,
        )

    def check(self, hello: Hello) -> NodeId:
        """Take a peer's Hello; who it is. Raises Refused."""
        peer = hello.node
        if hello.protocol != PROTOCOL_VERSION:
            raise Refused(f"protocol version {hello.protocol}; this is {PROTOCOL_VERSION}")
        if hello.to != self.node:
            raise Refused(f"meant for node {hello.to}; this is node {self.node}")
        if peer not in self.quorums.members or peer == self.node:
            raise Refused(f"node {peer} is not another member of this cluster")
        if hello.cluster != self.configuration:
            raise Refused(
                f"node {peer} is configured with members/phase1/phase2 {hello.cluster}, "
                f"node {self.node} with {self.configuration}"
            )
        self._check_incarnation(hello)
        self.client_addresses[peer] = hello.client_address
        return peer

    def _check_incarnation(self, hello: Hello) -> None:
        peer = hello.node
        if self.roster:
            if self.roster[peer] != hello.incarnation:
                raise Refused(
                    f"node {peer} has an incarnation this cluster does not know: its data "
                    "directory is not the one it had. A member whose disk was lost must be "
                    "replaced, because it may have forgotten what it promised"
                )
            if hello.roster and hello.roster != self.roster:
                raise Refused(f"node {peer} belongs to another cluster")
            return
        if hello.roster:
            if hello.roster.keys() != self.quorums.members:
                raise Refused(f"node {peer} shows a roster of other members")
            if hello.roster[self.node] != self.incarnation:
                raise Refused(
                    f"node {self.node} has an empty data directory, and the cluster knows it "
                    "under another incarnation: it must be replaced, not restarted"
                )
            self._form(hello.roster)
            return
        self._seen[peer] = hello.incarnation
        self._form_if_complete()

    def _form_if_complete(self) -> None:
        if self._seen.keys() == self.quorums.members:
            self._form(dict(sorted(self._seen.items())))

    def _form(self, roster: dict[NodeId, str]) -> None:
        self.pin(roster)
        self.roster = roster
