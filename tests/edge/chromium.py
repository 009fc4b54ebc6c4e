"""A headless Chromium, controlled through the DevTools protocol over a pair of pipes.

Each message is JSON terminated by a zero byte, so neither a driver nor a web socket is needed. Time
is real, because virtual time stops on pages with server-sent events.
"""

import base64
import fcntl
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)
# The browser reads from descriptor 3 and writes to 4.
_EXECUTE = """
import os, sys
os.nice(int(sys.argv.pop(1)))
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_REPLY_SECONDS = 20.0


def require() -> None:
    """Skip the test if Chromium is not installed."""
    import pytest

    if _program() is None:
        pytest.skip("needs Chromium (apt-get install chromium)")


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def _above(descriptor: int) -> int:
    """Move a descriptor out of the way of 3 and 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class Chromium:
    """A browser with its own temporary profile; a context manager that closes it.

    Args:
        niceness: above 0, other processes run before it.
    """

    def __init__(self, niceness: int = 0) -> None:
        program = _program()
        assert program is not None, "call require() first"
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_us, self._to_browser = os.pipe()
        self._from_browser, to_us = os.pipe()
        from_us, to_us = _above(from_us), _above(to_us)
        command = [sys.executable, "-c", _EXECUTE, str(niceness), str(from_us), str(to_us)]
        command += [program, *_FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(from_us)
        os.close(to_us)
        self._numbers = iter(range(1, 1_000_000))
        self._replies: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open(self, url: str, width: int = 1280, height: int = 900) -> "Page":
        """Open `url` in a new tab, and wait until it is loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, attached["sessionId"])
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log", "Audits", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.go(url)
        return page

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Call a DevTools method; return its result."""
        number = next(self._numbers)
        reply: queue.Queue[dict[str, Any]] = queue.Queue()
        self._replies[number] = reply
        message = {"id": number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        answer = reply.get(timeout=_REPLY_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """Close the browser and its child processes."""
        os.close(self._to_browser)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(10)
        os.close(self._from_browser)
        self._profile.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._from_browser, 1 << 16):
            *messages, rest = (rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._replies.pop(message["id"]).put(message)
                elif page := self._pages.get(message.get("sessionId", "")):
                    page.record(message["method"], message["params"])
        for reply in list(self._replies.values()):
            reply.put({"error": {"message": "the browser exited"}})


class Page:
    """A browser tab.

    Attributes:
        complaints: console errors, exceptions, failed loads and policy violations so far.
    """

    def __init__(self, browser: Chromium, session: str) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a DevTools method on this page."""
        return self._browser.call(method, parameters, self._session)

    def go(self, url: str) -> None:
        """Navigate to `url`, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression, awaiting promises; return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 15.0) -> Any:
        """Wait until the expression is truthy; return its value."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = self.evaluate(f"({expression}) || null")
            except RuntimeError:  # The next document is still loading.
                value = None
            if value is not None:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"timeout after {seconds} s: {expression}")
            time.sleep(0.05)

    def resize(self, width: int, height: int, scale: float = 1.0, mobile: bool = False) -> None:
        """Set the viewport size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def prefer(self, **features: str) -> None:
        """Set media features, such as `prefers_color_scheme="dark"`."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
            ],
        )

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the viewport, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data["data"]))

    def close(self) -> None:
        """Close the tab."""
        self.call("Page.close")

    def record(self, method: str, parameters: dict[str, Any]) -> None:
        """Record errors and warnings."""
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", "")
            self.complaints.append(f"{details['text']} {thrown}")
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.complaints.append(str([part.get("value") for part in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            entry = parameters["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Audits.issueAdded":
            self.complaints.append(json.dumps(parameters["issue"]))
