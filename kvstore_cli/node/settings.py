"""Settings of `kvstore serve`: one rule of precedence over one table (`kvstore_cli.node.table`).

Each setting has a flag `--name`, an environment variable `KVSTORE_NAME` and a key `name` in the
TOML file. The first of flag, environment, file and default that is there wins. All are read as
text by the same parser, and an error says where the text came from.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kvstore.certificates.join_tokens import split_token
from kvstore.config import Config, is_loopback
from kvstore.errors import InvalidArgument
from kvstore_cli.node.table import SETTINGS, Setting
from paxos.quorum import QuorumError

DEFAULT_CA_DIR = "authority"
"""In the data directory."""


@dataclass(frozen=True)
class ServeSettings:
    """What `kvstore serve` runs with."""

    config: Config
    log_format: Literal["human", "json"]
    join: str = ""
    """Endpoints of the cluster to join, if its data directory says of none."""
    token: str = ""


def load(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> ServeSettings:
    """Settings from `flags` (by setting name, and "config", the file), environment and file.

    Raises InvalidArgument with one sentence that names the setting and its source.
    """
    file = flags.get("config") or environment.get("KVSTORE_CONFIG")
    table = _read_file(Path(file)) if file else {}
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        found = _first(setting, flags, environment, table, file)
        if found is None:
            continue
        text, source = found
        try:
            values[setting.field or setting.name] = setting.parse(text, setting.name)
        except InvalidArgument as error:
            raise InvalidArgument(setting.name, f"{error} (from {source})") from None
    own = {setting.name: values.pop(setting.name) for setting in SETTINGS if setting.field is None}
    _default_founding(values, own["join"])
    _own_certificates(values, own["tls"], own["token"])
    return ServeSettings(_config(values), own["log-format"], own["join"], own["token"])


def _default_founding(values: dict[str, Any], join: str) -> None:
    """A node that neither joins nor is told of others founds a cluster of its own."""
    if join:
        if "members" in values:
            raise InvalidArgument(
                "join", "join: a node joins a cluster or founds one: leave out initial-cluster"
            )
        values.pop("node_id", None)
    elif "members" not in values:
        own = values.setdefault("node_id", 1)
        peer = values.get("advertise_peer") or values.get("listen_peer") or Config.listen_peer
        values["members"] = {own: peer}


def _own_certificates(values: dict[str, Any], tls: str, token: str) -> None:
    """Where the files are that a node makes, or is given, by itself. It goes on so once it has
    them, also without the flag; files that the settings name come first."""
    place = values.get("data_dir", Config.data_dir) / "tls"
    if tls == "files":
        if "ca_dir" in values:
            raise InvalidArgument("ca-dir", "ca-dir: is of no use with tls files")
        return
    if not (tls or "ca_dir" in values or split_token(token)[1] or (place / "node.crt").exists()):
        return
    values.setdefault("ca_dir", place.with_name(DEFAULT_CA_DIR))
    cert_file, key_file, authority = place / "node.crt", place / "node.key", place / "ca.crt"
    if not {"cert_file", "key_file", "client_ca"} & values.keys():
        values.update(cert_file=cert_file, key_file=key_file, client_ca=authority)
    if not {"peer_cert_file", "peer_key_file", "peer_ca"} & values.keys():
        values.update(peer_cert_file=cert_file, peer_key_file=key_file, peer_ca=authority)


def _first(
    setting: Setting,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    table: Mapping[str, str],
    file: str | None,
) -> tuple[str, str] | None:
    """The text that wins, and where it came from."""
    places = (
        (flags.get(setting.name), f"--{setting.name}"),
        # An empty variable is how container tools write "not set".
        (environment.get(setting.variable) or None, setting.variable),
        (table.get(setting.name), str(file)),
        (setting.default, "the default"),
    )
    return next(((text, source) for text, source in places if text is not None), None)


def _config(values: dict[str, Any]) -> Config:
    if values.get("members") and "node_id" not in values:
        raise InvalidArgument(
            "id",
            "id is missing: give --id N, KVSTORE_ID, or id in the --config file, a number of "
            "initial-cluster",
        )
    try:
        config = Config(**values)
    except QuorumError as error:
        raise InvalidArgument("phase2-quorum", f"quorum sizes: {error}") from None
    _check_exposure(config)
    return config


def _check_exposure(config: Config) -> None:
    """Raise InvalidArgument for a port that other machines reach and that is not asked to be open:
    who listens on the way reads passwords and data."""
    host = config.listen_client[0]
    if config.cert_file is None and not config.insecure and not is_loopback(host):
        raise InvalidArgument(
            "listen-client",
            f"listen-client: other machines reach {host}, and without TLS passwords and data cross "
            "the network as they are: give --cert-file and --key-file (kvstore certs makes them), "
            "or --insecure",
        )
    host = config.listen_peer[0]
    if config.peer_tls_spoken != "require" and not config.insecure and not is_loopback(host):
        raise InvalidArgument(
            "listen-peer",
            f"listen-peer: other machines reach {host}, and without TLS whoever does so can pass "
            "for a node: give --peer-cert-file, --peer-key-file and --peer-ca (kvstore certs makes "
            "them), or --insecure",
        )


def _read_file(path: Path) -> dict[str, str]:
    import tomllib

    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise InvalidArgument("config", f"config: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("config", f"config: {path} is not TOML: {error}") from None
    names = [setting.name for setting in SETTINGS]
    for name in raw:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InvalidArgument("config", f"config: unknown setting {name!r} in {path}{hint}")
    return {name: _text(name, value, path) for name, value in raw.items()}


def _text(name: str, value: object, path: Path) -> str:
    if name == "initial-cluster" and isinstance(value, dict):
        return ",".join(f"{member}={address}" for member, address in value.items())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidArgument(
            name, f"{name}: expected text or a number, got {value!r} (from {path})"
        )
    return str(value)
