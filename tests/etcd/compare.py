"""Do the same at two servers and compare what they answer, with what must differ mapped away.

Mapped: cluster and member ids and terms (their form is checked), revisions (to their distance from
the revision at which the case began), lease ids that the server chose and tokens (to the name under
which the case saved them), sizes, hashes and log positions (to "a number"), remaining times to live
(to "granted" while they are within three seconds of it), names and addresses of members. Leases,
and the keys of a lease, come in any order from etcd, and members by ids drawn at random. Not
compared: the type of an empty body, and whether a body of more than 2,000 bytes comes in chunks.
"""

import contextlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.etcd.exchange import Exchange, Reply
from tests.etcd.servers import Server
from tests.etcd.steps import (
    ALL,
    Begin,
    Call,
    Case,
    Finish,
    Frame,
    Next,
    Quiet,
    Rev,
    Saved,
    Socket,
    Step,
    Until,
    b,
)  # fmt: skip

QUIET_S = 0.25
"""How long a stream must show nothing to count as quiet; a document takes milliseconds."""
REVISIONS = {"revision", "create_revision", "mod_revision", "compact_revision", "rev"}
NUMBERS = {"dbSize", "dbSizeInUse", "raftIndex", "raftAppliedIndex", "hash"}
UNORDERED = {"leases", "keys", "members"}
TERMS = {"raft_term", "raftTerm"}
URLS = {"peerURLs", "clientURLs"}
STREAMED_BYTES = 2000
"""From about here on Go's server sends any answer in chunks."""
SHOWN_CHARACTERS = 4000
CORS = ("access-control-allow-origin", "access-control-allow-methods",
        "access-control-allow-headers", "allow")  # fmt: skip


def parse(raw: bytes) -> Any:
    """The JSON value; a list of them if there is one per line; or the text."""
    with contextlib.suppress(ValueError):
        return json.loads(raw)
    with contextlib.suppress(ValueError):
        return [json.loads(line) for line in raw.splitlines()]
    return raw.decode(errors="replace")


