"""Password hashes: scrypt (RFC 7914), salted, with their parameters in front.

A hash is computed by the node that is asked, before anything is proposed: it is slow by intent,
and every replica must store the same one.
"""

import hashlib
import hmac
import os
import struct

SALT_BYTES = 16
KEY_BYTES = 32
COST_LOG2, BLOCK_SIZE, PARALLEL = 14, 8, 1
"""16 MiB and some 50 ms for each hash, the parameters that RFC 7914 has for interactive logins."""

_HEAD = struct.Struct(f">BBB{SALT_BYTES}s")
HASH_BYTES = _HEAD.size + KEY_BYTES
"""What is stored of a password."""
PASSWORD_BYTES_MAX = 1024


def password_hash(password: str, salt: bytes) -> bytes:
    """What to store. `salt`: SALT_BYTES random bytes. Slow: not for the loop's thread."""
    return _hash(password, COST_LOG2, BLOCK_SIZE, PARALLEL, salt)


def password_matches(password: str, stored: bytes) -> bool:
    """Whether `stored` is a hash of `password`. Slow: not for the loop's thread."""
    cost_log2, block_size, parallel, salt = _HEAD.unpack_from(stored)
    return hmac.compare_digest(_hash(password, cost_log2, block_size, parallel, salt), stored)


def nobodys_hash() -> bytes:
    """What no password matches; to find that out takes as long as for any other."""
    return _HEAD.pack(COST_LOG2, BLOCK_SIZE, PARALLEL, bytes(SALT_BYTES)) + os.urandom(KEY_BYTES)


def _hash(password: str, cost_log2: int, block_size: int, parallel: int, salt: bytes) -> bytes:
    key = hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=1 << cost_log2,
        r=block_size,
        p=parallel,
        maxmem=1 << 27,
        dklen=KEY_BYTES,
    )
    return _HEAD.pack(cost_log2, block_size, parallel, salt) + key
