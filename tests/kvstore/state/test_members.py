"""Changes of the members against the simulator's model of them, and the cases worth a name."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.members import (
    AddMember,
    BindMember,
    Founding,
    IssueToken,
    MemberChange,
    MemberRecord,
    MembershipRefusal,
    NewMember,
    NextStep,
    PromoteMember,
    Reconfigure,
    RemoveMember,
    RevokeToken,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.results import MembershipRefused, Reconfigured
from kvstore.state.changes import Changes
from kvstore.state.members import Members
from proof.simulation.judge.members_model import MembersModel

DISTANCE = 3


def founding(nodes: int = 3, phase1: int = 2, phase2: int = 2) -> Founding:
    members = tuple(
        MemberRecord(n, f"inc{n}", f"node{n}", f"h{n}:1", "") for n in range(1, nodes + 1)
    )
    return Founding("c1", members, phase1, phase2, DISTANCE)


class Town:
    """The members as applied slot by slot."""

    def __init__(self, nodes: int = 3, phase1: int = 2, phase2: int = 2) -> None:
        self.members = Members(Changes())
        self.founding = founding(nodes, phase1, phase2)
        self.slot = 10
        self.clock_ms = 1000

    def make(self, change: MemberChange, expected: int = -1) -> Reconfigured | MembershipRefused:
        """In the next slot."""
        self.slot += 1
        command = Reconfigure(change, expected, self.founding)
        done = self.members.apply(command, self.slot, self.clock_ms)
        self.members.reach(self.slot)
        return done

    def done(self, change: MemberChange) -> int:
        """It is made; the member that it was about."""
        made = self.make(change)
        assert isinstance(made, Reconfigured), made
        return made.member

    def refused(self, change: MemberChange, expected: int = -1) -> MembershipRefusal:
        made = self.make(change, expected)
        assert isinstance(made, MembershipRefused), made
        return made.reason

    def wait(self) -> None:
        """Until what was changed governs, and a change in two steps is through."""
        for _ in range(2 * DISTANCE):
            self.slot += 1
            self.members.reach(self.slot)
        if self.members.record.target is not None:
            self.done(NextStep())
            self.wait()

    @property
    def voters(self) -> set[int]:
        return set(self.members.record.configurations[-1].voters)


def new(name: str, **fields: object) -> AddMember:
    return AddMember(NewMember(name, f"{name}:1", **fields))  # type: ignore[arg-type]


def test_a_member_comes_as_a_learner_and_votes_from_a_distance_on() -> None:
    town = Town()
    four = town.done(new("d", incarnation="i4"))
    assert four == 4 and town.voters == {1, 2, 3}
    made = town.make(PromoteMember(four))
    assert isinstance(made, Reconfigured) and made.first_slot == town.slot + DISTANCE
    assert len(town.members.configurations) == 2 and town.members.pending
    assert town.refused(RemoveMember(1)) is MembershipRefusal.UNDER_WAY
    town.wait()
    assert not town.members.pending and town.voters == {1, 2, 3, 4}


def test_a_replaced_member_goes_when_its_successor_votes() -> None:
    town = Town()
    four = town.done(new("node3", incarnation="i4", replaces=3))
    assert town.refused(new("x", replaces=3)) is MembershipRefusal.UNDER_WAY
    town.done(PromoteMember(four))
    between = town.members.record.configurations[-1]
    assert (set(between.voters), between.phase1, between.phase2) == ({1, 2, 3, 4}, 3, 3)
    town.wait()
    assert town.voters == {1, 2, 4} and town.members.find(3) is None
    assert town.members.record.incarnations == ("inc3",)
    again = new("node3", incarnation="inc3")
    town.done(RemoveMember(4))
    town.wait()
    assert town.refused(again) is MembershipRefusal.INCARNATION_USED


def test_ids_are_never_used_twice() -> None:
    town = Town()
    four = town.done(new("d"))
    town.done(RemoveMember(four))
    assert town.done(new("d")) == 5


def test_of_two_operators_one_hears_of_the_other() -> None:
    town = Town()
    town.done(new("d"))
    number = town.members.record.number
    town.done(new("e"))
    assert town.refused(new("f"), number) is MembershipRefusal.CHANGED_MEANWHILE


def test_sizes_that_need_not_meet_go_over_a_configuration_between() -> None:
    town = Town(5, 4, 2)
    six = town.done(new("f", incarnation="i6"))
    town.done(PromoteMember(six))
    between = town.members.record.configurations[-1]
    assert (len(between.voters), between.phase1, between.phase2) == (6, 5, 3)
    town.wait()
    last = town.members.record.configurations[-1]
    assert (len(last.voters), last.phase1, last.phase2) == (6, 5, 2)


def test_where_nobody_gave_sizes_a_voter_goes_in_one_step_if_it_can() -> None:
    """The configuration between has all nine voters, of whom the one that goes may be lost."""
    town = Town(9, 2, 8)
    town.done(RemoveMember(7))
    (before, after) = town.members.record.configurations
    assert (len(before.voters), len(after.voters), after.phase1, after.phase2) == (9, 8, 2, 8)
    town.wait()
    assert town.members.record.target is None
    town = Town(5, 4, 2)
    town.done(RemoveMember(5))
    between = town.members.record.configurations[-1]
    assert len(between.voters) == 5, "4 of 4 to promise would meet, and no leader could be lost"
    town.wait()
    last = town.members.record.configurations[-1]
    assert (len(last.voters), last.phase1, last.phase2) == (4, 3, 2)


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    town = Town()
    town.done(new("d"))
    before = town.members.record
    cases: list[tuple[MemberChange, MembershipRefusal]] = [
        (RemoveMember(9), MembershipRefusal.UNKNOWN_MEMBER),
        (PromoteMember(1), MembershipRefusal.NOT_LEARNER),
        (PromoteMember(4), MembershipRefusal.NOT_THERE_YET),
        (new("d"), MembershipRefusal.NAME_TAKEN),
        (AddMember(NewMember("e", "h1:1")), MembershipRefusal.ADDRESS_TAKEN),
        (UpdateMember(4, name="node1"), MembershipRefusal.NAME_TAKEN),
        (BindMember(1, "other"), MembershipRefusal.BOUND_ALREADY),
        (SetConfiguration((), (1, 2, 3, 4)), MembershipRefusal.LAST_VOTER),
        (SetConfiguration((1, 2, 3), (4,), 1, 1), MembershipRefusal.BAD_SIZES),
        (SetConfiguration((1, 2, 3), (4,)), MembershipRefusal.NOTHING_TO_DO),
        (NextStep(), MembershipRefusal.NOTHING_TO_DO),
    ]
    for change, reason in cases:
        assert town.refused(change) is reason, change
        assert town.members.record == before


def test_a_token_is_good_so_often_and_so_long() -> None:
    town = Town()
    town.done(IssueToken(b"h", 5000, 2))
    shown = AddMember(NewMember("d", "d:1", incarnation="i4"), b"h")
    assert town.done(shown) == 4 and town.done(shown) == 4, "asked again, it is the same member"
    town.done(AddMember(NewMember("e", "e:1", incarnation="i5"), b"h"))
    spent = AddMember(NewMember("f", "f:1", incarnation="i6"), b"h")
    assert town.refused(spent) is MembershipRefusal.BAD_TOKEN
    town.done(IssueToken(b"k", 5000, 9))
    town.clock_ms = 5000
    late = AddMember(NewMember("f", "f:1", incarnation="i6"), b"k")
    assert town.refused(late) is MembershipRefusal.BAD_TOKEN
    town.done(RevokeToken(b"k"))
    assert town.refused(RevokeToken(b"k")) is MembershipRefusal.BAD_TOKEN


def test_who_lost_its_disk_hears_that_first_however_old_its_token_is() -> None:
    town = Town()
    town.done(IssueToken(b"h", 5000, 1))
    town.done(AddMember(NewMember("d", "d:1", incarnation="i4"), b"h"))
    again = AddMember(NewMember("d", "d:1", incarnation="i5"), b"h")
    assert town.refused(again) is MembershipRefusal.NAME_TAKEN
    unknown = AddMember(NewMember("d", "d:1", incarnation="i5"), b"other")
    assert town.refused(unknown) is MembershipRefusal.BAD_TOKEN


def test_who_was_added_by_name_comes_by_a_token_too() -> None:
    town = Town()
    town.done(new("d"))
    town.done(IssueToken(b"h", 5000, 1))
    assert town.done(AddMember(NewMember("d", "there:9", incarnation="i4"), b"h")) == 4
    member = town.members.find(4)
    assert member is not None and (member.incarnation, member.peer_address) == ("i4", "there:9")


def test_a_rehearsal_tells_the_steps_and_changes_nothing() -> None:
    town = Town()
    four = town.done(new("node3", incarnation="i4", replaces=3))
    before = town.members.record
    steps = town.members.rehearse(Reconfigure(PromoteMember(four)), town.slot + 1)
    assert not isinstance(steps, MembershipRefused)
    assert [set(step.voters) for step in steps] == [{1, 2, 3, 4}, {1, 2, 4}]
    refused = town.members.rehearse(Reconfigure(PromoteMember(1)), town.slot + 1)
    assert isinstance(refused, MembershipRefused) and town.members.record == before


def test_it_is_kept_whole() -> None:
    town = Town()
    town.done(new("node3", incarnation="i4", replaces=3))
    town.done(PromoteMember(4))
    town.done(IssueToken(b"h", 5000, 2))
    again = Members(Changes())
    again.restore(town.members.encode())
    assert again.record == town.members.record and again.pending
    assert Members(Changes()).encode() == b"", "nothing is kept before the first change"


ids = st.integers(1, 6)
names = st.sampled_from(["", "a", "b", "node1", "node3"])
incarnations = st.sampled_from(["", "x", "y", "inc3"])
changes = st.one_of(
    st.builds(
        lambda name, incarnation, promote, replaces: AddMember(
            NewMember(name, f"{name}:{incarnation}", "", incarnation, promote, replaces)
        ),
        names, incarnations, st.booleans(), st.integers(0, 5),
    ),
    st.builds(BindMember, ids, st.sampled_from(["x", "z"])),
    st.builds(RemoveMember, ids),
    st.builds(PromoteMember, ids),
    st.builds(UpdateMember, ids, names, st.just(""), st.just(""), st.booleans()),
    st.builds(
        SetConfiguration,
        st.sets(ids, max_size=5).map(lambda s: tuple(sorted(s))),
        st.sets(ids, max_size=3).map(lambda s: tuple(sorted(s))),
        st.integers(0, 4), st.integers(0, 4), st.booleans(),
    ),
    st.just(NextStep()),
)  # fmt: skip


@settings(max_examples=60)
@given(
    st.sampled_from([(1, 1, 1), (3, 2, 2), (3, 3, 1), (5, 4, 2), (5, 2, 4), (5, 3, 3)]),
    st.lists(st.tuples(changes, st.integers(-1, 4), st.integers(1, 4)), max_size=25),
)
def test_every_change_comes_to_what_the_model_says(
    sizes: tuple[int, int, int], made: list[tuple[MemberChange, int, int]]
) -> None:
    members, model = Members(Changes()), MembersModel(*sizes, DISTANCE)
    slot = 1
    for change, expected, pause in made:
        change = msgspec.convert(msgspec.to_builtins(change), type(change))
        command = Reconfigure(change, expected, founding(*sizes))
        assert members.apply(command, slot, 0) == model.apply(command, slot)
        for _ in range(pause):
            members.reach(slot)
            model.reach(slot)
            slot += 1
        if members.founded:
            newest, wanted = members.record.configurations[-1], model.newest
            assert newest.quorums.members == wanted.voters
            assert (newest.phase1, newest.phase2) == (wanted.phase1, wanted.phase2)
            assert {one.id for one in members.record.members} == set(model.ids)
