"""The desk where handshakes are checked: who a peer is, and that it is there only once.

A data directory that was copied makes two processes with one identity. Each would vote, and neither
would know of the other's promises. So each process draws a number, its *instance*, and shows it. A
second one is refused for as long as the first one's link is alive; after a restart the old link is
closed, or falls silent and is given up. Whoever is refused like this by a majority, for longer than
any restart takes, is the copy, and ends (docs/decisions/0016-links.md).
"""

from collections.abc import Callable

from kvstore.event_log import EventLog
from kvstore.peers.frames import Hello, Refusal
from kvstore.peers.membership import HandshakeRefused, Membership
from kvstore.peers.patience import Patience
from paxos.ballot import NodeId

TWIN = "twin"
"""`Refusal.kind` of those who show the identity of a process that is there."""


class TwinRefused(HandshakeRefused):
    """Another process with the same identity is there."""


class Desk:
    """This node's side of every handshake, over the membership that it rests on.

    `instance` is this process's own. `alive(peer)` says whether a link of the peer's instance known
    here is alive. `failed(reason)` is called if this node must stop, and `more_to_show()` when it
    has more to show than before: then all links are dropped and dialled anew.
    """

    def __init__(
        self,
        membership: Membership,
        log: EventLog,
        patience: Patience,
        instance: str,
        *,
        failed: Callable[[str], None],
        alive: Callable[[NodeId], bool],
        more_to_show: Callable[[], None],
    ) -> None:
        self.membership = membership
        self._log = log
        self._patience = patience
        self._instance = instance
        self._failed = failed
        self._alive = alive
        self._more_to_show = more_to_show
        self._instances: dict[NodeId, str] = {}
        self._twin_since_s: dict[NodeId, float] = {}

    def hello(self, to: NodeId) -> Hello:
        """What this node shows now."""
        return self.membership.hello(
            to, instance=self._instance, silence_ms=int(1000 * self._patience.silence_s)
        )

    def check(self, hello: Hello) -> NodeId:
        """Who it is. Raises HandshakeRefused."""
        self._check_instance(hello)
        formed = self.membership.formed
        try:
            more_to_show = self.membership.check(hello)
        except OSError as error:
            # What was not saved must not count: the node stops, and answers nothing any more.
            self._failed(f"writing identity.json failed: {error}")
            raise HandshakeRefused("this node's disk has failed") from error
        self._instances[hello.node] = hello.instance
        if more_to_show:
            if self.membership.formed and not formed:
                self._log.event("formed", cluster=self.membership.cluster_id)
            self._more_to_show()
        return hello.node

    def _check_instance(self, hello: Hello) -> None:
        """A release that knows no instances shows "", and is taken as it was."""
        known = self._instances.get(hello.node, "")
        if known and hello.instance and known != hello.instance and self._alive(hello.node):
            raise TwinRefused(
                f"two processes run as node {hello.node} with the same data directory, a copy: the "
                f"one with instance {known} is there, and instance {hello.instance} is refused"
            )

    # -- when this node is the one refused --------------------------------------------------

    def accepted_by(self, peer: NodeId) -> None:
        """`peer` has taken this process for what it is."""
        self.membership.refused_by.pop(peer, None)
        self._twin_since_s.pop(peer, None)

    def refused_by(self, peer: NodeId, refusal: Refusal, now_s: float) -> None:
        """`peer` refuses this process. If a majority has done so for long, it is the copy."""
        self.membership.refused_by[peer] = refusal.reason
        if refusal.kind != TWIN:
            self._twin_since_s.pop(peer, None)
            return
        self._twin_since_s.setdefault(peer, now_s)
        since_s = sorted(self._twin_since_s.values())
        members = len(self.membership.quorums.members)
        needed = members - members // 2
        if len(since_s) >= needed and now_s - since_s[needed - 1] >= self._patience.twin_s:
            self._failed(
                f"another process runs as node {self.membership.node} with a copy of this data "
                f"directory, and nodes {sorted(self._twin_since_s)} know that one: stop one of "
                "the two, and remove its directory. A member has one directory, and one process"
            )
