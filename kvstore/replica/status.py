"""What a node says of itself and of the cluster, as far as it knows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from kvstore.event_log import EventLog
from kvstore.peers.membership import Membership
from kvstore.replica.disk_watch import DiskWatch
from kvstore.replica.health import Health
from kvstore.replica.log_clock import LogClock, WallClocks
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.ports import Clock, LinkView
from kvstore.replica.scrubbing import Scrubber
from kvstore.replica.space import SpaceWatch
from kvstore.replica.steward import Steward
from kvstore.state.state_machine import StateMachine
from paxos.ballot import NodeId
from paxos.node import Node
from paxos.node_roles import Role


class MemberStatus(msgspec.Struct, frozen=True):
    """One member. None: this node does not know."""

    id: int
    peer_address: str
    client_address: str | None
    role: str | None
    connected: bool
    chosen_through: int | None
    lag: int | None
    name: str = ""
    kind: str = "voter"
    """Or "learner", or "expected": a member that has not come yet."""
    incarnation: str = ""
    since_ms: int = 0
    """When it became a member, by the log's clock; 0: with the cluster."""
    replaces: int = 0
    link: str = ""
    """"up", or since when there is no link to it, and why; "" for the node itself."""
    silent_s: float | None = None
    promote: bool = False
    """It becomes a voter by itself."""


class ConfigurationStatus(msgspec.Struct, frozen=True):
    """Who votes. `number` counts the changes of the members; `under_way` says what one leads to, ""
    if there is none."""

    number: int
    voters: tuple[int, ...]
    learners: tuple[int, ...]
    phase1: int
    phase2: int
    distance: int
    under_way: str


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One node's view. `ready` means: it can serve linearizable requests; if not, `reason`.
    `stalled` names what of the process does no longer turn, "" if all does; `warnings` are what an
    operator must mend although the node may still serve."""

    id: int
    role: str
    leader: int | None
    ballot: str
    ready: bool
    reason: str
    chosen_through: int
    applied_through: int
    checkpointed_through: int
    log_first_slot: int
    log_bytes: int
    revision: int
    compacted_revision: int
    digest: str
    cluster_id: str
    incarnation: str
    members: tuple[MemberStatus, ...]
    name: str = ""
    configuration: ConfigurationStatus | None = None
    stalled: str = ""
    warnings: tuple[str, ...] = ()
    state_bytes: int = 0
    """What the state takes, free pages of its file not counted."""
    out_of_space: str = ""
    """Why writes that grow are refused here; "" if they are not."""
    clock_ms: int = 0
    """The log's clock, as it goes on here while nothing is written."""


