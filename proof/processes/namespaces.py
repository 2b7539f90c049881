"""A network of packets: each node has a network namespace of its own (Linux, root).

Clients reach a node over a pair of virtual Ethernet devices. Peers reach each other through a TUN
device in each namespace, whose packets all pass through `switch` in this process. So every fault
of a link, also loss and delay, works without the kernel's traffic control and firewall.

A namespace lives as long as the process that holds it, which ends when its standard input does:
nothing is left behind even if this process is killed.
"""

import asyncio
import fcntl
import ipaddress
import json
import os
import random
import secrets
import shutil
import struct
import subprocess
import time
from pathlib import Path

from proof.processes.links import Links
from proof.processes.network import NetworkUnavailable
from proof.processes.switch import Switch

DEVICE_PREFIX = "kvt"
"""Of the names of devices, which the kernel limits to 15 characters in all."""
CLIENT_PORT, PEER_PORT = 2379, 2380
MTU_BYTES = 9000
"""Of the peers' devices: few large packets are cheaper here than many small ones."""
CLIENT_SUBNET, PEER_SUBNET = "198.18", "198.19"
"""Addresses set aside for tests of network devices (RFC 2544), so nothing real has them."""
_TOOLS = ("ip", "nsenter", "unshare", "cat", "sh")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_COMMAND_S_MAX = 20.0


def unavailable() -> str:
    """Why this machine or user cannot have such a network; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"network namespaces need {', '.join(missing)} in the path"
    try:
        os.close(_open_tun(f"{DEVICE_PREFIX}{secrets.token_hex(3)}"))
        _run(["unshare", "--net", "true"])
    except (OSError, NetworkUnavailable) as error:
        return f"network namespaces cannot be made: {error}"
    return ""


class NamespaceNetwork:
    """Nodes in namespaces of their own."""

    name = "namespaces"
    of_packets = True

    def __init__(self, nodes: list[int], rng: random.Random) -> None:
        self.links = Links()
        self._nodes = nodes
        self._switch = Switch(self.links, rng)
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._token = secrets.token_hex(3)
        self._subnet = ""

    @property
    def lost(self) -> int:
        """By cuts, by loss, and where a queue was full."""
        return self._switch.lost

    def prefix(self, node: int) -> list[str]:
        """Enter the namespace; `nsenter` becomes the node, so the process id stays."""
        return ["nsenter", f"--net=/proc/{self._holders[node].pid}/ns/net", "--"]

    def listen_client(self, node: int) -> str:
        """The namespace's end of the virtual Ethernet."""
        return f"{self._client_ip(node, 2)}:{CLIENT_PORT}"

    def listen_peer(self, node: int) -> str:
        """The address of the TUN device."""
        return f"{PEER_SUBNET}.0.{node}:{PEER_PORT}"

    def peer_address(self, dialler: int, node: int) -> str:
        """The same for all."""
        return self.listen_peer(node)

    async def start(self) -> None:
        """Make namespaces, devices and addresses. Raises NetworkUnavailable."""
        if reason := unavailable():
            raise NetworkUnavailable(reason)
        self._subnet = _free_subnet()
        for node in self._nodes:
            self._holders[node] = subprocess.Popen(
                ["unshare", "--net", "cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        for node in self._nodes:
            await self._await_namespace(node)
            self._make_devices(node)

    async def close(self) -> None:
        """Devices go with their namespaces, and those with their holders."""
        self._switch.close()
        for holder in self._holders.values():
            holder.kill()
            if holder.stdin is not None:
                holder.stdin.close()
        for node, holder in self._holders.items():
            holder.wait()
            # The kernel frees a namespace a little after its last process.
            _remove_device(f"{DEVICE_PREFIX}{self._token}h{node}")
        self._holders.clear()

    def _client_ip(self, node: int, end: int) -> str:
        return f"{CLIENT_SUBNET}.{self._subnet}.{4 * node + end}"

    async def _await_namespace(self, node: int) -> None:
        holder, ours = self._holders[node], os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + _COMMAND_S_MAX
        while os.readlink(f"/proc/{holder.pid}/ns/net") == ours:
            if holder.poll() is not None or time.monotonic() > deadline:
                raise NetworkUnavailable("`unshare --net` made no namespace")
            await asyncio.sleep(0.005)

    def _make_devices(self, node: int) -> None:
        pid, outer = self._holders[node].pid, f"{DEVICE_PREFIX}{self._token}h{node}"
        tun = f"{DEVICE_PREFIX}{self._token}t{node}"
        peer_ip = f"{PEER_SUBNET}.0.{node}"
        self._switch.add(node, _open_tun(tun), ipaddress.IPv4Address(peer_ip).packed)
        _run(
            ["ip", "-batch", "-"],
            f"link set {tun} netns {pid}\n"
            f"link add {outer} type veth peer name clients netns {pid}\n"
            f"address add {self._client_ip(node, 1)}/30 dev {outer}\n"
            f"link set {outer} up\n",
        )
        _run(
            [*self.prefix(node), "ip", "-batch", "-"],
            "link set lo up\n"
            f"address add {self._client_ip(node, 2)}/30 dev clients\n"
            "link set clients up\n"
            f"link set {tun} name peers\n"
            f"link set peers mtu {MTU_BYTES}\n"
            f"address add {peer_ip}/24 dev peers\n"
            "link set peers up\n",
        )
        # A closed socket with unsent data keeps its namespace, by default for minutes.
        orphans = "echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries"
        _run([*self.prefix(node), "sh", "-c", orphans])


def _open_tun(name: str) -> int:
    """A TUN device of this name, which goes when the descriptor is closed."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _free_subnet() -> str:
    """A third octet below CLIENT_SUBNET that no device of this namespace has."""
    devices = json.loads(_run(["ip", "-json", "address"]))
    taken = {
        address["local"].rpartition(".")[0]
        for device in devices
        for address in device.get("addr_info", ())
    }
    free = [n for n in range(256) if f"{CLIENT_SUBNET}.{n}" not in taken]
    if not free:
        raise NetworkUnavailable(f"all of {CLIENT_SUBNET}.0.0/16 is taken")
    return str(secrets.choice(free))


def _remove_device(name: str) -> None:
    if Path("/sys/class/net", name).exists():
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def _run(command: list[str], script: str = "") -> str:
    """The output of `command`; raises NetworkUnavailable with its complaint."""
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, timeout=_COMMAND_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkUnavailable(str(error)) from None
    if done.returncode:
        raise NetworkUnavailable(f"{' '.join(command[:4])}: {done.stderr.strip()}")
    return done.stdout
