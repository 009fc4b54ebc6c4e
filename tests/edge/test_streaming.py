"""A stream is classified as its file would be, however it arrives."""

import numpy as np
import pytest

from edge import Interpreter, StreamingClassifier, log_mel

WINDOW = 32_000


@pytest.fixture
def interpreter(bundle):
    """Either kind of tiny model, window 1 s."""
    return Interpreter(bundle)


def offline(waveform, interpreter, hop_frames):
    """(start, end, scores, cosines, embedding) of each window, straight from the definition."""
    front_end = interpreter.contract.front_end
    log_mels = interpreter.contract.inputs == "log_mel"
    if waveform.size == 0:
        return []
    seen = waveform.size
    if seen < WINDOW:
        waveform = np.tile(waveform, -(-WINDOW // seen))[:WINDOW]
    rows = log_mel(waveform, front_end) if log_mels else waveform
    size, row_samples = (101, 320) if log_mels else (WINDOW, 1)
    hop = hop_frames if log_mels else hop_frames * 320
    starts = list(range(0, len(rows) - size + 1, hop))
    if starts[-1] + size < len(rows):
        starts.append(len(rows) - size)
    return [
        (
            start * row_samples / 32_000,
            min(start * row_samples + WINDOW, seen) / 32_000,
            *interpreter.run(rows[start : start + size]),
        )
        for start in starts
    ]


def stream(classifier, waveform, sizes):
    """Push chunks of the given sizes, the last one repeated, and flush."""
    result, start, sizes = [], 0, list(sizes)
    while start < waveform.size:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        result += classifier.push(waveform[start : start + size])
        start += size
    return result + classifier.flush()


def assert_same(classifications, expected):
    assert len(classifications) == len(expected)
    for ours, (start, end, scores, cosines, embedding) in zip(
        classifications, expected, strict=True
    ):
        assert (ours.start_seconds, ours.end_seconds) == (start, end)
        np.testing.assert_allclose(ours.scores, scores, atol=1e-5)
        np.testing.assert_allclose(ours.cosines, cosines, atol=1e-5)
        np.testing.assert_allclose(ours.embedding, embedding, atol=1e-5)


@pytest.mark.parametrize("size", [997, 16_000, 10**6])
@pytest.mark.parametrize("hop_frames", [1, 33, 100, 101, 250])
@pytest.mark.parametrize("samples", [WINDOW, WINDOW + 1, WINDOW + 320, 3 * WINDOW, 110_123])
def test_stream_is_the_file(interpreter, make_sound, samples, hop_frames, size):
    waveform = make_sound(samples)
    classifier = StreamingClassifier(interpreter, hop_seconds=hop_frames / 100)
    assert_same(stream(classifier, waveform, [size]), offline(waveform, interpreter, hop_frames))


@pytest.mark.parametrize("seed", range(6))
def test_stream_is_the_file_for_random_chunks(interpreter, make_sound, seed):
    rng = np.random.default_rng(seed)
    sizes = np.floor(10.0 ** rng.uniform(-0.5, 5.0, 30)).astype(int).clip(0)  # 0 .. 100,000
    waveform, hop_frames = (
        make_sound(int(rng.integers(1, 300_000)), seed),
        int(rng.integers(1, 150)),
    )
    classifier = StreamingClassifier(interpreter, hop_seconds=hop_frames / 100)
    assert_same(
        stream(classifier, waveform, [*sizes.tolist(), 5000]),
        offline(waveform, interpreter, hop_frames),
    )


def test_stream_sample_by_sample_is_the_file(interpreter, make_sound):
    waveform = make_sound(WINDOW + 1700)
    classifier = StreamingClassifier(interpreter, hop_seconds=0.02)
    assert_same(stream(classifier, waveform, [1]), offline(waveform, interpreter, 2))


@pytest.mark.parametrize("samples", [1, 2, 512, 513, 1023, 20_000, WINDOW - 1])
@pytest.mark.parametrize("size", [100, 10**6])
def test_short_stream_is_repeated(interpreter, make_sound, samples, size):
    waveform = make_sound(samples)
    classifications = stream(StreamingClassifier(interpreter), waveform, [size])
    assert_same(classifications, offline(waveform, interpreter, 100))
    assert classifications[0].start_seconds == 0.0
    assert classifications[0].end_seconds == samples / 32_000


def test_empty_stream_gives_nothing(interpreter):
    classifier = StreamingClassifier(interpreter)
    assert classifier.flush() == []
    assert classifier.push(np.zeros(0, np.float32)) == []
    assert classifier.flush() == []


def test_the_window_tells_a_shift_of_one_frame(interpreter, make_sound):
    """Else the comparisons above would prove little."""
    waveform = make_sound(WINDOW + 320)
    first, second = offline(waveform, interpreter, 1)
    assert np.abs(first[4] - second[4]).max() > 1e-3


def test_windows_come_as_soon_as_they_are_complete(interpreter, make_sound):
    waveform = make_sound(2 * WINDOW)
    classifier = StreamingClassifier(interpreter, hop_seconds=0.5)
    lookahead = 512 if interpreter.contract.inputs == "log_mel" else 0
    assert classifier.push(waveform[: WINDOW + lookahead - 1]) == []
    (first,) = classifier.push(waveform[WINDOW + lookahead - 1 : WINDOW + lookahead])
    assert (first.start_seconds, first.end_seconds) == (0.0, 1.0)
    (second,) = classifier.push(waveform[WINDOW + lookahead : 3 * WINDOW // 2 + lookahead])
    assert (second.start_seconds, second.end_seconds) == (0.5, 1.5)


@pytest.mark.parametrize("end", ["reset", "flush"])
@pytest.mark.parametrize("samples", [700, WINDOW + 5000])
def test_next_stream_starts_afresh(interpreter, make_sound, end, samples):
    classifier = StreamingClassifier(interpreter)
    classifier.push(make_sound(samples, seed=1))
    getattr(classifier, end)()
    waveform = make_sound(samples, seed=2)
    assert_same(stream(classifier, waveform, [4000]), offline(waveform, interpreter, 100))


@pytest.mark.parametrize(
    "bad",
    [
        np.array([0.0, np.nan], np.float32),
        np.array([np.inf, 0.0], np.float32),
        np.array([-np.inf, 0.0], np.float32),
        np.array([3e38, 0.0], np.float32),
        np.zeros(100),
        np.zeros(100, np.int16),
        np.zeros((100, 2), np.float32),
        np.float32(0.0),
        [0.0, 0.1],
    ],
)
def test_bad_chunks_are_refused_and_lose_nothing(interpreter, make_sound, bad):
    waveform = make_sound(WINDOW + 10_000)
    classifier = StreamingClassifier(interpreter)
    result = []
    for start in range(0, waveform.size, 7000):
        with pytest.raises(ValueError, match="Received"):
            classifier.push(bad)
        result += classifier.push(waveform[start : start + 7000])
    assert_same(result + classifier.flush(), offline(waveform, interpreter, 100))


@pytest.mark.parametrize("hop_seconds", [0, -1.0, float("nan"), float("inf")])
def test_bad_hops_are_refused(interpreter, hop_seconds):
    with pytest.raises(ValueError, match="`hop_seconds` must be positive"):
        StreamingClassifier(interpreter, hop_seconds)


@pytest.mark.parametrize(("asked", "used"), [(1.0, 1.0), (0.333, 0.33), (1e-6, 0.01)])
def test_hop_is_whole_frames(interpreter, asked, used):
    assert StreamingClassifier(interpreter, asked).hop_seconds == pytest.approx(used)


def test_classifier_from_a_path(bundle, make_sound):
    classifier = StreamingClassifier(bundle, num_threads=2)
    assert classifier.labels == classifier.contract.labels
    assert classifier.front_end.window_seconds == 1.0
    (classification,) = stream(classifier, make_sound(WINDOW), [8000])
    top = classification.top(2)
    assert len(classification.top(99)) == 5
    assert top[0][1] >= top[1][1]
    assert top[0] == (classification.labels[classification.scores.argmax()], top[0][1])
    values = classification.to_json(top=2)
    assert values["top"][0]["label"] == top[0][0]
    assert list(values["scores"]) == list(classifier.labels)
    assert values["end_seconds"] == 1.0
