"""Setting a data directory's content aside: what is known to be wrong is kept for inspection, and
the node comes back without it, as one whose disk was lost.
"""

import calendar
import time
from pathlib import Path

PREFIX = "set-aside-"
AGAIN_S = 3600.0
"""At most once in so long: damage that comes back at once has a cause that this does not mend."""
_STAMP = "%Y%m%dT%H%M%SZ"
_MOVED = ("identity.json", "log", "log.mdb", "state.mdb", "state.mdb-lock")


def set_aside(path: Path, now_s: float) -> Path | None:
    """Move what `path` holds into a directory of its own there, named by the time `now_s` (seconds
    since 1970); where, or None if the last time was less than AGAIN_S ago.

    Nobody may use the directory meanwhile. Raises OSError.
    """
    if now_s - _last_s(path) < AGAIN_S:
        return None
    place = path / (PREFIX + time.strftime(_STAMP, time.gmtime(now_s)))
    place.mkdir()
    for name in _MOVED:
        if (path / name).exists():
            (path / name).rename(place / name)
    return place


def _last_s(path: Path) -> float:
    """When it was done last; long ago if it never was."""
    stamps = sorted(entry.name.removeprefix(PREFIX) for entry in path.glob(PREFIX + "*"))
    for stamp in reversed(stamps):
        try:
            return calendar.timegm(time.strptime(stamp, _STAMP))
        except ValueError:
            continue
    return -AGAIN_S
