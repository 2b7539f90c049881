"""Files that are looked at again when they change, by whoever serves or dials with them."""

import logging
from abc import ABC, abstractmethod
from pathlib import Path

from kvstore.certificates.facts import SOON, CertificateFacts
from kvstore.errors import InvalidArgument

Stamp = tuple[int, int, int]


class ReloadedFiles(ABC):
    """A certificate, its key and authorities. What cannot be used is told, and what was there goes
    on. `facts` are those of the certificate in use."""

    facts: CertificateFacts

    def __init__(self, files: tuple[Path | None, ...], log: logging.Logger) -> None:
        self._watched = tuple(file for file in files if file is not None)
        self._log = log
        self._stamps = self._stamps_now()
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Read the files, and use them. Raises InvalidArgument or OSError, and changes nothing."""

    def reload(self) -> bool:
        """Look at the files again; whether they are used now. Where they cannot be, the log says
        why."""
        stamps = self._stamps_now()
        try:
            self.load()
        except (InvalidArgument, OSError) as error:
            self._log.error("the certificate is not changed: %s", error)
            return False
        self._stamps = stamps
        self._log.warning(
            "certificate of %s in use, until %s", self.facts.subject, f"{self.facts.ends:%Y-%m-%d}"
        )
        if self._ends_soon:
            self._log.warning("it ends in %d days: renew it", self.facts.left().days)
        return True

    @property
    def warning(self) -> str:
        """That the certificate ends soon although it should have been renewed by now; or ""."""
        if not self._ends_soon:
            return ""
        left = self.facts.left()
        when = f"{self.facts.ends:%Y-%m-%d %H:%M} UTC"
        verb = "ends" if left.total_seconds() > 0 else "ended"
        return f"the certificate of {self.facts.subject} for peers {verb} at {when}: renew it"

    @property
    def _ends_soon(self) -> bool:
        """Short ones are judged by their own life."""
        return self.facts.left() < min(SOON, (self.facts.ends - self.facts.begins) / 4)

    def look(self) -> None:
        """`reload` if a file has changed since it was last looked at."""
        stamps = self._stamps_now()
        if stamps != self._stamps:
            self._stamps = stamps
            self.reload()

    def _stamps_now(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._watched))


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_size, status.st_ino
