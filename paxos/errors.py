"""The two ways in which an input can be wrong: by a peer's fault, or beyond what Paxos allows."""


class ProtocolError(RuntimeError):
    """A state that Paxos rules out. The process must stop: its memory or its disk is wrong."""


class PeerError(ValueError):
    """A message that no correct member sends. Nothing was changed; the link should be dropped."""
