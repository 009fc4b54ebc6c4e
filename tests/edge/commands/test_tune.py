"""On a background, the listener gives the events that `tune` predicts."""

import argparse
import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile

from edge import StreamingClassifier
from edge.commands import tune
from edge.commands.tuning.choice import highest_rate, lowest_thresholds
from edge.commands.tuning.positives import Positive, find_positives
from edge.commands.tuning.sweep import THRESHOLDS, Sweep
from edge.commands.tuning.trials import hear_background, hear_positives
from edge.config.options import SettingsError
from edge.events.detector import Detector, Policy
from edge.events.thresholds import read_thresholds
from edge.sources import file_source

LABELS = ("rain", "sea waves", "wind", "dog", "Glocke ♪")
RATE_HZ = 32_000


def write(path, sound):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE_HZ, "FLOAT")
    return path


def tone(radians, seconds):
    """Make a sine; the tiny model classifies 0.2 radians per sample as rain, 1.2 as sea waves."""
    return (0.3 * np.sin(radians * np.arange(int(seconds * RATE_HZ)))).astype(np.float32)


@pytest.fixture(scope="module")
def background(tmp_path_factory, make_sound):
    """A minute in two files, in which the tiny model detects many labels."""
    directory = tmp_path_factory.mktemp("background")
    parts = [
        (0.02 + index % 3) * make_sound(int(RATE_HZ * (1 + index % 4)), index)[: 3 * RATE_HZ]
        for index in range(26, 52)
    ]
    return [
        write(directory / "background-1.wav", np.concatenate(parts[:15])),
        write(directory / "background-2.wav", np.concatenate(parts[15:])),
    ]


def command(*arguments):
    """Run `tune` with these arguments; return its exit status."""
    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    return tune.run(parser.parse_args([str(argument) for argument in arguments]))


def events_of(path, classifier, policy):
    """Return the ended events of a recording, found by a single detector."""
    detector = Detector(policy, classifier.labels, classifier.hop_seconds)
    events, samples = [], 0
    for chunk in file_source(path, RATE_HZ):
        samples += len(chunk)
        for window in classifier.push(chunk):
            events += detector.update(window)
    for window in classifier.flush():
        events += detector.update(window)
    events += detector.end(samples / RATE_HZ, "stopped")
    return [event for event in events if event.state == "ended"]


@pytest.mark.slow
@pytest.mark.parametrize(("per_hour", "expected_status"), [(20.0, 1), (200.0, 0), (700.0, 0)])
def test_the_background_gives_no_more_events_than_allowed(
    tmp_path, log_mel_bundle, background, capsys, per_hour, expected_status
):
    out = tmp_path / "thresholds.toml"
    options = ("--model", log_mel_bundle, "--hop", 0.5, "--refractory", 1, "--smoothing", 1)
    rate = ("--false-accepts-per-hour", per_hour)
    status = command("--background", *background, *rate, "--out", out, *options)
    printed = capsys.readouterr().out
    classifier = StreamingClassifier(log_mel_bundle, hop_seconds=0.5)
    hours = sum(soundfile.info(path).duration for path in background) / 3600
    assert status == expected_status
    if status == 1:
        assert not out.exists()
        assert "no file written: even at 0.999" in printed
        return
    thresholds = read_thresholds(out, classifier.labels)
    assert list(thresholds) == list(LABELS)
    policy = Policy(thresholds=thresholds, smoothing_windows=2, refractory_seconds=1.0)
    events = [event for path in background for event in events_of(path, classifier, policy)]
    assert len(events) <= per_hour * hours
    assert f"{len(events)} in {hours:.3g} h" in printed
    needed_hours = 3 / per_hour
    assert ("rule of three" in printed) == (hours < needed_hours * 0.9986)


@pytest.mark.slow
def test_a_sweep_equals_one_detector_per_threshold(log_mel_bundle, background):
    classifier = StreamingClassifier(log_mel_bundle, hop_seconds=0.5)
    rules = {"cosine_floor": 0.5, "min_seconds": 1.0, "smoothing_windows": 2}
    policy = Policy(report_unknown=True, **rules)
    sweep = Sweep(classifier, policy)
    swept = [sweep.push(chunk) for chunk in file_source(background[0], RATE_HZ)]
    swept.append(sweep.end())
    for step in range(0, len(THRESHOLDS), 8):
        single = Policy(threshold=THRESHOLDS[step], **rules)
        expected = events_of(background[0], classifier, single)
        assert [event for part in swept for event in part[step]] == expected
    assert any(part[0] for part in swept)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_background(tmp_path, log_mel_bundle, make_sound):
    """The samples of these three minutes alone would take 23 MB."""
    path = tmp_path / "long.wav"
    minute = make_sound(RATE_HZ * 60)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        for _ in range(3):
            file.write(minute)
    classifier = StreamingClassifier(log_mel_bundle, hop_seconds=20.0)
    tracemalloc.start()
    try:
        heard = hear_background(classifier, Policy(), [path])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard.hours == pytest.approx(1 / 20)
    assert heard.windows == 9 + 1
    assert peak < 8e6


