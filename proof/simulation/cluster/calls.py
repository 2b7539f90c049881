"""One request of a simulated client: over the network to a node and back, or not.

What a node does for a request is what `http_api` does, without HTTP. The network may lose the
answer, the node may die with the request in hand, and the caller's patience may end.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from kvstore.commands.operations import TransactionDone
from kvstore.errors import (
    KvError,
    OutcomeUnknown,
    RevisionCompacted,
    RevisionInFuture,
    WorkTooLarge,
)
from kvstore.replica.replica import Replica
from paxos.ballot import NodeId
from proof.simulation.cluster.membership import SimulatedCluster
from proof.simulation.machine.scheduler import Process
from proof.simulation.tell.trace import Answered, Asked

T = TypeVar("T")
Work = Callable[[Replica], Coroutine[Any, Any, T]]

DELAY_S = (0.0001, 0.002)
"""Between clients and nodes, one way."""


SHOWN_MAX = 200


def brief(outcome: object) -> str:
    """For people; what a transaction answers may be large."""
    if isinstance(outcome, TransactionDone) and len(outcome.results) > 8:
        return f"TransactionDone({outcome.revision}, {outcome.succeeded}, {len(outcome.results)})"
    return repr(outcome)[:SHOWN_MAX]


class Unsent(Exception):
    """The request certainly did nothing: nobody took it, or it was refused."""


class Broken(Exception):
    """No answer: the request may have done its work, or may yet."""


class SimulatedCaller:
    """A client's program. `node` is where its next request goes; after a failure, elsewhere."""

    def __init__(
        self, world: SimulatedCluster, number: int, node: NodeId, timeout_s: float
    ) -> None:
        self.world = world
        self.number = number
        self.node = node
        self.process = Process(world.scheduler, f"client-{number}")
        self.rng: random.Random = world.randomness(f"client/{number}")
        self._timeout_s = timeout_s

    def elsewhere(self) -> None:
        """Turn to another node."""
        others = [node for node in self.world.places if node != self.node]
        if others:
            self.node = self.rng.choice(others)

    async def attempt(self, node: NodeId, text: str, key: str, work: Work[T]) -> T | Exception:
        """One request; its result, or Unsent, Broken, or an error about a revision. After a
        failure the next request goes to another node."""
        world = self.world
        world.asked += 1
        number, now_us = world.asked, world.scheduler.now_us
        world.trace.add(Asked(now_us, number, self.number, node, text, key))
        outcome: T | Exception
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome = await self._ask(node, work)
        except (RevisionCompacted, RevisionInFuture) as error:
            outcome = error
        except (OutcomeUnknown, Broken, TimeoutError) as error:
            outcome = Broken(repr(error))
        except (Unsent, KvError) as error:
            outcome = Unsent(repr(error))
            world.reached("request refused")
            if isinstance(error, WorkTooLarge):
                world.reached("command over the budget refused at the door")
        said = "ok"
        if isinstance(outcome, Broken | Unsent):
            self.elsewhere()
            said = "unknown" if isinstance(outcome, Broken) else "refused"
        world.trace.add(Answered(world.scheduler.now_us, number, said, brief(outcome)))
        return outcome

    def _ask(self, node: NodeId, work: Work[T]) -> Awaitable[T]:
        """Over the network and back. Raises Unsent, Broken, or what `work` raises."""
        member, rng = self.world.members[node], self.rng
        answer: asyncio.Future[T] = self.process.create_future()

        def reply(task: "asyncio.Task[T] | None", error: Exception | None) -> None:
            """The answer is back."""
            if answer.done():
                return
            error = error or (task.exception() if task is not None else None)  # type: ignore[assignment]
            if error is not None:
                answer.set_exception(error)
            elif task is not None:
                answer.set_result(task.result())

        def send_back(task: "asyncio.Task[T] | None", error: Exception | None = None) -> None:
            if self.world.network.conditions.loss <= rng.random():
                self.process.post(rng.uniform(*DELAY_S), reply, task, error)

        def arrive() -> None:
            """At the node, or where it was."""
            program, replica = member.process, member.replica
            if program is None or replica is None:
                if not self.world.network.is_down(node):
                    send_back(None, Unsent("connection refused"))
                return

            def reset() -> None:
                if not self.world.network.is_down(node):
                    send_back(None, Broken("connection reset"))

            def begin() -> None:
                task = program.create_task(work(replica))
                task.add_done_callback(finish)

            def finish(task: "asyncio.Task[T]") -> None:
                program.on_kill.remove(reset)
                send_back(task)

            program.on_kill.append(reset)
            program.post(0, begin)

        self.process.post(rng.uniform(*DELAY_S), arrive)
        return answer
