"""A headless Chromium, driven over the DevTools protocol: what a page does, seen from outside.

Synchronous on purpose: a test says what happens one thing after another. Every wait has a deadline.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)
DEADLINE_S = 60.0
MESSAGE_BYTES_MAX = 1 << 28

_T = TypeVar("_T")


def find_chromium() -> str:
    """Its path. Skips the calling test, saying what to install, if there is none."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        path = shutil.which(name) if name else None
        if path:
            return path
    pytest.skip("no Chromium: install the package `chromium`, or set CHROMIUM to its path")


class Browser:
    """One page of one browser. Use as a context manager; nothing of it stays behind.

    `console` collects what the page logged (also what the browser itself reported of it, such as
    refused loads), `exceptions` what it threw and nobody caught, `requested` every URL it loaded.
    """

    def __init__(self) -> None:
        self.console: list[str] = []
        self.exceptions: list[str] = []
        self.requested: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session_id = ""
        self._calls = 0
        self._loaded = asyncio.Event()

    def __enter__(self) -> "Browser":
        path = find_chromium()
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._log = Path(self._home.name) / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [path, *FLAGS, f"--user-data-dir={self._home.name}/profile", "about:blank"],
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._run(self._connect())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._run(self._disconnect())
        finally:
            self._end()

    # -- what a test does -------------------------------------------------------------------

    def open(self, file: Path) -> None:
        """Load a file and wait for its load event. What was collected before is forgotten."""
        self.visit(file.as_uri())

    def visit(self, url: str) -> None:
        """The same for an address."""
        self._run(self._open(url))

    def type_text(self, text: str) -> None:
        """Into what has the focus, as a keyboard would."""
        self.call("Input.insertText", text=text)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression. Raises AssertionError if it throws."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The first true value of the expression, or AssertionError after `DEADLINE_S`."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            if value := self.evaluate(script):
                return value
            self._run(asyncio.sleep(0.02))
        raise AssertionError(f"never true: {script}")

    def wait_for_console(self, part: str) -> None:
        """Until a message with `part` in it was collected, or AssertionError."""
        end = time.monotonic() + DEADLINE_S
        while not any(part in line for line in self.console):
            assert time.monotonic() < end, f"never on the console: {part}"
            self._run(asyncio.sleep(0.02))

    def resize(self, width: int, height: int) -> None:
        """The size of the window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, **features: str) -> None:
        """Media features, such as prefers_color_scheme="dark"."""
        listed = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        self.call("Emulation.setEmulatedMedia", features=listed)

    def move_to(self, x: float, y: float) -> None:
        """Move the pointer."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at `start`, move, let go at `end`; the same point twice is a click."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        steps = [("mousePressed", start), ("mouseMoved", middle), ("mouseMoved", end)]
        self.move_to(*start)
        for kind, (x, y) in [*steps, ("mouseReleased", end)]:
            clicks = 0 if kind == "mouseMoved" else 1
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=1,
                clickCount=clicks,
            )

    def wheel(self, x: float, y: float, delta: float) -> None:
        """Turn the wheel there; a positive `delta` is towards the person."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def press(self, key: str) -> None:
        """Press and release a key, named as in KeyboardEvent.key."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
        code |= {"Enter": 13, "Escape": 27}
        text = {"text": "\r"} if key == "Enter" else text
        named = {"key": key, "windowsVirtualKeyCode": code.get(key, 0)}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def screenshot(self, file: Path, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One call of the protocol on the page."""
        return self._run(self._call(method, params))

    # -- the protocol -----------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(asyncio.wait_for(work, DEADLINE_S))

    async def _connect(self) -> None:
        while not (found := re.search(rb"listening on (ws://\S+)", self._log.read_bytes())):
            code = self._process.poll()
            assert code is None, f"Chromium ended with {code}: {self._log.read_text()}"
            await asyncio.sleep(0.02)
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(
            found[1].decode(), max_msg_size=MESSAGE_BYTES_MAX
        )
        self._reader = asyncio.create_task(self._read())
        target = await self._call("Target.createTarget", {"url": "about:blank"})
        attached = await self._call(
            "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}
        )
        self._session_id = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._call(f"{domain}.enable", {})

    async def _disconnect(self) -> None:
        await self._socket.close()
        await self._http.close()
        await self._reader

    def _end(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._home.cleanup()
        self._loop.close()

    async def _open(self, url: str) -> None:
        self._loaded.clear()
        for collected in (self.console, self.exceptions, self.requested):
            collected.clear()
        await self._call("Page.navigate", {"url": url})
        await self._loaded.wait()

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        frame: dict[str, Any] = {"id": self._calls, "method": method, "params": params}
        if self._session_id:
            frame["sessionId"] = self._session_id
        future = self._answers[self._calls] = self._loop.create_future()
        await self._socket.send_json(frame)
        answer = await future
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        async for frame in self._socket:
            data = json.loads(frame.data)
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
            else:
                self._take(data["method"], data["params"])

    def _take(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.consoleAPICalled":
            words = [str(arg.get("value", arg.get("description"))) for arg in params["args"]]
            self.console.append(f"{params['type']}: {' '.join(words)}")
        elif method == "Log.entryAdded":
            self.console.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.exceptions.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
