"""What comes from a peer is held against what clients may ask, before it is proposed."""

import msgspec
import pytest

from kvstore.commands.accounts import (
    NAME_BYTES_MAX,
    AddUser,
    GrantPermission,
    GrantRole,
    Permission,
    Right,
)
from kvstore.commands.batches import Bundle
from kvstore.commands.binary import decode_bundle, encode
from kvstore.commands.commands import (
    IDEMPOTENCY_KEY_BYTES_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Administer,
    AsUser,
    Command,
    Compact,
    Delete,
    Grant,
    Once,
    Put,
    Revoke,
)
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnPut, only
from kvstore.commands.sound import UnsoundCommand, check_sound
from kvstore.config import Config
from kvstore.replica.machine import SystemClock
from kvstore.replica.metrics import Counters
from kvstore.replica.outbox import Outbox
from kvstore.replica.pending import PendingWrites
from kvstore.replica.stages import Stages
from paxos.errors import PeerError
from paxos.node import Node
from paxos.node_config import NodeConfig
from tests.support.paxos_cluster import led

LONG = b"k" * (KEY_BYTES_MAX + 1)
LONGEST = b"k" * KEY_BYTES_MAX
READ = Right.READ


def transaction(*success: TxnPut | TxnDelete | Select | Transaction) -> Transaction:
    return Transaction((), success)


SOUND: list[Command] = [
    Put(LONGEST, b"v" * VALUE_BYTES_MAX, lease=-5),
    Delete(b"\0"),
    Compact(1),
    Grant(1, 9_000_000_000),
    Revoke(-(1 << 63) + 1),
    transaction(TxnPut(LONGEST, None, None), TxnDelete(LONGEST, only(LONGEST)), Select(b"", None)),
    Once(b"i" * IDEMPOTENCY_KEY_BYTES_MAX, Put(b"k", b"")),
    Administer(AddUser("", None)),
    Administer(GrantPermission("r", Permission(READ, LONGEST, only(LONGEST)))),
    AsUser("", 0, Delete(b"k")),
]
UNSOUND: list[Command] = [
    Put(LONG, b""),
    Put(b"", b""),
    Put(b"k", b"", lease=(1 << 64) - 1),
    Delete(LONG),
    Grant(1, (1 << 64) - 1),
    transaction(TxnPut(LONG, b"")),
    transaction(transaction(TxnPut(b"", b""))),
    transaction(TxnDelete(LONG + b"k", None)),
    Once(b"i" * 2 * IDEMPOTENCY_KEY_BYTES_MAX, Delete(b"k")),
    Once(b"i", Put(LONG, b"")),
    Administer(AddUser("n" * (NAME_BYTES_MAX + 1), None)),
    Administer(GrantRole("u", "r" * (NAME_BYTES_MAX + 1))),
    Administer(GrantPermission("r", Permission(READ, LONG + b"k"))),
    AsUser("u", 1, Once(b"i", Delete(LONG))),
]


def relayed(*commands: Command) -> bytes:
    return encode(Bundle(2, 1, 1, 1, commands))


@pytest.mark.parametrize("command", SOUND, ids=lambda c: type(c).__name__)
def test_what_clients_may_ask_is_sound(command: Command) -> None:
    check_sound(decode_bundle(relayed(command)).commands[0])


@pytest.mark.parametrize("command", UNSOUND, ids=lambda c: type(c).__name__)
def test_what_no_client_may_ask_is_not_proposed_for_a_peer(command: Command) -> None:
    outbox = leading_outbox()
    with pytest.raises(UnsoundCommand):
        check_sound(command)
    with pytest.raises(PeerError, match="node 2 relays what no client may ask"):
        outbox.take_relay(2, relayed(Put(b"k", b"v"), command))
    outbox.take_relay(2, relayed(Put(b"k", b"v")))


def test_nesting_without_end_is_refused_and_fells_nobody() -> None:
    nested = transaction()
    for _ in range(200):
        nested = transaction(nested)
    with pytest.raises(UnsoundCommand, match="nested"):
        check_sound(nested)
    bundle = msgspec.msgpack.encode([2, 1, 1, 1, [["t", [], [], []]]])
    inner, outer = b"\x94\xa1t\x90\x90\x90", b"\x94\xa1t\x90\x91"
    deep = bundle.replace(inner, outer * 100_000 + inner + b"\x90" * 100_000)
    with pytest.raises(PeerError):
        leading_outbox().take_relay(2, deep)


def test_a_name_that_is_no_text_is_refused_and_fells_nobody() -> None:
    named = relayed(Administer(AddUser("name", None)))
    with pytest.raises(PeerError, match="is no bundle"):
        leading_outbox().take_relay(2, named.replace(b"name", b"nam\xff"))


def leading_outbox() -> Outbox:
    """Of a node that leads."""
    node: Node = led().node(1)
    assert node.config == NodeConfig(1, node.config.quorums) and node.leading
    config = Config(node_id=1, members={1: ("x", 1), 2: ("x", 2), 3: ("x", 3)})
    writes = PendingWrites(
        origin=1,
        start=1,
        requests_max=10,
        bytes_max=config.pending_bytes_max,
        bundle_bytes_max=config.batch_bytes_max,
        stages=Stages(SystemClock().monotonic),
    )
    return Outbox(node, writes, Counters(), batch_bytes_max=1 << 20, relayed_bytes_max=64 << 20)
