"""The table of `serve` settings: precedence, parsing, and errors that say where to look."""

import dataclasses
from pathlib import Path

import pytest

from kvstore.config import Config
from kvstore.errors import InvalidArgument
from kvstore_cli.main import COMMANDS, build_parser
from kvstore_cli.node.settings import ServeSettings, load
from kvstore_cli.node.table import SETTINGS

CLUSTER = {"id": "1", "initial-cluster": "1=a:1,2=b:1,3=c:1"}


def test_every_setting_of_config_has_a_row() -> None:
    named = {setting.field for setting in SETTINGS if setting.field is not None}
    assert named == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize(
    ("flag", "variable", "file", "expected"),
    [
        ("3", "4", "5", 3),
        (None, "4", "5", 4),
        (None, None, "5", 5),
        (None, "", "5", 5),
        (None, None, None, 2),
    ],
)
def test_precedence(
    tmp_path: Path, flag: str | None, variable: str | None, file: str | None, expected: int
) -> None:
    toml = tmp_path / "node.toml"
    toml.write_text(f"window = {file}\n" if file else "")
    environment = {} if variable is None else {"KVSTORE_WINDOW": variable}
    flags = {**CLUSTER, "config": str(toml), "window": flag}
    assert load(flags, environment).config.window == expected


def test_a_whole_file(tmp_path: Path) -> None:
    toml = tmp_path / "node.toml"
    toml.write_text(
        """
        id = 2
        listen-client = "[::1]:8000"
        data-dir = "/data"
        tick-s = 0.01
        overlay-bytes-max = "8MiB"
        log-format = "json"
        phase2-quorum = 2
        [initial-cluster]
        1 = "a:1"
        2 = "b:1"
        """
    )
    settings = load({}, {"KVSTORE_CONFIG": str(toml)})
    config = Config(
        node_id=2,
        members={1: ("a", 1), 2: ("b", 1)},
        listen_client=("::1", 8000),
        data_dir=Path("/data"),
        tick_s=0.01,
        overlay_bytes_max=8 << 20,
        phase2_quorum=2,
    )
    assert settings == ServeSettings(config, "json")


@pytest.mark.parametrize(
    ("flags", "environment", "says"),
    [
        ({"initial-cluster": "1=a:1"}, {}, "id is missing"),
        ({"join": "a:1", "initial-cluster": "1=a:1"}, {}, "leave out initial-cluster"),
        ({"id": "4"}, {}, "not in the initial cluster"),
        ({"window": "0"}, {}, "from --window"),
        ({}, {"KVSTORE_WINDOW": "x"}, "from KVSTORE_WINDOW"),
        ({"tick-s": "nan"}, {}, "tick-s: expected seconds"),
        ({"tick-s": "-1"}, {}, "tick-s: expected seconds"),
        ({"frame-bytes-max": "1GB"}, {}, "64MiB"),
        ({"listen-client": "2379"}, {}, "expected host:port"),
        ({"log-format": "xml"}, {}, "one of human, json"),
        ({"phase1-quorum": "1", "phase2-quorum": "2"}, {}, "must be at least 4"),
        ({"initial-cluster": "1=a:1,1=b:1"}, {}, "there twice"),
        ({"data-dir": ""}, {}, "must not be empty"),
        ({"config": "/no/such.toml"}, {}, "cannot read"),
    ],
)
def test_errors_are_one_sentence(
    flags: dict[str, str], environment: dict[str, str], says: str
) -> None:
    complete = {} if says.endswith("missing") else CLUSTER
    with pytest.raises(InvalidArgument, match=says) as caught:
        load({**complete, **flags}, environment)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("windw = 3", "did you mean window"),
        ("window = true", "got True"),
        ("window = [1]", "expected text or a number"),
        ("window =", "not TOML"),
    ],
)
def test_errors_of_the_file(tmp_path: Path, text: str, says: str) -> None:
    toml = tmp_path / "node.toml"
    toml.write_text(text)
    with pytest.raises(InvalidArgument, match=says):
        load({**CLUSTER, "config": str(toml)}, {})


def test_the_parser_passes_settings_through() -> None:
    options = build_parser(COMMANDS).parse_args(["serve", "--id", "1", "--log-tail-bytes", "1MiB"])
    assert options.id == "1" and options.log_tail_bytes == "1MiB"
