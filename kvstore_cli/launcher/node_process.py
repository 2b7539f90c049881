"""The process of a server: its command line, files, start, signals and end.

This is the only place that builds the command line of `kvstore serve`. `kvstore demo`, the torture,
the benchmarks and the integration tests all start their nodes from here.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kvstore.config import is_loopback
from kvstore_cli.process import end_with_parent

PROGRAM = (sys.executable, "-m", "kvstore_cli.main")
"""Takes the arguments of `kvstore`; run by the interpreter that runs this."""
POLL_S = 0.02
TAIL_LINES = 8


def serve_command(
    program: Sequence[str],
    number: int,
    peers: Mapping[int, str],
    listen: tuple[str, str],
    data_dir: Path,
    settings: Mapping[str, object],
) -> list[str]:
    """The command line of a node that ends when its standard input does.

    `peers`: where this node dials each member, itself included; `listen`: its addresses for clients
    and for peers; `settings`: further settings of `serve` by the names of their flags.
    """
    flags = {
        "id": number,
        "initial-cluster": ",".join(f"{n}={address}" for n, address in peers.items()),
        "listen-client": listen[0],
        "listen-peer": listen[1],
        "data-dir": data_dir,
        **settings,
    }
    hosts = [place.rpartition(":")[0].strip("[]") for place in listen]
    secure = "tls" in settings or {"cert-file", "peer-cert-file"} <= settings.keys()
    if not all(map(is_loopback, hosts)) and not secure:
        flags["insecure"] = "true"  # such places are networks of their own
    return _serve(program, flags)


def join_command(
    program: Sequence[str],
    endpoint: str,
    token: str,
    name: str,
    listen: tuple[str, str],
    data_dir: Path,
    settings: Mapping[str, object],
) -> list[str]:
    """The command line of a node that joins the cluster at `endpoint`, and ends likewise."""
    flags = {
        "join": endpoint,
        "token": token,
        "name": name,
        "listen-client": listen[0],
        "listen-peer": listen[1],
        "data-dir": data_dir,
        **settings,
    }
    return _serve(program, flags)


def _serve(program: Sequence[str], flags: Mapping[str, object]) -> list[str]:
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [*program, "serve", "--exit-with-parent", *words]


def clean_environment() -> dict[str, str]:
    """Ours without settings of nodes, so that only the command line configures them.

    The code that runs here is what they run too, wherever they are started.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith("KVSTORE_")}
    source = str(Path(__file__).resolve().parents[2])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (source, found.get("PYTHONPATH"))))
    # These nodes need no authority of the system's: aiohttp's import would read them all, twice,
    # which takes 0.1 s.
    found["SSL_CERT_FILE"] = os.devnull
    return found


class ServerProcess:
    """One server of a cluster: its addresses, its files, and its process while it runs.

    The process has a process group of its own: the terminal's Ctrl-C reaches only the one who
    started it, who then ends it in order. It can be started again after its end.
    """

    def __init__(
        self,
        number: int,
        listen: tuple[str, str],
        data_dir: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        kill_with_parent: bool = False,
    ) -> None:
        """`listen`: its `host:port` for clients and for peers.

        `kill_with_parent`: the kernel kills it when the thread that started it ends; for programs
        that do not end with their standard input.
        """
        self.number = number
        self.client_address, self.peer_address = listen
        self.secure = False
        """Whether clients are served by TLS."""
        self.data_dir = data_dir
        self.log_file = data_dir.with_name(f"{data_dir.name}.log")
        self.command = list(command)
        self.wanted = False
        """Whether it should be running; one that is wanted and gone has ended by itself."""
        self.environment = dict(environment)
        """What the next start has; another one may be another release."""
        self._preexec = end_with_parent() if kill_with_parent else None
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_begin = 0

    @property
    def client_port(self) -> int:
        """The port for clients."""
        return int(self.client_address.rpartition(":")[2])

    @property
    def peer_port(self) -> int:
        """The port for peers."""
        return int(self.peer_address.rpartition(":")[2])

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"{'https' if self.secure else 'http'}://{self.client_address}"

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that was started last; 0 before the first start."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it: -N after signal N; None while it runs or was never started."""
        return self._popen.poll() if self._popen is not None else None

    def start(self) -> None:
        """Start it unless it runs. Raises OSError if its program cannot be run."""
        if not self.running:
            self._log_begin = self.log_file.stat().st_size if self.log_file.exists() else 0
            self._close_stdin()
            self._popen = self.spawn(self.log_file)
            self.wanted = True

    def spawn(self, log_file: Path) -> subprocess.Popen[bytes]:
        """A process with the same command line, which the caller must end."""
        with log_file.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self.environment,
                process_group=0,
                preexec_fn=self._preexec,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one. SIGKILL and SIGTERM are asked-for ends."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.wanted = False
        if self._popen is not None:
            self._popen.send_signal(number)  # to nobody, if its end is known

    def wait(self, limit_s: float) -> int | None:
        """Wait for the end of the process; its exit code, None if it does not end in time."""
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(limit_s)
        return self._ended()

    async def ended(self) -> int:
        """Wait for the end of the process; its exit code. It must have been started."""
        while (code := self._ended()) is None:
            await asyncio.sleep(POLL_S)
        return code

    def log(self, *, whole: bool = False) -> str:
        """What it wrote since its last start, or ever."""
        if not self.log_file.exists():
            return ""
        written = self.log_file.read_bytes()
        return written[0 if whole else self._log_begin :].decode(errors="replace")

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The end of its log, indented."""
        return "\n".join(f"    {line}" for line in self.log(whole=True).splitlines()[-lines:])

    def _ended(self) -> int | None:
        code = self.exit_code
        if code is not None:
            self._close_stdin()
        return code

    def _close_stdin(self) -> None:
        if self._popen is not None and self._popen.stdin is not None:
            with suppress(OSError):
                self._popen.stdin.close()
