"""What a restore reads: one backup file, or a continuous backup at some revision or moment."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kvstore.backup.catalogue import Base, Catalogue
from kvstore.backup.change_logs import LoggedChange, decode_piece
from kvstore.backup.headers import BackupHeader
from kvstore.backup.targets import S3_SCHEME, BackupTarget, open_target
from kvstore.backup.unpacking import Advance, nobody_watches, unpack_state
from kvstore.errors import BackupError


class RestorePoint(NamedTuple):
    """Which state is wanted: as of a revision, or of a moment; the last one if neither is given."""

    revision: int | None = None
    time_ms: int | None = None


class StartingPoint(NamedTuple):
    """A backup's state file, and what is to be changed in it to get to the wanted moment."""

    header: BackupHeader
    base_revision: int
    """As of which to read the state's file."""
    changes: Callable[[], Iterator[LoggedChange]]
    """After that, in order."""


def choose(
    source: str, wanted: RestorePoint, state_file: Path, advance: Advance = nobody_watches
) -> StartingPoint:
    """Unpack the state to start from into `state_file`.

    Raises BackupError if the moment is not in the source, or anything is damaged; OSError.
    """
    path = Path(source)
    if not source.startswith(S3_SCHEME) and not path.is_dir():
        return _of_file(path, wanted, state_file, advance)
    return _of_target(open_target(source), wanted, state_file, advance)


def _of_file(path: Path, wanted: RestorePoint, state_file: Path, advance: Advance) -> StartingPoint:
    with path.open("rb") as file:
        header = unpack_state(file, str(path), state_file, advance)
    if wanted.time_ms is not None and wanted.time_ms < header.created_ms:
        raise BackupError(
            f"{path} does not say when its revisions were written, and it was made after that "
            "moment: give --to-revision, or restore from a continuous backup (backup --follow)"
        )
    revision = header.revision if wanted.revision is None else wanted.revision
    return StartingPoint(header, revision, lambda: iter(()))


def _of_target(
    target: BackupTarget, wanted: RestorePoint, state_file: Path, advance: Advance
) -> StartingPoint:
    catalogue = Catalogue(target.names())
    base = _base(catalogue, wanted)
    packed = state_file.with_name("base.kvb")
    target.fetch(base.name, packed)
    with packed.open("rb") as file:
        header = unpack_state(file, base.name, state_file, advance)
    packed.unlink()
    if header.revision != base.revision:
        raise BackupError(f"{base.name} is a backup of revision {header.revision}")
    if wanted.revision is not None and wanted.revision < base.revision:
        return StartingPoint(header, wanted.revision, lambda: iter(()))
    return StartingPoint(
        header,
        base.revision,
        lambda: _changes(target, catalogue, base, header.cluster_id, wanted),
    )


def _base(catalogue: Catalogue, wanted: RestorePoint) -> Base:
    newest = catalogue.newest
    if wanted.revision is not None:
        try:
            return catalogue.base_for(wanted.revision)
        except BackupError:
            # Bases hold some history of their own: the first one that is newer may have it.
            later = [base for base in catalogue.bases if base.revision > wanted.revision]
            if not later:
                raise
            return later[0]
    return newest if wanted.time_ms is None else catalogue.base_at(wanted.time_ms)


def _changes(
    target: BackupTarget, catalogue: Catalogue, base: Base, cluster_id: str, wanted: RestorePoint
) -> Iterator[LoggedChange]:
    at = base.revision
    for piece in catalogue.chain(base.revision):
        found = decode_piece(target.read(piece.name), piece.name)
        if found.header.cluster_id != cluster_id:
            raise BackupError(f"{piece.name} is of another cluster than {base.name}")
        for change in found.changes:
            if change.revision <= at:
                continue
            if wanted.revision is not None and change.revision > wanted.revision:
                return
            if wanted.time_ms is not None and change.time_ms > wanted.time_ms:
                return
            yield change
            at = change.revision
    if wanted.revision is not None and at < wanted.revision:
        raise BackupError(f"the change log ends at revision {at}: {catalogue.extent()}")
