"""A stream is classified like the complete file, whatever the chunks."""

import numpy as np
import pytest

from edge import Interpreter, StreamingClassifier, log_mel, write_bundle

WINDOW = 32_000


@pytest.fixture(scope="module")
def interpreter(bundle):
    """A tiny model of each kind, with a window of 1 s."""
    return Interpreter(bundle)


def offline(waveform, interpreter, hop_frames):
    """(start, end, level, scores, cosines, embedding) of each window, by definition."""
    front_end, inputs = interpreter.contract.front_end, interpreter.contract.inputs
    log_mels = inputs == "log_mel"
    if waveform.size == 0:
        return []
    window, heard = front_end.window_samples, waveform
    if heard.size < window:
        waveform = np.tile(heard, -(-window // heard.size))[:window]
    rows = log_mel(waveform, front_end) if log_mels else waveform
    size, row_samples = (101, 320) if log_mels else (window, 1)
    hop = hop_frames if log_mels else hop_frames * 320
    if inputs == "embeddings":  # hops of whole tagger windows
        hop = max(1, round(hop / 4000)) * 4000
    starts = list(range(0, len(rows) - size + 1, hop))
    if starts[-1] + size < len(rows):
        starts.append(len(rows) - size)
    result = []
    for start in starts:
        first = start * row_samples
        own = heard[first : first + window].astype(np.float64)
        level = 10 * np.log10(np.mean(own**2))
        values = rows[start : start + size]
        if inputs == "embeddings":
            values = interpreter.tagger.embed_all(values)
        predicted = interpreter.run(values)
        result.append((first / 32_000, (first + own.size) / 32_000, level, *predicted))
    return result


def stream(classifier, waveform, sizes):
    """Push chunks of the given sizes, of which the last repeats, and flush."""
    result, start, sizes = [], 0, list(sizes)
    while start < waveform.size:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        result += classifier.push(waveform[start : start + size])
        start += size
    return result + classifier.flush()


def assert_same(classifications, expected):
    """All windows agree; they are compared in one array per output, which is faster."""
    assert len(classifications) == len(expected)
    starts, ends, levels, *outputs = zip(*expected, strict=True)
    assert [window.start_seconds for window in classifications] == list(starts)
    assert [window.end_seconds for window in classifications] == list(ends)
    assert [window.level_dbfs for window in classifications] == pytest.approx(levels, abs=1e-3)
    assert not any(window.gated for window in classifications)
    for name, values in zip(("scores", "cosines", "embedding"), outputs, strict=True):
        ours = np.stack([getattr(window, name) for window in classifications])
        np.testing.assert_allclose(ours, np.stack(values), atol=1e-5)


@pytest.mark.parametrize("hop_frames", [1, 33, 100, 101, 250])
@pytest.mark.parametrize("samples", [WINDOW, WINDOW + 1, WINDOW + 320, 3 * WINDOW, 110_123])
def test_stream_matches_the_file(interpreter, make_sound, samples, hop_frames):
    waveform = make_sound(samples)
    expected = offline(waveform, interpreter, hop_frames)
    classifier = StreamingClassifier(interpreter, hop_seconds=hop_frames / 100)
    for size in (997, 16_000, 10**6):
        assert_same(stream(classifier, waveform, [size]), expected)


@pytest.mark.parametrize("seed", range(6))
def test_stream_matches_the_file_for_random_chunks(interpreter, make_sound, seed):
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


def test_stream_sample_by_sample_matches_the_file(interpreter, make_sound):
    """The middle of the first window is one chunk: nothing happens there."""
    waveform = make_sound(WINDOW + 1700)
    sizes = [*[1] * 1500, WINDOW - 3000, 1]
    classifier = StreamingClassifier(interpreter, hop_seconds=0.02)
    assert_same(stream(classifier, waveform, sizes), offline(waveform, interpreter, 2))


def test_a_window_may_end_between_frames(tmp_path, tiny_model, make_contract, make_sound):
    """1.005 s have as many frames as 1 s, and half a frame hop of extra samples."""
    path = tmp_path / "model.tflite"
    write_bundle(path, tiny_model("log_mel"), make_contract(window_seconds=1.005))
    interpreter, waveform = Interpreter(path), make_sound(110_123)
    classifier = StreamingClassifier(interpreter, hop_seconds=0.33)
    assert_same(stream(classifier, waveform, [4000]), offline(waveform, interpreter, 33))


@pytest.mark.parametrize("samples", [700, 110_123])
def test_levels_do_not_depend_on_the_chunks(interpreter, make_sound, samples):
    waveform = make_sound(samples)
    levels = {
        tuple(
            window.level_dbfs
            for window in stream(StreamingClassifier(interpreter, 0.05), waveform, sizes)
        )
        for sizes in ([10**6], [1, 3, 319, 12_345, 4000], [333], [16_000])
    }
    assert len(levels) == 1


@pytest.mark.parametrize("samples", [1, 2, 512, 513, 1023, 20_000, WINDOW - 1])
@pytest.mark.parametrize("size", [100, 10**6])
def test_short_stream_is_repeated(interpreter, make_sound, samples, size):
    waveform = make_sound(samples)
    classifications = stream(StreamingClassifier(interpreter), waveform, [size])
    assert_same(classifications, offline(waveform, interpreter, 100))
    assert classifications[0].start_seconds == 0.0
    assert classifications[0].end_seconds == samples / 32_000


def test_an_empty_stream_has_no_classifications(interpreter):
    classifier = StreamingClassifier(interpreter)
    assert classifier.flush() == []
    assert classifier.push(np.zeros(0, np.float32)) == []
    assert classifier.flush() == []


def test_a_shift_of_one_frame_changes_the_output(interpreter, make_sound):
    """Otherwise the comparisons above would prove little."""
    waveform = make_sound(WINDOW + 320)
    first, second = offline(waveform, interpreter, 1)
    assert np.abs(first[5] - second[5]).max() > 1e-3


def test_windows_are_classified_as_soon_as_they_are_complete(interpreter, make_sound):
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
def test_the_next_stream_is_independent(interpreter, make_sound, end, samples):
    classifier = StreamingClassifier(interpreter)
    classifier.push(make_sound(samples, seed=1))
    getattr(classifier, end)()
    waveform = make_sound(samples, seed=2)
    assert_same(stream(classifier, waveform, [4000]), offline(waveform, interpreter, 100))


@pytest.mark.parametrize("before", [0, 1, 700, WINDOW - 1, WINDOW + 5000, 100_001])
@pytest.mark.parametrize("after", [0, 700, WINDOW, 100_001])
def test_after_a_gap_the_stream_restarts_at_a_later_time(interpreter, make_sound, before, after):
    classifier, fresh = StreamingClassifier(interpreter, 0.1), StreamingClassifier(interpreter, 0.1)
    first, second = make_sound(before, seed=1), make_sound(after, seed=2)
    for start in range(0, before, 3000):
        classifier.push(first[start : start + 3000])
    classifier.skip(2.00001)
    classifier.skip(0.0)
    resumed, expected = stream(classifier, second, [4000]), stream(fresh, second, [4000])
    missing = before + 64_000  # 0.32 of a sample rounds to zero
    assert len(resumed) == len(expected)
    for ours, theirs in zip(resumed, expected, strict=True):
        assert ours.start_seconds == (missing + round(32_000 * theirs.start_seconds)) / 32_000
        assert ours.end_seconds == (missing + round(32_000 * theirs.end_seconds)) / 32_000
        assert ours.level_dbfs == theirs.level_dbfs
        np.testing.assert_array_equal(ours.scores, theirs.scores)
        np.testing.assert_array_equal(ours.embedding, theirs.embedding)
    again = stream(classifier, second, [4000])
    assert [window.start_seconds for window in again] == [w.start_seconds for w in expected]


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_impossible_gaps_are_refused(interpreter, seconds):
    with pytest.raises(ValueError, match="`seconds` must be finite and not negative"):
        StreamingClassifier(interpreter).skip(seconds)


def test_quiet_windows_never_reach_the_model(interpreter, make_sound, monkeypatch):
    run, inputs = interpreter.run, []
    monkeypatch.setattr(interpreter, "run", lambda window: inputs.append(window) or run(window))
    sound = make_sound(3 * WINDOW)
    waveform = np.concatenate([sound, 1e-4 * sound, np.zeros(WINDOW, np.float32), sound])
    windows = stream(StreamingClassifier(interpreter, 1.0, gate_dbfs=-60.0), waveform, [3000])
    assert [window.gated for window in windows] == [False] * 3 + [True] * 4 + [False] * 3
    assert len(inputs) == 6
    for window in windows[3:7]:
        assert window.level_dbfs < -60.0
        np.testing.assert_array_equal(window.scores, np.zeros(5, np.float32))
        np.testing.assert_array_equal(window.cosines, np.full(5, -1.0, np.float32))
        np.testing.assert_array_equal(window.embedding, np.zeros(8, np.float32))
    assert windows[6].level_dbfs == -120.0
    assert windows[6].to_json()["gated"] is True
    # The gate does not change windows above it.
    ungated = stream(StreamingClassifier(interpreter, 1.0), waveform, [3000])
    for ours, theirs in zip(windows[7:], ungated[7:], strict=True):
        np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_a_gate_that_is_nan_is_refused(interpreter):
    with pytest.raises(ValueError, match="`gate_dbfs` must be a level"):
        StreamingClassifier(interpreter, gate_dbfs=float("nan"))


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
def test_bad_chunks_are_refused_without_losing_samples(interpreter, make_sound, bad):
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


@pytest.mark.parametrize(
    ("requested", "by_frames", "by_tagger_windows"),
    [(1.0, 1.0, 1.0), (0.333, 0.33, 0.375), (1e-6, 0.01, 0.125)],
)
def test_hop_is_rounded(interpreter, requested, by_frames, by_tagger_windows):
    used = by_tagger_windows if interpreter.tagger else by_frames
    assert StreamingClassifier(interpreter, requested).hop_seconds == pytest.approx(used)


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
    assert values["level_dbfs"] == pytest.approx(classification.level_dbfs, abs=0.01)
    assert values["gated"] is False


def test_each_tagger_window_is_computed_once(tagger_bundle, make_sound, monkeypatch):
    """Windows of 1 s every 0.25 s share most of their tagger windows, which start at 0.125 s."""
    interpreter, starts = Interpreter(tagger_bundle), []
    embed, waveform = interpreter.tagger.embed, make_sound(3 * WINDOW)

    def count(samples):
        starts.append(next(i for i in range(0, waveform.size, 4000) if waveform[i] == samples[0]))
        return embed(samples)

    monkeypatch.setattr(interpreter.tagger, "embed", count)
    classifier = StreamingClassifier(interpreter, hop_seconds=0.25)
    assert len(stream(classifier, waveform, [4000])) == 9
    assert starts == list(range(0, 3 * WINDOW - 4000, 4000))


def test_a_tagger_does_not_run_on_quiet_windows(tagger_bundle, make_sound, monkeypatch):
    interpreter, calls = Interpreter(tagger_bundle), []
    embed = interpreter.tagger.embed
    monkeypatch.setattr(interpreter.tagger, "embed", lambda s: calls.append(s) or embed(s))
    classifier = StreamingClassifier(interpreter, hop_seconds=1.0, gate_dbfs=-60.0)
    quiet, loud = np.zeros(3 * WINDOW, np.float32), make_sound(WINDOW)
    windows = stream(classifier, np.concatenate([quiet, loud]), [4000])
    assert [window.gated for window in windows] == [True, True, True, False]
    assert len(calls) == 7
