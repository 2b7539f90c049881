"""The judges of the simulation: each complains of what it is there for, and only then."""

from pathlib import Path

import pytest

from kvstore.commands.accounts import (
    ROOT,
    AddRole,
    AddUser,
    ChangePassword,
    Disable,
    Enable,
    GrantPermission,
    GrantRole,
    Permission,
    Right,
)
from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.commands import Administer, AsUser, Command, Compact, Once, Put
from kvstore.commands.members import (
    AddMember,
    Founding,
    MemberRecord,
    NewMember,
    Reconfigure,
    RemoveMember,
    SetConfiguration,
)
from kvstore.commands.operations import Select, Transaction, TransactionDone, TxnPut
from kvstore.commands.results import AnswerDropped, Limit, OverLimit, Result, Written
from kvstore.errors import Reason
from paxos.ballot import ZERO, Ballot
from paxos.messages import Promise
from proof.simulation.judge.accounts_model import AccountsModel
from proof.simulation.judge.durable import DurableLog
from proof.simulation.judge.hang_check import HangCheck
from proof.simulation.judge.invariants import Monitor
from proof.simulation.judge.lease_book import LeaseBook
from proof.simulation.judge.log_clock_check import LogClockCheck
from proof.simulation.judge.members_model import MembersModel
from proof.simulation.judge.model import StoreModel

BALLOT = Ballot(1, 1)


def stamps(*stamped: tuple[float, int]) -> list[str]:
    """What is said of batches that were proposed then, with these clocks."""
    now_s = 0.0
    check = LogClockCheck((0.9, 1.1), lambda: now_s)
    said = []
    for slot, (proposed_s, clock_ms) in enumerate(stamped, 1):
        now_s = proposed_s
        check.proposed(slot, BALLOT)
        now_s += 0.5  # it is chosen later
        said.append(check.chosen(slot, Batch(clock_ms, (), (), BALLOT)))
    return said


def test_a_log_clock_that_goes_with_time_is_well() -> None:
    assert stamps((1.0, 1000), (2.0, 1900), (3.0, 3000)) == ["", "", ""]


@pytest.mark.parametrize(
    "second",
    [pytest.param((2.0, 2300), id="ahead"), pytest.param((2.0, 1000), id="stands still")],
)
def test_a_log_clock_that_does_not_is_complained_of(second: tuple[float, int]) -> None:
    first, complaint = stamps((1.0, 1000), second)
    assert first == "" and complaint.startswith("slot 2 is stamped")


def test_a_hang_must_be_told_of_in_time_and_a_pause_excuses() -> None:
    check = HangCheck(election_s=0.4, patience_s=0.5)
    assert check.look(10.0, 9.1) == "", "no commit is slow before a second"
    assert check.look(30.0, 9.1) == "", "it may have been paused until now"
    assert check.look(30.4, 9.1) == ""
    assert "hangs for 21.5 s" in check.look(30.6, 9.1)
    check.well()
    assert check.look(31.0, 9.1) == ""


def accounts() -> AccountsModel:
    model = AccountsModel()
    for change in (
        AddUser(ROOT, b""),
        GrantRole(ROOT, ROOT),
        AddRole("app"),
        AddUser("alice", b""),
        GrantRole("alice", "app"),
        GrantPermission("app", Permission(Right.WRITE, b"a", b"c")),
        GrantPermission("app", Permission(Right.READ_WRITE, b"c", b"e")),
        Enable(b"s"),
    ):
        model.change(change)
    return model


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Put(b"b", b""), None),
        (Put(b"e", b""), Reason.DENIED),
        (Transaction((), (TxnPut(b"b", b"", previous=True),)), Reason.DENIED),
        (Transaction((), (TxnPut(b"d", b"", previous=True),)), None),
        (Transaction((), (Select(b"b", b"d"),)), Reason.DENIED),
        (Transaction((), (Select(b"c", b"e"),)), None),
        (Transaction((), (Select(b"c", None),)), Reason.DENIED),
        (Administer(Disable()), Reason.DENIED),
        (Compact(1), None),
    ],
)
def test_rights_of_the_model(command: Put | Transaction, reason: Reason | None) -> None:
    model = accounts()
    assert model.refusal(AsUser("alice", model.revision, command)) is reason
    assert model.refusal(AsUser(ROOT, model.revision, command)) is None
    assert model.refusal(AsUser("bob", model.revision, command)) is Reason.BAD_TOKEN
    model.change(ChangePassword("alice", b"new"))
    assert model.refusal(AsUser("alice", model.revision - 1, command)) is Reason.BAD_TOKEN


