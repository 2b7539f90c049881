"""Answers kept for idempotency keys: a command that is sent again is answered, not applied again.

Two tables: `once`, idempotency key -> (when it expires, fingerprint of the command), the result;
and `once_expiry`, (when it expires, idempotency key) -> nothing, the order of forgetting.
"""

import hashlib
import struct

from kvstore.commands.binary import decode_result, encode
from kvstore.commands.commands import Once
from kvstore.commands.results import AnswerDropped, Mismatched, Result
from kvstore.state.budget import ANSWER_KEPT_BYTES_MAX
from kvstore.state.changes import Changes
from kvstore.state.tables import CheckpointTransaction, Tables

_KEPT = struct.Struct(">Q16s")
"""When it expires, in ms of the log's clock, and the command's fingerprint."""
_EXPIRES_MS = struct.Struct(">Q")


class KeptAnswers:
    """All times are ms of the log's clock."""

    def __init__(self, store: Tables, changes: Changes) -> None:
        self._answers = store.tables["once"]
        self._expiry = store.tables["once_expiry"]
        self._changes = changes

    def find(self, once: Once, clock_ms: int) -> Result | None:
        """What was answered before; Mismatched if to another command; None if to nothing yet, or
        if that has expired."""
        held = self._answers.get(once.idempotency_key)
        if held is not None:
            expires_ms, fingerprint = _KEPT.unpack_from(held)
            if expires_ms > clock_ms:
                if fingerprint != _fingerprint(once):
                    return Mismatched()
                return decode_result(held[_KEPT.size :])
        return None

    def keep(self, once: Once, result: Result, revision: int, clock_ms: int) -> None:
        """Remember the answer; of one over the bound only that there was one, and `revision`, the
        store's now."""
        expires_ms = clock_ms + once.ttl_ms
        key = once.idempotency_key
        answer = encode(result)
        if len(answer) > ANSWER_KEPT_BYTES_MAX:
            answer = encode(AnswerDropped(revision))
        self._answers.put(key, _KEPT.pack(expires_ms, _fingerprint(once)) + answer)
        self._expiry.put(_EXPIRES_MS.pack(expires_ms) + key, b"")
        self._changes.answer_kept(key)

    @staticmethod
    def discard(transaction: CheckpointTransaction, clock_ms: int, entries_max: int) -> None:
        """Physically delete up to `entries_max` answers that have expired."""
        cursor = transaction.cursor("once_expiry")
        left = entries_max
        found = cursor.first()
        while found and left > 0:
            entry = cursor.key()
            if _EXPIRES_MS.unpack_from(entry)[0] > clock_ms:
                break
            key = entry[_EXPIRES_MS.size :]
            held = transaction.get("once", key)
            # The key may have been used again since: then a later entry stands for it.
            if held is not None and _KEPT.unpack_from(held)[0] <= clock_ms:
                transaction.delete("once", key)
            cursor.delete()
            left -= 1
            found = bool(cursor.key())


def _fingerprint(once: Once) -> bytes:
    return hashlib.blake2b(encode(once.command), digest_size=16).digest()
