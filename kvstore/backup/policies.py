"""Which bases of a continuous backup are kept: `24h:hourly,30d:daily`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from kvstore.backup.catalogue import Base
from kvstore.errors import InvalidArgument

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_PACES_S = {"hourly": 3600, "daily": 86_400, "weekly": 7 * 86_400}
_RULE = re.compile(r"(\d{1,6})([mhdwy]):(hourly|daily|weekly|(\d{1,6})([mhd]))")


class KeepRule(NamedTuple):
    """Of the bases of the last `window_s` seconds one is kept for each `pace_s`."""

    window_s: int
    pace_s: int


class KeepPolicy(NamedTuple):
    """Rules; a base is kept if one of them keeps it. The newest one always is."""

    rules: tuple[KeepRule, ...]

    @property
    def pace_s(self) -> int:
        """How often a new base is worth while."""
        return min(rule.pace_s for rule in self.rules)

    def kept(self, bases: Sequence[Base], now_ms: int) -> set[Base]:
        """Those of `bases` that are kept: of each hour, day, … the first one, from which all that
        follows can be restored."""
        found = {max(bases)} if bases else set()
        for rule in self.rules:
            firsts: dict[int, Base] = {}
            for base in sorted(bases, key=lambda base: (base.created_ms, base.revision)):
                firsts.setdefault(base.created_ms // (rule.pace_s * 1000), base)
            window_ms = rule.window_s * 1000
            found |= {base for base in firsts.values() if now_ms - base.created_ms <= window_ms}
        return found


def parse_policy(text: str) -> KeepPolicy:
    """`24h:hourly,30d:daily`: window and pace, the pace also as `15m`. Raises InvalidArgument."""
    rules = []
    for part in text.split(","):
        match = _RULE.fullmatch(part.strip())
        if match is None:
            raise InvalidArgument(
                "keep", f"keep: expected rules like 24h:hourly,30d:daily, got {part.strip()!r}"
            )
        window_s = int(match[1]) * _UNITS_S[match[2]]
        pace_s = _PACES_S.get(match[3]) or int(match[4]) * _UNITS_S[match[5]]
        if not 0 < pace_s <= window_s:
            raise InvalidArgument("keep", f"keep: in {part.strip()!r} the window holds no base")
        rules.append(KeepRule(window_s, pace_s))
    return KeepPolicy(tuple(rules))
