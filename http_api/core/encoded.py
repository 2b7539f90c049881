"""What many clients are to be sent is encoded once."""

from collections import OrderedDict
from collections.abc import Callable, Hashable


class EncodedOnce:
    """The last encodings, by what they are of; the oldest leave once all have `bytes_max` bytes.

    Whoever wants the same is handed the same object, and so are the connections, however slow.
    `bytes` is how many are kept.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.bytes = 0
        # In a dict, finding the first entry means looking at all that were taken out before it: a
        # watch that caught up over 30 MB held the loop of its node for seconds that way.
        self._encoded: OrderedDict[Hashable, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._encoded)

    def of(self, key: Hashable, encode: Callable[[], bytes]) -> bytes:
        """What is kept under `key`, or what `encode` makes now."""
        known = self._encoded.get(key)
        if known is not None:
            return known
        encoded = self._encoded[key] = encode()
        self.bytes += len(encoded)
        while self.bytes > self._bytes_max:
            self.bytes -= len(self._encoded.popitem(last=False)[1])
        return encoded
