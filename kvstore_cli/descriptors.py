"""What the system allows a process: the standard file descriptors are open, the limit of others is
raised, and what is too little for a node is said."""

import os
import resource
import sys
from contextlib import suppress

DESCRIPTORS_MIN = 64
"""Of a node: its files, its listeners, links to a few peers, a few clients."""
ADDRESS_SPACE_MIN = 512 << 20
"""Of a node: its maps, the stacks and heaps of its threads. With less the libraries below end the
process where they cannot begin a thread, without a word."""


def open_standard() -> None:
    """Whatever of stdin, stdout and stderr is closed becomes /dev/null. Failing schedule
    otherwise: a data file gets descriptor 2, and what is written to stderr lands in it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    # Python made none for those that were closed.
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def raise_limit() -> None:
    """The soft limit becomes the hard one: only `select` needs the soft one low, and nobody here
    uses it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def too_little() -> str:
    """What of this process's limits a node cannot live with; "" if it can."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors != resource.RLIM_INFINITY and descriptors < DESCRIPTORS_MIN:
        return (
            f"this process may open {descriptors} files, and a node needs {DESCRIPTORS_MIN} at "
            "least: see ulimit -Hn"
        )
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < ADDRESS_SPACE_MIN:
        return (
            f"this process may use {space >> 20} MiB of addresses, and a node needs "
            f"{ADDRESS_SPACE_MIN >> 20} at least: see ulimit -v"
        )
    return ""
