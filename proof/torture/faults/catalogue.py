"""All faults. Each module declares its own; they are imported in the order of the documentation."""

from proof.torture.faults import processes  # isort: skip
from proof.torture.faults import members  # isort: skip
from proof.torture.faults import links  # isort: skip
from proof.torture.faults import silence  # isort: skip
from proof.torture.faults import disks  # isort: skip
from proof.torture.faults import clocks  # isort: skip
from proof.torture.faults import logs  # isort: skip
from proof.torture.faults import descriptors  # isort: skip
from proof.torture.faults.kinds import FAULTS

MODULES = (processes, members, links, silence, disks, clocks, logs, descriptors)

__all__ = ["FAULTS", "MODULES"]