def test_positives_are_surrounded_by_background(tmp_path, log_mel_bundle):
    background = write(tmp_path / "background.wav", tone(0.2, 1.5))
    positives = [
        Positive(write(tmp_path / "a.wav", tone(1.2, 2.0)), "sea waves"),
        Positive(write(tmp_path / "b.wav", tone(1.2, 2.0)), "dog"),
        Positive(write(tmp_path / "c.wav", tone(0.2, 2.0)), "dog"),
    ]
    classifier = StreamingClassifier(log_mel_bundle, hop_seconds=0.25)
    recall = hear_positives(classifier, Policy(), positives, background)
    at_half = np.full(len(LABELS), THRESHOLDS.index(0.5))
    found, wrong = recall.at(at_half)
    assert found.tolist() == [True, False, False]
    assert wrong.tolist()[1:] == [True, True]
    # Two sounds differ from the background: windows inside them have the cosines of the sound.
    (alone,) = classifier.push(tone(1.2, 1.0)) + classifier.flush()
    assert np.isclose(recall.cosines, alone.cosines.max(), atol=0.02).sum() >= 2 * 4
    at_half[LABELS.index("sea waves")] = len(THRESHOLDS) - 1
    assert recall.at(at_half)[0].tolist() == [False, False, False]


@pytest.mark.slow
def test_the_table_shows_the_recall_of_each_label(tmp_path, log_mel_bundle, capsys):
    background = write(tmp_path / "background.wav", tone(0.2, 20.0))
    write(tmp_path / "clips" / "Sea_Waves" / "1.wav", tone(1.2, 3.0))
    write(tmp_path / "clips" / "dog-1.wav", tone(1.2, 3.0))
    write(tmp_path / "clips" / "trombone.wav", tone(1.2, 3.0))
    status = command(
        *("--background", background, "--positives", tmp_path / "clips"),
        *("--false-accepts-per-hour", 5000, "--out", tmp_path / "thresholds.toml"),
        *("--model", log_mel_bundle, "--hop", 0.25),
    )
    assert status == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "skipped, not a label of the model: trombone.wav"
    assert [line.split()[-2:] for line in lines if "1/1" in line] == [["sea", "waves"]]
    assert [line.split()[-1] for line in lines if "0/1" in line] == ["dog"]
    assert [line.split()[-1] for line in lines if " -  " in line] == ["rain", "wind", "♪"]
    assert any("1/2" in line and "wrong label too" in line for line in lines)
    assert any(
        line.startswith("--cosine-floor 0.") and line.endswith("tune again with it to compare.")
        for line in lines
    )


def test_independent_scores_get_lower_thresholds_and_no_cosine_floor(
    tmp_path, independent_bundle, capsys
):
    background = write(tmp_path / "background.wav", np.zeros(4 * RATE_HZ, np.float32))
    write(tmp_path / "clips" / "sea waves.wav", tone(1.2, 2.0))
    out = tmp_path / "thresholds.toml"
    status = command(
        *("--background", background, "--positives", tmp_path / "clips", "--gate-dbfs", -70),
        *("--false-accepts-per-hour", 1, "--out", out, "--model", independent_bundle),
    )
    printed = capsys.readouterr().out
    assert status == 0
    assert set(read_thresholds(out, LABELS).values()) == {0.1}
    assert "other label" in printed
    assert "wrong label" not in printed
    assert "with another label too" in printed
    assert "--cosine-floor" not in printed


def test_noisy_backgrounds_suggest_what_helps_independent_scores(
    tmp_path, independent_bundle, capsys
):
    background = write(tmp_path / "background.wav", tone(1.2, 4.0))
    out = tmp_path / "thresholds.toml"
    common = ("--background", background, "--out", out, "--model", independent_bundle)
    assert command(*common, "--false-accepts-per-hour", 1e-3) == 1
    printed = capsys.readouterr().out
    assert "train the model with these sounds as clips without a label" in printed
    assert "cosine" not in printed


