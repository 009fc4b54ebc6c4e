"""ESC-10 and ESC-50, with a miniature archive and, if available, the real clips."""

import hashlib
import os
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from training.datasets import DatasetError, esc, load_dataset

CATEGORIES = {10: "rain", 0: "dog", 11: "sea_waves", 37: "clock_alarm"}
REAL_DIR = os.environ.get("SEMANTICAC_ESC50_DIR")
needs_real_clips = pytest.mark.skipif(
    not REAL_DIR, reason="SEMANTICAC_ESC50_DIR must name the folder of the real ESC-50"
)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Two folds of four classes in the official layout, one of them outside ESC-10."""
    root = tmp_path / "ESC-50-master"
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2):
        for target, category in CATEGORIES.items():
            name = f"{fold}-{fold}00{target}-A-{target}.wav"
            rows.append(f"{name},{fold},{target},{category},{target != 37},{fold}00{target},A")
            soundfile.write(root / "audio" / name, np.zeros(220_500, np.int16), 44_100)
    table = "\n".join([*rows, ""]).encode()
    (root / "meta" / "esc50.csv").write_bytes(table)
    monkeypatch.setattr(esc, "METADATA_SHA256", hashlib.sha256(table).hexdigest())
    return root


@pytest.fixture
def served(archive, tmp_path, monkeypatch):
    """Path of the miniature archive as a zip on a local server, with an empty cache."""
    path = tmp_path / "www" / "esc50.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in archive.rglob("*"):
            file.write(member, Path(f"ESC-50-{esc.COMMIT}") / member.relative_to(archive))

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Handler, directory=path.parent)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SEMANTICAC_ESC50_URL", f"http://127.0.0.1:{server.server_port}/esc50.zip")
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    yield path
    server.shutdown()
    thread.join()
    server.server_close()


def test_labels_follow_the_official_order(archive):
    esc50 = load_dataset("esc50", archive, progress=False)
    assert esc50.labels == ("dog", "rain", "sea waves", "clock alarm")
    esc10 = load_dataset("esc10", archive, progress=False)
    assert esc10.labels == ("dog", "rain", "sea waves")
    assert len(esc10.clips) == 6
    clip = esc10.clips[0]
    assert (clip.name, clip.fold, clip.source) == ("1-10010-A-10.wav", 1, "10010")
    assert esc10.labels[clip.label] == "rain"
    assert [len(waveform) for waveform in esc10.load([0, 1])] == [160_000, 160_000]


@pytest.mark.parametrize("name", ["ESC-50", "ESC-50-master", f"ESC-50-{esc.COMMIT}"])
def test_the_parent_folder_is_accepted(archive, name):
    if name != archive.name:
        archive.rename(archive.with_name(name))
    assert len(load_dataset("esc50", archive.parent, progress=False).clips) == 8


def test_line_ends_converted_by_git_are_accepted(archive):
    table = archive / "meta" / "esc50.csv"
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    assert len(load_dataset("esc50", archive, progress=False).clips) == 8


def test_a_modified_table_is_rejected(archive):
    table = archive / "meta" / "esc50.csv"
    table.write_bytes(table.read_bytes().replace(b"-A-0.wav,1,", b"-A-0.wav,2,"))
    with pytest.raises(DatasetError, match="must be the official table"):
        load_dataset("esc10", archive, progress=False)


def test_missing_clips_are_counted_before_reading(archive):
    for path in (archive / "audio").glob("2-*"):
        path.unlink()
    with pytest.raises(
        DatasetError, match=r"4 of 8 clips of esc50 .* 2-20010-A-10.wav, .*complete archive there"
    ):
        load_dataset("esc50", archive, progress=False)


def test_damaged_clips_are_counted_before_reading(archive):
    first, second, *_ = sorted((archive / "audio").iterdir())
    first.write_bytes(first.read_bytes()[:-1000])
    soundfile.write(second, np.zeros(150_000, np.int16), 32_000)
    with pytest.raises(
        DatasetError, match=r"2 of 8 .*\(must be 44,100 Hz.* received 32,000 Hz.*\(truncated: "
    ):
        load_dataset("esc50", archive, progress=False)


def test_complete_copies_at_another_rate_are_accepted_and_recorded(archive):
    assert load_dataset("esc50", archive, progress=False).copies_at_hz is None
    for path in (archive / "audio").iterdir():
        soundfile.write(path, np.zeros(80_001, np.int16), 16_000)
    for name in ("esc10", "esc50"):
        dataset = load_dataset(name, archive, progress=False)
        assert dataset.copies_at_hz == 16_000
        assert {clip.sample_rate_hz for clip in dataset.clips} == {16_000}
        assert len(dataset.load([0])[0]) == 160_002


def test_mixed_sample_rates_are_rejected(archive):
    soundfile.write(archive / "audio" / "1-1000-A-0.wav", np.zeros(80_000, np.int16), 16_000)
    with pytest.raises(
        DatasetError,
        match=r"one sample rate.*44,100 Hz \(7, .*wav\), 16,000 Hz \(1, 1-1000-A-0.wav\)",
    ):
        load_dataset("esc50", archive, progress=False)


def test_a_folder_without_the_archive_is_rejected(tmp_path):
    with pytest.raises(DatasetError, match=r"meta/esc50.csv is missing"):
        load_dataset("esc10", tmp_path)


def test_download_warns_once_and_is_cached(served, capsys):
    assert len(load_dataset("esc10", progress=False).clips) == 6
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert hashlib.sha256(served.read_bytes()).hexdigest() in warning
    served.unlink()
    assert len(load_dataset("esc50", progress=False).clips) == 8
    assert capsys.readouterr().err == ""


def test_a_changed_archive_is_rejected_after_trust(served, tmp_path):
    load_dataset("esc10", progress=False)
    shutil.rmtree(next((tmp_path / "cache").glob("esc50-*")))
    with zipfile.ZipFile(served, "a") as file:
        file.writestr("new.txt", "new")
    with pytest.raises(DatasetError, match=r"must have the SHA-256.*Delete .*\.sha256 to trust"):
        load_dataset("esc10", progress=False)


def test_a_corrupt_archive_is_discarded(served, tmp_path):
    content = served.read_bytes()
    served.write_bytes(content[:-100])
    with pytest.raises(DatasetError, match=r"not an intact zip file.* discarded"):
        load_dataset("esc10", progress=False)
    served.write_bytes(content)
    assert len(load_dataset("esc10", progress=False).clips) == 6


def test_a_missing_archive_is_reported(served):
    served.unlink()
    with pytest.raises(DatasetError, match="HTTP 404"):
        load_dataset("esc10", progress=False)


@needs_real_clips
def test_real_esc10_is_complete_and_balanced():
    dataset = load_dataset("esc10", REAL_DIR, progress=False)
    assert dataset.folds == (1, 2, 3, 4, 5)
    counts = np.zeros((10, 5), int)
    for clip in dataset.clips:
        counts[clip.label, clip.fold - 1] += 1
    assert (counts == 8).all()
    assert dataset.labels[3] == "sea waves"
    assert not dataset.straddling_sources


@needs_real_clips
@pytest.mark.filterwarnings("ignore:.*deprecated and slated:DeprecationWarning")
def test_real_clips_equal_librosa():
    dataset = load_dataset("esc10", REAL_DIR, progress=False)
    indices = [0, 199, 399]
    for index, waveform in zip(indices, dataset.load(indices, 32_000), strict=True):
        reference, _ = librosa.load(dataset.clips[index].path, sr=32_000, res_type="soxr_hq")
        np.testing.assert_array_equal(waveform, reference)
