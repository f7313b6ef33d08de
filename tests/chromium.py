"""Headless Chromium driven through its debugging pipe: real clicks and keys, what it logs, asks for and saves.

Only the standard library: messages are JSON, ended by a zero byte, on the file descriptors 3 (to the browser) and 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
]
PATIENCE = 60.0  # seconds that an answer or a condition may take on a busy machine


def find() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


PLACE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One tab of a fresh profile in `scratch`. `console` and `requests` gather what happened since `open`."""

    def __init__(self, program: str, scratch: Path, width: int = 1280, height: int = 900, *flags: str):
        self.scratch = scratch
        self.console: list[str] = []
        self.requests: list[str] = []
        self._answers: dict[int, dict] = {}
        self._seen: list[str] = []
        self._count = 0
        self._session: str | None = None
        self._rest = b""
        self._start([program, *FLAGS, f"--user-data-dir={scratch / 'profile'}", "--remote-debugging-pipe", *flags])
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.files = scratch / "downloads"
        self.files.mkdir()
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.files))
        self.resize(width, height)

    def _start(self, command: list[str]) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # A process of its own puts the two ends where Chromium expects them: with a `preexec_fn` this one would fork,
        # which JAX, where it is loaded, warns of.
        begin = [sys.executable, "-S", "-c", PLACE, str(to_browser), str(from_browser), *command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(begin, pass_fds=(to_browser, from_browser), **quiet)
        os.close(to_browser)
        os.close(from_browser)

    def close(self) -> None:
        try:
            self._session = None
            self.send("Browser.close")
        finally:
            os.close(self._write)
            os.close(self._read)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, method: str, **params: Any) -> dict:
        """Call a method of the protocol and wait for its answer. Raises RuntimeError if the browser refuses."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while self._count not in self._answers:
            self._listen(deadline)
        answer = self._answers.pop(self._count)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _listen(self, deadline: float) -> None:
        ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError("the browser did not answer")
        chunk = os.read(self._read, 1 << 20)
        if not chunk:
            raise RuntimeError("the browser is gone")
        *messages, self._rest = (self._rest + chunk).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._event(message["method"], message.get("params", {}))

    def _event(self, method: str, params: dict) -> None:
        self._seen.append(method)
        if method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Runtime.exceptionThrown":
            detail = params["exceptionDetails"]
            self.console.append(detail.get("exception", {}).get("description", detail["text"]))
        elif method == "Log.entryAdded":
            self.console.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])

    def outside(self) -> list[str]:
        """Requests for anything but the file itself and data inside it."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def scheme(self, name: str) -> None:
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, url: str, until: str = "true") -> None:
        """Load a page in place of the last one and wait until it is complete and `until` holds."""
        self.send("Page.navigate", url="about:blank")
        self.console.clear()
        self.requests.clear()
        self.send("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href !== 'about:blank' && ({until})")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited. Raises RuntimeError for an exception."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in done:
            detail = done["exceptionDetails"]
            raise RuntimeError(detail.get("exception", {}).get("description", detail["text"]))
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"did not come true: {condition}")
            time.sleep(0.02)

    def click(self, element: str) -> None:
        """A click of the mouse on the middle of what the expression `element` gives."""
        self.run(f"({element}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])(({element}).getBoundingClientRect())"
        )
        place = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **place)

    def hover(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Enter, Tab or Space on what has the focus."""
        code = {"Enter": 13, "Tab": 9, "Space": 32}[key]
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        facts = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def saved(self, count: int) -> list[Path]:
        """The files saved so far, oldest first, once there are `count`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            files = [p for p in self.files.iterdir() if p.suffix != ".crdownload"]
            if len(files) >= count and all(p.stat().st_size for p in files):
                return sorted(files, key=lambda p: p.stat().st_mtime_ns)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(files)} files were saved, not {count}")
            self.run("0")
            time.sleep(0.05)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
