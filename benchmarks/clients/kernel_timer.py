"""A periodic timer of the kernel, as a file that becomes readable: event loops count milliseconds.

Python has it from 3.13 on (`os.timerfd_create`).
"""

from __future__ import annotations

import ctypes
import os

_MONOTONIC, _ABSOLUTE = 1, 1
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class _Period(ctypes.Structure):
    """Seconds and nanoseconds between two times, and of the first."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def periodic(first_s: float, every_s: float) -> int:
    """A file descriptor that becomes readable at `first_s`, by `time.perf_counter`, and every
    `every_s` from then on; who owns it reads eight bytes each time. Raises OSError."""
    timer: int = _libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    (every, every_ns), (first, first_ns) = (divmod(int(s * 1e9), 10**9) for s in (every_s, first_s))
    period = _Period(every, every_ns, first, first_ns)
    if _libc.timerfd_settime(timer, _ABSOLUTE, ctypes.byref(period), None) < 0:
        os.close(timer)
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return timer
