"""The binary form of what is replicated: msgpack by msgspec, arrays with a tag in front."""

from collections.abc import Callable

import msgspec

from kvstore.commands.accounts import AuthChange
from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.commands import Command
from kvstore.commands.results import Result

_encoder = msgspec.msgpack.Encoder()
decode_batch: Callable[[bytes], Batch] = msgspec.msgpack.Decoder(Batch).decode
decode_bundle: Callable[[bytes], Bundle] = msgspec.msgpack.Decoder(Bundle).decode
decode_result: Callable[[bytes], Result] = msgspec.msgpack.Decoder(Result).decode


def encode(message: Bundle | Batch | Result | Command | AuthChange) -> bytes:
    """The binary form that the decoders of this module read back."""
    return _encoder.encode(message)
