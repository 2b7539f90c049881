"""What a backup says of itself, in the header of its file."""

import msgspec

from kvstore.errors import BackupError


class BackupHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a node's state. `records`: how many each table of the state has; `digest` is the
    running digest of the state as of `slot`, in hexadecimal."""

    snapshot: str
    """A name of this copy and no other: who goes on with it asks for it by that."""
    cluster_id: str
    node: int
    created_ms: int
    """Of the node's clock, since 1970."""
    revision: int
    compacted_revision: int
    slot: int
    digest: str
    records: dict[str, int]
    raw_bytes: int
    """Of the state's file, unpacked."""
    product: str
    holds: str = "state"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(BackupHeader).decode


def encode_header(header: BackupHeader) -> bytes:
    """As it stands in a file."""
    return _encode(header)


def decode_header(data: bytes, name: str) -> BackupHeader:
    """What `encode_header` wrote; `name` is that of the file. Raises BackupError."""
    try:
        header = _decode(data)
    except msgspec.MsgspecError as error:
        raise BackupError(f"{name} has a header that this program cannot read: {error}") from None
    if header.holds != "state":
        raise BackupError(f"{name} holds {header.holds!r}, which this program cannot read")
    return header
