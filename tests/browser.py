"""A real headless Chromium, driven by its own DevTools protocol over a websocket."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
    *("--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"),
    *("--disable-background-networking", "--mute-audio"),
)
START_SECONDS, WAIT_SECONDS = 60.0, 60.0
KEYS = {"Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}


@contextmanager
def open_browser(folder: Path) -> Iterator["Browser"]:
    """Start a browser with a profile of its own below ``folder``."""
    profile = folder / "chromium"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [CHROMIUM, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        runner = asyncio.Runner()
        try:
            browser = Browser(runner)
            runner.run(browser.connect(profile / "DevToolsActivePort"))
            yield browser
            runner.run(browser.close())
        finally:
            runner.close()
            process.terminate()


class Browser:
    """One page; every method waits for its answer."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._number = 0
        self.said: list[dict[str, Any]] = []  # events: what the console says, what was asked for

    async def connect(self, port_file: Path) -> None:
        """Wait for the browser and attach to its page."""
        deadline = time.monotonic() + START_SECONDS
        while not (port_file.is_file() and port_file.read_text().strip()):
            assert time.monotonic() < deadline, "Chromium did not start"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
            (page,) = [one for one in await response.json() if one["type"] == "page"]
        address = page["webSocketDebuggerUrl"]
        self._socket = await self._session.ws_connect(address, max_msg_size=0)
        for domain in ("Page", "Runtime", "DOM", "Network", "Log"):
            await self._send(f"{domain}.enable", {})

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def _send(self, method: str, values: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": values})
        while True:
            answer = json.loads((await self._socket.receive(WAIT_SECONDS)).data)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.said.append(answer)

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a command of the protocol; return its answer."""
        return self._runner.run(self._send(method, values))

    def open(self, url: str) -> None:
        """Go to a page."""
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := self.run(condition)):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.1)
        return value

    def size(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """Set the size of the window."""
        values = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.send("Emulation.setDeviceMetricsOverride", **values)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str) -> None:
        """Press and let go of a key."""
        values = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **values, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **values)

    def point(self, x: float, y: float, *, clicks: bool = False) -> None:
        """Move the mouse; perhaps click."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if clicks else ():
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(data["data"]))

    def problems(self) -> list[str]:
        """Return exceptions and errors that the page has met."""
        found = []
        for event in self.said:
            values = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(values["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and values["entry"]["level"] == "error":
                found.append(values["entry"]["text"])
        return found

    def hosts(self) -> set[str]:
        """Return the hosts that were asked for anything."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.said
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return {url.split("/")[2] for url in urls if url.startswith("http")}
