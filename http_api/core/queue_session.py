"""What a session is of to those who wait in the queues of locks and elections.

Who could create its key in a queue, which takes READ and WRITE on that key, may wait for its turn:
it sees the keys before its own, whether or not it may read them. So does etcd.
"""

from http_api.core.reading_session import ReadingSession
from kvstore.commands.operations import KeyValue, Select
from kvstore.replica.feed import Watcher
from kvstore.replica.interest import Interest
from kvstore.state.queues import queue_range


class QueueSession(ReadingSession):
    """The part of a session that is about queues."""

    __slots__ = ()

    def queue_before(self, name: bytes, revision: int) -> KeyValue | None:
        """Whom a place in a queue waits for, without a right."""
        return self._store.state.queue_before(name, revision)

    def queue_first(self, name: bytes) -> KeyValue | None:
        """Whose turn it is. Raises AuthError unless the caller may read the whole queue."""
        start, end = queue_range(name)
        self._touch(Select(start, end))
        state = self._store.state
        if state.auth.enabled:
            self._check_read(state.auth, start, end)
        return state.queue_first(name)

    def queue_get(self, key: bytes) -> KeyValue | None:
        """`get` without a right, for a place in a queue."""
        return self._store.state.get(key)

    def queue_watch(self, interest: Interest, first_revision: int = 0) -> Watcher:
        """`watch` without a right, for a place in a queue."""
        return self._store.feed.watch(interest, first_revision)
