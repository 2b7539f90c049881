"""A stand-in for `kvstore serve`: answers /v1/cluster, ends on SIGTERM or with its parent.

Node 1 leads. `FAKE_NODE_FAILS=N` makes node N end at its start.
"""

import asyncio
import json
import os
import signal
import sys
import threading


async def answer(node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    role = "leader" if node == 1 else "follower"
    body = {"node": {"id": node, "role": role}, "leader": {"id": 1}, "ballot": "1.1", "members": []}
    data = json.dumps({**body, "chosen_through": 0, "applied_through": 0}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    writer.close()


async def main(words: list[str]) -> int:
    assert words[:2] == ["serve", "--exit-with-parent"]
    flags = dict(zip(words[2::2], words[3::2], strict=True))
    node = int(flags["--id"])
    if os.environ.get("FAKE_NODE_FAILS") == str(node):
        print("the disk is made of cheese")
        return 74
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def watch_parent() -> None:
        while os.read(0, 100):
            pass
        os._exit(3)

    threading.Thread(target=watch_parent, daemon=True).start()
    host, port = flags["--listen-client"].split(":")
    await asyncio.start_server(lambda r, w: answer(node, r, w), host, int(port))
    await stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
