"""Request bodies: bounded in size, in time, and in memory over all connections."""

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from http_api.limits.elements import few_elements
from kvstore.errors import (
    BodyTimeout,
    ExpectationFailed,
    InvalidArgument,
    Malformed,
    Overloaded,
    TooLarge,
    UnsupportedMedia,
)

BODY_TIMEOUT_S = 30.0
ELEMENTS_MAX = 16_384
"""Fields and items of one JSON body; the largest batch within its limits has two thirds of them."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AT = re.compile(r" - at `\$\.?([^`]*)`")
_NAMED = re.compile(r"(?:required|unknown) field `([^`]*)`")

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
"""By the type that they decode into: one for each kind of message there is."""

T = TypeVar("T")


class Bodies:
    """Reads request bodies; those that come in pieces share `pending_bytes_max` of memory. What
    counts is what has come: to declare a length takes nothing from the others."""

    def __init__(self, pending_bytes_max: int) -> None:
        self._free_bytes = pending_bytes_max

    async def read(self, request: web.BaseRequest, bytes_max: int) -> bytes:
        """The whole body.

        Raises TooLarge without reading on, UnsupportedMedia, ExpectationFailed, Malformed,
        BodyTimeout, Overloaded, or ConnectionError if the client goes away.
        """
        headers = request.headers
        if hdrs.CONTENT_ENCODING in headers:
            _check_encoding(headers[hdrs.CONTENT_ENCODING])
        content = request.content
        if not content.is_eof():
            return await self._gather(request, bytes_max)
        body = content.read_nowait()
        if len(body) > bytes_max:
            raise _too_large(len(body), bytes_max)
        return body

    async def _gather(self, request: web.BaseRequest, bytes_max: int) -> bytes:
        """A body of which some is still to come."""
        declared = request.content_length or 0
        if declared > bytes_max:
            raise _too_large(declared, bytes_max)
        reserved = 0
        chunks: list[bytes] = []
        size = 0
        try:
            _send_continue(request)
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while chunk := await next_piece(request):
                    size += len(chunk)
                    if size > bytes_max:
                        raise _too_large(None, bytes_max)
                    reserved += self._reserve(len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            raise BodyTimeout(
                f"the request body did not arrive within {BODY_TIMEOUT_S:g} seconds"
            ) from None
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise Malformed(f"the request body is broken: {error}") from None
        finally:
            self._free_bytes += reserved
        return b"".join(chunks)

    def _reserve(self, size: int) -> int:
        if size > self._free_bytes:
            raise Overloaded("too many large request bodies are arriving at once")
        self._free_bytes -= size
        return size


async def next_piece(request: web.BaseRequest) -> bytes:
    """What comes next of the body, b"" at its end.

    Raises ConnectionResetError if the client has gone, and what aiohttp raises for a broken body.
    """
    if request.transport is None:  # of which aiohttp makes a RuntimeError
        raise ConnectionResetError("the client has gone")
    return await request.content.readany()


def _too_large(size: int | None, bytes_max: int) -> TooLarge:
    what = f"has {size} bytes" if size is not None else "is over the limit"
    return TooLarge(f"the request body {what}; at most {bytes_max} bytes are accepted")


def _check_encoding(encoding: str) -> None:
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMedia(
            f"Content-Encoding: {encoding[:40]} is not supported; send the plain bytes"
        )


def _send_continue(request: web.BaseRequest) -> None:
    """Tell a client that asked, and whose body has not begun to arrive, to send it."""
    expect = request.headers.get(hdrs.EXPECT)
    if expect is None:
        return
    if expect.strip().lower() != "100-continue":
        raise ExpectationFailed(f"Expect: {expect[:40]!r} cannot be met; only 100-continue can")
    if request.version.minor == 0:
        return  # an HTTP/1.0 client knows no interim answers (RFC 9110, 10.1.1)
    if request.transport is not None:
        request.transport.write(_CONTINUE)


async def check_elements(body: bytes) -> None:
    """Raise InvalidArgument if it holds more than a body of any call may, before it is decoded."""
    if not await few_elements(body, ELEMENTS_MAX):
        raise InvalidArgument("body", f"the body has more than {ELEMENTS_MAX} fields and items")


def parse_json(kind: type[T], body: bytes, what: str = "the body") -> T:
    """The body as `kind`. Raises Malformed or InvalidArgument, which names the field."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        found: T = decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        raise InvalidArgument(_field(text), f"{what}: {text}") from None
    except (msgspec.DecodeError, ValueError) as error:
        # A ValueError is bytes that are no UTF-8, or a number of thousands of digits.
        raise Malformed(f"{what} is not valid JSON: {error}") from None
    except RecursionError:
        raise Malformed(f"{what} is nested too deeply") from None
    return found


def _field(text: str) -> str:
    """The field at fault, as msgspec's sentence names it: `a.b[0]`; "body" for the whole."""
    at = _AT.search(text)
    named = _NAMED.search(text)
    parts = (at[1] if at else "", named[1] if named else "")
    return ".".join(part for part in parts if part) or "body"
