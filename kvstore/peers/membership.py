"""Whether a peer is who it says: what a handshake must show.

A node whose disk was lost must not vote under its old identity: it would forget what it promised
(D2). So each data directory draws an *incarnation*, and a member is an id and an incarnation. Once
a cluster is there, its members are replicated state, and links follow that (`Roster`).

How a cluster is founded by several nodes is the delicate part. If each simply trusted the first
incarnation *it* saw, node 3 could vote with 1, lose its disk, come back, and vote again with 2,
which never saw it. So a cluster forms once, in two rounds, and nobody votes before:

1. Each founding member pins, durably and for good, the incarnation of every one it meets. Once it
   has met all, its roster is complete, and it shows it in every handshake.
2. A member has *formed* when every other has shown the same complete roster, or when one that has
   formed shows it.

Two different rosters cannot both form: a member that kept its disk would have pinned both. From
then on any minority may be down, and who shows another incarnation is refused: it may be taken in
as a new member (`kvstore.replica.steward`).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kvstore.peers.founding import founding_text
from kvstore.peers.frames import PROTOCOL_VERSION, Hello
from kvstore.peers.refusals import RESTORED, HandshakeRefused, RefusalKind
from kvstore.peers.roster import Roster, RosterMember, founding_roster
from paxos.ballot import NodeId
from paxos.configuration import Configuration

CLAIMS_MAX = 16


@dataclass(frozen=True, slots=True)
class Claim:
    """A node with an empty disk says by its name who it was, or is to be."""

    name: str
    incarnation: str
    peer_address: str
    client_address: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a membership must survive a restart."""

    node: NodeId
    pinned: Mapping[NodeId, str]
    formed: bool
    roster: Roster | None


