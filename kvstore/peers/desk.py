"""The desk where handshakes are checked: who a peer is, and that it is there only once.

A data directory that was copied makes two processes with one identity. Each would vote, and neither
would know of the other's promises. So each process draws a number, its *instance*, and shows it. A
second one is refused for as long as the first one's link is alive; after a restart the old link is
closed, or falls silent and is given up. Whoever is refused like this by a majority, for longer than
any restart takes, is the copy, and ends (docs/decisions/0016-links.md).
"""

from collections.abc import Callable

from kvstore.certificates.node_names import NodeName
from kvstore.event_log import EventLog
from kvstore.peers.frames import Hello, Refusal
from kvstore.peers.membership import Membership
from kvstore.peers.patience import Patience
from kvstore.peers.refusals import Ending, HandshakeRefused, RefusalKind
from kvstore.peers.roster import Roster
from paxos.ballot import NodeId

Ended = Callable[[str, Ending], None]
"""Why this node must stop, and what of it comes next."""


class Desk:
    """This node's side of every handshake, over the membership that it rests on.

    `instance` is this process's own. `alive(peer)` says whether a link of the peer's instance known
    here is alive. `ended(reason, how)` is called if this node must stop, and `more_to_show()` when
    it has more to show than before: then all links are dropped and dialled anew.
    """

    def __init__(
        self,
        membership: Membership,
        log: EventLog,
        patience: Patience,
        instance: str,
        *,
        ended: Ended,
        alive: Callable[[NodeId], bool],
        more_to_show: Callable[[], None],
    ) -> None:
        self.membership = membership
        self._log = log
        self._patience = patience
        self._instance = instance
        self._ended = ended
        self._alive = alive
        self._more_to_show = more_to_show
        self._instances: dict[NodeId, str] = {}
        self._twin_since_s: dict[NodeId, float] = {}
        self._told_by: set[NodeId] = set()

    def hello(self, to: NodeId) -> Hello:
        """What this node shows now."""
        return self.membership.hello(
            to, instance=self._instance, silence_ms=int(1000 * self._patience.silence_s)
        )

    def check(self, hello: Hello, names: tuple[NodeName, ...] | None = None) -> NodeId:
        """Who it is. `names` are those of its certificate, None without TLS; it must say the same.
        Raises HandshakeRefused."""
        if names is not None:
            self._check_names(hello, names)
        self._check_instance(hello)
        formed = self.membership.formed
        try:
            more_to_show = self.membership.check(hello)
        except OSError as error:
            # What was not saved must not count: the node stops, and answers nothing any more.
            self._disk_failed(error)
            raise HandshakeRefused("this node's disk has failed") from error
        self._instances[hello.node] = hello.instance
        if more_to_show:
            if self.membership.formed and not formed:
                self._log.event("formed", cluster=self.membership.cluster_id)
            self._more_to_show()
        return hello.node

    def _check_names(self, hello: Hello, names: tuple[NodeName, ...]) -> None:
        present = hello.present
        cluster = self.membership.cluster_id if present is None else present.cluster_id
        shown = NodeName(hello.node, cluster, hello.incarnation)
        covering = [name for name in names if name.covers(shown)]
        if covering and present is None and (roster := self.membership.roster) is not None:
            # Who comes without a disk may be given the place of a member that is silent, and who
            # was removed must not come back like that.
            covering = [one for one in covering if not roster.has_gone(one.node)]
            if not covering:
                raise HandshakeRefused("its certificate is of a node that is no member any more")
        if covering:
            return
        told = " and ".join(name.uri for name in names) or "of no node"
        raise HandshakeRefused(f"its certificate is {told}, and it says that it is {shown.uri}")

    def _check_instance(self, hello: Hello) -> None:
        """A release that knows no instances shows "", and is taken as it was. This node is no peer
        of itself: whoever shows its identity is a copy, or an address that leads back here."""
        membership = self.membership
        if (hello.node, hello.incarnation) == (membership.node, membership.incarnation):
            raise HandshakeRefused(f"it shows the identity of node {membership.node} itself")
        known = self._instances.get(hello.node, "")
        if known and hello.instance and known != hello.instance and self._alive(hello.node):
            raise HandshakeRefused(
                f"two processes run as node {hello.node} with the same data directory, a copy: the "
                f"one with instance {known} is there, and instance {hello.instance} is refused",
                RefusalKind.TWIN,
            )

    def _disk_failed(self, error: OSError) -> None:
        self._ended(f"writing identity.json failed: {error}", Ending.FAILED)

    # -- when this node is the one refused --------------------------------------------------

    def accepted_by(self, peer: NodeId) -> None:
        """`peer` has taken this process for what it is."""
        self.membership.refused_by.pop(peer, None)
        self._twin_since_s.pop(peer, None)

    def refused_by(self, peer: NodeId, refusal: Refusal, now_s: float) -> None:
        """`peer` refuses this process. If a majority has done so for long, it is the copy."""
        membership = self.membership
        membership.refused_by[peer] = refusal.reason
        if refusal.kind == RefusalKind.REMOVED:
            self._removed(peer, refusal)
        elif refusal.present is not None:
            try:
                membership.told(refusal.present)
            except OSError as error:
                self._disk_failed(error)
        if refusal.kind != RefusalKind.TWIN:
            self._twin_since_s.pop(peer, None)
            return
        self._twin_since_s.setdefault(peer, now_s)
        since_s = sorted(self._twin_since_s.values())
        members = len(membership.peers) + 1
        needed = members - members // 2
        if len(since_s) >= needed and now_s - since_s[needed - 1] >= self._patience.twin_s:
            self._ended(
                f"another process runs as node {membership.node} with a copy of this data "
                f"directory, and nodes {sorted(self._twin_since_s)} know that one: stop one of "
                "the two, and remove its directory. A member has one directory, and one process",
                Ending.FAILED,
            )

    def _removed(self, peer: NodeId, refusal: Refusal) -> None:
        """A voter says that this node is no member any more. It goes once as many have said so as
        have, together, all that was chosen with its vote: among them is one of each quorum by which
        anybody may come to lead."""
        own, theirs = self.membership.roster, refusal.present
        if own is None or theirs is None or own.cluster_id != theirs.cluster_id:
            return
        gone = theirs.of_incarnation(self.membership.incarnation) is None
        voter = theirs.find(peer)
        if not gone or theirs.number < own.number or voter is None or not voter.voter:
            return
        self._told_by.add(peer)
        if len(self._told_by) >= theirs.tellers_needed:
            self._ended(removed_text(self.membership.node, theirs), Ending.REMOVED)


def removed_text(node: NodeId, present: Roster) -> str:
    """What a node says of itself that was removed."""
    return (
        f"node {node} was removed from cluster {present.cluster_id}; the members are "
        f"{present.places}. Its data directory is of no use any more"
    )
