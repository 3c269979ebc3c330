"""Headless Chromium by its DevTools protocol over two pipes: what a page looks like, and what it asks for."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]


class Page:
    """One tab.

    Args:
        to: Descriptor that commands are written to.
        back: Descriptor that answers are read from.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.asked_for: list[str] = []
        """Every address that was asked for since :meth:`open`, the page's own apart."""
        self.said: list[str] = []
        """What the console was told, such as that the policy refused something."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._back, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if message["params"]["type"] != "Document" and not url.startswith("data:"):
                self.asked_for.append(url)
        if message.get("method") == "Log.entryAdded":
            self.said.append(message["params"]["entry"]["text"])
        return message

    def open(self, file: Path, width: int = 1300, dark: bool = False, height: int = 900) -> None:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=file.absolute().as_uri())
        for _ in range(200):
            if self.ask("document.readyState") == "complete" and self.ask("location.protocol") == "file:":
                return
            time.sleep(0.05)
        raise AssertionError(f"{file} is not loaded after ten seconds")

    def ask(self, expression: str):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, to: Path, top: int = 0, height: int | None = None) -> None:
        """A PNG of the page, or of so many pixels of it."""
        width, whole = self.ask("innerWidth"), self.ask("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": top, "width": width, "height": min(height or whole, whole - top), "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        to.write_bytes(b64decode(found["data"]))

    def pdf(self, to: Path) -> None:
        found = self.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        to.write_bytes(b64decode(found["data"]))


@contextmanager
def browser(folder: Path):
    """A browser with a profile of its own in ``folder``; it ends with the block."""
    there, to = os.pipe()
    back, here = os.pipe()
    # the browser reads commands from descriptor 3 and writes to 4; the shell puts ours there
    command = ["bash", "-c", f'exec "$0" "$@" 3<&{there} 4>&{here}', str(CHROMIUM), *_OPTIONS]
    command += ["--remote-debugging-pipe", f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=(there, here), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(there)
    os.close(here)
    try:
        yield Page(to, back)
    finally:
        os.close(to)
        os.close(back)
        process.terminate()
        process.wait(20)