@pytest.mark.parametrize("seed", range(30))
def test_no_lower_thresholds_are_allowed(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (7, 3))
    counts[1:] = np.minimum(counts[1:], counts[:-1] + rng.integers(0, 2, (6, 3)))
    allowed = int(rng.integers(0, 14))
    steps = lowest_thresholds(counts, allowed)
    if counts[-1].sum() > allowed:
        assert steps is None
        return
    columns = np.arange(3)
    for higher in itertools.product(*(range(step, 7) for step in steps)):
        assert counts[higher, columns].sum() <= allowed
    for label in range(3):
        if steps[label] > 0:
            lower = steps.copy()
            lower[label] -= 1
            most = [counts[step:, column].max() for column, step in enumerate(lower)]
            assert sum(most) > allowed


def test_a_noisy_label_does_not_raise_the_other_thresholds():
    counts = np.array([[50, 0, 2], [40, 0, 1], [30, 0, 0]])
    assert lowest_thresholds(counts, 30).tolist() == [2, 0, 2]
    assert lowest_thresholds(counts, 32).tolist() == [2, 0, 0]
    assert lowest_thresholds(counts, 29) is None


def test_the_highest_rate_is_the_poisson_limit():
    # Exact one-sided 95 % limits from tables.
    for events, limit in {0: 2.996, 1: 4.744, 2: 6.296, 5: 10.513, 10: 16.962, 50: 63.287}.items():
        assert highest_rate(events, 2.0) == pytest.approx(limit / 2.0, abs=1e-3)


def test_positives_are_found_by_directory_or_name(tmp_path):
    names = [
        "DOG/1.wav",
        "DOG/deep/2.flac",
        "DOG/notes.txt",
        "dog barking-3.ogg",
        "dog.wav",
        "dogma.wav",
        "Sea_Waves__02.mp3",
        ".hidden.wav",
        "cat/1.wav",
        "empty/readme.md",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    labels = ("dog barking", "dog", "sea waves", "rain")
    found, left_out = find_positives(tmp_path, labels)
    assert sorted((str(path.relative_to(tmp_path)), label) for path, label in found) == [
        ("DOG/1.wav", "dog"),
        ("DOG/deep/2.flac", "dog"),
        ("Sea_Waves__02.mp3", "sea waves"),
        ("dog barking-3.ogg", "dog barking"),
        ("dog.wav", "dog"),
    ]
    assert left_out == ["cat", "dogma.wav"]
    with pytest.raises(ValueError, match=r"with a label of the model \(rain\)\. Received: D"):
        find_positives(tmp_path, ("rain",))


def test_invalid_options_and_empty_backgrounds_are_refused(tmp_path, log_mel_bundle, background):
    needed = ("--background", background[0], "--model", log_mel_bundle)
    for option in (("--threshold", 0.5), ("--thresholds", tmp_path / "t.toml")):
        with pytest.raises(SettingsError, match=f"tune finds {option[0]} itself"):
            command(*needed, "--false-accepts-per-hour", 1, *option)
    with pytest.raises(SystemExit):
        command(*needed, "--false-accepts-per-hour", 0)
    empty = write(tmp_path / "empty.wav", np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="must contain sound"):
        command("--background", empty, "--false-accepts-per-hour", 1, "--model", log_mel_bundle)


def test_thresholds_go_to_the_working_directory_by_default(
    log_mel_bundle, background, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    common = ("--background", background[0], "--false-accepts-per-hour", 1e6)
    assert command(*common, "--model", log_mel_bundle) == 0
    assert read_thresholds("thresholds.toml", LABELS).keys() == set(LABELS)


def test_the_listeners_file_gives_model_and_decisions(log_mel_bundle, background, tmp_path):
    out, config = tmp_path / "found.toml", tmp_path / "listener.toml"
    config.write_text(
        f"[source]\nmic = true\n[model]\nmodel = '{log_mel_bundle}'\n"
        "[decisions]\nthresholds = 'old.toml'\nsmoothing = 2\n[outputs]\nserve = '8080'\n"
    )
    common = ("--background", background[0], "--false-accepts-per-hour", 1e6, "--out", out)
    assert command(*common, "--config", config) == 0
    in_flags = out.with_name("flags.toml")
    flags = ("--model", log_mel_bundle, "--smoothing", 2, "--out", in_flags)
    assert command(*common, *flags) == 0
    assert read_thresholds(out, LABELS) == read_thresholds(in_flags, LABELS)
    assert f"--config {config}" in out.read_text()
    config.write_text("[decisionz]\n")
    with pytest.raises(SettingsError, match="decisionz"):
        command(*common, "--config", config)
