"""Opens pages in a headless Chromium; reads Ray's dashboard as a person would, who types the token when asked."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

LOOK_SECONDS = 0.5  # between two looks at a page that fills slowly
START_SECONDS = 60  # until Chromium answers, on a busy machine
TEXT = "document.body ? document.body.innerText : ''"
PASSWORD = "document.querySelector('[role=dialog] input')"
Result = TypeVar("Result")


def page_text(url: str, token: str, contains: str, seconds: float, picture: Path | None = None) -> str:
    """The visible text of a page, as soon as ``contains`` is in it.

    Args:
        token: typed into the dashboard's dialog, if it asks for one.
        picture: where a PNG of what is seen is saved, also when ``contains`` never comes.

    Raises:
        AssertionError: it did not come within ``seconds``; with what was there instead.
    """
    return in_browser(lambda page: _read(page, url, token, contains, seconds, picture))


def in_browser(visit: Callable[[Page], Awaitable[Result]]) -> Result:
    """What a visitor brings back from a tab of a Chromium without a screen."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1000"]
        options += [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        chromium = subprocess.Popen(
            [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return asyncio.run(_in_tab(Path(profile) / "DevToolsActivePort", visit))
        finally:
            chromium.terminate()
            chromium.wait(timeout=START_SECONDS)


async def _in_tab(port: Path, visit: Callable[[Page], Awaitable[Result]]) -> Result:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{await _port(port)}/json/list") as answer:
            (tab,) = [target for target in await answer.json() if target["type"] == "page"]
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            return await visit(Page(socket))


async def _read(page: Page, url: str, token: str, contains: str, seconds: float, picture: Path | None) -> str:
    await page.call("Page.navigate", url=url)
    deadline, asked = time.monotonic() + seconds, False
    while True:
        text = await page.value(TEXT)
        if not asked and await page.value(f"{PASSWORD} !== null"):
            asked = True
            await page.value(f"{PASSWORD}.focus()")
            await page.call("Input.insertText", text=token)
            for kind in ("rawKeyDown", "char", "keyUp"):
                await page.call("Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13)
        found, late = contains in text, time.monotonic() > deadline
        if (found or late) and picture is not None:
            await page.value(f"window.find({json.dumps(contains)})")  # scrolls to it
            shot = await page.call("Page.captureScreenshot", format="png")
            picture.write_bytes(base64.b64decode(shot["data"]))
        if found:
            return text
        assert not late, f"{contains!r} did not come to {url}; there is:\n{text}"
        await asyncio.sleep(LOOK_SECONDS)


async def _port(file: Path) -> str:
    """The port that Chromium chose for those who steer it."""
    deadline = time.monotonic() + START_SECONDS
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, "Chromium does not start"
        await asyncio.sleep(LOOK_SECONDS)
    return file.read_text().splitlines()[0]


class Page:
    """A tab, through the DevTools protocol.

    Attributes:
        events: what the tab told by itself, in its order.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._calls = socket, 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives; None where it has no value or the page is just being exchanged."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")
