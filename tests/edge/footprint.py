"""CPU and memory use on a small machine: `python tests/edge/footprint.py m.tflite` (as root).

The listener processes a minute of noise in real time, in a control group with a fifth of one core
and 512 MB. Works with both versions of control groups.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

RATE_HZ = 48_000
BLOCK_SECONDS = 0.1
QUOTA_MICROSECONDS, PERIOD_MICROSECONDS = 20_000, 100_000
MEMORY_BYTES = 512 * 2**20


class Group:
    """A control group with limits, as a context manager that removes it."""

    def __init__(self) -> None:
        root = Path("/sys/fs/cgroup")
        self.is_v2 = (root / "cgroup.controllers").exists()
        kinds = ("",) if self.is_v2 else ("cpu", "cpuacct", "memory")
        self.places = {kind: root / kind / "footprint" for kind in kinds}

    def __enter__(self) -> "Group":
        for place in self.places.values():
            place.mkdir(exist_ok=True)
        if self.is_v2:
            self._write("", "cpu.max", f"{QUOTA_MICROSECONDS} {PERIOD_MICROSECONDS}")
            self._write("", "memory.max", str(MEMORY_BYTES))
        else:
            self._write("cpu", "cpu.cfs_period_us", str(PERIOD_MICROSECONDS))
            self._write("cpu", "cpu.cfs_quota_us", str(QUOTA_MICROSECONDS))
            self._write("memory", "memory.limit_in_bytes", str(MEMORY_BYTES))
        return self

    def __exit__(self, *_: object) -> None:
        for place in self.places.values():
            with contextlib.suppress(OSError):
                place.rmdir()

    def enter(self) -> None:
        """Move this process into the group."""
        for kind in self.places:
            self._write(kind, "cgroup.procs", str(os.getpid()))

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes in the group so far."""
        if self.is_v2:
            return int(self._read("", "cpu.stat").split()[1]) / 1e6
        return int(self._read("cpuacct", "cpuacct.usage")) / 1e9

    def _write(self, kind: str, name: str, text: str) -> None:
        (self.places[kind] / name).write_text(text)

    def _read(self, kind: str, name: str) -> str:
        return (self.places[kind] / name).read_text()


def main() -> None:
    """Print a table with one row per bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--hop", default="1.0")
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    print("| bundle | CPU share | peak memory | behind at the end |")
    print("| --- | --- | --- | --- |", flush=True)
    for model in arguments.models:
        with Group() as group:
            share, peak_mb, behind = listen(model, arguments.hop, arguments.seconds, group)
        print(f"| {model.name} | {share:.1%} | {peak_mb:.0f} MB | {behind:.1f} s |", flush=True)


def listen(model: Path, hop: str, seconds: int, group: Group) -> tuple[float, float, float]:
    """Return CPU share after the start, peak memory in MB, and the last window's delay in s."""
    command = [sys.executable, "-m", "edge", "--model", str(model), "--hop", hop, "--json"]
    process = subprocess.Popen(
        [*command, "--stdin", "--rate", str(RATE_HZ)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=group.enter,
    )
    assert process.stdin
    assert process.stdout
    ready, begun = threading.Event(), time.monotonic()

    def feed() -> None:
        nonlocal begun
        noise = np.random.default_rng(0).normal(0, 1000, round(RATE_HZ * BLOCK_SECONDS))
        block = noise.astype("<i2").tobytes()
        assert process.stdin
        for _ in range(round(15 / BLOCK_SECONDS)):  # in a burst, for loading and the first windows
            process.stdin.write(block)
        process.stdin.flush()
        ready.wait()
        begun = time.monotonic()
        for number in range(round(seconds / BLOCK_SECONDS)):
            time.sleep(max(0.0, begun + (number + 1) * BLOCK_SECONDS - time.monotonic()))
            process.stdin.write(block)
            process.stdin.flush()
        process.stdin.close()

    threading.Thread(target=feed, daemon=True).start()
    used, behind, peak_mb = 0.0, 0.0, 0.0
    for line in process.stdout:
        item = json.loads(line)
        if item["type"] != "window":
            continue
        if not ready.is_set() and item["end_seconds"] > 15 - float(hop) - 0.1:
            used = group.cpu_seconds()
            ready.set()
        elif ready.is_set():
            behind = time.monotonic() - begun - (item["end_seconds"] - 15)
            status = Path(f"/proc/{process.pid}/status")
            with contextlib.suppress(OSError, IndexError):
                peak_mb = int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    process.wait()
    return (group.cpu_seconds() - used) / seconds, peak_mb, behind


if __name__ == "__main__":
    main()
