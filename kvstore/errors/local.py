"""Errors of a node itself: no answer carries them, and its operator reads them."""


class StorageError(Exception):
    """The data directory cannot be used; the text says what to do about it. Not for clients."""


class DataDamaged(StorageError):
    """The data directory holds what was never written: a flipped bit, a hole. Others have it
    whole."""


class StorageFailed(StorageError):
    """A durable write failed while running; the node must stop (D2)."""


class DivergedState(RuntimeError):
    """This node's state differs from that of the majority at the same slot; it must stop (D5)."""


class BackupError(Exception):
    """A backup, a change log or an import cannot be read, written or trusted; the text says what is
    wrong with which file. Not for clients: whoever runs the command reads it."""
