"""Sessions: each node's bundles are applied at most once, however often they are sent.

A bundle is known by (origin, starts, number): the node, how often it had started, and the number
that this process gave it. The origin says below which number it will send nothing again (`floor`),
so the set of remembered numbers is as small as what is under way. Nothing here depends on time:
numbers are forgotten by the floor and the start, which travel in the log.
"""

import msgspec

from kvstore.commands.batches import Bundle


class _Session(msgspec.Struct):
    """Of one node: its latest start, what it gave up, and what was applied since."""

    starts: int
    floor: int
    applied: set[int]


_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int, set[int]]]).decode


class Sessions:
    """The sessions of all nodes; part of the replicated state."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}

    def admit(self, bundle: Bundle) -> bool:
        """Whether to apply `bundle`, which counts as applied from then on.

        Refused: one applied before, one its origin has given up, and one of an earlier process,
        whose waiting clients went with it.
        """
        session = self._sessions.get(bundle.origin)
        if session is None or session.starts < bundle.starts:
            session = self._sessions[bundle.origin] = _Session(bundle.starts, 0, set())
        if (
            bundle.starts < session.starts
            or bundle.number < session.floor
            or bundle.number in session.applied
        ):
            return False
        session.applied.add(bundle.number)
        if bundle.floor > session.floor:
            session.floor = bundle.floor
            session.applied = {n for n in session.applied if n >= bundle.floor}
        return True

    def over(self, origin: int, starts: int, number: int) -> bool:
        """Whether the bundle was applied, or will never be."""
        session = self._sessions.get(origin)
        return session is not None and (
            starts < session.starts
            or (starts == session.starts and (number < session.floor or number in session.applied))
        )

    def encode(self) -> bytes:
        """The same bytes on every replica that applied the same log."""
        return msgspec.msgpack.encode(
            [
                (node, s.starts, s.floor, sorted(s.applied))
                for node, s in sorted(self._sessions.items())
            ]
        )

    def restore(self, data: bytes) -> None:
        """Replace all sessions by what `encode` wrote."""
        self._sessions = {
            node: _Session(starts, floor, applied) for node, starts, floor, applied in _decode(data)
        }
