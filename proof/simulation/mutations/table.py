"""All deliberate faults."""

from proof.simulation.mutations import (
    changes,
    consensus,
    liveness,
    log_files,
    members,
    reads,
    requests,
    storage,
)
from proof.simulation.mutations.edit import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *consensus.MUTATIONS,
    *storage.MUTATIONS,
    *log_files.MUTATIONS,
    *members.MUTATIONS,
    *reads.MUTATIONS,
    *requests.MUTATIONS,
    *changes.MUTATIONS,
    *liveness.MUTATIONS,
)


def named(name: str) -> Mutation:
    """Raises KeyError if there is none of that name."""
    for mutation in MUTATIONS:
        if mutation.name == name:
            return mutation
    raise KeyError(f"no mutation is called {name!r}")
