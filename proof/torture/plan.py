"""What a run is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from kvstore.errors import InvalidArgument
from proof.torture.faults.catalogue import FAULTS


@dataclass(frozen=True)
class Plan:
    """A checked command line. With `endpoints` the cluster is another's, and has no faults."""

    nodes: int = 3
    clients: int = 12
    duration_s: float = 60.0
    calls_min: int = 0
    """The load goes on after `duration_s` until so many calls have ended."""
    rate: float = 400.0
    """Calls per second, of all clients together."""
    seed: int = 1
    faults: tuple[str, ...] = ()
    demanded: bool = False
    """The faults were named: the run fails if one of them cannot be injected, and goes on for a
    while until each was."""
    network: str = "auto"
    data_dir: Path | None = None
    endpoints: tuple[str, ...] = ()


def choose_faults(text: str | None, nodes: int, endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """The names in `text`, separated by commas; all that `nodes` allow if it is None.

    Raises InvalidArgument for one that does not exist or cannot be injected.
    """
    if endpoints:
        if text is not None:
            raise InvalidArgument(
                "faults",
                "faults: these processes were not started here, so nothing can be done to them; "
                "with --endpoints there is only load and checking",
            )
        return ()
    possible = [name for name, fault in FAULTS.items() if nodes >= fault.nodes_min]
    if text is None:
        return tuple(possible)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FAULTS:
            raise InvalidArgument(
                "faults", f"faults: there is no {name!r}; there are {', '.join(FAULTS)}"
            )
        if name not in possible:
            least = FAULTS[name].nodes_min
            raise InvalidArgument("faults", f"faults: {name} needs {least} nodes, not {nodes}")
    if not names:
        raise InvalidArgument("faults", "faults: none given")
    return names


def check_data_dir(directory: Path | None) -> None:
    """Raises InvalidArgument unless it is new or empty: old data would be judged as lost."""
    if directory is None:
        return
    try:
        used = directory.exists() and any(directory.iterdir())
    except OSError as error:
        raise InvalidArgument(
            "data-dir", f"data-dir: cannot use {directory}: {error.strerror}"
        ) from None
    if used:
        raise InvalidArgument("data-dir", f"data-dir: {directory} is not empty")
