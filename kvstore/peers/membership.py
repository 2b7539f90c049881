"""Who belongs to the cluster: the roster, and what a handshake must show.

A node whose disk was lost must not vote under its old identity: it would forget what it promised
(D2). So each data directory draws an incarnation, and the members pin each other's. Where the
pinning begins is the delicate part. If each member simply trusted the first incarnation *it* saw,
node 3 could vote with 1, lose its disk, come back, and vote again with 2, which never saw it.

So a cluster forms once, in two rounds, and nobody votes before:

1. Each member pins, durably and for good, the incarnation of every member it meets. Once it has
   met all, its roster is complete, and it shows it in every handshake.
2. A member has *formed* when every other has shown the same complete roster, or when one that has
   formed shows it.

Two different rosters cannot both form: a member that kept its disk would have pinned both. From
then on any minority may be down, and a member with another incarnation is refused.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from kvstore.peers.frames import PROTOCOL_VERSION, Hello
from paxos.ballot import NodeId
from paxos.quorum import QuorumSystem


class HandshakeRefused(Exception):
    """The handshake failed; `str()` is the reason, for both sides' logs."""


def configuration(quorums: QuorumSystem) -> str:
    """Members and quorum sizes: two nodes that differ here could choose two values."""
    members = ",".join(map(str, sorted(quorums.members)))
    return f"{members}/{quorums.phase1}/{quorums.phase2}"


@dataclass
class Membership:
    """This node's side of every handshake.

    `pinned` holds the incarnations met so far and `formed` whether the cluster has formed; `save`
    makes both durable before it returns, or raises OSError. So do the constructor and `check`.
    """

    node: NodeId
    incarnation: str
    quorums: QuorumSystem
    client_address: str
    pinned: dict[NodeId, str]
    formed: bool
    save: Callable[[dict[NodeId, str], bool], None]

    def __post_init__(self) -> None:
        self.configuration = configuration(self.quorums)
        self.client_addresses: dict[NodeId, str] = {self.node: self.client_address}
        self.refused_by: dict[NodeId, str] = {}
        self._shown: dict[NodeId, dict[NodeId, str]] = {}
        if self.node not in self.pinned:
            self._pin(self.node, self.incarnation)
        self._form_if_agreed(False)

    @property
    def complete(self) -> bool:
        """Whether this node has met every member."""
        return self.pinned.keys() == self.quorums.members

    @property
    def roster(self) -> dict[NodeId, str]:
        """Every member's incarnation, or nothing until all are known."""
        return self.pinned if self.complete else {}

    @property
    def agreed(self) -> set[NodeId]:
        """Members known to hold the same complete roster."""
        if not self.complete:
            return set()
        same = {peer for peer, roster in self._shown.items() if roster == self.pinned}
        return same | {self.node}

    @property
    def cluster_id(self) -> str:
        """The same 16 hex digits on every member once formed, "" before."""
        if not self.formed:
            return ""
        text = repr((self.configuration, sorted(self.pinned.items())))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def hello(self, to: NodeId, instance: str = "", silence_ms: int = 0) -> Hello:
        """What this node shows now; `instance` and `silence_ms` are those of its process."""
        return Hello(
            PROTOCOL_VERSION,
            self.node,
            to,
            self.incarnation,
            self.configuration,
            self.roster,
            self.formed,
            self.client_address,
            instance,
            silence_ms,
        )

    def check(self, hello: Hello) -> bool:
        """Take a peer's Hello. Returns whether this node has more to show since.

        Raises HandshakeRefused, or OSError from `save`: then nothing that was shown may count.
        """
        peer = hello.node
        if hello.protocol != PROTOCOL_VERSION:
            raise HandshakeRefused(f"protocol version {hello.protocol}; this is {PROTOCOL_VERSION}")
        if hello.to != self.node:
            raise HandshakeRefused(f"meant for node {hello.to}; this is node {self.node}")
        if peer not in self.quorums.members or peer == self.node:
            raise HandshakeRefused(f"node {peer} is not another member of this cluster")
        if hello.configuration != self.configuration:
            raise HandshakeRefused(
                f"node {peer} is configured with members/phase1/phase2 {hello.configuration}, "
                f"node {self.node} with {self.configuration}"
            )
        before = (self.complete, self.formed)
        self._check_incarnations(hello)
        self.client_addresses[peer] = hello.client_address
        return (self.complete, self.formed) != before

    def _check_incarnations(self, hello: Hello) -> None:
        peer = hello.node
        if self.pinned.get(peer, hello.incarnation) != hello.incarnation:
            raise HandshakeRefused(
                f"node {peer} has an incarnation this node does not know: its data directory is "
                "not the one it had. A member whose disk was lost must be replaced, because it "
                "may have forgotten what it promised"
            )
        if hello.roster and hello.roster.get(self.node) != self.incarnation:
            raise HandshakeRefused(
                f"node {self.node} has an empty data directory, and the cluster knows it under "
                "another incarnation: it must be replaced, not restarted"
            )
        for member, incarnation in {**hello.roster, peer: hello.incarnation}.items():
            if self.pinned.get(member, incarnation) != incarnation:
                raise HandshakeRefused(f"node {peer} belongs to another cluster")
        if hello.roster and hello.roster.keys() != self.quorums.members:
            raise HandshakeRefused(f"node {peer} shows a roster of other members")
        if peer not in self.pinned:
            self._pin(peer, hello.incarnation)
        self._shown[peer] = hello.roster
        self._form_if_agreed(hello.formed and hello.roster == self.pinned)

    def _pin(self, member: NodeId, incarnation: str) -> None:
        self.pinned = dict(sorted([*self.pinned.items(), (member, incarnation)]))
        self.save(self.pinned, self.formed)

    def _form_if_agreed(self, peer_formed: bool) -> None:
        agreed = peer_formed or self.agreed == self.quorums.members
        if self.complete and agreed and not self.formed:
            self.formed = True
            self.save(self.pinned, True)
