"""Consistency checks of a dataset, its splits, and parallel reading of clips."""

import json
from dataclasses import replace

import numpy as np
import pytest

from training.datasets import DATASETS, AudioDataset, Clip, DatasetError, load_dataset
from training.datasets.base import describe_changes, name_some


def make_clip(name, label=0, fold=1, source=None):
    return Clip(name, label, fold, source or name, path=None, duration_seconds=1.0)


def make_dataset(clips, labels=("dog", "sea waves"), read=None, **arguments):
    return AudioDataset("toy", labels, tuple(clips), "CC0", "", read, **arguments)


CLIPS = [make_clip("a", 0, 1), make_clip("b", 1, 2), make_clip("c", 0, 3), make_clip("d", 1, 1)]


def test_split_partitions_the_clips():
    dataset = make_dataset(CLIPS)
    assert dataset.folds == (1, 2, 3)
    train, test = dataset.split(1)
    assert train.dtype == test.dtype == np.int64
    assert train.tolist() == [1, 2]
    assert test.tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"one of \(1, 2, 3\). Received: 4"):
        dataset.split(4)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "no clips"),
        ([*CLIPS, make_clip("b")], "Repeated: b"),
        ([make_clip("a", 0, 1), make_clip("c", 0, 3)], "without a clip: sea waves"),
        ([*CLIPS, make_clip("e", label=2)], r"from 0 to 1. Received: \[2\]"),
        ([make_clip("a", 0, 1), make_clip("b", 1, 1)], "at least two folds"),
        ([*CLIPS, make_clip("e", fold=0)], "numbered from 1"),
        ([*CLIPS, make_clip("e", label=(0, 2))], r"from 0 to 1. Received: \[2\]"),
        ([make_clip("a", (), 1), make_clip("c", (0,), 3)], "without a clip: sea waves"),
    ],
)
def test_inconsistent_clips_are_rejected(clips, message):
    with pytest.raises(DatasetError, match=message):
        make_dataset(clips)


def test_repeated_and_empty_labels_are_rejected():
    for labels in (("dog", "dog"), ("dog", "")):
        with pytest.raises(DatasetError, match="unique texts"):
            make_dataset(CLIPS, labels=labels)


def test_a_source_in_two_folds_is_rejected_unless_declared():
    clips = [*CLIPS, make_clip("e", 0, 1, "tape"), make_clip("f", 1, 2, "tape")]
    with pytest.raises(DatasetError, match=r"one fold each.* In several \(1\): tape"):
        make_dataset(clips)
    assert make_dataset(clips, straddling_sources=frozenset({"tape"})).folds == (1, 2, 3)


def test_one_label_is_rejected():
    clips = [make_clip("a", 0, 1), make_clip("b", 0, 2)]
    with pytest.raises(DatasetError, match=r"^toy needs at least two labels.*Received: dog\."):
        make_dataset(clips, labels=("dog",))


def test_clips_may_have_several_labels_or_none():
    one, both, none = make_clip("a", 1), make_clip("e", (0, 1), 2), make_clip("f", (), 2)
    dataset = make_dataset([one, both, none])
    assert not dataset.exclusive
    assert dataset.truth([1, 2, 0]).tolist() == [[1, 1], [0, 0], [0, 1]]
    assert dataset.listing()["e"] == ["dog;sea waves", 2, 1.0]
    assert dataset.listing()["f"] == ["", 2, 1.0]
    plain = make_dataset(CLIPS)
    assert plain.exclusive
    assert plain.truth([3, 0]).tolist() == [1, 0]


def test_one_label_suffices_beside_clips_without_it():
    clips = [make_clip("a", (0,), 1), make_clip("b", (), 2)]
    assert make_dataset(clips, labels=("dog",)).truth([0, 1]).tolist() == [[1], [0]]


def test_the_digest_depends_on_names_labels_folds_and_sizes(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"123")
    clips = [replace(CLIPS[0], path=path), *CLIPS[1:]]
    dataset = make_dataset(clips)
    assert dataset.listing()["a"] == ["dog", 1, 3]
    assert dataset.listing()["b"] == ["sea waves", 2, 1.0]
    assert make_dataset(clips[::-1]).digest == dataset.digest
    others = [
        make_dataset(clips[:-1]),
        make_dataset(clips, labels=("dogs", "sea waves")),
        *(
            make_dataset([*clips[:-1], replace(clips[-1], **change)])
            for change in ({"name": "e"}, {"label": 0}, {"fold": 2}, {"duration_seconds": 1.5})
        ),
    ]
    digests = {dataset.digest, *(other.digest for other in others)}
    path.write_bytes(b"1234")
    digests.add(dataset.digest)
    assert len(digests) == 8
    assert {len(digest) for digest in digests} == {64}
    path.unlink()
    with pytest.raises(DatasetError, match=r"toy cannot be read: .*a.wav"):
        dataset.listing()


def test_changes_are_described_in_one_line():
    before = make_dataset(CLIPS).listing()
    now = {
        **{name: ["dog", 1, 1.0] for name in "efghij"},
        "b": ["sea waves", 3, 1.0],
        "c": ["sea waves", 3, 2.0],
        "d": before["d"],
    }
    assert describe_changes(json.loads(json.dumps(before)), now) == (
        "6 clips were added (e, f, g, h, i and 1 more), 1 clip was removed (a), "
        "2 clips have another label/fold/size (b, c)"
    )
    assert describe_changes(before, json.loads(json.dumps(before))) == ""


def test_load_keeps_the_requested_order():
    def read(clip, sample_rate_hz):
        return np.full(sample_rate_hz, ord(clip.name), np.float32)

    waveforms = make_dataset(CLIPS, read=read).load([2, 0, 3], sample_rate_hz=8)
    assert [chr(int(waveform[0])) for waveform in waveforms] == ["c", "a", "d"]
    with pytest.raises(ValueError, match="Received: 0"):
        make_dataset(CLIPS, read=read).load([0], sample_rate_hz=0)


def test_load_counts_every_failure_and_names_the_first():
    def read(clip, sample_rate_hz):
        if int(clip.name) % 2:
            raise DatasetError("empty")
        return np.zeros(8, np.float32)

    clips = [make_clip(str(number), number % 2, 1 + number % 3) for number in range(20)]
    with pytest.raises(DatasetError) as caught:
        make_dataset(clips, read=read).load(range(20))
    assert str(caught.value) == (
        "10 of 20 clips cannot be used: "
        "1 (empty), 3 (empty), 5 (empty), 7 (empty), 9 (empty) and 5 more."
    )


def test_progress_is_shown_on_stderr_only(capsys):
    def read(clip, sample_rate_hz):
        return np.zeros(8, np.float32)

    make_dataset(CLIPS, read=read).load([0, 1], progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Reading toy" in shown.err
    make_dataset(CLIPS, read=read).load([0, 1])
    assert capsys.readouterr().err == ""


def test_name_some():
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(list("abcdef")) == "a, b, c, d, e and 1 more"


def test_an_unknown_dataset_lists_the_available_ones():
    assert list(DATASETS) == ["demo", "esc10", "esc50", "folder", "us8k"]
    with pytest.raises(ValueError, match=r"one of demo, .*, folder, us8k. Received: 'us9k'"):
        load_dataset("us9k")
