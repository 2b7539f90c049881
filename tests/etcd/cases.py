"""All cases, in one list."""

from tests.etcd.cases_auth import AUTH
from tests.etcd.cases_cluster import CLUSTER, MAINTENANCE
from tests.etcd.cases_http import HTTP, JSON
from tests.etcd.cases_kv import KV
from tests.etcd.cases_lease import ELECTION, LEASE, LOCK
from tests.etcd.cases_txn import TXN
from tests.etcd.cases_watch import WATCH, WEBSOCKET
from tests.etcd.steps import Case

_TABLES = (KV, TXN, LEASE, LOCK, ELECTION, WATCH, WEBSOCKET, HTTP, JSON, CLUSTER, MAINTENANCE, AUTH)

CASES: list[Case] = [case for table in _TABLES for case in table.cases]
"""Each name once."""
