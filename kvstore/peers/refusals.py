"""Why a handshake is refused, and what that means for the node that is."""

from enum import StrEnum

from kvstore.peers.roster import Roster

RESTORED = (
    "this directory holds a restored state, which is that of another cluster than the one to join: "
    "begin with an empty directory"
)


class RefusalKind(StrEnum):
    """What of a refusal is for programs."""

    OTHER = ""
    TWIN = "twin"
    """Another process with this identity is there."""
    REMOVED = "removed"
    """It was a member, and is none any more."""
    LOST = "lost"
    """It says that it is a member, and its data directory is another one."""
    TAKEN_IN = "taken-in"
    """It is a member, under another id than it shows."""


class Ending(StrEnum):
    """How a node ends by itself."""

    FAILED = "failed"
    """Something is wrong, and an operator must look."""
    REMOVED = "removed"
    """It is no member any more."""
    AGAIN = "begins again"
    """It is to begin anew at once, with what its data directory says now."""
    DAMAGED = "damaged"
    """Its data is wrong, and the other members have it right."""


class HandshakeRefused(Exception):
    """The handshake failed; `str()` is the reason, for both sides' logs."""

    def __init__(
        self, reason: str, kind: RefusalKind = RefusalKind.OTHER, present: Roster | None = None
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.present = present