class Session:
    """One case at one server: its connections, its base revision, what it saved."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._exchange = Exchange(server.port)
        self._streams: dict[str, Exchange] = {}
        self._sockets: set[str] = set()
        self._saved: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._base = self._auth_base = 0

    def close(self) -> None:
        """Hang up everywhere."""
        for exchange in (self._exchange, *self._streams.values()):
            exchange.close()
        self._streams.clear()

    # -- a clean begin ------------------------------------------------------------------------

    def begin(self, auth: bool = False) -> None:
        """An empty key space without leases; with `auth`, also without users."""
        if auth:
            self._without_auth()
        self._post("kv/deleterange", {"key": b(ALL[0]), "range_end": b(ALL[1])})
        for lease in self._post("lease/leases").get("leases", []):
            self._post("lease/revoke", lease)
        header = self._post("maintenance/status")["header"]
        self._base = int(header["revision"])
        self._names[header["cluster_id"]] = "cluster"
        self._names[header["member_id"]] = "member"

    def _without_auth(self) -> None:
        with contextlib.suppress(AssertionError):  # refused while off
            token = self._post("auth/authenticate", {"name": "root", "password": "pw"})["token"]
            self._post("auth/disable", {}, {"Authorization": token})
        for user in self._post("auth/user/list").get("users", []):
            self._post("auth/user/delete", {"name": user})
        for role in self._post("auth/role/list").get("roles", []):
            self._post("auth/role/delete", {"role": role})
        self._auth_base = int(self._post("auth/status").get("authRevision", 0))

    def _post(self, path: str, body: Any = None, headers: Any = None) -> Any:
        raw = json.dumps(body or {}).encode()
        reply = self._exchange.call("POST", f"/v3/{path}", raw, headers)
        assert reply.status == 200, f"{self.server.name}: {path}: {reply.status} {reply.body!r}"
        return json.loads(reply.body)

    # -- steps --------------------------------------------------------------------------------

    def do(self, step: Step) -> Any:
        """Do one step; the answer, mapped."""
        try:
            return self._do(step)
        except TimeoutError:
            return "nothing came in time"
        except ConnectionError as error:
            return f"the connection ended: {error}"

    def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            return self._call(step)
        if isinstance(step, Until):
            end = time.monotonic() + step.deadline_s
            while not step.condition((found := self._call(step.call))["body"]):
                if time.monotonic() > end:
                    return {"never": found}
                time.sleep(0.05)
            return found
        if isinstance(step, Begin):
            self._streams[step.stream] = Exchange(self.server.port)
            self._send(self._streams[step.stream], step.call)
            return None
        if isinstance(step, Socket):
            self._streams[step.stream] = Exchange(self.server.port)
            self._sockets.add(step.stream)
            return self._streams[step.stream].upgrade(step.path)
        if isinstance(step, Frame):
            return self._streams[step.stream].send_frame(self._encoded(step.body))
        return self._stream(step)

    def _stream(self, step: Next | Quiet | Finish) -> Any:
        stream = self._streams[step.stream]
        read = stream.frame if step.stream in self._sockets else stream.line
        if isinstance(step, Quiet):
            with contextlib.suppress(TimeoutError):
                return {"not quiet": self._mapped(parse(read(QUIET_S) or b"the end"))}
            return "quiet"
        if isinstance(step, Finish):
            reply = stream.head()
            reply.body = stream.rest()
            return self._told(reply, Call("", save=step.save, loose=step.loose))
        found = []
        for _ in range(step.count):
            raw = read()
            found.append("the end" if raw is None else self._mapped(parse(raw)))
        head = {} if step.stream in self._sockets else self._head(stream.head())
        return {**head, "documents": found}

    def _call(self, call: Call) -> dict[str, Any]:
        self._send(self._exchange, call)
        reply = self._exchange.head()
        has_body = call.method != "HEAD"
        reply.body = self._exchange.rest() if has_body else b""
        self._exchange._head = None
        if reply.headers.get("connection", "").lower() == "close":
            self._exchange = Exchange(self.server.port)
        return self._told(reply, call)

    def _send(self, exchange: Exchange, call: Call) -> None:
        headers = {name: self._filled(value) for name, value in call.headers.items()}
        exchange.send(call.method, call.path, self._encoded(call.body), headers)

    def _told(self, reply: Reply, call: Call) -> dict[str, Any]:
        body = parse(reply.body)
        for name, place in call.save.items():
            value: Any = body
            for field in place.split("."):
                value = value[int(field)] if isinstance(value, list) else value.get(field, {})
            if isinstance(value, str):
                self._saved[name] = value
                self._names[value] = f"<{name}>"
        told = {**self._head(reply), "body": self._mapped(body)}
        if not reply.body:
            told["type"] = "no body"
        if len(reply.body) < STREAMED_BYTES:
            told["streamed"] = "content-length" not in reply.headers
        if isinstance(body, dict):
            told["newline"] = reply.body.endswith(b"\n")
        if call.loose and isinstance(told["body"], dict):
            for name in {"error", "message"} & told["body"].keys():
                told["body"][name] = "a text" if told["body"][name] else ""
        return told

    @staticmethod
    def _head(reply: Reply) -> dict[str, Any]:
        cors = {name: reply.headers[name] for name in CORS if name in reply.headers}
        kind = reply.headers.get("content-type", "").replace(" ", "")
        return {"status": reply.status, "type": kind, **cors}

    # -- placeholders and mapping ---------------------------------------------------------------

    def _encoded(self, body: Any) -> bytes:
        if isinstance(body, bytes):
            return body
        return json.dumps(self._filled(body)).encode()

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, Rev):
            return str(self._base + value.offset)
        if isinstance(value, Saved):
            return self._saved.get(value.name, f"nothing saved as {value.name}")
        return value

    def _mapped(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return self._mapped_object(value)
        if isinstance(value, list) and name in URLS:
            return ["a URL" if re.fullmatch(r"http://[\w.]+:\d+", url) else url for url in value]
        if isinstance(value, list):
            items = [self._mapped(item, name) for item in value]
            return sorted(items, key=str) if name in UNORDERED else items
        if isinstance(value, str) and value in self._names:
            return self._names[value]
        number = isinstance(value, int) or (isinstance(value, str) and value.isdecimal())
        if number and name in REVISIONS:
            return f"base {int(value) - self._base:+}"
        if number and name == "authRevision":
            return f"auth base {int(value) - self._auth_base:+}"
        if number and (name in NUMBERS or name in TERMS):
            return f"a {type(value).__name__} number" + (" > 0" if int(value) > 0 else "")
        return value

    def _mapped_object(self, value: dict[str, Any]) -> dict[str, Any]:
        found = {name: self._mapped(item, name) for name, item in value.items()}
        if "grantedTTL" in value:
            left, granted = int(value.get("TTL", 0)), int(value["grantedTTL"])
            found["TTL"] = "granted" if granted - 3 <= left <= granted else left
        if "clientURLs" in value:
            found["name"] = "a name" if value.get("name") else ""
        if "events" in value and isinstance(found.get("header"), dict):
            # Revision of the last event or a later one: docs/etcd-compatibility.md, watches.
            last = max(int(event["kv"]["mod_revision"]) for event in value["events"])
            if int(value["header"].get("revision", 0)) >= last:
                found["header"]["revision"] = "not before the last event"
        return found


class Difference(AssertionError):
    """Two servers answered differently, or a difference that was wanted is not there."""


def _subject(step: Step) -> Call | None:
    return (
        step.call if isinstance(step, Until | Begin) else step if isinstance(step, Call) else None
    )


def check(step: Step, left: Any, right: Any, *, same_system: bool) -> None:
    """Raise Difference unless the answers agree, or differ as the step says that they do."""
    call = _subject(step)
    if isinstance(step, Next) and step.differs and not same_system:
        if step.ours not in json.dumps(right) or left == right:
            raise Difference(f"ours must hold {step.ours!r}, unlike {left}, is {right}")
        return
    if call is not None and call.differs and not same_system:
        status, text = call.ours
        if right["status"] != status or text not in json.dumps(right["body"]):
            raise Difference(f"ours must be {status} with {text!r}, is {right}")
        if left == right:
            raise Difference(f"there is no difference any more: {right}")
    elif left != right:
        shown = "".join(
            f"\n  {name}   {str(value)[:SHOWN_CHARACTERS]}"
            for name, value in (("step", step), ("etcd", left), ("ours", right))
        )
        raise Difference(shown)


def _end_auth(server: Server) -> None:
    with contextlib.closing(Session(server)) as session:
        session.begin(auth=True)


def run(case: Case, left: Server, right: Server) -> None:
    """One case at both servers, compared after every step; raises Difference at the first one."""
    same_system = type(left) is type(right)
    with contextlib.ExitStack() as stack:
        # Both at once: most of the time goes into hashed passwords and quiet streams.
        pool = stack.enter_context(ThreadPoolExecutor(2))
        sessions = []
        for server in (left, right):
            sessions.append(Session(server))
            stack.callback(sessions[-1].close)
        list(pool.map(lambda session: session.begin(case.auth), sessions))
        if case.auth:
            stack.callback(lambda: list(pool.map(_end_auth, (left, right))))
        for number, step in enumerate(case.steps, 1):
            answers = list(pool.map(lambda session, step=step: session.do(step), sessions))
            try:
                check(step, *answers, same_system=same_system)
            except Difference as difference:
                raise Difference(f"{case.name}, step {number}: {difference}") from None
