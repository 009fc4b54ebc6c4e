"""What a line looks like."""

import io
import json

import numpy as np
import pytest

from edge.sinks import JsonSink, TextSink
from edge.streaming import Classification


@pytest.fixture
def classification():
    scores = np.array([0.01, 0.93, 0.04], np.float32)
    labels = ("wind", "rain", "sea waves")
    return Classification(3.0, 13.0, scores, np.zeros(2, np.float32), labels, scores - 1)


def test_text_lines_are_aligned(classification):
    stream = io.StringIO()
    sink = TextSink(stream, top=3)
    sink.write(classification)
    sink.write(Classification(1203.5, 1213.5, *list(vars(classification).values())[2:]))
    assert stream.getvalue() == (
        "   3.00 -   13.00 s  rain 0.93  sea waves 0.04  wind 0.01\n"
        "1203.50 - 1213.50 s  rain 0.93  sea waves 0.04  wind 0.01\n"
    )


def test_json_lines(classification):
    stream = io.StringIO()
    sink = JsonSink(stream, top=2)
    sink.write(classification)
    sink.write(classification)
    first, second = stream.getvalue().splitlines()
    assert first == second
    assert json.loads(first) == {
        "start_seconds": 3.0,
        "end_seconds": 13.0,
        "top": [{"label": "rain", "score": 0.93}, {"label": "sea waves", "score": 0.04}],
        "scores": {"wind": 0.01, "rain": 0.93, "sea waves": 0.04},
    }
