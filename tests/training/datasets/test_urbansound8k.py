"""UrbanSound8K, with a miniature archive in many encodings and, if available, the real one."""

import hashlib
import os
import shutil
import tarfile
import threading
from collections import Counter, defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, product

import numpy as np
import pytest
import soundfile

from semanticac_keras.audio_tower import window_batch
from training.datasets import DatasetError, load_dataset, urbansound8k
from training.learning.augment import Augmentation, augment

CLASSES = {8: "siren", 3: "dog_bark", 5: "engine_idling"}
ENCODINGS = [
    ("PCM_U8", 8_000, 1),
    ("PCM_16", 44_100, 2),
    ("PCM_16", 11_025, 1),
    ("PCM_24", 48_000, 2),
    ("PCM_32", 44_100, 1),
    ("PCM_24", 96_000, 2),
    ("FLOAT", 44_100, 2),
    ("IMA_ADPCM", 22_050, 1),
    ("MS_ADPCM", 44_100, 2),
]
COARSE = {"PCM_U8", "IMA_ADPCM", "MS_ADPCM"}  # 4 and 8 bits a sample
TONE_HZ = 500
REAL_DIR = os.environ.get("SEMANTICAC_US8K_DIR")


def tone(num_samples, rate_hz):
    return 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(num_samples) / rate_hz)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Three folds of three classes in the official layout; one recording is in folds 1 and 8."""
    root = tmp_path / "UrbanSound8K"
    (root / "metadata").mkdir(parents=True)
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    clips = zip(product((1, 8, 10), CLASSES.items()), ENCODINGS, cycle((0.05, 1.0, 4.0)))
    for (fold, (class_id, name)), (subtype, rate_hz, channels), seconds in clips:
        source = 106905 if (fold, class_id) in ((1, 8), (8, 5)) else 1000 * fold + class_id
        file = f"{source}-{class_id}-0-0.wav"
        rows.append(f"{file},{source},0.0,{seconds},1,{fold},{class_id},{name}")
        sound = tone(round(seconds * rate_hz), rate_hz)
        # Their average is the tone.
        sides = [sound] if channels == 1 else [1.5 * sound, 0.5 * sound]
        (root / "audio" / f"fold{fold}").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "audio" / f"fold{fold}" / file, np.stack(sides, 1), rate_hz, subtype)
    table = "\n".join([*rows, ""]).encode()
    (root / "metadata" / "UrbanSound8K.csv").write_bytes(table)
    monkeypatch.setattr(urbansound8k, "METADATA_SHA256", hashlib.sha256(table).hexdigest())
    return root


@pytest.fixture
def served(archive, tmp_path, monkeypatch):
    """Path of the miniature archive as a tar file on a local server, with an empty cache."""
    path = tmp_path / "www" / "us8k.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as file:
        file.add(archive, archive.name)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=path.parent))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SEMANTICAC_US8K_URL", f"http://127.0.0.1:{server.server_port}/us8k.tar.gz")
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urbansound8k, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(urbansound8k, "DISK_BYTES", 10**7)
    yield path
    server.shutdown()
    thread.join()
    server.server_close()


def test_labels_follow_the_class_ids(archive):
    dataset = load_dataset("us8k", archive, progress=False)
    assert dataset.labels == ("dog bark", "engine idling", "siren")
    assert dataset.folds == (1, 8, 10)
    assert len(dataset.clips) == 9
    clip = dataset.clips[0]
    assert (clip.name, clip.fold, clip.source) == ("106905-8-0-0.wav", 1, "106905")
    assert dataset.labels[clip.label] == "siren"
    assert clip.duration_seconds == 0.05


def test_copies_at_one_rate_are_recorded(archive):
    dataset = load_dataset("us8k", archive, progress=False)
    assert dataset.copies_at_hz is None
    assert {clip.sample_rate_hz for clip in dataset.clips} == {rate for _, rate, _ in ENCODINGS}
    for clip in dataset.clips:
        soundfile.write(clip.path, np.zeros(2_000, np.int16), 22_050)
    assert load_dataset("us8k", archive, progress=False).copies_at_hz == 22_050


@pytest.mark.parametrize("index", range(len(ENCODINGS)))
def test_every_encoding_reproduces_the_written_sound(archive, index):
    dataset = load_dataset("us8k", archive, progress=False)
    (waveform,) = dataset.load([index])
    assert waveform.dtype == np.float32
    sound = slice(320, round((0.05, 1.0, 4.0)[index % 3] * 32_000) - 320)  # resampling blurs edges
    error = waveform[sound] - tone(len(waveform), 32_000)[sound]
    # The RMS of the tone is 0.35; an 8-bit step is 0.008.
    assert np.sqrt(np.mean(error**2)) < (0.01 if ENCODINGS[index][0] in COARSE else 1e-4)


def test_the_shortest_clip_fills_a_window(archive):
    (waveform,) = load_dataset("us8k", archive, progress=False).load([0])
    assert len(waveform) == 1600
    windows, owners = window_batch([waveform], 320_000)
    assert owners.tolist() == [0]
    np.testing.assert_array_equal(windows.reshape(200, 1600), np.tile(waveform, (200, 1)))
    everything = Augmentation(1.0, 1.5, 1.0, noise_snr_db=(60.0, 60.0), gain_db=6.0)
    for seed in range(10):
        view = augment(waveform, 320_000, everything, np.random.default_rng(seed))
        assert view.shape == (320_000,)
        # Slowed down, the clip fills the window; 1.5 times faster, two thirds of it.
        assert np.mean(np.abs(view) > 0.05) > 0.5


@pytest.mark.parametrize("name", ["UrbanSound8K", "renamed"])
def test_the_archive_or_its_parent_is_accepted(archive, name):
    folder = archive.parent if name == archive.name else archive.rename(archive.with_name(name))
    assert len(load_dataset("us8k", folder, progress=False).clips) == 9


def test_line_ends_converted_by_git_are_accepted(archive):
    table = archive / "metadata" / "UrbanSound8K.csv"
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    assert len(load_dataset("us8k", archive, progress=False).clips) == 9


def test_a_modified_table_is_rejected(archive):
    table = archive / "metadata" / "UrbanSound8K.csv"
    table.write_bytes(table.read_bytes().replace(b",0.0,", b",0,"))  # as a spreadsheet saves it
    with pytest.raises(DatasetError, match="must be the official table"):
        load_dataset("us8k", archive, progress=False)


def test_a_recording_in_two_folds_must_be_declared(archive, monkeypatch):
    monkeypatch.setattr(urbansound8k, "STRADDLING_SOURCES", frozenset())
    with pytest.raises(DatasetError, match=r"one fold each.* In several \(1\): 106905"):
        load_dataset("us8k", archive, progress=False)


def test_missing_and_damaged_clips_are_counted_before_reading(archive):
    for path in (archive / "audio" / "fold8").iterdir():
        path.unlink()
    path = next((archive / "audio" / "fold10").iterdir())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(
        DatasetError, match=r"4 of 9 clips .*\(missing\).*\(truncated.*complete archive there: http"
    ):
        load_dataset("us8k", archive, progress=False)


def test_a_folder_without_the_archive_is_rejected(tmp_path):
    with pytest.raises(DatasetError, match=r"metadata/UrbanSound8K.csv is missing"):
        load_dataset("us8k", tmp_path)


def test_the_download_is_verified_and_kept_unpacked(served, tmp_path):
    assert len(load_dataset("us8k", progress=False).clips) == 9
    served.unlink()
    assert len(load_dataset("us8k", progress=False).clips) == 9
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["urbansound8k"]


def test_a_modified_archive_is_rejected(served, tmp_path):
    served.write_bytes(served.read_bytes() + b"more")
    with pytest.raises(DatasetError, match=r"must have the MD5 .* discarded"):
        load_dataset("us8k", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


def test_too_little_disk_space_is_reported_before_the_download(served, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**7 - 1))
    with pytest.raises(DatasetError, match=r"The disk is full: .*10 MB are needed"):
        load_dataset("us8k", progress=False)
    # Bytes of an interrupted download count towards the space.
    (tmp_path / "cache" / "UrbanSound8K.tar.gz.part").write_bytes(b"x")
    assert len(load_dataset("us8k", progress=False).clips) == 9


def test_a_missing_archive_is_reported(served):
    served.unlink()
    with pytest.raises(DatasetError, match="HTTP 404"):
        load_dataset("us8k", progress=False)


@pytest.mark.skipif(
    not REAL_DIR, reason="SEMANTICAC_US8K_DIR must name the folder of the real UrbanSound8K"
)
def test_real_us8k_is_complete():
    dataset = load_dataset("us8k", REAL_DIR, progress=False)
    assert dataset.folds == tuple(range(1, 11))
    folds = Counter(clip.fold for clip in dataset.clips)
    assert [folds[fold] for fold in dataset.folds] == [
        *(873, 888, 925, 990, 936, 823, 838, 806, 816, 837)
    ]
    assert dataset.labels[3:6] == ("dog bark", "drilling", "engine idling")
    folds_of = defaultdict(set)
    for clip in dataset.clips:
        folds_of[clip.source].add(clip.fold)
    assert dataset.straddling_sources == {name for name in folds_of if len(folds_of[name]) > 1}
    assert max(clip.duration_seconds for clip in dataset.clips) < 4.5
