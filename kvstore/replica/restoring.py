"""Where the log and the state of a data directory meet at a start."""

from kvstore.errors import StorageError
from kvstore.storage.log import LogStore
from paxos.effects import ChosenThrough, Promised, Restored, Truncation


def reconcile(log: LogStore, applied_through: int) -> Restored:
    """What the log says, given how far the checkpointed state reaches.

    A state ahead of the log is that of a snapshot installed just before a crash: the slots it
    covers are chosen, and whatever the log holds of them may be of a losing ballot. Raises
    StorageError if there is a hole between the two.
    """
    restored = log.restore()
    if applied_through + 1 < restored.first_slot:
        raise StorageError(
            f"the state reaches slot {applied_through} only, and the log begins at slot "
            f"{restored.first_slot}: state.mdb is lost or old. Restore it, or replace this member"
        )
    if applied_through <= restored.chosen_through:
        return restored
    first_slot = applied_through + 1
    # The entries may be what remembers the highest promise: keep it before they go.
    promised = max([restored.promised, *(entry.ballot for entry in restored.entries)])
    log.commit([Promised(promised), Truncation(first_slot), ChosenThrough(applied_through)])
    entries = tuple(entry for entry in restored.entries if entry.slot >= first_slot)
    return Restored(promised, entries, first_slot, applied_through)
