"""Bytes of answers that clients have not taken yet, over all connections of a node.

An answer is finished before it is sent, and one that nobody reads stays in memory. So a read whose
answer is large is refused while too much of others lies there. Writes never are: what was done must
be told. Streams are bounded by themselves (`http_api.core.streams`).
"""

from kvstore.errors import Overloaded

SMALL_BYTES_MAX = 64 << 10
"""Shorter answers are not refused: a transport takes about as much at once."""


class Outgoing:
    """Counts them."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.bytes = 0

    def check(self, size: int) -> None:
        """Raise Overloaded if an answer of this size is too much now. One at a time may be larger
        than all of them together."""
        if size > SMALL_BYTES_MAX and self.bytes and self.bytes + size > self._bytes_max:
            raise Overloaded("too many bytes of answers wait for clients that do not read them")
