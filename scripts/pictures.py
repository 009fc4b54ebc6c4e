"""Take the pictures of the web page in the documentation.

    python scripts/pictures.py --recording WAV [--model BUNDLE] [--out docs/]

Starts the real listener, plays it the recording at its own pace, opens the page in a headless
Chromium and takes screenshots when the recording ends. Without --model, the packaged model listens
with its own decisions.
"""

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.edge.chromium import Chromium, Page  # noqa: E402

_BLOCK_SECONDS = 0.1
# Time for the last columns to scroll in, and for fonts and bars to settle.
_SETTLE_SECONDS = 0.5
_START_SECONDS = 60.0
_LISTENING = "document.getElementById('status')?.dataset.state === 'live'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recording", type=Path, required=True, help="sound file to listen to")
    parser.add_argument("--model", type=Path, help="bundle; default: the packaged model")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for the pictures")
    parser.add_argument(
        "--all", action="store_true", help="also the dark scheme and the width of a phone"
    )
    arguments = parser.parse_args(argv)
    samples, rate_hz = soundfile.read(arguments.recording, dtype="float32", always_2d=True)
    with tempfile.TemporaryDirectory() as clips, Chromium() as browser:
        port = _free_port()
        command = [sys.executable, "-m", "edge", "--stdin", "--rate", str(rate_hz)]
        command += ["--format", "f32le", "--serve", str(port), "--clips", clips]
        if arguments.model:
            command += ["--model", str(arguments.model)]
        with _listener(command) as stdin:
            _wait_for_port(port)
            page = browser.open(f"http://127.0.0.1:{port}/", 1280, 860)
            page.call("Emulation.setScrollbarsHidden", hidden=True)
            _play(stdin, samples.mean(axis=1, dtype=np.float32), rate_hz)
            page.wait_for(_LISTENING)
            _take_all(page, arguments.out, arguments.all)
            if page.complaints:
                print(*page.complaints, sep="\n", file=sys.stderr)
                return 1
    return 0


@contextlib.contextmanager
def _listener(command: Sequence[str]) -> Iterator[int]:
    """Run the listener; yield the descriptor of its standard input."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdin is not None
    try:
        yield process.stdin.fileno()
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _play(descriptor: int, samples: np.ndarray, rate_hz: int) -> None:
    """Write the samples at the pace of a microphone."""
    size = round(_BLOCK_SECONDS * rate_hz)
    began = time.monotonic()
    with open(descriptor, "wb", buffering=0, closefd=False) as pipe:
        for start in range(0, len(samples), size):
            time.sleep(max(0.0, began + start / rate_hz - time.monotonic()))
            data = memoryview(samples[start : start + size].astype("<f4").tobytes())
            while data:
                data = data[pipe.write(data) :]


def _take_all(page: Page, folder: Path, every: bool) -> None:
    """Write `page.png`, and its variants if `every`."""
    schemes = {"": "light", "-dark": "dark"} if every else {"": "light"}
    sizes = {"": (1280, 860, 1.0, False)}
    if every:
        sizes["-phone"] = (390, 844, 2.0, True)
    for size_name, size in sizes.items():
        for scheme_name, scheme in schemes.items():
            page.prefer(prefers_color_scheme=scheme)
            page.resize(*size)
            time.sleep(_SETTLE_SECONDS)
            page.screenshot(folder / f"page{size_name}{scheme_name}.png")


if __name__ == "__main__":
    sys.exit(main())
