"""The live view in a real terminal: its frames, and the terminal after it closes."""

import io
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge.health import Health
from edge.sinks.live import LiveView

pytest.importorskip("rich")
fcntl = pytest.importorskip("fcntl", reason="POSIX terminals")
pty = pytest.importorskip("pty", reason="POSIX terminals")
termios = pytest.importorskip("termios", reason="POSIX terminals")

ROOT = Path(__file__).parents[3]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# A process with a view that executes its input line by line.
LISTENER = """
import logging, sys, time
import numpy as np
from dataclasses import replace
from edge.events.event import Event
from edge.health import Health
from edge.sinks.live import LiveView
from edge.sources import Gap
from edge.inference.streaming import Classification

logging.basicConfig(level=logging.INFO, format="%(message)s")
logger = logging.getLogger("semanticac_edge")
labels = ("rain", "dog\\x1b[2J", "Glocke ♪", "狗叫", "wind", "sea")
scores = np.array([0.5, 0.3, 0.1, 0.06, 0.03, 0.01], np.float32)
window = Classification(0, 5, scores, np.zeros(2, np.float32), labels, scores, -30.0)
quiet = replace(window, scores=0 * scores, gated=True)
event = Event("1", "rain", 3.0, None, 0.9, 0.9, -31.5)
ended = replace(event, end_seconds=6.5, end_reason="quiet")
health = Health()
health.set_source(True, "a USB microphone")
view = LiveView(health, "listener of small.tflite")
chunk = np.full(3200, 0.1, np.float32)
for line in sys.stdin:
    exec(line)
"""


