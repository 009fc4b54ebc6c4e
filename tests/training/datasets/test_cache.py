"""Clips mapped from a file equal those in memory, even after interrupted writes."""

import errno
import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import soundfile

from semanticac_keras import MeanPooling, Tagger, TaggerTower
from training.datasets import DatasetError, cache, load_dataset
from training.datasets.cache import load_clips, load_embeddings
from training.learning.augment import Augmentation
from training.learning.batches import TrainingBatches

RATE_HZ = 8000


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """Two classes of six recordings of different lengths, and an empty cache."""
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / "sounds" / ("hiss", "hum")[index % 2] / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 400 + 100 * index), 11_025)
    return tmp_path / "sounds"


@pytest.fixture
def dataset(sounds):
    return load_dataset("folder", sounds, progress=False)


def cached(dataset, rate_hz=RATE_HZ):
    return load_clips(dataset, rate_hz, memory_limit_bytes=0)


def loaded(dataset, rate_hz=RATE_HZ):
    return dataset.load(range(len(dataset.clips)), rate_hz)


def files(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def assert_same(clips, expected):
    assert len(clips) == len(expected)
    for clip, waveform in zip(clips, expected, strict=True):
        assert type(clip) is np.ndarray
        assert clip.dtype == np.float32
        np.testing.assert_array_equal(clip, waveform)


def refusing(dataset):
    @wraps(dataset.read)
    def refuse(clip, sample_rate_hz):
        raise AssertionError("decoded a second time")

    return replace(dataset, read=refuse)


def test_mapped_clips_equal_decoded_ones_and_are_decoded_once(dataset, tmp_path):
    assert_same(cached(dataset), loaded(dataset))
    assert_same(cached(refusing(dataset)), loaded(dataset))
    assert_same(cached(dataset, 16_000), loaded(dataset, 16_000))
    assert_same(cached(dataset), loaded(dataset))
    assert files(tmp_path / "cache") == ["sounds-16000.float32", "sounds-8000.float32"]


def test_clips_within_the_limit_stay_in_memory(dataset, tmp_path):
    needed_bytes = sum(waveform.nbytes for waveform in loaded(dataset))
    assert_same(load_clips(dataset, RATE_HZ, memory_limit_bytes=needed_bytes + 50), loaded(dataset))
    assert not (tmp_path / "cache").exists()
    load_clips(dataset, RATE_HZ, memory_limit_bytes=needed_bytes - 50)
    assert files(tmp_path / "cache") == ["sounds-8000.float32"]


def test_training_batches_do_not_depend_on_mapping(dataset):
    augmentation = Augmentation(0.5, 1.5, 0.5, gain_db=6.0, mixup=0.3)
    labels = np.array([clip.label for clip in dataset.clips])
    mapped, plain = (
        TrainingBatches(clips, labels, 2, 4, 1000, augmentation, seed=0)
        for clips in (cached(dataset), loaded(dataset))
    )
    for number in range(6):
        for received, expected in zip(mapped.batch(number), plain.batch(number), strict=True):
            np.testing.assert_array_equal(received, expected)


def test_a_changed_recording_is_decoded_again(dataset, sounds):
    before = cached(dataset)
    path = dataset.clips[3].path
    modified_ns = path.stat().st_mtime_ns
    soundfile.write(path, np.zeros(soundfile.info(path).frames), 11_025)
    os.utime(path, ns=(modified_ns + 1, modified_ns + 1))
    changed = load_dataset("folder", sounds, progress=False)
    assert_same(cached(changed), loaded(changed))
    assert not cached(changed)[3].any()
    assert before[3].any(), "views of the replaced file keep their samples"


def test_another_selection_or_order_of_clips_is_decoded_again(dataset):
    cached(dataset)
    for clips in (dataset.clips[2:], dataset.clips[::-1]):
        other = replace(dataset, clips=clips)
        assert_same(cached(other), loaded(other))


def test_another_segment_of_the_same_length_is_decoded_again(dataset):
    before = [replace(clip, segment=(0.0, 0.02), duration_seconds=0.02) for clip in dataset.clips]
    after = [replace(clip, segment=(0.01, 0.03)) for clip in before]
    for clips in (before, after):
        segments = replace(dataset, clips=tuple(clips))
        assert_same(cached(segments), loaded(segments))
    assert not np.array_equal(loaded(segments)[0], loaded(replace(dataset, clips=before))[0])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_writer_leaves_no_usable_file(dataset, tmp_path):
    def read(clip, sample_rate_hz):
        if clip is dataset.clips[9]:
            os.kill(os.getpid(), signal.SIGKILL)
        return dataset.read(clip, sample_rate_hz)

    process = os.fork()  # a fresh process would first import for seconds
    if process == 0:
        try:
            cached(replace(dataset, read=read))
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert not (tmp_path / "cache" / "clips" / "sounds-8000.float32").exists()
    assert_same(cached(dataset), loaded(dataset))


def test_all_damaged_clips_are_counted_and_no_file_is_kept(dataset, tmp_path):
    for clip in dataset.clips[3:6]:
        clip.path.write_bytes(clip.path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"3 of 12 clips cannot be used: .*truncated"):
        cached(dataset)
    assert files(tmp_path / "cache") == []


def test_a_full_disk_is_reported_before_decoding(dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match=r"The disk is full: .*float32 cannot be written"):
        cached(refusing(dataset))
    assert files(tmp_path / "cache") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_fills_while_writing_is_reported(dataset, tmp_path, monkeypatch):
    @contextmanager
    def on_a_full_device(path):
        yield Path("/dev/full")

    monkeypatch.setattr(cache, "replacing", on_a_full_device)
    with pytest.raises(DatasetError, match=f"The disk is full: .*{os.strerror(errno.ENOSPC)}"):
        cached(dataset)
    assert files(tmp_path / "cache") == []


@pytest.fixture
def tower(tiny_tagger):
    return TaggerTower.from_tagger(Tagger(tiny_tagger, 32_000), MeanPooling(4), window_seconds=1.0)


def test_embeddings_are_computed_once(dataset, tower, monkeypatch):
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(size).astype(np.float32) for size in (32_000, 9_000, 70_000)]
    embeddings, owners = load_embeddings(dataset, tower, clips)
    assert owners.tolist() == [0, 1, 2, 2, 2]
    np.testing.assert_array_equal(embeddings[:1], tower.inputs_of(clips[0][None]))
    monkeypatch.setattr(TaggerTower, "inputs_of", None)
    again = load_embeddings(dataset, tower, clips)
    np.testing.assert_array_equal(again.windows, embeddings)
    some = again.of(np.array([2, 0]))
    assert some.owners.tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(some.windows, embeddings[[0, 2, 3, 4]])
    with pytest.raises(TypeError):  # other windows
        load_embeddings(dataset, tower, clips[:2])


def test_embeddings_that_cannot_be_kept_are_an_error(dataset, tower, monkeypatch):
    monkeypatch.setattr(cache, "check_space", full_disk)
    with pytest.raises(DatasetError, match="The disk is full"):
        load_embeddings(dataset, tower, [np.zeros(32_000, np.float32)])


def full_disk(directory, needed_bytes):
    raise OSError(errno.ENOSPC, "No space left on device")
