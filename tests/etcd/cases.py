"""All cases, in one list."""

from cases_auth import AUTH
from cases_cluster import CLUSTER, MAINTENANCE
from cases_http import HTTP, JSON
from cases_kv import KV
from cases_lease import ELECTION, LEASE, LOCK
from cases_txn import TXN
from cases_watch import WATCH, WEBSOCKET
from steps import Case

_TABLES = (KV, TXN, LEASE, LOCK, ELECTION, WATCH, WEBSOCKET, HTTP, JSON, CLUSTER, MAINTENANCE, AUTH)

CASES: list[Case] = [case for table in _TABLES for case in table.cases]
"""Each name once."""