class Terminal:
    """A terminal that runs the process above."""

    def __init__(self, columns=90, rows=24, kind="xterm-256color"):
        self._master, slave = pty.openpty()
        self._resize(columns, rows)
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self._listener = subprocess.Popen(
            [sys.executable, "-c", LISTENER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": kind, "PYTHONUTF8": "1", "NO_COLOR": ""},
            text=True,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self._bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.kill()
        self._listener.wait()
        self._listener.stdin.close()
        os.close(self._master)

    def run(self, line):
        self._listener.stdin.write(line + "\n")
        self._listener.stdin.flush()

    def resize(self, columns, rows):
        self._resize(columns, rows)
        self._listener.send_signal(signal.SIGWINCH)

    def end(self):
        """Close the process's input and wait for it; return its exit status."""
        self._listener.stdin.close()
        status = self._listener.wait(10)
        self.text()
        return status

    def text(self):
        """All output so far."""
        try:
            while data := os.read(self._master, 65_536):
                self._bytes += data
        except OSError:  # No more output for now, or end of file.
            pass
        return self._bytes.decode(errors="replace")

    def frame(self, *contents, without=(), rows=None):
        """Lines of the latest complete frame, once it contains all `contents`."""
        deadline = time.monotonic() + 10
        while True:
            complete = self.text().split("\x1b[H")[1:-1]
            picture = ESCAPE.sub("", complete[-1]) if complete else ""
            lines = picture.split("\r\n")
            if (
                all(content in picture for content in contents)
                and not any(content in picture for content in without)
                and rows in (None, len(lines))
            ):
                return lines
            assert time.monotonic() < deadline, picture
            time.sleep(0.02)

    def _resize(self, columns, rows):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


@pytest.mark.slow
def test_it_shows_labels_and_events_and_restores_the_terminal():
    with Terminal() as terminal:
        terminal.run("logger.info('before')")
        terminal.run("view.audio(chunk)")
        lines = terminal.frame("the first window is not full yet")
        assert len(lines) == 24
        assert lines[0].startswith("listener of small.tflite")
        assert re.search(r" up 00:00:\d\d$", lines[0])
        assert lines[1].startswith("listening to a USB microphone")
        assert re.match(r"level +█+.? *│ +-\d\d\.\d dBFS  peak -20\.0", lines[3])
        terminal.run("view.window(window); view.event(event); logger.warning('a\\nwarning')")
        terminal.run("view.gap(Gap(1.25, 'the device was removed'))")
        lines = terminal.frame("rain", "for 2 s", "a warning", "1.2 s are missing: the device")
        heard = [(line.split()[0], line.split()[-1]) for line in lines[5:10]]
        assert heard[:3] == [("rain", "0.50"), ("dog", "0.30"), ("Glocke", "0.10")]
        assert heard[3:] == [("狗叫", "0.06"), ("wind", "0.03")]
        terminal.run("view.event(ended); view.window(quiet)")
        terminal.run("health.set_source(False, 'device lost'); health.output('mqtt').ok = False")
        terminal.run("health.output('mqtt').error = 'refused'; health.count_window(0.063)")
        frame = terminal.frame("3.5 s, score 0.90", "too quiet", "63 ms inference", "mqtt: refused")
        assert frame[1].startswith("no sound: device lost")
        terminal.run("view.close()")
        assert terminal.end() == 0
        text = terminal.text()
    assert text.startswith("before\r\n\x1b[?1049h")
    _, view, after = re.split(r"\x1b\[\?1049[hl]", text)
    assert "\x1b[?25h" in text.rsplit("\x1b[?25l")[-1]
    # Clearing the screen between frames would flicker.
    assert "\x1b[2J" not in view.split("\x1b[H", 2)[2]
    assert "a\r\nwarning" in after


@pytest.mark.slow
def test_it_follows_the_size_of_the_terminal():
    with Terminal(120, 30) as terminal:
        terminal.run("view.audio(chunk); view.window(window); view.event(event)")
        terminal.frame("rain", rows=30)
        for columns, rows in [(40, 12), (25, 5), (200, 60), (80, 24)]:
            terminal.resize(columns, rows)
            lines = terminal.frame("listen", rows=rows)
            # The two wide characters take two columns each.
            assert max(len(line) + 2 * ("狗叫" in line) for line in lines) <= columns
        terminal.frame("rain", "windows/s", rows=24)


@pytest.mark.slow
def test_a_lost_terminal_ends_only_the_view(tmp_path):
    terminal = Terminal()
    listener = terminal._listener
    terminal.run("view.audio(chunk)")
    terminal.frame("listen")
    os.close(terminal._master)
    done = tmp_path / "done"
    terminal.run("t = time.monotonic()")
    terminal.run("while health.output('live').ok and time.monotonic() < t + 5: time.sleep(0.01)")
    terminal.run("view.audio(chunk); view.window(window); view.event(event)")
    terminal.run("view.close()")
    terminal.run(f"open({str(done)!r}, 'w').write(health.output('live').error)")
    listener.stdin.close()
    listener.wait(10)
    assert done.read_text() == "the terminal was closed"


@pytest.mark.slow
def test_streams_other_than_terminals_are_refused():
    with pytest.raises(ValueError, match="the live view needs a terminal") as refused:
        LiveView(Health(), stream=io.StringIO())
    assert "JSON lines instead" in str(refused.value)
    with Terminal(kind="dumb") as terminal:
        assert terminal.end() == 1
        assert "ValueError: the live view needs a terminal" in terminal.text()


def test_a_log_file_gets_messages_immediately():
    """Only messages for the terminal are held back."""
    from edge.sinks.terminal_log import TerminalLog

    logger, file = logging.Logger("test"), io.StringIO()
    logger.addHandler(logging.StreamHandler(file))
    log = TerminalLog(logger)
    log.take_over()
    logger.warning("first")
    assert file.getvalue() == "first\n"
    log.give_back()
    logger.warning("second")
    assert file.getvalue() == "first\nsecond\n"
    assert [note[10:] for note in log.newest(5)] == ["first"]


def test_the_level_falls_slowly_and_the_peak_is_held():
    from edge.sinks.live import _LevelBar

    bar = _LevelBar()
    bar.push(np.full(3200, 0.5, np.float32), now=100.0)
    bar.push(np.array([np.nan], np.float32), now=100.0)
    assert bar.level_dbfs(100.0) == pytest.approx(-6.02, abs=0.01)
    assert bar.level_dbfs(101.0) == pytest.approx(-26.02, abs=0.01)
    assert bar.peak_dbfs(101.0) == pytest.approx(-6.02, abs=0.01)
    assert bar.peak_dbfs(110.0) == -120
    bar.push(np.zeros(3200, np.float32), now=110.0)
    assert bar.level_dbfs(110.0) == -120
