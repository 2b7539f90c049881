"""What all handlers of etcd's API share: the ids of the cluster, headers, documents in and out."""

import hashlib
from typing import Any

from aiohttp import web

from http_api.core.bodies import Bodies
from http_api.core.responses import JSON, Answer, answer
from http_api.core.session import Session
from http_api.etcd.encode import document, to_json
from http_api.etcd.errors import status_of
from http_api.etcd.sizes import message_too_large
from kvstore.config import Config
from kvstore.errors import KvError, TooLarge

RAFT_TERM = 2
"""Clients take a term that goes back for a stale node, and a node that lags learns of a ballot
late. So every node always shows the same term."""

CORS = (
    b"Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
    b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
    b"Access-Control-Allow-Origin: *\r\n"
)
"""Whole header lines, on every answer of this API."""
CORS_HEADERS = dict(line.split(": ", 1) for line in CORS.decode().splitlines())
"""The same for aiohttp's responses."""

TIMEOUT_S_MAX = 5.0
"""etcd gives up after 7 s; clients that try the next node then want to know sooner."""


class Gateway:
    """One node as etcd's API shows it. Holds no request and no caller.

    `node` is a session without a caller: what is read through it needs no right.
    """

    def __init__(self, node: Session, config: Config, bodies: Bodies) -> None:
        self.config = config
        self.timeout_s = min(config.request_timeout_s, TIMEOUT_S_MAX)
        self._node = node
        self._bodies = bodies
        self._cluster = ""
        self._header: dict[str, Any] = {}
        self._header_ends: tuple[bytes, bytes] | None = None
        self._member_ids: dict[int, int] = {}

    # -- ids and headers --------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The store's, on this node now."""
        return self._node.revision

    @property
    def cluster_id(self) -> int:
        """The same on every node; 0 until the cluster has formed."""
        self._refresh()
        return int(self._cluster or "0", 16)

    def member_id(self, node: int) -> int:
        """etcd's id (64 bits, unsigned) of a node; the same on every node, 0 before forming."""
        self._refresh()
        if not self._cluster:
            return 0
        found = self._member_ids.get(node)
        if found is None:
            text = f"{self._cluster}/{node}".encode()
            digest = hashlib.blake2b(text, digest_size=8).digest()
            found = self._member_ids[node] = int.from_bytes(digest)
        return found

    def node_of(self, member_id: int) -> int | None:
        """The node whose member id that is."""
        nodes = (member.id for member in self._node.status().members)
        return next((node for node in nodes if self.member_id(node) == member_id), None)

    def _refresh(self) -> None:
        if self._cluster:
            return
        status = self._node.status()
        self._cluster = status.cluster_id
        self._header = document(
            cluster_id=int(self._cluster or "0", 16),
            member_id=self.member_id(status.id) if self._cluster else 0,
        )

    def header(self, revision: int | None = None) -> dict[str, Any]:
        """A ResponseHeader that shows `revision`; None is the revision now, 0 leaves it out."""
        self._refresh()
        header = dict(self._header)
        shown = self._node.revision if revision is None else revision
        if shown:
            header["revision"] = str(shown)
        header["raft_term"] = str(RAFT_TERM)
        return header

    def header_json(self, revision: int) -> bytes:
        """`header` as JSON, made in one step once the cluster has formed."""
        if not self._header_ends or not revision:
            header = to_json(self.header(revision))
            if self._cluster and revision:
                shown = b'"%d"' % revision
                before, _, after = header.partition(b'"revision":' + shown)
                self._header_ends = before + b'"revision":"', b'"' + after
            return header
        before, after = self._header_ends
        return b"%b%d%b" % (before, revision, after)

    # -- documents --------------------------------------------------------------------------

    async def receive(self, request: web.BaseRequest, bytes_max: int) -> bytes:
        """The whole body. Raises EtcdError, code 8, if it is longer than `bytes_max`, and otherwise
        like `Bodies.read`."""
        try:
            return await self._bodies.read(request, bytes_max)
        except TooLarge:
            size = (request.content_length or bytes_max) * 3 // 4
            raise message_too_large(size) from None

    def reply(self, document: dict[str, Any]) -> Answer:
        """200 with a finished document (see `encode.document`)."""
        return answer(200, to_json(document), JSON, CORS)

    def error(self, error: KvError) -> Answer:
        """The answer for an error."""
        status = status_of(error)
        return answer(status.http_status, to_json(status.document()), JSON, CORS)