STALLED_S = 10.0
"""A ticker that was not at work for so long is not at work."""
HANGING_S = 60.0
"""The thread of the log is not at work if one commit takes so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """Looks at the parts of one replica, and changes nothing. `why_behind()` says why the log alone
    does not bring it up to date, "" if it does.
    """

    node: Node
    state: StateMachine
    membership: Membership
    links: LinkView
    clock: Clock
    events: EventLog
    health: Health
    watch: DiskWatch
    writes: PendingWrites
    reads: PendingReads
    walls: WallClocks
    log_clock: LogClock
    scrubber: Scrubber
    steward: Steward
    space: SpaceWatch
    why_behind: Callable[[], str]

    def status(self) -> ReplicaStatus:
        """A consistent picture, taken between two steps."""
        node, state = self.node, self.state
        reason = self.why_not_ready()
        return ReplicaStatus(
            id=node.id,
            role=str(node.role),
            leader=node.leader,
            ballot=str(node.ballot),
            ready=not reason,
            reason=reason,
            chosen_through=node.chosen_through,
            applied_through=state.applied_through,
            checkpointed_through=state.checkpointed_through,
            log_first_slot=node.acceptor.first_slot,
            log_bytes=node.acceptor.log_bytes,
            revision=state.revision,
            compacted_revision=state.compacted_revision,
            digest=state.digest.hex(),
            cluster_id=self.membership.cluster_id,
            incarnation=self.membership.incarnation,
            members=tuple(self._member(member) for member in self._members()),
            name=self._name(node.id),
            configuration=self._configuration(),
            stalled=self.why_stalled(),
            state_bytes=self.space.used_bytes,
            out_of_space=self.watch.trouble if self.watch.waits_for_room else self.space.refusal,
            clock_ms=self.log_clock.now_ms(),
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        told = (self.watch, self.space, self.walls, self.scrubber, self.steward, self.links)
        return tuple(filter(None, (part.warning for part in told)))

    def why_not_ready(self) -> str:
        """A sentence for /readyz; "" if the node is ready."""
        node, membership = self.node, self.membership
        if self.health.failure:
            return f"failed: {self.health.failure}"
        if self.watch.trouble:
            return self.watch.trouble
        if not membership.formed:
            return f"the cluster has not formed yet: waiting for {self._missing()}"
        if node.leader is None:
            return "; ".join(["no leader is known", *membership.refused_by.values()])
        if node.role is Role.LEADER and not node.serves_reads:
            return "leading, and not yet through with what earlier leaders left"
        if node.leader != node.id and not self.links.connected(node.leader):
            return f"no link to the leader, node {node.leader}"
        return self.why_behind()

    def why_stalled(self) -> str:
        """A sentence for /healthz; "" if the loop and its threads turn."""
        if self.health.failure:
            return f"failed: {self.health.failure}"
        if (silent_s := self.health.turned_s_ago(self.clock.monotonic())) > STALLED_S:
            return f"the ticker was last at work {silent_s:.0f} s ago"
        # What waits for room is at work; to start the process anew would not make any.
        if (age_s := self.watch.commit_age_s) > HANGING_S and not self.watch.waits_for_room:
            return f"a commit of the log is under way for {age_s:.0f} s"
        return ""

    def _missing(self) -> str:
        """Who keeps the cluster from forming, and why."""
        membership = self.membership
        told = []
        if not membership.founders:
            return "the cluster to take this node in"
        for peer in sorted(membership.founders - membership.agreed - {membership.node}):
            if reason := membership.refused_by.get(peer):
                why = f"refuses this node: {reason}"
            elif peer in membership.pinned:
                why = "met, it has not met all yet"
                if not self.links.connected(peer):
                    why = f"met, and {self.links.word(peer)}"
            else:
                why = self.links.word(peer)
            told.append(f"node {peer} ({why})")
        return ", ".join(told)

    def _members(self) -> list[NodeId]:
        """All that this node knows, itself included."""
        roster = self.membership.roster
        known = self.membership.addresses if roster is None else (m.id for m in roster.members)
        return sorted({*known, self.membership.node})

    def _name(self, member: NodeId) -> str:
        roster = self.membership.roster
        held = None if roster is None else roster.find(member)
        return self.membership.names.get(member) or ("" if held is None else held.name)

    def _configuration(self) -> ConfigurationStatus | None:
        newest, members = self.node.governance.last, self.state.members
        if newest is None:
            return None
        quorums, record = newest.quorums, members.record
        target = record.target
        under_way = ""
        if target is not None:
            under_way = (
                f"to voters {', '.join(map(str, target.voters))} with quorums of {target.phase1} "
                f"and {target.phase2}"
            )
        return ConfigurationStatus(
            number=record.number,
            voters=tuple(sorted(quorums.members)),
            learners=tuple(one.id for one in record.members if one.id not in quorums.members),
            phase1=quorums.phase1,
            phase2=quorums.phase2,
            distance=newest.distance,
            under_way=under_way,
        )

    def _kind(self, member: NodeId, incarnation: str) -> str:
        newest = self.node.governance.last
        if newest is not None and member in newest.quorums.members:
            return "voter"
        if newest is None and self.membership.roster is None:
            return "voter"  # a founder of a cluster that has not formed
        return "learner" if incarnation else "expected"

    def _member(self, member: NodeId) -> MemberStatus:
        node = self.node
        own = member == node.id
        leading = node.role is Role.LEADER
        chosen = node.chosen_through if own else node.progress.get(member) if leading else None
        lag: int | None = None
        if chosen is not None:
            lag = max(0, max(node.chosen_through, node.learner.wanted_through) - chosen)
        if own:
            role: str | None = str(node.role)
        elif member == node.leader:
            role = str(Role.LEADER)
        else:
            role = str(Role.FOLLOWER) if node.leader is not None else None
        membership, roster = self.membership, self.membership.roster
        held = None if roster is None else roster.find(member)
        incarnation = membership.pinned.get(member, "") if held is None else held.incarnation
        recorded = self.state.members.find(member)
        address = membership.addresses.get(member, "") if held is None else held.peer_address
        kept_address = None if held is None else held.client_address or None
        return MemberStatus(
            id=member,
            peer_address=address or (membership.peer_address if own else ""),
            client_address=membership.client_addresses.get(member) or kept_address,
            name=self._name(member),
            kind=self._kind(member, incarnation),
            incarnation=membership.incarnation if own else incarnation,
            since_ms=0 if recorded is None else recorded.since_ms,
            replaces=0 if recorded is None else recorded.replaces,
            promote=recorded is not None and recorded.promote,
            role=role,
            connected=own or self.links.connected(member),
            chosen_through=chosen,
            lag=lag,
            link="" if own else self.links.word(member),
            silent_s=None if own else self.links.silent_s(member),
        )

    def peers(self) -> dict[NodeId, tuple[bool, float]]:
        """Of each peer: whether there is a link to it, and for how many seconds nothing was heard
        (infinite: never)."""
        told = {}
        for peer in sorted(self.membership.peers):
            silent_s = self.links.silent_s(peer)
            told[peer] = (self.links.connected(peer), math.inf if silent_s is None else silent_s)
        return told

    def kinds(self) -> dict[str, int]:
        """How many members of each kind there are."""
        found = dict.fromkeys(("voter", "learner", "expected"), 0)
        for member in self._members():
            found[self._member(member).kind] += 1
        return found

    def gauges(self) -> dict[str, float]:
        """The numbers for /metrics; names get the prefix `kvstore_`."""
        node, state = self.node, self.state
        return {
            "is_leader": float(node.role is Role.LEADER),
            "has_leader": float(node.leader is not None),
            "ballot_round": float(node.ballot.round),
            "chosen_through": float(node.chosen_through),
            "applied_through": float(state.applied_through),
            "checkpointed_through": float(state.checkpointed_through),
            "log_first_slot": float(node.acceptor.first_slot),
            "log_bytes": float(node.acceptor.log_bytes),
            "slots_in_flight": float(node.proposer.in_flight),
            "writes_waiting": float(self.writes.requests),
            "reads_waiting": float(self.reads.reads),
            "overlay_bytes": float(state.unwritten_bytes),
            "state_bytes": float(self.space.used_bytes),
            "space_quota_bytes": float(self.space.quota_bytes),
            "room_bytes": math.inf if self.space.room_bytes is None else self.space.room_bytes,
            "out_of_space": float(bool(self.space.refusal or self.watch.waits_for_room)),
            "log_commit_age_seconds": self.watch.commit_age_s,
            "log_waiting_bytes": float(self.watch.waiting_bytes),
            "checkpoint_age_seconds": self.watch.checkpoint_age_s,
            "checkpoints_failing_seconds": self.watch.checkpoints_failing_s,
            "scrub_age_seconds": self.scrubber.age_s,
            "peer_links_plain": float(self.links.plain()),
            "peer_certificate_ends_timestamp_seconds": self.links.certificate_ends_s,
            "scrub_damage": float(bool(self.scrubber.warning)),
            "member_change_held_back": float(bool(self.steward.warning)),
            "clock_difference_seconds": self.walls.difference_s,
            "log_lines_dropped": float(self.events.dropped),
            "snapshot_needed": float(bool(self.why_behind())),
            "revision": float(state.revision),
            "compacted_revision": float(state.compacted_revision),
        }
