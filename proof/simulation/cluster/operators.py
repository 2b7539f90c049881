"""Operators in the simulation: they look who the members are, and change them."""

import asyncio

from kvstore.commands.commands import AsUser, Command
from kvstore.commands.members import (
    AddMember,
    MemberChange,
    MembershipRefusal,
    NewMember,
    RemoveMember,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.results import MembershipRefused, Reconfigured, Result
from kvstore.replica.replica import Replica
from kvstore.state.members_record import MembersRecord
from proof.simulation.cluster.calls import Broken
from proof.simulation.cluster.clients import ANYTHING, SimulatedClient

CHANGES = 8
ADDED_MAX = 9
"""Members that there are at most."""


class SimulatedOperator(SimulatedClient):
    """Looks at one node, decides, and sends its change there. Often it names what it has seen, so
    that of two operators one hears of the other."""

    async def _run(self) -> None:
        for _ in range(CHANGES):
            await asyncio.sleep(self.rng.uniform(0, 1.0))
            self.world.changes_asked += 1
            result = await self.attempt(self.node, "change the members", "", self._change)
            if not isinstance(result, Broken):
                self.world.changes_asked -= 1
            if isinstance(result, MembershipRefused):
                self.world.reached("change of the members refused")
                if result.reason is MembershipRefusal.UNDER_WAY:
                    self.world.reached("second change at a time refused")
            elif isinstance(result, Reconfigured):
                self.world.reached("change of the members by an operator")
        self.done = True

    async def _change(self, replica: Replica) -> Result:
        timeout_s = replica.config.request_timeout_s
        await replica.barrier(timeout_s)
        record = replica.state.members.record
        change = self._draw(replica, record)
        expected = record.number if self.rng.random() < 0.7 else -1
        command = replica.reconfiguration(change, expected)
        if self.rng.random() < 0.7 or self._voter_without_disk(replica):
            await replica.make_way(command, timeout_s)
        sent: Command = command
        if self.world.scenario.administrators:
            sent = AsUser(*ANYTHING, command)
        return await replica.submit(sent, timeout_s)

    def _voter_without_disk(self, replica: Replica) -> bool:
        """Whether a voter has lost its disk and is not replaced yet. Then the check of who is there
        is not passed over: with it in every quorum nothing could be chosen any more."""
        newest = replica.node.governance.last
        voters = newest.quorums.members if newest is not None else ()
        return any(self.world.holder(voter) is None for voter in voters)

    def _draw(self, replica: Replica, record: MembersRecord) -> MemberChange:
        newest = replica.node.governance.last
        voters = sorted(newest.quorums.members) if newest is not None else []
        learners = [one.id for one in record.members if one.id not in voters]
        rng = self.rng
        kinds = ["add", "add", "remove", "promote", "set", "set", "rename"]
        match rng.choice(kinds):
            case "add" if self.world.spares and len(record.members) < ADDED_MAX:
                spare = rng.choice(self.world.spares)
                address = f"node-{spare.id}:2380"
                return AddMember(NewMember(spare.config.name, address, promote=rng.random() < 0.8))
            case "remove" if len(voters) > 1 or learners:
                return RemoveMember(rng.choice(voters + learners if len(voters) > 1 else learners))
            case "promote" if learners:
                return UpdateMember(rng.choice(learners), promote=True)
            case "rename" if voters:
                return UpdateMember(rng.choice(voters + learners), name=f"name{rng.randrange(3)}")
        return self._draw_set(voters, learners)

    def _draw_set(self, voters: list[int], learners: list[int]) -> SetConfiguration:
        """Any voters, and any sizes that meet; at times sizes that do not."""
        rng, everybody = self.rng, voters + learners
        chosen = rng.sample(everybody, rng.randint(max(1, len(voters) - 2), len(everybody)))
        rest = [one for one in everybody if one not in chosen]
        kept = rest if rng.random() < 0.6 else []
        phase1 = phase2 = 0
        if rng.random() < 0.4:
            phase2 = rng.randint(1, len(chosen))
            phase1 = len(chosen) + 1 - phase2 - (rng.random() < 0.1)
        return SetConfiguration(tuple(sorted(chosen)), tuple(kept), phase1, phase2)
