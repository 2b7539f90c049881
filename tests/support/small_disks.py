"""File systems of a few MiB, one for each node: what it is like when a disk is full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from kvstore_cli.launcher.node_process import ServerProcess


class SmallDiskOfNode:
    """The file system at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def hold(self, node: ServerProcess) -> None:
        """The node's data is to be here."""
        place = node.command.index("--data-dir") + 1
        node.data_dir = self.path / "data"
        node.command[place] = str(node.data_dir)

    @property
    def free_bytes(self) -> int:
        """What is left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Somebody else takes all of it, but so much."""
        size = self.free_bytes - leave_bytes
        descriptor = os.open(self.ballast, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        piece = bytes(1 << 16)
        with suppress(OSError):  # full
            while size > 0:
                size -= os.write(descriptor, piece[:size])
        os.close(descriptor)

    def free(self) -> None:
        """And gives it back."""
        self.ballast.unlink(missing_ok=True)


@contextmanager
def small_disks(directory: Path, count: int, size_mib: int) -> Iterator[list[SmallDiskOfNode]]:
    """Mounted below `directory` until the block ends. Skips the test for who may not mount."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    with ExitStack() as stack:
        made = []
        for number in range(1, count + 1):
            path = directory / f"disk-{number}"
            path.mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(path)]
            done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
            if done.returncode != 0:
                pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "-l", str(path)], check=True, timeout=30)
            made.append(SmallDiskOfNode(path))
        yield made