def answers(model: StoreModel, slot: int, clock_ms: int, *commands: Command) -> list[Result]:
    bundle = Bundle(1, 1, slot, slot, commands)
    return model.apply(slot, Batch(clock_ms, (), (), BALLOT), [bundle])[0][1]


def test_the_model_has_the_budget_of_decision_0015() -> None:
    model = StoreModel()
    fill = Transaction((), tuple(TxnPut(b"h%d" % n, b"") for n in range(100)))
    put = TxnPut(b"i", b"")
    fits = Transaction((), (put, *[Select(b"h", b"i")] * 49))
    over = Transaction((), (put, *[Select(b"h", b"i")] * 50))
    answered = answers(model, 1, 0, fill, fits, over)
    assert isinstance(answered[1], TransactionDone)
    assert answered[2] == OverLimit(Limit.KEYS, 5_000)


def test_the_model_forgets_idempotency_keys_by_the_logs_clock() -> None:
    model = StoreModel()
    once = Once(b"k", Put(b"a", b""), 100)
    assert answers(model, 1, 1000, once) == answers(model, 2, 1099, once) == [Written(2, 1, 2)]
    assert answers(model, 3, 1100, once) == [Written(3, 2, 2)]
    assert model.keys_expired == 1


def test_the_model_keeps_no_large_answers() -> None:
    model = StoreModel()
    answers(model, 1, 0, Put(b"h", b"." * 70_000))
    read = Once(b"k", Transaction((), (Select(b"h", b"i"), TxnPut(b"j", b""))), 100)
    assert isinstance(answers(model, 2, 0, read)[0], TransactionDone)
    assert answers(model, 3, 0, read) == [AnswerDropped(3)]


def reconfigured(model: MembersModel, slot: int, *changes: Reconfigure) -> None:
    """The changes are applied one after the other, and each governs before the next."""
    for change in changes:
        model.apply(change, slot)
        slot += 10
        model.reach(slot)


def founders() -> Founding:
    members = tuple(MemberRecord(n, f"i{n}", f"n{n}", f"h{n}:1", "") for n in (1, 2, 3))
    return Founding("c", members, 2, 2, 4)


def test_a_change_is_not_over_while_a_voter_and_whom_it_replaced_are_there() -> None:
    model = MembersModel(3, 2, 2, 4)
    new = NewMember("n1", "h1:1", "", "i4", False, 1)
    reconfigured(model, 1, Reconfigure(AddMember(new), -1, founders()))
    assert model.quiet
    reconfigured(model, 20, Reconfigure(SetConfiguration((1, 2, 3, 4), ())))
    assert not model.changing and not model.quiet
    reconfigured(model, 40, Reconfigure(RemoveMember(1)))
    assert model.quiet and model.ids == {2, 3, 4}


def monitor() -> Monitor:
    leases, clock = LeaseBook(1.0, lambda: 0.0), LogClockCheck((1.0, 1.0), lambda: 0.0)
    return Monitor(MembersModel(3, 2, 2, 4), 1, leases, clock, lambda _: None)


def promised(judge: Monitor) -> list[str]:
    """What is said when node 1, with nothing on its disk, promises the lowest ballot."""
    judge.on_send(1, DurableLog({}, Path("log")), Promise(ZERO, 1, (), None))
    return [str(violation) for violation in judge.violations]


def test_a_node_with_an_empty_disk_must_not_vote_and_one_with_its_old_disk_may() -> None:
    judge = monitor()
    judge.on_disk_lost(1)
    judge.on_disk_back(1)
    assert promised(judge) == []
    judge.on_disk_lost(1)
    assert promised(judge) == ["durable promise: node 1 votes again, with an empty disk"]


def test_an_old_disk_of_a_member_that_is_none_any_more_must_not_vote() -> None:
    judge = monitor()
    judge.on_disk_lost(1)
    leave = Reconfigure(RemoveMember(1), -1, founders())
    reconfigured(judge.members, 1, leave)
    judge.on_disk_back(1)
    assert promised(judge) != []
