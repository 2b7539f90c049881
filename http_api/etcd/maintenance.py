"""`maintenance/...`: status, alarms, hash, leadership; downgrades are never there. Snapshots are
in `http_api.etcd.snapshot`."""

import re
from typing import Any

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, unary, without_code
from http_api.etcd.encode import Uint32, document
from http_api.etcd.errors import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    UNIMPLEMENTED,
    EtcdError,
)
from http_api.etcd.gateway import RAFT_TERM, Gateway
from http_api.etcd.messages import (
    AlarmAction,
    AlarmRequest,
    AlarmType,
    DowngradeAction,
    DowngradeRequest,
    Empty,
    MoveLeaderRequest,
)
from kvstore.replica.status import ReplicaStatus

SERVER_VERSION = "3.5.1"
"""The etcd whose behaviour this is; clients choose their dialect by it."""
CLUSTER_VERSION = "3.5.0"

_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)?")


async def status(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """maintenance/status: this node's own view, without a quorum too."""
    gateway, node = ask.gateway, ask.session.status()
    size = (gateway.config.data_dir / "state.mdb").stat().st_size
    return document(
        header=ask.header(),
        version=SERVER_VERSION,
        dbSize=size,
        leader=0 if node.leader is None else gateway.member_id(node.leader),
        raftIndex=node.chosen_through,
        raftTerm=RAFT_TERM,
        raftAppliedIndex=node.applied_through,
        errors=_errors(gateway, node),
        dbSizeInUse=min(node.state_bytes, size),
    )


def _errors(gateway: Gateway, node: ReplicaStatus) -> list[str]:
    """As etcd has them: that there is no leader, and each alarm as protobuf's text."""
    errors = ["etcdserver: no leader"] if node.leader is None else []
    if node.out_of_space:
        errors.append(f"memberID:{gateway.member_id(node.id)} alarm:NOSPACE ")
    return errors


def _alarms(gateway: Gateway, node: ReplicaStatus, member: int) -> list[dict[str, Any]]:
    """Of this node, if `member` is it or 0; what another one lacks is asked there."""
    if not node.out_of_space or member not in (0, gateway.member_id(node.id)):
        return []
    return [document(memberID=gateway.member_id(node.id), alarm="NOSPACE")]


async def alarm(ask: EtcdAsk[AlarmRequest]) -> dict[str, Any]:
    """maintenance/alarm: whether this node refuses what grows. It cannot be raised by hand; it ends
    by itself, and to deactivate it changes nothing."""
    message = ask.message
    if message.action is AlarmAction.ACTIVATE and message.alarm is not AlarmType.NONE:
        raise EtcdError(UNIMPLEMENTED, "etcdserver: alarms cannot be activated")
    alarms: list[dict[str, Any]] = []
    wanted = message.alarm in (AlarmType.NONE, AlarmType.NOSPACE)
    if message.action is AlarmAction.GET and wanted:
        alarms = _alarms(ask.gateway, ask.session.status(), message.member_id)
    return document(header=ask.header(), alarms=alarms)


async def state_hash(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """maintenance/hash: of all that was ever applied, so nodes at the same slot agree."""
    digest = ask.session.digest
    return document(header=ask.header(), hash=Uint32(int.from_bytes(digest[:4])))


async def defragment(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """maintenance/defragment: space is reused anyway."""
    return {}


async def move_leader(ask: EtcdAsk[MoveLeaderRequest]) -> dict[str, Any]:
    """maintenance/transfer-leadership, to be sent to the leader."""
    node = ask.session.status()
    if node.role != "leader":
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: not leader")
    to = ask.gateway.node_of(ask.message.target_id)
    if to is None:
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: bad leader transferee")
    if to != node.id:
        await ask.session.hand_over(to, ask.gateway.timeout_s)
    return {}


async def downgrade(ask: EtcdAsk[DowngradeRequest]) -> dict[str, Any]:
    """maintenance/downgrade: there is no version to go back to."""
    if ask.message.action is DowngradeAction.CANCEL:
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
    if _VERSION.fullmatch(ask.message.version) is None:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
    raise EtcdError(INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")


CALLS = (
    unary(
        "maintenance/status", Empty, status, Need.NAMED,
        "What this node knows of itself.",
    ),
    unary(
        "maintenance/alarm", AlarmRequest, alarm, Need.CALLER,
        "Whether this node is out of space.",
    ),
    unary(
        "maintenance/hash", Empty, state_hash, Need.CLUSTER,
        "A digest of all that was ever applied here.",
        told=without_code,
    ),
    unary(
        "maintenance/defragment", Empty, defragment, Need.CLUSTER,
        "Nothing: free space is reused by itself.",
        told=without_code,
    ),
    unary(
        "maintenance/transfer-leadership", MoveLeaderRequest, move_leader, Need.CLUSTER,
        "Let another member lead; to be sent to the leader.",
    ),
    unary(
        "maintenance/downgrade", DowngradeRequest, downgrade, Need.CALLER,
        "Refused: there is no version to go back to.",
    ),
)  # fmt: skip
