"""One session for each caller, and one for all who have none."""

from http_api.core.port import ReplicaPort
from http_api.core.session import Session
from http_api.limits.slices import ReadTurns
from kvstore.state.rights import Caller


class CallerSessions:
    """Makes the sessions of one replica."""

    def __init__(self, store: ReplicaPort) -> None:
        self._store = store
        self._turns = ReadTurns()
        self.anonymous = Session(store, None, self._turns)
        """Shared by all who are served without a caller."""

    def of(self, caller: Caller | None) -> Session:
        """The session of a caller."""
        return self.anonymous if caller is None else Session(self._store, caller, self._turns)
