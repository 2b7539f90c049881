"""The operations kit: rules and panels ask for metrics that there are, files name settings that
there are, and the tools that read them accept them where they are installed."""

import json
import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kvstore_cli.node.settings import load
from kvstore_cli.node.table import SETTINGS
from tests.support.cluster_fixtures import cluster, shared_cluster
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.paths import ROOT
from tests.support.ports import free_base
from tests.support.real_cluster import Cluster, Load, eventually

__all__ = ["cluster", "shared_cluster"]

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
PANELS = DEPLOY / "grafana" / "kvstore.json"
METRIC = re.compile(r"\b((?:kvstore|process|etcd)_[a-z_]+)\b")
ETCD_EXPRESSIONS = (
    "sum(etcd_server_has_leader)",
    "etcd_mvcc_db_total_size_in_bytes",
    "histogram_quantile(0.99, sum by (instance, le) "
    "(rate(etcd_disk_wal_fsync_duration_seconds_bucket[15s])))",
    "process_resident_memory_bytes",
    "changes(etcd_server_leader_changes_seen_total[1d])",
    "etcd_server_proposals_pending",
    "histogram_quantile(0.99, sum by (instance, le) "
    "(rate(etcd_network_peer_round_trip_time_seconds_bucket[15s])))",
)
"""Of what etcd's dashboard and alerts ask for, what we have."""


def expressions() -> list[str]:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    panels = json.loads(PANELS.read_text())["panels"]
    return [r["expr"] for r in rules] + [t["expr"] for p in panels for t in p["targets"]]


def exposed(path: Path) -> dict[str, Any]:
    """The families of a node that runs alone, by their names with all suffixes."""
    found: dict[str, Any] = {}

    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"a", value=b"1")
        text = generate_latest(node.replica.metrics.registry).decode()
        for family in text_string_to_metric_families(text):
            for suffix in ("", "_total", "_bucket", "_sum", "_count"):
                found[family.name + suffix] = family

    on_node(path, test)
    return found


def test_rules_and_panels_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    families = exposed(tmp_path)
    asked = {name for text in (*expressions(), *ETCD_EXPRESSIONS) for name in METRIC.findall(text)}
    assert len(asked) > 25
    assert asked <= families.keys()
    for name, family in families.items():
        if family.name.startswith(("kvstore_", "etcd_")):
            assert family.documentation, name
            assert family.documentation.lower() != family.name.removeprefix("kvstore_").replace(
                "_", " "
            ), f"{name} has no help text of its own"


def test_panels_are_whole() -> None:
    panels = json.loads(PANELS.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    assert all(panel["title"] and panel["targets"] for panel in panels)


def test_files_name_settings_that_there_are() -> None:
    names = {setting.name for setting in SETTINGS}
    toml = DEPLOY / "systemd" / "node.toml"
    assert tomllib.loads(toml.read_text()).keys() <= names
    settings = load({"config": str(toml)}, {})
    assert settings.config.members.keys() == {1, 2, 3}
    compose = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    for service in compose["services"].values():
        for name in service["environment"]:
            assert name.removeprefix("KVSTORE_").lower().replace("_", "-") in names
        assert load({}, service["environment"]).config.insecure
    kubernetes = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "kvstore.yaml").read_text()))
    assert [one["kind"] for one in kubernetes] == [
        "Service", "Service", "PodDisruptionBudget", "StatefulSet",
    ]  # fmt: skip
    container = kubernetes[-1]["spec"]["template"]["spec"]["containers"][0]
    flags = set(re.findall(r"--([a-z-]+)", container["args"][0]))
    assert flags <= names and {"initial-cluster", "insecure"} <= flags
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    assert probes == {"/healthz", "/readyz"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: Debian's `prometheus`")
def test_promtool_accepts_the_rules() -> None:
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"],
                  ["check", "config", "prometheus.yml"]):  # fmt: skip
        subprocess.run(["promtool", *words], cwd=RULES.parent, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "kvstore.service"
    text = (DEPLOY / "systemd" / "kvstore.service").read_text()
    unit.write_text(text.replace("/opt/kvstore/bin/kvstore", "/bin/true"))
    found = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "kvstore.service" not in found.stderr, found.stderr


@pytest.mark.proof
@pytest.mark.integration
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus: Debian has one")
def test_every_panel_returns_data(cluster: Cluster, tmp_path: Path) -> None:
    """A real Prometheus scrapes a real cluster under load."""
    targets = [f"127.0.0.1:{node.client_port}" for node in cluster.nodes.values()]
    job = {"job_name": "kvstore", "static_configs": [{"targets": targets}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_base(0)
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
         f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip

    def rows(expression: str) -> int:
        query = urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}") as got:
                return len(json.load(got)["data"]["result"])
        except OSError:
            return 0

    panels = json.loads(PANELS.read_text())["panels"]
    queries = [t["expr"] for p in panels for t in p["targets"]]
    ready = [q.replace("$__rate_interval", "15s").replace("$instance", ".*") for q in queries]
    try:
        with Load(cluster, cluster.numbers):
            for query in (*ready, *ETCD_EXPRESSIONS):
                eventually(lambda query=query: rows(query) > 0, f"data for {query}")
    finally:
        process.kill()
        process.wait()
