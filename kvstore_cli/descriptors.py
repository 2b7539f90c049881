"""File descriptors of a process: the standard ones are open, and as many as may be are allowed."""

import os
import resource
import sys
from contextlib import suppress


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
