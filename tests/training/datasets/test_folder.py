"""Custom recordings from class directories and from a CSV file."""

import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from training.datasets import DatasetError, load_dataset


def write_sound(path, num_samples=800):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(num_samples, 0.25, np.float32), 8_000)


def write_table(root, text, files=()):
    for name in files:
        write_sound(root / name)
    table = root / "clips.csv"
    table.write_text(text)
    return table


def load(path):
    return load_dataset("folder", path, progress=False)


@pytest.fixture
def root(tmp_path):
    """Seven barks and six waves, in several formats and depths, with clutter beside them."""
    for number in range(7):
        write_sound(tmp_path / "dog_bark" / f"bark {number}.{'wav' if number % 2 else 'FLAC'}")
    for number in range(6):
        write_sound(tmp_path / "sea_waves" / "summer" / f"{number}.ogg")
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / ".git").mkdir()
    (tmp_path / "dog_bark" / ".DS_Store").write_text("clutter")
    (tmp_path / "dog_bark" / "._bark 1.wav").write_text("clutter")
    return tmp_path


def test_directories_become_labels(root):
    dataset = load(root)
    assert dataset.labels == ("dog bark", "sea waves")
    assert len(dataset.clips) == 13
    assert {clip.name for clip in dataset.clips} >= {
        "dog_bark/bark 1.wav",
        "sea_waves/summer/0.ogg",
    }
    assert dataset.clips[0].duration_seconds == 0.1
    (waveform,) = dataset.load([0], sample_rate_hz=16_000)
    assert len(waveform) == 1_600


def test_folds_are_stratified_and_independent_of_the_location(root, tmp_path_factory):
    dataset = load(root)
    assert dataset.folds == (1, 2, 3, 4, 5)
    counts = Counter((clip.label, clip.fold) for clip in dataset.clips)
    assert all(counts[label, fold] in (1, 2) for label in (0, 1) for fold in dataset.folds)
    totals = Counter(clip.fold for clip in dataset.clips)
    assert max(totals.values()) - min(totals.values()) <= 1
    copy = shutil.copytree(root, tmp_path_factory.mktemp("copy") / "sounds")
    assert [(clip.name, clip.fold) for clip in load(copy).clips] == [
        (clip.name, clip.fold) for clip in dataset.clips
    ]


def test_a_class_with_fewer_clips_than_folds_is_rejected(root):
    write_sound(root / "rare_owl" / "one.wav")
    with pytest.raises(DatasetError, match=r"at least 5 sources .* Too few: rare owl"):
        load(root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dog_bark/voice.m4a", r"have no known audio format \(1\): dog_bark/voice.m4a"),
        ("loose.wav", r"are not in a class directory \(1\): loose.wav"),
        ("empty/.keep", r"are empty \(1\): empty"),
        ("dog_bark/text.wav", r"1 of 14 clips .*dog_bark/text.wav \(unreadable"),
    ],
)
def test_unusable_entries_are_named(root, name, message):
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("no sound")
    with pytest.raises(DatasetError, match=message):
        load(root)


def test_table_with_folds_and_sources(tmp_path):
    files = ["a.wav", "b.wav", "sub/c.wav", "sub/d.wav"]
    table = write_table(
        tmp_path,
        "\ufefffilename,label,fold,source\n"
        "a.wav,dog_bark,1,tape 1\nb.wav,rain,1,tape 1\n"
        "sub/c.wav,dog_bark,2,t\n./sub/d.wav,rain,2,t\n",
        files,
    )
    dataset = load(table)
    assert dataset.labels == ("dog bark", "rain")
    assert [clip.name for clip in dataset.clips] == files
    assert dataset.split(2)[1].tolist() == [2, 3]
    assert dataset.clips[0].source == "tape 1"


def test_sources_stay_together(tmp_path):
    names = [f"{tape}-{take}.wav" for tape in range(10) for take in range(1 + tape % 3)]
    rows = [f"{name},{'owl' if int(name[0]) % 2 else 'fox'},tape {name[0]}" for name in names]
    table = write_table(tmp_path, "\n".join(["filename,label,source", *rows]), names)
    dataset = load(table)  # the constructor rejects a source in two folds
    assert dataset.folds == (1, 2, 3, 4, 5)
    for label in (0, 1):
        assert {clip.fold for clip in dataset.clips if clip.label == label} == {1, 2, 3, 4, 5}


def test_a_source_listed_in_two_folds_is_rejected(tmp_path):
    table = write_table(
        tmp_path, "filename,label,fold,source\na.wav,x,1,t\nb.wav,x,2,t\n", ["a.wav", "b.wav"]
    )
    with pytest.raises(DatasetError, match="one fold each"):
        load(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Received: none"),
        ("filename,class\na.wav,x\n", "must have the columns filename, label .*filename, class"),
        ("filename,label,speaker\na.wav,x,me\n", "Received: filename, label, speaker"),
        ("filename,label\n", "no recordings"),
        ("filename,label\na.wav,x\nb.wav\n", "line 3: expected one value for each"),
        ("filename,label\na.wav,x,y\n", "line 2: expected one value for each"),
        ("filename,label,fold\na.wav,x,one\n", "line 2: .*'one'"),
        ("filename,label,fold\na.wav,x,1\na.wav,x,2\nb.wav,x,2\n", "unique. Repeated: a.wav"),
        ("filename,label,fold\na.wav,x,1\n", r"are not listed in clips.csv \(1\): b.wav"),
        (
            "filename,label,fold\na.wav,x,1\nb.wav,x,2\nc.wav,x,1\nd.wav,x,2\n",
            r"2 of 4 clips .*: c.wav \(missing\), d.wav \(missing\)",
        ),
    ],
)
def test_malformed_tables_are_rejected(tmp_path, text, message):
    table = write_table(tmp_path, text, ["a.wav", "b.wav"])
    with pytest.raises(DatasetError, match=message):
        load(table)


def test_an_existing_location_is_required(tmp_path):
    with pytest.raises(ValueError, match="`data_dir` must be"):
        load(None)
    with pytest.raises(DatasetError, match="does not exist"):
        load(tmp_path / "none")
