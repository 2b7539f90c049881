"""The table of the settings of `kvstore serve`: a row for each, and how its text is read."""

import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from kvstore.commands.members import MEMBER_NAME_BYTES_MAX
from kvstore.config import Config, format_address, parse_address, parse_cluster
from kvstore.errors import InvalidArgument

QUOTA_BYTES_MIN = 16 << 20
_UNITS = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def _at_least(lowest: int) -> Callable[[str, str], int]:
    def parse(text: str, name: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < lowest:
            raise InvalidArgument(
                name, f"{name}: expected a whole number from {lowest} on, got {text!r}"
            )
        return int(text)

    return parse


def _seconds(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InvalidArgument(name, f"{name}: expected seconds above 0, got {text!r}")
    return value


def _seconds_or_zero(text: str, name: str) -> float:
    return 0.0 if text in ("0", "0.0") else _seconds(text, name)


def _name(text: str, name: str) -> str:
    if not text or len(text.encode()) > MEMBER_NAME_BYTES_MAX or not text.isprintable():
        raise InvalidArgument(
            name, f"{name}: expected 1 to {MEMBER_NAME_BYTES_MAX} bytes of text, got {text!r}"
        )
    return text


def _text_as_it_is(text: str, _: str) -> str:
    return text


def _size(text: str, name: str) -> int:
    digits, unit = text[:-3].strip(), text[-3:].lower()
    if unit not in _UNITS:
        digits, unit = text, ""
    if not (digits.isascii() and digits.isdecimal()) or int(digits) < 1:
        raise InvalidArgument(
            name, f"{name}: expected bytes, such as 1048576 or 64MiB, got {text!r}"
        )
    return int(digits) * _UNITS.get(unit, 1)


def _size_or_zero(text: str, name: str) -> int:
    return 0 if text == "0" else _size(text, name)


def _quota(text: str, name: str) -> int:
    """So much that the last revision, of which the history is kept, does not use it up."""
    found = _size_or_zero(text, name)
    if 0 < found < QUOTA_BYTES_MIN:
        raise InvalidArgument(
            name, f"{name}: expected 0, or {QUOTA_BYTES_MIN} bytes or more, got {text!r}"
        )
    return found


def _choice(*allowed: str) -> Callable[[str, str], str]:
    def parse(text: str, name: str) -> str:
        if text not in allowed:
            raise InvalidArgument(
                name, f"{name}: expected one of {', '.join(allowed)}, got {text!r}"
            )
        return text

    return parse


def _place(text: str, name: str) -> str:
    if not text:
        raise InvalidArgument(name, f"{name}: must not be empty")
    return text


def _flag(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidArgument(name, f"{name}: expected true or false, got {text!r}")
    return text == "true"


def _list(text: str, name: str) -> tuple[str, ...]:
    found = tuple(piece.strip() for piece in text.split(",") if piece.strip())
    if not found:
        raise InvalidArgument(name, f"{name}: must not be empty")
    return found


def _path(text: str, name: str) -> Path:
    if not text:
        raise InvalidArgument(name, f"{name}: must not be empty")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidArgument(
            name, f"{name}: {text!r}: there is no such home directory, or HOME is not set"
        ) from None


class Setting(NamedTuple):
    """One row of the table. `field` is that of Config, or None for the process's own settings."""

    name: str
    field: str | None
    parse: Callable[[str, str], Any]
    metavar: str
    help: str
    default: str | None = None
    """For settings outside of Config, which has its own defaults."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "KVSTORE_" + self.name.upper().replace("-", "_")


SETTINGS = (
    Setting(
        "id", "node_id", _at_least(1), "N",
        "this node's number in --initial-cluster; 1 without that; none with --join",
    ),
    Setting(
        "initial-cluster", "members", lambda text, _: parse_cluster(text),
        "1=HOST:PORT,2=...",
        "peer addresses of all that found the cluster, this node's included; it alone by default",
    ),
    Setting("name", "name", _name, "NAME", "by which people know it; node and its number"),
    Setting(
        "join", None, _text_as_it_is, "URL,...",
        "join the cluster of the nodes that serve clients there, with --token", "",
    ),
    Setting("token", None, _text_as_it_is, "TOKEN", "from `kvstore token create`", ""),
    Setting("listen-client", "listen_client", parse_address, "HOST:PORT", "where HTTP is served"),
    Setting("listen-peer", "listen_peer", parse_address, "HOST:PORT", "where peers connect"),
    Setting(
        "advertise-client", "advertise_client", parse_address, "HOST:PORT",
        "where clients reach it; where it listens",
    ),
    Setting(
        "advertise-peer", "advertise_peer", parse_address, "HOST:PORT",
        "where the other nodes reach it; as in --initial-cluster, or where it listens",
    ),
    Setting("data-dir", "data_dir", _path, "DIR", "where log and state are kept"),
    Setting(
        "phase1-quorum", "phase1_quorum", _at_least(1), "N",
        "promises that a new leader needs; with the phase 2 quorum, more than all members",
    ),
    Setting("phase2-quorum", "phase2_quorum", _at_least(1), "N", "acceptances that a write needs"),
    Setting("tick-s", "tick_s", _seconds, "S", "one tick of the protocol's clock"),
    Setting("heartbeat-ticks", "heartbeat_ticks", _at_least(1), "N", "a leader's beat"),
    Setting(
        "election-ticks", "election_ticks", _at_least(2), "N",
        "silence after which a follower stands for election",
    ),
    Setting("resend-ticks", "resend_ticks", _at_least(1), "N", "before a message is sent again"),
    Setting("window", "window", _at_least(1), "N", "slots in flight"),
    Setting(
        "distance", "distance", _at_least(1), "N",
        "slots from a change of the members to the first it governs; alike on all that found a "
        "cluster",
    ),
    Setting(
        "close-slots", "close_slots", _at_least(1), "N",
        "how close behind a learner must be to become a voter",
    ),
    Setting(
        "replace-lost", "replace_lost", _choice("automatic", "manual"), "automatic|manual",
        "whether a member that comes back without its disk is taken in again by itself",
    ),
    Setting(
        "replace-lost-after-s", "replace_lost_after_s", _seconds, "S",
        "for so long the member that it was must have been silent",
    ),
    Setting(
        "dead-after-s", "dead_after_s", _seconds_or_zero, "S",
        "a voter that was silent for so long is replaced by a spare; 0: never",
    ),
    Setting(
        "rebuild", "rebuild", _choice("automatic", "manual"), "automatic|manual",
        "whether a node with damaged data sets it aside and comes back without, once an hour",
    ),
    Setting(
        "request-timeout-s", "request_timeout_s", _seconds, "S", "unless the request says"
    ),
    Setting("batch-bytes-max", "batch_bytes_max", _size, "BYTES", "commands of one slot"),
    Setting("pending-requests-max", "pending_requests_max", _at_least(1), "N", "beyond, refuse"),
    Setting("pending-bytes-max", "pending_bytes_max", _size, "BYTES", "beyond, refuse"),
    Setting("peer-buffer-bytes-max", "peer_buffer_bytes_max", _size, "BYTES", "unsent, per peer"),
    Setting("frame-bytes-max", "frame_bytes_max", _size, "BYTES", "one message between peers"),
    Setting(
        "checkpoint-interval-s", "checkpoint_interval_s", _seconds, "S",
        "how often applied changes go to the state's database",
    ),
    Setting(
        "checkpoint-bytes", "checkpoint_bytes", _size, "BYTES", "or once so much has been applied"
    ),
    Setting(
        "overlay-bytes-max", "overlay_bytes_max", _size, "BYTES", "applied, not yet checkpointed"
    ),
    Setting("log-tail-bytes", "log_tail_bytes", _size, "BYTES", "log kept for lagging nodes"),
    Setting("log-tail-slots", "log_tail_slots", _at_least(1), "N", "log kept for lagging nodes"),
    Setting("log-segment-bytes", "log_segment_bytes", _size, "BYTES", "one file of the log"),
    Setting("log-piece-bytes", "log_piece_bytes", _size, "BYTES", "unit of catching up by log"),
    Setting("snapshot-piece-bytes", "snapshot_piece_bytes", _size, "BYTES", "unit of snapshots"),
    Setting(
        "space-quota-bytes", "space_quota_bytes", _quota, "BYTES",
        "what the state may take; beyond, writes that grow are refused; 0: what the disk has",
    ),
    Setting(
        "disk-reserve-bytes", "disk_reserve_bytes", _size_or_zero, "BYTES",
        "room kept on the disk: with less, writes that grow are refused; 0: none",
    ),
    Setting(
        "history-revisions", "history_revisions", _at_least(0), "N",
        "old revisions that stay readable; 0 keeps all",
    ),
    Setting(
        "idempotency-ttl-s", "idempotency_ttl_s", _seconds, "S",
        "how long an Idempotency-Key is remembered",
    ),
    Setting(
        "scrub-interval-s", "scrub_interval_s", _seconds, "S",
        "how often all checksums on disk are looked at",
    ),
    Setting(
        "incidents-max", "incidents_max", _at_least(0), "N",
        "so many incidents are kept by the node itself; 0: none",
    ),
    Setting("digest-slots", "digest_slots", _at_least(1), "N", "between comparisons of replicas"),
    Setting(
        "tls", None, lambda text, name: _choice("auto", "files")(text, name) if text else "",
        "auto|files", "auto: certificates that the cluster makes for itself", "",
    ),
    Setting(
        "ca-dir", "ca_dir", _path, "DIR",
        "with tls auto: the authority's files; authority in data-dir",
    ),
    Setting(
        "cert-days", "cert_days", _seconds, "N",
        "with tls auto: how long the certificates last that this node signs",
    ),
    Setting("cert-file", "cert_file", _path, "FILE", "serve clients by TLS with this certificate"),
    Setting("key-file", "key_file", _path, "FILE", "the private key of cert-file"),
    Setting(
        "client-ca", "client_ca", _path, "FILE",
        "authorities of clients' certificates, whose common name is a user",
    ),
    Setting(
        "peer-cert-file", "peer_cert_file", _path, "FILE",
        "show peers this certificate, which names this node",
    ),
    Setting("peer-key-file", "peer_key_file", _path, "FILE", "the private key of peer-cert-file"),
    Setting("peer-ca", "peer_ca", _path, "FILE", "authorities of the peers' certificates"),
    Setting(
        "peer-tls", "peer_tls", _choice("off", "prefer", "require"), "off|prefer|require",
        "prefer: plain as well, while a cluster moves; require with peer-cert-file",
    ),
    Setting(
        "insecure", "insecure", _flag, "true",
        "serve other machines without TLS: passwords cross the network as they are",
    ),
    Setting(
        "user-requests-max", "user_requests_max", _at_least(0), "N",
        "requests of one user in work, half of pending-requests-max by default; 0 is no bound",
    ),
    Setting(
        "user-streams-max", "user_streams_max", _at_least(0), "N",
        "streams of one user; 0 is no bound",
    ),
    Setting(
        "user-bytes-per-s", "user_bytes_per_s", _at_least(0), "BYTES",
        "of request bodies of one user; 0 is no bound",
    ),
    Setting("audit-log", "audit_log", _place, "FILE|-", "who did what, in lines that are chained"),
    Setting(
        "audit", "audit", _choice("admin", "writes", "all"), "admin|writes|all",
        "what goes there besides logins and denials",
    ),
    Setting(
        "audit-keys", "audit_keys", _choice("names", "hashes"), "names|hashes",
        "how it shows keys",
    ),
    Setting(
        "allowed-host", "allowed_hosts", _list, "NAME,...",
        "names by which clients reach this node, besides its addresses; * is any",
    ),
    Setting(
        "cors-origin", "cors_origins", _list, "URL,...",
        "sites whose pages may use this node, as in https://a.example; * is any",
    ),
    Setting(
        "log-format", None, _choice("human", "json"), "human|json",
        "form of the log on stderr", "human",
    ),
)  # fmt: skip


def default_text(setting: Setting) -> str:
    """The default as --help shows it, or "" if there is none."""
    if setting.default is not None:
        return setting.default
    default = next(field.default for field in fields(Config) if field.name == setting.field)
    if default is MISSING or default is None or default in (0, ""):
        return ""
    if default == () or default is False:
        return ""
    if isinstance(default, tuple):
        return format_address(default)
    sized = setting.parse in (_size, _size_or_zero) and isinstance(default, int)
    if sized and default % (1 << 20) == 0:
        return f"{default >> 20}MiB"
    return str(default)
