"""How fast `base` is, by ratios of CPU time with wide margins: docs/performance.md has figures."""

from statistics import median

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from training.bench.encoder import compare_encoders
from training.bench.listening import LOG_MEL, NETWORK, RESAMPLE
from training.bench.stream import measure_loops

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """The folder with the bundles, and the entries."""
    folder = tmp_path_factory.mktemp("race")
    names = ["float32", "int8", "torch"]
    return folder, compare_encoders(names, "base", rounds=3, folder=folder).entries


def ratio(ours, peer):
    pairs = zip(ours.cpu_seconds, peer.cpu_seconds, strict=True)
    return median(cpu / base for cpu, base in pairs)


def test_a_window_takes_less_than_in_pytorch(race):
    _, entries = race
    assert ratio(entries["float32"], entries["torch"]) < 0.85  # 0.6 was measured
    assert ratio(entries["int8"], entries["torch"]) < 0.45  # 0.25
    assert {entries[name].partitions for name in ("float32", "int8")} == {1}
    assert entries["int8"].cosine > 0.998


def test_the_network_is_nearly_all_of_listening(race):
    folder, _ = race
    (loop,), left_out = measure_loops([folder / "base-float32.tflite"], [1.0], 48_000, rounds=2)
    assert not left_out
    spent = {name: median(turn[name] for turn in loop.milliseconds) for name in loop.most_bytes}
    front_end = spent[RESAMPLE] + spent[LOG_MEL]
    assert front_end < 0.06 * spent[NETWORK]  # 0.015 was measured
    others = sum(spent.values()) - spent[NETWORK] - front_end
    assert others < 0.04 * spent[NETWORK]
    assert loop.new_blocks < 500, "ten windows leave nothing behind"
