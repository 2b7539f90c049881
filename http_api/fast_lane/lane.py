"""The fast lane: the commonest requests without aiohttp's request machinery.

Measured on the leader under 64 connections, aiohttp's parsing, task switches and objects were over
half of the loop's time. So a connection starts here. Requests that came whole, for a hot call
(`http_api.core.hot`), with nothing but harmless headers, are served straight from the store, and
what those of one turn of the loop have in common is done once (`http_api.fast_lane.gathering`). At
the first request of any other kind the connection is handed to aiohttp, with all that was not yet
answered, and stays there: there is one place that understands HTTP, and this is not it.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from http_api.core.hot import WRITES, HotRead, HotWrite, WantedKey
from http_api.core.metrics import HttpStages
from http_api.core.responses import Answer
from http_api.core.senders import certificate_name
from http_api.core.session import Session
from http_api.fast_lane.gathering import Gathering
from http_api.fast_lane.hot_requests import PART_BYTES_MAX, HotRequest, HotRequests, Unready
from http_api.limits.outgoing import Outgoing
from http_api.limits.quotas import REFUSED_S, Quotas
from kvstore.commands.results import Outcome
from kvstore.errors import Overloaded

WAITING_BYTES_MAX = 1 << 16
"""Pipelined bytes kept while a request is in work; then the socket is not read any further."""
RUN_MAX = 64
"""Pipelined requests of one connection that are in work together."""
REST_S = 2.0
"""How long the rest of a request is waited for; then it is handed over as far as it came."""
DONE_S = 0.05
"""How often it is looked whether a client that has closed its side has all its answers."""
WRITE_BYTES = 64 << 10
"""Answers to pipelined requests are joined up to this length."""


class Lanes:
    """What all connections of a server share.

    `session` is nobody's; requests bring their own where they name their sender.
    `hand_over(ended)` makes aiohttp's protocol for a connection, whose client may have closed its
    side. `requests_max`: with half as many in work, no connection gets more than one into work.
    `parts_bytes_max`: what may be kept of requests that have not come whole.
    """

    def __init__(
        self,
        session: Session,
        requests: HotRequests,
        idle_s: float,
        requests_max: int,
        parts_bytes_max: int,
        outgoing: Outgoing,
        stages: HttpStages,
        hand_over: Callable[[bool], asyncio.Protocol],
        quotas: Quotas,
        guarded_elsewhere: bool = False,
    ) -> None:
        self.session = session
        self.quotas = quotas
        self.guarded_elsewhere = guarded_elsewhere
        """Whether requests go elsewhere while authentication is on: what is denied is recorded."""
        self.idle_s = idle_s
        self.outgoing = outgoing
        self.hand_over = hand_over
        self.open: set[FastLane] = set()
        self.expected: dict[FastLane, asyncio.TimerHandle] = {}
        """Those whose TLS handshake is under way: it may never end."""
        self.stopping = False
        self.in_work = 0
        self.in_work_max = requests_max // 2
        self.parts, self.parts_max = 0, parts_bytes_max // PART_BYTES_MAX
        self.requests = requests
        self.gatherings = {
            timeout_s: Gathering(session, timeout_s, stages) for timeout_s in requests.timeouts_s
        }
        self._empty = asyncio.Event()

    def expect(self, lane: "FastLane", limit_s: float) -> None:
        """A lane opens within the limit, or never: nobody is told of a handshake that fails."""
        loop = asyncio.get_running_loop()
        self.expected[lane] = loop.call_later(limit_s, self.expected.pop, lane, None)

    def opened(self, lane: "FastLane") -> None:
        timer = self.expected.pop(lane, None)
        if timer is not None:
            timer.cancel()
        self.open.add(lane)

    def closed(self, lane: "FastLane") -> None:
        self.open.discard(lane)
        if not self.open:
            self._empty.set()

    async def stop(self, timeout_s: float) -> None:
        """Close idle connections at once, busy ones after their answer, all by the time-out."""
        self.stopping = True
        self._empty.clear()
        for lane in list(self.open):
            lane.stop()
        if self.open:
            try:
                await asyncio.wait_for(self._empty.wait(), timeout_s)
            except TimeoutError:
                for lane in list(self.open):
                    lane.abort()


class FastLane(asyncio.Protocol):
    """One connection, until aiohttp takes it over.

    Pipelined requests may be in work together, as a *run*, where no client can tell that they were
    not served one after the other: reads, which share a barrier, and writes of different keys. (Two
    of one key may not be under way at once: bundles can overtake each other.)
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._transport: asyncio.Transport
        self._waiting = b""
        self._run: list[HotRequest] = []
        self._answered = 0
        self._ready = False
        self._began = 0.0
        self._blocked = False
        self._unread = 0
        self._paused = False
        self._taking = False
        self._ended = False
        """Whether the client has closed its side."""
        self._proved = False
        """Whether the client has shown a certificate."""
        self._rest: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport
        self._proved = certificate_name(transport) != ""
        self._lanes.opened(self)
        self._began = perf_counter()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._lanes.idle_s, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        self._count_unread(0)
        self._wait_no_more()
        self._lanes.closed(self)
        if self._ready:
            self._end_run()

    def eof_received(self) -> bool:
        """A client that closes its side still gets the answers it waits for."""
        self._ended = True
        if self._run:
            self._close_when_done()
        return bool(self._run)

    def _close_when_done(self) -> None:
        """The client has closed its side: look again until it has all its answers."""
        transport = self._transport
        if transport.is_closing() or transport.get_protocol() is not self:
            return
        if self._run or (self._waiting and self._blocked):
            asyncio.get_running_loop().call_later(DONE_S, self._close_when_done)
        else:
            transport.close()

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests."""
        self._blocked = True
        self._count_unread(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._blocked = False
        self._count_unread(0)
        if self._ready:
            self._answer_reads()
        self._next()

    def data_received(self, data: bytes) -> None:
        self._waiting = self._waiting + data if self._waiting else data
        if self._rest is not None:
            self._wait_no_more()
        if not self._run and not self._blocked:
            self._next()
        elif len(self._waiting) > WAITING_BYTES_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def stop(self) -> None:
        """Close once nothing is in work, nor on its way."""
        if not self._run and self._rest is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _count_unread(self, size: int) -> None:
        self._lanes.outgoing.bytes += size - self._unread
        self._unread = size

    def _close_if_idle(self) -> None:
        lanes = self._lanes
        left_s = self._began + lanes.idle_s - perf_counter()
        if left_s <= 0 and (self._ready or not self._run):
            if self._blocked:  # closing would wait for the client to read
                self._transport.abort()
            else:
                self._transport.close()
            return
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(max(left_s, 1.0), self._close_if_idle)

    # -- requests ---------------------------------------------------------------------------

    def _next(self) -> None:
        """Take what waits, run by run, or hand the connection over. A loop, not a recursion: any
        number of pipelined requests may be answered at once."""
        if self._taking:
            return
        self._taking = True
        while self._waiting and not self._run and not self._blocked and self._rest is None:
            if not self._take():
                self._hand_over()
                return
        self._taking = False
        if (
            self._paused
            and len(self._waiting) <= WAITING_BYTES_MAX
            and not self._transport.is_closing()
        ):
            self._paused = False
            self._transport.resume_reading()

    def _take(self) -> bool:
        """Begin the next run; False if what waits is not for this lane."""
        lanes, data = self._lanes, self._waiting
        if (self._proved or lanes.guarded_elsewhere) and lanes.session.auth_enabled:
            return False  # this lane reads no certificates and writes no audit log
        first, refused = lanes.requests.find(data, 0), False
        if not isinstance(first, HotRequest):
            return first is Unready.UNFINISHED and self._wait_for_rest()
        try:
            self._count(first)
        except Overloaded as error:
            first, refused = first.refused(error), True
        run, end = [first], first.end
        if end < len(data):
            end = self._extend(run)
        self._waiting = data[end:]
        self._run, self._answered = run, 0
        self._began = perf_counter()
        lanes.in_work += len(run)
        if refused:
            asyncio.get_running_loop().call_later(REFUSED_S, self._refuse)
        else:
            self._ask(run)
        return True

    def _refuse(self) -> None:
        """Answer who is over its quota, who has waited long enough."""
        answer = self._run[0].answer
        assert answer is not None
        self._finish(answer)
        if self._waiting:
            self._next()

    def _extend(self, run: list[HotRequest]) -> int:
        """Let more of what waits be in work with the first of the run; where the run ends."""
        lanes, data = self._lanes, self._waiting
        last = run[0]
        kind, keys = _kind(last), {_key(last)}
        if kind is None:
            return last.end
        most = min(RUN_MAX, lanes.in_work_max - lanes.in_work)
        while last.end < len(data) and len(run) < most:
            more = lanes.requests.find(data, last.end)
            if not isinstance(more, HotRequest) or _kind(more) != kind:
                break
            if kind[0] is WRITES and _key(more) in keys:
                break
            if not lanes.quotas.has_room(more.session.caller, more.size):
                break  # it may have some when this run is done
            self._count(more)
            keys.add(_key(more))
            run.append(more)
            last = more
        return last.end

    def _wait_for_rest(self) -> bool:
        """Wait until more of the request has come, if not too many wait."""
        lanes = self._lanes
        if lanes.parts >= lanes.parts_max:
            return False
        lanes.parts += 1
        self._rest = asyncio.get_running_loop().call_later(REST_S, self._rest_is_late)
        return True

    def _wait_no_more(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
            self._lanes.parts -= 1

    def _rest_is_late(self) -> None:
        """aiohttp knows how slow a client may be, and what to tell it."""
        self._wait_no_more()
        if self._lanes.stopping:
            self._transport.close()
        elif not self._transport.is_closing():
            self._hand_over()

    def _ask(self, run: list[HotRequest]) -> None:
        """Ask the store for what the run needs; all of it is of one kind."""
        first = run[0]
        what = first.what
        gathering = self._lanes.gatherings[first.call.timeout_s]
        if isinstance(what, WantedKey):
            if what.serializable:
                self.readable(self._lanes.session.not_joined())
            else:
                gathering.read(self, len(run))
        elif isinstance(what, WRITES):
            gathering.write(
                self, first.session, [each.what for each in run if isinstance(each.what, WRITES)]
            )
        elif what is not None:
            gathering.transact(self, first.session, what)
        elif first.answer is not None:
            self._finish(first.answer)

    # -- answers ----------------------------------------------------------------------------

    def written(self, outcomes: Sequence[Outcome]) -> None:
        """What came of the writes of the run."""
        run = self._run
        if len(run) == 1:
            self._finish(self._written(run[0], outcomes[0]))
        else:
            self._reply(list(map(self._written, run, outcomes)))
        if self._waiting:
            self._next()

    def _written(self, request: HotRequest, outcome: Outcome) -> Answer:
        call = request.call
        assert isinstance(call, HotWrite)
        return call.told(outcome)

    def readable(self, error: BaseException | None) -> None:
        """The reads of the run may be answered, or why they may not."""
        run = self._run
        if error is not None:
            self._reply([request.call.failed(error) for request in run])
        elif len(run) == 1 and not self._blocked:
            self._finish(self._read(run[0]))
        else:
            self._ready = True
            self._answer_reads()
        if self._waiting:
            self._next()

    def _answer_reads(self) -> None:
        """As many as the client takes. What is read now is not older than the barrier."""
        while self._ready and not self._blocked:
            answers: list[Answer] = []
            size = 0
            for request in self._run[self._answered :]:
                answer = self._read(request)
                answers.append(answer)
                size += answer.size
                if size >= WRITE_BYTES:
                    break
            self._reply(answers)

    def _read(self, request: HotRequest) -> Answer:
        call, what = request.call, request.what
        assert isinstance(call, HotRead) and isinstance(what, WantedKey)
        try:
            answer = call.answer(request.session, what.key)
            self._lanes.outgoing.check(answer.size)
        except Exception as error:
            return call.problem(error)
        return answer

    def _finish(self, answer: Answer) -> None:
        """`_reply` to a run of one request: most are."""
        now = perf_counter()
        self._run[0].call.meter.observe(answer.status, now - self._began)
        self._began = now
        transport = self._transport
        if transport.is_closing() or self._lanes.stopping:
            self._answer_last(answer)
        else:
            transport.write(answer.keeping())
        self._end_run()

    def _answer_last(self, answer: Answer) -> None:
        """To a connection that is to close after it, or is closing already."""
        transport = self._transport
        if not transport.is_closing():
            transport.write(answer.closing())
            transport.close()
        self._waiting = b""

    def _reply(self, answers: Sequence[Answer]) -> None:
        """Send the next answers of the run, in one write. The last ends the run."""
        now = perf_counter()
        taken_s = now - self._began
        for answer in answers:
            self._run[self._answered].call.meter.observe(answer.status, taken_s)
            self._answered += 1
        last = self._answered == len(self._run)
        if answers and not self._transport.is_closing():
            pieces = [answer.keeping() for answer in answers]
            if last and self._lanes.stopping:
                pieces[-1] = answers[-1].closing()
            self._transport.write(b"".join(pieces))
            if last and self._lanes.stopping:
                self._transport.close()
        self._began = now
        if last:
            self._end_run()

    def _count(self, request: HotRequest) -> None:
        """The request is in work. Raises Overloaded if its sender has enough there."""
        if request.what is not None:
            self._lanes.quotas.begin(request.session.caller, request.size)

    def _end_run(self) -> None:
        self._lanes.in_work -= len(self._run)
        for request in self._run:
            if request.what is not None:
                self._lanes.quotas.end(request.session.caller)
        self._run, self._ready = [], False
        if self._transport.is_closing():
            self._waiting = b""

    def _hand_over(self) -> None:
        self._idle.cancel()
        self._lanes.closed(self)
        if self._paused:
            self._transport.resume_reading()
        protocol = self._lanes.hand_over(self._ended)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._waiting)
        self._waiting = b""


def _kind(request: HotRequest) -> tuple[object, ...] | None:
    """What is in one run must have this in common; None is alone in its own."""
    what, timeout_s = request.what, request.call.timeout_s
    if isinstance(what, WRITES):
        return WRITES, timeout_s, request.session.caller
    return (WantedKey, timeout_s, what.serializable) if isinstance(what, WantedKey) else None


def _key(request: HotRequest) -> bytes:
    what = request.what
    return what.key if isinstance(what, (*WRITES, WantedKey)) else b""
