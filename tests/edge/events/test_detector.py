"""Events follow from scores by the policy, with times close to those of the sound."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edge.config.assembly import make_policy
from edge.config.settings import DecisionSettings
from edge.events.detector import Detector, Policy
from edge.events.policy import is_unknown
from edge.inference.streaming import Classification

LABELS = ("dog", "rain", "siren")
WINDOW_SECONDS = 5.0
PLAIN = Policy(threshold=0.5, release=0.6)


def window(end_seconds, scores, *, level_dbfs=-40.0, cosines=None, gated=False, seconds=5.0):
    """One classification; missing scores are 0."""
    scores = np.resize(np.array([*scores, 0.0, 0.0], np.float32), len(LABELS))
    cosines = scores if cosines is None else np.array(cosines, np.float32)
    return Classification(
        start_seconds=end_seconds - seconds,
        end_seconds=end_seconds,
        scores=scores,
        embedding=np.zeros(4, np.float32),
        labels=LABELS,
        cosines=cosines,
        level_dbfs=level_dbfs,
        gated=gated,
    )


def windows(rows, hop_seconds=1.0, **options):
    """A stream of windows with the scores `rows`, (windows,) for dogs or (windows, labels)."""
    rows = np.asarray(rows, float).reshape(len(rows), -1)
    return [
        window(WINDOW_SECONDS + index * hop_seconds, row, **options)
        for index, row in enumerate(rows)
    ]


def detect(stream, policy=None, hop_seconds=1.0, stop_seconds=None):
    """All events of a complete stream, in order."""
    detector = Detector(policy or PLAIN, LABELS, hop_seconds)
    events = [event for item in stream for event in detector.update(item)]
    events += detector.end(stop_seconds or stream[-1].end_seconds, "stopped")
    assert detector.open == ()
    return events


def ended(events):
    return [event for event in events if event.state == "ended"]


def test_independent_scores_give_two_events_at_once_and_none_for_an_unknown_sound():
    dog_in_rain, unknown = [0.9, 0.8, 0.01], [0.2, 0.1, 0.3]
    rows = [[0, 0, 0], *[dog_in_rain] * 6, *[unknown] * 6]
    events = ended(detect(windows(rows)))
    assert sorted(event.label for event in events) == ["dog", "rain"]
    assert len({event.start_seconds for event in events}) == 1
    assert ended(detect(windows([unknown] * 8))) == []


@pytest.mark.parametrize("sound_seconds", [1.0, 2.5, 4.0, 12.0])
@pytest.mark.parametrize("peak", [0.5, 0.75, 0.95])
def test_the_same_sounds_are_found_with_any_hop(sound_seconds, peak):
    """A window that holds the sound for some time has its full score."""

    def found(hop_seconds):
        ends = np.arange(WINDOW_SECONDS, 60.0, hop_seconds)
        held = np.minimum(ends, 20.0 + sound_seconds) - np.maximum(ends - WINDOW_SECONDS, 20.0)
        scores = peak * np.clip(held / 0.8, 0.0, 1.0)
        policy = make_policy(DecisionSettings(), hop_seconds)
        return len(ended(detect(windows(scores, hop_seconds), policy, hop_seconds)))

    assert [found(hop) for hop in (0.25, 0.5, 1.0, 2.0)] == [found(1.0)] * 4
    assert found(1.0) == (peak > 0.6)


def test_a_dog_starts_an_event_and_silence_ends_it():
    stream = windows([0, 0, 0.96, 0.96, 0.96, 0.96, 0.96, 0, 0, 0, 0])
    detector = Detector(PLAIN, LABELS, 1.0)
    by_window = [detector.update(item) for item in stream]
    assert [len(events) for events in by_window] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    (started,), (over,) = by_window[3], by_window[9]
    assert (started.label, started.state, over.state) == ("dog", "started", "ended")
    assert over.id == started.id
    assert over.start_seconds == started.start_seconds
    assert over.end_reason == "quiet"
    assert over.peak_score == pytest.approx(0.96)
    assert over.mean_score == pytest.approx((0.64 + 0.96 + 0.96 + 0.96 + 0.64 + 0.32) / 6)


@pytest.mark.parametrize("smoothing_windows", [2, 3, 5])
@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.5])
def test_a_single_spike_never_fires(smoothing_windows, threshold):
    policy = Policy(threshold=threshold, smoothing_windows=smoothing_windows)
    rows = np.full(60, 0.9 * threshold)
    rows[::smoothing_windows] = 1.0
    assert detect(windows(rows), policy) == []
    rows[30:32] = 1.0
    assert detect(windows(rows), policy) != []


def test_without_smoothing_one_window_is_enough():
    (event,) = ended(detect(windows([0, 0, 0.6, 0, 0]), replace(PLAIN, smoothing_windows=1)))
    assert event.peak_score == pytest.approx(0.6)


def test_an_event_outlives_a_dip_that_stays_above_the_release():
    rows = [0, 0.9, 0.9, 0.9, 0.35, 0.35, 0.35, 0.35, 0.9, 0.9, 0, 0, 0]
    assert len(ended(detect(windows(rows), PLAIN))) == 1
    policy = replace(PLAIN, release=0.9, refractory_seconds=0.0)
    assert len(ended(detect(windows(rows), policy))) == 2


def test_each_label_has_its_own_threshold_and_its_own_events():
    rows = [[0, 0], [0.4, 0.5], [0.4, 0.5], [0.4, 0.5], [0.4, 0.5], [0, 0], [0, 0], [0, 0]]
    assert {event.label for event in detect(windows(rows))} == {"rain"}
    events = detect(windows(rows), replace(PLAIN, thresholds={"dog": 0.3, "siren": 1.0}))
    dog, rain = sorted(ended(events), key=lambda event: event.label)
    assert (dog.label, rain.label) == ("dog", "rain")
    assert dog.start_seconds < rain.end_seconds
    assert rain.start_seconds < dog.end_seconds


def test_an_event_of_maximum_length_ends_and_another_starts_after_the_refractory_time():
    policy = replace(PLAIN, max_seconds=20.0, refractory_seconds=7.0)
    events = ended(detect(windows(np.full(60, 0.9)), policy))
    assert [event.end_reason for event in events] == ["longest", "longest", "stopped"]
    starts = [event.start_seconds for event in events]
    assert starts == [0.0, 27.0, 54.0]
    assert [event.end_seconds for event in events] == [20.0, 47.0, 64.0]


def test_a_sound_within_the_refractory_time_is_not_reported():
    rows = np.zeros(60)
    rows[5:10] = rows[18:23] = rows[40:45] = 0.9
    assert len(ended(detect(windows(rows), replace(PLAIN, refractory_seconds=5.0)))) == 3
    assert len(ended(detect(windows(rows), replace(PLAIN, refractory_seconds=20.0)))) == 2


def test_a_start_is_reported_after_the_minimum_duration():
    policy = replace(PLAIN, min_seconds=4.0)
    assert detect(windows([0, *[0.9] * 4, *[0] * 5]), policy) == []
    detector = Detector(policy, LABELS, 1.0)
    for item in windows([0, *[0.9] * 20]):
        for event in detector.update(item):
            # The sound is known to last until two fifths into the window.
            assert item.start_seconds + 2.0 - event.start_seconds >= 4.0
            assert item.start_seconds + 1.0 - event.start_seconds < 4.0
            return
    pytest.fail("a long sound was not reported")


def test_gated_windows_count_as_silence():
    loud, quiet = np.full(8, 0.9), window(0, [0.9], gated=True)
    stream = windows([0, *loud, *[0] * 6])
    stream[9:] = [
        replace(quiet, start_seconds=item.start_seconds, end_seconds=item.end_seconds)
        for item in stream[9:]
    ]
    (event,) = ended(detect(stream))
    assert event.end_reason == "quiet"


def test_a_label_below_the_cosine_floor_does_not_count():
    near = windows(np.full(8, 0.9), cosines=[0.7, 0.1, 0.1])
    far = windows(np.full(8, 0.9), cosines=[0.5, 0.1, 0.1])
    policy = replace(PLAIN, cosine_floor=0.6)
    assert {event.label for event in detect(near, policy)} == {"dog"}
    assert detect(far, policy) == []
    assert not is_unknown(near[0], 0.6)
    assert is_unknown(far[0], 0.6)
    assert not is_unknown(far[0], None)
    assert not is_unknown(replace(far[0], gated=True), 0.6)


def test_unknown_is_an_event_only_if_requested():
    far = windows(np.full(8, 0.9), cosines=[0.5, 0.1, 0.1])
    policy = replace(PLAIN, cosine_floor=0.6, report_unknown=True)
    (event,) = ended(detect(far, policy))
    assert (event.label, event.peak_score) == ("unknown", 1.0)
    assert detect([replace(item, gated=True) for item in far], policy) == []


def sound_windows(a, b, seconds, hop_seconds, share, snr_db=None, stream_seconds=None):
    """The windows of a stream with one sound from `a` to `b`.

    The model detects it if it fills `share` of the window, or half of it is inside.
    """
    end, stop = seconds, stream_seconds or b + 3 * seconds
    while end <= stop:
        overlap = max(0.0, min(b, end) - max(a, end - seconds))
        score = 0.95 if overlap >= min(share * seconds, 0.5 * (b - a)) else 0.02
        power = 1.0 + (0.0 if snr_db is None else 10 ** (snr_db / 10) * overlap / seconds)
        yield window(end, [score], level_dbfs=-70 + 10 * math.log10(power), seconds=seconds)
        end += hop_seconds


@pytest.mark.parametrize("duration", [0.4, 1.0, 3.0, 20.0])
@pytest.mark.parametrize(("seconds", "hop_seconds"), [(2.5, 0.5), (2.5, 1), (5, 1), (10, 1)])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_sound_louder_than_its_background_is_located_within_a_hop(
    duration, seconds, hop_seconds, share
):
    for phase in np.linspace(0, hop_seconds, 7):
        a = 2 * seconds + phase
        stream = list(sound_windows(a, a + duration, seconds, hop_seconds, share, snr_db=20))
        (event,) = ended(detect(stream, Policy(), hop_seconds))
        assert event.start_seconds == pytest.approx(a, abs=hop_seconds)
        assert event.end_seconds == pytest.approx(a + duration, abs=hop_seconds)
        assert event.level_dbfs == max(item.level_dbfs for item in stream)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
@pytest.mark.parametrize(("seconds", "hop_seconds"), [(2.5, 1), (5, 1), (10, 1)])
def test_at_a_steady_level_the_share_of_a_window_locates_the_sound(share, seconds, hop_seconds):
    duration = seconds + 2.0
    for phase in np.linspace(0, hop_seconds, 7):
        a = 2 * seconds + phase
        stream = list(sound_windows(a, a + duration, seconds, hop_seconds, share))
        (event,) = ended(detect(stream, Policy()))
        tolerance = hop_seconds / 2 + abs(share - 0.4) * seconds + 1e-6
        assert event.start_seconds == pytest.approx(a, abs=tolerance)
        assert event.end_seconds == pytest.approx(a + duration, abs=tolerance)


def test_an_earlier_step_in_level_is_not_the_onset():
    a, b = 30.0, 40.0
    stream = list(sound_windows(a, b, 5.0, 1.0, 0.4))
    slam = [
        replace(item, level_dbfs=-40.0) if 20.5 <= item.end_seconds < 25.5 else item
        for item in stream
    ]
    assert detect(slam)[-1].start_seconds == detect(stream)[-1].start_seconds


def test_a_sound_throughout_the_stream_starts_and_ends_with_it():
    stream = windows(np.full(20, 0.9))
    (event,) = ended(detect(stream, stop_seconds=24.7))
    assert (event.start_seconds, event.end_seconds) == (0.0, 24.7)
    assert event.end_reason == "stopped"


def test_a_sound_in_the_first_window_starts_with_the_stream():
    (event,) = ended(detect(list(sound_windows(2.4, 3.2, 5.0, 1.0, 0.1, snr_db=20))))
    assert event.start_seconds == 0.0
    assert event.end_seconds == pytest.approx(3.2, abs=1.0)


def test_a_gap_ends_open_events_and_no_event_spans_it():
    before, after = windows(np.full(6, 0.9)), windows(np.full(6, 0.9))
    detector = Detector(replace(PLAIN, refractory_seconds=0.0), LABELS, 1.0)
    for item in before:
        detector.update(item)
    (open_event,) = detector.open
    (event,) = detector.end(10.25, "gap")
    assert (event.id, event.end_seconds, event.end_reason) == (open_event.id, 10.25, "gap")
    later = [
        replace(item, start_seconds=item.start_seconds + 40, end_seconds=item.end_seconds + 40)
        for item in after
    ]
    assert detector.update(later[0]) == []
    (again,) = detector.update(later[1])
    assert again.start_seconds == 40.0


def test_windows_out_of_order_or_of_another_model_are_refused():
    detector = Detector(PLAIN, LABELS, 1.0)
    detector.update(window(9.0, [0.1]))
    with pytest.raises(ValueError, match=r"end after the last one, at 9\.0 s"):
        detector.update(window(8.0, [0.1]))
    detector.end(9.0, "stopped")
    detector.update(window(5.0, [0.1]))
    with pytest.raises(ValueError, match=r"must have the labels dog\. Received: dog, rain"):
        Detector(PLAIN, ("dog",), 1.0).update(window(9.0, [0.1]))


def test_unix_times_follow_the_stream_even_when_the_clock_is_set():
    stream = windows([0, *[0.9] * 10, *[0] * 5])
    detector = Detector(PLAIN, LABELS, 1.0)
    events = []
    for item in stream:
        clock = 1.8e9 if item.end_seconds < 10 else 1.7e9
        events += detector.update(item, now=clock + item.end_seconds)
    start, end = events
    assert start.started_at == 1.8e9 + start.start_seconds
    assert end.ended_at - end.started_at == pytest.approx(end.duration_seconds)
    plain = detect(stream)
    assert [(e.start_seconds, e.end_seconds) for e in events] == [
        (e.start_seconds, e.end_seconds) for e in plain
    ]


def random_stream(rng, num_windows):
    """Scores that wander, jump and rest; some windows are gated."""
    switch = rng.random((num_windows, len(LABELS))) < 0.15
    rows = np.zeros((num_windows, len(LABELS)))
    level = rng.random(len(LABELS))
    for index in range(num_windows):
        level = np.where(switch[index], rng.random(len(LABELS)) ** rng.choice([0.3, 3.0]), level)
        rows[index] = np.clip(level + 0.1 * rng.normal(size=len(LABELS)), 0, 1)
    stream = windows(rows)
    return [
        replace(item, level_dbfs=rng.uniform(-80, -10), gated=bool(rng.random() < 0.05))
        for item in stream
    ]


def random_policy(rng):
    return Policy(
        threshold=rng.uniform(0.05, 0.95),
        thresholds={"dog": rng.uniform(0.05, 0.95)},
        smoothing_windows=int(rng.integers(1, 6)),
        release=rng.uniform(0.3, 1.0),
        min_seconds=rng.choice([0.0, 0.5, 3.0]),
        max_seconds=rng.choice([3.0, 20.0, 300.0]),
        refractory_seconds=rng.choice([0.0, 2.0, 15.0]),
    )


@pytest.mark.parametrize("seed", range(60))
def test_events_of_random_scores_keep_the_policy(seed):
    rng = np.random.default_rng(seed)
    policy, stream = random_policy(rng), random_stream(rng, 150)
    detector = Detector(policy, LABELS, 1.0)
    calls, gaps = [], set(rng.integers(10, 140, 2).tolist())
    for index, item in enumerate(stream):
        if index in gaps:
            calls += [(index, event) for event in detector.end(item.start_seconds + 4, "gap")]
            assert detector.open == ()
        before = {event.id for event in detector.open}
        events = detector.update(item)
        calls += [(index, event) for event in events]
        open_now = before | {e.id for e in events if e.state == "started"}
        assert {event.id for event in detector.open} == open_now - {e.id for e in ended(events)}
    calls += [(len(stream), e) for e in detector.end(stream[-1].end_seconds, "stopped")]

    starts = {event.id: (index, event) for index, event in calls if event.state == "started"}
    ends = {event.id: (index, event) for index, event in calls if event.state == "ended"}
    assert len(starts) + len(ends) == len(calls)
    assert list(starts) == [event.id for _, event in calls if event.state == "started"]
    assert starts.keys() == ends.keys()
    scores = np.array([item.scores * (not item.gated) for item in stream])
    smoothed_scores = smooth(scores, policy.smoothing_windows, gaps)
    previous = {}
    for identity in sorted(ends):
        (began, start), (finished, event) = starts[identity], ends[identity]
        assert (event.label, event.start_seconds) == (start.label, start.start_seconds)
        assert began <= finished
        assert 0 <= event.start_seconds < event.end_seconds
        duration = event.end_seconds - event.start_seconds
        assert policy.min_seconds - 1e-9 <= duration <= policy.max_seconds + 1e-9
        ready = previous.get(event.label, -math.inf) + policy.refractory_seconds
        assert event.start_seconds >= ready - 1e-9
        previous[event.label] = event.end_seconds

        label = LABELS.index(event.label)
        threshold = policy.thresholds.get(event.label, policy.threshold)
        smoothed = smoothed_scores[:, label]
        assert event.peak_score >= threshold
        assert event.peak_score >= event.mean_score >= policy.release * threshold
        assert (smoothed[began:finished] >= policy.release * threshold - 1e-9).all()
        if event.end_reason == "quiet":
            assert smoothed[finished] < policy.release * threshold
    order = sorted(ends)
    assert order == sorted(order, key=lambda key: ends[key][1].start_seconds)


def smooth(scores, num_windows, gaps):
    """The mean of the last windows since the last gap, by definition."""
    result = np.zeros_like(scores, float)
    for index in range(len(scores)):
        since = max((gap for gap in gaps if gap <= index), default=0)
        result[index] = scores[max(since, index - num_windows + 1) : index + 1].sum(axis=0)
    return result / num_windows


def test_thresholds_of_unknown_labels_are_refused():
    with pytest.raises(ValueError, match=r"\(dog, rain, siren\)\. Received: cat"):
        Detector(Policy(thresholds={"cat": 0.5}), LABELS, 1.0)
    with pytest.raises(ValueError, match="'unknown' is one of the model's labels"):
        Detector(Policy(cosine_floor=0.1, report_unknown=True), ("dog", "unknown"), 1.0)