@dataclass
class Membership:
    """This node's side of every handshake.

    `first` is what the cluster is founded with, None if this node founds none, or was taken in by
    one that others founded, whatever its settings say; `addresses` are those of the founders, or of
    whom else a node that is to join may ask. `pinned` holds the incarnations met so far, `formed`
    whether the cluster has formed, and `roster` who its members are then. `save` makes these
    durable before it returns, or raises OSError. So do the constructor, `check` and `adopt`.

    `begins` names the state that this node has before the cluster forms: "" if it is empty, and
    the same on all founders if it was restored from a backup.

    `on_roster` is called with each newer roster.
    `on_taken_in` is called when this node turns out to be another member than it began as: by its
    id, or because others founded the cluster. It is saved then.
    """

    node: NodeId
    incarnation: str
    first: Configuration | None
    client_address: str
    pinned: dict[NodeId, str]
    formed: bool
    save: Callable[[Kept], None]
    name: str = ""
    peer_address: str = ""
    addresses: Mapping[NodeId, str] = field(default_factory=dict)
    roster: Roster | None = None
    begins: str = ""
    on_roster: Callable[[Roster], None] = lambda _: None
    on_taken_in: Callable[[NodeId], None] = lambda _: None

    def __post_init__(self) -> None:
        if self.formed and not self.complete:
            self.first = None
        self.founding = founding_text(self.first)
        self.client_addresses: dict[NodeId, str] = {self.node: self.client_address}
        self.refused_by: dict[NodeId, str] = {}
        self.claims: dict[str, Claim] = {}
        self.names: dict[NodeId, str] = {self.node: self.name}
        self.of_release_before: set[NodeId] = set()
        """Members that cannot follow a change of the members."""
        self._own: Roster | None = None
        """The last roster that this node's own log led to; all that did is durable here."""
        self._shown: dict[NodeId, dict[NodeId, str]] = {}
        if self.first is not None and not self.formed:
            if self.node not in self.pinned:
                self._pin(self.node, self.incarnation)
            self._form_if_agreed(False)
        if self.formed and (self.roster is None or self.roster.number == 0):
            # Until the members were changed for the first time the settings say where they are.
            self.roster = self._founding_roster()
        if self.formed and self.complete:
            self._own = self._founding_roster()

    @property
    def founders(self) -> frozenset[NodeId]:
        """Who founds the cluster, as far as this node was told."""
        return frozenset() if self.first is None else self.first.quorums.members

    @property
    def complete(self) -> bool:
        """Whether this node has met every founding member."""
        return bool(self.founders) and self.pinned.keys() == self.founders

    @property
    def agreed(self) -> set[NodeId]:
        """Founding members known to hold the same complete roster."""
        if not self.complete:
            return set()
        same = {peer for peer, roster in self._shown.items() if roster == self.pinned}
        return same | {self.node}

    @property
    def cluster_id(self) -> str:
        """The same 16 hex digits on every member once formed, and for good; "" before."""
        return "" if self.roster is None else self.roster.cluster_id

    @property
    def peers(self) -> dict[NodeId, str]:
        """Whom to have links to, and where they are: the other members, or before the cluster has
        formed the other founders, or whom this node was told of when it was to join."""
        if self.roster is not None:
            found = {one.id: one.peer_address for one in self._linked}
        else:
            found = dict(self.addresses)
        return {peer: address for peer, address in found.items() if peer != self.node and address}

    @property
    def _linked(self) -> tuple[RosterMember, ...]:
        """Whom to have links with: the members, and those who still are by this node's own log.

        Failing schedule otherwise: the voters 1 and 2 have accepted the last slots before 1 goes,
        and only learner 3 hears that they are chosen. 3 shows 2 the members without 1, 2 refuses 1,
        and waits for ever for the promise of 1 that it needs for those slots.
        """
        roster, own = self.roster, self._own
        assert roster is not None
        if own is None or own.number >= roster.number:
            return roster.members
        return roster.members + tuple(one for one in own.members if roster.find(one.id) is None)

    def _founding_roster(self) -> Roster:
        """Drawn from what each founder drew, so that all of them have the same cluster id."""
        text = repr((self.founding, sorted(self.pinned.items())))
        cluster_id = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return founding_roster(cluster_id, self.pinned, self.addresses)

    def hello(self, to: NodeId, instance: str = "", silence_ms: int = 0) -> Hello:
        """What this node shows now; `instance` and `silence_ms` are those of its process."""
        changed = self.roster is not None and self.roster.number > 0
        return Hello(
            PROTOCOL_VERSION,
            self.node,
            to,
            self.incarnation,
            self.founding,
            {} if changed or not self.complete else self.pinned,
            self.formed,
            self.client_address,
            instance,
            silence_ms,
            self.name,
            self.peer_address,
            self.roster if self.formed else None,
            self.begins,
        )

    def check(self, hello: Hello) -> bool:
        """Take a peer's Hello. Returns whether this node has more to show since.

        Raises HandshakeRefused, or OSError from `save`: then nothing that was shown may count.
        """
        peer = hello.node
        if hello.protocol != PROTOCOL_VERSION:
            raise HandshakeRefused(f"protocol version {hello.protocol}; this is {PROTOCOL_VERSION}")
        before = (self.complete, self.formed)
        if self.formed:
            self._check_as_member(hello)
        else:
            self._check_before(hello)
        if hello.to != self.node:
            raise HandshakeRefused(
                f"meant for node {hello.to}; this is node {self.node}", present=self.roster
            )
        self.client_addresses[peer] = hello.client_address
        self.names[peer] = hello.name
        if hello.formed and hello.present is None:
            self.of_release_before.add(peer)
        else:
            self.of_release_before.discard(peer)
        return (self.complete, self.formed) != before

    # -- a cluster that is there ------------------------------------------------------------

    def adopt(self, roster: Roster, by_peer: bool = True) -> None:
        """These are the members now; an older roster changes nothing.

        `by_peer`: a peer says so; else this node's own log does, and is durable by now. A node that
        is no member any more ends by what peers tell it when it dials them, not by this. Failing
        schedule otherwise: the voters that a change removes apply it and go, and those that stay,
        who have not heard that the last slots before it are chosen, wait for a quorum of them for
        ever.
        """
        if not by_peer:
            self._own = roster
        if self.roster is not None and roster.number <= self.roster.number:
            if not by_peer:
                self.on_roster(self.roster)
            return
        self.roster = roster
        self.claims = {
            name: claim
            for name, claim in self.claims.items()
            if roster.of_incarnation(claim.incarnation) is None
        }
        self._save()
        self.on_roster(roster)

    def taken_in(self, roster: Roster, member: RosterMember) -> None:
        """This node is `member`. It must begin again if it had another id so far, or if its
        settings say that it founds a cluster, and this one was founded by others.

        Failing schedule otherwise: a cluster of three is to grow to five, and nodes 4 and 5 are
        started with all five as founders. Once they are taken in they count votes as three of five
        until they have applied the first change. With node 1, which has not heard of it either,
        they choose values for slots in which 2 and 3 have chosen others.

        Raises HandshakeRefused if this node begins with a restored state, OSError from `save`.
        """
        if self.begins:
            raise HandshakeRefused(RESTORED)
        known_as, self.node = self.node, member.id
        self.formed, self.roster = True, roster
        self._save()
        if member.id != known_as or (self.first is not None and not self.complete):
            self.on_taken_in(member.id)
        else:
            self.on_roster(roster)

    def _check_as_member(self, hello: Hello) -> None:
        roster, theirs = self.roster, hello.present
        assert roster is not None
        if theirs is None:
            self._check_stranger(hello, roster)
            return
        if theirs.cluster_id != roster.cluster_id:
            raise HandshakeRefused(
                f"node {hello.node} belongs to another cluster, {theirs.cluster_id}; this is "
                f"{roster.cluster_id}"
            )
        newer = theirs.number > roster.number
        # Ids are never used again: no newer roster brings back one that has gone. Else who has the
        # certificate of a removed node would make up a roster that names it.
        made_up = newer and any(roster.has_gone(one.id) for one in theirs.members)
        if not any(_is(one, hello.node, hello.incarnation) for one in self._linked):
            both = _is_in(theirs, hello.node, hello.incarnation) and _is_in(
                theirs, self.node, self.incarnation
            )
            if made_up or not (newer and both):
                self._refuse_unknown(hello, roster, ahead=newer and not made_up)
        elif made_up:
            self._refuse_unknown(hello, roster, ahead=False)
        if newer:
            self.adopt(theirs)

    def told(self, present: Roster) -> None:
        """Who refused this node showed the members: they count if this node is one of them."""
        own = self.roster
        if own is not None and own.cluster_id == present.cluster_id:
            if _is_in(present, self.node, self.incarnation):
                self.adopt(present)
        elif own is None and (member := present.of_incarnation(self.incarnation)) is not None:
            self.taken_in(present, member)

    def take_claims(self) -> list[Claim]:
        """Who came without a disk since the last call."""
        claims, self.claims = list(self.claims.values()), {}
        return claims

    def _refuse_unknown(self, hello: Hello, roster: Roster, ahead: bool) -> None:
        """`ahead`: it knows of members that this node has not heard of."""
        if not ahead and hello.node <= roster.last_id and self._may_tell(hello.node):
            raise HandshakeRefused(
                f"node {hello.node} with incarnation {hello.incarnation} was removed from cluster "
                f"{roster.cluster_id}, whose members are {roster.places}: its data directory is "
                "not to be used any more",
                RefusalKind.REMOVED,
                roster,
            )
        raise HandshakeRefused(
            f"node {hello.node} with incarnation {hello.incarnation} is not a member of cluster "
            f"{roster.cluster_id} as far as node {self.node} knows"
        )

    def _may_tell(self, node: NodeId) -> bool:
        """Whether this node may tell `node` that it was removed: a voter may, that has all that was
        chosen with the votes of `node`. Failing schedule otherwise: a learner tells it, it goes,
        and the one voter that stays waits for its vote on slots that it has not heard of."""
        own = self._own
        if own is None or node > own.last_id or own.find(node) is not None:
            return False
        here = own.find(self.node)
        return here is not None and here.voter

    def _check_stranger(self, hello: Hello, roster: Roster) -> None:
        """It shows no cluster: a founder of the release before, or somebody without a disk."""
        if hello.formed or hello.roster:
            if roster.number == 0 and hello.configuration == self.founding:
                if roster.find(hello.node) is None:
                    # Else it would be pinned as if it were a founder, and its messages would count.
                    raise HandshakeRefused(
                        f"node {hello.node} is not a member of cluster {roster.cluster_id}"
                    )
                self._check_incarnations(hello)
                return
            raise HandshakeRefused(f"node {hello.node} knows only the members of the beginning")
        if (member := roster.of_incarnation(hello.incarnation)) is not None:
            if member.id == hello.node and roster.number == 0:
                self._check_incarnations(hello)
                return
            raise HandshakeRefused(
                f"node {hello.node} is node {member.id} of this cluster now",
                RefusalKind.TAKEN_IN,
                roster,
            )
        if hello.begins:
            # Failing schedule otherwise: a backup is restored where a member was lost, and the node
            # is taken in as that. It applies this cluster's log to the state of another one.
            raise HandshakeRefused(
                f"node {hello.node} begins with a restored state, which is that of another cluster"
            )
        known = (
            roster.named(hello.name)
            or roster.at(hello.peer_address)
            or roster.named(f"node{hello.node}")
        )
        name = hello.name or f"node{hello.node}" if known is None else known.name
        if known is None:
            raise HandshakeRefused(
                f"{name} is not a member of cluster {roster.cluster_id}: it must join by a token, "
                "or be added first"
            )
        if name in self.claims or len(self.claims) < CLAIMS_MAX:
            self.claims[name] = Claim(
                name, hello.incarnation, hello.peer_address, hello.client_address
            )
        if not known.incarnation:
            raise HandshakeRefused(f"{name} was added, and is to be taken in", RefusalKind.LOST)
        raise HandshakeRefused(
            f"{name} has an empty data directory, or another one than it had, and an incarnation "
            "that this cluster does not know: it must be replaced, because it may have forgotten "
            "what it promised",
            RefusalKind.LOST,
        )

    # -- before -----------------------------------------------------------------------------

    def _check_before(self, hello: Hello) -> None:
        """This node has not formed."""
        peer, theirs = hello.node, hello.present
        if theirs is not None:
            member = theirs.of_incarnation(self.incarnation)
            if member is None:
                raise HandshakeRefused(
                    f"cluster {theirs.cluster_id} does not know this node, whose data directory is "
                    "empty: it waits to be taken in"
                )
            if member.id != self.node or theirs.number > 0:
                self.taken_in(theirs, member)
                return
        if peer not in self.founders or peer == self.node:
            raise HandshakeRefused(f"node {peer} is not another member of this cluster")
        if hello.configuration != self.founding:
            raise HandshakeRefused(
                f"node {peer} is configured with members/phase1/phase2 {hello.configuration}, "
                f"node {self.node} with {self.founding}"
            )
        if not hello.formed and hello.begins not in (None, self.begins):
            # Failing schedule otherwise: of three nodes only one has its restored directory. The
            # others get values chosen for slots that its state covers, and nothing is restored.
            raise HandshakeRefused(
                f"node {peer} begins with another state than node {self.node}: the same restored "
                "backup must be in the directory of each node, or in none"
            )
        self._check_incarnations(hello)

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
        if hello.roster and hello.roster.keys() != self.founders:
            raise HandshakeRefused(f"node {peer} shows a roster of other members")
        if peer not in self.pinned:
            self._pin(peer, hello.incarnation)
        self._shown[peer] = hello.roster
        self._form_if_agreed(hello.formed and hello.roster == self.pinned)

    def _pin(self, member: NodeId, incarnation: str) -> None:
        self.pinned = dict(sorted([*self.pinned.items(), (member, incarnation)]))
        self._save()

    def _form_if_agreed(self, peer_formed: bool) -> None:
        agreed = peer_formed or self.agreed == self.founders
        if self.complete and agreed and not self.formed:
            self.formed = True
            self.roster = self._own = self._founding_roster()
            self._save()

    def _save(self) -> None:
        self.save(Kept(self.node, self.pinned, self.formed, self.roster))


def _is_in(roster: Roster, node: NodeId, incarnation: str) -> bool:
    return any(_is(member, node, incarnation) for member in roster.members)


def _is(member: RosterMember, node: NodeId, incarnation: str) -> bool:
    return (member.id, member.incarnation) == (node, incarnation)
