"""Request bodies that end before they are whole."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from http_api.core.bodies import Bodies


def test_a_client_that_went_before_its_body_was_read_is_no_fault_of_ours() -> None:
    """It closes while its head is judged, so nothing waits for its body yet."""

    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        unfinished = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
        unfinished.feed_data(b"a part")
        unfinished.read_nowait()
        request = make_mocked_request("PUT", "/v1/kv/a", payload=unfinished)
        request.protocol.transport = None
        return await Bodies(1 << 20).read(request, 1 << 20)

    with pytest.raises(ConnectionResetError, match="the client has gone"):
        asyncio.run(read())
