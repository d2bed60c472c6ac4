"""Headless Chromium over the pipe of its DevTools protocol: no driver, no package, nothing downloaded.

The protocol is JSON, each message ended by a NUL byte, on the descriptors 3 (to the browser) and 4 (from it).
playwright (a 53 MB wheel with a Node of its own), selenium (12 MB, a driver that must match the browser, a manager that
downloads one) and websocket-client (another package) speak this protocol too; what is needed of it is below.
"""

import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60  # for one answer, on a machine with much else to do
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


def find() -> str | None:
    """Find a browser on the PATH."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of a browser that is started for it; `complaints` are errors, exceptions, policy violations."""

    def __init__(self, executable: str, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root

        def connect() -> None:
            # Away from 3 and 4 first, where one of the two may lie already.
            os.dup2(commands, 60)
            os.dup2(answers, 61)
            os.dup2(60, 3)
            os.dup2(61, 4)

        self._process = subprocess.Popen(
            [executable, *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = next(each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer; keep the events that come in between."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _message(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise ConnectionError(f"the browser has ended, exit code {self._process.poll()}")
            self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def run(self, script: str) -> Any:
        """Evaluate JavaScript in the page, wait for a promise, and return the value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script: str, wanted: object, *, seconds: float = 10) -> Any:
        """Evaluate JavaScript until it gives what is wanted, as input may take a frame; return what it gave last."""
        deadline = time.monotonic() + seconds
        while (found := self.run(script)) != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def size(self, width: int, height: int = 900) -> None:
        """Set the size of the window in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def media(self, **features: str) -> None:
        """Emulate media features, such as prefers_color_scheme="dark"."""
        chosen: list[Mapping[str, str]] = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=chosen)

    def open(self, file: Path) -> None:
        """Open a file and wait until it is there, its scripts have run, and what they complain of has come."""
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=file.resolve().as_uri())
        deadline = time.monotonic() + SECONDS
        while self.run("location.protocol + document.readyState") != "file:complete":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{file} does not open")
            time.sleep(0.02)
        time.sleep(0.05)

    def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def complaints(self) -> list[str]:
        """List console errors, exceptions, violations of the policy, and loads from elsewhere, since `open`."""
        self.run("0")  # events that are under way come before its answer
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(str(params["entry"]))
            elif method == "Audits.issueAdded" and "SecurityPolicy" in params["issue"]["code"]:
                found.append(str(params["issue"]))
            elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
                found.append(f"loads {params['request']['url']}")
        return found

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """Write a picture of the page as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(b64decode(data))
