"""Settings of one node. Every bound and every time-out of the store has its name and default here.

`kvstore_cli.node.settings` fills it from flags, environment variables and a TOML file; the
simulation draws it from a seed.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from kvstore.errors import InvalidArgument
from paxos.configuration import DISTANCE, Configuration
from paxos.quorum import QuorumSystem, flexible, majority

COMMAND_BYTES_MAX = 4 << 20
"""More than any command takes: the doors of both APIs take no larger body for one."""
FRAME_HEAD_BYTES = 4096
"""More than a message adds to the values that it carries."""

SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX = 4 << 10, 256 << 20
"""A start reads a segment as a whole."""

Address = tuple[str, int]
"""Host and port."""


def parse_address(text: str, parameter: str) -> Address:
    """`host:port` or `[v6]:port`; raises InvalidArgument that names `parameter`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if not colon or not host or (":" in host and not bracketed) or not 0 <= number <= 65535:
        raise InvalidArgument(parameter, f"{parameter}: expected host:port, got {text!r}")
    return host, number


def format_address(address: Address) -> str:
    """What `parse_address` reads: IPv6 goes into brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hosts_to_bind(host: str) -> list[str]:
    """Where to listen for `host`: [::] stands for every address of the machine, as elsewhere, and
    not for those of IPv6 alone."""
    return ["::", "0.0.0.0"] if host == "::" else [host]


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches that host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def exposures(config: "Config") -> list[str]:
    """What other machines reach here that does not protect itself."""
    found = []
    if config.cert_file is None and not is_loopback(config.listen_client[0]):
        found.append(
            "clients of other machines are served without TLS; passwords and data cross the "
            "network as they are"
        )
    if config.peer_tls_spoken != "require" and not is_loopback(config.listen_peer[0]):
        found.append(
            "other machines reach listen-peer, where TLS is not asked for; whoever does so can "
            "pass for a node"
        )
    return found


def parse_cluster(text: str) -> dict[int, Address]:
    """`1=host:port,2=host:port,...`: the members and their peer addresses."""
    members: dict[int, Address] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, address = part.partition("=")
        numeric = name.isascii() and name.isdigit() and len(name) <= 9
        if not equals or not numeric or int(name) < 1:
            raise InvalidArgument(
                "initial-cluster", f"initial-cluster: expected id=host:port, got {part!r}"
            )
        if int(name) in members:
            raise InvalidArgument("initial-cluster", f"initial-cluster: node {name} is there twice")
        members[int(name)] = parse_address(address, "initial-cluster")
    if not members:
        raise InvalidArgument("initial-cluster", "initial-cluster: no members given")
    return members


@dataclass(frozen=True, kw_only=True)
class Config:
    """One node of a cluster. Units come last in the names.

    `node_id`, `members` and the quorum sizes only found a cluster: what its data directory and the
    log say counts afterwards. A node that joins a cluster which is there has none of them.
    Raises InvalidArgument or paxos.quorum.QuorumError if the settings contradict each other.
    """

    node_id: int = 0
    """0: it is given one when it joins."""
    members: dict[int, Address] = field(default_factory=dict)
    """Peer address of every member that founds the cluster, this node included."""
    name: str = ""
    """By which people know it, and the cluster if its disk is lost; "node" and its number."""
    advertise_peer: Address | None = None
    """Where the other nodes reach it; as in `members`, or where it listens."""
    advertise_client: Address | None = None
    """Where clients reach it; where it listens."""
    listen_client: Address = ("127.0.0.1", 2379)
    listen_peer: Address = ("127.0.0.1", 2380)
    data_dir: Path = Path("kvstore-data")
    phase1_quorum: int | None = None
    phase2_quorum: int | None = None

    tick_s: float = 0.025
    heartbeat_ticks: int = 2
    election_ticks: int = 16
    resend_ticks: int = 8
    window: int = 2
    """Slots in flight; more pay only when the round trip is longer than a commit."""
    distance: int = DISTANCE
    """Slots from a change of the members to the first slot that it governs; for founding only."""

    close_slots: int = 64
    """A learner may become a voter once it lacks no more than this of what is chosen."""
    replace_lost: str = "automatic"
    """Whether the leader takes in again, as a new member, one that came back without its disk:
    "automatic" or "manual"."""
    replace_lost_after_s: float = 3.0
    """For so long the member that it was must have been silent."""
    dead_after_s: float = 0.0
    """A voter that was silent for so long is replaced by a learner that waits as a spare, if there
    is one; 0: never."""
    rebuild: str = "manual"
    """Whether a node whose data turned out to be damaged sets it aside and comes back without it:
    "automatic", at most once an hour, or "manual"."""

    request_timeout_s: float = 5.0
    batch_bytes_max: int = 1 << 20
    """Values of one slot; a single bundle may exceed it by one command."""
    pending_requests_max: int = 10_000
    pending_bytes_max: int = 64 << 20
    peer_buffer_bytes_max: int = 64 << 20
    frame_bytes_max: int = 16 << 20

    checkpoint_interval_s: float = 2.0
    """A checkpoint begins so long after the one before: what is written often is written once."""
    checkpoint_bytes: int = 16 << 20
    """Or once so much is applied and not yet checkpointed: a restart replays no more than about
    twice that, in less than a second."""
    overlay_bytes_max: int = 64 << 20
    """Applied and not yet checkpointed; beyond, writes are refused until the disk keeps up."""
    log_tail_bytes: int = 16 << 20
    """Chosen and checkpointed slots kept for laggards; a longer absence needs a snapshot."""
    log_tail_slots: int = 20_000
    log_segment_bytes: int = 16 << 20
    """The log's files; each is given up, or used again, as a whole."""
    log_piece_bytes: int = 1 << 20
    """Promises and fetched entries travel in pieces of about this size."""
    snapshot_piece_bytes: int = 512 << 10
    """A snapshot travels in pieces of this size, each asked for by the laggard."""
    space_quota_bytes: int = 0
    """What the state may take; beyond, writes that grow are refused. 0: what the disk has."""
    disk_reserve_bytes: int = 64 << 20
    """Room that is kept on the disk: with less, writes that grow are refused. 0: none."""
    history_revisions: int = 100_000
    """Automatic compaction keeps about this many revisions readable; 0 keeps all."""
    idempotency_ttl_s: float = 600.0
    cert_file: Path | None = None
    """The client port speaks TLS with this certificate; its key is in `key_file`."""
    key_file: Path | None = None
    client_ca: Path | None = None
    """Authorities of clients' certificates, whose common name is a user."""
    ca_dir: Path | None = None
    """This node makes its certificates by itself, and the authority's key is there, if it has
    it."""
    cert_days: float = 90.0
    """How long the certificates last that it signs."""
    peer_cert_file: Path | None = None
    """Peers are shown this certificate, which names this node; its key is in `peer_key_file`."""
    peer_key_file: Path | None = None
    peer_ca: Path | None = None
    """Authorities of the peers' certificates."""
    peer_tls: str | None = None
    """"off", "prefer": with whom speaks it, or "require", the default with `peer_cert_file`."""
    insecure: bool = False
    """Serve other machines without TLS."""
    user_requests_max: int | None = None
    """Requests of one user in work at a time; None is half of pending_requests_max, 0 no bound."""
    user_streams_max: int = 1_000
    """Streams of one user; 0 is no bound."""
    user_bytes_per_s: int = 0
    """Of request bodies of one user; 0 is no bound."""
    audit_log: str | None = None
    """A file for the audit log, or "-" for stderr."""
    audit: str = "admin"
    """What it has besides logins and denials: "admin", "writes" too, or "all"."""
    audit_keys: str = "names"
    """How it shows keys: "names" or "hashes"."""
    allowed_hosts: tuple[str, ...] = ()
    """Names besides its addresses by which clients reach it; "*" is any."""
    cors_origins: tuple[str, ...] = ()
    """Sites whose pages may use it; "*" is any."""
    scrub_interval_s: float = 3600.0
    """The checksums of all records on disk are looked at once in so long, or in as long as that
    takes at a small share of a core."""
    incidents_max: int = 16
    """So many recordings of incidents are kept by the node itself; 0: none."""
    digest_slots: int = 256
    """Replicas compare their state digests at every slot divisible by this."""

    def __post_init__(self) -> None:
        if self.members and self.node_id not in self.members:
            raise InvalidArgument("id", f"id: node {self.node_id} is not in the initial cluster")
        if len(set(self.members.values())) != len(self.members):
            raise InvalidArgument("initial-cluster", "initial-cluster: two nodes share an address")
        self._check_sizes()
        if self.election_ticks <= 2 * self.heartbeat_ticks:
            raise InvalidArgument(
                "election-ticks",
                f"election-ticks: {self.election_ticks} ticks are too few for heartbeats every "
                f"{self.heartbeat_ticks}: one late heartbeat would cost the leader its place",
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidArgument("key-file", "key-file: cert-file and key-file belong together")
        if self.client_ca is not None and self.cert_file is None:
            raise InvalidArgument("client-ca", "client-ca: is of no use without cert-file")
        self._check_peer_tls()
        if self.distance < self.window:
            raise InvalidArgument(
                "distance", f"distance: {self.distance} is less than the window, {self.window}"
            )
        self.quorums()

    def _check_peer_tls(self) -> None:
        files = self.peer_cert_file, self.peer_key_file, self.peer_ca
        given = [file is not None for file in files]
        if any(given) and not all(given):
            raise InvalidArgument(
                "peer-cert-file",
                "peer-cert-file: peer-cert-file, peer-key-file and peer-ca belong together",
            )
        if self.peer_tls_spoken != "off" and not all(given):
            raise InvalidArgument(
                "peer-tls", "peer-tls: needs peer-cert-file, peer-key-file and peer-ca"
            )

    @property
    def peer_tls_spoken(self) -> str:
        """ "off", "prefer" or "require"."""
        return self.peer_tls or ("off" if self.peer_cert_file is None else "require")

    @property
    def peer_address(self) -> Address:
        """Where the other nodes reach this one."""
        return self.advertise_peer or self.members.get(self.node_id) or self.listen_peer

    @property
    def client_url(self) -> str:
        """Where clients reach this node, as far as it knows."""
        scheme = "http" if self.cert_file is None else "https"
        return f"{scheme}://{format_address(self.advertise_client or self.listen_client)}"

    @property
    def own_name(self) -> str:
        """Its name: if its disk is lost, the cluster knows by that which member it was. One that
        joins without a name is called by its address, of which there is one as well."""
        if self.name or self.node_id:
            return self.name or f"node{self.node_id}"
        return format_address(self.peer_address)

    def _check_sizes(self) -> None:
        """Every message fits into a frame: that of a slot, which one bundle or one command may
        make larger than asked for, and that of a piece with one such slot at its end."""
        slot = 2 * self.batch_bytes_max + COMMAND_BYTES_MAX
        needed = max(slot + self.log_piece_bytes, self.snapshot_piece_bytes) + FRAME_HEAD_BYTES
        if self.frame_bytes_max < needed:
            raise InvalidArgument(
                "frame-bytes-max",
                f"frame-bytes-max: {self.frame_bytes_max} bytes are too few for batch-bytes-max "
                f"({self.batch_bytes_max}), log-piece-bytes ({self.log_piece_bytes}) and "
                f"snapshot-piece-bytes ({self.snapshot_piece_bytes}): at least {needed} are needed",
            )
        if not SEGMENT_BYTES_MIN <= self.log_segment_bytes <= SEGMENT_BYTES_MAX:
            raise InvalidArgument(
                "log-segment-bytes",
                f"log-segment-bytes: {self.log_segment_bytes} is not between {SEGMENT_BYTES_MIN} "
                f"and {SEGMENT_BYTES_MAX}",
            )
        if self.peer_buffer_bytes_max < self.frame_bytes_max:
            raise InvalidArgument(
                "peer-buffer-bytes-max",
                f"peer-buffer-bytes-max: {self.peer_buffer_bytes_max} bytes do not hold one frame "
                f"of frame-bytes-max ({self.frame_bytes_max})",
            )

    def first_configuration(self) -> Configuration | None:
        """What the cluster begins with, if this node founds one."""
        quorums = self.quorums()
        return None if quorums is None else Configuration(1, quorums, self.distance)

    def quorums(self) -> QuorumSystem | None:
        """Majorities, or the sizes asked for; refused unless they always meet. None if it founds
        no cluster."""
        if not self.members:
            return None
        if self.phase2_quorum is not None:
            return flexible(self.members, self.phase2_quorum, self.phase1_quorum)
        if self.phase1_quorum is not None:
            phase2 = len(self.members) + 1 - self.phase1_quorum
            return flexible(self.members, phase2, self.phase1_quorum)
        return majority(self.members)
