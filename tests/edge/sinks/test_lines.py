"""Format of text and JSON lines."""

import io
import json
import os

import numpy as np
import pytest

from edge.events.event import Event
from edge.inference.streaming import Classification
from edge.sinks.lines import JsonSink, TextSink
from edge.sources import Gap

LABELS = ("wind", "rain", "sea waves")
SCORES = np.array([0.01, 0.93, 0.04], np.float32)
NOTHING = np.zeros(3, np.float32)
WINDOW = Classification(3.0, 13.0, SCORES, np.zeros(2, np.float32), LABELS, SCORES, -31.46)
LATE = Classification(1203.5, 1213.5, SCORES, np.zeros(2, np.float32), LABELS, SCORES, -31.46)
QUIET = Classification(4, 14, NOTHING, np.zeros(2, np.float32), LABELS, NOTHING - 1, -70.2, True)
STARTED = Event("20261125-1", "rain", 3.0, None, 0.93, 0.93, -31.46)
ENDED = Event("20261125-1", "rain", 3.0, 13.5, 0.97, 0.9, -30.1, end_reason="quiet")
GAP = Gap(1.25, "the device was removed")


def lines(sink_class, *calls, **options):
    """Lines that a sink writes for calls of (method, argument)."""
    stream = io.StringIO()
    sink = sink_class(stream, **options)
    for method, item in calls:
        getattr(sink, method)(item)
    sink.close()
    return stream.getvalue().splitlines()


def test_text_lines_are_aligned():
    calls = [
        *[("window", window) for window in (WINDOW, LATE, QUIET)],
        *[("event", event) for event in (STARTED, ENDED)],
        ("gap", GAP),
    ]
    assert lines(TextSink, *calls) == [
        "   3.00 -   13.00 s  rain 0.93  sea waves 0.04  wind 0.01",
        "1203.50 - 1213.50 s  rain 0.93  sea waves 0.04  wind 0.01",
        "   4.00 -   14.00 s  too quiet, -70.2 dBFS",
        "   3.00 -     ... s  > rain 0.93, -31.5 dBFS",
        "   3.00 -   13.50 s  < rain 0.90, at best 0.97, -30.1 dBFS, ended: quiet",
        "1.25 s are missing: the device was removed",
    ]
    assert lines(TextSink, *calls, top=1, windows=False) == lines(TextSink, *calls)[3:]


def test_json_lines_have_a_type():
    calls = [("window", WINDOW), ("event", STARTED), ("event", ENDED), ("gap", GAP)]
    window, started, ended, gap = map(json.loads, lines(JsonSink, *calls, top=2))
    assert window == {
        "type": "window",
        "start_seconds": 3.0,
        "end_seconds": 13.0,
        "level_dbfs": -31.46,
        "gated": False,
        "top": [{"label": "rain", "score": 0.93}, {"label": "sea waves", "score": 0.04}],
        "scores": {"wind": 0.01, "rain": 0.93, "sea waves": 0.04},
    }
    assert (started["type"], started["state"], started["end_seconds"]) == ("event", "started", None)
    assert (ended["type"], ended["state"], ended["end_seconds"]) == ("event", "ended", 13.5)
    assert started["id"] == ended["id"] == "20261125-1"
    assert gap == {"type": "gap", "seconds": 1.25, "reason": "the device was removed"}
    assert len(lines(JsonSink, *calls, windows=False)) == 3


@pytest.mark.parametrize("sink_class", [TextSink, JsonSink])
def test_each_line_is_flushed_and_a_broken_pipe_raises(sink_class):
    reader, writer = os.pipe()
    with open(writer, "w") as stream:
        sink = sink_class(stream)
        sink.window(WINDOW)
        assert os.read(reader, 10_000).endswith(b"\n")
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            sink.event(STARTED)
        # Closing the stream would raise again for the line in its buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
